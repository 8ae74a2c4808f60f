// The start of a program, and crossings with chosen registers: all are loaded from `given`, an instruction is executed, all are
// stored to `found`. The addresses are relative to RIP: no register is needed for them.

    .bss
    .balign 16
    .globl given, found, first_selectors, spin_ds
given:
    .skip 17 * 8
found:
    .skip 17 * 8
own_rsp:
    .skip 8
first_selectors:
    .skip 6 * 2
spin_ds:
    .skip 2
scratch:
    .skip 1
    .balign 16
    .skip 8192
stack_top:

    .section .text.start, "ax"
    .globl _start
_start:
    movw %cs, first_selectors(%rip)
    movw %ss, first_selectors + 2(%rip)
    movw %ds, first_selectors + 4(%rip)
    movw %es, first_selectors + 6(%rip)
    movw %fs, first_selectors + 8(%rip)
    movw %gs, first_selectors + 10(%rip)
    leaq stack_top(%rip), %rsp
    xorl %ebp, %ebp
    call kit_start
    ud2

    .text
// The order of `struct registers`.
.macro each_but_rsp op:req, last
    \op 0, %rax
    \op 1, %rbx
    \op 2, %rcx
    \op 3, %rdx
    \op 4, %rsi
    \op 5, %rdi
    \op 6, %rbp
    \op 8, %r8
    \op 9, %r9
    \op 10, %r10
    \op 11, %r11
    \op 12, %r12
    \op 13, %r13
    \op 14, %r14
    \op 15, %r15
.endm
.macro load index, register
    movq given + \index * 8(%rip), \register
.endm
.macro store index, register
    movq \register, found + \index * 8(%rip)
.endm

// MOV changes no flags: they are set first and read last.
.macro crossing_begin name
    .globl \name
\name:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushfq
    movq %rsp, own_rsp(%rip)
    pushq given + 16 * 8(%rip)
    popfq
.endm
.macro crossing_end
    each_but_rsp store
    movq %rsp, found + 7 * 8(%rip)
    movq own_rsp(%rip), %rsp
    pushfq
    popq found + 16 * 8(%rip)
    popfq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
.endm
.macro load_all
    each_but_rsp load
    movq given + 7 * 8(%rip), %rsp
.endm

    crossing_begin by_syscall
    load_all
    syscall
    .globl after_syscall
after_syscall:
    crossing_end

    crossing_begin by_int80
    load_all
    int $0x80
    crossing_end

    crossing_begin by_touch
    load_all
    movb %al, (%rsi)
    crossing_end

    crossing_begin by_spin
    movl $3, %eax
    movl %eax, %ds
    load_all
    // It changes no register and no flag, and takes an emulator as long as any other instruction.
    .rept 8192
    movb $0, scratch(%rip)
    .endr
    each_but_rsp store
    movw %ds, spin_ds(%rip)
    crossing_end

#ifndef SHIM
    .globl kit_write, kit_exit
kit_write:
    movl $WRITE_NUMBER, %eax
    DOOR
    ret
kit_exit:
    movl $EXIT_NUMBER, %eax
    DOOR
    ud2
#endif

    .section .note.GNU-stack, "", @progbits
