/* Exec by a process whose other threads have ended under a tracer's eyes: it waits until the tracer has seen their ends.
 * Meanwhile the process can be looked at, killed, and lose its tracer; and nobody comes to wait for himself.
 */
#include "gate.h"
#include "tracer.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>

enum { PATIENCE = 20000, MOMENT = 200 }; /* milliseconds */

/* The end of a pipe that the next program does not have: it reads as ended once exec is through. */
static int through;
static int to_parent;

static void *traced_thread(void *unused)
{
    pid_t tid = syscall(SYS_gettid);
    if (trace(PTRACE_TRACEME, 0, 0, 0) || write(to_parent, &tid, sizeof tid) != sizeof tid)
        _exit(97);
    return unused;
}

/* A child that is in exec, and waits there for its parent to see its second thread end. Gives that thread. */
static pid_t start_exec(pid_t *thread)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return -1;
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        to_parent = ends[1];
        pthread_t second;
        pthread_create(&second, NULL, traced_thread, NULL);
        pthread_join(second, NULL);
        char *arguments[] = { "ptrace_exec", "next", NULL };
        execv("/proc/self/exe", arguments);
        _exit(98);
    }
    close(ends[1]);
    through = ends[0];
    if (read(through, thread, sizeof *thread) != sizeof *thread)
        *thread = -1;
    return child;
}

/* Whether exec is through within so many milliseconds. */
static int is_through(int milliseconds)
{
    struct pollfd end = { .fd = through, .events = POLLIN };
    return poll(&end, 1, milliseconds) == 1;
}

static void waits(void)
{
    pid_t thread, child = start_exec(&thread);
    check(!is_through(MOMENT), "exec waits for the tracer", "it did not");
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", child);
    int memory = open(path, O_RDONLY);
    check(memory >= 0, "its memory can be seen meanwhile", "%s", strerror(errno));
    close(memory);
    if (gate_status("violations") < 0)
        skip("attach says that it would wait for itself", "this system waits");
    else {
        long result = trace(PTRACE_ATTACH, child, 0, 0);
        check(result == -EAGAIN, "attach says that it would wait for itself", "%ld", result);
    }
    int status = next_status(thread);
    check(status == EXIT(0), "the tracer sees the thread's end", "%#x", status);
    check(is_through(PATIENCE), "then exec goes on", "it did not");
    status = next_status(child);
    check(status == EXIT(55), "and the next program runs", "%#x", status);
    close(through);
}

static void is_killed(void)
{
    pid_t thread, child = start_exec(&thread);
    kill(child, SIGKILL);
    next_status(thread);
    int status = next_status(child);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "SIGKILL ends the wait", "%#x", status);
    close(through);
}

static void tracer_ends(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int ends[2];
    if (pipe(ends))
        return;
    pid_t tracer = fork();
    if (tracer == 0) {
        pid_t thread, child = start_exec(&thread);
        _exit(write(ends[1], &child, sizeof child) != sizeof child || is_through(MOMENT));
    }
    pid_t child = -1;
    ssize_t got = read(ends[0], &child, sizeof child);
    int status = next_status(tracer);
    check(got == sizeof child && status == EXIT(0), "exec waits for another tracer", "%#x", status);
    status = next_status(child);
    check(status == EXIT(55), "until that has ended", "%#x", status);
    close(ends[0]);
    close(ends[1]);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "next"))
        return 55;
    waits();
    is_killed();
    tracer_ends();
    return done();
}
