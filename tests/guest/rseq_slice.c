/* rseq_syscall_enter_work, rseq_arm_slice_extension_timer, schedule: a task that asks for it in its rseq area goes on for a moment
 * when its slice is over (Linux 7.0). It is granted where nothing but scheduling is due, and ended by rseq_slice_yield, by any other
 * call, or by its timer.
 */
#include "hooks.h"
#include "rseq.h"
#include <sys/prctl.h>
#include <time.h>

enum {
    LENGTH = 64,
    SLICE_EXTENSION = 79, GET = 1, SET = 2, ENABLE = 1, /* prctl */
    RSEQ_SLICE_YIELD = 471,
    DEFAULT_ON = 2,                  /* rseq(2) */
    AVAILABLE = 1 << 4, ENABLED = 1 << 5, /* the area's flags */
    NOT_SUPPORTED = 524,
};

/* struct rseq */
struct area {
    volatile uint32_t cpu_id_start, cpu_id;
    volatile uint64_t rseq_cs;
    volatile uint32_t flags, node_id, mm_cid;
    volatile uint8_t request, granted, reserved[2];
    char end[32];
} __attribute__((aligned(64)));

static struct area *own;
/* With the other process on this CPU: how far it has come. */
static volatile uint64_t *progress;

static int slice(int what, long flags)
{
    return prctl(SLICE_EXTENSION, what, flags, 0, 0) < 0 ? -errno : 0;
}

static int changed_flags(void)
{
    own->flags = 0;
    slice(SET, 0);
    return 0;
}

static void settings(void)
{
    check(slice(SET, ENABLE) == -ENXIO, "enabled without an area", "%d", slice(SET, ENABLE));
    rseq(own, 32, DEFAULT_ON, SIGNATURE);
    check(slice(SET, ENABLE) == -NOT_SUPPORTED && !own->flags, "with an area of the original size", "%d, flags %#x",
          slice(SET, ENABLE), own->flags);
    rseq(own, 32, 1, SIGNATURE);

    int result = rseq(own, LENGTH, DEFAULT_ON, SIGNATURE);
    check(!result && own->flags == (AVAILABLE | ENABLED) && prctl(SLICE_EXTENSION, GET, 0, 0, 0) == ENABLE, "on from the beginning",
          "%d, flags %#x", result, own->flags);
    rseq(own, LENGTH, 1, SIGNATURE);
    check(rseq(own, LENGTH, DEFAULT_ON | 4, SIGNATURE) < 0 && errno == EINVAL, "an unknown flag", "errno %d", errno);

    result = rseq(own, LENGTH, 0, SIGNATURE);
    check(!result && own->flags == AVAILABLE && prctl(SLICE_EXTENSION, GET, 0, 0, 0) == 0, "available", "%d, flags %#x", result, own->flags);
    check(slice(GET, 1) == -EINVAL && slice(SET, 2) == -EINVAL && slice(0, 0) == -EINVAL && slice(3, 0) == -EINVAL &&
              prctl(SLICE_EXTENSION, GET, 0, 1, 0) < 0 && prctl(SLICE_EXTENSION, GET, 0, 0, 1) < 0,
          "what is refused", "something is not");
    check(slice(SET, 0) == 0 && slice(SET, ENABLE) == 0 && own->flags == (AVAILABLE | ENABLED) && slice(SET, ENABLE) == 0 &&
              prctl(SLICE_EXTENSION, GET, 0, 0, 0) == ENABLE,
          "enabled", "flags %#x", own->flags);
    check(slice(SET, 0) == 0 && own->flags == AVAILABLE && prctl(SLICE_EXTENSION, GET, 0, 0, 0) == 0, "and disabled", "flags %#x",
          own->flags);
    slice(SET, ENABLE);
    int status = in_child(changed_flags);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "the program has changed the flags", "status %#x", status);
    check(syscall(RSEQ_SLICE_YIELD) == 0, "there is no extension to end", "there is");
}

/* Asks until it is granted, or for a minute. */
static int get_granted(void)
{
    for (uint64_t end = microseconds() + HANG_US; microseconds() < end;) {
        own->request = 1;
        for (int i = 0; i < 10000 && own->request; i++)
            ;
        if (own->granted)
            return 1;
        own->request = 0;
    }
    return 0;
}

enum { ROUNDS = 20 };

/* On a busy machine an extension is often over before the program goes on. Then there is another try, for a minute; with a steady
 * clock there are twice as many tries as rounds.
 */
static int another(int seen, int tries, uint64_t end)
{
    return seen < ROUNDS && (steady_clock() ? tries < 2 * ROUNDS : microseconds() < end);
}

static void yielded(void)
{
    int granted = 0, yields = 0, scheduled = 0, cleared = 0, tries = 0;
    for (uint64_t end = microseconds() + HANG_US; another(yields, tries, end); tries++) {
        granted += get_granted();
        uint64_t before = *progress;
        int result = syscall(RSEQ_SLICE_YIELD);
        yields += result == 1;
        scheduled += result == 1 && *progress != before;
        cleared += !own->granted && !own->request;
    }
    check(granted == tries && yields == ROUNDS, "an extension is granted, and ended by rseq_slice_yield", "%d granted, %d ended of %d",
          granted, yields, tries);
    check(scheduled > yields / 2 && cleared == tries, "which lets the others run, and clears the area", "%d of %d, %d of %d", scheduled,
          yields, cleared, tries);
    check(syscall(RSEQ_SLICE_YIELD) == 0, "once", "again");
}

static void other_call(void)
{
    int scheduled = 0, cleared = 0, yields = 0, tries = 0;
    for (uint64_t end = microseconds() + HANG_US; another(scheduled, tries, end); tries++) {
        get_granted();
        uint64_t before = *progress;
        int parent = syscall(SYS_getppid) == getppid();
        scheduled += parent && *progress != before;
        cleared += !own->granted && !own->request;
        yields += syscall(RSEQ_SLICE_YIELD) != 0;
    }
    check(scheduled == ROUNDS && cleared == tries && !yields, "any other call ends it, too, but is no yield",
          "%d scheduled, %d cleared, %d yields of %d", scheduled, cleared, yields, tries);
}

static void expired(void)
{
    int ended = 0, scheduled = 0, yields = 0, tries = 0;
    for (uint64_t last = microseconds() + HANG_US; another(scheduled, tries, last); tries++) {
        get_granted();
        uint64_t before = *progress, end = microseconds() + HANG_US;
        while (own->granted && microseconds() < end)
            ;
        ended += !own->granted;
        scheduled += *progress != before;
        yields += syscall(RSEQ_SLICE_YIELD) != 0;
    }
    check(ended == tries && scheduled == ROUNDS && !yields, "it ends by itself", "%d ended, %d scheduled, %d yields of %d", ended,
          scheduled, yields, tries);
    uint64_t longest = 0;
    for (int round = 0; round < ROUNDS; round++) {
        get_granted();
        uint64_t start = microseconds(), now = start, last = start;
        while (own->granted)
            last = now, now = microseconds();
        longest = last - start > longest ? last - start : longest;
    }
    check(longest < 1000 || !steady_clock(), "after a moment", "%llu us", (unsigned long long)longest);
}

static void disabled(void)
{
    int granted = 0, cleared = 0;
    slice(SET, 0);
    for (int round = 0; round < ROUNDS; round++) {
        own->request = 1;
        uint64_t before = *progress;
        while (*progress == before)
            granted += own->granted;
        cleared += !own->request;
    }
    slice(SET, ENABLE);
    check(!granted && cleared == ROUNDS, "disabled there is none, and a switch clears the request", "%d granted, %d of %d cleared",
          granted, cleared, ROUNDS);
}

static volatile int in_handler_granted, in_handler_cleared, handlers;

static void on_alarm(int signal)
{
    (void)signal;
    handlers++;
    in_handler_granted += own->granted;
    in_handler_cleared += !own->request && !own->granted;
}

static void plus(struct timespec *time, long nanoseconds)
{
    time->tv_nsec += nanoseconds;
    if (time->tv_nsec >= 1000000000)
        time->tv_sec++, time->tv_nsec -= 1000000000;
}

/* A signal and the end of a slice at once: the timer that sends the one wakes a sleeper that takes the CPU. */
static void with_signal(void)
{
    enum { TRIES = 100 };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
    timer_t timer;
    signal(SIGALRM, on_alarm);
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    struct timespec *at = (struct timespec *)(progress + 8);
    volatile uint64_t *turn = progress + 16, *woken = progress + 24;
    pid_t sleeper = fork();
    if (sleeper == 0)
        for (uint64_t seen = 0;; (*woken)++) {
            while (*turn == seen)
                usleep(100);
            seen = *turn;
            struct timespec when = *at;
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
        }
    for (int i = 0; i < TRIES; i++) {
        struct itimerspec once = { 0 };
        int before = handlers;
        uint64_t slept = *woken;
        clock_gettime(CLOCK_MONOTONIC, at);
        plus(at, 3000000);
        once.it_value = *at;
        (*turn)++;
        timer_settime(timer, TIMER_ABSTIME, &once, NULL);
        while (handlers == before) {
            own->request = 1;
            for (int n = 0; n < 1000 && handlers == before && own->request; n++)
                ;
        }
        wait_until(*woken != slept);
    }
    kill(sleeper, SIGKILL);
    waitpid(sleeper, NULL, 0);
    timer_delete(timer);
    /* It may have been granted just before: often with several CPUs, where another than this one may run the timers. */
    int few = in_handler_granted < handlers / 4 || !steady_clock() || sysconf(_SC_NPROCESSORS_ONLN) > 1;
    check(few && in_handler_cleared, "not when a signal is pending as well", "in %d handlers %d granted, %d refused",
          handlers, in_handler_granted, in_handler_cleared);
}

static int inherited(void)
{
    return own->flags == (AVAILABLE | ENABLED) && prctl(SLICE_EXTENSION, GET, 0, 0, 0) == ENABLE;
}

int main(void)
{
    own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (access("/dev/hooks", F_OK) && prctl(SLICE_EXTENSION, GET, 0, 0, 0) < 0) {
        skip("extensions of the slice", "the kernel has none (Linux before 7.0)");
        return done();
    }
    unregister_the_librarys();
    pin(0);
    settings();
    int status = in_child(inherited);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 1, "a child has it enabled, too", "status %#x", status);
    pid_t other = fork();
    if (other == 0)
        for (;;)
            ++*progress;
    yielded();
    other_call();
    expired();
    disabled();
    with_signal();
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    check_violations("Rseq");
    check_violations("SliceExtension");
    return done();
}
