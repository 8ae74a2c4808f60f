/* Bug 37: a sleep begins although a signal is pending, and nobody ends it. The signal is there before the call, blocked until
 * the call unblocks it; or it comes at any moment on the way to sleep, from the timer of this CPU or from another thread.
 */
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>

/* How long a sleep may be overdue: nothing here waits for it but a kernel that has lost a signal. */
enum { LIMIT = 25 };

static volatile sig_atomic_t handled;
static int channel[2];
static sigset_t none_blocked, usr1;

static void count(int signal)
{
    handled += signal == SIGUSR1 || signal == SIGALRM;
}

static int by_sigsuspend(void) { return sigsuspend(&none_blocked); }

static int by_ppoll(void)
{
    struct pollfd fd = { channel[0], POLLIN, 0 };
    return ppoll(&fd, 1, NULL, &none_blocked);
}

static int by_pselect(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(channel[0], &set);
    return pselect(channel[0] + 1, &set, NULL, NULL, NULL, &none_blocked);
}

static int by_epoll(void)
{
    struct epoll_event event = { .events = EPOLLIN };
    int fd = epoll_create1(0);
    epoll_ctl(fd, EPOLL_CTL_ADD, channel[0], &event);
    int result = epoll_pwait(fd, &event, 1, -1, &none_blocked), error = errno;
    close(fd);
    errno = error;
    return result;
}

static int by_read(void)
{
    char byte;
    return read(channel[0], &byte, 1);
}

static int by_nanosleep(void)
{
    struct timespec long_time = { 1000, 0 };
    return nanosleep(&long_time, NULL);
}

static int by_pause(void) { return pause(); }

/* A sleep that is never ended is SIGALRM's default action's, in a child. */
static int (*sleeps)(void);

static int with_one_pending(void)
{
    for (int round = 0; round < 20; round++) {
        signal(SIGALRM, SIG_DFL);
        alarm(LIMIT);
        sigprocmask(SIG_BLOCK, &usr1, NULL);
        handled = 0;
        raise(SIGUSR1);
        if (handled || sleeps() != -1 || errno != EINTR || handled != 1)
            return 1;
    }
    return 0;
}

/* The timer's signal comes at each moment from long before the sleep to long after it has begun; what comes too early for
 * this attempt is made good by the timer's next one.
 */
static int while_the_timer_comes(void)
{
    for (int delay = 1; delay < 400; delay += 3) {
        struct itimerval timer = { { 0, 2000 }, { 0, delay } }, off = { 0 };
        handled = 0;
        setitimer(ITIMER_REAL, &timer, NULL);
        if (sleeps() != -1 || errno != EINTR)
            return 1;
        setitimer(ITIMER_REAL, &off, NULL);
        if (!handled)
            return 2;
    }
    return 0;
}

static volatile int round_begun, round_done, sleeper_tid;
static const int rounds = 1000;

static void *sender(void *unused)
{
    unsigned random = 12345;
    for (int round = 1; round <= rounds; round++) {
        while (round_begun != round)
            sched_yield();
        random = random * 1103515245 + 12345;
        for (volatile unsigned spin = random >> 16 & 1023; spin; spin--)
            ;
        syscall(SYS_tgkill, getpid(), sleeper_tid, SIGUSR1);
        while (round_done != round)
            sched_yield();
    }
    return unused;
}

/* The other thread's signal is blocked until the sleep unblocks it, so that it always finds one to end. */
static int while_a_thread_sends(void)
{
    pthread_t thread;
    signal(SIGALRM, SIG_DFL);
    alarm(4 * LIMIT);
    sleeper_tid = gettid();
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    if (pthread_create(&thread, NULL, sender, NULL))
        return 3;
    for (int round = 1; round <= rounds; round++) {
        handled = 0;
        round_begun = round;
        if (sleeps() != -1 || errno != EINTR)
            return 1;
        if (handled != 1)
            return 2;
        round_done = round;
    }
    pthread_join(thread, NULL);
    return 0;
}

static void in_a_child(const char *sleep, const char *how, int (*body)(void), int (*sleep_function)(void))
{
    char name[64];
    sleeps = sleep_function;
    int status = in_child(body);
    snprintf(name, sizeof name, "%s, %s", sleep, how);
    check(status == 0, name, "status %#x%s", status, WIFSIGNALED(status) ? ": it slept on" : "");
}

int main(void)
{
    static const struct { const char *name; int (*sleep)(void); int unblocks; } list[] = {
        { "sigsuspend", by_sigsuspend, 1 }, { "ppoll", by_ppoll, 1 },   { "pselect", by_pselect, 1 },
        { "epoll_pwait", by_epoll, 1 },     { "read", by_read, 0 },     { "nanosleep", by_nanosleep, 0 },
        { "pause", by_pause, 0 },
    };
    struct sigaction action = { .sa_handler = count };
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    sigemptyset(&none_blocked);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    if (pipe(channel))
        return 1;
    for (unsigned i = 0; i < sizeof list / sizeof *list; i++) {
        if (list[i].unblocks) {
            in_a_child(list[i].name, "a signal is pending", with_one_pending, list[i].sleep);
            in_a_child(list[i].name, "a thread sends one", while_a_thread_sends, list[i].sleep);
        }
        in_a_child(list[i].name, "the timer's comes", while_the_timer_comes, list[i].sleep);
    }
    return done();
}
