/* Flags that the user set do not disturb the kernel, do not reach a handler that must not see them, and come back.
 * Bug 25: TF set at SYSCALL. Bug 28: DF set by the user reaches the kernel or the handler. Bug 41: AC or TF survives into
 * the kernel because the flag mask is short. Every combination of TF, DF, AC, NT and ID at SYSCALL, INT 0x80, INT3, an
 * invalid opcode, a page fault, and the timer interrupt. A single step must be seen where Linux shows it: none is reported
 * right behind a SYSCALL or INT 0x80, since the return with TF set is by IRET. FRED reports it there.
 */
#include "registers.h"
#include <sched.h>

SNIPPET(at_syscall, "syscall; nop; nop");
SNIPPET(at_int80, "int $0x80; nop; nop");
SNIPPET(at_int3, "int3; nop; nop");
SNIPPET(at_ud2, "ud2; nop; nop");
SNIPPET(at_page_fault, "mov %bl, (%rdi); nop; nop");
SNIPPET(spin, "1: lea -1(%rcx), %rcx; jrcxz 2f; jmp 1b\n2:");
SNIPPET(loaded_by_popf, "push %rax; popfq; pushfq; pop %rax");

enum { KEPT_BY_SIGRETURN = ARITHMETIC | TF | DF | AC };

static struct { uint64_t trapno, rip; } events[32];
static int event_count;
static uint64_t step_count;
static const char *wrong;
static int counting_only;

/* Counts the signals between the start of a snippet and its end; at the end, stops the single step. */
static void follow(int signal, siginfo_t *info, ucontext_t *context)
{
    greg_t *g = context->uc_mcontext.gregs;
    (void)info;
    if (caught.rip == (uint64_t)door_return) {
        g[REG_EFL] &= ~TF;
        return;
    }
    step_count++;
    if (counting_only)
        return;
    if (caught.rip < (uint64_t)at_syscall || caught.rip > (uint64_t)loaded_by_popf_end)
        return; /* still on the way there */
    if (event_count < 32) {
        events[event_count].trapno = caught.trapno;
        events[event_count++].rip = caught.rip;
    }
    uint64_t frame = caught.registers.rflags & ~(uint64_t)RF, want = in.rflags;
    if (event_count > 1 || (in.rflags & TF)) /* an earlier sigreturn took these two */
        want &= ~(uint64_t)(NT | ID), frame &= ~(uint64_t)(NT | ID);
    if (!wrong && frame != want)
        wrong = "the flags in the frame are not those of the moment";
    uint64_t entered = at_handler.rflags;
    if (!wrong && (entered & (TF | DF)))
        wrong = "the handler was entered with TF or DF";
    if (!wrong && ((entered ^ in.rflags) & AC))
        wrong = "AC did not reach the handler, as it does on Linux";
    if (signal == SIGILL)
        g[REG_RIP] += 2;
}

/* `steps`: offsets of the RIPs reported with TF set, ended by -1; `plain`: without. */
struct door {
    const char *name;
    const unsigned char *code;
    uint64_t number;
    int steps[6], plain[3];
};

static void pass(const struct door *door, uint64_t flags)
{
    static unsigned char *page;
    char name[64];
    /* With FRED the step over a call comes at once. */
    static const int at_once[] = { 0, 2, 3, 4, -1 };
    const int *steps = fred() && (door->code == at_syscall || door->code == at_int80) ? at_once : door->steps;
    const int *expected = flags & TF ? steps : door->plain;
    if (page)
        munmap(page, 4096);
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    randomize(&in);
    in.rax = door->number;
    in.rdi = (uint64_t)page;
    in.rflags |= flags;
    event_count = 0;
    wrong = NULL;
    run(door->code);
    int count = 0;
    while (expected[count] >= 0)
        count++;
    for (int i = 0; i < count && !wrong; i++)
        if (i >= event_count || events[i].rip != (uint64_t)door->code + expected[i])
            wrong = "a signal is not where it should be";
    if (!wrong && event_count != count)
        wrong = "too many signals";
    struct registers want = in;
    want.rflags &= ~(uint64_t)TF;
    if (event_count || (flags & TF))
        want.rflags &= KEPT_BY_SIGRETURN & ~TF, want.rflags |= FLAGS_DEFAULT;
    if (!wrong)
        wrong = difference(&want, &out, door->code == at_syscall ? NO_RAX | NO_RCX | NO_R11 : door->code == at_int80 ? NO_RAX : 0);
    snprintf(name, sizeof name, "%s with flags%s%s%s%s%s", door->name, flags & TF ? " TF" : "", flags & DF ? " DF" : "",
             flags & AC ? " AC" : "", flags & NT ? " NT" : "", flags & ID ? " ID" : "");
    check(!wrong, name, "%s; %d signals, the first two at %ld and %ld", wrong, event_count,
          (long)(events[0].rip - (uint64_t)door->code), (long)(events[1].rip - (uint64_t)door->code));
}

static void every_combination(void)
{
    const struct door doors[] = {
        { "SYSCALL", at_syscall, SYS_getpid, { 0, 3, 4, -1 }, { -1 } },
        { "unknown SYSCALL", at_syscall, -1ull, { 0, 3, 4, -1 }, { -1 } },
        { "sched_yield", at_syscall, SYS_sched_yield, { 0, 3, 4, -1 }, { -1 } },
        { "INT 0x80", at_int80, 20 /* getpid */, { 0, 3, 4, -1 }, { -1 } },
        { "unknown INT 0x80", at_int80, 0xffffffff, { 0, 3, 4, -1 }, { -1 } },
        { "INT3", at_int3, 0, { 0, 1, 2, 3, -1 }, { 1, -1 } },
        { "UD2", at_ud2, 0, { 0, 0, 3, 4, -1 }, { 0, -1 } },
        { "page fault", at_page_fault, 0, { 0, 2, 3, 4, -1 }, { -1 } },
    };
    static const uint64_t bits[] = { TF, DF, AC, NT, ID };
    on_signal = follow;
    for (size_t d = 0; d < sizeof doors / sizeof *doors; d++)
        for (int subset = 0; subset < 32; subset++) {
            uint64_t flags = 0;
            for (int bit = 0; bit < 5; bit++)
                flags |= subset >> bit & 1 ? bits[bit] : 0;
            pass(&doors[d], flags);
        }
    on_signal = NULL;
}

/* Preempted by another task and by the timer: the flags come back, and no signal is made up. */
static void interrupts(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    pid_t other = fork();
    for (volatile unsigned long busy = 0; other == 0; busy++)
        ;
    static const uint64_t flags[] = { 0, DF, AC, NT, ID, DF | AC | NT | ID };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        uint64_t start = microseconds();
        const char *differs = NULL;
        caught.count = 0;
        while (microseconds() < start + 30000 && !differs) {
            randomize(&in);
            in.rcx = 500000;
            in.rflags |= flags[i];
            run(spin);
            struct registers want = in;
            want.rcx = 0;
            differs = difference(&want, &out, 0);
        }
        char name[48];
        snprintf(name, sizeof name, "timer interrupts with flags %#lx", flags[i]);
        check(!differs && !caught.count, name, "%d signals, %s", caught.count, differs ? differs : "registers right");
    }
    /* Single-stepped while interrupts come: each step is reported exactly once. */
    const char *differs = NULL;
    uint64_t rounds = 700;
    randomize(&in);
    in.rcx = rounds;
    in.rflags |= TF;
    step_count = 0;
    counting_only = 1;
    on_signal = follow;
    run(spin);
    on_signal = NULL;
    counting_only = 0;
    struct registers want = in;
    want.rcx = 0;
    differs = difference(&want, &out, NO_RFLAGS);
    /* Two steps to the snippet (the stack, the jump), three per round, the last round without its jump back, and the
     * jump to the end is the one at which `follow` stops. */
    uint64_t expected = 2 + rounds * 3 - 1;
    check(!differs && step_count == expected, "each single step reported once", "%lu steps, not %lu, %s", step_count,
          expected, differs ? differs : "registers right");
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
}

/* POPF in user mode cannot set what is not the user's. */
static void popf(void)
{
    static const uint64_t privileged = IOPL | VM | VIF | VIP | RF;
    int bad = 0;
    for (int round = 0; round < 200; round++) {
        randomize(&in);
        in.rax &= ~(uint64_t)(TF | IF | NT | AC | ID);
        run(loaded_by_popf);
        bad += (out.rax & privileged) != 0 || !(out.rax & IF);
    }
    check(!bad, "POPF sets no privileged flag", "%d of 200 did", bad);
}

int main(void)
{
    catch_signal(SIGTRAP, 0);
    catch_signal(SIGILL, 0);
    every_combination();
    interrupts();
    popf();
    return done();
}
