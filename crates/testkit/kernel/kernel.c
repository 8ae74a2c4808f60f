// The kernel that the testkit is tested on: one CPU, one program at a time, demand paging, a timer, SYSCALL, INT 0x80, NMIs. It
// runs each program of the archive that it is given as its initial RAM disk (a cpio archive of ELF files), says what became of
// it, and ends QEMU. `plant=N` on the command line plants bug N of the catalogue.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define KERNEL_BASE 0xffffffff80000000ul
#define APIC 0xffffffffc0000000ul
#define USER_END 0x800000000000ul
#define PAGE 4096ul

enum { KERNEL_CS = 0x08, USER_SS = 0x23, USER_CS = 0x2b, OTHER_USER_SS = 0x33, TSS = 0x38 };
enum { TF = 1 << 8, IF = 1 << 9, DF = 1 << 10, IOPL = 3 << 12, NT = 1 << 14, RF = 1 << 16, AC = 1 << 18 };
enum { DEBUG = 1, NMI = 2, DOUBLE_FAULT = 8, GENERAL_PROTECTION = 13, PAGE_FAULT = 14, MACHINE_CHECK = 18, TIMER = 32, INT80 = 0x80 };
enum { EBADF = 9, EFAULT = 14, ENOSYS = 38 };
enum { PRESENT = 1 << 0, WRITABLE = 1 << 1, USER = 1 << 2 };
#define NO_EXECUTE (1ul << 63)

enum {
    MSR_STAR = 0xc0000081,
    MSR_LSTAR = 0xc0000082,
    MSR_SFMASK = 0xc0000084,
    MSR_GS_BASE = 0xc0000101,
    MSR_KERNEL_GS_BASE = 0xc0000102,
};

// What the doors push (doors.S).
struct frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax, vector, error, rip, cs, rflags, rsp, ss;
};

// The per-CPU area, at GS.
struct {
    u64 self, stack, user_rsp, paranoid;
} cpu;

extern u64 boot_pml4[512];
extern u8 kernel_stack_top[], kernel_end[], stubs[], nmi_entry[], debug_entry[], machine_check_entry[], syscall_entry[], copy_fault[], copy_fixup[];
extern const u64 ist_tops[4];
extern const struct plant {
    u8 *good;
    const u8 *bad;
    u32 bug, size, bad_size, unused;
} plants_start[], plants_end[];

__attribute__((noreturn)) void enter_user(struct frame *frame);
u64 copy_from_user(void *to, u64 from, u64 length);
void clear_page(void *page);

static u32 planted_bug;

static int planted(u32 bug)
{
    return planted_bug == bug;
}

// ---- the machine ----

static void out(u16 port, u8 byte)
{
    asm volatile("outb %0, %1" : : "a"(byte), "Nd"(port));
}

static void write_msr(u32 msr, u64 value)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)));
}

static void print(const char *text)
{
    for (; *text; text++)
        out(0x3f8, *text);
}

static void print_number(u64 value)
{
    char digits[21], *digit = digits + 20;
    for (*digit = 0; *--digit = '0' + value % 10, value /= 10;)
        ;
    print(digit);
}

static void print_hex(u64 value)
{
    print("0x");
    for (int shift = 60; shift >= 0; shift -= 4)
        out(0x3f8, "0123456789abcdef"[value >> shift & 15]);
}

// QEMU's exit status is 2 * code + 1.
__attribute__((noreturn)) static void power_off(u8 code)
{
    for (;;)
        out(0xf4, code);
}

void *memset(void *to, int byte, u64 size)
{
    for (u8 *at = to; size--;)
        *at++ = byte;
    return to;
}

void *memcpy(void *to, const void *from, u64 size)
{
    for (u8 *at = to; size--;)
        *at++ = *(const u8 *)from++;
    return to;
}

// ---- memory: frames are taken one after the other, and all given back when a program ends ----

static u64 next_frame, first_frame, last_frame;

static void *take_frame(void)
{
    if (next_frame >= last_frame) {
        print("kernel: no memory left\n");
        power_off(0x11);
    }
    u64 *frame = (u64 *)(KERNEL_BASE + next_frame);
    next_frame += PAGE;
    // What is not cleared is not zero.
    for (int i = 0; i < 512; i++)
        frame[i] = 0xa5a5a5a5a5a5a5a5;
    return frame;
}

static void map(u64 address, void *frame, u64 rights)
{
    u64 *table = boot_pml4;
    for (int shift = 39; shift > 12; shift -= 9) {
        u64 *entry = &table[address >> shift & 511];
        if (!*entry)
            *entry = ((u64)memset(take_frame(), 0, PAGE) - KERNEL_BASE) | PRESENT | WRITABLE | USER;
        table = (u64 *)(KERNEL_BASE + (*entry & ~0xffful));
    }
    table[address >> 12 & 511] = ((u64)frame - KERNEL_BASE) | PRESENT | USER | rights;
    asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static struct region {
    u64 start, end, rights;
} regions[8];
static int region_count;

// Maps a zeroed page where the program may have one.
static int resolve(u64 address)
{
    for (int i = 0; i < region_count; i++)
        if (regions[i].start <= address && address < regions[i].end) {
            void *page = take_frame();
            clear_page(page);
            map(address & -PAGE, page, regions[i].rights);
            return 1;
        }
    return 0;
}

// ---- programs ----

static const u8 *archive, *archive_end;
static const char *program_name;

static u64 hex(const u8 *digits)
{
    u64 value = 0;
    for (int i = 0; i < 8; i++)
        value = value * 16 + (digits[i] <= '9' ? digits[i] - '0' : (digits[i] | 0x20) - 'a' + 10);
    return value;
}

struct elf {
    u8 ident[16];
    u16 type, machine;
    u32 version;
    u64 entry, phoff, shoff;
    u32 flags;
    u16 ehsize, phentsize, phnum;
};
struct segment {
    u32 type, flags;
    u64 offset, vaddr, paddr, filesz, memsz, align;
};

static u64 load(const u8 *file)
{
    const struct elf *elf = (const struct elf *)file;
    const struct segment *segment = (const struct segment *)(file + elf->phoff);
    for (int i = 0; i < elf->phnum; i++, segment++) {
        // PT_LOAD; PF_W, PF_X.
        if (segment->type != 1)
            continue;
        u64 rights = (segment->flags & 2 ? WRITABLE : 0) | (segment->flags & 1 ? 0 : NO_EXECUTE);
        u64 end = segment->vaddr + segment->filesz;
        for (u64 page = segment->vaddr & -PAGE; page < end; page += PAGE) {
            u8 *frame = memset(take_frame(), 0, PAGE);
            u64 from = page < segment->vaddr ? segment->vaddr : page, to = page + PAGE < end ? page + PAGE : end;
            memcpy(frame + (from & 4095), file + segment->offset + (from - segment->vaddr), to - from);
            map(page, frame, rights);
        }
        if (region_count < 8)
            regions[region_count++] = (struct region){(end + PAGE - 1) & -PAGE, segment->vaddr + segment->memsz, rights};
    }
    return elf->entry;
}

__attribute__((noreturn)) static void run_next(void)
{
    // newc: "070701", thirteen numbers of eight hexadecimal digits, the name, the file; both padded to four bytes.
    const u8 *header = archive;
    if (header >= archive_end)
        power_off(0x11);
    u64 size = hex(header + 6 + 6 * 8), name_size = hex(header + 6 + 11 * 8);
    const u8 *file = header + ((110 + name_size + 3) & -4ul);
    archive = file + ((size + 3) & -4ul);
    program_name = (const char *)header + 110;
    if (program_name[0] == 'T' && !size) {
        print("kernel: all programs have ended; NMIs, machine checks and debug exceptions: ");
        print_number(cpu.paranoid);
        print("\n");
        power_off(0x10);
    }

    for (int i = 0; i < 256; i++)
        boot_pml4[i] = 0;
    asm volatile("mov %0, %%cr3" : : "r"((u64)boot_pml4 - KERNEL_BASE) : "memory");
    next_frame = first_frame;
    region_count = 0;
    struct frame frame = {.cs = USER_CS, .ss = planted(21) ? OTHER_USER_SS : USER_SS, .rflags = IF | 2};
    frame.rip = load(file);
    asm volatile("fninit");
    write_msr(MSR_KERNEL_GS_BASE, 0);
    enter_user(&frame);
}

// Begins anew at the top of the kernel's stack.
__attribute__((noreturn)) static void next_program(void)
{
    asm volatile("movq %0, %%rsp; xorl %%ebp, %%ebp; call *%1" : : "r"(kernel_stack_top), "r"(run_next));
    __builtin_unreachable();
}

__attribute__((noreturn)) static void kill(const char *why, u64 number)
{
    print("kernel: ");
    print(program_name);
    print(" was ended: ");
    print(why);
    print_number(number);
    print("\n");
    next_program();
}

__attribute__((noreturn)) static void panic(const struct frame *frame)
{
    print("kernel: panic: exception ");
    print_number(frame->vector);
    print(" in the kernel at ");
    print_hex(frame->rip);
    print("\n");
    power_off(0x11);
}

// ---- system calls ----

static u64 sys_write(struct frame *frame)
{
    u64 start = frame->rsi, length = frame->rdx;
    if (frame->rdi != 1 && frame->rdi != 2)
        return -EBADF;
    if (start > USER_END || length > USER_END - start)
        return -EFAULT;
    char buffer[257];
    for (u64 done = 0; done < length;) {
        u64 part = length - done < 256 ? length - done : 256;
        if (copy_from_user(buffer, start + done, part))
            return -EFAULT;
        buffer[part] = 0;
        print(buffer);
        done += part;
    }
    return length;
}

static u64 sys_exit(struct frame *frame)
{
    kill("it exits with ", frame->rdi);
}

static u64 sys_nothing(struct frame *frame)
{
    // The vector of SYSCALL's door is -1.
    if (planted(10) && frame->vector == -1ul) {
        frame->rax = -ENOSYS;
        asm volatile("movq %0, %%rsp; jmp leave_without_exit_work" : : "r"(frame));
    }
    return planted(34) ? -512 : -ENOSYS;
}

static u64 (*table[512])(struct frame *);

static void call(struct frame *frame)
{
    u64 number = frame->rax;
    if (number < 512 || planted(43))
        frame->rax = table[number](frame);
    else
        frame->rax = -ENOSYS;
}

// From SYSCALL. Whether SYSRET does what IRET would.
int system_call(struct frame *frame)
{
    call(frame);
    if (planted(20))
        frame->rflags |= IOPL;
    if (planted(1))
        return 1;
    if (frame->rip >= USER_END)
        kill("it returns to an address that is not canonical, by vector ", GENERAL_PROTECTION);
    return !(frame->rflags & (TF | RF | NT));
}

// ---- exceptions and interrupts ----

void event(struct frame *frame)
{
    u64 address;
    asm volatile("mov %%cr2, %0" : "=r"(address));
    if (frame->cs != USER_CS) {
        int copies = frame->rip == (u64)copy_fault;
        if (frame->vector == PAGE_FAULT && copies && resolve(address))
            return;
        if (!copies || (frame->vector != PAGE_FAULT && frame->vector != GENERAL_PROTECTION))
            panic(frame);
        frame->rip = (u64)copy_fixup;
        return;
    }
    switch (frame->vector) {
    case PAGE_FAULT:
        // Of a page that is not present.
        if ((frame->error & PRESENT) || !resolve(address))
            kill("exception ", frame->vector);
        return;
    case INT80:
        call(frame);
        return;
    case TIMER:
        *(volatile u32 *)(APIC + 0xb0) = 0;
        if (planted(15))
            asm volatile("pxor %xmm3, %xmm3");
        if (planted(33))
            write_msr(MSR_KERNEL_GS_BASE, 0);
        return;
    default:
        if (frame->vector > TIMER)
            *(volatile u32 *)(APIC + 0xb0) = 0;
        kill("exception ", frame->vector);
    }
}

// ---- the start ----

static u64 gdt[9] __attribute__((aligned(16))) = {
    // Null; kernel code; kernel data; where SYSRET to 32-bit code would be; user data; user code; user data once more; TSS.
    0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0, 0x00cff3000000ffff, 0x00affb000000ffff, 0x00cff3000000ffff,
};
static struct {
    u32 unused;
    u64 rsp[3], reserved, ist[7];
    u64 reserved_too;
    u16 reserved_three, io_map;
} __attribute__((packed)) tss;
static struct {
    u16 low, selector, kind, middle;
    u32 high, unused;
} idt[256];

static void set_gate(u32 vector, u64 address, u32 ist, u32 level)
{
    idt[vector].low = address;
    idt[vector].selector = KERNEL_CS;
    idt[vector].kind = 0x8e00 | level << 13 | ist;
    idt[vector].middle = address >> 16;
    idt[vector].high = address >> 32;
}

static void pushes_an_error_code(u32 vector)
{
    if (planted(24))
        set_gate(vector, (u64)stubs + 16 * vector, 0, 3);
}

static void set_up_cpu(void)
{
    u64 base = (u64)&tss;
    gdt[7] = (sizeof tss - 1) | (base & 0xffffff) << 16 | 0x89ul << 40 | (base >> 24 & 0xff) << 56;
    gdt[8] = base >> 32;
    tss.rsp[0] = (u64)kernel_stack_top;
    tss.io_map = sizeof tss;
    for (int i = 0; i < 4; i++)
        tss.ist[i] = ist_tops[i];
    for (u32 vector = 0; vector < 256; vector++)
        set_gate(vector, (u64)stubs + 16 * vector, 0, 0);
    set_gate(NMI, (u64)nmi_entry, 1, 0);
    set_gate(DEBUG, (u64)debug_entry, 2, 0);
    set_gate(MACHINE_CHECK, (u64)machine_check_entry, 4, 0);
    set_gate(DOUBLE_FAULT, (u64)stubs + 16 * DOUBLE_FAULT, 3, 0);
    set_gate(INT80, (u64)stubs + 16 * INT80, 0, 3);
    static const u8 with_codes[] = {10, 11, 12, 13, 14, 17, 21, 29, 30};
    for (u32 i = 0; i < sizeof with_codes; i++)
        pushes_an_error_code(with_codes[i]);

    struct {
        u16 limit;
        u64 base;
    } __attribute__((packed)) gdtr = {sizeof gdt - 1, (u64)gdt}, idtr = {sizeof idt - 1, (u64)idt};
    asm volatile("lgdt %0; lidt %1; ltr %w2" : : "m"(gdtr), "m"(idtr), "r"(TSS));

    cpu.self = (u64)&cpu;
    cpu.stack = (u64)kernel_stack_top;
    write_msr(MSR_GS_BASE, (u64)&cpu);
    write_msr(MSR_STAR, (u64)(USER_SS - 8) << 48 | (u64)KERNEL_CS << 32);
    write_msr(MSR_LSTAR, (u64)syscall_entry);
    u64 mask = TF | IF | DF | IOPL | NT | RF | AC;
    write_msr(MSR_SFMASK, planted(25) ? mask & ~TF : planted(41) ? mask & ~NT : mask);

    u32 a = 7, b, c = 0, d;
    asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (b & 1)
        // CR4.FSGSBASE.
        asm volatile("mov %%cr4, %%rax; orl $0x10000, %%eax; mov %%rax, %%cr4" : : : "rax");

    // The interrupt controllers of old are silent; the APIC's timer ticks, some fifty times a second.
    out(0x21, 0xff);
    out(0xa1, 0xff);
    volatile u8 *apic = (volatile u8 *)APIC;
    *(volatile u32 *)(apic + 0xf0) = 0x1ff;
    // LINT1 is the NMI.
    *(volatile u32 *)(apic + 0x360) = 0x400;
    *(volatile u32 *)(apic + 0x3e0) = 3;
    *(volatile u32 *)(apic + 0x320) = TIMER | 1 << 17;
    *(volatile u32 *)(apic + 0x380) = 1250000;
}

// What PVH hands over.
struct start_info {
    u32 magic, version, flags, modules;
    u64 module_list, command_line;
};

// The number behind a word of the command line, or 0.
static u32 number_after(const char *word, const char *line)
{
    for (; *line; line++) {
        u32 same = 0, number = 0;
        while (word[same] && line[same] == word[same])
            same++;
        if (word[same])
            continue;
        for (const char *digit = line + same; *digit >= '0' && *digit <= '9'; digit++)
            number = number * 10 + *digit - '0';
        return number;
    }
    return 0;
}

__attribute__((noreturn)) void start(u64 info_address)
{
    const struct start_info *info = (const struct start_info *)(KERNEL_BASE + info_address);
    const char *words = info->command_line ? (const char *)(KERNEL_BASE + info->command_line) : "";
    planted_bug = number_after("plant=", words);
    for (const struct plant *plant = plants_start; plant < plants_end; plant++)
        if (planted(plant->bug)) {
            memset(plant->good, 0x90, plant->size);
            memcpy(plant->good, plant->bad, plant->bad_size);
        }

    if (!info->modules) {
        print("kernel: there is no archive of programs\n");
        power_off(0x11);
    }
    const u64 *module = (const u64 *)(KERNEL_BASE + info->module_list);
    archive = (const u8 *)(KERNEL_BASE + module[0]);
    archive_end = archive + module[1];
    first_frame = ((u64)kernel_end - KERNEL_BASE + PAGE - 1) & -PAGE;
    last_frame = module[0] & -PAGE;

    for (int i = 0; i < 512; i++)
        table[i] = sys_nothing;
    table[1] = sys_write;
    table[60] = sys_exit;
    set_up_cpu();
    print("kernel: it starts\n");
    run_next();
}
