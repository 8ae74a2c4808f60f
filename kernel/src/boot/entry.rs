//! The first instructions of each processor: 32-bit entry by PVH or Multiboot2 on the boot processor, 16-bit trampoline on the others,
//! all into long mode and from there into Rust.
//!
//! All use the same page tables, which are data in the image: the first GiB of physical memory, three times, with all
//! rights: at 0 (the code below runs there until it jumps up), at the direct map, and at the image's addresses.
//! `boot_tables` replaces them before anything but this file and `loader` has run.
//!
//! Registers at the PVH entry point: EBX = physical address of `hvm_start_info`; protected mode, paging off, flat
//! segments, interrupts off (Xen's docs/misc/pvh.pandoc). At Multiboot2's the same, and EBX = physical address of its information,
//! EAX = its magic number (specification 2.0, section 3.3).

use core::arch::global_asm;

use crate::boot::handover::ApHandover;
use crate::machine::image::KERNEL_BASE;
use crate::memory::DIRECT_MAP;

/// Size of the boot processor's first stack.
pub const BOOT_STACK_SIZE: usize = 32 << 10;

/// What Multiboot2's header begins with.
const MULTIBOOT_HEADER: u32 = 0xe852_50d6;

const MSR_EFER: u32 = 0xc000_0080;
const EFER_LME: u32 = 1 << 8;
const EFER_NXE: u32 = 1 << 11;
const CR4_PAE: u32 = 1 << 5;
const CR4_PGE: u32 = 1 << 7;
/// PE, MP, ET, NE, WP, AM, PG.
const CR0: u32 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;

/// Present, writable.
const TABLE: u64 = 3;
/// Present, writable, large.
const LARGE: u64 = 0x83;

global_asm!(
    // XEN_ELFNOTE_PHYS32_ENTRY: the physical address of the entry point.
    ".section .note.pvh, \"a\", @note",
    ".balign 4",
    ".long 4, 8, 18",
    ".asciz \"Xen\"",
    ".quad pvh_entry - {base}",

    // Multiboot2's header: the image's first bytes, as the loader looks for it in the first 32 KiB of the file (specification 2.0,
    // section 3.1): i386's protected mode; the tags 3 (entry point), 6 (modules at pages) and 0 (the end).
    ".section .text.boot, \"ax\", @progbits",
    ".balign 8",
    "multiboot_header:",
    "    .long {multiboot_header}, 0, 2f - multiboot_header",
    "    .long 0x100000000 - {multiboot_header} - (2f - multiboot_header)",
    "    .word 3, 0",
    "    .long 12, multiboot_entry - {base}",
    "    .balign 8",
    "    .word 6, 0",
    "    .long 8",
    "    .word 0, 0",
    "    .long 8",
    "2:",

    ".code32",
    ".globl pvh_entry",
    "pvh_entry:",
    "    xorl %esi, %esi",
    "    jmp 1f",
    "multiboot_entry:",
    "    movl %eax, %esi",
    "1:  cli",
    "    cld",
    "    jmp enter_long_mode",

    // The other processors come here from the trampoline: flat 32-bit code, no information.
    "ap_entry32:",
    "    movw $0x18, %ax",
    "    movw %ax, %ds",
    "    movw %ax, %es",
    "    movw %ax, %ss",
    "    xorl %ebx, %ebx",

    // EBX = the loader's information, or 0 on an application processor; ESI = Multiboot2's magic number, or 0. No stack.
    "enter_long_mode:",
    "    movl ${cr4}, %eax",
    "    movl %eax, %cr4",
    "    movl $(boot_pml4 - {base}), %eax",
    "    movl %eax, %cr3",
    "    movl ${msr_efer}, %ecx",
    "    rdmsr",
    "    orl ${efer}, %eax",
    "    wrmsr",
    "    movl ${cr0}, %eax",
    "    movl %eax, %cr0",
    "    lgdtl (boot_gdt_pointer - {base})",
    "    ljmpl $0x08, $(long_mode - {base})",

    ".code64",
    "long_mode:",
    "    movabsq $high_half, %rax",
    "    jmpq *%rax",
    "high_half:",
    // Data segments mean nothing in 64-bit code; null selectors say so until the library loads its own.
    "    xorl %eax, %eax",
    "    movl %eax, %ds",
    "    movl %eax, %es",
    "    movl %eax, %fs",
    "    movl %eax, %gs",
    "    movl %eax, %ss",
    // A null frame pointer and return address end every backtrace.
    "    xorl %ebp, %ebp",
    "    testl %ebx, %ebx",
    "    jz 1f",
    "    leaq {boot_stack}+{boot_stack_size}(%rip), %rsp",
    "    movl %ebx, %edi",
    "    pushq $0",
    "    jmp {boot_main}",

    // An application processor: one ticket, one stack, the final page tables.
    "1:  movl $1, %ecx",
    "    leaq {handover}(%rip), %rdx",
    "    lock xaddq %rcx, {ticket}(%rdx)",
    "    movq {cr3}(%rdx), %rax",
    "    movq %rax, %cr3",
    "    movq {stacks}(%rdx,%rcx,8), %rsp",
    "    movq %rcx, %rdi",
    "    pushq $0",
    "    jmp {ap_main}",

    // Real mode, CS:IP = TRAMPOLINE>>4:0. Position dependent only through `TRAMPOLINE`.
    ".section .rodata.trampoline, \"a\", @progbits",
    ".balign 16",
    ".globl ap_trampoline, ap_trampoline_end",
    ".code16",
    "ap_trampoline:",
    "    cli",
    "    cld",
    "    movw %cs, %ax",
    "    movw %ax, %ds",
    "    lgdtl (2f - ap_trampoline)",
    "    movl $1, %eax",
    "    movl %eax, %cr0",
    "    ljmpl $0x10, $(ap_entry32 - {base})",
    "2:  .word boot_gdt_end - boot_gdt - 1",
    "    .long boot_gdt - {base}",
    "ap_trampoline_end:",
    ".code64",

    ".section .data.boot, \"aw\", @progbits",
    ".balign 8",
    "boot_gdt:",
    "    .quad 0",
    "    .quad 0x00af9b000000ffff", // 0x08: 64-bit code
    "    .quad 0x00cf9b000000ffff", // 0x10: flat 32-bit code
    "    .quad 0x00cf93000000ffff", // 0x18: flat data
    "boot_gdt_end:",
    "boot_gdt_pointer:",
    "    .word boot_gdt_end - boot_gdt - 1",
    "    .long boot_gdt - {base}",

    // A multiple of 8 KiB: bit 12 of CR3 is clear in the kernel (`portcullis::x86_64::isolation`).
    ".balign 8192",
    "boot_pml4:",
    "    .quad boot_pdpt_low - {base} + {table}",
    "    .fill {direct_slot} - 1, 8, 0",
    "    .quad boot_pdpt_low - {base} + {table}",
    "    .fill 511 - {direct_slot} - 1, 8, 0",
    "    .quad boot_pdpt_high - {base} + {table}",
    "boot_pdpt_low:",
    "    .quad boot_pd - {base} + {table}",
    "    .fill 511, 8, 0",
    "boot_pdpt_high:",
    "    .fill 510, 8, 0",
    "    .quad boot_pd - {base} + {table}",
    "    .quad 0",
    "boot_pd:",
    "    .set entry, {large}",
    "    .rept 512",
    "    .quad entry",
    "    .set entry, entry + 0x200000",
    "    .endr",
    ".text",
    base = const KERNEL_BASE as i64,
    multiboot_header = const MULTIBOOT_HEADER,
    cr4 = const CR4_PAE | CR4_PGE,
    cr0 = const CR0,
    msr_efer = const MSR_EFER,
    efer = const EFER_LME | EFER_NXE,
    table = const TABLE,
    large = const LARGE,
    direct_slot = const (DIRECT_MAP >> 39) & 511,
    boot_stack = sym BOOT_STACK,
    boot_stack_size = const BOOT_STACK_SIZE,
    boot_main = sym super::boot_main,
    handover = sym super::handover::HANDOVER,
    cr3 = const core::mem::offset_of!(ApHandover, cr3),
    ticket = const core::mem::offset_of!(ApHandover, ticket),
    stacks = const core::mem::offset_of!(ApHandover, stacks),
    ap_main = sym super::smp::ap_main,
    options(att_syntax)
);

/// The boot processor's first stack. The linker script puts a page in front of it that is never mapped.
#[repr(C, align(4096))]
struct BootStack(core::cell::UnsafeCell<[u8; BOOT_STACK_SIZE]>);

// SAFETY: only the boot processor's stack pointer refers to it.
unsafe impl Sync for BootStack {}

#[unsafe(link_section = ".bss.boot_stack")]
static BOOT_STACK: BootStack = BootStack(core::cell::UnsafeCell::new([0; BOOT_STACK_SIZE]));
