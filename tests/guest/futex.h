/* Calls on futexes, and waiting until somebody waits. */
#ifndef FUTEX_H
#define FUTEX_H

#include "check.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

/* futex(2); the error is negative. `timeout` may be a count. */
static long futex(volatile void *word, int operation, uint32_t value, const void *timeout, volatile void *second,
                  uint32_t third)
{
    long result = syscall(SYS_futex, word, operation, value, timeout, second, third);
    return result < 0 ? -errno : result;
}

#define COUNT(n) ((void *)(long)(n))

static void expect(long found, long right, const char *name)
{
    check(found == right, name, "%ld instead of %ld", found, right);
}

/* How many tasks wait for a wake-up: "requeue" to the same word counts and changes nothing. */
__attribute__((unused)) static long waiters(volatile void *word, int flag)
{
    return futex(word, FUTEX_REQUEUE | flag, 0, COUNT(1000), word, 0);
}

__attribute__((unused)) static void await_waiters(volatile void *word, int flag, long count)
{
    while (waiters(word, flag) != count)
        sched_yield();
}

/* Waits until somebody waits for the lock, or to be moved to one: plain wake-ups are refused then. */
__attribute__((unused)) static void await_lock_waiter(volatile void *word, int flag)
{
    while (futex(word, FUTEX_WAKE | flag, 1, NULL, NULL, 0) != -EINVAL)
        sched_yield();
}

/* An absolute time that has passed, or is `seconds` ahead. */
__attribute__((unused)) static struct timespec at(clockid_t clock, int seconds)
{
    struct timespec time;
    clock_gettime(clock, &time);
    time.tv_sec += seconds;
    return time;
}

__attribute__((unused)) static uint32_t own_tid(void)
{
    return syscall(SYS_gettid);
}

#endif
