/* Tasks that make no system calls are preempted: two share a CPU evenly, one lets a sleeper run at once, and all are
 * signalled (bug 26). The clocks and the accounting of CPU time agree with it.
 */
#include "check.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>

static volatile uint64_t *progress; /* one word per cache line */

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static pid_t spinner(int number)
{
    pid_t child = fork();
    if (child == 0)
        for (;;)
            progress[number * 8]++;
    return child;
}

static void finish(pid_t child)
{
    int status;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

/* The parent shares the CPU with them too: it only gets to run by preemption. */
static void fairness(void)
{
    pid_t children[3];
    pin(0);
    for (int i = 0; i < 3; i++) {
        progress[i * 8] = 0;
        children[i] = spinner(i);
    }
    usleep(400000);
    check(wait_until(progress[0] && progress[8] && progress[16]), "each of three spinning tasks runs", "%lu, %lu, %lu", progress[0],
          progress[8], progress[16]);
    uint64_t count[3], most = 0, least = -1ull;
    for (int i = 0; i < 3; i++) {
        count[i] = progress[i * 8];
        most = count[i] > most ? count[i] : most;
        least = count[i] < least ? count[i] : least;
    }
    for (int i = 0; i < 3; i++)
        finish(children[i]);
    check(least > most / 6 || !steady_clock(), "three spinning tasks share a CPU", "%lu, %lu, %lu", count[0], count[1], count[2]);
}

/* How late a sleeper wakes while another task spins on the same CPU. */
static void wakeups(void)
{
    uint64_t worst = 0;
    pin(0);
    pid_t child = spinner(0);
    for (int i = 0; i < 20; i++) {
        uint64_t start = microseconds();
        usleep(5000);
        uint64_t late = microseconds() - start - 5000;
        worst = late > worst ? late : worst;
    }
    finish(child);
    check(worst < 200000 || !steady_clock(), "a sleeper gets the CPU back from a spinning task", "%lu us late", worst);
}

static volatile sig_atomic_t ticks;

static void on_tick(int signal)
{
    (void)signal;
    ticks++;
}

static void timers(void)
{
    struct itimerval timer = { { 0, 5000 }, { 0, 5000 } }, off = { 0 };
    uint64_t start = microseconds();
    signal(SIGALRM, on_tick);
    ticks = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
    while (ticks < 10)
        ;
    setitimer(ITIMER_REAL, &off, NULL);
    uint64_t took = microseconds() - start;
    check(took >= 49000 && (took < 1000000 || !steady_clock()), "ten ticks of a timer", "%lu us", took);

    signal(SIGVTALRM, on_tick);
    ticks = 0;
    timer.it_value.tv_usec = timer.it_interval.tv_usec = 20000;
    setitimer(ITIMER_VIRTUAL, &timer, NULL);
    usleep(60000);
    int asleep = ticks;
    start = microseconds();
    while (!ticks && microseconds() < start + HANG_US)
        for (volatile long busy = 0; busy < 3000000; busy++) /* user time: reading the clock may be system time */
            ;
    check(!asleep && ticks, "a virtual timer runs with the task only", "%d while asleep, %d then", asleep, (int)ticks);
    setitimer(ITIMER_VIRTUAL, &off, NULL);
}

static double seconds(struct timeval time)
{
    return time.tv_sec + time.tv_usec / 1e6;
}

static void accounting(void)
{
    struct rusage before, after;
    struct tms t0, t1;
    struct timespec cpu0, cpu1;
    getrusage(RUSAGE_SELF, &before);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu0);
    times(&t0);
    uint64_t start = microseconds();
    while (microseconds() < start + 150000)
        ;
    usleep(100000);
    getrusage(RUSAGE_SELF, &after);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu1);
    times(&t1);
    double used = seconds(after.ru_utime) + seconds(after.ru_stime) - seconds(before.ru_utime) - seconds(before.ru_stime);
    check(used > 0 && ((used > 0.05 && used < 0.24) || !steady_clock()), "getrusage counts running, not sleeping", "%.3f s", used);
    double ticks_used = (double)(t1.tms_utime + t1.tms_stime - t0.tms_utime - t0.tms_stime) / sysconf(_SC_CLK_TCK);
    check((ticks_used > 0.04 && ticks_used < 0.24) || !steady_clock(), "times agrees", "%.3f s", ticks_used);
    double clocked = cpu1.tv_sec - cpu0.tv_sec + (cpu1.tv_nsec - cpu0.tv_nsec) / 1e9;
    check(clocked > 0 && ((clocked > 0.05 && clocked < 0.24) || !steady_clock()), "the CPU clock agrees", "%.3f s", clocked);

    struct rusage children;
    int status;
    progress[0] = 0;
    pid_t child = spinner(0);
    wait_until(progress[0]);
    usleep(100000);
    kill(child, SIGKILL);
    wait4(child, &status, 0, &children);
    used = seconds(children.ru_utime) + seconds(children.ru_stime);
    check(used > 0.01 && (used < 0.5 || !steady_clock()), "wait4 gives a child's time", "%.3f s", used);
    check(seconds(children.ru_utime) > seconds(children.ru_stime), "a spinning task's time is user time", "user %.3f, system %.3f",
          seconds(children.ru_utime), seconds(children.ru_stime));
}

static void clocks(void)
{
    static const clockid_t list[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME };
    for (int i = 0; i < 4; i++) {
        struct timespec last = { 0 }, now;
        int backwards = 0;
        for (int round = 0; round < 2000; round++) {
            backwards += clock_gettime(list[i], &now) != 0;
            backwards += now.tv_sec < last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec < last.tv_nsec);
            backwards += now.tv_nsec < 0 || now.tv_nsec > 999999999;
            last = now;
        }
        char name[32];
        snprintf(name, sizeof name, "clock %d does not go back", list[i]);
        check(!backwards, name, "%d times", backwards);
    }
    /* On each CPU the same clock. */
    int cpus = sysconf(_SC_NPROCESSORS_ONLN), backwards = 0;
    uint64_t last = 0;
    for (int i = 0; i < 60; i++) {
        pin(i % cpus);
        uint64_t now = microseconds();
        backwards += now < last;
        last = now;
    }
    check(!backwards, "the CPUs' clocks agree", "%d times back", backwards);
}

static void affinity(void)
{
    int cpus = sysconf(_SC_NPROCESSORS_ONLN), wrong = 0;
    unsigned cpu;
    for (int i = 0; i < cpus; i++) {
        pin(i);
        wrong += syscall(SYS_getcpu, &cpu, NULL, NULL) != 0 || cpu != (unsigned)i;
    }
    check(!wrong, "a task runs where it is pinned", "%d of %d wrong", wrong, cpus);
    cpu_set_t set;
    CPU_ZERO(&set);
    int result = sched_setaffinity(0, sizeof set, &set);
    check(result == -1 && errno == EINVAL, "no CPU at all is refused", "%d, %s", result, strerror(errno));
    if (cpus < 2) {
        skip("two CPUs at once", "one CPU");
        return;
    }
    pin(0);
    progress[0] = progress[8] = 0;
    pid_t other = fork();
    if (other == 0) {
        pin(1);
        for (;;)
            progress[0]++;
    }
    usleep(20000);
    /* On one CPU the other task could move in few of such short intervals: only where this one is preempted. Where the
     * emulator's own threads have to share a CPU, it takes more than one try. */
    int moved = 0;
    for (uint64_t limit = microseconds() + HANG_US; moved < 10 && microseconds() < limit;) {
        moved = 0;
        for (int i = 0; i < 3000; i++) {
            uint64_t before = progress[0], start = microseconds();
            while (microseconds() < start + 20)
                ;
            moved += progress[0] != before;
        }
    }
    finish(other);
    check(moved >= 10, "two CPUs at once", "in %d of 3000 intervals", moved);
}

int main(void)
{
    progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fairness();
    wakeups();
    timers();
    accounting();
    clocks();
    affinity();
    return done();
}
