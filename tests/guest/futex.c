/* Futexes: which words are the same, which memory each operation needs, what it returns; futex_waitv.
 */
// build: -pthread
#include "futex.h"

static uint32_t *page(int protection, int flags, int fd)
{
    return mmap(NULL, 4096, protection, flags, fd, 0);
}

static int file(void)
{
    int fd = syscall(SYS_memfd_create, "futex", 0);
    if (ftruncate(fd, 4096))
        exit(1);
    return fd;
}

/* Memory that cannot be reached: with FUTEX_PRIVATE_FLAG the address is enough for what does not read the word. */
static void out_of_reach(uint32_t *word, const char *what)
{
    char name[100];
    uint32_t good = 0;
#define RESULT(call, right) (snprintf(name, sizeof name, "%s: %s", what, #call), expect(call, right, name))
    RESULT(futex(word, FUTEX_WAKE, 1, NULL, NULL, 0), -EFAULT);
    RESULT(futex(word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
    RESULT(futex(word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 1), -EFAULT);
    RESULT(futex(word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 1), 0);
    RESULT(futex(word, FUTEX_WAIT, 0, NULL, NULL, 0), -EFAULT);
    RESULT(futex(word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), -EFAULT);
    RESULT(futex(word, FUTEX_REQUEUE, 1, COUNT(1), &good, 0), -EFAULT);
    RESULT(futex(&good, FUTEX_REQUEUE, 1, COUNT(1), word, 0), -EFAULT);
    RESULT(futex(word, FUTEX_REQUEUE_PRIVATE, 1, COUNT(1), &good, 0), 0);
    RESULT(futex(&good, FUTEX_REQUEUE_PRIVATE, 1, COUNT(1), word, 0), 0);
    RESULT(futex(word, FUTEX_CMP_REQUEUE, 1, COUNT(1), &good, 0), -EFAULT);
    RESULT(futex(&good, FUTEX_CMP_REQUEUE, 1, COUNT(1), word, 0), -EFAULT);
    RESULT(futex(word, FUTEX_CMP_REQUEUE_PRIVATE, 1, COUNT(1), &good, 0), -EFAULT);
    RESULT(futex(&good, FUTEX_CMP_REQUEUE_PRIVATE, 1, COUNT(1), word, 0), 0);
    RESULT(futex(word, FUTEX_WAKE_OP, 1, COUNT(1), &good, 0), -EFAULT);
    RESULT(futex(&good, FUTEX_WAKE_OP, 1, COUNT(1), word, 0), -EFAULT);
    RESULT(futex(word, FUTEX_WAKE_OP_PRIVATE, 1, COUNT(1), &good, 0), 0);
    RESULT(futex(&good, FUTEX_WAKE_OP_PRIVATE, 1, COUNT(1), word, 0), -EFAULT);
    RESULT(futex(&good, FUTEX_WAKE_OP_PRIVATE, 1, COUNT(1), word, 7u << 28), -ENOSYS);
    RESULT(futex(word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), -EFAULT);
    RESULT(futex(word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), -EFAULT);
    RESULT(futex(word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), -EFAULT);
    RESULT(futex(&good, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 1, NULL, word, 0), -EAGAIN);
    RESULT(futex(&good, FUTEX_WAIT_REQUEUE_PI, 1, NULL, word, 0), -EFAULT);
    RESULT(futex(&good, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, COUNT(1), word, 0), -EFAULT);
    RESULT(futex(word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, COUNT(1), &good, 0), -EFAULT);
#undef RESULT
}

static void read_only(void)
{
    uint32_t *fresh = page(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    uint32_t *used = page(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    *used = 1;
    mprotect(used, 4096, PROT_READ);
    expect(futex(fresh, FUTEX_WAKE, 1, NULL, NULL, 0), -EFAULT, "private memory that is read-only: wake");
    expect(futex(fresh, FUTEX_WAIT, 1, NULL, NULL, 0), -EFAULT, "private memory that is read-only: wait");
    expect(futex(used, FUTEX_WAIT, 0, NULL, NULL, 0), -EFAULT, "private memory that was written: wait");
    expect(futex(used, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), -EAGAIN, "read-only with FUTEX_PRIVATE_FLAG: wait");
    expect(futex(used, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0, "read-only with FUTEX_PRIVATE_FLAG: wake");
    expect(futex(used, FUTEX_WAKE_OP_PRIVATE, 1, COUNT(1), used, 0), -EFAULT, "read-only: FUTEX_WAKE_OP");
    expect(futex(used, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), -EFAULT, "read-only: FUTEX_LOCK_PI");
    expect(futex(used, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), -EPERM, "read-only: another's FUTEX_UNLOCK_PI");
    int fd = file();
    uint32_t *shared = page(PROT_READ, MAP_SHARED, fd);
    expect(futex(shared, FUTEX_WAIT, 1, NULL, NULL, 0), -EAGAIN, "read-only shared memory: wait");
    expect(futex(shared, FUTEX_WAKE, 1, NULL, NULL, 0), 0, "read-only shared memory: wake");
    expect(futex(shared, FUTEX_LOCK_PI, 0, NULL, NULL, 0), -EFAULT, "read-only shared memory: FUTEX_LOCK_PI");
    close(fd);
}

struct wait {
    uint32_t *word;
    int operation;
    uint32_t bitset;
    long result;
};

static void *wait_for(void *argument)
{
    struct wait *wait = argument;
    wait->result = futex(wait->word, wait->operation, 0, NULL, NULL, wait->bitset);
    return NULL;
}

/* A waiter at one address: whether a wake-up at another reaches it. */
static void same(uint32_t *one, int flag_one, uint32_t *other, int flag_other, int right, const char *name)
{
    pthread_t thread;
    struct wait wait = { one, FUTEX_WAIT_BITSET | flag_one, 1, -1 };
    pthread_create(&thread, NULL, wait_for, &wait);
    await_waiters(one, flag_one, 1);
    long woken = futex(other, FUTEX_WAKE | flag_other, 1, NULL, NULL, 0);
    if (woken == 0)
        futex(one, FUTEX_WAKE | flag_one, 1, NULL, NULL, 0);
    pthread_join(thread, NULL);
    check(woken == right && wait.result == 0, name, "%ld woken, the waiter got %ld", woken, wait.result);
}

static void names(void)
{
    int fd = file();
    uint32_t *anonymous = page(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    uint32_t *a = page(PROT_READ | PROT_WRITE, MAP_SHARED, fd), *b = page(PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    uint32_t *reader = page(PROT_READ, MAP_SHARED, fd), *copy_reader = page(PROT_READ, MAP_PRIVATE, fd);
    uint32_t *copy = page(PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
    int private = FUTEX_PRIVATE_FLAG;
    same(anonymous, 0, anonymous, 0, 1, "private memory without the flag is one futex");
    same(anonymous, 0, anonymous, private, 0, "private memory has another name with the flag");
    same(anonymous, private, anonymous, 0, 0, "private memory has another name without the flag");
    same(anonymous, 0, anonymous + 1, 0, 0, "two words are two futexes");
    same(a, 0, b, 0, 1, "a file's page at two addresses is one futex");
    same(a, 0, a, private, 0, "a file's page with the flag is named by its address");
    same(a, private, b, private, 0, "two addresses with the flag are two futexes");
    same(reader, 0, a, 0, 1, "a read-only mapping of the file names the same futex");
    same(copy_reader, 0, a, 0, 1, "a read-only private mapping of the file names the same futex");
    same(copy, 0, a, 0, 0, "a writable private mapping of the file does not");
    same(copy, 0, copy, 0, 1, "a writable private mapping is one futex");
    *b = 0;
    munmap(b, 4096);
    same(a, 0, reader, 0, 1, "a mapping that is gone does not matter");
    close(fd);
}

static uint32_t *relatives_word;

static int wait_as_child(void)
{
    return futex(relatives_word, FUTEX_WAIT, 0, NULL, NULL, 0) != 0;
}

static void relatives(void)
{
    relatives_word = page(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    pid_t child = fork();
    if (child == 0)
        _exit(wait_as_child());
    await_waiters(relatives_word, 0, 1);
    expect(futex(relatives_word, FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0), 0, "a child is not woken with the flag");
    expect(futex(relatives_word, FUTEX_WAKE, 9, NULL, NULL, 0), 1, "a child is woken in shared memory");
    int status;
    waitpid(child, &status, 0);
    expect(status, 0, "the child got the wake-up");
}

static void arguments(void)
{
    uint32_t words[2] = { 0, 0 };
    void *odd = (char *)words + 1;
    struct timespec bad[] = { { 0, 1000000000 }, { -1, 0 }, { 0, -1 } }, zero = { 0, 0 };
    expect(futex(odd, FUTEX_WAIT, 0, NULL, NULL, 0), -EINVAL, "alignment: wait");
    expect(futex(odd, FUTEX_WAKE_PRIVATE, 0, NULL, NULL, 0), -EINVAL, "alignment: wake");
    expect(futex(words, FUTEX_CMP_REQUEUE, 0, COUNT(1), odd, 0), -EINVAL, "alignment: requeue");
    expect(futex(words, FUTEX_WAKE_OP, 0, COUNT(1), odd, 0), -EINVAL, "alignment: FUTEX_WAKE_OP");
    expect(futex(odd, FUTEX_LOCK_PI, 0, NULL, NULL, 0), -EINVAL, "alignment: FUTEX_LOCK_PI");
    expect(futex(words, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), -EINVAL, "bitset 0: wait");
    expect(futex(words, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0), -EINVAL, "bitset 0: wake");
    expect(futex(words, FUTEX_FD, 1, NULL, NULL, 0), -ENOSYS, "FUTEX_FD");
    expect(futex(words, 14, 1, NULL, NULL, 0), -ENOSYS, "an operation that there is not");
    expect(futex(words, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0), -ENOSYS, "FUTEX_CLOCK_REALTIME: wake");
    expect(futex(words, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 1, &zero, NULL, 0), -ENOSYS, "FUTEX_CLOCK_REALTIME: wait");
    expect(futex(words, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0), -ENOSYS,
           "FUTEX_CLOCK_REALTIME: FUTEX_LOCK_PI");
    for (int i = 0; i < 3; i++)
        expect(futex(words, FUTEX_WAIT, 1, &bad[i], NULL, 0), -EINVAL, "a time that is none");
    expect(futex(words, FUTEX_WAIT, 1, COUNT(8), NULL, 0), -EFAULT, "a time that is nowhere");
    expect(futex(words, FUTEX_WAIT, 0, &zero, NULL, 0), -ETIMEDOUT, "no time at all");
    expect(futex(words, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &zero, NULL, 1), -ETIMEDOUT, "a time in 1970");
    expect(futex(words, FUTEX_WAIT, 1, NULL, NULL, 0), -EAGAIN, "another value");
    expect(futex(words, FUTEX_CMP_REQUEUE, 1, COUNT(1), words + 1, 1), -EAGAIN, "another value: requeue");
    expect(futex(words, FUTEX_REQUEUE, -1, COUNT(1), words + 1, 0), -EINVAL, "a negative count");
    expect(futex(words, FUTEX_REQUEUE, 1, COUNT(-1), words + 1, 0), -EINVAL, "a negative second count");
    if (sizeof(long) == 8)
        expect(futex((void *)-4096l, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), -EFAULT, "not the user's address");
}

enum { MANY = 4 };

static void start_waiters(pthread_t *threads, struct wait *waits, uint32_t *word, const uint32_t *bitsets)
{
    for (int i = 0; i < MANY; i++) {
        waits[i] = (struct wait){ word, FUTEX_WAIT_BITSET_PRIVATE, bitsets[i], -1 };
        pthread_create(&threads[i], NULL, wait_for, &waits[i]);
        await_waiters(word, FUTEX_PRIVATE_FLAG, i + 1);
    }
}

static void counts(void)
{
    static uint32_t words[2];
    static const uint32_t bitsets[MANY] = { 1, 2, 4, 8 };
    pthread_t threads[MANY];
    struct wait waits[MANY];
    start_waiters(threads, waits, words, bitsets);
    expect(futex(words, FUTEX_WAKE_BITSET_PRIVATE, 9, NULL, NULL, 16), 0, "no bit in common");
    expect(futex(words, FUTEX_WAKE_BITSET_PRIVATE, 9, NULL, NULL, 4), 1, "one bit in common");
    pthread_join(threads[2], NULL);
    expect(futex(words, FUTEX_CMP_REQUEUE_PRIVATE, 1, COUNT(1), words + 1, 0), 2, "one woken, one moved");
    pthread_join(threads[0], NULL);
    expect(waiters(words, FUTEX_PRIVATE_FLAG) * 10 + waiters(words + 1, FUTEX_PRIVATE_FLAG), 11, "one at each word");
    expect(futex(words + 1, FUTEX_WAKE_PRIVATE, 0, NULL, NULL, 0), 1, "a count of 0 wakes one");
    pthread_join(threads[1], NULL);
    expect(futex(words, FUTEX_WAKE_PRIVATE, -5, NULL, NULL, 0), 1, "a negative count wakes one");
    pthread_join(threads[3], NULL);
}

static void operations(void)
{
    static const struct {
        int operation;
        uint32_t argument, old, new;
    } cases[] = {
        { FUTEX_OP_SET, 5, 3, 5 },   { FUTEX_OP_ADD, 5, 3, 8 },         { FUTEX_OP_OR, 5, 3, 7 },
        { FUTEX_OP_ANDN, 5, 7, 2 },  { FUTEX_OP_XOR, 5, 3, 6 },         { FUTEX_OP_ADD, 0xfff, 3, 2 },
        { FUTEX_OP_SET, 0x800, 0, -2048u }, { FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 31, 1, 0x80000001 },
        { FUTEX_OP_SET | FUTEX_OP_OPARG_SHIFT, 33, 1, 2 },
    };
    static const int comparisons[6][3] = {
        [FUTEX_OP_CMP_EQ] = { 0, 1, 0 }, [FUTEX_OP_CMP_NE] = { 1, 0, 1 }, [FUTEX_OP_CMP_LT] = { 1, 0, 0 },
        [FUTEX_OP_CMP_LE] = { 1, 1, 0 }, [FUTEX_OP_CMP_GT] = { 0, 0, 1 }, [FUTEX_OP_CMP_GE] = { 0, 1, 1 },
    };
    uint32_t first = 0, second;
    int wrong = -1;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        second = cases[i].old;
        uint32_t encoded = (uint32_t)cases[i].operation << 28 | cases[i].argument << 12;
        if (futex(&first, FUTEX_WAKE_OP_PRIVATE, 1, COUNT(1), &second, encoded) || second != cases[i].new)
            wrong = i;
    }
    check(wrong < 0, "FUTEX_WAKE_OP: each operation", "case %d", wrong);
    second = 0;
    expect(futex(&first, FUTEX_WAKE_OP_PRIVATE, 1, COUNT(1), &second, 5u << 28), -ENOSYS, "FUTEX_WAKE_OP: operation 5");
    long result = futex(&first, FUTEX_WAKE_OP_PRIVATE, 1, COUNT(1), &second, 6 << 24 | 7 << 12);
    check(result == -ENOSYS && second == 7, "FUTEX_WAKE_OP: comparison 6, after the operation", "%ld, %u", result, second);

    /* A waiter of the second word is woken where the old value says so: -1, 0 and 1 compared with 0. */
    static uint32_t words[2];
    for (int comparison = 0; comparison < 6; comparison++)
        for (int old = -1; old <= 1; old++) {
            pthread_t thread;
            struct wait wait = { words, FUTEX_WAIT_BITSET_PRIVATE, 1, -1 };
            words[0] = 0;
            pthread_create(&thread, NULL, wait_for, &wait);
            await_waiters(words, FUTEX_PRIVATE_FLAG, 1);
            words[0] = old;
            uint32_t encoded = (uint32_t)FUTEX_OP_ADD << 28 | comparison << 24;
            long woken = futex(words + 1, FUTEX_WAKE_OP_PRIVATE, 1, COUNT(1), words, encoded);
            if (woken != comparisons[comparison][old + 1])
                wrong = comparison * 10 + old;
            if (woken == 0)
                futex(words, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
            pthread_join(thread, NULL);
        }
    check(wrong < 0, "FUTEX_WAKE_OP: each comparison", "comparison %d, old value %d", wrong / 10, wrong % 10);
}

/* What 32-bit headers lack. */
struct waitv {
    uint64_t value, address;
    uint32_t flags, reserved;
};

struct kernel_timespec {
    int64_t seconds, nanoseconds;
};

static long waitv(struct waitv *words, unsigned count, unsigned flags, struct kernel_timespec *timeout, int clock)
{
    long result = syscall(SYS_futex_waitv, words, count, flags, timeout, clock);
    return result < 0 ? -errno : result;
}

enum { ALL = 128, SIZE_32 = 2 };

static uint32_t waitv_words[ALL + 1];

static void *wait_for_all(void *argument)
{
    struct waitv *words = argument;
    return (void *)waitv(words, ALL, 0, NULL, 0);
}

static void on_signal(int signal)
{
    (void)signal;
}

static void vectors(void)
{
    struct waitv words[ALL + 1];
    struct kernel_timespec past = { 0, 1 }, bad = { 0, 1000000000 };
    uint32_t *shared = page(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
    for (int i = 0; i <= ALL; i++)
        words[i] = (struct waitv){ 0, (uintptr_t)&waitv_words[i], SIZE_32 | FUTEX_PRIVATE_FLAG, 0 };
    words[77] = (struct waitv){ 0, (uintptr_t)shared, SIZE_32, 0 };
    if (waitv(words, 0, 0, NULL, 0) == -ENOSYS) {
        skip("futex_waitv", "an older kernel");
        return;
    }
    expect(waitv(words, 0, 0, NULL, 0), -EINVAL, "futex_waitv: no words");
    expect(waitv(words, ALL + 1, 0, NULL, 0), -EINVAL, "futex_waitv: 129 words");
    expect(waitv(words, 1, 1, NULL, 0), -EINVAL, "futex_waitv: flags");
    expect(waitv(NULL, 1, 0, NULL, 0), -EINVAL, "futex_waitv: a null pointer");
    expect(waitv((void *)8, 1, 0, NULL, 0), -EFAULT, "futex_waitv: a bad pointer");
    expect(waitv(words, 1, 0, &past, 7), -EINVAL, "futex_waitv: a clock that does not do");
    expect(waitv(words, 1, 0, &bad, CLOCK_MONOTONIC), -EINVAL, "futex_waitv: a time that is none");
    expect(waitv(words, ALL, 0, &past, CLOCK_MONOTONIC), -ETIMEDOUT, "futex_waitv: a time that has passed");
    expect(waitv(words, ALL, 0, &past, CLOCK_REALTIME), -ETIMEDOUT, "futex_waitv: a time of day that has passed");
    struct waitv one = words[0];
    one.reserved = 1;
    expect(waitv(&one, 1, 0, NULL, 0), -EINVAL, "futex_waitv: the reserved field");
    one.reserved = 0;
    one.flags = FUTEX_PRIVATE_FLAG;
    expect(waitv(&one, 1, 0, NULL, 0), -EINVAL, "futex_waitv: without FUTEX_32");
    one.flags = SIZE_32 | 1024;
    expect(waitv(&one, 1, 0, NULL, 0), -EINVAL, "futex_waitv: a flag that there is not");
    one.flags = SIZE_32 | FUTEX_PRIVATE_FLAG;
    one.address++;
    expect(waitv(&one, 1, 0, NULL, 0), -EINVAL, "futex_waitv: alignment");
    one.address = 0;
    expect(waitv(&one, 1, 0, NULL, 0), -EFAULT, "futex_waitv: a word that is nowhere");
    words[99].value = 1;
    expect(waitv(words, ALL, 0, NULL, 0), -EAGAIN, "futex_waitv: another value");
    words[99].value = 0;
    expect(waiters(&waitv_words[3], FUTEX_PRIVATE_FLAG), 0, "futex_waitv: nobody is left in a queue");

    static const int woken[] = { 0, 77, 127 };
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        void *index;
        uint32_t *word = woken[i] == 77 ? shared : &waitv_words[woken[i]];
        int flag = woken[i] == 77 ? 0 : FUTEX_PRIVATE_FLAG;
        pthread_create(&thread, NULL, wait_for_all, words);
        await_waiters(&waitv_words[127], FUTEX_PRIVATE_FLAG, 1);
        expect(futex(word, FUTEX_WAKE | flag, 1, NULL, NULL, 0), 1, "futex_waitv: a wake-up at one word");
        pthread_join(thread, &index);
        expect((long)index, woken[i], "futex_waitv: which word was woken");
    }
    /* A signal: EINTR without SA_RESTART. */
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGUSR1, &action, NULL);
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, wait_for_all, words);
    await_waiters(&waitv_words[127], FUTEX_PRIVATE_FLAG, 1);
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, &result);
    expect((long)result, -EINTR, "futex_waitv: a signal");
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    pthread_create(&thread, NULL, wait_for_all, words);
    await_waiters(&waitv_words[127], FUTEX_PRIVATE_FLAG, 1);
    pthread_kill(thread, SIGUSR1);
    while (futex(&waitv_words[5], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) != 1)
        sched_yield();
    pthread_join(thread, &result);
    expect((long)result, 5, "futex_waitv: a signal with SA_RESTART");
}

int main(void)
{
    uint32_t *nothing = page(PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    out_of_reach(nothing, "PROT_NONE");
    munmap(nothing, 4096);
    out_of_reach(nothing, "unmapped");
    int fd = file();
    uint32_t *beyond = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    out_of_reach(beyond + 1024, "beyond the end of the file");
    read_only();
    names();
    relatives();
    arguments();
    counts();
    operations();
    vectors();
    return done();
}
