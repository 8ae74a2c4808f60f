/* POSIX timers and the clocks of CPU time: what they count, how often they ran out, whom they tell; and how much a user may
 * have queued.
 *
 * Nothing is judged by how long it took: CPU time is compared with the CPU's clock, expiries with the clock before and after.
 */
// build: -pthread
#include "check.h"
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/time.h>

#define MS 1000000ll

static long long now(clockid_t clock)
{
    struct timespec time;
    if (syscall(SYS_clock_gettime, clock, &time))
        return -errno;
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void spin_until(clockid_t clock, long long target)
{
    while (now(clock) < target)
        ;
}

static void sleep_for(long long ns)
{
    struct timespec time = {ns / 1000000000, ns % 1000000000};
    while (nanosleep(&time, &time))
        ;
}

/* A timer that signals a thread (or, 0, the process); its id, or -errno. */
static int create(clockid_t clock, int signal, pid_t thread)
{
    struct sigevent event = {.sigev_notify = thread ? SIGEV_THREAD_ID : SIGEV_SIGNAL, .sigev_signo = signal};
    int id;
    event._sigev_un._tid = thread;
    return syscall(SYS_timer_create, clock, &event, &id) ? -errno : id;
}

static int set(int id, int flags, long long value, long long period)
{
    struct itimerspec time = {{period / 1000000000, period % 1000000000}, {value / 1000000000, value % 1000000000}};
    return syscall(SYS_timer_settime, id, flags, &time, NULL) ? errno : 0;
}

static long long left(int id, long long *period)
{
    struct itimerspec time;
    if (syscall(SYS_timer_gettime, id, &time))
        return -errno;
    if (period)
        *period = time.it_interval.tv_sec * 1000000000ll + time.it_interval.tv_nsec;
    return time.it_value.tv_sec * 1000000000ll + time.it_value.tv_nsec;
}

static int delete(int id) { return syscall(SYS_timer_delete, id) ? errno : 0; }

static int is_pending(int signal)
{
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, signal);
}

/* Takes a pending signal; its number, or 0 if there is none. */
static int take(int signal, siginfo_t *info)
{
    sigset_t set;
    struct timespec none = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, signal);
    int taken = sigtimedwait(&set, info, &none);
    return taken < 0 ? 0 : taken;
}

static void overruns(const char *clock_name, clockid_t clock)
{
    const long long period = 10 * MS;
    char name[96];
    siginfo_t info;
    int id = create(clock, SIGUSR1, 0);
    long long set_after = now(clock);
    set(id, 0, period, period);
    long long set_before = now(clock);
    spin_until(clock, set_before + 10 * period + period / 2);
    while (!is_pending(SIGUSR1))
        ;
    long long taken_after = now(clock);
    int taken = take(SIGUSR1, &info);
    long long taken_before = now(clock);
    snprintf(name, sizeof name, "%s: one signal for all that was missed", clock_name);
    check(taken == SIGUSR1 && info.si_code == SI_TIMER, name, "%d, code %d", taken, info.si_code);
    long long least = (taken_after - set_before) / period, most = (taken_before - set_after) / period;
    snprintf(name, sizeof name, "%s: si_overrun is exact", clock_name);
    check(info.si_overrun + 1 >= least && info.si_overrun + 1 <= most, name, "%d, not %lld to %lld less 1", info.si_overrun, least, most);
    snprintf(name, sizeof name, "%s: timer_getoverrun gives the same", clock_name);
    int overrun = syscall(SYS_timer_getoverrun, id);
    check(overrun == info.si_overrun, name, "%d, not %d", overrun, info.si_overrun);
    long long stored, rest = left(id, &stored);
    snprintf(name, sizeof name, "%s: it goes on", clock_name);
    check(rest > 0 && rest <= period && stored == period, name, "%lld of %lld left", rest, stored);
    delete(id);
    take(SIGUSR1, &info);
}

static void saturation(void)
{
    siginfo_t info;
    int id = create(CLOCK_MONOTONIC, SIGUSR1, 0);
    long long start = now(CLOCK_MONOTONIC);
    set(id, 0, 1, 1);
    sleep_for(start + 2200 * MS - now(CLOCK_MONOTONIC));
    int taken = take(SIGUSR1, &info);
    check(taken == SIGUSR1 && info.si_overrun == INT_MAX, "more than INT_MAX is INT_MAX", "%d", info.si_overrun);
    check(syscall(SYS_timer_getoverrun, id) == INT_MAX, "for timer_getoverrun, too", "%ld", syscall(SYS_timer_getoverrun, id));
    delete(id);
    take(SIGUSR1, &info);
}

/* A timer of CPU time is not moved by time that passes. */
static void idle_and_busy(const char *what, clockid_t clock, void (*work)(clockid_t))
{
    char name[96];
    siginfo_t info;
    int id = create(clock, SIGUSR1, 0);
    long long start = now(clock);
    set(id, 0, 30 * MS, 0);
    sleep_for(90 * MS);
    snprintf(name, sizeof name, "%s: sleeping does not count", what);
    /* Unless something else made the clock go on. */
    check(!is_pending(SIGUSR1) || now(clock) >= start + 30 * MS, name, "the timer ran out at %lld us", (now(clock) - start) / 1000);
    while (!is_pending(SIGUSR1))
        work(clock);
    snprintf(name, sizeof name, "%s: it runs out when the time was used", what);
    check(now(clock) >= start + 30 * MS, name, "at %lld us", (now(clock) - start) / 1000);
    snprintf(name, sizeof name, "%s: it is not set any more", what);
    check(left(id, NULL) == 0, name, "%lld", left(id, NULL));
    take(SIGUSR1, &info);
    delete(id);
}
static void spin(clockid_t clock) { spin_until(clock, now(clock) + MS); }

static volatile int stop, go;
static pid_t thread_id;
static void *spins_when_told(void *unused)
{
    (void)unused;
    thread_id = syscall(SYS_gettid);
    while (!stop)
        if (go)
            sched_yield();
        else
            sleep_for(MS);
    return NULL;
}
static clockid_t cpu_clock(pid_t id, int per_thread, int kind) { return (clockid_t)(~(unsigned)id << 3 | per_thread << 2 | kind); }
static void thread_works(clockid_t clock)
{
    (void)clock;
    go = 1;
    sleep_for(MS);
}

static void *from_thread(void *unused)
{
    (void)unused;
    pid_t self = syscall(SYS_gettid);
    check(now(cpu_clock(self, 0, 2)) > 0, "a thread's id reads its process's clock", "%lld", now(cpu_clock(self, 0, 2)));
    check(create(cpu_clock(self, 0, 2), SIGUSR1, 0) == -EINVAL, "but makes no timer of it", "it does");
    check(now(cpu_clock(getpid(), 1, 2)) > 0, "the clock of another thread of the process", "%lld", now(cpu_clock(getpid(), 1, 2)));
    return NULL;
}

static void ids(void)
{
    pthread_t thread;
    pid_t child = fork();
    if (child == 0) {
        for (;;)
            pause();
    }
    check(now(cpu_clock(child, 0, 2)) >= 0, "another process's clock", "%lld", now(cpu_clock(child, 0, 2)));
    check(now(cpu_clock(child, 1, 2)) == -EINVAL, "not that of its thread", "%lld", now(cpu_clock(child, 1, 2)));
    check(syscall(SYS_clock_getres, cpu_clock(child, 1, 2), NULL) == -1 && errno == EINVAL, "nor its resolution", "%d", errno);
    check(create(CLOCK_MONOTONIC, SIGUSR1, child) == -EINVAL, "nobody else's thread is told", "it is");
    check(create(CLOCK_MONOTONIC, SIGUSR1, 0x3fffffff) == -EINVAL, "nor one that there is not", "it is");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    check(now(cpu_clock(child, 0, 2)) == -EINVAL, "the clock of a process that is gone", "%lld", now(cpu_clock(child, 0, 2)));
    check(now(cpu_clock(0, 0, 3)) == -EINVAL, "there is no fourth kind of CPU time", "%lld", now(cpu_clock(0, 0, 3)));
    long long user = now(cpu_clock(0, 0, 1)), all = now(cpu_clock(0, 0, 0));
    check(user >= 0 && user <= all, "user time is part of all", "%lld of %lld", user, all);
    pthread_create(&thread, NULL, from_thread, NULL);
    pthread_join(thread, NULL);
}

static int sleep_on(clockid_t clock, int flags, long long ns)
{
    struct timespec time = {ns / 1000000000, ns % 1000000000};
    return syscall(SYS_clock_nanosleep, clock, flags, &time, NULL) ? errno : 0;
}

static void sleeps(void)
{
    check(sleep_on(CLOCK_THREAD_CPUTIME_ID, 0, 1) == EOPNOTSUPP, "nobody sleeps on the thread's clock", "%d", errno);
    check(sleep_on(cpu_clock(0, 1, 2), 0, 1) == EINVAL, "by any of its names", "%d", errno);
    check(sleep_on(cpu_clock(syscall(SYS_gettid), 1, 2), 0, 1) == EINVAL, "by its number", "%d", errno);
    check(sleep_on(CLOCK_MONOTONIC_RAW, 0, 1) == EOPNOTSUPP, "nor on clocks that are only read", "%d", errno);
    check(create(CLOCK_MONOTONIC_COARSE, SIGUSR1, 0) == -EOPNOTSUPP, "of which there are no timers", "there are");
    /* The other thread spins meanwhile. */
    long long start = now(CLOCK_PROCESS_CPUTIME_ID);
    int result = sleep_on(CLOCK_PROCESS_CPUTIME_ID, 0, 20 * MS);
    check(result == 0 && now(CLOCK_PROCESS_CPUTIME_ID) >= start + 20 * MS, "a sleep until others have used 20 ms", "%d, after %lld us",
          result, (now(CLOCK_PROCESS_CPUTIME_ID) - start) / 1000);
    start = now(cpu_clock(thread_id, 1, 2));
    result = sleep_on(cpu_clock(thread_id, 1, 2), TIMER_ABSTIME, start + 20 * MS);
    check(result == 0 && now(cpu_clock(thread_id, 1, 2)) >= start + 20 * MS, "or until another thread has", "%d", result);
}

static void arguments(void)
{
    struct itimerspec bad = {{0, 0}, {0, 1000000000}}, time = {{0, 0}, {1000, 5}}, old;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
    siginfo_t info;
    int id = create(CLOCK_MONOTONIC, SIGUSR1, 0), other;
    check(syscall(SYS_timer_settime, id, 0, NULL, NULL) == -1 && errno == EINVAL, "timer_settime without a time", "%d", errno);
    check(syscall(SYS_timer_settime, id, 0, 8, NULL) == -1 && errno == EFAULT, "with a bad address", "%d", errno);
    check(syscall(SYS_timer_settime, id, 0, &bad, NULL) == -1 && errno == EINVAL, "with a second of nanoseconds", "%d", errno);
    bad = (struct itimerspec){{0, -1}, {0, 0}};
    check(syscall(SYS_timer_settime, id, 0, &bad, NULL) == -1 && errno == EINVAL, "with a negative period", "%d", errno);
    check(syscall(SYS_timer_settime, id + 1000, 0, &time, NULL) == -1 && errno == EINVAL, "of no timer", "%d", errno);
    check(left(id + 1000, NULL) == -EINVAL && syscall(SYS_timer_getoverrun, id + 1000) == -1, "nor has it a time", "it has");
    syscall(SYS_timer_settime, id, 0, &time, NULL);
    time.it_value.tv_sec = 500;
    int result = syscall(SYS_timer_settime, id, 0, &time, &old);
    check(result == 0 && old.it_value.tv_sec >= 900, "the old value", "%d, %ld s", result, (long)old.it_value.tv_sec);
    check(set(id, TIMER_ABSTIME, 1, 0) == 0, "an absolute time that is past", "%d", errno);
    while (!is_pending(SIGUSR1))
        sched_yield();
    take(SIGUSR1, &info);
    check(info.si_overrun == 0 && left(id, NULL) == 0, "runs out once", "%d more", info.si_overrun);
    check(delete(id) == 0 && delete(id) == EINVAL, "a timer is deleted once", "%d", errno);
    check(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &other) == -1 && errno == EINVAL, "there is no signal 65", "%d", errno);
    event.sigev_signo = 0;
    check(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &other) == -1 && errno == EINVAL, "nor 0", "%d", errno);
    event.sigev_notify = SIGEV_NONE;
    check(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &other) == 0, "SIGEV_NONE needs none", "%d", errno);
    set(other, 0, MS, 0);
    while (left(other, NULL) > 0)
        ;
    check(left(other, NULL) == 0, "and shows 0 when it has run out", "%lld", left(other, NULL));
    delete(other);
    event = (struct sigevent){.sigev_notify = SIGEV_THREAD, .sigev_signo = SIGUSR1};
    check(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &other) == 0, "SIGEV_THREAD is for a library to do", "%d", errno);
    delete(other);
    event.sigev_notify = 7;
    check(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &other) == -1 && errno == EINVAL, "there is no other way", "%d", errno);
    check(syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, 8) == -1 && errno == EFAULT, "nowhere to put the id", "%d", errno);
}

/* Two timers with one signal: neither is lost. */
static void same_signal(void)
{
    siginfo_t info;
    int first = create(CLOCK_MONOTONIC, SIGUSR1, 0), second = create(CLOCK_MONOTONIC, SIGUSR1, 0), seen[2] = {0, 0};
    set(first, 0, MS, 0);
    set(second, 0, MS, 0);
    while (left(first, NULL) > 0 || left(second, NULL) > 0)
        sched_yield();
    for (int n = 0; n < 1000 && !(seen[0] && seen[1]); n++)
        if (take(SIGUSR1, &info)) {
            seen[0] |= info.si_timerid == first;
            seen[1] |= info.si_timerid == second;
        } else {
            sleep_for(MS);
        }
    check(seen[0] && seen[1], "two timers with one signal are both heard", "%d %d", seen[0], seen[1]);
    delete(first);
    delete(second);
}

static volatile int heard;
static void hear(int signal) { (void)signal; heard++; }
static void ignored(void)
{
    sigset_t set_, old;
    sigemptyset(&set_);
    sigaddset(&set_, SIGUSR2);
    sigprocmask(SIG_UNBLOCK, &set_, &old);
    signal(SIGUSR2, SIG_IGN);
    int id = create(CLOCK_MONOTONIC, SIGUSR2, 0);
    set(id, 0, MS, MS);
    sleep_for(20 * MS);
    signal(SIGUSR2, hear);
    while (heard < 3)
        sched_yield();
    check(heard >= 3, "a timer goes on while its signal is ignored", "%d", heard);
    delete(id);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static int kept_id;
static int in_forked(void) { return left(kept_id, NULL) == -EINVAL; }
static int in_executed(void)
{
    char number[16];
    snprintf(number, sizeof number, "%d", create(CLOCK_MONOTONIC, SIGUSR1, 0));
    execl("/proc/self/exe", "posix_timers", number, NULL);
    return 99;
}
static void inheritance(void)
{
    kept_id = create(CLOCK_MONOTONIC, SIGUSR1, 0);
    set(kept_id, 0, 1000000 * MS, 0);
    int status = in_child(in_forked);
    check(WEXITSTATUS(status) == 1, "fork inherits no timer", "%x", status);
    status = in_child(in_executed);
    check(WEXITSTATUS(status) == 1, "exec deletes them", "%x", status);
    delete(kept_id);
}

static void interval(const char *what, int which, int signal)
{
    struct itimerval time = {{0, 0}, {0, 30000}}, none = {{0, 0}, {0, 0}};
    char name[96];
    siginfo_t info;
    long long start = now(CLOCK_PROCESS_CPUTIME_ID);
    setitimer(which, &time, NULL);
    sleep_for(90 * MS);
    snprintf(name, sizeof name, "%s does not count sleep", what);
    check(!is_pending(signal) || now(CLOCK_PROCESS_CPUTIME_ID) >= start + 30 * MS, name, "it ran out");
    while (!is_pending(signal))
        ;
    snprintf(name, sizeof name, "%s runs out when the time was used", what);
    /* It counts ticks. */
    check(now(CLOCK_PROCESS_CPUTIME_ID) >= start + 15 * MS, name, "%lld us", (now(CLOCK_PROCESS_CPUTIME_ID) - start) / 1000);
    setitimer(which, &none, NULL);
    take(signal, &info);
}

/* What is queued for a user, and what may be. */
static int shown(int *limit)
{
    int queued = -1;
    sscanf(proc_field("/proc/self/status", "SigQ:"), "%d/%d", &queued, limit);
    return queued;
}

static int queue(void)
{
    union sigval value = {.sival_int = 1};
    return sigqueue(getpid(), SIGRTMIN, value) ? errno : 0;
}

static int quota(void)
{
    struct rlimit limits = {3, 3};
    siginfo_t info;
    int limit = 0, failed = 0, timer;
    if (setresuid(54321, 54321, 54321) || setrlimit(RLIMIT_SIGPENDING, &limits))
        return 100;
    failed |= (shown(&limit) != 0 || limit != 3) << 0;
    timer = create(CLOCK_MONOTONIC, SIGUSR1, 0);
    failed |= (shown(&limit) != 1) << 1;
    failed |= (queue() || queue() || shown(&limit) != 3) << 2;
    failed |= (queue() != EAGAIN || create(CLOCK_MONOTONIC, SIGUSR1, 0) != -EAGAIN) << 3;
    /* kill is never refused: the signal is pending, without information where there is no room. */
    failed |= (kill(getpid(), SIGRTMIN + 1) || !is_pending(SIGRTMIN + 1) || shown(&limit) != 3) << 4;
    failed |= (kill(getpid(), SIGUSR2) || !is_pending(SIGUSR2) || shown(&limit) != 4) << 5;
    while (take(SIGRTMIN, &info) || take(SIGRTMIN + 1, &info) || take(SIGUSR2, &info))
        ;
    delete(timer);
    failed |= (shown(&limit) != 0) << 6;
    return failed;
}

int main(int count, char **arguments_)
{
    sigset_t set_;
    pthread_t thread;
    if (count > 1)
        return delete(atoi(arguments_[1])) == EINVAL;
    sigemptyset(&set_);
    for (int signal = SIGRTMIN; signal <= SIGRTMIN + 1; signal++)
        sigaddset(&set_, signal);
    sigaddset(&set_, SIGUSR1);
    sigaddset(&set_, SIGUSR2);
    sigaddset(&set_, SIGPROF);
    sigaddset(&set_, SIGVTALRM);
    sigprocmask(SIG_BLOCK, &set_, NULL);
    overruns("monotonic", CLOCK_MONOTONIC);
    overruns("thread", CLOCK_THREAD_CPUTIME_ID);
    overruns("process", CLOCK_PROCESS_CPUTIME_ID);
    saturation();
    idle_and_busy("thread", CLOCK_THREAD_CPUTIME_ID, spin);
    idle_and_busy("process", CLOCK_PROCESS_CPUTIME_ID, spin);
    arguments();
    same_signal();
    ignored();
    inheritance();
    interval("ITIMER_PROF", ITIMER_PROF, SIGPROF);
    interval("ITIMER_VIRTUAL", ITIMER_VIRTUAL, SIGVTALRM);
    ids();
    pthread_create(&thread, NULL, spins_when_told, NULL);
    while (!*(volatile pid_t *)&thread_id)
        sched_yield();
    idle_and_busy("another thread", cpu_clock(thread_id, 1, 2), thread_works);
    go = 1;
    sleeps();
    stop = 1;
    pthread_join(thread, NULL);
    if (getuid() == 0) {
        int status = in_child(quota);
        check(status == 0, "RLIMIT_SIGPENDING counts what a user has queued", "status %x", status);
    } else {
        skip("RLIMIT_SIGPENDING counts what a user has queued", "not root");
    }
    return done();
}
