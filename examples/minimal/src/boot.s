# From PVH to Rust: 32-bit protected mode without paging, to 64-bit mode at the image's addresses.
#
# The page tables map the first GiB of physical memory twice: at 0, where this code runs until it jumps up, and at
# KERNEL_BASE. Supervisor pages, all rights: a kernel for use would take them away again.

.set KERNEL_BASE, 0xffffffff80000000

# The ELF note by which the loader finds the entry: XEN_ELFNOTE_PHYS32_ENTRY is 18.
.section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_entry - KERNEL_BASE

.text
.code32
.globl pvh_entry
pvh_entry:
    cli
    cld
    movl $(1 << 5), %eax                    # CR4: PAE
    movl %eax, %cr4
    movl $(boot_pml4 - KERNEL_BASE), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx                  # EFER: LME. The rest of it is the library's.
    rdmsr
    orl $(1 << 8), %eax
    wrmsr
    movl $0x80000011, %eax                  # CR0: PG, ET, PE
    movl %eax, %cr0
    lgdtl boot_gdt_pointer - KERNEL_BASE
    ljmpl $0x08, $(long_mode - KERNEL_BASE)

.code64
long_mode:
    movabsq $high_half, %rax
    jmpq *%rax
high_half:
    leaq boot_stack_top(%rip), %rsp
    xorl %ebp, %ebp
    call start
    ud2

.section .data.boot, "aw", @progbits
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                # 0x08: 64-bit code
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt - KERNEL_BASE

# Entries: 3 is present and writable, 0x83 the same for a page of 2 MiB.
    .balign 4096
.globl boot_pml4
boot_pml4:
    .quad boot_pdpt_low - KERNEL_BASE + 3
    .fill 510, 8, 0
    .quad boot_pdpt_high - KERNEL_BASE + 3
boot_pdpt_low:
    .quad boot_pd - KERNEL_BASE + 3
    .fill 511, 8, 0
boot_pdpt_high:
    .fill 510, 8, 0
    .quad boot_pd - KERNEL_BASE + 3
    .quad 0
boot_pd:
    .set entry, 0x83
    .rept 512
    .quad entry
    .set entry, entry + 0x200000
    .endr

.section .bss.boot_stack, "aw", @nobits
    .balign 4096
    .skip 16384
.globl boot_stack_top
boot_stack_top:
