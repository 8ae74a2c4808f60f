/* A way out to an address where no code can be gives SIGSEGV with that address, the process lives on in its handler.
 * Bug 1: SYSRET to a non-canonical RIP faults in ring 0 with the user's stack pointer. Row 32: the canonical test off by
 * one, or for the wrong address width. Reached by SYSCALL as the last instruction of user memory, and by sigreturn with
 * RCX = RIP and R11 = RFLAGS, so that everything else allows SYSRET. An emulated CPU has AMD's behaviour, where SYSRET
 * does no harm; there the kernel's own count of SYSRETs, in /dev/gate, tells whether it was kept from them.
 */
#include "gate.h"
#include "registers.h"

SNIPPET(send_signal, "syscall");

static uint64_t forged_rip;
static int forge_rcx;

static void forge_or_catch(int signal, siginfo_t *info, ucontext_t *context)
{
    greg_t *g = context->uc_mcontext.gregs;
    (void)info;
    if (signal == SIGSEGV) {
        g[REG_RIP] = (greg_t)door_return;
        return;
    }
    g[REG_RIP] = forged_rip;
    if (forge_rcx) {
        g[REG_RCX] = forged_rip;
        g[REG_R11] = g[REG_EFL];
    }
}

/* Whether the hardware would say #GP rather than #PF. */
static int canonical(uint64_t address, uint64_t end)
{
    return address < end + 4096 || address >= ~(end + 4095);
}

static const char *sigreturn_to(uint64_t rip, uint64_t end)
{
    forged_rip = rip;
    memset(&caught, 0, sizeof caught);
    randomize(&in);
    in.rax = SYS_kill;
    in.rdi = getpid();
    in.rsi = SIGUSR1;
    run(send_signal);
    struct registers want = in;
    want.rax = 0;
    leave_syscall(&want, send_signal_end);
    if (forge_rcx) {
        want.rcx = rip;
        want.r11 = in.rflags;
    }
    if (caught.count != 2 || caught.signal != SIGSEGV)
        return "no SIGSEGV";
    if (caught.rip != rip)
        return "another RIP in the frame";
    if (caught.cs != 0x33 || caught.ss != 0x2b)
        return "wrong selectors in the frame";
    if (caught.trapno != (canonical(rip, end) ? 14 : 13))
        return "wrong trap number";
    if (caught.trapno == 14 && (caught.cr2 != rip || (uint64_t)caught.info.si_addr != rip))
        return "wrong fault address";
    caught.registers.rflags &= ~(uint64_t)RF;
    const char *wrong = difference(&want, &caught.registers, 0);
    return wrong ? wrong : difference(&want, &out, 0);
}

static void boundaries(uint64_t end)
{
    const uint64_t four = 1ull << 47, five = 1ull << 56;
    const uint64_t table[] = { end, end + 1, end + 4095, four, four + 1, four * 2, -four - 1, -four, -four + 1,
                               five - 4096, five - 1, five, five + 1, -five - 1, -five, -five + 1, 1ull << 63,
                               (1ull << 63) - 1, 0xdeadbeefdeadbeef, -4096ull, -1ull };
    for (forge_rcx = 0; forge_rcx < 2; forge_rcx++)
        for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
            char name[64];
            if (table[i] < end)
                continue; /* with 5 levels it is user memory */
            snprintf(name, sizeof name, "sigreturn to %#lx%s", table[i], forge_rcx ? ", RCX and R11 to match" : "");
            const char *wrong = sigreturn_to(table[i], end);
            check(!wrong, name, "%s", wrong);
        }
}

static void last_instruction(uint64_t end)
{
    static const uint64_t stacks[] = { 1, 0, 0xffff888000000000, 0x8000000000000000, 0xfffffffffffffff8 };
    unsigned char *page = (unsigned char *)end - 4096;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, all = PROT_READ | PROT_WRITE | PROT_EXEC;
    int mapped = mmap(page, 4096, all, flags, -1, 0) == page;
    if (!mapped && errno == EEXIST) /* the stack's last page, whose last eight bytes are unused */
        mapped = mprotect(page, 4096, all) == 0;
    if (!check(mapped, "the last page of user memory", "%s", strerror(errno)))
        return;
    memcpy(page + 4094, "\x0f\x05", 2); /* syscall */
    for (size_t i = 0; i < sizeof stacks / sizeof *stacks; i++) {
        char name[64];
        snprintf(name, sizeof name, "SYSCALL as the last instruction, RSP %#lx", stacks[i]);
        memset(&caught, 0, sizeof caught);
        randomize(&in);
        in.rax = SYS_getpid;
        in.rsp = stacks[i] == 1 ? in.rsp : stacks[i];
        run(page + 4094);
        struct registers want = in;
        want.rax = getpid();
        leave_syscall(&want, (void *)end);
        caught.registers.rflags &= ~(uint64_t)RF;
        const char *wrong = difference(&want, &caught.registers, 0);
        check(caught.count == 1 && caught.signal == SIGSEGV && caught.rip == end && caught.cr2 == end &&
                  (uint64_t)caught.info.si_addr == end && !wrong,
              name, "%d signals, rip %#lx, cr2 %#lx, %s", caught.count, caught.rip, caught.cr2,
              wrong ? wrong : "registers right");
    }
    void *beyond = mmap((void *)end, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check(beyond == MAP_FAILED && errno == ENOMEM, "no page beyond it", "%p, %s", beyond, strerror(errno));
    beyond = mmap(page, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check(beyond == MAP_FAILED && errno == ENOMEM, "no mapping across the end", "%p, %s", beyond, strerror(errno));
}

/* The same sigreturn many times: were it to leave by SYSRET, the kernel's count would show each. */
static void no_sysret(uint64_t rip, uint64_t end, const char *name)
{
    enum { ROUNDS = 400 };
    long before = gate_status("sysrets");
    if (before < 0) {
        skip(name, "no /dev/gate that counts SYSRETs");
        return;
    }
    const char *wrong = NULL;
    forge_rcx = 1;
    for (int i = 0; i < ROUNDS && !wrong; i++)
        wrong = sigreturn_to(rip, end);
    long taken = gate_status("sysrets") - before;
    /* Of the system calls of a round, only the getpid inside it may leave by SYSRET. */
    check(!wrong && taken < ROUNDS * 3 / 2, name, "%ld SYSRETs in %d rounds, %s", taken, ROUNDS,
          wrong ? wrong : "registers right");
}

int main(void)
{
    uint64_t end = task_size();
    catch_signal(SIGUSR1, 0);
    catch_signal(SIGSEGV, 0);
    on_signal = forge_or_catch;
    boundaries(end);
    last_instruction(end);
    no_sysret(end + 4096, end, "no SYSRET to the first non-canonical address");
    no_sysret(~(end + 4096), end, "no SYSRET to the last non-canonical address");
    no_sysret(0xdeadbeefdeadbeef, end, "no SYSRET to nonsense");
    return done();
}
