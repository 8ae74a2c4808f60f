/* Bug 35: all registers, RCX and R11 among them, are in the frame of an asynchronous signal and come back from it. A
 * task spins in user mode, without system calls (bug 26), while a timer sends it signals.
 */
#include "registers.h"
#include <sys/time.h>

SNIPPET(spin, "1: jmp 1b");
SNIPPET(send_signal, "syscall");

static int remaining;
static const char *wrong;

static void on_timer(int signal, siginfo_t *info, ucontext_t *context)
{
    (void)signal, (void)info;
    if (caught.rip != (uint64_t)spin)
        return; /* still on the way there, or back */
    if (!wrong)
        wrong = difference(&in, interrupted(), 0);
    if (--remaining <= 0)
        context->uc_mcontext.gregs[REG_RIP] = (greg_t)spin_end;
}

static void spinning(const char *name, int which, int signal, uint64_t flags)
{
    struct itimerval timer = { { 0, 1000 }, { 0, 1000 } }, off = { 0 };
    catch_signal(signal, 0);
    wrong = NULL;
    for (int round = 0; round < 5 && !wrong; round++) {
        remaining = 4;
        randomize(&in);
        in.rflags |= flags;
        on_signal = on_timer;
        setitimer(which, &timer, NULL);
        run(spin);
        setitimer(which, &off, NULL);
        on_signal = NULL;
        if (!wrong)
            wrong = difference(&in, &out, 0);
    }
    check(!wrong, name, "%s", wrong);
}

/* The frame as the handler is entered: arguments, alignment, cleared flags, the restorer as return address. */
static void entry_state(void)
{
    catch_signal(SIGUSR2, 0);
    resume_at = NULL;
    on_signal = NULL;
    randomize(&in);
    in.rflags |= DF;
    in.rax = SYS_kill;
    in.rdi = getpid();
    in.rsi = SIGUSR2;
    run(send_signal);
    uint64_t frame = at_handler.rsp;
    check(at_handler.rdi == SIGUSR2, "first argument", "%#lx", at_handler.rdi);
    check(at_handler.rax == 0, "RAX 0, for a handler with variable arguments", "%#lx", at_handler.rax);
    check(at_handler.rdx == frame + 8 && at_handler.rsi == frame + 8 + 304, "second and third argument",
          "siginfo %#lx, ucontext %#lx, frame %#lx", at_handler.rsi, at_handler.rdx, frame);
    check(frame % 16 == 8, "alignment of the stack", "%#lx", frame);
    check(frame > (uint64_t)signal_stack && frame < (uint64_t)signal_stack + sizeof signal_stack,
          "on the alternate stack", "%#lx", frame);
    check(!(at_handler.rflags & (DF | TF | RF)), "DF, TF and RF clear", "%#lx", at_handler.rflags);
    check(*(uint64_t *)frame == (uint64_t)signal_restorer, "return address", "%#lx", *(uint64_t *)frame);
    uint64_t flags = *(uint64_t *)(frame + 8);
    check((flags & 6) == 6, "uc_flags say that SS is there and strict", "%#lx", flags); /* UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
}

int main(void)
{
    entry_state();
    spinning("ITIMER_REAL on a spinning task", ITIMER_REAL, SIGALRM, 0);
    spinning("ITIMER_REAL on a spinning task with DF and AC", ITIMER_REAL, SIGALRM, DF | AC);
    spinning("ITIMER_VIRTUAL on a spinning task", ITIMER_VIRTUAL, SIGVTALRM, 0);
    spinning("ITIMER_PROF on a spinning task", ITIMER_PROF, SIGPROF, 0);
    return done();
}
