/* klp_update_patch_state: in a live patch each task goes over by itself, on its way to user mode, and not before. The patched
 * code is uname's.
 */
#include "hooks.h"
#include <sched.h>
#include <sys/utsname.h>

static int is_patched(void)
{
    struct utsname name;
    return uname(&name) == 0 && strstr(name.version, "patched") != NULL;
}

static int wait_for_all(void)
{
    return wait_until(control("/dev/hooks", "patch-hurry") && hooks_status("patch_remaining") == 0);
}

int main(void)
{
    if (!has_hooks("live patch"))
        return done();
    int asks[2], answers[2];
    if (pipe(asks) || pipe(answers))
        return 1;
    pid_t child = fork();
    if (child == 0) {
        char question;
        close(asks[1]);
        while (read(asks[0], &question, 1) == 1) {
            char answer = is_patched() ? 'y' : 'n';
            if (write(answers[1], &answer, 1) != 1)
                break;
        }
        _exit(0);
    }
    char answer = 0;
    check(wait_until(is_asleep(child, child)), "the child sleeps in read", "it does not");
    check(!is_patched(), "before", "the old uname answers as the new one");
    check(control("/dev/hooks", "patch"), "the transition begins", "it is refused");
    check(is_patched(), "a task that comes by has gone over", "it has not");
    check(hooks_status("patch_remaining") > 0, "a task that sleeps has not", "the transition is complete");
    check(!control("/dev/hooks", "unpatch"), "no other transition begins meanwhile", "one does");
    if (write(asks[1], "?", 1) != 1 || read(answers[0], &answer, 1) != 1)
        return 1;
    check(answer == 'y', "it goes over when it wakes up", "'%c'", answer);
    check(wait_for_all(), "all that sleep can be made to go over", "%ld are left", hooks_status("patch_remaining"));
    check(control("/dev/hooks", "unpatch") && wait_for_all() && !is_patched(), "and back", "%ld are left",
          hooks_status("patch_remaining"));
    close(asks[1]);
    waitpid(child, NULL, 0);
    check_violations("Patch");
    return done();
}
