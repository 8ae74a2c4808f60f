/* sigaction's flags, masks, and the default action of every signal.
 */
#include "hooks.h"
#include <sys/mman.h>
#include <sys/resource.h>

static volatile int count, order[8];
static volatile sigset_t mask_inside;
static int nest;

static void set_handler(int signal, void (*handler)(int), int flags)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
    sigaction(signal, &action, NULL);
}

static void record(int signal)
{
    order[count++ % 8] = signal;
    sigprocmask(SIG_BLOCK, NULL, (sigset_t *)&mask_inside);
    if (nest) {
        int next = nest;
        nest = 0;
        raise(next);
        order[count++ % 8] = -signal;
    }
}

static void flags(void)
{
    struct sigaction old;

    set_handler(SIGUSR1, record, 0);
    count = 0, nest = SIGUSR1;
    raise(SIGUSR1);
    check(count == 3 && order[0] == SIGUSR1 && order[1] == -SIGUSR1 && order[2] == SIGUSR1,
          "the signal is blocked in its handler, and comes after it", "%d: %d %d %d", count, order[0], order[1], order[2]);
    check(sigismember((sigset_t *)&mask_inside, SIGUSR1) == 1, "the mask in the handler says so", "it does not");

    set_handler(SIGUSR1, record, SA_NODEFER);
    count = 0, nest = SIGUSR1;
    raise(SIGUSR1);
    check(count == 3 && order[1] == SIGUSR1 && order[2] == -SIGUSR1, "SA_NODEFER", "%d: %d %d %d", count, order[0],
          order[1], order[2]);

    set_handler(SIGUSR1, record, SA_RESETHAND);
    count = 0;
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &old);
    check(count == 1 && old.sa_handler == SIG_DFL, "SA_RESETHAND", "count %d, handler %p", count, old.sa_handler);

    struct sigaction action = { .sa_handler = record };
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaddset(&action.sa_mask, SIGKILL);
    sigaction(SIGUSR1, &action, NULL);
    set_handler(SIGUSR2, record, 0);
    count = 0, nest = SIGUSR2;
    raise(SIGUSR1);
    check(count == 3 && order[1] == -SIGUSR1 && order[2] == SIGUSR2, "sa_mask", "%d: %d %d %d", count, order[0], order[1],
          order[2]);
    sigaction(SIGUSR1, NULL, &old);
    check(sigismember(&old.sa_mask, SIGUSR2) == 1 && sigismember(&old.sa_mask, SIGKILL) == 0,
          "sa_mask is read back, without SIGKILL", "it is not");

    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    check(!sigismember(&now, SIGUSR1) && !sigismember(&now, SIGUSR2), "the mask is restored", "it is not");
}

static void errors(void)
{
    struct sigaction action = { .sa_handler = record };
    static const int fixed[] = { SIGKILL, SIGSTOP };
    for (int i = 0; i < 2; i++) {
        int result = sigaction(fixed[i], &action, NULL);
        check(result == -1 && errno == EINVAL, i ? "SIGSTOP cannot be caught" : "SIGKILL cannot be caught", "%d", result);
    }
    static const int invalid[] = { 0, -1, 65, 1000 };
    for (int i = 0; i < 4; i++) {
        char buffer[32] = { 0 };
        long result = syscall(SYS_rt_sigaction, invalid[i], NULL, buffer, 8);
        check(result == -1 && errno == EINVAL, "sigaction of no signal", "%d: %ld, %s", invalid[i], result,
              strerror(errno));
    }
    long result = syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4);
    check(result == -1 && errno == EINVAL, "wrong size of the signal set", "%ld", result);
    result = syscall(SYS_rt_sigprocmask, SIG_BLOCK, &action.sa_mask, NULL, 16);
    check(result == -1 && errno == EINVAL, "wrong size of the mask", "%ld", result);
    result = syscall(SYS_rt_sigprocmask, 7, &action.sa_mask, NULL, 8);
    check(result == -1 && errno == EINVAL, "unknown operation on the mask", "%ld", result);
    result = syscall(SYS_rt_sigprocmask, SIG_BLOCK, (void *)8, NULL, 8);
    check(result == -1 && errno == EFAULT, "bad pointer to the mask", "%ld", result);
    check(kill(getpid(), 0) == 0, "signal 0 tests only", "%s", strerror(errno));
    check(kill(getpid(), 65) == -1 && errno == EINVAL, "kill with no signal", "%s", strerror(errno));
    check(kill(0x3ffffff, 0) == -1 && errno == ESRCH, "kill of nobody", "%s", strerror(errno));
}

static void masks(void)
{
    sigset_t set, pending, old;
    set_handler(SIGUSR1, record, 0);
    set_handler(SIGUSR2, record, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGKILL);
    sigprocmask(SIG_BLOCK, &set, &old);
    sigprocmask(SIG_BLOCK, NULL, &set);
    check(!sigismember(&set, SIGKILL), "SIGKILL cannot be blocked", "it is");
    count = 0;
    raise(SIGUSR2);
    raise(SIGUSR1);
    raise(SIGUSR1);
    sigpending(&pending);
    check(count == 0 && sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGUSR2) && !sigismember(&pending, SIGHUP),
          "blocked signals are pending", "count %d", count);
    sigprocmask(SIG_SETMASK, &old, NULL);
    /* The frame of the lowest is made first, so its handler runs last. */
    check(count == 2 && order[0] == SIGUSR2 && order[1] == SIGUSR1, "and come once when unblocked", "%d: %d %d", count,
          order[0], order[1]);
    sigpending(&pending);
    check(!sigismember(&pending, SIGUSR1), "then none is pending", "one is");

    sigprocmask(SIG_BLOCK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_IGN);
    sigpending(&pending);
    check(!sigismember(&pending, SIGUSR1), "ignoring it discards what is pending", "it is pending");
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static int default_signal;

static int take_default(void)
{
    struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_CORE, &none);
    signal(default_signal, SIG_DFL);
    raise(default_signal);
    return 33;
}

static void default_actions(void)
{
    for (int signal = 1; signal <= 64; signal++) {
        char name[48];
        int status;
        if (signal == 32 || signal == 33)
            continue; /* the C library's own */
        default_signal = signal;
        snprintf(name, sizeof name, "default action of signal %d", signal);
        switch (signal) {
        case SIGCHLD: case SIGURG: case SIGWINCH: case SIGCONT:
            status = in_child(take_default);
            check(WIFEXITED(status) && WEXITSTATUS(status) == 33, name, "status %#x, not ignored", status);
            break;
        case SIGSTOP: case SIGTSTP: case SIGTTIN: case SIGTTOU: {
            pid_t child = fork();
            if (child == 0) {
                setpgid(0, 0); /* in a group that is not orphaned */
                _exit(take_default());
            }
            waitpid(child, &status, WUNTRACED);
            int stopped = WIFSTOPPED(status) && WSTOPSIG(status) == signal;
            kill(child, SIGCONT);
            if (WIFSTOPPED(status))
                waitpid(child, &status, 0);
            check(stopped && WIFEXITED(status) && WEXITSTATUS(status) == 33, name, "status %#x, stopped %d", status,
                  stopped);
            break;
        }
        default:
            status = in_child(take_default);
            check(WIFSIGNALED(status) && WTERMSIG(status) == signal, name, "status %#x, not killed by it", status);
        }
    }
}

/* A fault cannot be ignored or blocked. */
static volatile int *nowhere;

static int fault_ignored(void)
{
    signal(SIGSEGV, SIG_IGN);
    return *nowhere;
}

static int fault_blocked(void)
{
    sigset_t set;
    set_handler(SIGSEGV, record, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return *nowhere;
}

static void fault_again(int signal)
{
    (void)signal;
    *nowhere = 1;
}

static int fault_in_handler(void)
{
    set_handler(SIGSEGV, fault_again, 0);
    return *nowhere;
}

static int null_handler_address(void)
{
    struct sigaction action = { .sa_handler = (void (*)(int))0xffff888000000000 };
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    return 3;
}

static int no_restorer(void)
{
    struct { void (*handler)(int); unsigned long flags; void *restorer; uint64_t mask; } action = { record, 0, NULL, 0 };
    syscall(SYS_rt_sigaction, SIGUSR1, &action, NULL, 8);
    raise(SIGUSR1);
    return 3;
}

static void forced(void)
{
    static const struct { const char *name; int (*body)(void); } list[] = {
        { "a fault under SIG_IGN", fault_ignored }, { "a fault that is blocked", fault_blocked },
        { "a fault in the handler of faults", fault_in_handler }, { "a handler at a kernel address", null_handler_address },
        { "a handler without a restorer", no_restorer },
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        int status = in_child(list[i].body);
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, list[i].name, "status %#x", status);
    }
}

static int report_dispositions(void)
{
    struct sigaction usr1, usr2;
    sigset_t now;
    sigaction(SIGUSR1, NULL, &usr1);
    sigaction(SIGUSR2, NULL, &usr2);
    sigprocmask(SIG_BLOCK, NULL, &now);
    return (usr1.sa_handler != SIG_DFL) | (usr2.sa_handler != SIG_IGN) << 1 | !sigismember(&now, SIGHUP) << 2;
}

static const char *self;

static int exec_self(void)
{
    sigset_t set;
    set_handler(SIGUSR1, record, 0);
    signal(SIGUSR2, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    execl(self, self, "dispositions", NULL);
    return 50;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return report_dispositions();
    self = argv[0];
    flags();
    errors();
    masks();
    default_actions();
    forced();
    int status = in_child(exec_self);
    check(status == 0, "exec resets handlers, keeps SIG_IGN and the mask", "status %#x", status);
    check_violations("Signal");
    return done();
}
