# The first instructions of each CPU: 32-bit PVH entry on the boot CPU, 16-bit trampoline on the others, both to 64-bit
# mode at the image's addresses.
#
# The page tables map physical memory three times: the first GiB at 0, where this code runs until it jumps up, and at
# KERNEL_BASE; the fourth GiB, where the local APIC is, after that. Supervisor pages, all rights: a kernel for use would
# take them away again.

# The ELF note by which the loader finds the entry: XEN_ELFNOTE_PHYS32_ENTRY is 18.
.section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_entry - {base}

.globl portcullis_boot_base
.set portcullis_boot_base, {base}

# PVH: protected mode, paging off, flat segments.
.section .text.portcullis_boot, "ax", @progbits
.code32
.globl pvh_entry
pvh_entry:
    cli
    cld
    xorl %ebx, %ebx                         # EBX: whether it is not the boot CPU
    jmp 1f

# From the trampoline, with the segments of real mode.
secondary_entry:
    movw $0x18, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $1, %ebx

1:  movl $(1 << 5), %eax                    # CR4: PAE
    movl %eax, %cr4
    movl $(portcullis_boot_pgd - {base}), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx                  # EFER: LME, NXE. The rest of it is the library's.
    rdmsr
    orl $(1 << 8 | 1 << 11), %eax
    wrmsr
    movl $0x80000011, %eax                  # CR0: PG, ET, PE
    movl %eax, %cr0
    lgdtl boot_gdt_low - {base}
    ljmpl $0x08, $(long_mode - {base})

.code64
long_mode:
    movabsq $2f, %rax
    jmpq *%rax
2:  lgdtq boot_gdt_high(%rip)               # the low addresses may go away
    xorl %eax, %eax                         # data segments mean nothing in 64-bit mode
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %ebp, %ebp
    testl %ebx, %ebx
    jnz 3f
    leaq portcullis_boot_stack_top(%rip), %rsp
    call portcullis_boot_start
    ud2

# Another CPU takes a ticket, which gives it its stack: the end of `stacks`'s entry of that number.
3:  leaq {handover}(%rip), %rdx
    movl $1, %edi
    lock xaddl %edi, {ticket}(%rdx)
    cmpl %edi, {count}(%rdx)
    jbe 4f
    leal 1(%rdi), %eax
    imulq {stack_size}(%rdx), %rax
    addq {stacks}(%rdx), %rax
    movq %rax, %rsp
    incl %edi                               # its number
    call {secondary}
    ud2
4:  hlt                                     # no stack for this one
    jmp 4b

# Real mode, copied to the page at TRAMPOLINE, where the start-up IPI sends the CPUs.
.section .rodata.portcullis_boot, "a", @progbits
.code16
.globl portcullis_boot_trampoline, portcullis_boot_trampoline_end
portcullis_boot_trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl (5f - portcullis_boot_trampoline)
    movl $1, %eax                           # CR0: PE
    movl %eax, %cr0
    ljmpl $0x10, $(secondary_entry - {base})
5:  .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt - {base}
portcullis_boot_trampoline_end:
.code64

.section .data.portcullis_boot, "aw", @progbits
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                # 0x08: 64-bit code
    .quad 0x00cf9b000000ffff                # 0x10: flat 32-bit code
    .quad 0x00cf93000000ffff                # 0x18: flat data
boot_gdt_end:
boot_gdt_low:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt - {base}
boot_gdt_high:
    .word boot_gdt_end - boot_gdt - 1
    .quad boot_gdt

# Entries: 3 is present and writable, 0x83 the same for a page of 2 MiB, 0x93 without caching.
    .balign 4096
.globl portcullis_boot_pgd
portcullis_boot_pgd:
    .quad boot_pdpt_low - {base} + 3
    .fill 510, 8, 0
    .quad boot_pdpt_high - {base} + 3
boot_pdpt_low:
    .quad boot_pd - {base} + 3
    .fill 511, 8, 0
boot_pdpt_high:
    .fill 510, 8, 0
    .quad boot_pd - {base} + 3
    .quad boot_pd_devices - {base} + 3
boot_pd:
    .set entry, 0x83
    .rept 512
    .quad entry
    .set entry, entry + 0x200000
    .endr
boot_pd_devices:
    .set entry, 0xc0000093
    .rept 512
    .quad entry
    .set entry, entry + 0x200000
    .endr

.section .bss.portcullis_boot, "aw", @nobits
    .balign 4096
    .skip 16384
portcullis_boot_stack_top:
.text
