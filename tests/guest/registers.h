/* Runs a piece of code with every register chosen, and catches signals with every register recorded.
 *
 *     SNIPPET(ud2, "ud2");                  code that may clobber anything, the stack pointer included
 *     randomize(&in); in.rsp = 0; run(ud2); jumps there with the registers `in`, comes back with `out`
 *
 * A signal that was prepared with `catch_signal` comes in at `signal_entry`, which stores the registers before the
 * compiler's code can touch them (`at_handler`), clears the flags, and records the frame (`caught`). It then resumes
 * at `resume_at` if that is set, and calls `on_signal` if that is set, so that either may change the frame.
 */
#ifndef REGISTERS_H
#define REGISTERS_H

#include "gate.h"
#include <stddef.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, TF = 0x100, IF = 0x200, DF = 0x400, OF = 0x800,
       IOPL = 0x3000, NT = 0x4000, RF = 0x10000, VM = 0x20000, AC = 0x40000, VIF = 0x80000, VIP = 0x100000,
       ID = 0x200000, ARITHMETIC = CF | PF | AF | ZF | SF | OF, FLAGS_DEFAULT = IF | 2 };

struct registers {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15, rflags;
};

static const char *const register_names[] = { "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9",
                                              "r10", "r11", "r12", "r13", "r14", "r15", "rflags" };

/* `in`: what `run` loads. `out`: what the snippet left. `at_handler`: what the last signal handler was entered with. */
__attribute__((used)) static struct registers in, out, at_handler;

/* What SYSCALL makes of RCX and R11: the address after it and the flags. With FRED it leaves both alone. */
__attribute__((unused)) static void leave_syscall(struct registers *regs, const void *behind)
{
    if (fred())
        return;
    regs->rcx = (uint64_t)behind;
    regs->r11 = in.rflags;
}

#define STORE_REGISTERS(to) \
    "mov %rax, " to "(%rip); mov %rbx, " to "+8(%rip); mov %rcx, " to "+16(%rip); mov %rdx, " to "+24(%rip)\n" \
    "mov %rsi, " to "+32(%rip); mov %rdi, " to "+40(%rip); mov %rbp, " to "+48(%rip); mov %rsp, " to "+56(%rip)\n" \
    "mov %r8, " to "+64(%rip); mov %r9, " to "+72(%rip); mov %r10, " to "+80(%rip); mov %r11, " to "+88(%rip)\n" \
    "mov %r12, " to "+96(%rip); mov %r13, " to "+104(%rip); mov %r14, " to "+112(%rip); mov %r15, " to "+120(%rip)\n"

#define LOAD_REGISTERS(from) /* all but the stack pointer */ \
    "mov " from "(%rip), %rax; mov " from "+8(%rip), %rbx; mov " from "+16(%rip), %rcx\n" \
    "mov " from "+24(%rip), %rdx; mov " from "+32(%rip), %rsi; mov " from "+40(%rip), %rdi\n" \
    "mov " from "+48(%rip), %rbp; mov " from "+64(%rip), %r8; mov " from "+72(%rip), %r9\n" \
    "mov " from "+80(%rip), %r10; mov " from "+88(%rip), %r11; mov " from "+96(%rip), %r12\n" \
    "mov " from "+104(%rip), %r13; mov " from "+112(%rip), %r14; mov " from "+120(%rip), %r15\n"

asm(".local door_stack, door_target\n"
    ".comm door_stack, 8, 8\n"
    ".comm door_target, 8, 8\n"
    ".pushsection .text\n"
    "run:\n"
    "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; pushfq\n"
    "mov %rsp, door_stack(%rip)\n"
    "mov %rdi, door_target(%rip)\n"
    LOAD_REGISTERS("in")
    "pushq in+128(%rip)\n"
    "popfq\n" /* no instruction from here to the snippet changes a flag */
    "mov in+56(%rip), %rsp\n"
    "jmp *door_target(%rip)\n"
    "door_return:\n"
    STORE_REGISTERS("out")
    "mov door_stack(%rip), %rsp\n"
    "pushfq\n"
    "popq out+128(%rip)\n"
    "popfq; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "ret\n"
    "signal_entry:\n"
    STORE_REGISTERS("at_handler")
    "pushfq\n"
    "popq at_handler+128(%rip)\n"
    "pushq $2\n"
    "popfq\n"
    "sub $8, %rsp\n"
    "call record_signal\n"
    "add $8, %rsp\n"
    "ret\n"
    "signal_restorer:\n"
    "mov $15, %eax\n" /* rt_sigreturn */
    "syscall\n"
    "ud2\n"
    ".popsection\n");

extern void run(const void *snippet);
extern const unsigned char door_return[], signal_entry[], signal_restorer[];

/* Code named `name`, whose first byte past the end is `name_end`. */
#define SNIPPET(name, text) \
    asm(".pushsection .text\n" #name ":\n" text "\n" #name "_end: jmp door_return\n.popsection\n"); \
    extern const unsigned char name[], name##_end[]

static uint64_t random_state = 0x9e3779b97f4a7c15;

__attribute__((unused)) static uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1d;
}

static unsigned char scratch_stack[16384] __attribute__((aligned(4096)));
#define SCRATCH_TOP ((uint64_t)scratch_stack + sizeof scratch_stack)

/* Random values in all registers, a good stack, and random arithmetic flags. */
__attribute__((unused)) static void randomize(struct registers *registers)
{
    for (size_t i = 0; i < sizeof *registers / 8; i++)
        ((uint64_t *)registers)[i] = random_number();
    registers->rsp = SCRATCH_TOP - 256;
    registers->rflags = FLAGS_DEFAULT | (registers->rflags & ARITHMETIC);
}

/* Where `got` differs from `want`: text for a report, or NULL. Registers in `ignored` (rax = bit 0 …) may differ. */
__attribute__((unused))
static const char *difference(const struct registers *want, const struct registers *got, unsigned ignored)
{
    static char text[80];
    for (size_t i = 0; i < sizeof *want / 8; i++) {
        uint64_t a = ((uint64_t *)want)[i], b = ((uint64_t *)got)[i];
        if (a == b || (ignored >> i & 1))
            continue;
        snprintf(text, sizeof text, "%s is %#lx, not %#lx", register_names[i], b, a);
        return text;
    }
    return NULL;
}

enum { NO_RAX = 1, NO_RCX = 4, NO_RSP = 0x80, NO_R11 = 1 << 11, NO_RFLAGS = 1 << 16 };

static struct {
    int count, signal;
    siginfo_t info;
    struct registers registers;
    uint64_t rip, cs, ss, err, trapno, cr2;
} caught;

/* The registers where an interrupt hit. QEMU 10.0 and 11.1 set RF there, as at a fault; a processor does so only within a
 * repeated string instruction. */
__attribute__((unused)) static const struct registers *interrupted(void)
{
    if (emulated())
        caught.registers.rflags &= ~(uint64_t)RF;
    return &caught.registers;
}

static const void *resume_at;
static void (*on_signal)(int signal, siginfo_t *info, ucontext_t *context);

__attribute__((used)) static void record_signal(int signal, siginfo_t *info, ucontext_t *context)
{
    const greg_t *g = context->uc_mcontext.gregs;
    caught.count++;
    caught.signal = signal;
    caught.info = *info;
    caught.registers = (struct registers){
        g[REG_RAX], g[REG_RBX], g[REG_RCX], g[REG_RDX], g[REG_RSI], g[REG_RDI], g[REG_RBP], g[REG_RSP], g[REG_R8],
        g[REG_R9], g[REG_R10], g[REG_R11], g[REG_R12], g[REG_R13], g[REG_R14], g[REG_R15], g[REG_EFL] };
    caught.rip = g[REG_RIP];
    caught.cs = g[REG_CSGSFS] & 0xffff;
    caught.ss = (uint64_t)g[REG_CSGSFS] >> 48;
    caught.err = g[REG_ERR];
    caught.trapno = g[REG_TRAPNO];
    caught.cr2 = g[REG_CR2];
    if (resume_at)
        context->uc_mcontext.gregs[REG_RIP] = (uint64_t)resume_at;
    if (on_signal)
        on_signal(signal, info, context);
}

/* The end of user addresses: one page short of the first that is not canonical, with 4 or 5 levels of page tables. */
__attribute__((unused)) static uint64_t task_size(void)
{
    void *high = (void *)((1ull << 56) - 8192);
    if (mmap(high, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != high)
        return (1ull << 47) - 4096;
    munmap(high, 4096);
    return (1ull << 56) - 4096;
}

static unsigned char signal_stack[65536] __attribute__((aligned(4096)));

/* Handles `signal` on the alternate stack; `flags` are added. */
__attribute__((unused)) static void catch_signal(int signal, unsigned long flags)
{
    struct { const void *handler; unsigned long flags; const void *restorer; uint64_t mask; } action =
        { signal_entry, SA_SIGINFO | SA_ONSTACK | 0x04000000 /* SA_RESTORER */ | flags, signal_restorer, 0 };
    stack_t stack = { .ss_sp = signal_stack, .ss_size = sizeof signal_stack };
    if (sigaltstack(&stack, NULL) || syscall(SYS_rt_sigaction, signal, &action, NULL, 8)) {
        perror("catch_signal");
        _exit(98);
    }
}

#endif
