/* Memory changed by one thread while others use it: a translation that is taken away is gone on every CPU when the call
 * returns, and each page has one content at a time. Each part runs for a while with more threads than CPUs.
 */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 64, THREADS = 4, PART_US = 200000 };

static volatile int stop;
static __thread sigjmp_buf after_fault;
static __thread volatile int may_fault;

static void on_fault(int signo, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    if (!may_fault)
        _exit(100 + signo);
    siglongjmp(after_fault, 1);
}

static char *map(size_t pages, int flags)
{
    char *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        _exit(90);
    return at;
}

static void with_threads(void *(*body)(void *), void *argument, const char *(*main_part)(void *), const char *name)
{
    pthread_t threads[THREADS];
    stop = 0;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, body, argument))
            _exit(91);
    const char *wrong = main_part(argument);
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check(!wrong, name, "%s", wrong);
}

/* Writers count in a page as fast as they can, as long as they may. */
static void *count(void *page)
{
    volatile uint64_t *counter = page;
    may_fault = 1;
    while (!stop)
        if (!sigsetjmp(after_fault, 0))
            for (;;) {
                if (stop)
                    break;
                __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
            }
    return NULL;
}

static void wait_a_little(void)
{
    for (uint64_t end = microseconds() + 200; microseconds() < end;)
        ;
    sched_yield();
}

static const char *protect_while_written(void *page)
{
    volatile uint64_t *counter = page;
    uint64_t start = *counter;
    for (uint64_t end = microseconds() + PART_US; microseconds() < end;) {
        if (mprotect(page, PAGE, PROT_READ))
            return "mprotect fails";
        uint64_t before = *counter;
        wait_a_little();
        if (*counter != before)
            return "the page was written after it had become read-only";
        if (mprotect(page, PAGE, PROT_READ | PROT_WRITE))
            return "mprotect fails";
        wait_a_little();
    }
    return *counter == start ? "nobody wrote" : NULL;
}

static const char *replace_while_written(void *page)
{
    volatile uint64_t *counter = page;
    for (uint64_t end = microseconds() + PART_US; microseconds() < end;) {
        if (mmap(page, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != page)
            return "mmap fails";
        wait_a_little();
        if (*counter != 0)
            return "the new page was written, which nobody may";
        /* A frame that was freed too early would show up here, with the writers' counts in it. */
        char *other = map(PAGES, MAP_PRIVATE);
        for (int i = 0; i < PAGES; i++)
            if (*(volatile uint64_t *)(other + i * PAGE) || (other[i * PAGE] = 0))
                return "new memory is not zero";
        wait_a_little();
        for (int i = 0; i < PAGES; i++)
            if (*(volatile uint64_t *)(other + i * PAGE))
                return "fresh memory was written by somebody else";
        munmap(other, PAGES * PAGE);
        if (mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != page)
            return "mmap fails";
        wait_a_little();
    }
    return NULL;
}

/* Between fork and exit the child's pages must not change, whatever the parent's threads write. */
static const char *fork_while_written(void *page)
{
    for (uint64_t end = microseconds() + PART_US; microseconds() < end;) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            volatile uint64_t *counter = page;
            uint64_t before = *counter;
            for (int i = 0; i < 20; i++) {
                wait_a_little();
                if (*counter != before)
                    _exit(1);
            }
            *counter = 0;
            _exit(*counter != 0);
        }
        if (child < 0)
            return "fork fails";
        uint64_t seen = *(volatile uint64_t *)page;
        while (waitpid(child, &status, 0) < 0)
            ;
        if (status)
            return "the child saw the parent's writes";
        if (*(volatile uint64_t *)page < seen)
            return "the parent's count went back";
    }
    return NULL;
}

/* Each thread adds to every page; a page that two of them made at once would lose one's additions. */
static char *touched;
static volatile int go, ready;

static void *touch_all(void *rounds)
{
    for (int round = 1; round <= *(int *)rounds; round++) {
        __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
        while (go < round)
            sched_yield();
        for (int i = 0; i < PAGES; i++)
            __atomic_fetch_add((int *)(touched + i * PAGE), 1, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&ready, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static const char *touch_at_once(void *rounds)
{
    for (int round = 1; round <= *(int *)rounds; round++) {
        while (ready < THREADS * round)
            sched_yield();
        touched = map(PAGES, round & 1 ? MAP_PRIVATE : MAP_SHARED);
        /* Every other page is a copied one: first seen as zeros, by a read. */
        for (int i = 0; i < PAGES; i += 2)
            (void)*(volatile char *)(touched + i * PAGE);
        go = round;
        while (ready < THREADS * (round + 1))
            sched_yield();
        for (int i = 0; i < PAGES; i++)
            if (*(int *)(touched + i * PAGE) != THREADS)
                return "an addition is lost";
        munmap(touched, PAGES * PAGE);
    }
    return NULL;
}

/* After a fork both sides share read-only; a reader must see what another thread of its process writes to the copy. */
static volatile uint64_t *published;

static void *reader(void *unused)
{
    (void)unused;
    uint64_t last = 0;
    while (!stop) {
        volatile uint64_t *at = published;
        if (!at)
            continue;
        uint64_t seen = *at;
        if (seen < last)
            _exit(92);
        last = seen;
        *(volatile uint64_t *)&at[8 + (uintptr_t)pthread_self() % 61] = seen;
    }
    return NULL;
}

static const char *write_after_fork(void *page)
{
    published = page;
    for (uint64_t end = microseconds() + PART_US; microseconds() < end;) {
        int status;
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        for (int i = 0; i < 50; i++)
            published[0]++;
        while (waitpid(child, &status, 0) < 0)
            ;
    }
    return NULL;
}

/* Threads that map, write, check and unmap, each on its own, with children in between. */
static void *churn(void *failed)
{
    unsigned seed = (uintptr_t)pthread_self() >> 12;
    while (!stop) {
        size_t pages = 1 + rand_r(&seed) % 40;
        char *at = map(pages, MAP_PRIVATE), mark = rand_r(&seed);
        for (size_t i = 0; i < pages; i++)
            at[i * PAGE + i] = mark;
        if (rand_r(&seed) % 4 == 0) {
            mprotect(at, pages * PAGE / 2, PROT_READ);
        } else if (rand_r(&seed) % 8 == 0) {
            char *moved = mremap(at, pages * PAGE, 2 * pages * PAGE, MREMAP_MAYMOVE);
            if (moved == MAP_FAILED)
                *(const char **)failed = "mremap fails in a thread";
            else
                for (size_t i = 0; i < pages; i++)
                    if (moved[i * PAGE + i] != mark)
                        *(const char **)failed = "a moved page has changed";
            munmap(moved, 2 * pages * PAGE);
            continue;
        }
        for (size_t i = 0; i < pages; i++)
            if (at[i * PAGE + i] != mark)
                *(const char **)failed = "a page of one thread has changed";
        munmap(at, pages * PAGE);
    }
    return NULL;
}

static const char *churn_and_fork(void *failed)
{
    for (uint64_t end = microseconds() + PART_US; microseconds() < end && !*(const char **)failed;) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            char *at = map(10, MAP_PRIVATE);
            memset(at, 1, 10 * PAGE);
            _exit(0);
        }
        if (child < 0)
            return "fork fails";
        while (waitpid(child, &status, 0) < 0)
            ;
        if (status)
            return "a child failed";
    }
    return *(const char **)failed;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    with_threads(count, map(1, MAP_PRIVATE), protect_while_written, "mprotect while others write");
    with_threads(count, map(1, MAP_SHARED), protect_while_written, "mprotect of shared memory while others write");
    with_threads(count, map(1, MAP_PRIVATE), replace_while_written, "MAP_FIXED while others write");
    with_threads(count, map(1, MAP_PRIVATE), fork_while_written, "fork while others write");
    with_threads(reader, map(1, MAP_PRIVATE), write_after_fork, "writes after fork reach other threads");
    int rounds = 40;
    with_threads(touch_all, &rounds, touch_at_once, "many threads touch a page at once");
    const char *failed = NULL;
    with_threads(churn, &failed, churn_and_fork, "threads map and unmap while the process forks");
    return done();
}
