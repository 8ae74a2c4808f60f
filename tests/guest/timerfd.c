// build: -pthread
/* timerfd: what is refused, one expiration and many, absolute times, clocks that are set, poll and epoll.
 */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#ifndef TFD_TIMER_CANCEL_ON_SET
#define TFD_TIMER_CANCEL_ON_SET 2
#endif
#define SECOND 1000000000ll

static int set(int fd, int flags, long long value, long long interval)
{
    struct itimerspec new = { { interval / SECOND, interval % SECOND }, { value / SECOND, value % SECOND } };
    return timerfd_settime(fd, flags, &new, NULL);
}

static long long now(int clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static int ready(int fd, int timeout)
{
    struct pollfd entry = { fd, POLLIN | POLLOUT, 0 };
    return poll(&entry, 1, timeout) < 0 ? -1 : entry.revents;
}

static void refused(void)
{
    uint64_t count;
    char small[7];
    check(fails_with(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL), "no CPU clocks", "%s", strerror(errno));
    check(fails_with(timerfd_create(CLOCK_MONOTONIC_RAW, 0), EINVAL), "no raw clock", "%s", strerror(errno));
    check(fails_with(timerfd_create(-1, 0), EINVAL), "clock -1", "%s", strerror(errno));
    check(fails_with(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL), "unknown flags", "%s", strerror(errno));
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    check(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE)) == (O_NONBLOCK | O_RDWR),
          "flags", "%#x", fcntl(fd, F_GETFL));
    check(fails_with(read(fd, &count, 8), EAGAIN), "not armed: EAGAIN", "%s", strerror(errno));
    check(fails_with(read(fd, small, 7), EINVAL), "a short buffer", "%s", strerror(errno));
    check(fails_with(write(fd, &count, 8), EINVAL), "nothing is written", "%s", strerror(errno));
    check(fails_with(set(fd, 4, SECOND, 0), EINVAL), "unknown flags of settime", "%s", strerror(errno));
    struct itimerspec setting = { { 0, 0 }, { 0, 1000000000 } };
    check(fails_with(timerfd_settime(fd, 0, &setting, NULL), EINVAL), "a value with a whole second of nanoseconds", "%s",
          strerror(errno));
    setting = (struct itimerspec){ { 0, -1 }, { 1, 0 } };
    check(fails_with(timerfd_settime(fd, 0, &setting, NULL), EINVAL), "a negative interval", "%s", strerror(errno));
    setting = (struct itimerspec){ { 0, 0 }, { -1, 0 } };
    check(fails_with(timerfd_settime(fd, 0, &setting, NULL), EINVAL), "a negative value", "%s", strerror(errno));
    check(fails_with(syscall(SYS_timerfd_settime, fd, 0, NULL, NULL), EFAULT), "no setting", "%s", strerror(errno));
    check(fails_with(syscall(SYS_timerfd_gettime, fd, (void *)8), EFAULT), "no place", "%s", strerror(errno));
    setting = (struct itimerspec){ { 0, 0 }, { 1, 0 } };
    check(fails_with(timerfd_settime(0, 0, &setting, NULL), EINVAL), "settime of another file", "%s", strerror(errno));
    check(fails_with(timerfd_gettime(0, &setting), EINVAL), "gettime of another file", "%s", strerror(errno));
    close(fd);
    check(fails_with(timerfd_settime(fd, 0, &setting, NULL), EBADF), "a closed descriptor", "%s", strerror(errno));
}

static void clocks(void)
{
    static const struct { int id; const char *name; } clocks[] = {
        { CLOCK_MONOTONIC, "monotonic" }, { CLOCK_REALTIME, "real time" }, { CLOCK_BOOTTIME, "boot time" },
    };
    char name[80];
    for (unsigned n = 0; n < 3; n++) {
        int fd = timerfd_create(clocks[n].id, 0);
        uint64_t count = 0;
        snprintf(name, sizeof name, "%s: one expiration", clocks[n].name);
        long long before = now(clocks[n].id);
        check(set(fd, 0, 2000000, 0) == 0 && read(fd, &count, 8) == 8 && count == 1 && now(clocks[n].id) - before >= 2000000,
              name, "count %d", (int)count);
        struct itimerspec setting;
        snprintf(name, sizeof name, "%s: then it is not armed", clocks[n].name);
        check(timerfd_gettime(fd, &setting) == 0 && !setting.it_value.tv_sec && !setting.it_value.tv_nsec, name, "%ld.%09ld",
              (long)setting.it_value.tv_sec, (long)setting.it_value.tv_nsec);
        before = now(clocks[n].id);
        snprintf(name, sizeof name, "%s: an absolute time", clocks[n].name);
        check(set(fd, TFD_TIMER_ABSTIME, before + 3000000, 0) == 0 && read(fd, &count, 8) == 8 && count == 1 &&
                  now(clocks[n].id) >= before + 3000000,
              name, "count %d", (int)count);
        /* All intervals since a time long ago count. */
        before = now(clocks[n].id);
        long long start = before > 100 * SECOND ? before - 100 * SECOND : 1, interval = (before - start) / 10;
        set(fd, TFD_TIMER_ABSTIME, start, interval);
        long long least = (now(clocks[n].id) - start) / interval + 1;
        snprintf(name, sizeof name, "%s: missed intervals", clocks[n].name);
        int got = read(fd, &count, 8);
        long long most = (now(clocks[n].id) - start) / interval + 1;
        check(got == 8 && (long long)count >= least && (long long)count <= most, name, "%lld, not %lld to %lld",
              (long long)count, least, most);
        set(fd, 0, 0, SECOND);
        snprintf(name, sizeof name, "%s: no value disarms", clocks[n].name);
        check(timerfd_gettime(fd, &setting) == 0 && !setting.it_value.tv_sec && !setting.it_value.tv_nsec &&
                  setting.it_interval.tv_sec == 1 && ready(fd, 0) == 0,
              name, "it is armed");
        close(fd);
    }
}

static void periods(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    uint64_t count = 0, sum = 0;
    long long start = now(CLOCK_MONOTONIC);
    set(fd, 0, 1000000, 1000000);
    int good = 1;
    while (sum < 20 && good) {
        good = read(fd, &count, 8) == 8 && count > 0;
        sum += count;
    }
    check(good && now(CLOCK_MONOTONIC) - start >= 20 * 1000000, "twenty intervals", "%d", (int)sum);
    struct itimerspec setting, old;
    check(timerfd_gettime(fd, &setting) == 0 && setting.it_interval.tv_nsec == 1000000 && setting.it_value.tv_nsec <= 1000000 &&
              (setting.it_value.tv_nsec > 0),
          "what is left of an interval", "%ld", (long)setting.it_value.tv_nsec);
    setting = (struct itimerspec){ { 50, 0 }, { 100, 0 } };
    check(timerfd_settime(fd, 0, &setting, &old) == 0 && old.it_interval.tv_nsec == 1000000 && old.it_value.tv_nsec <= 1000000,
          "the old setting", "%ld", (long)old.it_interval.tv_nsec);
    check(ready(fd, 0) == 0, "a new setting forgets old expirations", "%#x", ready(fd, 0));
    check(timerfd_gettime(fd, &setting) == 0 && setting.it_value.tv_sec <= 100 && setting.it_value.tv_sec >= 50 &&
              setting.it_interval.tv_sec == 50,
          "a far one", "%ld", (long)setting.it_value.tv_sec);
    char name[64], text[512] = "";
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
    int info = open(name, O_RDONLY);
    int length = read(info, text, sizeof text - 1);
    close(info);
    check(length > 0 && strstr(text, "clockid: 1\nticks: 0\nsettime flags: 00\nit_value: (") && strstr(text, "\nit_interval: (50, 0)\n"),
          "fdinfo", "%s", text);
    set(fd, 0, 1, 0);
    check(ready(fd, -1) == POLLIN, "poll wakes", "%#x", ready(fd, 0));
    check(ready(fd, 0) == POLLIN, "it stays ready until it is read", "%#x", ready(fd, 0));
    check(lseek(fd, 0, SEEK_SET) == 0, "seeking does nothing", "%s", strerror(errno));
    int copy = dup(fd);
    check(read(copy, &count, 8) == 8 && count == 1 && ready(fd, 0) == 0, "a duplicate is the same timer", "%d", (int)count);
    close(copy);
    struct itimerspec largest = { { 0, 0 }, { sizeof(time_t) == 8 ? 0x7fffffffffffffffll : 0x7fffffff, 999999999 } };
    check(timerfd_settime(fd, 0, &largest, NULL) == 0 && ready(fd, 0) == 0 && timerfd_gettime(fd, &setting) == 0 &&
              setting.it_value.tv_sec > 1000000000,
          "the longest", "%ld", (long)setting.it_value.tv_sec);
    close(fd);
}

static void with_epoll(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), epoll = epoll_create1(0), good = 1, rounds;
    struct epoll_event event = { EPOLLIN | EPOLLET, { .u64 = 3 } };
    uint64_t count = 0;
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 && epoll_wait(epoll, &event, 1, 0) == 0, "epoll: not ready", "ready");
    set(fd, 0, 1000, 1000);
    /* The next expiration may come before the set is looked at again. */
    for (rounds = 0; rounds < 50 && good; rounds++) {
        event.data.u64 = 0;
        good = epoll_wait(epoll, &event, 1, 30000) == 1 && event.data.u64 == 3 && event.events == EPOLLIN;
        good = good && read(fd, &count, 8) == 8 && count > 0;
    }
    check(good, "edge-triggered: each expiration that follows a read", "round %d", rounds);
    set(fd, TFD_TIMER_ABSTIME, 1, 0);
    int first = epoll_wait(epoll, &event, 1, 0), second = epoll_wait(epoll, &event, 1, 0);
    check(first == 1 && second == 0, "edge-triggered: once without a read", "%d, %d", first, second);
    close(fd), close(epoll);
}

static int shared;

static void *arm_later(void *argument)
{
    usleep(20000);
    set(shared, 0, 1, 0);
    return argument;
}

static void interrupted(int signo)
{
    (void)signo;
}

static pthread_t reader;
static volatile int reader_errno;

static void *blocked(void *argument)
{
    uint64_t count;
    reader_errno = read(shared, &count, 8) == -1 ? errno : 0;
    return argument;
}

static void sleeping(void)
{
    uint64_t count = 0;
    pthread_t thread;
    shared = timerfd_create(CLOCK_MONOTONIC, 0);
    pthread_create(&thread, NULL, arm_later, NULL);
    check(read(shared, &count, 8) == 8 && count == 1, "another thread arms it for who sleeps in read", "%d", (int)count);
    pthread_join(thread, NULL);
    pthread_create(&thread, NULL, arm_later, NULL);
    check(ready(shared, -1) == POLLIN, "and in poll", "%#x", ready(shared, 0));
    pthread_join(thread, NULL);
    if (read(shared, &count, 8) != 8)
        _exit(99);
    struct sigaction action = { .sa_handler = interrupted };
    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&reader, NULL, blocked, NULL);
    reader_errno = -1;
    for (int try = 0; try < 10000 && reader_errno == -1; try++) {
        pthread_kill(reader, SIGUSR1);
        usleep(1000);
    }
    pthread_join(reader, NULL);
    check(reader_errno == EINTR, "a signal ends the sleep", "%s", strerror(reader_errno));
    close(shared);
}

static void *turn_the_clock(void *argument)
{
    struct timespec time;
    usleep(20000);
    clock_gettime(CLOCK_REALTIME, &time);
    time.tv_sec += *(int *)argument;
    clock_settime(CLOCK_REALTIME, &time);
    return NULL;
}

/* Where the clock may be set. */
static void clock_changes(void)
{
    uint64_t count = 0;
    struct timespec time;
    pthread_t thread;
    int hour = 3600, back = -3600;
    clock_gettime(CLOCK_REALTIME, &time);
    if (access("/dev/gate", F_OK) || clock_settime(CLOCK_REALTIME, &time)) {
        skip("clocks that are set", "not in a machine of its own");
        return;
    }
    int fd = timerfd_create(CLOCK_REALTIME, 0), relative = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
    set(relative, 0, 1800 * SECOND, 0);
    set(fd, TFD_TIMER_ABSTIME, now(CLOCK_REALTIME) + 1800 * SECOND, 0);
    pthread_create(&thread, NULL, turn_the_clock, &hour);
    check(read(fd, &count, 8) == 8 && count == 1, "a clock that is set to after the time", "%s", strerror(errno));
    pthread_join(thread, NULL);
    check(ready(relative, 0) == 0, "what was relative is not affected", "%#x", ready(relative, 0));
    turn_the_clock(&back);
    set(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, now(CLOCK_REALTIME) + 1800 * SECOND, 0);
    set(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, now(CLOCK_REALTIME) + 1800 * SECOND, 0);
    check(ready(fd, 0) == 0, "TFD_TIMER_CANCEL_ON_SET: not ready", "%#x", ready(fd, 0));
    pthread_create(&thread, NULL, turn_the_clock, &back);
    check(ready(fd, -1) == POLLIN, "TFD_TIMER_CANCEL_ON_SET wakes", "%#x", ready(fd, 0));
    pthread_join(thread, NULL);
    check(fails_with(read(fd, &count, 8), ECANCELED), "and gives ECANCELED", "%s", strerror(errno));
    check(ready(fd, 0) == 0, "once", "%#x", ready(fd, 0));
    turn_the_clock(&hour);
    int result = set(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, now(CLOCK_REALTIME) + 1800 * SECOND, 0);
    check(fails_with(result, ECANCELED), "settime gives ECANCELED, too", "%s", strerror(errno));
    set(fd, TFD_TIMER_CANCEL_ON_SET, 1800 * SECOND, 0);
    turn_the_clock(&hour);
    check(ready(fd, 0) == 0, "a relative time is not canceled", "%#x", ready(fd, 0));
    turn_the_clock(&back);
    close(fd), close(relative);
}

#ifdef __i386__
/* The calls whose times are 64 bits wide. */
static void wide(void)
{
    struct { int64_t seconds; int32_t nanoseconds, padding; } new[2] = { { 0, 0, -1 }, { 1ll << 33, 5, -1 } }, old[2] = { { 0 } };
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    int result = syscall(411, fd, 0, new, old);
    check(result == 0, "timerfd_settime64", "%s", strerror(errno));
    result = syscall(410, fd, old);
    check(result == 0 && old[1].seconds > 1ll << 32 && old[1].seconds <= 1ll << 33, "timerfd_gettime64", "%lld",
          (long long)old[1].seconds);
    close(fd);
}
#endif

int main(void)
{
    refused();
    clocks();
    periods();
    with_epoll();
    sleeping();
    clock_changes();
#ifdef __i386__
    wide();
#endif
    return done();
}
