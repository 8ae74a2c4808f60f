/* Bug 20: of the flags in a signal frame only those that a user may set take effect: CF PF AF ZF SF TF DF OF RF AC.
 * Each of the 64 bits is forged; what PUSHF then reads must be right, and IN and CLI must still be #GP (no IOPL).
 */
#include "registers.h"

SNIPPET(send_signal, "syscall");
/* Where sigreturn goes: the flags to RAX, then two instructions that need IOPL 3. */
SNIPPET(read_flags, "pushfq; pop %rax\nport_input: in %dx, %al\ndisable: cli");
extern const unsigned char port_input[], disable[];

enum { SETTABLE = ARITHMETIC | TF | DF | RF | AC };

static uint64_t forged, observed;
static int steps, protections;

static void forge(int signal, siginfo_t *info, ucontext_t *context)
{
    greg_t *g = context->uc_mcontext.gregs;
    (void)info;
    if (signal == SIGUSR1) {
        g[REG_EFL] = forged;
        g[REG_RIP] = (greg_t)read_flags;
    } else if (signal == SIGTRAP) {
        steps++;
        if (steps == 3) /* popped; going on without TF */
            g[REG_EFL] &= ~TF;
    } else {
        protections++;
        observed = g[REG_RAX];
        if (g[REG_RIP] == (greg_t)port_input)
            g[REG_RIP] = (greg_t)disable;
        else if (g[REG_RIP] == (greg_t)disable)
            g[REG_RIP] = (greg_t)door_return;
        g[REG_EFL] &= ~TF;
    }
}

static const char *try(uint64_t flags)
{
    static char text[128];
    forged = flags;
    observed = steps = protections = 0;
    randomize(&in);
    in.rax = SYS_kill;
    in.rdi = getpid();
    in.rsi = SIGUSR1;
    run(send_signal);
    uint64_t want = (flags & SETTABLE & ~RF) | IF | 2; /* PUSHF reads RF as 0 */
    if (observed != want)
        snprintf(text, sizeof text, "the flags are %#lx, not %#lx", observed, want);
    else if (protections != 2)
        snprintf(text, sizeof text, "%d of IN and CLI faulted", protections);
    else if (!(flags & TF) != !steps)
        snprintf(text, sizeof text, "%d single steps", steps);
    else
        return NULL;
    return text;
}

int main(void)
{
    static const int signals[] = { SIGUSR1, SIGTRAP, SIGSEGV };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        catch_signal(signals[i], 0);
    on_signal = forge;
    for (int bit = 0; bit < 64; bit++) {
        char name[32];
        snprintf(name, sizeof name, "bit %d forged", bit);
        const char *wrong = try((FLAGS_DEFAULT) ^ 1ull << bit);
        check(!wrong, name, "%s", wrong);
    }
    const char *wrong = try(IOPL | VM | VIF | VIP | NT | RF | ID);
    check(!wrong, "all privileged bits, IF clear", "%s", wrong);
    wrong = try(~0ull);
    check(!wrong, "all bits", "%s", wrong);
    wrong = NULL;
    for (int round = 0; round < 200 && !wrong; round++)
        wrong = try(random_number());
    check(!wrong, "random flags", "%s", wrong);
    return done();
}
