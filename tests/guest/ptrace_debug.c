/* Debug registers through a tracer: what may be put there, and what they catch.
 *
 * Catalogue rows: 8 (a watchpoint in the kernel's way), 17 (kernel addresses in debug registers).
 */
#include "registers.h"
#include "tracer.h"
#include <fcntl.h>
#include <sched.h>

enum { WRITE = 1, PORTS = 2, ACCESS = 3, LEN1 = 0, LEN2 = 1, LEN8 = 2, LEN4 = 3 };
#define DR(n) offsetof(struct user, u_debugreg[n])
#define ENABLED(n, kind, len) (1ul << (2 * (n)) | (unsigned long)((len) << 2 | (kind)) << (16 + 4 * (n)))

static unsigned long watched[8] __attribute__((aligned(64)));
static int pipes[2];

SNIPPET(accesses,
        "int3\nmov $5, %rax\nmov %rax, watched(%rip)\nmov watched(%rip), %rbx\nmov %al, watched+8(%rip)\nnop\nnop\nint3\n");
extern const unsigned char accesses[];

static const void *snippet;

static int run_snippet(void)
{
    randomize(&in);
    in.rflags = FLAGS_DEFAULT;
    run(snippet);
    return 0;
}

static pid_t start_snippet(const void *code)
{
    snippet = code;
    pid_t child = start_traced(run_snippet);
    go(PTRACE_CONT, child, 0);
    return child;
}

static long set_dr(pid_t child, int n, unsigned long value)
{
    return trace(PTRACE_POKEUSER, child, DR(n), value);
}

static int code_of(pid_t child)
{
    siginfo_t info = { 0 };
    trace(PTRACE_GETSIGINFO, child, 0, (long)&info);
    return info.si_code;
}

/* Row 17. */
static void addresses(void)
{
    pid_t child = start_snippet(accesses);
    static const unsigned long bad[] = { 0xffff800000000000, 0xffffffff81000000, 0xfffffe0000001000, ~0ul, ~7ul,
                                         0xffffffffff600000, 1ul << 63 };
    int taken = 0;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int n = 0; n < 4; n++)
            taken += set_dr(child, n, bad[i]) != -EINVAL || peek_user(child, DR(n)) != 0;
    check(!taken, "kernel addresses are refused", "%d taken", taken);
    check(set_dr(child, 0, task_size() - 1) == 0 && set_dr(child, 0, task_size()) == -EINVAL, "up to the last byte",
          "taken or refused");
    check(set_dr(child, 0, task_size() - 1) == 0 && set_dr(child, 7, ENABLED(0, WRITE, LEN2)) == -EINVAL,
          "a range across the end", "taken");
    check(set_dr(child, 4, 0) == -EIO && set_dr(child, 5, 0) == -EIO, "DR4 and DR5", "taken");
    set_dr(child, 0, (unsigned long)watched);
    check(set_dr(child, 7, ENABLED(0, PORTS, LEN1)) == -EINVAL, "I/O ports", "taken");
    check(set_dr(child, 7, ENABLED(0, 0, LEN4)) == -EINVAL, "execution of four bytes", "taken");
    set_dr(child, 0, (unsigned long)watched + 1);
    check(set_dr(child, 7, ENABLED(0, WRITE, LEN4)) == -EINVAL, "a range that is not aligned", "taken");
    check(peek_user(child, DR(7)) == 0, "what is refused has no effect", "%#lx", peek_user(child, DR(7)));
    set_dr(child, 0, (unsigned long)watched);
    check(set_dr(child, 7, ENABLED(0, WRITE, LEN8)) == 0, "a good one", "refused");
    check(set_dr(child, 0, (unsigned long)watched + 4) == -EINVAL, "an address that does not fit its length", "taken");
    check(peek_user(child, DR(7)) == ENABLED(0, WRITE, LEN8) && peek_user(child, DR(0)) == (unsigned long)watched,
          "is read back", "%#lx", peek_user(child, DR(7)));
    finish(child);
}

static void random_writes(void)
{
    pid_t child = start_snippet(accesses);
    for (int i = 0; i < 3000; i++) {
        int n = random_number() % 8;
        unsigned long value = random_number();
        switch (random_number() % 4) {
        case 0: value &= 0xffffffff; break;
        case 1: value = (unsigned long)watched + value % 32; break;
        case 2: value |= 0xffff800000000000; break;
        }
        set_dr(child, n, value);
        if (n < 4 && peek_user(child, DR(n)) >= task_size())
            check(0, "random writes", "DR%d is %#lx", n, peek_user(child, DR(n)));
    }
    /* Whatever is watched now: the kernel goes in and out with it. */
    int status = -1;
    for (int i = 0; i < 20; i++) {
        status = go(PTRACE_CONT, child, 0);
        if (!WIFSTOPPED(status))
            break;
        sched_yield();
    }
    check(1, "random writes", "%#x", status);
    finish(child);
}

static void hits(void)
{
    pid_t child = start_snippet(accesses);
    unsigned long base = (unsigned long)accesses;
    set_dr(child, 0, (unsigned long)watched);
    set_dr(child, 1, (unsigned long)watched + 8);
    set_dr(child, 2, base + 29);
    check(!set_dr(child, 7, ENABLED(0, WRITE, LEN8) | ENABLED(1, ACCESS, LEN1)), "two watchpoints", "refused");
    int status = go(PTRACE_CONT, child, 0);
    unsigned long rip = peek_user(child, REGISTER(rip)) - base;
    check(status == STOP(SIGTRAP) && rip == 15 && (peek_user(child, DR(6)) & 0xf) == 1, "a write",
          "status %#x at %lu, DR6 %#lx", status, rip, peek_user(child, DR(6)));
    check(code_of(child) == TRAP_HWBKPT, "says so", "code %d", code_of(child));
    status = go(PTRACE_CONT, child, 0);
    rip = peek_user(child, REGISTER(rip)) - base;
    check(status == STOP(SIGTRAP) && rip == 28 && (peek_user(child, DR(6)) & 0xf) == 2, "not the read, but the next write",
          "status %#x at %lu, DR6 %#lx", status, rip, peek_user(child, DR(6)));
    check(!set_dr(child, 7, ENABLED(2, 0, LEN1)), "a breakpoint", "refused");
    status = go(PTRACE_CONT, child, 0);
    rip = peek_user(child, REGISTER(rip)) - base;
    check(status == STOP(SIGTRAP) && rip == 29 && (peek_user(child, DR(6)) & 0xf) == 4, "stops before its instruction",
          "status %#x at %lu, DR6 %#lx", status, rip, peek_user(child, DR(6)));
    check(code_of(child) == TRAP_HWBKPT, "says so, too", "code %d", code_of(child));
    status = go(PTRACE_CONT, child, 0);
    rip = peek_user(child, REGISTER(rip)) - base;
    check(status == STOP(SIGTRAP) && rip == (unsigned long)(accesses_end - accesses), "and goes on", "status %#x at %lu",
          status, rip);
    check(!set_dr(child, 6, 0xffff0ff0), "DR6 is cleared", "refused");
    check(peek_user(child, DR(6)) == 0xffff0ff0, "and reads so", "%#lx", peek_user(child, DR(6)));
    finish(child);
}

static int kernel_reads(void)
{
    int wrong = 0;
    for (int i = 0; i < 20; i++) {
        wrong += write(pipes[1], watched, sizeof watched) != sizeof watched;
        wrong += read(pipes[0], watched, sizeof watched) != sizeof watched;
        struct timespec zero = { 0, 1000 };
        nanosleep(&zero, NULL);
    }
    raise(SIGUSR1);
    watched[1] = 7;
    return wrong;
}

/* The kernel reads and writes watched memory in the program's name: nothing happens. */
static void kernel_accesses(void)
{
    if (pipe(pipes))
        return;
    pid_t child = start_traced(kernel_reads);
    set_dr(child, 1, (unsigned long)&watched[1]);
    set_dr(child, 7, ENABLED(1, ACCESS, LEN8));
    int status = go(PTRACE_CONT, child, 0);
    check(status == STOP(SIGUSR1), "the kernel's accesses stop nobody", "status %#x", status);
    check((peek_user(child, DR(6)) & 0xf) == 0, "nor does DR6 tell of them", "%#lx", peek_user(child, DR(6)));
    status = go(PTRACE_CONT, child, 0);
    check(status == STOP(SIGTRAP), "the program's own does", "status %#x", status);
    status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(0), "and all went well", "status %#x", status);
    close(pipes[0]);
    close(pipes[1]);
}

static int fork_and_touch(void)
{
    pid_t child = fork();
    if (!child) {
        watched[0] = 1;
        _exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status ? 1 : 2;
}

/* Another task that touches the same address is not stopped. */
static void of_one_task(void)
{
    pid_t child = start_traced(fork_and_touch);
    set_dr(child, 0, (unsigned long)&watched[0]);
    set_dr(child, 7, ENABLED(0, WRITE, LEN8));
    for (int i = 0; i < 100; i++) {
        watched[0] = i;
        sched_yield();
    }
    int status = go(PTRACE_CONT, child, 0);
    while (status == STOP(SIGCHLD))
        status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(2), "they are not inherited", "status %#x", status);
}

static void step_onto_breakpoint(void)
{
    pid_t child = start_snippet(accesses);
    unsigned long base = (unsigned long)accesses;
    set_dr(child, 3, base + 8);
    set_dr(child, 7, ENABLED(3, 0, LEN1));
    int status = go(PTRACE_SINGLESTEP, child, 0);
    unsigned long rip = peek_user(child, REGISTER(rip)) - base;
    check(status == STOP(SIGTRAP) && rip == 8, "a step onto a breakpoint", "status %#x at %lu", status, rip);
    unsigned long last = rip;
    status = go(PTRACE_SINGLESTEP, child, 0);
    rip = peek_user(child, REGISTER(rip)) - base;
    if (rip == last)
        status = go(PTRACE_SINGLESTEP, child, 0);
    rip = peek_user(child, REGISTER(rip)) - base;
    check(status == STOP(SIGTRAP) && rip == 15, "and over it", "status %#x at %lu", status, rip);
    finish(child);
}

int main(void)
{
    addresses();
    random_writes();
    hits();
    kernel_accesses();
    of_one_task();
    step_onto_breakpoint();
    return done();
}
