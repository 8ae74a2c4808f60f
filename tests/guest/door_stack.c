/* Bug 42: registers pushed on the user's stack before the stack switch. The kernel must neither use nor change RSP: at
 * SYSCALL, exceptions and interrupts it is null, unmapped, read-only, misaligned, non-canonical, or a kernel address,
 * and everything works. Signals are taken on the alternate stack; without one, the task dies of SIGSEGV.
 */
#include "registers.h"
#include <sched.h>
#include <sys/time.h>

SNIPPET(enter_kernel, "syscall");
SNIPPET(enter_32, "int $0x80");
SNIPPET(breakpoint, "int3");
SNIPPET(undefined, "ud2");
SNIPPET(touch, "mov %bl, (%rdi)");
SNIPPET(spin, "1: jmp 1b");
SNIPPET(countdown, "1: lea -1(%rcx), %rcx; jrcxz 2f; jmp 1b\n2:");
SNIPPET(push, "push %rax");

static int remaining;
static const char *in_frame;

static void on_timer(int signal, siginfo_t *info, ucontext_t *context)
{
    (void)signal, (void)info;
    if (caught.rip != (uint64_t)spin)
        return; /* on the way there */
    if (!in_frame)
        in_frame = difference(&in, interrupted(), 0);
    if (--remaining <= 0)
        context->uc_mcontext.gregs[REG_RIP] = (greg_t)spin_end;
}

/* Runs a snippet that raises `signal`, and compares frame and registers after it. */
static const char *exception(const void *snippet, int signal)
{
    caught.count = 0;
    run(snippet);
    caught.registers.rflags &= ~(uint64_t)RF;
    if (caught.count != 1 || caught.signal != signal)
        return "not that signal";
    const char *wrong = difference(&in, &caught.registers, 0);
    return wrong ? wrong : difference(&in, &out, 0);
}

static int die_by_breakpoint(void)
{
    stack_t none = { .ss_flags = SS_DISABLE };
    sigaltstack(&none, NULL);
    run(breakpoint);
    return 1;
}

static int die_by_kill(void)
{
    stack_t none = { .ss_flags = SS_DISABLE };
    sigaltstack(&none, NULL);
    in.rax = SYS_kill;
    in.rdi = getpid();
    in.rsi = SIGTRAP;
    run(enter_kernel);
    return 1;
}

static void every_door(uint64_t rsp, const char *what, int usable)
{
    struct itimerval timer = { { 0, 1000 }, { 0, 1000 } }, off = { 0 };
    char name[96];
    const char *wrong;

    randomize(&in);
    in.rsp = rsp;
    in.rax = SYS_getpid;
    run(enter_kernel);
    struct registers want = in;
    want.rax = getpid();
    leave_syscall(&want, enter_kernel_end);
    wrong = difference(&want, &out, 0);
    snprintf(name, sizeof name, "SYSCALL, RSP %s", what);
    check(!wrong, name, "%s", wrong);

    in.rax = 20; /* getpid */
    run(enter_32);
    want = in;
    want.rax = getpid();
    wrong = difference(&want, &out, 0);
    snprintf(name, sizeof name, "INT 0x80, RSP %s", what);
    check(!wrong, name, "%s", wrong);

    resume_at = breakpoint_end;
    wrong = exception(breakpoint, SIGTRAP);
    snprintf(name, sizeof name, "INT3, RSP %s", what);
    check(!wrong, name, "%s", wrong);

    resume_at = undefined_end;
    wrong = exception(undefined, SIGILL);
    snprintf(name, sizeof name, "UD2, RSP %s", what);
    check(!wrong, name, "%s", wrong);

    resume_at = touch_end;
    in.rdi = 16;
    wrong = exception(touch, SIGSEGV);
    snprintf(name, sizeof name, "page fault with a signal, RSP %s", what);
    check(!wrong, name, "%s", wrong);
    resume_at = NULL;

    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    in.rdi = (uint64_t)page;
    run(touch);
    wrong = difference(&in, &out, 0);
    snprintf(name, sizeof name, "page fault, RSP %s", what);
    check(!wrong && page[0] == (char)in.rbx, name, "%s", wrong);
    munmap(page, 4096);

    remaining = 3;
    in_frame = NULL;
    on_signal = on_timer;
    setitimer(ITIMER_REAL, &timer, NULL);
    run(spin);
    setitimer(ITIMER_REAL, &off, NULL);
    on_signal = NULL;
    wrong = in_frame ? in_frame : difference(&in, &out, 0);
    snprintf(name, sizeof name, "interrupt with a signal, RSP %s", what);
    check(!wrong, name, "%s", wrong);

    in.rcx = 3000000;
    run(countdown);
    want = in;
    want.rcx = 0;
    wrong = difference(&want, &out, 0);
    snprintf(name, sizeof name, "interrupt, RSP %s", what);
    check(!wrong, name, "%s", wrong);

    if (!usable) {
        randomize(&in);
        in.rsp = rsp;
        int status = in_child(die_by_breakpoint);
        snprintf(name, sizeof name, "exception without an alternate stack, RSP %s", what);
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, name, "status %#x", status);
        status = in_child(die_by_kill);
        snprintf(name, sizeof name, "signal without an alternate stack, RSP %s", what);
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, name, "status %#x", status);
    }
}

/* A push there faults in user mode, with the address it used. */
static void pushes(uint64_t unmapped)
{
    randomize(&in);
    in.rsp = unmapped + 4096;
    resume_at = push_end;
    const char *wrong = exception(push, SIGSEGV);
    check(!wrong && caught.cr2 == unmapped + 4088 && caught.err == 6, "PUSH to an unmapped page", "cr2 %#lx, %s",
          caught.cr2, wrong ? wrong : "");
    randomize(&in);
    in.rsp = 0xffff888000001000;
    wrong = exception(push, SIGSEGV);
    check(!wrong && caught.cr2 == in.rsp - 8 && caught.err == 7, "PUSH to a kernel address", "cr2 %#lx, %s", caught.cr2,
          wrong ? wrong : "");
    resume_at = NULL;
}

int main(void)
{
    unsigned char *pages = mmap(NULL, 4 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t read_only = (uint64_t)pages + 2048, unmapped = (uint64_t)pages + 2 * 4096;
    munmap(pages + 2 * 4096, 2 * 4096);
    const struct { const char *what; uint64_t rsp; int usable; } stacks[] = {
        { "null", 0, 0 },
        { "8", 8, 0 },
        { "1", 1, 0 },
        { "-8", -8ull, 0 },
        { "-1", -1ull, 0 },
        { "read-only", read_only, 0 },
        { "unmapped", unmapped + 4096, 0 },
        { "the end of user memory", task_size(), 1 }, /* the stack may end there */
        { "non-canonical", 1ull << 63, 0 },
        { "the first non-canonical", task_size() + 4096, 0 },
        { "the last non-canonical", ~task_size() - 4096, 0 },
        { "the first of the kernel's", 0xffff800000000000, 0 },
        { "the kernel's map of memory", 0xffff888000001000, 0 },
        { "the kernel's per-CPU stacks", 0xfffffe0000001000, 0 },
        { "the kernel's code", 0xffffffff81000000, 0 },
        { "misaligned by 1", SCRATCH_TOP - 4097, 1 },
        { "misaligned by 7", SCRATCH_TOP - 4095, 1 },
        { "misaligned by 8", SCRATCH_TOP - 4088, 1 },
    };
    catch_signal(SIGTRAP, 0);
    catch_signal(SIGILL, 0);
    catch_signal(SIGSEGV, 0);
    catch_signal(SIGALRM, 0);
    for (size_t i = 0; i < sizeof stacks / sizeof *stacks; i++)
        every_door(stacks[i].rsp, stacks[i].what, stacks[i].usable);
    pushes(unmapped);
    return done();
}
