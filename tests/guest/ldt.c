/* Local descriptor tables: what modify_ldt takes and gives, what IRET makes of their selectors, and when the other CPUs
 * hear of a change. Bugs 3 (a fault on IRET on the wrong stack), 4 (16-bit segments of the GDT) and 5 (half of the kernel's
 * RSP seen through a 16-bit stack).
 */
#include "registers.h"
#include <asm/ldt.h>
#include <pthread.h>
#include <sched.h>

static long modify_ldt(int function, void *data, unsigned long size)
{
    return syscall(SYS_modify_ldt, function, data, size);
}

static struct user_desc flat(unsigned entry)
{
    return (struct user_desc){ .entry_number = entry, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1 };
}

/* The result of a call of the new form: 0, or the error as an int. */
static int set(struct user_desc segment)
{
    return modify_ldt(0x11, &segment, sizeof segment);
}

#define SELECTOR(entry) ((entry) << 3 | 7)

static unsigned access_rights(unsigned selector)
{
    unsigned rights = 0;
    asm volatile("lar %1, %0" : "+r"(rights) : "r"(selector) : "cc");
    return rights;
}

static void interface(void)
{
    static unsigned char table[65536 + 16];
    check(modify_ldt(0, table, sizeof table) == 0, "no table to read", "a table was read");
    memset(table, 1, 256);
    check(modify_ldt(2, table, 200) == 128 && table[0] == 0 && table[127] == 0 && table[128] == 1,
          "the default table", "not 128 zeros");
    struct user_desc segment = flat(2);
    check(modify_ldt(3, &segment, sizeof segment) == (long)(uint32_t)-ENOSYS, "no such function",
          "the result is no int with ENOSYS");
    check(modify_ldt(0x11, &segment, 15) == (uint32_t)-EINVAL, "a wrong size", "taken");
    check(modify_ldt(0x11, (void *)8, 16) == (uint32_t)-EFAULT, "a bad address", "taken");
    check(set(flat(8192)) == -EINVAL, "an entry beyond the end", "taken");
    segment.contents = 3;
    check(set(segment) == -EINVAL, "conforming code that is present", "taken");
    segment.seg_not_present = 1;
    check(set(segment) == 0 && modify_ldt(1, &segment, 16) == (uint32_t)-EINVAL, "conforming code that is not present",
          "not taken, or taken in the old form");
    segment = flat(3);
    segment.base_addr = 0x12345678;
    segment.limit = 0xabcde;
    segment.useable = 1;
    check(set(segment) == 0 && (access_rights(SELECTOR(3)) & 0xf0ff00) == 0xd0f300, "a data segment",
          "access rights %#x", access_rights(SELECTOR(3)));
    memset(table, 1, 64);
    long size = modify_ldt(0, table, 64);
    uint64_t entry;
    memcpy(&entry, table + 24, 8);
    check(size == 64 && entry == 0x12daf3345678bcde && table[32] == 0 && table[63] == 0, "it is read back",
          "size %ld, entry %#lx", size, entry);
    check(modify_ldt(0, table, sizeof table) == 65536, "the whole table", "another size");
    check(modify_ldt(1, &segment, 16) == 0 && (access_rights(SELECTOR(3)) & 0x100000) == 0, "the old form knows no useable bit",
          "access rights %#x", access_rights(SELECTOR(3)));
    segment.base_addr = segment.limit = 0;
    check(modify_ldt(1, &segment, 16) == 0 && access_rights(SELECTOR(3)) == 0, "the old form's empty entry", "access rights %#x",
          access_rights(SELECTOR(3)));
    segment = flat(3);
    segment.lm = 1;
    segment.contents = 2;
    check(set(segment) == 0 && (access_rights(SELECTOR(3)) & 0x200000) == 0, "no 64-bit code segment", "access rights %#x",
          access_rights(SELECTOR(3)));
}

static int child_has_a_copy(void)
{
    int had = access_rights(SELECTOR(4)) != 0;
    struct user_desc segment = { .entry_number = 4, .read_exec_only = 1, .seg_not_present = 1 };
    return had && set(segment) == 0 && access_rights(SELECTOR(4)) == 0 ? 0 : 1;
}

static void fork_copies(void)
{
    set(flat(4));
    int status = in_child(child_has_a_copy);
    check(status == 0 && access_rights(SELECTOR(4)) != 0, "a child has a table of its own", "status %#x", status);
}

/* IRET with chosen CS and SS: SIGTRAP's handler puts them into its frame, what follows raises another signal, and that one's
 * handler puts back what was there. */
static struct { greg_t gregs[NGREG]; int stage; uint64_t rip, rsp; uint16_t cs, ss; } chosen;

static void switch_segments(int signal, siginfo_t *info, ucontext_t *context)
{
    greg_t *gregs = context->uc_mcontext.gregs;
    (void)signal, (void)info;
    if (chosen.stage++ == 0) {
        memcpy(chosen.gregs, gregs, sizeof chosen.gregs);
        for (int n = REG_R8; n <= REG_RCX; n++)
            if (n != REG_RSP)
                gregs[n] = 0x1111111111111111ull * (n + 1);
        gregs[REG_RIP] = chosen.rip;
        gregs[REG_RSP] = chosen.rsp;
        gregs[REG_CSGSFS] = chosen.cs | (uint64_t)chosen.ss << 48;
    } else {
        greg_t *before = chosen.gregs;
        gregs[REG_CSGSFS] = before[REG_CSGSFS];
        memcpy(gregs, before, sizeof(greg_t) * REG_CSGSFS);
    }
}

SNIPPET(trap, "int3");

/* Whether the general registers of the last frame are those that `switch_segments` chose. RCX may differ. */
static const char *wrong_register(void)
{
    static char text[64];
    static const int order[] = { REG_RAX, REG_RBX, -1, REG_RDX, REG_RSI, REG_RDI, REG_RBP, -1, REG_R8, REG_R9, REG_R10,
                                 REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    for (int n = 0; n < 16; n++) {
        uint64_t got = ((uint64_t *)&caught.registers)[n], want = 0x1111111111111111ull * (order[n] + 1);
        if (order[n] < 0 || got == want)
            continue;
        snprintf(text, sizeof text, "%s is %#lx, not %#lx", register_names[n], got, want);
        return text;
    }
    return NULL;
}

static void iret_with(uint16_t cs, uint16_t ss, uint64_t rip, uint64_t rsp)
{
    chosen.stage = 0;
    chosen.cs = cs;
    chosen.ss = ss;
    chosen.rip = rip;
    chosen.rsp = rsp;
    memset(&caught, 0, sizeof caught);
    resume_at = NULL;
    on_signal = switch_segments;
    randomize(&in);
    run(trap);
    on_signal = NULL;
}

/* `mov %esp, %ecx; int3`, the same in 16- and 32-bit code but for the operand size. */
static unsigned char *low_code;

/* IRET faults: the signal comes with all registers as they were to be. */
static void faults(const char *name, uint16_t cs, uint16_t ss, int trapno, uint64_t error)
{
    const char *wrong = NULL;
    for (int round = 0; round < 50 && !wrong; round++) {
        iret_with(cs, ss, (uint64_t)low_code, 0x1234567 + 8 * round);
        static char text[160];
        /* A fault on a stack segment of the LDT may be known as a general-protection fault only (espfix). */
        int lost = ss & 4 && caught.trapno == 13 && caught.err == 0 && caught.signal == SIGSEGV;
        int as_it_is = (int)caught.trapno == trapno && caught.err == error &&
                       caught.signal == (trapno == 13 ? SIGSEGV : SIGBUS);
        wrong = wrong_register();
        if (!wrong && (caught.count != 2 || !(lost || as_it_is) || caught.cs != cs || caught.ss != ss ||
                       caught.rip != (uint64_t)low_code || caught.registers.rsp != 0x1234567 + 8ull * round)) {
            snprintf(text, sizeof text, "%d signals, signal %d, exception %lu, error %#lx, cs %#lx, ss %#lx, rip %#lx, rsp %#lx",
                     caught.count, caught.signal, caught.trapno, caught.err, caught.cs, caught.ss, caught.rip,
                     caught.registers.rsp);
            wrong = text;
        }
    }
    check(!wrong, name, "%s", wrong);
}

static void iret_faults(void)
{
    struct user_desc code = flat(5), data = flat(6), sixteen = flat(7);
    code.contents = 2;
    code.seg_not_present = 1;
    data.seg_not_present = 1;
    set(code);
    set(data);
    faults("IRET to a code segment that is not present", SELECTOR(5), 0x2b, 11, SELECTOR(5) & ~3);
    faults("IRET to a stack segment that is not present", 0x23, SELECTOR(6), 12, SELECTOR(6) & ~3);
    code.entry_number = 9;
    code.contents = 3;
    set(code);
    faults("IRET to conforming code that is not present", SELECTOR(9), 0x2b, 11, SELECTOR(9) & ~3);
    faults("IRET to a stack segment that does not exist", 0x23, SELECTOR(1000), 13, SELECTOR(1000) & ~3);
    faults("IRET to a code segment that is data", 0x2b, 0x2b, 13, 0x28);
    sixteen.seg_32bit = 0;
    if (set(sixteen)) {
        skip("faults of IRET on a 16-bit stack", "this kernel has no 16-bit segments");
        return;
    }
    faults("IRET to a 16-bit stack and code that is not present", SELECTOR(5), SELECTOR(7), 11, SELECTOR(5) & ~3);
    faults("IRET to a 16-bit stack and the kernel's code", 0x13, SELECTOR(7), 13, 0x10);
}

static void stack_of_16_bits(void)
{
    struct user_desc stack = flat(7);
    stack.seg_32bit = 0;
    if (set(stack)) {
        skip("RSP on a 16-bit stack", "this kernel has no 16-bit segments");
        return;
    }
    unsigned bad = 0;
    uint32_t seen = 0, wanted = 0;
    for (int round = 0; round < 200 && !bad; round++) {
        uint32_t rsp = random_number() & 0xfffffff8;
        iret_with(0x23, SELECTOR(7), (uint64_t)low_code, rsp);
        seen = caught.registers.rcx;
        wanted = rsp;
        bad += caught.count != 2 || caught.signal != SIGTRAP || seen != rsp || wrong_register();
    }
    check(!bad, "ESP on a 16-bit stack", "%#x, not %#x; %d signals, the last %d", seen, wanted, caught.count, caught.signal);
    /* 64-bit code with such a stack segment. */
    iret_with(0x33, SELECTOR(7), (uint64_t)low_code, 0x123456789ab8);
    check(caught.count == 2 && caught.registers.rcx == 0x56789ab8 && caught.registers.rsp == 0x123456789ab8,
          "64-bit code with a 16-bit stack segment", "RCX %#lx, RSP %#lx", caught.registers.rcx, caught.registers.rsp);
    struct user_desc code = flat(8);
    code.contents = 2;
    code.seg_32bit = 0;
    code.base_addr = (uintptr_t)low_code;
    set(code);
    /* mov %esp, %ecx needs a prefix there. */
    low_code[16] = 0x66;
    memcpy(low_code + 17, "\x89\xe1\xcc", 3);
    iret_with(SELECTOR(8), SELECTOR(7), 16, 0x7654fff0);
    check(caught.count == 2 && caught.registers.rcx << 32 == 0x7654fff0ull << 32, "16-bit code with a 16-bit stack", "RCX %#lx",
          caught.registers.rcx);
}

/* A register keeps what it has loaded until the next switch; what is gone by then becomes null. */
static void gone(void)
{
    set(flat(21));
    asm volatile("mov %0, %%gs" : : "r"(SELECTOR(21)));
    usleep(20000);
    unsigned before, after;
    asm volatile("mov %%gs, %0" : "=r"(before));
    struct user_desc empty = { .entry_number = 21, .read_exec_only = 1, .seg_not_present = 1 };
    set(empty);
    usleep(20000);
    asm volatile("mov %%gs, %0" : "=r"(after));
    check((uint16_t)before == SELECTOR(21) && (uint16_t)after == 0, "GS when its descriptor is gone", "%#x, then %#x", before, after);
}

SNIPPET(enter_32, "int $0x80");

static void segments_of_the_gdt(void)
{
    struct user_desc *segment = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    static const struct { const char *name; int sixteen, contents, missing; long result; } cases[] = {
        { "a 32-bit data segment in the GDT", 0, 0, 0, 0 },
        { "a 16-bit data segment in the GDT", 1, 0, 0, -EINVAL },
        { "a code segment in the GDT", 0, 2, 0, -EINVAL },
        { "a segment of the GDT that is not present", 0, 0, 1, -EINVAL },
    };
    for (unsigned n = 0; n < sizeof cases / sizeof *cases; n++) {
        *segment = flat(-1);
        segment->seg_32bit = !cases[n].sixteen;
        segment->contents = cases[n].contents;
        segment->seg_not_present = cases[n].missing;
        randomize(&in);
        in.rax = 243; /* set_thread_area */
        in.rbx = (uint64_t)segment;
        run(enter_32);
        if ((long)out.rax == -ENOSYS)
            skip(cases[n].name, "no 32-bit calls");
        else
            check((long)out.rax == cases[n].result, cases[n].name, "result %ld", (long)out.rax);
    }
}

/* The other CPU's table: a thread there reads through GS what the last change put there. */
static volatile uint32_t *cells;
static volatile int generation, answered, read_value;

static void *reader(void *cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((long)cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
    for (int seen = 0; generation >= 0;) {
        if (generation == seen)
            continue;
        seen = generation;
        if (seen < 0)
            break;
        uint32_t value;
        asm volatile("mov %1, %%gs; mov %%gs:0, %0" : "=r"(value) : "r"(SELECTOR(20)));
        read_value = value;
        answered = seen;
    }
    asm volatile("mov %0, %%gs" : : "r"(0));
    return NULL;
}

static void other_cpus(void)
{
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        skip("a change is seen on the other CPU", "one CPU");
        return;
    }
    cpu_set_t set_0;
    CPU_ZERO(&set_0);
    CPU_SET(0, &set_0);
    sched_setaffinity(0, sizeof set_0, &set_0);
    cells = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    for (int n = 0; n < 1024; n++)
        cells[n] = n;
    struct user_desc segment = flat(20);
    segment.base_addr = (uintptr_t)cells;
    set(segment);
    pthread_t thread;
    pthread_create(&thread, NULL, reader, (void *)1);
    int bad = 0, last = 0;
    for (int n = 1; n < 500 && !bad; n++) {
        segment.base_addr = (uintptr_t)(cells + n);
        set(segment);
        generation = n;
        while (answered != n)
            ;
        last = read_value;
        bad = last != n ? n : 0;
    }
    generation = -1;
    pthread_join(thread, NULL);
    check(!bad, "a change is seen on the other CPU", "change %d: the cell of change %d", bad, last);
}

int main(void)
{
    low_code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    memcpy(low_code, "\x89\xe1\xcc", 3);
    interface();
    fork_copies();
    catch_signal(SIGTRAP, 0);
    catch_signal(SIGSEGV, 0);
    catch_signal(SIGBUS, 0);
    iret_faults();
    stack_of_16_bits();
    gone();
    segments_of_the_gdt();
    other_cpus();
    return done();
}
