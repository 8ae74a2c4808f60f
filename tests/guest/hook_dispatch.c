/* syscall_user_dispatch, on_user_dispatch: a call from outside the allowed range becomes one SIGSYS, is not made, and nobody
 * else sees it: neither filters nor trace points nor audit. With the range inverted (Linux 6.17) it is a call from inside. A
 * tracer reads and sets it.
 */
#include "hooks.h"
#include "tracer.h"
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

static int dispatch(int mode, const volatile void *start, unsigned long length, volatile char *by)
{
    return prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, start, length, by);
}

enum { OFF, EXCLUSIVE, INCLUSIVE };

/* From the range that is dispatched calls are signals unless the selector allows them, from elsewhere they are made. */
static void inclusive(void)
{
    static const char anywhere[1];
    struct { uint64_t start, length; } wrong[] = { { 0, 0 }, { 0x1000, 0 }, { 0x1000, -1ul }, { -1ul, 1 } };
    int refused = 0;
    for (int i = 0; i < 4; i++)
        refused += dispatch(INCLUSIVE, (void *)wrong[i].start, wrong[i].length, &selector) < 0 && errno == EINVAL;
    check(refused == 4, "an inverted range that is empty or wraps around", "%d of 4 refused", refused);
    check(dispatch(INCLUSIVE, anywhere, 1, (char *)-1ul) < 0 && errno == EFAULT, "a selector that is not the user's", "errno %d",
          errno);
    check(dispatch(3, anywhere, 1, &selector) < 0 && errno == EINVAL, "an unknown mode", "errno %d", errno);

    /* The address that counts is the one behind the instruction. */
    signals = 0;
    selector = 1;
    int set = dispatch(INCLUSIVE, call_instruction_end, 1, &selector);
    int made = getppid() == syscall(SYS_getppid), before = signals;
    long result = raw_call(SYS_getppid, 0);
    check(!set && made && !before && result == 4711 && signals == 1, "a call from inside an inverted range is a signal",
          "set: %d, from outside %d with %d signals, then %ld, %d signals", set, made, before, result, signals);
    check(raw_call(SYS_getppid, 0) == getppid() && signals == 1, "the selector allows it", "%d signals", signals);

    selector = 1;
    long below, above;
    set = dispatch(INCLUSIVE, (void *)((uintptr_t)call_instruction_end - 1), 1, &selector);
    below = raw_call(SYS_getppid, 0);
    set |= dispatch(INCLUSIVE, call_instruction_end + 1, 1, &selector);
    above = raw_call(SYS_getppid, 0);
    check(!set && below == getppid() && above == getppid() && signals == 1, "and not one next to it", "set: %d, %ld, %ld, %d signals",
          set, below, above, signals);
    check(dispatch(OFF, 0, 0, 0) == 0 && raw_call(SYS_getppid, 0) == getppid(), "off again", "it is not");
}

/* struct ptrace_sud_config */
struct config { uint64_t mode, selector, start, length; };
enum { SET_CONFIG = 0x4210, GET_CONFIG = 0x4211 };

static int calls_when_told(void)
{
    signals = 0;
    selector = 1;
    kill(getpid(), SIGSTOP);
    long result = raw_call(SYS_getppid, 0);
    if (dispatch(OFF, 0, 0, 0))
        return 99;
    return result == 4711 ? signals : 10;
}

static int finish_with(pid_t child, struct config *config, long *result)
{
    next_status(child);
    *result = trace(SET_CONFIG, child, sizeof *config, (uintptr_t)config);
    int status = go(PTRACE_CONT, child, 0);
    if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGSYS)
        status = go(PTRACE_CONT, child, SIGSYS);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void by_tracer(void)
{
    struct config config = { 0 }, inside = { INCLUSIVE, 0, (uintptr_t)call_instruction_end, 1 };
    struct config wrong = { INCLUSIVE, 0, 0, 0 }, allowed = { EXCLUSIVE, 0, 0, -1ul };
    pid_t child = start_traced(calls_when_told);
    long result = trace(GET_CONFIG, child, sizeof config, (uintptr_t)&config);
    if (result == -EIO && access("/dev/hooks", F_OK)) {
        skip("a tracer sets it", "the kernel does not let one");
        finish(child);
        return;
    }
    check(!result && !config.mode && !config.start && !config.length && !config.selector, "a tracer is told that it is off",
          "%ld, mode %llu", result, (unsigned long long)config.mode);
    check(trace(GET_CONFIG, child, 24, (uintptr_t)&config) == -EINVAL && trace(SET_CONFIG, child, 40, (uintptr_t)&inside) == -EINVAL &&
              trace(GET_CONFIG, child, sizeof config, 8) == -EFAULT && trace(SET_CONFIG, child, sizeof config, 8) == -EFAULT,
          "another size, or no memory", "not refused");
    check(trace(SET_CONFIG, child, sizeof wrong, (uintptr_t)&wrong) == -EINVAL, "an empty range from a tracer", "not refused");

    result = trace(SET_CONFIG, child, sizeof inside, (uintptr_t)&inside);
    if (result == -EINVAL && access("/dev/hooks", F_OK)) {
        skip("the tracer sets an inverted range", "the kernel has none (Linux before 6.17)");
        finish(child);
    } else {
        trace(GET_CONFIG, child, sizeof config, (uintptr_t)&config);
        check(!result && config.mode == EXCLUSIVE && config.start == inside.start + 1 && config.length == -1ul && !config.selector,
              "the tracer sets an inverted range, and sees what is allowed", "%ld, mode %llu, %#llx, %#llx", result,
              (unsigned long long)config.mode, (unsigned long long)config.start, (unsigned long long)config.length);
        trace(PTRACE_CONT, child, 0, 0);
        int code = finish_with(child, &inside, &result);
        check(!result && code == 1, "and the tracee's call is a signal", "%ld, exit %d", result, code);
    }

    child = start_traced(calls_when_told);
    trace(PTRACE_CONT, child, 0, 0);
    int code = finish_with(child, &allowed, &result);
    check(!result && code == 10, "and is made where the tracer allows all addresses", "%ld, exit %d", result, code);
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
    if (!traced && dispatch(INCLUSIVE, call_instruction_end, 1, 0))
        skip("an inverted range", "the kernel has none (Linux before 6.17)");
    else
        inclusive();
    by_tracer();
    check_violations("UserDispatch");
    return done();
}
