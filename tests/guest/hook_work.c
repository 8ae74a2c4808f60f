/* resume_user_mode_work, and do_signal_or_restart for NOTIFY_SIGNAL: work that is queued for a thread is done by it on its way
 * to user mode, once; with NOTIFY_SIGNAL a sleep ends for it, and the call goes on as if nothing had been.
 */
#include "hooks.h"
#include <pthread.h>
#include <sched.h>

static volatile int thread_id, stop, phase;
static int channel[2];
static char received;
static ssize_t result;
static int error;

static void *spin(void *unused)
{
    thread_id = gettid();
    while (!stop)
        ;
    return unused;
}

static void *sleeps(void *unused)
{
    thread_id = gettid();
    phase = 1;
    result = read(channel[0], &received, 1);
    error = errno;
    phase = 2;
    return unused;
}

/* Waits until as much work was done. */
static int done_by(long wanted)
{
    wait_until(hooks_status("works") >= wanted);
    return hooks_status("works") == wanted;
}

int main(void)
{
    if (!has_hooks("task work"))
        return done();
    pthread_t thread;
    long works = hooks_status("works");

    control("/dev/hooks", "work %d", gettid());
    check(hooks_status("works") == works + 1, "work for oneself is done on the way out", "%ld", hooks_status("works") - works);

    pthread_create(&thread, NULL, spin, NULL);
    while (!thread_id)
        sched_yield();
    control("/dev/hooks", "work %d", thread_id);
    check(done_by(works + 2), "work for a thread that makes no system call", "%ld", hooks_status("works") - works);
    control("/dev/hooks", "work-now %d", thread_id);
    check(done_by(works + 3), "the same at once", "%ld", hooks_status("works") - works);
    stop = 1;
    pthread_join(thread, NULL);

    if (pipe(channel))
        return 1;
    thread_id = 0;
    pthread_create(&thread, NULL, sleeps, NULL);
    check(wait_until(phase == 1 && is_asleep(getpid(), thread_id)), "a thread sleeps in read", "phase %d", phase);
    control("/dev/hooks", "work %d", thread_id);
    for (int round = 0; round < 200; round++)
        sched_yield();
    check(hooks_status("works") == works + 3, "work alone does not end a sleep", "%ld", hooks_status("works") - works);
    control("/dev/hooks", "work-now %d", thread_id);
    check(done_by(works + 5), "NOTIFY_SIGNAL does, for both", "%ld", hooks_status("works") - works);
    check(phase == 1, "the read goes on", "it has ended with %zd, %d", result, error);
    if (write(channel[1], "x", 1) != 1)
        return 1;
    pthread_join(thread, NULL);
    check(result == 1 && received == 'x', "and gets its byte", "%zd, error %d", result, error);
    check(hooks_status("works") == works + 5, "each piece of work once", "%ld", hooks_status("works") - works);
    check_violations("QueuedWork");
    return done();
}
