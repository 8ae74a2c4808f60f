/* secure_computing: filters judge each call once, after the tracer has changed it (bug 18) and by the ABI of its
 * door (bug 9), and what a filter refuses is not made.
 */
#include "hooks.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

/* getpriority with one of these as its first argument becomes the action; every other call is allowed. */
enum { TO_ERRNO = 0x1001, TO_LOG, TO_TRAP, TO_TRACE, TO_KILL };

static int filter(void)
{
#define ACTION(argument, verdict) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument, 0, 1), BPF_STMT(BPF_RET | BPF_K, verdict)
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        ACTION(TO_ERRNO, SECCOMP_RET_ERRNO | 77),
        ACTION(TO_LOG, SECCOMP_RET_LOG),
        ACTION(TO_TRAP, SECCOMP_RET_TRAP | 12),
        ACTION(TO_TRACE, SECCOMP_RET_TRACE),
        ACTION(TO_KILL, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static volatile int traps;
static siginfo_t last;

static void on_sigsys(int signal, siginfo_t *info, void *context)
{
    traps += signal == SIGSYS;
    last = *info;
    (void)context;
}

/* 0 if the actions are right. */
static int actions(void)
{
    struct sigaction action = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
    sigaction(SIGSYS, &action, NULL);
    if (filter())
        return 1;
    if (syscall(SYS_getpriority, TO_ERRNO) != -1 || errno != 77)
        return 2;
    if (syscall(SYS_getpriority, TO_LOG) != -1 || errno != EINVAL)
        return 3;
    if (syscall(SYS_getpriority, TO_TRACE) != -1 || errno != ENOSYS)
        return 4;
    syscall(SYS_getpriority, TO_TRAP);
    if (traps != 1 || last.si_code != 1 || last.si_errno != 12 || last.si_syscall != SYS_getpriority ||
        last.si_arch != AUDIT_ARCH_X86_64)
        return 5;
    if (syscall(SYS_getpriority, 0, 0) < 0)
        return 6;
    return 0;
}

static int killed(void)
{
    filter();
    syscall(SYS_getpriority, TO_KILL);
    return 0;
}

/* The tracer makes a call that is allowed into one that is not: 1 if the filter has seen the latter. */
static int changed_by_tracer(void)
{
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    filter();
    raise(SIGSTOP);
    long result = syscall(SYS_getppid, TO_ERRNO);
    return result == -1 && errno == 77;
}

static void after_the_tracer(void)
{
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(changed_by_tracer());
    waitpid(child, &status, 0);
    if (!WIFSTOPPED(status)) {
        skip("what a tracer makes of a call is judged", "no ptrace");
        return;
    }
    while (ptrace(PTRACE_SYSCALL, child, 0, 0) == 0 && waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
        struct user_regs_struct registers;
        ptrace(PTRACE_GETREGS, child, 0, &registers);
        if (registers.orig_rax == SYS_getppid && (long)registers.rax == -ENOSYS) {
            registers.orig_rax = SYS_getpriority;
            ptrace(PTRACE_SETREGS, child, 0, &registers);
        }
    }
    check(WIFEXITED(status) && WEXITSTATUS(status) == 1, "what a tracer makes of a call is judged", "status %#x", status);
}

/* A call by the 32-bit door, which a 64-bit program may use. */
static long int80(long number)
{
    long result;
    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(0), "c"(0), "d"(0) : "r8", "r9", "r10", "r11", "memory");
    return result;
}

/* Whether calls are judged by the door that they came in by: 0, or the number of what is wrong. */
static int by_its_door(void)
{
    enum { GETPID_32 = 20, FORK_32 = 2 };
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ACTION(GETPID_32, SECCOMP_RET_ERRNO | 66),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ACTION(SYS_getppid, SECCOMP_RET_ERRNO | 77),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    int status;
    if (int80(GETPID_32) != getpid())
        return 99; /* no such door */
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return 1;
    if (int80(GETPID_32) != -66)
        return 2;
    if (syscall(SYS_getppid) != -1 || errno != 77)
        return 3;
    long child = int80(FORK_32);
    if (child == 0)
        _exit(syscall(SYS_getppid) == -1 && errno == 77);
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 1 ? 0 : 4;
}

int main(void)
{
    control("/dev/audit", "clear");
    int status = in_child(actions);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "each action", "status %#x: the number of what is wrong", status);
    if (has_hooks("each call is judged once")) {
        const char *text = device_text("/dev/audit");
        char number[32];
        snprintf(number, sizeof number, "syscall=%d ", SYS_getpriority);
        int logged = count_lines(text, " seccomp ", number, "action=7ffc0000 ");
        check(logged == 1, "each call is judged once", "%d records of one call", logged);
    }
    status = in_child(killed);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "KILL", "status %#x", status);
    after_the_tracer();
    status = in_child(by_its_door);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 99)
        skip("a call is judged by its door", "the kernel has no 32-bit one");
    else
        check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a call is judged by its door", "status %#x", status);
    check_violations("Seccomp");
    return done();
}
