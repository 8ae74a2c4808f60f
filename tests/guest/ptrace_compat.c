/* A 64-bit tracer whose tracee runs 32-bit code: the register sets' layout, INT 0x80, steps.
 *
 * Catalogue rows: 2 (edits at the stops of a 32-bit call), 9 (which table a number is of).
 */
#include "registers.h"
#include "tracer.h"
#include <asm/ldt.h>

static unsigned char *code; /* below 4 GiB */

/* int3; mov $20, %eax; int $0x80; int3; inc %eax; nop; pushf; popf; int3; mov $20, %eax; int $0x80; jmp . */
static const unsigned char program[] = { 0xcc, 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xcc, 0x40, 0x90, 0x9c, 0x9d, 0xcc,
                                         0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xcc, 0xeb, 0xfe };

/* A far jump: QEMU takes the stack accesses of a far return for the kernel's, which SMAP forbids. */
SNIPPET(to_32, "ljmpl *2048(%rbx)\n");

static int run_32(void)
{
    randomize(&in);
    in.rflags = FLAGS_DEFAULT;
    in.rbx = (uint64_t)code;
    in.rsp = (uint64_t)code + 4096;
    run(to_32);
    return 0;
}

static pid_t start_32(void)
{
    pid_t child = start_traced(run_32);
    int status = go(PTRACE_CONT, child, 0);
    if (status != STOP(SIGTRAP))
        check(0, "start_32", "status %#x", status);
    return child;
}

struct regs32 {
    uint32_t ebx, ecx, edx, esi, edi, ebp, eax, ds, es, fs, gs, orig_eax, eip, cs, eflags, esp, ss;
};

static struct regs32 get_32(pid_t child)
{
    struct regs32 regs = { 0 };
    struct iovec io = { &regs, sizeof regs };
    trace(PTRACE_GETREGSET, child, NT_PRSTATUS, (long)&io);
    return regs;
}

static void layout(void)
{
    pid_t child = start_32();
    unsigned char buffer[512];
    struct iovec io = { buffer, sizeof buffer };
    long result = trace(PTRACE_GETREGSET, child, NT_PRSTATUS, (long)&io);
    check(!result && io.iov_len == 68, "NT_PRSTATUS is of 32 bits", "%ld, %zu bytes", result, io.iov_len);
    struct regs32 regs = get_32(child);
    check(regs.eip == (uint32_t)(long)code + 1 && regs.cs == 0x23, "its registers", "eip %#x, cs %#x", regs.eip, regs.cs);
    check(peek_user(child, REGISTER(rip)) == regs.eip, "the same in the 64-bit layout", "%#lx",
          peek_user(child, REGISTER(rip)));
    io.iov_len = sizeof buffer;
    result = trace(PTRACE_GETREGSET, child, NT_PRFPREG, (long)&io);
    uint32_t *fp = (uint32_t *)buffer;
    check(!result && io.iov_len == 108 && fp[0] == 0xffff037f && fp[2] == 0xffffffff, "NT_PRFPREG is FSAVE's",
          "%ld, %zu bytes, %x %x %x", result, io.iov_len, fp[0], fp[1], fp[2]);
    fp[0] = 0xffff027f;
    result = trace(PTRACE_SETREGSET, child, NT_PRFPREG, (long)&io);
    struct user_fpregs_struct wide = { 0 };
    trace(PTRACE_GETFPREGS, child, 0, (long)&wide);
    check(!result && wide.cwd == 0x27f, "and can be written", "%ld, %x", result, wide.cwd);
    io.iov_len = sizeof buffer;
    result = trace(PTRACE_GETREGSET, child, 0x46e62b7f, (long)&io);
    check(!result && io.iov_len == 512, "NT_PRXFPREG is FXSAVE's", "%ld, %zu bytes", result, io.iov_len);
    regs.ebx = 0x11111111;
    regs.edi = 0x99999999;
    regs.eflags |= 0x3000 | CF;
    io = (struct iovec){ &regs, sizeof regs };
    result = trace(PTRACE_SETREGSET, child, NT_PRSTATUS, (long)&io);
    struct regs32 after = get_32(child);
    check(!result && after.ebx == 0x11111111 && after.edi == 0x99999999 && !(after.eflags & 0x3000) && after.eflags & CF,
          "a write", "%ld, ebx %x, eflags %x", result, after.ebx, after.eflags);
    finish(child);
}

/* Who writes 32 bits writes a selector, and the base follows it: here from the LDT, whose entry has the number that would
 * be the second of the GDT's for threads, were it not for the bit that says which table. */
static void selectors(void)
{
    enum { ENTRY = 13, SELECTOR = ENTRY << 3 | 7, BASE = 0x12345000 };
    struct user_desc segment = { .entry_number = ENTRY, .base_addr = BASE, .limit = 0xfff, .seg_32bit = 1 };
    if (syscall(SYS_modify_ldt, 0x11, &segment, sizeof segment)) {
        skip("the base of an LDT selector", "this system has no modify_ldt");
        return;
    }
    pid_t child = start_32();
    struct regs32 regs = get_32(child);
    regs.fs = regs.gs = SELECTOR;
    struct iovec io = { &regs, sizeof regs };
    long result = trace(PTRACE_SETREGSET, child, NT_PRSTATUS, (long)&io);
    unsigned long fs = peek_user(child, REGISTER(fs_base)), gs = peek_user(child, REGISTER(gs_base));
    check(!result && fs == BASE && gs == BASE, "the base of an LDT selector", "%ld, %#lx %#lx", result, fs, gs);
    finish(child);
}

static void calls(void)
{
    pid_t child = start_32();
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD);
    int status = go(PTRACE_SYSCALL, child, 0);
    struct user_regs_struct regs = registers_of(child);
    check(status == STOP(SYSGOOD) && regs.orig_rax == 20 && (int)regs.rax == -ENOSYS, "INT 0x80 stops", "status %#x, %lld",
          status, regs.orig_rax);
    struct { uint8_t op, pad[3]; uint32_t arch; uint64_t ip, sp, nr, args[6]; } info = { 0 };
    long size = trace(0x420e, child, sizeof info, (long)&info);
    check(size == sizeof info && info.op == 1 && info.arch == 0x40000003 && info.nr == 20 &&
              info.args[0] == regs.rbx && info.args[5] == regs.rbp, "GET_SYSCALL_INFO",
          "%ld bytes, op %d, arch %#x", size, info.op, info.arch);
    status = go(PTRACE_SYSCALL, child, 0);
    check((pid_t)peek_user(child, REGISTER(rax)) == child, "number 20 is of the 32-bit table", "%ld",
          peek_user(child, REGISTER(rax)));
    status = go(PTRACE_CONT, child, 0);
    status = go(PTRACE_CONT, child, 0);
    check(status == STOP(SIGTRAP), "on to the next", "status %#x", status);
    go(PTRACE_SYSCALL, child, 0);
    trace(PTRACE_POKEUSER, child, REGISTER(orig_rax), 64); /* getppid there */
    go(PTRACE_SYSCALL, child, 0);
    check((pid_t)peek_user(child, REGISTER(rax)) == getpid(), "another number", "%ld", peek_user(child, REGISTER(rax)));
    finish(child);

    child = start_32();
    go(PTRACE_SYSCALL, child, 0);
    regs = registers_of(child);
    regs.orig_rax = -1;
    regs.rax = 77;
    set_registers(child, regs);
    go(PTRACE_SYSCALL, child, 0);
    check(peek_user(child, REGISTER(rax)) == 77, "number -1: no call", "%ld", peek_user(child, REGISTER(rax)));
    static const uint64_t addresses[] = { 1ul << 47, 0xffffffff81000000, 0x1234567800, ~0ul };
    trace(PTRACE_POKEUSER, child, REGISTER(rip), addresses[0]);
    status = go(PTRACE_CONT, child, 0);
    check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSEGV, "a bad RIP", "status %#x", status);
    finish(child);
    for (int i = 1; i < 4; i++) {
        child = start_32();
        go(PTRACE_SYSCALL, child, 0);
        trace(PTRACE_POKEUSER, child, REGISTER(rip), addresses[i]);
        trace(PTRACE_POKEUSER, child, REGISTER(rsp), addresses[i]);
        status = go(PTRACE_CONT, child, 0);
        check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSEGV, "a bad RIP and stack", "status %#x", status);
        finish(child);
    }
}

static void steps(void)
{
    static const int offsets[] = { 6, 8, 9, 10, 11, 12, 13, 14 };
    pid_t child = start_32();
    int wrong = -1;
    long codes[8];
    for (int i = 0; i < 8; i++) {
        int status = go(PTRACE_SINGLESTEP, child, 0);
        siginfo_t info = { 0 };
        trace(PTRACE_GETSIGINFO, child, 0, (long)&info);
        codes[i] = info.si_code;
        if (status != STOP(SIGTRAP) || peek_user(child, REGISTER(rip)) != (unsigned long)code + offsets[i])
            wrong = i;
    }
    check(wrong < 0, "one instruction at a time", "step %d", wrong);
    check(codes[0] == TRAP_TRACE && codes[1] == TRAP_BRKPT && codes[3] == TRAP_TRACE, "a step over INT 0x80 ends behind it",
          "%ld %ld %ld", codes[0], codes[1], codes[3]);
    finish(child);
}

int main(void)
{
    code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    memcpy(code, program, sizeof program);
    memcpy(code + 2048, &(uint32_t){ (uint32_t)(long)code }, 4);
    memcpy(code + 2052, &(uint16_t){ 0x23 }, 2);
    layout();
    selectors();
    calls();
    steps();
    return done();
}
