/* Queued signals: order, values, siginfo of each kind of sender, waiting for signals. Bug 29: a signal raised between
 * the last check and the way out is lost: thousands of counted signals to a task that spins, that makes system calls,
 * that faults and that sleeps, all of which must arrive, and soon.
 */
#include "check.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/time.h>

static volatile int count;
static int values[64];
static siginfo_t last;

static void record(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    values[count % 64] = info->si_value.sival_int;
    last = *info;
    count++;
}

static void catch(int signal)
{
    struct sigaction action = { .sa_sigaction = record, .sa_flags = SA_SIGINFO };
    sigfillset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

static void block(int how, int signal)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(how, &set, NULL);
}

static void queue(int signal, int value)
{
    sigqueue(getpid(), signal, (union sigval){ .sival_int = value });
}

static void order(void)
{
    int low = SIGRTMIN + 1, high = SIGRTMIN + 5;
    catch(low);
    catch(high);
    catch(SIGUSR1);
    block(SIG_BLOCK, low);
    for (int i = 0; i < 20; i++)
        queue(low, i);
    count = 0;
    block(SIG_UNBLOCK, low);
    int in_order = count == 20;
    for (int i = 0; i < 20; i++)
        in_order &= values[i] == i;
    check(in_order, "20 queued signals in order, each with its value", "%d came, the second with %d", count, values[1]);

    block(SIG_BLOCK, SIGUSR1);
    for (int i = 0; i < 5; i++)
        queue(SIGUSR1, 100 + i);
    count = 0;
    block(SIG_UNBLOCK, SIGUSR1);
    check(count == 1 && values[0] == 100, "a standard signal is queued once, with the first value", "%d came, value %d",
          count, values[0]);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, low);
    sigaddset(&set, high);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    queue(high, 3);
    queue(low, 2);
    queue(SIGUSR1, 1);
    queue(low, 4);
    static const int wanted[] = { 1, 2, 4, 3 };
    const struct timespec now = { 0, 0 };
    for (int i = 0; i < 4; i++) {
        siginfo_t info = { 0 };
        int signal = sigtimedwait(&set, &info, &now);
        check(signal > 0 && info.si_value.sival_int == wanted[i] && info.si_signo == signal, "the lowest number is taken first",
              "signal %d, value %d, not %d", signal, info.si_value.sival_int, wanted[i]);
    }
    int none = sigtimedwait(&set, NULL, &now);
    check(none == -1 && errno == EAGAIN, "then none is left", "%d", none);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void expect_info(const char *name, int signal, int code, pid_t sender)
{
    check(count == 1 && last.si_signo == signal && last.si_code == code && (!sender || last.si_pid == sender) &&
              last.si_errno == 0,
          name, "%d came, signo %d, code %d, pid %d", count, last.si_signo, last.si_code, last.si_pid);
    count = 0;
}

static void information(void)
{
    pid_t self = getpid();
    int status;
    catch(SIGUSR1);
    catch(SIGCHLD);
    catch(SIGALRM);
    count = 0;
    kill(self, SIGUSR1);
    expect_info("kill: SI_USER", SIGUSR1, SI_USER, self);
    check(last.si_uid == getuid(), "kill: the sender's user", "%d", last.si_uid);
    syscall(SYS_tgkill, self, self, SIGUSR1);
    expect_info("tgkill: SI_TKILL", SIGUSR1, SI_TKILL, self);
    syscall(SYS_tkill, self, SIGUSR1);
    expect_info("tkill: SI_TKILL", SIGUSR1, SI_TKILL, self);
    queue(SIGUSR1, 4711);
    expect_info("sigqueue: SI_QUEUE", SIGUSR1, SI_QUEUE, self);
    check(last.si_value.sival_int == 4711, "sigqueue: the value", "%d", last.si_value.sival_int);
    struct itimerval timer = { { 0, 0 }, { 0, 1000 } };
    setitimer(ITIMER_REAL, &timer, NULL);
    while (!count)
        ;
    expect_info("setitimer: SI_KERNEL", SIGALRM, SI_KERNEL, 0);

    timer_t id;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value = { .sival_int = 815 } };
    struct itimerspec soon = { { 0, 0 }, { 0, 1000000 } };
    if (timer_create(CLOCK_MONOTONIC, &event, &id) == 0) {
        timer_settime(id, 0, &soon, NULL);
        while (!count)
            ;
        expect_info("timer_create: SI_TIMER", SIGUSR1, SI_TIMER, 0);
        check(last.si_value.sival_int == 815, "timer_create: the value", "%d", last.si_value.sival_int);
        timer_delete(id);
    } else {
        check(0, "timer_create", "%s", strerror(errno));
    }

    pid_t child = fork();
    if (child == 0)
        _exit(9);
    while (!count)
        ;
    expect_info("SIGCHLD of an exit", SIGCHLD, CLD_EXITED, child);
    check(last.si_status == 9, "SIGCHLD: the exit code", "%d", last.si_status);
    waitpid(child, &status, 0);
    child = fork();
    while (child == 0)
        pause();
    kill(child, SIGKILL);
    while (!count)
        ;
    expect_info("SIGCHLD of a killed child", SIGCHLD, CLD_KILLED, child);
    check(last.si_status == SIGKILL, "SIGCHLD: the signal", "%d", last.si_status);
    waitpid(child, &status, 0);
    block(SIG_BLOCK, SIGCHLD);
    child = fork();
    if (child == 0) {
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    waitpid(child, &status, 0);
    expect_info("kill by another process", SIGUSR1, SI_USER, child);
    block(SIG_UNBLOCK, SIGCHLD);
    signal(SIGCHLD, SIG_DFL);

    /* Nobody but the kernel may make up kernel codes for another; a task may for itself. */
    siginfo_t forged = { .si_signo = SIGUSR1, .si_code = SI_USER };
    long result = syscall(SYS_rt_sigqueueinfo, getppid(), 0, &forged);
    check(result == -1 && errno == EPERM, "no forged SI_USER to another", "%ld, %s", result, strerror(errno));
}

static void waiting(void)
{
    sigset_t set, empty, old;
    sigemptyset(&empty);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    catch(SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    count = 0;
    raise(SIGUSR1);
    int result = sigsuspend(&empty);
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    check(result == -1 && errno == EINTR && count == 1 && sigismember(&now, SIGUSR1),
          "sigsuspend takes what is pending and restores the mask", "%d, count %d", result, count);
    pid_t child = fork(), parent = getppid();
    if (child == 0) {
        parent = getppid();
        usleep(10000);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    result = sigsuspend(&empty);
    check(result == -1 && errno == EINTR && count == 2, "sigsuspend sleeps until a signal", "%d, count %d", result, count);
    waitpid(child, NULL, 0);

    uint64_t start = microseconds();
    const struct timespec timeout = { 0, 20000000 };
    result = sigtimedwait(&set, NULL, &timeout);
    check(result == -1 && errno == EAGAIN && microseconds() - start >= 20000, "sigtimedwait times out", "%d", result);
    child = fork();
    if (child == 0) {
        usleep(10000);
        sigqueue(getppid(), SIGUSR1, (union sigval){ .sival_int = 6 });
        _exit(0);
    }
    siginfo_t info = { 0 };
    result = sigwaitinfo(&set, &info);
    check(result == SIGUSR1 && info.si_pid == child && info.si_value.sival_int == 6 && count == 2,
          "sigwaitinfo takes a signal without its handler", "%d from %d, count %d", result, info.si_pid, count);
    waitpid(child, NULL, 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

/* The receiver's loops of the storm. It tells by shared memory how many came, and the sender never has more than
 * `WINDOW` on the way, so that no queue limit is met. */
static volatile uint32_t *received;
enum { STORM = 3000, WINDOW = 100 };

static void count_storm(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    if (info->si_value.sival_int != (int)*received)
        received[1]++; /* out of order, or lost */
    received[0]++;
}

static void receive(int kind)
{
    struct sigaction action = { .sa_sigaction = count_storm, .sa_flags = SA_SIGINFO };
    sigaction(SIGRTMIN + 2, &action, NULL);
    received[2] = 1;
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    while (received[0] < STORM)
        switch (kind) {
        case 0: break;
        case 1: syscall(SYS_getppid); break;
        case 2: page[0] = 1; madvise(page, 4096, MADV_DONTNEED); break;
        case 3: usleep(50); break;
        }
    _exit(0);
}

static void storm(const char *name, int kind)
{
    int status = -1;
    memset((void *)received, 0, 64);
    pid_t child = fork();
    if (child == 0)
        receive(kind);
    while (!received[2])
        sched_yield();
    uint64_t deadline = microseconds() + HANG_US;
    uint32_t sent = 0;
    while (sent < STORM && microseconds() < deadline) {
        while (sent - received[0] >= WINDOW && microseconds() < deadline)
            sched_yield();
        if (sigqueue(child, SIGRTMIN + 2, (union sigval){ .sival_int = sent }) == 0)
            sent++;
    }
    while (received[0] < STORM && microseconds() < deadline)
        sched_yield();
    uint32_t arrived = received[0];
    if (arrived < STORM)
        kill(child, SIGKILL);
    waitpid(child, &status, 0);
    check(arrived == STORM && !received[1] && status == 0, name, "%u of %d arrived, %u out of order, status %#x", arrived,
          STORM, received[1], status);
}

/* From kill to handler, for a task that spins on another CPU or on the same one. */
static void latency(void)
{
    uint64_t worst = 0, total = 0;
    int rounds = 50, lost = 0;
    memset((void *)received, 0, 64);
    pid_t child = fork();
    if (child == 0) {
        struct sigaction action = { .sa_sigaction = count_storm, .sa_flags = SA_SIGINFO };
        sigaction(SIGRTMIN + 2, &action, NULL);
        received[2] = 1;
        for (;;)
            ;
    }
    while (!received[2])
        sched_yield();
    for (int i = 0; i < rounds && !lost; i++) {
        uint64_t start = microseconds();
        sigqueue(child, SIGRTMIN + 2, (union sigval){ .sival_int = i });
        while (received[0] == (uint32_t)i && !lost) {
            sched_yield();
            lost = microseconds() - start > HANG_US;
        }
        uint64_t took = microseconds() - start;
        total += took;
        worst = took > worst ? took : worst;
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    check(!lost && (worst < 300000 || !steady_clock()), "a spinning task gets its signals soon", "worst %lu us, mean %lu us%s", worst,
          total / rounds, lost ? ", one lost" : "");
}

int main(void)
{
    received = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    order();
    information();
    waiting();
    storm("storm on a task that spins", 0);
    storm("storm on a task in system calls", 1);
    storm("storm on a task in page faults", 2);
    storm("storm on a task that sleeps", 3);
    latency();
    return done();
}
