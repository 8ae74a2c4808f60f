/* Everything at once: NMIs and IPIs, signals, faults, system calls, forks, TLB shootdowns, reschedules, task moves, with
 * all registers compared all the time. Bug 6 (NMI from user mode and nested IRET), 29 (lost signals), and rows 15, 23
 * and 35 by chance rather than by design. No counted signal may be lost, and the kernel's own count of broken
 * invariants must be 0. Lasts STORM_SECONDS (argument or environment), 5 by default. NMIs and IPIs come from /dev/gate.
 */
#include "extended_state.h"
#include "gate.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { RECEIVERS = 5, WINDOW = 60 };

static struct shared {
    atomic_uint received[RECEIVERS], misordered[RECEIVERS], sent[RECEIVERS];
    atomic_ulong rounds[16];
    atomic_int stop, ready;
} *shared;

#define AROUND(middle) \
    "mov %rax, %r12; mov %rdx, %r13\n" LOAD_STATE("state_in") "mov %r12, %rax; mov %r13, %rdx\n" middle \
    "\nmov %rax, %r12\n" STORE_STATE("state_out") "mov %r12, %rax; mov %r13, %rdx\n"

SNIPPET(spin, AROUND("1: lea -1(%rbx), %rbx; test %rbx, %rbx; jnz 1b"));
SNIPPET(enter_kernel, "syscall");
SNIPPET(trap, "int3");
SNIPPET(undefined, "ud2; nop; nop");
SNIPPET(page_fault, "mov %rbx, (%rdi)");
SNIPPET(protection, "hlt; nop");
SNIPPET(step, "pushfq; orl $0x100, (%rsp); popfq; nop; pushfq; andl $~0x100, (%rsp); popfq");

static int own_number; /* of a receiver */

static void on_any(int signal, siginfo_t *info, ucontext_t *context)
{
    greg_t *g = context->uc_mcontext.gregs;
    if (signal == SIGRTMIN + 3) {
        if ((unsigned)info->si_value.sival_int != shared->received[own_number])
            shared->misordered[own_number]++;
        shared->received[own_number]++;
    } else if (g[REG_RIP] == (greg_t)undefined) {
        g[REG_RIP] += 2;
    } else if (g[REG_RIP] == (greg_t)protection) {
        g[REG_RIP] += 1;
    }
}

static void receive(int number)
{
    static const int signals[] = { SIGILL, SIGTRAP, SIGSEGV };
    own_number = number;
    random_state ^= (uint64_t)(number + 1) << 40;
    on_signal = on_any;
    catch_signal(SIGRTMIN + 3, 0);
    for (int i = 0; i < 3; i++)
        catch_signal(signals[i], 0);
    shared->ready++;
}

static void fail(const char *where, const char *what)
{
    char line[160];
    int length = snprintf(line, sizeof line, "storm: %s: %s\n", where, what);
    if (write(1, line, length) != length)
        _exit(3);
    _exit(2);
}

static void same(const char *where, unsigned ignored)
{
    const char *wrong = difference(&in, &out, ignored);
    if (wrong)
        fail(where, wrong);
}

/* Spins with chosen general and extended registers. */
static void spinner(void)
{
    receive(0);
    for (; !shared->stop; shared->rounds[0]++) {
        randomize(&in);
        random_state_pattern(&state_in);
        in.rbx = 1000 + random_number() % 300000;
        run(spin);
        in.rbx = in.r12 = in.r13 = out.rbx = out.r12 = out.r13 = 0; /* the snippet's own */
        same("spin", NO_RFLAGS);
        const char *wrong = state_difference(&state_in, &state_out);
        if (wrong)
            fail("spin", wrong);
    }
}

static void caller(void)
{
    static const uint64_t numbers[] = { SYS_getppid, SYS_sched_yield, 4000, -1ull };
    pid_t parent = getppid();
    receive(1);
    for (; !shared->stop; shared->rounds[1]++) {
        randomize(&in);
        in.rflags |= random_number() & (DF | AC);
        in.rax = numbers[shared->rounds[1] % 4];
        if (random_number() % 4 == 0)
            in.rsp = random_number(); /* the alternate stack serves the signals */
        run(enter_kernel);
        uint64_t want = in.rax == SYS_getppid ? (uint64_t)parent : in.rax == SYS_sched_yield ? 0 : (uint64_t)-ENOSYS;
        struct registers left = in;
        leave_syscall(&left, enter_kernel_end);
        if (out.rax != want || out.rcx != left.rcx || out.r11 != left.r11)
            fail("system call", "RAX, RCX or R11");
        same("system call", NO_RAX | NO_RCX | NO_R11);
    }
}

static void faulter(void)
{
    static const void *const snippets[] = { trap, undefined, page_fault, protection, step };
    receive(2);
    for (; !shared->stop; shared->rounds[2]++) {
        char *fresh = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        randomize(&in);
        in.rdi = (uint64_t)fresh;
        run(snippets[shared->rounds[2] % 5]);
        same("fault", NO_RFLAGS); /* the step changes them */
        munmap(fresh, 4096);
    }
}

static void forker(void)
{
    static int local;
    receive(3);
    for (; !shared->stop; shared->rounds[3]++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            local++;
            _exit(local & 0x7f);
        }
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 1 || local)
            fail("fork", "the child or the memory is not right");
    }
}

static void sleeper(void)
{
    receive(4);
    for (; !shared->stop; shared->rounds[4]++)
        usleep(100);
}

static volatile uint64_t *board; /* a page that is made read-only again and again */

static void retry(int signal)
{
    (void)signal;
    sched_yield();
}

static void *scribble(void *unused)
{
    (void)unused;
    while (!shared->stop)
        (*board)++;
    return NULL;
}

/* After mprotect has returned, no CPU may still write by an old translation. */
static void shooter(void)
{
    pthread_t threads[2];
    signal(SIGSEGV, retry);
    board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, scribble, NULL);
    for (; !shared->stop; shared->rounds[5]++) {
        mprotect((void *)board, 4096, PROT_READ);
        uint64_t before = *board;
        for (int i = 0; i < 200; i++)
            if (*board != before)
                fail("TLB shootdown", "a write after mprotect");
        mprotect((void *)board, 4096, PROT_READ | PROT_WRITE);
        sched_yield();
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

/* Two processes that wake each other by pipes, moving between CPUs. */
static void ping_pong(void)
{
    int there[2], back[2], cpus = sysconf(_SC_NPROCESSORS_ONLN);
    char c;
    if (pipe(there) || pipe(back))
        fail("pipe", strerror(errno));
    if (fork() == 0) {
        close(there[1]);
        while (read(there[0], &c, 1) == 1)
            if (write(back[1], &c, 1) != 1)
                break;
        _exit(0);
    }
    for (; !shared->stop; shared->rounds[6]++) {
        cpu_set_t set;
        char sent = shared->rounds[6];
        if (shared->rounds[6] % 64 == 0) {
            CPU_ZERO(&set);
            CPU_SET(random_number() % cpus, &set);
            sched_setaffinity(0, sizeof set, &set);
        }
        if (write(there[1], &sent, 1) != 1 || read(back[0], &c, 1) != 1 || c != sent)
            fail("ping-pong", "a byte is lost");
    }
    close(there[1]);
    wait(NULL);
}

/* IPIs and single NMIs in between, and grace periods. */
static void prodder(void)
{
    int cpus = sysconf(_SC_NPROCESSORS_ONLN);
    for (; !shared->stop; shared->rounds[7]++) {
        char command[32];
        snprintf(command, sizeof command, "ipi %d", (int)(shared->rounds[7] % cpus));
        gate_command(command);
        if (shared->rounds[7] % 16 == 0)
            gate_command("nmi-all");
        if (shared->rounds[7] % 64 == 0)
            gate_command("synchronize");
    }
}

static void (*const jobs[])(void) = { spinner, caller, faulter, forker, sleeper, shooter, ping_pong, prodder };
static const char *const job_names[] = { "spin", "system calls", "faults", "forks", "sleep", "TLB shootdowns", "ping-pong",
                                         "IPIs" };
enum { JOBS = sizeof jobs / sizeof *jobs };

/* Sends counted signals to the receivers until the time is over, then waits for the last to arrive. */
static void send_signals(const pid_t *children, uint64_t end)
{
    while (microseconds() < end) {
        int sent = 0;
        for (int i = 0; i < RECEIVERS; i++)
            if (shared->sent[i] - shared->received[i] < WINDOW &&
                sigqueue(children[i], SIGRTMIN + 3, (union sigval){ .sival_int = shared->sent[i] }) == 0)
                sent++, shared->sent[i] += 1;
        if (!sent || random_number() % 8 == 0)
            sched_yield();
    }
    for (int i = 0; i < RECEIVERS; i++)
        while (shared->received[i] < shared->sent[i] && microseconds() < end + HANG_US)
            usleep(1000);
}

int main(int argc, char **argv)
{
    const char *setting = argc > 1 ? argv[1] : getenv("STORM_SECONDS");
    double seconds = setting ? atof(setting) : 5;
    pid_t children[JOBS];
    int has_gate = gate_command("nmi-storm 0");
    char name[64];

    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    detect_extended_state();
    long nmis = gate_status("nmis"), ipis = gate_status("ipis");
    for (int i = 0; i < JOBS; i++)
        if ((has_gate || jobs[i] != prodder) && (children[i] = fork()) == 0) {
            jobs[i]();
            _exit(0);
        }
    while (shared->ready < RECEIVERS)
        usleep(1000);
    if (has_gate)
        check(gate_command("nmi-storm 200"), "NMI storm started", "%s", strerror(errno));
    send_signals(children, microseconds() + seconds * 1e6);
    shared->stop = 1;

    for (int i = 0; i < JOBS; i++) {
        int status = 0;
        if (!has_gate && jobs[i] == prodder)
            continue;
        while (waitpid(children[i], &status, 0) < 0 && errno == EINTR)
            ;
        check(status == 0 && shared->rounds[i] > 0, job_names[i], "status %#x after %lu rounds", status, shared->rounds[i]);
    }
    if (has_gate)
        gate_command("nmi-storm 0");
    for (int i = 0; i < RECEIVERS; i++) {
        snprintf(name, sizeof name, "signals to the task of: %s", job_names[i]);
        check(shared->sent[i] && shared->received[i] == shared->sent[i] && !shared->misordered[i], name,
              "%u sent, %u received, %u out of order", shared->sent[i], shared->received[i], shared->misordered[i]);
    }
    if (has_gate) {
        long raised = gate_status("nmis") - nmis, prodded = gate_status("ipis") - ipis;
        check(raised >= (steady_clock() ? seconds * 100 : 1), "NMIs came", "%ld in %.0f s", raised, seconds);
        check(prodded > 0, "IPIs came", "%ld", prodded);
        long violations = gate_status("violations");
        check(violations == 0, "no invariant was broken", "violations %ld", violations);
    } else {
        skip("NMIs and IPIs", "no /dev/gate");
    }
    return done();
}
