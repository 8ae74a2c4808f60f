/* membarrier: which commands there are, who may use them, and that the barriers are there.
 */
// build: -pthread
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum {
    QUERY = 0,
    GLOBAL = 1 << 0,
    GLOBAL_EXPEDITED = 1 << 1,
    REGISTER_GLOBAL_EXPEDITED = 1 << 2,
    PRIVATE_EXPEDITED = 1 << 3,
    REGISTER_PRIVATE_EXPEDITED = 1 << 4,
    PRIVATE_EXPEDITED_SYNC_CORE = 1 << 5,
    REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 1 << 6,
    PRIVATE_EXPEDITED_RSEQ = 1 << 7,
    REGISTER_PRIVATE_EXPEDITED_RSEQ = 1 << 8,
    ALL = (1 << 9) - 1,
    FLAG_CPU = 1,
};

static long membarrier(long command, long flags, long cpu)
{
    long result = syscall(SYS_membarrier, command, flags, cpu);
    return result < 0 ? -errno : result;
}

static void expect(long found, long right, const char *name)
{
    check(found == right, name, "%ld instead of %ld", found, right);
}

static const struct {
    int use, registration;
    const char *name;
} commands[] = {
    { PRIVATE_EXPEDITED, REGISTER_PRIVATE_EXPEDITED, "PRIVATE_EXPEDITED" },
    { PRIVATE_EXPEDITED_SYNC_CORE, REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, "PRIVATE_EXPEDITED_SYNC_CORE" },
    { PRIVATE_EXPEDITED_RSEQ, REGISTER_PRIVATE_EXPEDITED_RSEQ, "PRIVATE_EXPEDITED_RSEQ" },
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int registered_in_child(void)
{
    int right = 1;
    for (int i = 0; i < COMMANDS; i++)
        right &= membarrier(commands[i].use, 0, 0) == 0;
    return !right;
}

static int registered_after_exec(char *self)
{
    execl(self, self, "after-exec", NULL);
    return 9;
}

static atomic_int stop, x, y, round_of, arrived;
static int seen_x, seen_y;
static long barrier_command;

/* The pattern that a barrier on one side alone repairs: each writes its own variable and reads the other's. */
static void *light_side(void *unused)
{
    (void)unused;
    int last = 0;
    while (!stop) {
        int now = atomic_load(&round_of);
        if (now == last) {
            sched_yield();
            continue;
        }
        last = now;
        atomic_store_explicit(&x, 1, memory_order_relaxed);
        atomic_signal_fence(memory_order_seq_cst);
        seen_y = atomic_load_explicit(&y, memory_order_relaxed);
        atomic_store(&arrived, now);
    }
    return NULL;
}

static void heavy_side(const char *name)
{
    pthread_t thread;
    int missed = 0;
    round_of = arrived = stop = 0;
    pthread_create(&thread, NULL, light_side, NULL);
    for (int i = 1; i <= 300; i++) {
        x = y = 0;
        atomic_store(&round_of, i);
        atomic_store_explicit(&y, 1, memory_order_relaxed);
        membarrier(barrier_command, 0, 0);
        seen_x = atomic_load_explicit(&x, memory_order_relaxed);
        while (atomic_load(&arrived) != i)
            sched_yield();
        missed += !seen_x && !seen_y;
    }
    stop = 1;
    pthread_join(thread, NULL);
    check(missed == 0, name, "%d of 300 times neither saw the other", missed);
}

/* Code that changes while another thread runs it. */
static unsigned char *code;
static atomic_int generation, wrong, calls;

static void *run_code(void *unused)
{
    (void)unused;
    while (!stop) {
        int before = atomic_load(&generation);
        int value = ((int (*)(void))code)();
        calls++;
        wrong += value < before;
    }
    return NULL;
}

static void changing_code(void)
{
    pthread_t thread;
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* mov eax, 0; ret: the number is aligned for one store. */
    memcpy(code, "\x90\x90\x90\xb8\0\0\0\0\xc3", 9);
    stop = 0;
    pthread_create(&thread, NULL, run_code, NULL);
    for (int i = 1; i <= 200; i++) {
        atomic_store((atomic_int *)(void *)(code + 4), i);
        membarrier(PRIVATE_EXPEDITED_SYNC_CORE, 0, 0);
        atomic_store(&generation, i);
        for (int now = calls; i % 50 == 0 && calls == now;)
            sched_yield();
    }
    stop = 1;
    pthread_join(thread, NULL);
    const char *name = "after SYNC_CORE no thread runs the old code";
    if (wrong && emulated() && sysconf(_SC_NPROCESSORS_ONLN) > 1)
        skip(name, "the emulator has kept what it translated while the code was being changed");
    else
        check(wrong == 0, name, "%d of %d calls", wrong, calls);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return membarrier(PRIVATE_EXPEDITED, 0, 0) != -EPERM || membarrier(PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) != -EPERM;
    long query = membarrier(QUERY, 0, 0);
    /* GET_REGISTRATIONS is newer, GLOBAL is not there with nohz_full. */
    check((query | GLOBAL) == ALL || (query | GLOBAL) == (ALL | 1 << 9), "QUERY", "%#lx", query);
    expect(membarrier(QUERY, 1, 0), -EINVAL, "QUERY with a flag");
    expect(membarrier(1 << 12, 0, 0), -EINVAL, "a command that there is not");
    expect(membarrier(GLOBAL | GLOBAL_EXPEDITED, 0, 0), -EINVAL, "two commands");
    if (query & GLOBAL) {
        expect(membarrier(GLOBAL, 0, 0), 0, "GLOBAL");
        expect(membarrier(GLOBAL, 1, 0), -EINVAL, "GLOBAL with a flag");
    }
    expect(membarrier(GLOBAL_EXPEDITED, 0, 0), 0, "GLOBAL_EXPEDITED needs no registration");
    expect(membarrier(REGISTER_GLOBAL_EXPEDITED, FLAG_CPU, 0), -EINVAL, "a registration with a flag");
    expect(membarrier(REGISTER_GLOBAL_EXPEDITED, 0, 0), 0, "REGISTER_GLOBAL_EXPEDITED");
    for (int i = 0; i < COMMANDS; i++) {
        expect(membarrier(commands[i].use, 0, 0), -EPERM, "without registration");
        expect(membarrier(commands[i].use, 2, 0), -EINVAL, "a flag that there is not");
        expect(membarrier(commands[i].registration, 0, 0), 0, commands[i].name);
        expect(membarrier(commands[i].registration, 0, 0), 0, "registered twice");
        expect(membarrier(commands[i].use, 0, 0), 0, "with registration");
        expect(membarrier(commands[i].use, FLAG_CPU, 0), commands[i].use == PRIVATE_EXPEDITED_RSEQ ? 0 : -EINVAL,
               "FLAG_CPU is RSEQ's alone");
    }
    expect(membarrier(PRIVATE_EXPEDITED_RSEQ, FLAG_CPU, 100000), 0, "FLAG_CPU: a CPU that there is not");
    expect(membarrier(PRIVATE_EXPEDITED_RSEQ, FLAG_CPU, -1), 0, "FLAG_CPU: all");
    if (sizeof(long) == 8)
        expect(membarrier((long)(1ull << 32) | PRIVATE_EXPEDITED, (long)(1ull << 32), 0), 0, "arguments are ints");
    expect(in_child(registered_in_child), 0, "a child is registered");
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(registered_after_exec(argv[0]));
    waitpid(child, &status, 0);
    expect(status, 0, "a new program is not");
    static const struct {
        int command;
        const char *name;
    } barriers[] = {
        { GLOBAL_EXPEDITED, "GLOBAL_EXPEDITED is a barrier" },
        { PRIVATE_EXPEDITED, "PRIVATE_EXPEDITED is a barrier" },
        { PRIVATE_EXPEDITED_SYNC_CORE, "SYNC_CORE is a barrier" },
    };
    for (int i = 0; i < 3; i++) {
        barrier_command = barriers[i].command;
        heavy_side(barriers[i].name);
    }
    changing_code();
    return done();
}
