/* x87, SSE, AVX (and AVX-512) registers, MXCSR and the control word are kept across system calls, faults, signals, fork
 * and preemption. Bug 15: state leaks or goes stale across a switch; here several tasks with different patterns share a
 * CPU. A signal handler starts with the initial state, and what it leaves there does not reach the interrupted code.
 */
#include "extended_state.h"
#include <linux/futex.h>
#include <sched.h>

static struct extended_state at_entry __attribute__((used));

/* The number in RAX is kept in R12, its third argument in R13. */
#define AROUND(middle) \
    "mov %rax, %r12; mov %rdx, %r13\n" LOAD_STATE("state_in") "mov %r12, %rax; mov %r13, %rdx\n" middle \
    "\nmov %rax, %r12\n" STORE_STATE("state_out") "mov %r12, %rax\n"

SNIPPET(around_syscall, AROUND("syscall"));
SNIPPET(around_fault, AROUND("mov (%rbx), %rcx"));
SNIPPET(around_ud2, AROUND("ud2_here: ud2\nud2_behind:"));
SNIPPET(around_spin, AROUND("1: dec %rbx; jnz 1b"));
extern const unsigned char ud2_here[], ud2_behind[];

/* A handler that stores the state it is entered with. */
asm(".pushsection .text\n"
    "state_handler: push %rax; push %rdx\n" STORE_STATE("at_entry") "pop %rdx; pop %rax\n"
    "jmp signal_entry\n"
    ".popsection\n");
extern const unsigned char state_handler[];

static void dirty(int signal, siginfo_t *info, ucontext_t *context)
{
    (void)signal, (void)info, (void)context;
    uint32_t mxcsr = 0x7f80;
    asm volatile("ldmxcsr %0; fninit; fldpi; pcmpeqd %%xmm0, %%xmm0; movdqa %%xmm0, %%xmm7; movdqa %%xmm0, %%xmm15"
                 : : "m"(mxcsr));
}

static void repeat(const char *name, const void *snippet, uint64_t number, int rounds)
{
    const char *wrong = NULL;
    for (int round = 0; round < rounds && !wrong; round++) {
        randomize(&in);
        random_state_pattern(&state_in);
        in.rax = number;
        run(snippet);
        wrong = state_difference(&state_in, &state_out);
    }
    check(!wrong, name, "%s", wrong);
}

static void across_faults(void)
{
    const char *wrong = NULL;
    char *fresh = mmap(NULL, 64 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int round = 0; round < 64 && !wrong; round++) {
        randomize(&in);
        random_state_pattern(&state_in);
        in.rbx = (uint64_t)fresh + round * 4096;
        run(around_fault);
        wrong = state_difference(&state_in, &state_out);
    }
    check(!wrong, "demand-paging faults", "%s", wrong);
    munmap(fresh, 64 * 4096);
}

static void across_signals(void)
{
    struct { const void *handler; unsigned long flags; const void *restorer; uint64_t mask; } action =
        { state_handler, SA_SIGINFO | SA_ONSTACK | 0x04000000, signal_restorer, 0 };
    catch_signal(SIGILL, 0);
    syscall(SYS_rt_sigaction, SIGILL, &action, NULL, 8);
    resume_at = ud2_behind;
    on_signal = dirty;
    repeat("signals whose handler uses the registers", around_ud2, 0, 50);

    struct extended_state initial = { { 0 } };
    *(uint16_t *)initial.bytes = 0x37f;
    *(uint32_t *)(initial.bytes + MXCSR) = 0x1f80;
    const char *wrong = state_difference(&initial, &at_entry);
    check(!wrong, "the handler starts with the initial state", "%s", wrong);

    randomize(&in);
    random_state_pattern(&state_in);
    on_signal = NULL;
    run(around_ud2);
    check(!state_difference(&state_in, &state_out), "the frame gives the state back", "it differs");
}

static void across_fork(void)
{
    pid_t self = getpid();
    int status = -1;
    randomize(&in);
    random_state_pattern(&state_in);
    in.rax = SYS_fork;
    run(around_syscall);
    const char *wrong = state_difference(&state_in, &state_out);
    if (getpid() != self)
        _exit(wrong != NULL);
    waitpid(out.rax, &status, 0);
    check(!wrong, "fork, in the parent", "%s", wrong);
    check(status == 0, "fork, in the child", "status %#x", status);
}

/* Spins with its own pattern in the registers for a while. */
static int spin_with_pattern(void)
{
    uint64_t end = microseconds() + 250000;
    random_state ^= (uint64_t)getpid() << 32;
    while (microseconds() < end) {
        randomize(&in);
        random_state_pattern(&state_in);
        in.rbx = 300000 + random_number() % 1000000;
        run(around_spin);
        if (state_difference(&state_in, &state_out))
            return 1;
        in.rax = SYS_sched_yield;
        run(around_syscall);
        if (state_difference(&state_in, &state_out))
            return 2;
    }
    return 0;
}

static void across_preemption(void)
{
    cpu_set_t one;
    pid_t children[3];
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    for (int i = 0; i < 3; i++)
        if ((children[i] = fork()) == 0)
            _exit(spin_with_pattern());
    for (int i = 0; i < 3; i++) {
        char name[48];
        int status = -1;
        waitpid(children[i], &status, 0);
        snprintf(name, sizeof name, "three tasks on one CPU, the %s", &"first\0 second\0third"[i * 7]);
        check(status == 0, name, "status %#x (exit 1 = while spinning, 2 = across sched_yield)", status);
    }
}

int main(void)
{
    detect_extended_state();
    repeat("getpid", around_syscall, SYS_getpid, 100);
    repeat("unknown system call", around_syscall, 4000, 100);
    repeat("sched_yield", around_syscall, SYS_sched_yield, 100);
    across_faults();
    across_signals();
    across_fork();
    across_preemption();
    return done();
}
