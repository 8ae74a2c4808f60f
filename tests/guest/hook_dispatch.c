/* syscall_user_dispatch, on_user_dispatch: a call from outside the allowed range becomes one SIGSYS, is not made, and nobody
 * else sees it: neither filters nor trace points nor audit.
 */
#include "hooks.h"
#include <sys/prctl.h>
#include <sys/ucontext.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

static volatile char selector;
static volatile int signals;
static siginfo_t last;
static uint64_t result_before;

static void on_sigsys(int signal, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    selector = 0;
    signals += signal == SIGSYS;
    last = *info;
    result_before = frame->uc_mcontext.gregs[REG_RAX];
    frame->uc_mcontext.gregs[REG_RAX] = 4711;
}

extern const char call_instruction_end[];
__attribute__((noinline)) static long raw_call(long number, long argument)
{
    long result;
    asm volatile("syscall\ncall_instruction_end:" : "=a"(result) : "a"(number), "D"(argument) : "rcx", "r11", "memory");
    return result;
}

static int dies_of_a_bad_selector(void)
{
    selector = 2;
    return raw_call(SYS_getppid, 0) != 0;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
    sigaction(SIGSYS, &action, NULL);
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector)) {
        skip("user dispatch", "the kernel has none");
        return done();
    }
    int traced = access("/dev/trace", F_OK) == 0, tid = gettid();
    check(raw_call(SYS_getppid, 0) == getppid(), "the selector allows", "a call fails");

    if (traced) {
        control("/dev/audit", "clear");
        control("/dev/audit", "on %d", tid);
        control("/dev/trace", "on %d", tid);
    }
    selector = 1;
    long result = raw_call(SYS_getpriority, 0x77);
    if (traced) {
        control("/dev/trace", "off %d", tid);
        control("/dev/audit", "off %d", tid);
    }
    check(result == 4711 && signals == 1, "a blocked call is one signal", "result %ld, %d signals", result, signals);
    check(result_before == SYS_getpriority, "RAX is as it was before the call", "%#lx", result_before);
    check(last.si_signo == SIGSYS && last.si_code == 2 && last.si_syscall == SYS_getpriority &&
              last.si_call_addr == call_instruction_end && last.si_arch == 0xc000003e && last.si_errno == 0,
          "siginfo", "code %d, call %d at %p, architecture %#x, errno %d", last.si_code, last.si_syscall, last.si_call_addr,
          last.si_arch, last.si_errno);
    if (traced) {
        char number[32], thread[16], events[32];
        snprintf(number, sizeof number, "syscall=%d ", SYS_getpriority);
        snprintf(thread, sizeof thread, " %d ", tid);
        snprintf(events, sizeof events, " sys_enter %d ", SYS_getpriority);
        const char *text = device_text("/dev/audit");
        check(count_lines(text, number, "", "") == 0, "audit does not see it", "%d records", count_lines(text, number, "", ""));
        text = device_text("/dev/trace");
        int seen = count_lines(text, thread, events, "");
        snprintf(events, sizeof events, " sys_exit %d ", SYS_getpriority);
        seen += count_lines(text, thread, events, "");
        check(seen == 0, "trace points do not see it", "%d events", seen);
    } else {
        skip("who else sees it", "no /dev/audit and /dev/trace, which only the reference kernel has");
    }

    signals = 0;
    selector = 1;
    result = raw_call(0x7ffffffe, 0);
    check(result == 4711 && signals == 1 && last.si_syscall == 0x7ffffffe, "a number that is none", "%ld, %d signals", result,
          signals);
    int status = in_child(dies_of_a_bad_selector);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 1, "a child does not inherit it", "status %#x", status);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector);
        _exit(dies_of_a_bad_selector());
    }
    waitpid(child, &status, 0);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "a selector that is neither kills", "status %#x", status);
    check(prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0) == 0 && (selector = 1, raw_call(SYS_getppid, 0)) == getppid(),
          "off", "it is not");
    check_violations("UserDispatch");
    return done();
}
