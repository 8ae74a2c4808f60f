/* SGDT, SIDT, SMSW, SLDT and STR in user mode: no signal, on any processor. Where UMIP makes them fault, Linux gives values that
 * say nothing of the kernel, in every form of the operand; what cannot be written is SIGSEGV with its address. The code may be
 * in a segment of the LDT, with a base and 16-bit defaults; and under iopl(3) so may CLI and STI, which are passed over.
 */
#include "check.h"
#include <asm/ldt.h>
#include <setjmp.h>
#include <sys/io.h>
#include <sys/mman.h>

enum { PAGE = 4096, TABLE = 2 + sizeof(long), DATA = 0x800 };

static int umip;
static sigjmp_buf back;
static volatile int signals;
static volatile uintptr_t fault;

static void on_signal(int signo, siginfo_t *info, void *context)
{
    (void)context;
    signals = signo;
    fault = (uintptr_t)info->si_addr;
    siglongjmp(back, 1);
}

/* Code, and from DATA on memory that it stores to. Below 4 GiB, where segments of the LDT reach. */
static unsigned char *page;
static uintptr_t a;
#ifdef __x86_64__
static uintptr_t r9;
#endif

/* Runs code with `first` in RAX, 2 in RCX; RAX and R9 are kept. Gives the signal that it ends with, or 0. */
static int run(const void *code, int size, uintptr_t first)
{
    memset(page, 0x90, DATA);
    memset(page + DATA, 0xee, PAGE - DATA);
    memcpy(page, code, size);
    page[size] = 0xc3;
    signals = 0;
    fault = -1;
    if (sigsetjmp(back, 1) == 0) {
#ifdef __x86_64__
        register uintptr_t nine asm("r9") = -1;
        asm volatile("call *%3" : "+a"(first), "+r"(nine) : "c"(2L), "r"(page) : "memory", "cc");
        r9 = nine;
#else
        asm volatile("call *%2" : "+a"(first) : "c"(2L), "r"(page) : "memory", "cc");
#endif
        a = first;
    }
    return signals;
}

/* What code stores at DATA + `at`: `size` bytes of a value, after a limit of 0 for a table, and nothing around it. Without UMIP
 * the value is the processor's. */
static void stored(const char *name, int at, int size, uint64_t value)
{
    unsigned char wanted[PAGE - DATA], *found = page + DATA;
    memset(wanted, 0xee, sizeof wanted);
    if (!umip) {
        memcpy(wanted + at, found + at, size);
    } else if (size == 2) {
        memcpy(wanted + at, &value, 2);
    } else {
        memset(wanted + at, 0, 2);
        memcpy(wanted + at + 2, &value, size - 2);
    }
    found += at;
    check(signals == 0 && memcmp(page + DATA, wanted, sizeof wanted) == 0, name, "signal %d; %02x %02x %02x %02x %02x %02x %02x %02x %02x %02x %02x",
          signals, found[0], found[1], found[2], found[3], found[4], found[5], found[6], found[7], found[8], found[9], found[10]);
}

static const uint64_t GDT = 0xfffffffffffe0000, IDT = 0xffffffffffff0000, STATUS = 0x80050033, TASK = 0x40, LOCAL = 0x50;

struct form {
    const char *name;
    const char *code;
    int length, offset, at, size;
    const uint64_t *value;
};
#define CODE(bytes) bytes, sizeof bytes - 1
static const uint64_t none;

/* RAX is DATA less the offset. */
static const struct form forms[] = {
    { "SGDT", CODE("\x0f\x01\x00"), 0, 0, TABLE, &GDT },
    { "SIDT", CODE("\x0f\x01\x08"), 0, 0, TABLE, &IDT },
    { "SMSW to memory", CODE("\x0f\x01\x20"), 0, 0, 2, &STATUS },
    { "SLDT to memory", CODE("\x0f\x00\x00"), 0, 0, 2, &none },
    { "STR to memory", CODE("\x0f\x00\x08"), 0, 0, 2, &TASK },
    { "a short displacement", CODE("\x0f\x01\x40\x09"), 0, 9, TABLE, &GDT },
    { "a negative displacement", CODE("\x0f\x01\x48\xf8"), -16, 8, TABLE, &IDT },
    { "a long displacement", CODE("\x0f\x00\x88\x00\x00\x01\x00"), 0x10000, 0, 2, &TASK },
    { "base, index and scale", CODE("\x0f\x01\x44\xc8\x01"), 0, 17, TABLE, &GDT },
    { "an operand-size prefix", CODE("\x66\x0f\x01\x00"), 0, 0, TABLE, &GDT },
    { "SMSW to memory with one", CODE("\x66\x0f\x01\x20"), 0, 0, 2, &STATUS },
    { "a segment prefix", CODE("\x3e\x0f\x00\x08"), 0, 0, 2, &TASK },
    { "one twice", CODE("\x36\x66\x36\x0f\x01\x08"), 0, 0, TABLE, &IDT },
#ifdef __x86_64__
    { "REX.W", CODE("\x48\x0f\x01\x20"), 0, 0, 2, &STATUS },
    { "an address-size prefix", CODE("\x67\x0f\x01\x40\x03"), 0, 3, TABLE, &GDT },
    { "relative to RIP", CODE("\x0f\x01\x05\xf9\x07\x00\x00"), 0, 0, TABLE, &GDT },
#else
    { "an absolute address", CODE("\x0f\x01\x05\x00\x08\x00\x10"), 0, 0, TABLE, &GDT },
#endif
};

static void memory_operands(void)
{
    for (unsigned n = 0; n < sizeof forms / sizeof *forms; n++) {
        const struct form *form = &forms[n];
        uint64_t value = *form->value;
        run(form->code, form->length, (uintptr_t)page + DATA - form->offset);
        stored(form->name, form->at, form->size, value);
    }
}

/* Linux leaves what is not stored, also where the processor would clear the upper half. */
static void register_operands(void)
{
    static const struct {
        const char *name, *code;
        int length;
        uint64_t value, mask;
    } stores[] = {
        { "SMSW to a register", CODE("\x0f\x01\xe0"), 0x80050033, 0xffffffff },
        { "SMSW to half of it", CODE("\x66\x0f\x01\xe0"), 0x0033, 0xffff },
        { "SLDT to a register", CODE("\x0f\x00\xc0"), 0, 0xffffffff },
        { "STR to a register", CODE("\x0f\x00\xc8"), 0x40, 0xffffffff },
        { "STR to half of it", CODE("\x66\x0f\x00\xc8"), 0x40, 0xffff },
#ifdef __x86_64__
        { "SMSW to a whole register", CODE("\x48\x0f\x01\xe0"), 0x80050033, -1 },
#endif
    };
    for (unsigned n = 0; n < sizeof stores / sizeof *stores; n++) {
        uintptr_t before = (uintptr_t)0x1122334455667788;
        int signo = run(stores[n].code, stores[n].length, before);
        uintptr_t wanted = (before & ~stores[n].mask) | stores[n].value;
        check(signo == 0 && (!umip || a == wanted), stores[n].name, "signal %d, %#lx and not %#lx", signo, (long)a, (long)wanted);
    }
#ifdef __x86_64__
    int signo = run(CODE("\x41\x0f\x00\xc9"), 0);
    check(signo == 0 && (!umip || (uint32_t)r9 == TASK), "STR to R9", "signal %d, %#lx", signo, (long)r9);
#endif
}

static void bad_addresses(void)
{
    int signo = run(CODE("\x0f\x01\x00"), 0x10);
    check(signo == SIGSEGV && fault == 0x10, "SGDT to what is not mapped", "signal %d at %#lx", signo, (long)fault);
    if (umip) {
        /* Linux does not choose between them. */
        signo = run(CODE("\x2e\x3e\x0f\x01\x00"), (uintptr_t)page + DATA);
        check(signo == SIGSEGV && fault == 0, "SGDT with several segment prefixes", "signal %d at %#lx", signo, (long)fault);
    }
    mprotect(page + PAGE, PAGE, PROT_READ);
    signo = run(CODE("\x0f\x01\x08"), (uintptr_t)page + PAGE + 32);
    check(signo == SIGSEGV && fault == (uintptr_t)page + PAGE + 32, "SIDT to what is read-only", "signal %d at %#lx", signo, (long)fault);
    signo = run(CODE("\x0f\x01\x10"), (uintptr_t)page + DATA);
    check(signo == SIGSEGV && fault == 0, "LGDT is not allowed", "signal %d at %#lx", signo, (long)fault);
    signo = run(CODE("\x0f\x00\xd8"), 0);
    check(signo == SIGSEGV && fault == 0, "LTR is not allowed", "signal %d at %#lx", signo, (long)fault);
    signo = run(CODE("\xf4"), 0);
    check(signo == SIGSEGV && fault == 0, "HLT is not allowed", "signal %d at %#lx", signo, (long)fault);
}

static int segment(int number, unsigned base, unsigned limit, int wide, int contents)
{
    struct user_desc entry = { .entry_number = number, .base_addr = base, .limit = limit, .seg_32bit = wide, .contents = contents };
    return syscall(SYS_modify_ldt, 0x11, &entry, sizeof entry) == 0;
}

#ifndef __x86_64__
/* Jumps to code at offset 0x10 of the LDT's first segment, which is followed by a jump back. Not a far call: emulators push its
 * return address as the kernel would. */
static int far_code(const void *code, int size, int wide)
{
    extern const char far_back[];
    unsigned char back_jump[] = { 0x66, 0xea, 0, 0, 0, 0, 0x23, 0 };
    uint32_t target = (uintptr_t)far_back;
    memcpy(back_jump + 2, &target, 4);
    memset(page + DATA, 0xee, PAGE - DATA);
    memcpy(page + 0x10, code, size);
    memcpy(page + 0x10 + size, back_jump + wide, sizeof back_jump - wide);
    signals = 0;
    fault = -1;
    if (sigsetjmp(back, 1) == 0)
        asm volatile("mov %0, %%es\n\tljmp $7, $0x10\n\t.global far_back\nfar_back:" : : "r"(2 << 3 | 7) : "memory", "cc");
    asm volatile("mov %0, %%es" : : "r"(0x2b));
    return signals;
}

static void local_segments(void)
{
    unsigned base = (uintptr_t)page;
    /* A data segment over DATA, and a code segment over all of the page. */
    segment(2, base + DATA, 63, 1, 0);
    segment(0, base, PAGE - 1, 1, 2);
    far_code(CODE("\x26\x0f\x01\x05\x08\x00\x00\x00"), 1);
    stored("32-bit code in a segment: SGDT to ES:8", 8, TABLE, GDT);
    far_code(CODE("\x2e\x0f\x00\x0d\x20\x08\x00\x00"), 1);
    if (umip) {
        stored("32-bit code in a segment: STR to CS", 0x20, 2, TASK);
        int signo = far_code(CODE("\x26\x0f\x01\x05\x40\x00\x00\x00"), 1);
        check(signo == SIGSEGV && fault == 0, "SGDT beyond the limit", "signal %d at %#lx", signo, (long)fault);
    }
    segment(0, base, PAGE - 1, 0, 2);
    far_code(CODE("\x26\x0f\x01\x06\x04\x00"), 0);
    stored("16-bit code in a segment: SGDT to ES:4", 4, TABLE, GDT);
    far_code(CODE("\x26\x67\x0f\x01\x0d\x0c\x00\x00\x00"), 0);
    stored("16-bit code with an address-size prefix: SIDT to ES:12", 12, TABLE, IDT);
    if (iopl(3) != 0) {
        skip("CLI and STI", "iopl: %s", strerror(errno));
        return;
    }
    int signo = far_code(CODE("\xfa\xfb"), 0);
    check(signo == 0, "CLI and STI in a 16-bit segment", "signal %d", signo);
    segment(0, base, PAGE - 1, 1, 2);
    signo = far_code(CODE("\xfa\xfb"), 1);
    check(signo == 0, "CLI and STI in a 32-bit segment", "signal %d", signo);
    signo = far_code(CODE("\xf4"), 1);
    check(signo == SIGSEGV, "HLT in a segment", "signal %d", signo);
    signo = run(CODE("\xfa\xfb"), 0);
    check(signo == 0, "CLI and STI in flat code", "signal %d", signo);
    iopl(0);
    signo = run(CODE("\xfa"), 0);
    check(signo == SIGSEGV, "CLI without the level", "signal %d", signo);
}
#endif

int main(void)
{
    unsigned eax, ebx, ecx = 0, edx;
    __cpuid_count(7, 0, eax, ebx, ecx, edx);
    umip = ecx >> 2 & 1;
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    int caught[] = { SIGSEGV, SIGBUS, SIGILL, SIGTRAP };
    for (unsigned n = 0; n < sizeof caught / sizeof *caught; n++)
        sigaction(caught[n], &action, NULL);
    page = mmap((void *)0x10000000, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memory_operands();
    register_operands();
    bad_addresses();
    if (segment(0, (uintptr_t)page, PAGE - 1, 1, 2)) {
        int signo = run(CODE("\x0f\x00\x00"), (uintptr_t)page + DATA);
        (void)signo;
        stored("SLDT of a program that has a table", 0, 2, LOCAL);
#ifndef __x86_64__
        local_segments();
#endif
    } else {
        skip("segments of the LDT", "modify_ldt: %s", strerror(errno));
    }
    return done();
}
