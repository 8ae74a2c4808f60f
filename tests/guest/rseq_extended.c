// build: -pthread
/* Restartable sequences with an area longer than the original one, as of Linux 7.2: which lengths there are, what the area shows,
 * that it is written only where that changes, and that nobody else may write it. A page of it that is not mapped is mapped.
 */
#include "hooks.h"
#include "rseq.h"
#include "tracer.h"
#include <pthread.h>

enum { LENGTH = 64, FEATURE_SIZE = 33, ALIGN = 64 };

/* struct rseq */
struct area {
    volatile uint32_t cpu_id_start, cpu_id;
    volatile uint64_t rseq_cs;
    volatile uint32_t flags, node_id, mm_cid, slice_ctrl;
    char reserved[32];
} __attribute__((aligned(ALIGN)));

static struct area *own;
static struct sequence sequence;
static volatile int *shared; /* with children */
static volatile sig_atomic_t handled, handled_at_abort;
static int cpus;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    handled++;
    handled_at_abort += frame->uc_mcontext.gregs[REG_RIP] == (greg_t)sequence_abort;
    (void)signal, (void)info;
}

static void registration(void)
{
    static char memory[3 * ALIGN] __attribute__((aligned(ALIGN)));
    struct { unsigned offset, length; int error; } table[] = {
        { 0, 0, EINVAL }, { 0, 20, EINVAL }, { 0, 28, EINVAL }, { 0, 31, EINVAL }, { 32, 33, EINVAL }, { 32, 64, EINVAL },
        { 16, 32, EINVAL }, { 1, 64, EINVAL }, { 0, 32, 0 }, { 32, 32, 0 }, { 0, 33, 0 }, { 64, 64, 0 }, { 0, 192, 0 },
        { 0, -1u, 0 },
    };
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++) {
        char *area = memory + table[i].offset, name[64];
        memset(memory, 0x55, sizeof memory);
        int result = rseq(area, table[i].length, 0, SIGNATURE), error = result ? errno : 0, undone = -1;
        if (!result)
            undone = rseq(area, table[i].length, 1, SIGNATURE);
        snprintf(name, sizeof name, "%u bytes, aligned to %u", table[i].length, table[i].offset);
        check(error == table[i].error && undone == -!!error, name, "errno %d, unregistered: %d", error, undone);
    }
    check(getauxval(27) == FEATURE_SIZE && getauxval(28) == ALIGN, "the auxiliary vector", "%lu, %lu", getauxval(27), getauxval(28));
    check(rseq((void *)-4096, 64, 0, SIGNATURE) < 0 && errno == EFAULT, "an area that is not the user's", "errno %d", errno);

    memset(own, 0x55, LENGTH);
    int result = rseq(own, LENGTH, 0, SIGNATURE);
    check(!result && own->cpu_id == own->cpu_id_start && own->cpu_id == (unsigned)sched_getcpu() && !own->rseq_cs && !own->node_id &&
              !own->mm_cid && !own->slice_ctrl && own->reserved[1] == 0x55,
          "what a new area shows", "%d: CPU %d, %d, node %u, id %u, control %#x", result, own->cpu_id_start, own->cpu_id, own->node_id,
          own->mm_cid, own->slice_ctrl);
    check(rseq(own, LENGTH, 0, SIGNATURE) < 0 && errno == EBUSY, "twice", "errno %d", errno);
    check(rseq(own, 32, 0, SIGNATURE) < 0 && errno == EINVAL, "with another length", "errno %d", errno);
    check(rseq(own, 33, 1, SIGNATURE) < 0 && errno == EINVAL, "unregistered with another length", "errno %d", errno);
    check(rseq(own, LENGTH, 1, 1) < 0 && errno == EPERM, "unregistered with another signature", "errno %d", errno);
}

static void told_to_tracer(void)
{
    struct { uint64_t pointer; uint32_t size, signature, flags, pad; } configuration = { 0 };
    pid_t child = start_traced((int (*)(void))getpid);
    trace(0x420f, child, sizeof configuration, (uintptr_t)&configuration);
    finish(child);
    check(configuration.pointer == (uintptr_t)own && configuration.size == LENGTH && configuration.signature == SIGNATURE,
          "what a tracer is told", "%#llx, %u bytes, %#x", (unsigned long long)configuration.pointer, configuration.size,
          configuration.signature);
}

static void moved(void)
{
    int right = 0;
    for (int round = 0; round < 10 * cpus; round++) {
        pin(round % cpus);
        right += (int)own->cpu_id == round % cpus && own->cpu_id_start == own->cpu_id && !own->mm_cid;
    }
    pin(0);
    check(right == 10 * cpus, "the area shows the CPU", "%d of %d times", right, 10 * cpus);
}

/* Waits without a system call until another process has run on this CPU, which it does not before this one waits. */
static void be_preempted(void)
{
    *shared = 0;
    pid_t child = fork();
    if (child == 0) {
        while (!*shared)
            sched_yield();
        *shared = 2;
        _exit(0);
    }
    *shared = 1;
    while (*shared != 2)
        ;
    waitpid(child, NULL, 0);
}

static void unchanged(void)
{
    own->cpu_id_start = 77;
    usleep(1000);
    be_preempted();
    unsigned kept = own->cpu_id_start;
    own->cpu_id_start = 0;
    check(kept == 77, "what has not changed is not written", "%u", kept);
}

static volatile uint32_t *overwritten;

static int overwrites(void)
{
    *overwritten += 77;
    pin(1);
    return 1;
}

static void mismatch(void)
{
    static const char *const names[] = { "cpu_id_start", "cpu_id", "node_id", "mm_cid" };
    volatile uint32_t *const fields[] = { &own->cpu_id_start, &own->cpu_id, &own->node_id, &own->mm_cid };
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s is overwritten by the program", names[i]);
        if (cpus < 2) {
            skip(name, "one CPU");
            continue;
        }
        overwritten = fields[i];
        int status = in_child(overwrites);
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, name, "status %#x", status);
    }
}

/* A page that is gone when the kernel wants to write it, with interrupts off. */
static void not_mapped(void)
{
    int file = memfd_create("rseq", 0);
    struct area content[4096 / sizeof(struct area)] = { { .cpu_id_start = -1, .cpu_id = -1 } };
    check(write(file, content, sizeof content) == sizeof content, "a file of an area", "errno %d", errno);
    struct area *area = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    rseq(own, LENGTH, 1, SIGNATURE);
    int result = rseq(area, 32, 0, SIGNATURE);
    madvise(area, 4096, MADV_DONTNEED);
    usleep(1000);
    check(!result && area->cpu_id == 0 && area->cpu_id_start == 0 && area->node_id == 0, "a page that is not mapped is mapped",
          "%d: CPU %d, %d", result, area->cpu_id_start, area->cpu_id);
    rseq(area, 32, 1, SIGNATURE);
    munmap(area, 4096);
    close(file);

    area = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    result = rseq(area, LENGTH, 0, SIGNATURE);
    madvise(area, 4096, MADV_DONTNEED);
    pin(cpus - 1);
    check(!result && (int)area->cpu_id == cpus - 1, "and one of a longer area", "%d: CPU %d", result, area->cpu_id);
    pin(0);
    rseq(area, LENGTH, 1, SIGNATURE);
    munmap(area, 4096);
    rseq(own, LENGTH, 0, SIGNATURE);
}

/* Whether the parent's area names a sequence. */
static int parent_in_sequence(void)
{
    uint64_t named = 0;
    struct iovec here = { &named, sizeof named }, there = { (void *)&own->rseq_cs, sizeof named };
    return process_vm_readv(getppid(), &here, 1, &there, 1, 0) == sizeof named && named;
}

static void sequences(void)
{
    int aborted = 0;
    for (int round = 0; round < 5; round++) {
        *shared = 0;
        pid_t child = fork();
        if (child == 0) {
            while (!*shared && !parent_in_sequence())
                sched_yield();
            *shared = 1;
            _exit(0);
        }
        aborted += run_sequence((struct rseq *)own, shared, &sequence);
        *shared = 1;
        waitpid(child, NULL, 0);
    }
    check(aborted == 5 && !own->rseq_cs, "preemption aborts", "%d of 5 sequences", aborted);

    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    sigaction(SIGALRM, &action, NULL);
    *shared = 0;
    int runs = 0;
    aborted = 0;
    ualarm(20000, 0);
    while (!handled && runs < 10000)
        runs++, aborted += run_sequence((struct rseq *)own, shared, &sequence);
    check(aborted == runs && handled == 1 && handled_at_abort == 1, "a signal aborts before its handler runs",
          "%d of %d, %d handlers, %d from the abort handler", aborted, runs, (int)handled, (int)handled_at_abort);

    int stays = 0;
    handled = 0;
    for (int round = 0; round < 20; round++) {
        own->rseq_cs = (uintptr_t)&sequence;
        raise(SIGALRM);
        stays += own->rseq_cs == (uintptr_t)&sequence; /* but where an interrupt came */
        own->rseq_cs = 0;
    }
    check(stays && handled == 20, "a signal of a system call does not look for sequences", "%d of 20, %d handlers", stays, (int)handled);

    own->rseq_cs = (uintptr_t)&sequence;
    be_preempted();
    check(!own->rseq_cs, "a sequence that was left is named no more", "%#llx", (unsigned long long)own->rseq_cs);
}

enum { THREADS = 4 };
static struct area areas[THREADS];
static volatile unsigned highest;
static volatile int running, stop;

static void *thread(void *argument)
{
    struct area *area = &areas[(intptr_t)argument];
    unregister_the_librarys();
    if (rseq(area, LENGTH, 0, SIGNATURE))
        return argument;
    cpu_set_t all;
    memset(&all, 0xff, sizeof all);
    sched_setaffinity(0, sizeof all, &all);
    __atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST);
    while (!stop)
        for (int i = 0; i < 1000; i++) {
            unsigned id = area->mm_cid, seen = highest;
            while (id > seen && !__atomic_compare_exchange_n(&highest, &seen, id, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
                ;
        }
    rseq(area, LENGTH, 1, SIGNATURE);
    return NULL;
}

/* Spins on another CPU than the main thread. */
static void *partner(void *argument)
{
    struct area *area = &areas[0];
    unregister_the_librarys();
    pin(1);
    rseq(area, LENGTH, 0, SIGNATURE);
    running = 1;
    while (!stop)
        ;
    rseq(area, LENGTH, 1, SIGNATURE);
    return argument;
}

static void concurrency_ids(void)
{
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, thread, (void *)i);
    wait_until(running == THREADS);
    usleep(100000);
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check((int)highest < cpus, "concurrency ids are below the number of CPUs", "%u, %d threads, %d CPUs", highest, running, cpus);

    if (cpus < 2) {
        skip("threads at once have different concurrency ids", "one CPU");
        return;
    }
    running = stop = 0;
    pthread_create(threads, NULL, partner, NULL);
    wait_until(running);
    /* Where one of the two is off its CPU, the other may get its number. */
    int different = 0, samples = 0;
    for (; samples < 1000; samples++) {
        for (volatile int i = 0; i < 1000; i++)
            ;
        different += own->mm_cid != areas[0].mm_cid;
    }
    stop = 1;
    pthread_join(threads[0], NULL);
    check(different > samples / 2, "threads at once have different concurrency ids", "%d of %d times", different, samples);
}

int main(void)
{
    cpus = sysconf(_SC_NPROCESSORS_ONLN);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sequence = (struct sequence) { .start = (uint64_t)sequence_start, .length = sequence_end - sequence_start,
                                   .abort = (uint64_t)sequence_abort };
    if (access("/dev/hooks", F_OK) && getauxval(27) < FEATURE_SIZE) {
        skip("longer areas", "the kernel has none (Linux before 7.0)");
        return done();
    }
    unregister_the_librarys();
    pin(0);
    registration();
    told_to_tracer();
    moved();
    unchanged();
    mismatch();
    not_mapped();
    sequences();
    concurrency_ids();
    check(rseq(own, LENGTH, 1, SIGNATURE) == 0 && own->cpu_id == (unsigned)-1 && !own->cpu_id_start && !own->mm_cid, "unregistered",
          "CPU %d", own->cpu_id);
    check_violations("Rseq");
    return done();
}
