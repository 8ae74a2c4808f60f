/* A tracer changes its tracee's registers: what it may put there, and what becomes of it.
 *
 * Catalogue rows: 1, 2 (a bad RIP at a stop), 14 (extended state), 20 (privileged flags), 22 (the kernel's selectors),
 * 34 (restart codes), 36 (an edit of RFLAGS is lost).
 */
#include "gate.h"
#include "registers.h"
#include "tracer.h"
#include <sys/io.h>
#include <sys/uio.h>

/* int3 in a child whose registers are chosen; the snippet ends in int3 again. */
SNIPPET(two_traps, "int3\nnop\nint3\nmov $60, %eax\nxor %edi, %edi\nsyscall\n");
SNIPPET(one_call, "mov $39, %eax\nsyscall\nint3\n");
SNIPPET(read_port, "int3\nin $0x80, %al\nint3\n");
SNIPPET(push_flags, "int3\npushfq\npop %rax\nint3\n");
SNIPPET(sleeping, "mov $34, %eax\nsyscall\nint3\n"); /* pause */

static const void *snippet;

static int run_snippet(void)
{
    randomize(&in);
    if (snippet == read_port || snippet == push_flags)
        in.rflags = FLAGS_DEFAULT;
    run(snippet);
    return 0;
}

static pid_t start_snippet(const void *code)
{
    snippet = code;
    return start_traced(run_snippet);
}

static void whole_set(void)
{
    pid_t child = start_snippet(two_traps);
    int status = go(PTRACE_CONT, child, 0);
    struct user_regs_struct regs = registers_of(child), want;
    check(status == STOP(SIGTRAP) && regs.rip == (uint64_t)two_traps + 1, "INT3", "status %#x, rip %#llx", status,
          regs.rip);
    check(regs.cs == 0x33 && regs.ss == 0x2b && (long)regs.orig_rax == -1, "as it is", "cs %llx ss %llx orig %llx",
          regs.cs, regs.ss, regs.orig_rax);
    unsigned long long *words = (unsigned long long *)&regs;
    for (unsigned i = 0; i < 15; i++) /* r15 to rdi */
        words[i] = random_number();
    regs.rsp = random_number();
    regs.fs_base = 0x12345678;
    regs.gs_base = 0x7fffffffe000;
    regs.eflags = (regs.eflags & ~ARITHMETIC) | CF | OF;
    want = regs;
    check(!set_registers(child, regs), "SETREGS", "failed");
    status = go(PTRACE_CONT, child, 0);
    regs = registers_of(child);
    want.rip += 2;
    int wrong = -1;
    for (unsigned i = 0; i < sizeof regs / 8; i++)
        if (words[i] != ((unsigned long long *)&want)[i])
            wrong = i;
    check(status == STOP(SIGTRAP) && wrong < 0, "every register arrives", "status %#x, word %d is %#llx", status, wrong, words[wrong]);
    check(regs.eflags == want.eflags, "the flags arrive", "%llx, not %llx", regs.eflags, want.eflags);
    finish(child);
}

static void user_area(void)
{
    pid_t child = start_snippet(two_traps);
    go(PTRACE_CONT, child, 0);
    check(!trace(PTRACE_POKEUSER, child, REGISTER(r12), 99) && peek_user(child, REGISTER(r12)) == 99, "POKEUSER",
          "%lu", peek_user(child, REGISTER(r12)));
    check(trace(PTRACE_PEEKUSER, child, 4, (long)&child) == -EIO, "an offset that is not aligned", "taken");
    check(trace(PTRACE_PEEKUSER, child, 928, (long)&child) == -EIO, "an offset beyond", "taken");
    check(trace(PTRACE_PEEKUSER, child, -8, (long)&child) == -EIO, "a negative offset", "taken");
    check(trace(PTRACE_POKEUSER, child, 300, 0) == -EIO && trace(PTRACE_POKEUSER, child, 304, 0) == -EIO,
          "what is not there", "taken");
    check(trace(PTRACE_POKEUSER, child, REGISTER(fs_base), task_size()) == -EIO, "a base that is not the user's", "taken");
    check(trace(PTRACE_POKEUSER, child, REGISTER(gs_base), 0xffffffff80000000) == -EIO, "the kernel's", "taken");
    check(trace(PTRACE_POKEUSER, child, REGISTER(cs), 0) == -EIO, "no CS", "taken");
    check(trace(PTRACE_POKEUSER, child, REGISTER(ss), 0) == -EIO, "no SS", "taken");
    check(trace(PTRACE_POKEUSER, child, REGISTER(cs), 0x10) == -EIO, "the kernel's CS", "taken");
    check(trace(PTRACE_POKEUSER, child, REGISTER(ds), 0x18) == -EIO, "the kernel's DS", "taken");
    check(!trace(PTRACE_POKEUSER, child, REGISTER(ds), 0x2b) && !trace(PTRACE_POKEUSER, child, REGISTER(es), 0),
          "the user's", "refused");
    int status = go(PTRACE_CONT, child, 0);
    check(status == STOP(SIGTRAP) && peek_user(child, REGISTER(ds)) == 0x2b, "it is loaded", "status %#x", status);
    finish(child);
}

/* Each bit of RFLAGS, at a stop in user mode. */
static void flags(void)
{
    enum { MAY = CF | PF | AF | ZF | SF | DF | OF | NT | RF | AC };
    pid_t child = start_snippet(push_flags);
    int status = go(PTRACE_CONT, child, 0);
    struct user_regs_struct regs = registers_of(child);
    int wrong = 0;
    uint64_t wrong_bit = 0;
    for (int bit = 0; bit < 64; bit++) {
        uint64_t flag = 1ul << bit;
        if (flag == TF)
            continue;
        trace(PTRACE_POKEUSER, child, REGISTER(eflags), FLAGS_DEFAULT | flag);
        uint64_t got = peek_user(child, REGISTER(eflags)), want = FLAGS_DEFAULT | (flag & MAY);
        if (got != want) {
            wrong++;
            wrong_bit = flag;
        }
    }
    check(!wrong, "each flag is taken or not", "%d wrong, last %#lx", wrong, wrong_bit);
    /* Row 36: an edit is what the program sees. RF is gone with the first instruction. */
    uint64_t edits[] = { CF | ZF, DF | OF, AC, NT | SF, PF | AF };
    for (unsigned i = 0; i < 5; i++) {
        regs.rip = (uint64_t)push_flags + 1;
        regs.eflags = FLAGS_DEFAULT | edits[i];
        set_registers(child, regs);
        status = go(PTRACE_CONT, child, 0);
        uint64_t rax = registers_of(child).rax;
        check(status == STOP(SIGTRAP) && rax == (FLAGS_DEFAULT | edits[i]), "the program sees the edit", "%#lx, not %#lx",
              rax, FLAGS_DEFAULT | edits[i]);
    }
    finish(child);

    /* Row 20: no I/O port becomes accessible. */
    child = start_snippet(read_port);
    go(PTRACE_CONT, child, 0);
    trace(PTRACE_POKEUSER, child, REGISTER(eflags), FLAGS_DEFAULT | IOPL);
    status = go(PTRACE_CONT, child, 0);
    check(status == STOP(SIGSEGV), "IOPL stays the kernel's", "status %#x", status);
    finish(child);
}

/* Rows 1 and 2: a bad RIP at each kind of stop. Whatever happens, only the tracee dies of it. */
static void bad_addresses(void)
{
    static const uint64_t addresses[] = { 1ul << 47, (1ul << 47) - 1, 1ul << 63, 0xffff800000000000, 0xffffffff81000000,
                                          ~0ul, 0xdeadbeef00000000, 0x7ffffffff000, 0, 0xffff7fffffffffff };
    for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        for (int kind = 0; kind < 4; kind++) {
            pid_t child = start_snippet(kind == 0 ? (void *)two_traps : (void *)one_call);
            int status;
            if (kind == 0)
                status = go(PTRACE_CONT, child, 0);
            else
                status = go(PTRACE_SYSCALL, child, 0);
            if (kind >= 2)
                status = go(PTRACE_SYSCALL, child, 0);
            struct user_regs_struct regs = registers_of(child);
            regs.rip = addresses[i];
            regs.rcx = addresses[i];
            regs.r11 = regs.eflags;
            if (kind == 3)
                regs.rsp = addresses[i];
            set_registers(child, regs);
            status = go(PTRACE_CONT, child, 0);
            siginfo_t info = { 0 };
            trace(PTRACE_GETSIGINFO, child, 0, (long)&info);
            int good = status == STOP(SIGSEGV);
            if (!good)
                check(0, "a bad RIP", "%#lx at stop %d: status %#x", addresses[i], kind, status);
            finish(child);
        }
    }
    check(1, "bad RIPs at every stop are the tracee's fault", "%d", 0);
}

/* The SYSRETs of all CPUs while a tracee leaves `ROUNDS` system calls for `rip`, with RCX and R11 to match. */
static long sysrets(uint64_t rip, int signal, const char **wrong)
{
    enum { ROUNDS = 200 };
    pid_t child = start_snippet(one_call);
    struct user_regs_struct at_call;
    go(PTRACE_SYSCALL, child, 0);
    go(PTRACE_CONT, child, 0);
    at_call = registers_of(child);
    long before = gate_status("sysrets");
    for (int round = 0; round < ROUNDS && !*wrong; round++) {
        at_call.rip = (uint64_t)one_call;
        set_registers(child, at_call);
        go(PTRACE_SYSCALL, child, 0);
        struct user_regs_struct regs = registers_of(child);
        regs.rip = regs.rcx = rip;
        regs.r11 = regs.eflags;
        set_registers(child, regs);
        if (go(PTRACE_CONT, child, 0) != STOP(signal))
            *wrong = "another stop";
    }
    long taken = gate_status("sysrets") - before;
    finish(child);
    return taken;
}

/* An emulated CPU does SYSRET to bad addresses without harm; there the kernel's count tells. */
static void no_sysret(void)
{
    const char *name = "no SYSRET to a bad RIP", *wrong = NULL;
    if (gate_status("sysrets") < 0) {
        skip(name, "no /dev/gate that counts SYSRETs");
        return;
    }
    if (fred()) {
        skip(name, "with FRED there is no SYSRET");
        return;
    }
    long good = 0, bad = 0;
    /* What other tasks do meanwhile is counted, too, and on a busy host that is more in one than in the other. */
    for (int attempt = 0; attempt < 5 && !wrong && bad + 150 >= good; attempt++) {
        good = sysrets((uint64_t)two_traps, SIGTRAP, &wrong);
        bad = sysrets(0xdeadbeef00000000, SIGSEGV, &wrong);
    }
    check(!wrong && bad + 150 < good, name, "%ld SYSRETs with a bad one, %ld with a good one, %s", bad, good, wrong ? wrong : "stops right");
}

/* The number and the result of a system call are the tracer's to change. */
static void system_call(void)
{
    pid_t child = start_snippet(one_call);
    int status = go(PTRACE_SYSCALL, child, 0);
    trace(PTRACE_POKEUSER, child, REGISTER(orig_rax), SYS_getppid);
    status = go(PTRACE_SYSCALL, child, 0);
    check((pid_t)peek_user(child, REGISTER(rax)) == getpid(), "another call", "status %#x, rax %ld", status,
          peek_user(child, REGISTER(rax)));
    trace(PTRACE_POKEUSER, child, REGISTER(rax), 4711);
    go(PTRACE_CONT, child, 0);
    check(peek_user(child, REGISTER(rax)) == 4711, "another result", "%ld", peek_user(child, REGISTER(rax)));
    finish(child);

    child = start_snippet(one_call);
    go(PTRACE_SYSCALL, child, 0);
    struct user_regs_struct regs = registers_of(child);
    regs.orig_rax = -1;
    regs.rax = 1234;
    set_registers(child, regs);
    status = go(PTRACE_SYSCALL, child, 0);
    check(peek_user(child, REGISTER(rax)) == 1234, "number -1: no call, the tracer's result", "%ld",
          peek_user(child, REGISTER(rax)));
    finish(child);

    child = start_snippet(one_call);
    go(PTRACE_SYSCALL, child, 0);
    trace(PTRACE_POKEUSER, child, REGISTER(orig_rax), 1ul << 40 | 99999);
    status = go(PTRACE_SYSCALL, child, 0);
    check((long)peek_user(child, REGISTER(rax)) == -ENOSYS, "a number without a call", "%ld",
          peek_user(child, REGISTER(rax)));
    finish(child);

    /* A new RIP at the exit: the way out is one that can go there. */
    child = start_snippet(one_call);
    go(PTRACE_SYSCALL, child, 0);
    go(PTRACE_SYSCALL, child, 0);
    trace(PTRACE_POKEUSER, child, REGISTER(rip), (long)two_traps);
    status = go(PTRACE_CONT, child, 0);
    check(status == STOP(SIGTRAP) && peek_user(child, REGISTER(rip)) == (uint64_t)two_traps + 1, "another way", "%#lx",
          peek_user(child, REGISTER(rip)));
    finish(child);

    /* Row 34: an interrupted call restarts, unless the tracer says that there is none. */
    for (int cancel = 0; cancel < 2; cancel++) {
        child = start_snippet(sleeping);
        trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD);
        go(PTRACE_SYSCALL, child, 0);
        trace(PTRACE_SYSCALL, child, 0, 0);
        check(wait_until(is_asleep(child, child)), "the tracee sleeps", "it does not");
        kill(child, SIGUSR1);
        status = next_status(child);
        long rax = peek_user(child, REGISTER(rax));
        check(status == STOP(SYSGOOD) && rax == -514, "the tracer sees the restart code", "status %#x, rax %ld", status,
              rax);
        status = go(PTRACE_CONT, child, 0);
        check(status == STOP(SIGUSR1), "then the signal", "status %#x", status);
        if (cancel)
            trace(PTRACE_POKEUSER, child, REGISTER(orig_rax), -1);
        trace(PTRACE_SYSCALL, child, 0, 0);
        status = next_status(child);
        rax = peek_user(child, REGISTER(rax));
        if (cancel)
            check(status == STOP(SIGTRAP) && rax == -514, "cancelled, it does not restart", "status %#x, rax %ld", status,
                  rax);
        else
            check(status == STOP(SYSGOOD) && rax == -ENOSYS && peek_user(child, REGISTER(orig_rax)) == SYS_pause,
                  "it restarts", "status %#x, rax %ld", status, rax);
        finish(child);
    }
}

static void bad_selectors(void)
{
    static const uint16_t selectors[] = { 0x3b, 0x7, 0x43, 0xffff, 0x2b, 0x1b };
    for (unsigned i = 0; i < 6; i++) {
        pid_t child = start_snippet(two_traps);
        go(PTRACE_CONT, child, 0);
        if (trace(PTRACE_POKEUSER, child, REGISTER(cs), selectors[i])) {
            check(0, "any CS of ring 3", "%#x refused", selectors[i]);
            finish(child);
            continue;
        }
        int status = go(PTRACE_CONT, child, 0);
        if (!(WIFSTOPPED(status) && (WSTOPSIG(status) == SIGSEGV || WSTOPSIG(status) == SIGBUS)))
            check(0, "a bad CS", "%#x: status %#x", selectors[i], status);
        finish(child);
    }
    check(1, "a bad CS is the tracee's fault", "%d", 0);
}

static void float_registers(void)
{
    pid_t child = start_snippet(two_traps);
    go(PTRACE_CONT, child, 0);
    struct user_fpregs_struct fp = { 0 };
    check(!trace(PTRACE_GETFPREGS, child, 0, (long)&fp) && fp.cwd == 0x37f && fp.mxcsr == 0x1f80, "GETFPREGS",
          "cwd %x, mxcsr %x", fp.cwd, fp.mxcsr);
    uint32_t mask = fp.mxcr_mask;
    for (int i = 0; i < 64; i++)
        fp.xmm_space[i] = 0x1000 + i;
    fp.mxcsr = 0x9f80;
    check(!trace(PTRACE_SETFPREGS, child, 0, (long)&fp), "SETFPREGS", "failed");
    fp.mxcsr = 0x12345;
    check(trace(PTRACE_SETFPREGS, child, 0, (long)&fp) == -EINVAL, "a bad MXCSR", "taken (mask %#x)", mask);
    int status = go(PTRACE_CONT, child, 0);
    memset(&fp, 0, sizeof fp);
    trace(PTRACE_GETFPREGS, child, 0, (long)&fp);
    check(status == STOP(SIGTRAP) && fp.xmm_space[63] == 0x103f && fp.mxcsr == 0x9f80, "they arrive", "%x, mxcsr %x",
          fp.xmm_space[63], fp.mxcsr);

    static unsigned char state[8192] __attribute__((aligned(64)));
    struct iovec io = { state, sizeof state };
    long result = trace(PTRACE_GETREGSET, child, NT_X86_XSTATE, (long)&io);
    if (result == 0) {
        size_t size = io.iov_len;
        uint64_t *header = (uint64_t *)(state + 512), present = *header;
        check(size >= 576 && (present & 3), "NT_X86_XSTATE", "size %zu, components %#lx", size, present);
        check(!trace(PTRACE_SETREGSET, child, NT_X86_XSTATE, (long)&io), "written back", "failed");
        for (int bit = 0; bit < 64; bit++) {
            header[0] = present | 1ul << bit;
            long got = trace(PTRACE_SETREGSET, child, NT_X86_XSTATE, (long)&io);
            if (got != 0 && got != -EINVAL)
                check(0, "a component bit", "%d: %ld", bit, got);
        }
        header[0] = present;
        header[1] = 1;
        check(trace(PTRACE_SETREGSET, child, NT_X86_XSTATE, (long)&io) == -EINVAL, "a compacted state", "taken");
        header[1] = 0;
        header[5] = 1;
        check(trace(PTRACE_SETREGSET, child, NT_X86_XSTATE, (long)&io) == -EINVAL, "a reserved word", "taken");
        header[5] = 0;
        io.iov_len = size - 8;
        check(trace(PTRACE_SETREGSET, child, NT_X86_XSTATE, (long)&io) == -EFAULT, "a part of it", "taken");
        io.iov_len = size - 4;
        check(trace(PTRACE_SETREGSET, child, NT_X86_XSTATE, (long)&io) == -EINVAL, "half a word", "taken");
    } else {
        skip("NT_X86_XSTATE", "no XSAVE (%ld)", result);
    }
    static struct user_regs_struct regs;
    io = (struct iovec){ &regs, sizeof regs + 8 };
    check(!trace(PTRACE_GETREGSET, child, NT_PRSTATUS, (long)&io) && io.iov_len == sizeof regs &&
              regs.rip == (uint64_t)two_traps + 3, "NT_PRSTATUS", "length %zu, rip %#llx", io.iov_len, regs.rip);
    io = (struct iovec){ &regs, 16 };
    regs.r15 = 15;
    regs.r14 = 14;
    check(!trace(PTRACE_SETREGSET, child, NT_PRSTATUS, (long)&io) && peek_user(child, REGISTER(r14)) == 14,
          "the first words of it", "%lu", peek_user(child, REGISTER(r14)));
    check(trace(PTRACE_GETREGSET, child, 77, (long)&io) == -EINVAL, "an unknown set", "taken");
    check(trace(PTRACE_GETREGSET, child, NT_386_IOPERM, (long)&io) == -ENXIO, "ports of one that has none", "%ld",
          trace(PTRACE_GETREGSET, child, NT_386_IOPERM, (long)&io));
    finish(child);
}

int main(void)
{
    whole_set();
    user_area();
    flags();
    bad_addresses();
    no_sysret();
    system_call();
    bad_selectors();
    float_registers();
    return done();
}
