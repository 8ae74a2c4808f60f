/* Bug 34: a restart code loops or leaks to the user. An interrupted system call either gives EINTR or starts again with
 * the registers it had, by SA_RESTART, by the restart rule of the call, or by restart_syscall where time has passed.
 */
#include "registers.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/time.h>

SNIPPET(enter_kernel, "syscall");

static int tube[2];
static uint32_t word;
static struct timespec nap, rest;
static struct pollfd watched;
static fd_set readable;
static char byte;

static void refill(int signal, siginfo_t *info, ucontext_t *context)
{
    (void)signal, (void)info, (void)context;
    if (write(tube[1], "x", 1) != 1)
        _exit(97);
    word = 1; /* a restarted FUTEX_WAIT then gives EAGAIN */
}

struct blocking {
    const char *name;
    uint64_t number, a, b, c, d, e;
    int64_t plain, with_restart; /* results with a handler, without and with SA_RESTART */
};

/* Runs a blocking call, which a signal interrupts. */
static void interrupt(const struct blocking *call, unsigned long flags, int64_t want)
{
    char name[80], drained[16];
    snprintf(name, sizeof name, "%s%s", call->name, flags ? ", SA_RESTART" : "");
    catch_signal(SIGALRM, flags);
    on_signal = refill;
    caught.count = word = 0;
    FD_ZERO(&readable);
    FD_SET(tube[0], &readable);
    randomize(&in);
    in.rax = call->number, in.rdi = call->a, in.rsi = call->b, in.rdx = call->c, in.r10 = call->d, in.r8 = call->e;
    in.r9 = 0;
    pid_t sender = signal_when_asleep(SIGALRM);
    run(enter_kernel);
    on_signal = NULL;
    reap(sender);
    struct registers expected = in;
    expected.rax = want;
    leave_syscall(&expected, enter_kernel_end);
    const char *wrong = difference(&expected, &out, 0);
    check(!wrong && caught.count == 1, name, "%d signals, %s", caught.count, wrong ? wrong : "registers right");

    /* What the handler was told: the call's own result, or the SYSCALL instruction with its number again. */
    int again = flags && call->with_restart != -EINTR;
    strcat(name, ", in the frame");
    expected.rax = again ? call->number : (uint64_t)-EINTR;
    wrong = difference(&expected, &caught.registers, 0);
    uint64_t rip = (uint64_t)(again ? enter_kernel : enter_kernel_end);
    check(!wrong && caught.rip == rip, name, "rip %#lx, %s", caught.rip, wrong ? wrong : "registers right");
    struct pollfd left = { tube[0], POLLIN, 0 };
    while (poll(&left, 1, 0) > 0 && read(tube[0], drained, sizeof drained) > 0)
        ;
}

static void handlers(void)
{
    /* None of them ends by itself. */
    nap = (struct timespec){ 100, 0 };
    static const struct timespec long_time = { 100, 0 };
    const struct blocking calls[] = {
        { "read", SYS_read, tube[0], (uint64_t)&byte, 1, 0, 0, -EINTR, 1 },
        { "nanosleep", SYS_nanosleep, (uint64_t)&nap, (uint64_t)&rest, 0, 0, 0, -EINTR, -EINTR },
        { "clock_nanosleep", SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (uint64_t)&nap, (uint64_t)&rest, 0, -EINTR, -EINTR },
        { "poll", SYS_poll, (uint64_t)&watched, 1, 100000, 0, 0, -EINTR, -EINTR },
        { "poll without timeout", SYS_poll, (uint64_t)&watched, 1, -1ull, 0, 0, -EINTR, -EINTR },
        { "select", SYS_select, tube[0] + 1, (uint64_t)&readable, 0, 0, 0, -EINTR, -EINTR },
        { "pause", SYS_pause, 0, 0, 0, 0, 0, -EINTR, -EINTR },
        { "futex wait", SYS_futex, (uint64_t)&word, FUTEX_WAIT, 0, 0, 0, -EINTR, -EAGAIN },
        { "futex wait with timeout", SYS_futex, (uint64_t)&word, FUTEX_WAIT, 0, (uint64_t)&long_time, 0, -EINTR, -EINTR },
        { "rt_sigtimedwait", SYS_rt_sigtimedwait, (uint64_t)"\0\x02\0\0\0\0\0\0", 0, (uint64_t)&long_time, 8, 0, -EINTR, -EINTR },
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        watched = (struct pollfd){ tube[0], POLLIN, 0 };
        rest.tv_nsec = 0;
        interrupt(&calls[i], 0, calls[i].plain);
        interrupt(&calls[i], SA_RESTART, calls[i].with_restart);
        if (calls[i].number == SYS_nanosleep)
            check(rest.tv_sec < 100 && (rest.tv_sec == 99 || !steady_clock()), "nanosleep tells the rest",
                  "%ld.%09ld", rest.tv_sec, rest.tv_nsec);
    }
}

/* A child in a call, stopped and continued in the middle: the call goes on and nothing shows. */
static int (*patient)(void);

/* Long enough for a busy host to stop it in time. */
enum { PATIENCE_MS = 400 };

static int sleeps(void)
{
    uint64_t start = microseconds();
    nap = (struct timespec){ 0, PATIENCE_MS * 1000000 };
    int result = nanosleep(&nap, NULL);
    return result != 0 || microseconds() - start < PATIENCE_MS * 1000;
}

static int polls(void)
{
    watched = (struct pollfd){ tube[0], POLLIN, 0 };
    uint64_t start = microseconds();
    int result = poll(&watched, 1, PATIENCE_MS);
    return result != 0 || microseconds() - start < PATIENCE_MS * 1000;
}

static int waits_on_futex(void)
{
    struct timespec timeout = { 0, PATIENCE_MS * 1000000 };
    uint64_t start = microseconds();
    word = 0;
    long result = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &timeout, NULL, 0);
    return !(result == -1 && errno == ETIMEDOUT) || microseconds() - start < PATIENCE_MS * 1000;
}

static int reads(void)
{
    return read(tube[0], &byte, 1) != 1;
}

static void stop_and_continue(const char *name)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(patient());
    int asleep = wait_until(is_asleep(child, child));
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    int stopped = WIFSTOPPED(status);
    usleep(10000);
    kill(child, SIGCONT);
    if (patient == reads) {
        usleep(10000);
        if (write(tube[1], "y", 1) != 1)
            _exit(97);
    }
    waitpid(child, &status, 0);
    check(asleep && stopped && status == 0, name, "asleep %d, stopped %d, status %#x", asleep, stopped, status);
}

/* A signal that is ignored, or blocked, does not end a wait. */
static void not_interrupted(void)
{
    struct itimerval timer = { { 0, 0 }, { 0, 10000 } };
    signal(SIGALRM, SIG_IGN);
    setitimer(ITIMER_REAL, &timer, NULL);
    check(sleeps() == 0, "nanosleep under an ignored signal", "it ended early");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    catch_signal(SIGALRM, 0);
    sigprocmask(SIG_BLOCK, &set, NULL);
    caught.count = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    check(polls() == 0, "poll under a blocked signal", "it ended early");
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    check(caught.count == 1, "the blocked signal comes when it is unblocked", "%d", caught.count);
}

/* restart_syscall with nothing to restart. */
static void cold_restart(void)
{
    randomize(&in);
    in.rax = SYS_restart_syscall;
    run(enter_kernel);
    check(out.rax == (uint64_t)-EINTR, "restart_syscall outside a restart", "%ld", (long)out.rax);
}

/* The same call interrupted by many signals: it must start again each time, and never show a restart code. */
static void give_byte_at_last(int signal, siginfo_t *info, ucontext_t *context)
{
    if (caught.count == 10)
        refill(signal, info, context);
}

static void many_restarts(void)
{
    struct itimerval timer = { { 0, 1000 }, { 0, 1000 } }, off = { 0 };
    catch_signal(SIGALRM, SA_RESTART);
    caught.count = 0;
    on_signal = give_byte_at_last;
    randomize(&in);
    in.rax = SYS_read, in.rdi = tube[0], in.rsi = (uint64_t)&byte, in.rdx = 1;
    setitimer(ITIMER_REAL, &timer, NULL);
    run(enter_kernel);
    setitimer(ITIMER_REAL, &off, NULL);
    on_signal = NULL;
    check(out.rax == 1 && byte == 'x' && caught.count >= 10, "many restarts of one call", "rax %ld, %d signals",
          (long)out.rax, caught.count);
}

int main(void)
{
    if (pipe(tube))
        return 99;
    handlers();
    not_interrupted();
    static const struct { const char *name; int (*call)(void); } calls[] = {
        { "nanosleep over a stop", sleeps }, { "poll over a stop", polls }, { "futex wait over a stop", waits_on_futex },
        { "read over a stop", reads },
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        patient = calls[i].call;
        stop_and_continue(calls[i].name);
    }
    cold_restart();
    many_restarts();
    return done();
}
