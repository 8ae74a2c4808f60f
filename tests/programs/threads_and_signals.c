/* An ordinary program with threads and signals, to be built static with glibc and with musl: the two C libraries use
 * clone, futex, TLS, set_tid_address, cancellation and timers each in their own way. Prints the same on every system.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 6, ITEMS = 2000 };

static int failed;

static void expect(const char *what, long got, long wanted)
{
    printf("%-36s %ld%s\n", what, got, got == wanted ? "" : " (WRONG)");
    failed += got != wanted;
    fflush(stdout);
}

/* A bounded queue between producers and consumers. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t not_empty, not_full;
    int items[16], head, count, closed;
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER, .not_empty = PTHREAD_COND_INITIALIZER, .not_full = PTHREAD_COND_INITIALIZER };

static void *produce(void *argument)
{
    for (int i = 0; i < ITEMS; i++) {
        pthread_mutex_lock(&queue.lock);
        while (queue.count == 16)
            pthread_cond_wait(&queue.not_full, &queue.lock);
        queue.items[(queue.head + queue.count++) % 16] = i;
        pthread_cond_signal(&queue.not_empty);
        pthread_mutex_unlock(&queue.lock);
    }
    return argument;
}

static void *consume(void *argument)
{
    long sum = 0;
    (void)argument;
    for (;;) {
        pthread_mutex_lock(&queue.lock);
        while (!queue.count && !queue.closed)
            pthread_cond_wait(&queue.not_empty, &queue.lock);
        if (!queue.count) {
            pthread_mutex_unlock(&queue.lock);
            return (void *)sum;
        }
        sum += queue.items[queue.head];
        queue.head = (queue.head + 1) % 16;
        queue.count--;
        pthread_cond_signal(&queue.not_full);
        pthread_mutex_unlock(&queue.lock);
    }
}

static void producers_and_consumers(void)
{
    pthread_t producers[3], consumers[3];
    long sum = 0;
    for (int i = 0; i < 3; i++) {
        pthread_create(&producers[i], NULL, produce, NULL);
        pthread_create(&consumers[i], NULL, consume, NULL);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(producers[i], NULL);
    pthread_mutex_lock(&queue.lock);
    queue.closed = 1;
    pthread_cond_broadcast(&queue.not_empty);
    pthread_mutex_unlock(&queue.lock);
    for (int i = 0; i < 3; i++) {
        void *part;
        pthread_join(consumers[i], &part);
        sum += (long)part;
    }
    expect("sum through the queue", sum, 3l * ITEMS * (ITEMS - 1) / 2);
}

static pthread_barrier_t barrier;
static pthread_rwlock_t shared_lock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static atomic_int serial, initialised, destroyed, torn;
static long pair[2];
static __thread long own = 5;

static void initialise(void) { initialised++; }
static void destroy(void *value) { destroyed += (int)(long)value; }

static void *primitives_body(void *argument)
{
    long number = (long)argument;
    pthread_once(&once, initialise);
    pthread_setspecific(key, (void *)(number + 1));
    own += number;
    for (int i = 0; i < 50; i++) {
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
            serial++;
        if (number == i % THREADS) {
            pthread_rwlock_wrlock(&shared_lock);
            pair[0]++;
            pair[1]++;
            pthread_rwlock_unlock(&shared_lock);
        } else {
            pthread_rwlock_rdlock(&shared_lock);
            torn += pair[0] != pair[1];
            pthread_rwlock_unlock(&shared_lock);
        }
    }
    return (void *)own;
}

static void primitives(void)
{
    pthread_t threads[THREADS];
    long sum = 0;
    pthread_barrier_init(&barrier, NULL, THREADS);
    pthread_key_create(&key, destroy);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, primitives_body, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        void *value;
        pthread_join(threads[i], &value);
        sum += (long)value;
    }
    expect("barrier rounds", serial, 50);
    expect("initialised once", initialised, 1);
    expect("key destructors", destroyed, THREADS * (THREADS + 1) / 2);
    expect("thread-local sum", sum, THREADS * 5 + THREADS * (THREADS - 1) / 2);
    expect("own thread-local", own, 5);
    expect("torn reads under the lock", torn, 0);
    expect("writes under the lock", pair[0], 50);
}

static atomic_int cleaned, reached;
static sem_t started;

static void cleanup(void *argument) { cleaned += (int)(long)argument; }

static void *sleeps(void *argument)
{
    pthread_cleanup_push(cleanup, argument);
    sem_post(&started);
    sleep(300);
    reached++;
    pthread_cleanup_pop(0);
    return NULL;
}

static void *waits(void *argument)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    pthread_mutex_lock(&lock);
    pthread_cleanup_push(cleanup, argument);
    sem_post(&started);
    for (;;)
        pthread_cond_wait(&never, &lock);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *spins(void *argument)
{
    int old;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    pthread_cleanup_push(cleanup, argument);
    sem_post(&started);
    for (;;)
        ;
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancellation(void)
{
    static void *(*const bodies[])(void *) = { sleeps, waits, spins };
    int cancelled = 0;
    sem_init(&started, 0, 0);
    for (long i = 0; i < 3; i++) {
        pthread_t thread;
        void *value;
        pthread_create(&thread, NULL, bodies[i], (void *)(i + 1));
        sem_wait(&started);
        pthread_cancel(thread);
        pthread_join(thread, &value);
        cancelled += value == PTHREAD_CANCELED;
    }
    expect("cancelled: asleep, waiting, spinning", cancelled, 3);
    expect("cleanup handlers", cleaned, 6);
    expect("went on after cancellation", reached, 0);
}

static atomic_int by_kill, by_wait;

static void on_usr1(int signal) { (void)signal; by_kill++; }

static void *takes_signals(void *argument)
{
    sigset_t set;
    int signal;
    (void)argument;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGTERM);
    while (sigwait(&set, &signal) == 0 && signal != SIGTERM)
        by_wait++;
    return NULL;
}

static void *spins_until(void *flag)
{
    while (!*(atomic_int *)flag)
        ;
    return NULL;
}

static void signals(void)
{
    struct sigaction action = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };
    pthread_t waiter, spinner;
    atomic_int stop = 0;
    sigset_t set;
    sigaction(SIGUSR1, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pthread_create(&waiter, NULL, takes_signals, NULL);
    pthread_create(&spinner, NULL, spins_until, &stop);
    for (int i = 0; i < 100; i++) {
        int before = by_kill;
        pthread_kill(spinner, SIGUSR1);
        while (by_kill == before)
            sched_yield();
        before = by_wait;
        kill(getpid(), SIGUSR2);
        while (by_wait == before)
            sched_yield();
    }
    stop = 1;
    kill(getpid(), SIGTERM);
    pthread_join(waiter, NULL);
    pthread_join(spinner, NULL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    expect("signals to a spinning thread", by_kill, 100);
    expect("signals by sigwait", by_wait, 100);
}

static atomic_int ticks, notified;

static void on_alarm(int signal) { (void)signal; ticks++; }
static void on_expiry(union sigval value) { notified += value.sival_int; }

static void timers(void)
{
    struct itimerval interval = { { 0, 5000 }, { 0, 5000 } }, off = { { 0, 0 }, { 0, 0 } };
    struct itimerspec soon = { { 0, 0 }, { 0, 5000000 } };
    struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_value = { .sival_int = 3 } };
    timer_t timer;
    event.sigev_notify_function = on_expiry;
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &interval, NULL);
    while (ticks < 5)
        pause();
    setitimer(ITIMER_REAL, &off, NULL);
    expect("interval timer", ticks >= 5, 1);
    if (timer_create(CLOCK_REALTIME, &event, &timer) == 0) {
        timer_settime(timer, 0, &soon, NULL);
        while (!notified)
            usleep(1000);
        timer_delete(timer);
    }
    expect("timer that starts a thread", notified, 3);

    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t never = PTHREAD_COND_INITIALIZER;
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_nsec += 10000000;
    limit.tv_sec += limit.tv_nsec / 1000000000;
    limit.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    expect("timed wait", pthread_cond_timedwait(&never, &lock, &limit), ETIMEDOUT);
    pthread_mutex_unlock(&lock);
}

static sigjmp_buf recovery;
static void on_fault(int signal) { siglongjmp(recovery, signal); }

static void *faults(void *argument)
{
    static __thread volatile int recovered;
    (void)argument;
    return (void *)(long)++recovered;
}

static void faults_and_children(void)
{
    volatile int recovered = 0;
    signal(SIGSEGV, on_fault);
    signal(SIGFPE, on_fault);
    for (volatile int i = 0; i < 20; i++)
        if (sigsetjmp(recovery, 1) == 0) {
            if (i % 2)
                *(volatile int *)(long)i = 0;
            else
                recovered += 100 / (i - i);
        } else {
            recovered++;
        }
    expect("recovered from faults", recovered, 20);

    int right = 0;
    for (int i = 0; i < 10; i++) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) {
            pthread_t thread;
            void *value;
            pthread_create(&thread, NULL, faults, NULL);
            pthread_join(thread, &value);
            _exit((int)(long)value + i);
        }
        waitpid(child, &status, 0);
        right += WIFEXITED(status) && WEXITSTATUS(status) == 1 + i;
    }
    expect("children with threads", right, 10);
}

static void *allocates(void *argument)
{
    unsigned state = (unsigned)(long)argument * 2654435761u + 1;
    char *blocks[64] = { 0 };
    long bad = 0;
    for (int i = 0; i < 4000; i++) {
        state = state * 1103515245 + 12345;
        int slot = state >> 16 & 63;
        if (blocks[slot]) {
            bad += blocks[slot][0] != (char)slot;
            free(blocks[slot]);
        }
        blocks[slot] = malloc(16 + (state >> 8) % 5000);
        blocks[slot][0] = (char)slot;
    }
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
    return (void *)bad;
}

static void allocation(void)
{
    pthread_t threads[THREADS];
    long bad = 0;
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, allocates, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        void *value;
        pthread_join(threads[i], &value);
        bad += (long)value;
    }
    expect("blocks overwritten", bad, 0);
    int created = 0;
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        void *value;
        if (pthread_create(&thread, NULL, faults, NULL) == 0 && pthread_join(thread, &value) == 0)
            created += (long)value == 1;
    }
    expect("threads in a row", created, 200);
}

int main(void)
{
    producers_and_consumers();
    primitives();
    cancellation();
    signals();
    timers();
    faults_and_children();
    allocation();
    puts(failed ? "failed" : "end");
    return failed != 0;
}
