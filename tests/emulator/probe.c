// A kernel that asks its emulator what `docs/emulators.md` tells of it: `./x emulator` boots it. It prints `NAME: ANSWER` lines on
// port 0xE9, and ends as the reference kernel does.
//
// Each question is a few instructions, in ring 0 or copied to a user page. What ends them, an exception or a SYSCALL, is noted in
// `event`, and `attempt` returns. Interrupts stay off, and GS is never swapped.

#include <cpuid.h>
#include <stdint.h>

// Selectors, as STAR wants them. User mode's have RPL 3.
enum { KERNEL_CS = 0x08, KERNEL_DS = 0x10, USER_CS32 = 0x18 | 3, USER_DS = 0x20 | 3, USER_CS = 0x28 | 3, TSS = 0x30 };

// Memory: 2 MiB pages, mapped where they are. One is user mode's: code at its start, the stack at its end.
enum { USER = 0x400000, USER_END = 0x600000 };

enum { DB = 1, BP = 3, UD = 6, SS = 12, GP = 13, PF = 14, SYSCALL_64 = 32, SYSCALL_32 = 33, NOTHING = 34 };

enum { TF = 1 << 8, FLAGS = 2 };

enum { EFER = 0xc0000080, STAR = 0xc0000081, LSTAR = 0xc0000082, CSTAR = 0xc0000083, SFMASK = 0xc0000084 };

#define ARRAY(name) extern const uint8_t name[], name##_end[]

// What ended the last attempt.
struct event {
    uint64_t vector, error, rip, cs, fs, gs;
};
struct event event;
// Where `attempt` returns.
uint64_t attempt_rsp;

uint64_t gdt[8] = {
    [KERNEL_CS / 8] = 0x00af9b000000ffff, [KERNEL_DS / 8] = 0x00cf93000000ffff, [USER_CS32 / 8] = 0x00cffb000000ffff,
    [USER_DS / 8] = 0x00cff3000000ffff,   [USER_CS / 8] = 0x00affb000000ffff,
};
struct {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed)) gdtr = {sizeof gdt - 1, (uint64_t)gdt}, idtr;
struct {
    uint64_t low, high;
} idt[32];
struct {
    uint32_t reserved;
    uint64_t rsp0;
    uint8_t rest[92];
} __attribute__((packed)) tss;
uint8_t stack[16384] __attribute__((aligned(16))), event_stack[4096] __attribute__((aligned(16)));
uint64_t pml4[512] __attribute__((aligned(4096))), pdpt[512] __attribute__((aligned(4096))),
    pd[512] __attribute__((aligned(4096)));

// By PVH a kernel is entered in 32-bit mode, without paging.
__asm__(".section .note.pvh, \"a\", @note\n"
        ".long 4, 4, 18\n"
        ".asciz \"Xen\"\n"
        ".long entry\n"
        ".text\n"
        ".code32\n"
        "entry:\n"
        "  mov $stack + 16384, %esp\n"
        "  movl $pdpt + 7, pml4\n"
        "  movl $pd + 7, pdpt\n"
        "  movl $0x083, pd\n" // present, writable, 2 MiB
        "  movl $0x200083, pd + 8\n"
        "  movl $0x400087, pd + 16\n" // user mode's
        "  mov $pml4, %eax\n"
        "  mov %eax, %cr3\n"
        "  mov %cr4, %eax\n"
        "  or $0x620, %eax\n" // PAE, OSFXSR, OSXMMEXCPT
        "  mov %eax, %cr4\n"
        "  mov $0xc0000080, %ecx\n"
        "  rdmsr\n"
        "  or $0x101, %eax\n" // EFER: LME, SCE
        "  wrmsr\n"
        "  mov %cr0, %eax\n" // PG, WP, PE
        "  or $0x80010001, %eax\n"
        "  mov %eax, %cr0\n"
        "  lgdtl gdtr\n"
        "  ljmp $8, $1f\n"
        ".code64\n"
        "1: mov $0x10, %eax\n"
        "  mov %eax, %ds\n"
        "  mov %eax, %es\n"
        "  mov %eax, %ss\n"
        "  call start\n");

// Calls what RDI has, and returns when it does or an event ends it.
void attempt(void (*question)(void));
__asm__("attempt:\n"
        "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "  mov %rsp, attempt_rsp\n"
        "  movq $34, event\n" // NOTHING
        "  call *%rdi\n"
        "end_attempt:\n"
        "  mov $0x10, %eax\n"
        "  mov %eax, %ss\n"
        "  mov attempt_rsp, %rsp\n"
        "  pushq $2\n"
        "  popfq\n"
        "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "  ret\n"
        // The stack: vector, error code, RIP, CS.
        "arrived:\n"
        "  pop event\n"
        "  pop event + 8\n"
        "  pop event + 16\n"
        "  pop event + 24\n"
        "  xor %eax, %eax\n"
        "  mov %fs, %eax\n"
        "  mov %rax, event + 32\n"
        "  xor %eax, %eax\n"
        "  mov %gs, %eax\n"
        "  mov %rax, event + 40\n"
        "  jmp end_attempt\n"
        // Some instructions, after one of which a debug exception could come.
        "syscall_64: nop; nop; nop\n"
        "  movq $32, event\n"
        "  jmp end_attempt\n"
        "syscall_32: movq $33, event\n"
        "  jmp end_attempt\n"
        // The doors, 16 bytes each.
        ".balign 16\n"
        "doors:\n"
        ".set vector, 0\n"
        ".rept 32\n"
        ".balign 16\n"
        // Vectors with an error code: 8, 10 to 14, 17, 21.
        ".if ((0x227d00 >> vector) & 1) == 0\n"
        "  pushq $0\n"
        ".endif\n"
        "  pushq $vector\n"
        "  jmp arrived\n"
        ".set vector, vector + 1\n"
        ".endr\n");

static void wrmsr(uint32_t msr, uint64_t value) {
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static void out8(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static uint8_t in8(uint16_t port) {
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void print(const char *text) {
    while (*text) {
        out8(0xe9, *text++);
    }
}

static void answer(const char *name, const char *text) {
    print(name);
    print(": ");
    print(text);
    print("\n");
}

// What ended an attempt, in words.
static const char *ending(void) {
    switch (event.vector) {
    case DB: return event.cs & 3 ? "#DB in ring 3" : "#DB in ring 0";
    case BP: return "#BP";
    case UD: return "#UD";
    case SS: return event.cs & 3 ? "#SS in ring 3" : "#SS in ring 0";
    case GP: return event.cs & 3 ? "#GP in ring 3" : "#GP in ring 0";
    case PF: return event.cs & 3 ? "#PF in ring 3" : "#PF in ring 0";
    case SYSCALL_64:
    case SYSCALL_32: return "SYSCALL's entry point";
    case NOTHING: return "nothing";
    default: return "another exception";
    }
}

static uint64_t user_cs = USER_CS, user_flags = FLAGS;

// Enters the user page by IRET.
static void enter_user(void) {
    __asm__ volatile("pushq %0; pushq %1; pushq %2; pushq %3; pushq %4; iretq"
                     :
                     : "i"(USER_DS), "i"(USER_END - 64), "r"(user_flags), "r"(user_cs), "i"(USER));
}

// Copies code to the user page, where user mode is entered.
static void to_user_page(const uint8_t *code, const uint8_t *end) {
    for (uint8_t *to = (uint8_t *)USER; code < end;) {
        *to++ = *code++;
    }
}

// Runs this code in ring 3.
static void in_user_mode(const uint8_t *code, const uint8_t *end) {
    to_user_page(code, end);
    attempt(enter_user);
}

// Questions in ring 0.

static void sysret_to_non_canonical(void) {
    __asm__ volatile("sysretq" : : "c"(1ull << 47), "r"((uint64_t)FLAGS) : "r11");
}

static void iret_to_non_canonical(void) {
    __asm__ volatile("pushq %0; pushq %1; pushq %2; pushq %3; pushq %4; iretq"
                     :
                     : "i"(USER_DS), "i"(USER_END - 64), "i"(FLAGS), "i"(USER_CS), "r"(1ull << 47));
}

static uint16_t stack_selector = KERNEL_DS;
extern const uint8_t after_mov_ss[], after_next[];

static void mov_ss_with_watchpoint(void) {
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7\n"
                     "  mov stack_selector, %%ss\n"
                     "after_mov_ss: nop\n"
                     "after_next: nop; nop"
                     :
                     : "r"(&stack_selector), "r"(0x70003ull)); // bytes 0 and 1, read or written
}

static void iret_with_null_segments(void) {
    __asm__ volatile("mov %0, %%fs; mov %0, %%gs" : : "r"(3));
    enter_user();
}

// SS is null, as after an interrupt from user mode. SYSRET to 32-bit code loads it.
static void sysret_with_null_ss(void) {
    __asm__ volatile("mov %0, %%ss; mov %1, %%rsp; mov $2, %%r11d; sysretl" : : "r"(0), "r"(USER_END - 64ull), "c"(USER));
}

static void instruction_breakpoint(void) {
    __asm__ volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"((uint64_t)USER), "r"(3ull)); // one byte, executed
    enter_user();
}

static uint64_t cr4_bit;

static void set_cr4(void) {
    uint64_t cr4;
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("mov %0, %%cr4; mov %1, %%cr4" : : "r"(cr4 | cr4_bit), "r"(cr4));
}

static void lkgs(void) {
    __asm__ volatile(".byte 0xf2, 0x0f, 0x00, 0xf0" : : "a"(0)); // LKGS AX
}

// Code for user mode.

ARRAY(breakpoint);
ARRAY(icebp);
ARRAY(far_return);
ARRAY(only_syscall);
ARRAY(push_32);
ARRAY(into);
ARRAY(wbinvd);
ARRAY(interrupt_80);
__asm__("breakpoint: int3; breakpoint_end:\n"
        "icebp: .byte 0xf1; int3; icebp_end:\n"
        "far_return: pushq $0x2b; lea 1f(%rip), %rax; push %rax; lretq; 1: int3; far_return_end:\n"
        "only_syscall: syscall; int3; only_syscall_end:\n"
        // PUSH EAX in 32-bit code.
        "push_32: .byte 0x50; int3; push_32_end:\n"
        "into: .byte 0xce; int3; into_end:\n"
        "wbinvd: wbinvd; int3; wbinvd_end:\n"
        // Beyond the table's end.
        "interrupt_80: int $80; int3; interrupt_80_end:\n");

static void clear_debug_registers(void) {
    __asm__ volatile("mov %0, %%dr7; mov %1, %%dr6" : : "r"(0x400ull), "r"(0xffff0ff0ull));
}

static void watchpoint(void) {
    attempt(mov_ss_with_watchpoint);
    clear_debug_registers();
    const char *when = event.vector != DB                      ? "not at all"
                       : event.rip == (uint64_t)after_next     ? "yes"
                       : event.rip == (uint64_t)after_mov_ss   ? "at once"
                                                               : "elsewhere";
    answer("mov-ss", when);
}

static void null_segments(void) {
    to_user_page(breakpoint, breakpoint_end);
    attempt(iret_with_null_segments);
    const char *kept = event.fs && event.gs ? "keeps FS and GS" : event.fs ? "keeps FS" : event.gs ? "keeps GS" : "yes";
    answer("iret-null", event.vector == BP ? kept : ending());
    __asm__ volatile("mov %0, %%fs; mov %0, %%gs" : : "r"(0));
}

static void division(void) {
    static const int64_t dividends[] = {100, -100, 1ll << 62, -(1ll << 40)}, divisors[] = {7, -7, 3, 1ll << 33};
    int right = 1;
    for (int a = 0; a < 4; a++) {
        for (int b = 0; b < 4; b++) {
            int64_t quotient, rest, high = dividends[a] >> 63;
            __asm__ volatile("idivq %4" : "=a"(quotient), "=d"(rest) : "a"(dividends[a]), "d"(high), "r"(divisors[b]));
            // By multiplication, which no compiler makes a division of.
            right &= quotient * divisors[b] + rest == dividends[a];
            right &= rest == 0 || (rest < 0) == (dividends[a] < 0);
            int64_t size = rest < 0 ? -rest : rest, limit = divisors[b] < 0 ? -divisors[b] : divisors[b];
            right &= size < limit;
        }
    }
    answer("idiv", right ? "yes" : "no");
}

// LASS in CR4 would forbid the kernel its own addresses: CPUID alone is asked.
enum { NO_CR4 = 64 };

// A feature that a CR4 bit turns on.
static const struct {
    const char *name;
    uint32_t leaf, subleaf, reg, bit, cr4;
} features[] = {
    {"FSGSBASE", 7, 0, 1, 0, 16}, {"UMIP", 7, 0, 2, 2, 11}, {"SMAP", 7, 0, 1, 20, 21}, {"PKU", 7, 0, 2, 3, 22},
    {"CET", 7, 0, 2, 7, 23},      {"LASS", 7, 1, 0, 6, NO_CR4}, {"FRED", 7, 1, 0, 17, 32},
};

static int cpuid_bit(uint32_t leaf, uint32_t subleaf, int reg, int bit) {
    uint32_t words[4] = {0};
    __cpuid_count(0, 0, words[0], words[1], words[2], words[3]);
    if (words[0] < leaf) {
        return 0;
    }
    __cpuid_count(leaf, subleaf, words[0], words[1], words[2], words[3]);
    return words[reg] >> bit & 1;
}

static void features_that_are_there(void) {
    for (unsigned n = 0; n < sizeof features / sizeof *features; n++) {
        const char *told = "no";
        if (cpuid_bit(features[n].leaf, features[n].subleaf, features[n].reg, features[n].bit)) {
            cr4_bit = features[n].cr4 == NO_CR4 ? 0 : 1ull << features[n].cr4;
            attempt(set_cr4);
            told = event.vector == NOTHING ? "yes" : "only in CPUID";
        }
        answer(features[n].name, told);
    }
    answer("x2APIC", cpuid_bit(1, 0, 2, 21) ? "yes" : "no");
    attempt(lkgs);
    answer("LKGS", event.vector == NOTHING ? "yes" : "no");
}

static void serial_port(void) {
    out8(0x3fb, 0x80); // the divisor: 115200 baud
    out8(0x3f8, 1);
    out8(0x3f9, 0);
    out8(0x3fb, 3); // 8 bits
    out8(0x3fa, 0); // no FIFO
    out8(0x3f8, '\n');
    answer("serial", in8(0x3fd) & 0x40 ? "no" : "yes");
}

static void set_up(void) {
    extern const uint8_t doors[], syscall_64[], syscall_32[];
    for (int vector = 0; vector < 32; vector++) {
        uint64_t door = (uint64_t)(doors + 16 * vector), dpl = 3;
        idt[vector].low = (door & 0xffff) | KERNEL_CS << 16 | (0x8e00 | dpl << 13) << 32 | (door >> 16 & 0xffff) << 48;
        idt[vector].high = door >> 32;
    }
    idtr.limit = sizeof idt - 1;
    idtr.base = (uint64_t)idt;
    __asm__ volatile("lidt %0" : : "m"(idtr));
    uint64_t base = (uint64_t)&tss;
    gdt[TSS / 8] = (sizeof tss - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[TSS / 8 + 1] = base >> 32;
    tss.rsp0 = (uint64_t)event_stack + sizeof event_stack;
    __asm__ volatile("ltr %w0" : : "r"(TSS));
    wrmsr(STAR, (uint64_t)KERNEL_CS << 32 | (uint64_t)USER_CS32 << 48);
    wrmsr(LSTAR, (uint64_t)syscall_64);
    wrmsr(CSTAR, (uint64_t)syscall_32);
    wrmsr(SFMASK, TF);
}

void start(void) {
    set_up();

    uint32_t words[4];
    __cpuid(0, words[0], words[1], words[2], words[3]);
    answer("vendor", words[1] == signature_INTEL_ebx ? "Intel" : "AMD");

    attempt(sysret_to_non_canonical);
    answer("sysret-non-canonical", ending());
    attempt(iret_to_non_canonical);
    answer("iret-non-canonical", ending());
    watchpoint();
    null_segments();
    in_user_mode(icebp, icebp_end);
    answer("icebp", ending());
    in_user_mode(into, into_end);
    answer("into", event.vector == BP ? "executed" : ending());
    in_user_mode(wbinvd, wbinvd_end);
    answer("wbinvd", event.vector == BP ? "executed" : ending());
    in_user_mode(interrupt_80, interrupt_80_end);
    answer("int-error", event.vector != GP            ? ending()
                        : event.error == 80 * 8 + 2  ? "yes"
                        : event.error == 80 * 16 + 2 ? "16 N + 2"
                                                     : "another");

    if (cpuid_bit(7, 0, 1, 20)) {
        __asm__ volatile("mov %%cr4, %%rax; or $0x200000, %%eax; mov %%rax, %%cr4" : : : "rax");
        // User mode's page is written with AC set.
        __asm__ volatile("stac");
        to_user_page(far_return, far_return_end);
        __asm__ volatile("clac");
        attempt(enter_user);
        __asm__ volatile("mov %%cr4, %%rax; and $~0x200000, %%eax; mov %%rax, %%cr4" : : : "rax");
        answer("far-return-smap", event.vector == BP ? "yes" : ending());
    } else {
        answer("far-return-smap", "no SMAP");
    }

    user_cs = USER_CS32;
    in_user_mode(only_syscall, only_syscall_end);
    answer("syscall-32", ending());
    user_cs = USER_CS;
    user_flags = FLAGS | TF;
    in_user_mode(only_syscall, only_syscall_end);
    user_flags = FLAGS;
    clear_debug_registers();
    answer("syscall-tf", event.vector == SYSCALL_64 ? "yes" : ending());

    to_user_page(push_32, push_32_end);
    attempt(sysret_with_null_ss);
    answer("sysret-ss", event.vector == BP ? "flat" : "kept");
    division();

    to_user_page(breakpoint, breakpoint_end);
    attempt(instruction_breakpoint);
    clear_debug_registers();
    answer("instruction-breakpoint", event.vector == DB ? "yes" : ending());
    serial_port();
    features_that_are_there();

    print("exit: 0\n");
    __asm__ volatile("outl %0, %1" : : "a"(0x10), "Nd"((uint16_t)0xf4));
    idtr.limit = 0;
    __asm__ volatile("lidt %0; ud2" : : "m"(idtr));
    __builtin_unreachable();
}
