// Boot and doors of the kernel that the testkit is tested on. It uses no library: a door of each kind, by hand.
//
// It is right, unless the word `plant=N` on its command line plants bug N of the catalogue: PLANT holds both codes, and the bad
// one is copied over the good one at boot.

.set KERNEL_BASE, 0xffffffff80000000
.set KERNEL_CS, 0x08
.set USER_SS, 0x23
.set USER_CS, 0x2b
.set MSR_GS_BASE, 0xc0000101
.set MSR_MCG_STATUS, 0x17a

// The per-CPU area, at GS: its own address, the top of the kernel's stack, and a word for the user's stack pointer.
.set CPU_SELF, 0
.set CPU_STACK, 8
.set CPU_USER_RSP, 16
.set CPU_PARANOID, 24

.macro PLANT bug, good, bad
771:
    \good
772:
    .skip -(((774f - 773f) - (772b - 771b)) > 0) * ((774f - 773f) - (772b - 771b)), 0x90
775:
    .pushsection .planted, "ax", @progbits
773:
    \bad
774:
    .popsection
    .pushsection .plants, "a", @progbits
    .quad 771b, 773b
    .long \bug, 775b - 771b, 774b - 773b, 0
    .popsection
.endm

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                          // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry - KERNEL_BASE

// ---- boot: 32-bit protected mode, EBX has the address of the start information ----

    .text
    .code32
    .globl pvh_entry
pvh_entry:
    cli
    cld
    movl %ebx, %edi
    movl $0x660, %eax                       // CR4: PAE, MCE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $(boot_pml4 - KERNEL_BASE), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx                  // EFER: LME, SCE, NXE
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl $0x80050033, %eax                  // CR0: PG, AM, WP, NE, ET, MP, PE
    movl %eax, %cr0
    lgdtl boot_gdt_pointer - KERNEL_BASE
    ljmpl $KERNEL_CS, $(long_mode - KERNEL_BASE)

    .code64
long_mode:
    movabsq $high_half, %rax
    jmpq *%rax
high_half:
    xorl %eax, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    leaq kernel_stack_top(%rip), %rsp
    movl %edi, %edi
    call start
    ud2

    .data
    .balign 8
boot_gdt:
    .quad 0, 0x00af9b000000ffff
boot_gdt_pointer:
    .word . - boot_gdt - 1
    .long boot_gdt - KERNEL_BASE

// The first GiB of memory at 0, for the boot, and at KERNEL_BASE; the local APIC's 2 MiB at -1 GiB, uncached.
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
    .quad apic_pd - KERNEL_BASE + 3
boot_pd:
    .set entry, 0x83
    .rept 512
    .quad entry
    .set entry, entry + 0x200000
    .endr
apic_pd:
    .quad 0xfee0009b
    .fill 511, 8, 0

    .bss
    .balign 4096
    .skip 16384
    .globl kernel_stack_top, ist_tops
kernel_stack_top:
    .skip 4096
nmi_stack_top:
    .skip 4096
debug_stack_top:
    .skip 4096
double_fault_stack_top:
    .skip 4096
machine_check_stack_top:

    .section .rodata
    .balign 8
ist_tops:
    .quad nmi_stack_top, debug_stack_top, double_fault_stack_top, machine_check_stack_top

// ---- the frame: what `struct frame` of kernel.c is ----

    .text
.macro push_registers
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm
.macro pop_registers
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
.endm

// ---- SYSCALL: the return address is in RCX, the flags in R11, the stack and GS are the user's ----

    .globl syscall_entry
syscall_entry:
    PLANT 42, "", "pushq %rcx; popq %rcx"
    swapgs
    movq %rsp, %gs:CPU_USER_RSP
    movq %gs:CPU_STACK, %rsp
    pushq $USER_SS
    pushq %gs:CPU_USER_RSP
    pushq %r11
    pushq $USER_CS
    pushq %rcx
    pushq $0
    pushq $-1                               // the vector of this door
    push_registers
    movq %rsp, %rdi
    call system_call
    testl %eax, %eax                        // may it leave by SYSRET?
    jz leave_by_iret

leave_by_sysret:
    pop_registers
    movq 2 * 8(%rsp), %rcx                  // RIP
    movq 4 * 8(%rsp), %r11                  // RFLAGS
    movq 5 * 8(%rsp), %rsp
    swapgs
    sysretq

// A planted way out: a bad number leaves at once, and what is done on the way out is not done.
    .globl leave_without_exit_work
leave_without_exit_work:
    pop_registers
    movq 2 * 8(%rsp), %rcx
    movq 4 * 8(%rsp), %r11
    movq 5 * 8(%rsp), %rsp
    sysretq

// ---- exceptions and interrupts ----

.macro stub vector
    .balign 16
.if (\vector == 8) || (\vector >= 10 && \vector <= 14) || (\vector == 17) || (\vector == 21) || (\vector == 29) || (\vector == 30)
.else
    pushq $0
.endif
    pushq $\vector
    jmp event_entry
.endm

    .balign 16
    .globl stubs
stubs:
    .set vector, 0
    .rept 256
    .altmacro
    stub %vector
    .noaltmacro
    .set vector, vector + 1
    .endr

    .globl event_entry
event_entry:
    PLANT 28, cld, ""
    testb $3, 3 * 8(%rsp)                   // CS
    jz 1f
    swapgs
1:  push_registers
    movq %rsp, %rdi
    call event
    testb $3, 15 * 8 + 3 * 8(%rsp)
    jz 2f
    PLANT 35, "", "cmpb $32, 15 * 8(%rsp); jne 9f; jmp *planted_sysret; 9:"
leave_by_iret:
    swapgs
2:  pop_registers
    addq $16, %rsp
    iretq

    .section .rodata
    .balign 8
planted_sysret:
    .quad leave_by_sysret

// ---- NMIs, machine checks and debug exceptions, on stacks of their own: GS is whose it was, which CS does not tell ----

.macro paranoid vector
    pushq $0
    pushq $\vector
    push_registers
    cld
    movl $MSR_GS_BASE, %ecx
    rdmsr
    movl %eax, %ebx
    movl %edx, %ebp
    // R12 says whether to swap back.
    xorl %r12d, %r12d
    PLANT 23, "", "movzbl 15 * 8 + 3 * 8(%rsp), %r12d; andl $3, %r12d; jz 3f; swapgs; 3: jmp *planted_paranoid_\vector"
    PLANT 31, "", "testl %edx, %edx; js 4f; swapgs; movl $1, %r12d; 4: jmp *planted_paranoid_\vector"
    leaq cpu(%rip), %rax
    movq %rax, %rdx
    shrq $32, %rdx
    wrmsr
    incq %gs:CPU_PARANOID
    movl %ebx, %eax
    movl %ebp, %edx
    wrmsr
5:
.if \vector == 18
    // Or the next one would shut the CPU down.
    movl $MSR_MCG_STATUS, %ecx
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
.endif
    pop_registers
    addq $16, %rsp
    iretq
6:  incq %gs:CPU_PARANOID
    testl %r12d, %r12d
    jz 5b
    swapgs
    jmp 5b

    .pushsection .rodata
    .balign 8
planted_paranoid_\vector:
    .quad 6b
    .popsection
.endm

    .text
    .globl nmi_entry, machine_check_entry, debug_entry
nmi_entry:
    paranoid 2

machine_check_entry:
    paranoid 18

// A breakpoint in the kernel is gone on from. A single step there is a TF of the user's, which must not be there.
debug_entry:
    pushq %rax
    movq %dr6, %rax
    pushq %rax
    xorl %eax, %eax
    movq %rax, %dr6
    testb $3, 2 * 8 + 8(%rsp)               // CS
    jnz 1f
    testb $0x40, 1(%rsp)                    // DR6: BS
    jnz 1f
    popq %rax
    popq %rax
    paranoid 1
1:  popq %rax
    popq %rax
    pushq $0
    pushq $1
    jmp event_entry

// ---- what the kernel starts and what it reads of the user ----

    .text
// enter_user(frame): never returns.
    .globl enter_user
enter_user:
    movq %rdi, %rsp
    jmp leave_by_iret

// copy_from_user(to, from, length): 0, or 1 if a page is not there.
    .globl copy_from_user, copy_fault, copy_fixup
copy_from_user:
    movq %rdx, %rcx
    xorl %eax, %eax
copy_fault:
    rep movsb
    ret
copy_fixup:
    movl $1, %eax
    ret

// clear_page(page)
    .globl clear_page
clear_page:
    movl $512, %ecx
    xorl %eax, %eax
    rep stosq
    ret

    .section .note.GNU-stack, "", @progbits
