/* Locks whose owner the kernel knows: FUTEX_LOCK_PI and its kin, requeuing to such locks, owners that end; the mutexes of the
 * C library that use them.
 */
// build: -pthread
#include "futex.h"

static volatile uint32_t word, other, condition;

static long lock(volatile uint32_t *which)
{
    return futex(which, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0);
}

static long unlock(volatile uint32_t *which)
{
    return futex(which, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
}

/* A TID that nobody has, and that of a process that does nothing. */
enum { NOBODY = 0x3ffffffe };
static uint32_t another;

static void alone(void)
{
    uint32_t me = own_tid();
    struct timespec past = { 0, 1 };
    word = 0;
    expect(lock(&word), 0, "a free lock");
    expect(word, me, "a free lock: the word");
    expect(lock(&word), -EDEADLK, "one's own lock");
    expect(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), -EDEADLK, "one's own lock, tried");
    expect(unlock(&word), 0, "unlock");
    expect(word, 0, "unlock: the word");
    expect(unlock(&word), -EPERM, "unlock what is free");
    expect(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0, "a free lock, tried");
    word |= FUTEX_WAITERS | FUTEX_OWNER_DIED;
    expect(unlock(&word), 0, "unlock with bits that nobody needs");
    expect(word, 0, "unlock with bits: the word");
    word = FUTEX_OWNER_DIED | FUTEX_WAITERS;
    expect(lock(&word), 0, "a lock whose owner has died");
    expect(word, FUTEX_OWNER_DIED | me, "a lock whose owner has died: the word");
    word = NOBODY;
    expect(lock(&word), -ESRCH, "nobody's lock");
    expect(word, NOBODY | FUTEX_WAITERS, "nobody's lock: the word");
    expect(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), -ESRCH, "nobody's lock, tried");
    expect(unlock(&word), -EPERM, "unlock nobody's lock");
    /* Without FUTEX_PRIVATE_FLAG: Linux of today refuses owners in other processes otherwise. */
    word = another;
    expect(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), -EAGAIN, "another's lock, tried");
    expect(word, another | FUTEX_WAITERS, "another's lock, tried: the word");
    word = another;
    expect(futex(&word, FUTEX_LOCK_PI, 0, &past, NULL, 0), -ETIMEDOUT, "another's lock until 1970");
    expect(word, another | FUTEX_WAITERS, "another's lock: the word");
    if (futex(&word, FUTEX_LOCK_PI2, 0, &past, NULL, 0) == -ENOSYS) {
        skip("FUTEX_LOCK_PI2", "an older kernel");
    } else {
        expect(futex(&word, FUTEX_LOCK_PI2, 0, &past, NULL, 0), -ETIMEDOUT, "FUTEX_LOCK_PI2");
        expect(futex(&word, FUTEX_LOCK_PI2 | FUTEX_CLOCK_REALTIME, 0, &past, NULL, 0), -ETIMEDOUT,
               "FUTEX_LOCK_PI2 with FUTEX_CLOCK_REALTIME");
    }
    word = 0;
}

static volatile uint32_t order[8];
static volatile int orders;

struct locker {
    pthread_t thread;
    volatile uint32_t tid;
    long result;
    uint32_t value;
    int keep;
};

static void *lock_and_unlock(void *argument)
{
    struct locker *locker = argument;
    locker->tid = own_tid();
    locker->result = lock(&word);
    locker->value = word;
    order[orders++ % 8] = locker->tid;
    if (!locker->keep)
        unlock(&word);
    return NULL;
}

static void start(struct locker *locker, void *(*body)(void *))
{
    locker->tid = 0;
    locker->result = -1;
    pthread_create(&locker->thread, NULL, body, locker);
    while (!locker->tid)
        sched_yield();
}

/* Sleeps in the kernel: the state in /proc. */
static void await_sleep(uint32_t tid)
{
    char path[40], text[200];
    snprintf(path, sizeof path, "/proc/self/task/%u/stat", tid);
    for (;;) {
        FILE *file = fopen(path, "r");
        size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
        if (file)
            fclose(file);
        text[length] = 0;
        char *state = strrchr(text, ')');
        if (state && state[2] == 'S')
            return;
        sched_yield();
    }
}

static void handed_over(void)
{
    struct locker lockers[3] = { 0 };
    word = orders = 0;
    lock(&word);
    for (int i = 0; i < 3; i++) {
        start(&lockers[i], lock_and_unlock);
        await_lock_waiter(&word, FUTEX_PRIVATE_FLAG);
        await_sleep(lockers[i].tid);
    }
    expect(word, own_tid() | FUTEX_WAITERS, "while others wait: the word");
    expect(futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), -EINVAL, "waiters of a lock are not woken");
    expect(futex(&word, FUTEX_REQUEUE_PRIVATE, 1, COUNT(1), &other, 0), -EINVAL, "waiters of a lock are not moved");
    expect(futex(&other, FUTEX_WAKE_OP_PRIVATE, 1, COUNT(1), &word, FUTEX_OP_ADD << 28 | FUTEX_OP_CMP_NE << 24), -EINVAL,
           "waiters of a lock are not woken by FUTEX_WAKE_OP");
    word = NOBODY | FUTEX_WAITERS;
    expect(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), -EINVAL, "a word that names another than the owner");
    word = own_tid() | FUTEX_WAITERS;
    expect(unlock(&word), 0, "unlock while others wait");
    for (int i = 0; i < 3; i++)
        pthread_join(lockers[i].thread, NULL);
    check(order[0] == lockers[0].tid && order[1] == lockers[1].tid && order[2] == lockers[2].tid,
          "the lock goes from one to the next", "%u %u %u", order[0], order[1], order[2]);
    for (int i = 0; i < 3; i++)
        check(lockers[i].result == 0 && lockers[i].value == (lockers[i].tid | FUTEX_WAITERS), "the new owner's word",
              "%ld, %#x", lockers[i].result, lockers[i].value);
    expect(word, 0, "after the last: the word");
}

static void *plain_wait(void *argument)
{
    futex(argument, FUTEX_WAIT_PRIVATE, *(uint32_t *)argument, NULL, NULL, 0);
    return NULL;
}

static void mixed_up(void)
{
    pthread_t thread;
    word = another;
    pthread_create(&thread, NULL, plain_wait, (void *)&word);
    await_waiters(&word, FUTEX_PRIVATE_FLAG, 1);
    expect(lock(&word), -EINVAL, "a lock that somebody waits for as for a plain word");
    word = own_tid();
    expect(unlock(&word), -EINVAL, "unlock what somebody waits for as for a plain word");
    futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    pthread_join(thread, NULL);
    word = 0;
}

static void *lock_both(void *argument)
{
    struct locker *locker = argument;
    lock(&other);
    locker->tid = own_tid();
    locker->result = lock(&word);
    unlock(&word);
    unlock(&other);
    return NULL;
}

static void cycle(void)
{
    struct locker locker = { 0 };
    word = other = 0;
    lock(&word);
    start(&locker, lock_both);
    await_lock_waiter(&word, FUTEX_PRIVATE_FLAG);
    expect(lock(&other), -EDEADLK, "a lock whose owner waits for the caller");
    unlock(&word);
    pthread_join(locker.thread, NULL);
    expect(locker.result, 0, "the other one goes on");
}

static void on_signal(int signal)
{
    (void)signal;
    other++;
}

static void interrupted(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    struct locker locker = { 0 };
    sigaction(SIGUSR1, &action, NULL);
    word = other = 0;
    lock(&word);
    start(&locker, lock_and_unlock);
    await_lock_waiter(&word, FUTEX_PRIVATE_FLAG);
    pthread_kill(locker.thread, SIGUSR1);
    while (!other)
        sched_yield();
    await_lock_waiter(&word, FUTEX_PRIVATE_FLAG);
    unlock(&word);
    pthread_join(locker.thread, NULL);
    expect(locker.result, 0, "a signal does not end the wait for a lock");
}

static volatile int go;

static void *lock_and_end(void *argument)
{
    struct locker *locker = argument;
    lock(&word);
    locker->tid = own_tid();
    while (!go)
        sched_yield();
    if (locker->keep) {
        /* A robust list with the one lock, marked as one with an owner; ended without the C library, which has its own. */
        static struct {
            struct robust_list_head head;
            struct robust_list entry;
        } list;
        list.head.list.next = (void *)((char *)&list.entry + 1);
        list.entry.next = &list.head.list;
        list.head.futex_offset = (char *)&word - (char *)&list.entry;
        syscall(SYS_set_robust_list, &list.head, sizeof list.head);
    }
    return NULL;
}

static void owner_ends(int robust)
{
    struct locker owner = { .keep = robust }, waiter = { .keep = 1 }, second = { .keep = 0 };
    word = go = 0;
    start(&owner, lock_and_end);
    start(&waiter, lock_and_unlock);
    await_lock_waiter(&word, FUTEX_PRIVATE_FLAG);
    await_sleep(waiter.tid);
    start(&second, lock_and_unlock);
    await_sleep(second.tid);
    go = 1;
    pthread_join(owner.thread, NULL);
    pthread_join(waiter.thread, NULL);
    pthread_join(second.thread, NULL);
    check(waiter.result == 0 && waiter.value == (waiter.tid | FUTEX_WAITERS | FUTEX_OWNER_DIED),
          robust ? "the owner ends, with a robust list" : "the owner ends", "%ld, %#x, tid %#x", waiter.result, waiter.value,
          waiter.tid);
    /* The waiter ended in turn, without a list. */
    check(second.result == 0 && second.value == (second.tid | FUTEX_WAITERS | FUTEX_OWNER_DIED),
          "its heir ends, too", "%ld, %#x, tid %#x", second.result, second.value, second.tid);
    word = 0;
}

static void owner_ended(void)
{
    struct locker owner = { .keep = 0 };
    word = 0;
    go = 1;
    start(&owner, lock_and_end);
    pthread_join(owner.thread, NULL);
    expect(word, owner.tid, "an owner that nobody waits for ends: the word");
    expect(lock(&word), -ESRCH, "its lock is nobody's");
    owner.keep = 1;
    word = 0;
    start(&owner, lock_and_end);
    pthread_join(owner.thread, NULL);
    expect(word, FUTEX_OWNER_DIED, "with a robust list: the word");
    expect(lock(&word), 0, "its lock can be had");
    expect(word, FUTEX_OWNER_DIED | own_tid(), "its lock can be had: the word");
    word = 0;
}

static volatile uint32_t *shared;

static int lock_as_child(void)
{
    long result = futex(shared, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    return result != 0 || (*shared & FUTEX_TID_MASK) != own_tid();
}

static void relatives(void)
{
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    futex(shared, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
    pid_t child = fork();
    if (child == 0)
        _exit(lock_as_child());
    await_lock_waiter(shared, 0);
    expect(futex(shared, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), 0, "a child waits");
    int status;
    waitpid(child, &status, 0);
    expect(status, 0, "the child got the lock");
    expect(futex(shared, FUTEX_LOCK_PI, 0, NULL, NULL, 0), -ESRCH, "and ended with it");
}

static void *wait_requeue(void *argument)
{
    struct locker *locker = argument;
    struct timespec until = at(CLOCK_REALTIME, locker->keep);
    locker->tid = own_tid();
    locker->result = futex(&condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &until, &word, 0);
    locker->value = word;
    if (locker->result == 0)
        unlock(&word);
    return NULL;
}

static long requeue(int wake, int move)
{
    return futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, wake, COUNT(move), &word, 0);
}

/* Starts one that waits to be moved: for as many seconds as `keep` says. */
static void start_waiting(struct locker *locker)
{
    start(locker, wait_requeue);
    await_lock_waiter(&condition, FUTEX_PRIVATE_FLAG);
    await_sleep(locker->tid);
}

static void moved(void)
{
    struct locker lockers[3] = { { .keep = 1000 }, { .keep = 1000 }, { .keep = 1000 } };
    word = condition = 0;
    expect(requeue(1, 1), 0, "nobody to move");
    expect(requeue(2, 1), -EINVAL, "FUTEX_CMP_REQUEUE_PI wakes one");
    expect(futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, COUNT(1), &condition, 0), -EINVAL, "to the same word");
    expect(futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, COUNT(1), &word, 1), -EAGAIN, "another value");
    expect(futex(&condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, NULL, &condition, 0), -EINVAL, "wait for the same word");
    expect(futex(&condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 1, NULL, &word, 0), -EAGAIN, "wait at another value");

    start_waiting(&lockers[0]);
    expect(futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, COUNT(1), &other, 0), -EINVAL, "to another lock");
    expect(futex(&condition, FUTEX_REQUEUE_PRIVATE, 1, COUNT(1), &word, 0), -EINVAL, "who waits to be moved is not woken");
    expect(requeue(1, 0), 1, "to a free lock");
    pthread_join(lockers[0].thread, NULL);
    check(lockers[0].result == 0 && lockers[0].value == lockers[0].tid, "the one who was moved has it", "%ld, %#x",
          lockers[0].result, lockers[0].value);

    lock(&word);
    for (int i = 0; i < 3; i++)
        start_waiting(&lockers[i]);
    expect(requeue(1, 1), 2, "to a lock of one's own: one and one more");
    expect(requeue(1, 0), 1, "to a lock of one's own: one");
    expect(word, own_tid() | FUTEX_WAITERS, "to a lock of one's own: the word");
    unlock(&word);
    for (int i = 0; i < 3; i++) {
        pthread_join(lockers[i].thread, NULL);
        check(lockers[i].result == 0 && lockers[i].value == (lockers[i].tid | FUTEX_WAITERS), "each has it in turn",
              "%ld, %#x", lockers[i].result, lockers[i].value);
    }
    expect(word, 0, "after them: the word");

    for (int i = 0; i < 3; i++)
        start_waiting(&lockers[i]);
    expect(requeue(1, 10), 3, "to a free lock: the first has it");
    for (int i = 0; i < 3; i++) {
        pthread_join(lockers[i].thread, NULL);
        check(lockers[i].result == 0 && lockers[i].value == (lockers[i].tid | FUTEX_WAITERS), "the others have it in turn",
              "%ld, %#x", lockers[i].result, lockers[i].value);
    }

    lockers[0].keep = -1;
    start(&lockers[0], wait_requeue);
    pthread_join(lockers[0].thread, NULL);
    expect(lockers[0].result, -ETIMEDOUT, "too late to be moved");

    /* Moved, and then the time is over, or a signal comes. */
    lock(&word);
    lockers[0].keep = 1;
    start(&lockers[0], wait_requeue);
    while (requeue(1, 0) != 1)
        sched_yield();
    pthread_join(lockers[0].thread, NULL);
    expect(lockers[0].result, -ETIMEDOUT, "too late for the lock");
    lockers[1].keep = 1000;
    start_waiting(&lockers[1]);
    expect(requeue(1, 0), 1, "one more is moved");
    pthread_kill(lockers[1].thread, SIGUSR1);
    pthread_join(lockers[1].thread, NULL);
    expect(lockers[1].result, -EAGAIN, "a signal while one waits for the lock");
    expect(unlock(&word), 0, "nobody is left");
    expect(word, 0, "nobody is left: the word");

    pthread_t thread;
    pthread_create(&thread, NULL, plain_wait, (void *)&condition);
    await_waiters(&condition, FUTEX_PRIVATE_FLAG, 1);
    expect(requeue(1, 1), -EINVAL, "who waits for a plain wake-up is not moved to a lock");
    futex(&condition, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    pthread_join(thread, NULL);
}

enum { THREADS = 4, ROUNDS = 1000 };

static pthread_mutex_t mutex;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static long counter, turn;

static void *contend(void *number)
{
    (void)number;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        if (i % 64 == 0)
            sched_yield();
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *take_turns(void *number)
{
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % THREADS != (long)number)
            pthread_cond_wait(&turned, &mutex);
        turn++;
        pthread_cond_broadcast(&turned);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *lock_mutex(void *result)
{
    *(int *)result = pthread_mutex_lock(&mutex);
    return NULL;
}

static void library(void)
{
    pthread_mutexattr_t attributes;
    pthread_t threads[THREADS];
    pthread_mutexattr_init(&attributes);
    expect(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT), 0, "PTHREAD_PRIO_INHERIT");
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    expect(pthread_mutex_init(&mutex, &attributes), 0, "a mutex with it");
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, contend, (void *)i);
    for (long i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    expect(counter, THREADS * ROUNDS, "it excludes");
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, take_turns, (void *)i);
    for (long i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    expect(turn, THREADS * 50, "a condition variable with it");
    int result;
    pthread_create(&threads[0], NULL, lock_mutex, &result);
    pthread_join(threads[0], NULL);
    expect(pthread_mutex_lock(&mutex), EOWNERDEAD, "its owner has ended");
    struct timespec past = { 1, 0 };
    expect(pthread_mutex_consistent(&mutex), 0, "it is made consistent");
    pthread_create(&threads[0], NULL, lock_mutex, &result);
    await_lock_waiter(&mutex, 0);
    expect(pthread_mutex_unlock(&mutex), 0, "it is given up");
    pthread_join(threads[0], NULL);
    expect(result, 0, "another gets it");
    expect(pthread_mutex_timedlock(&mutex, &past), EOWNERDEAD, "that one has ended, too");
}

int main(void)
{
    another = fork();
    if (!another)
        for (;;)
            pause();
    alone();
    handed_over();
    mixed_up();
    kill(another, SIGKILL);
    waitpid(another, NULL, 0);
    cycle();
    interrupted();
    owner_ends(0);
    owner_ends(1);
    owner_ended();
    relatives();
    moved();
    library();
    return done();
}
