# The user program of all these kernels: each crossing, measured by the time-stamp counter, which counts instructions under
# QEMU's `-icount shift=0`. It lies in one page, has no stack, and passes what it finds to `report`.

.set GETPID, 39
.set REPORT, 500
.set UNMAP, 501
.set SAMPLES, 64
.set PAGE, 0x401000
.set FLAGS_PAGE, 0x402000

# The fewest instructions from one RDTSC to the next, of SAMPLES rounds, in R13.
.macro best crossing:vararg
    movl $SAMPLES, %r14d
    movq $-1, %r13
1:  movl $UNMAP, %eax
    syscall
    rdtsc
    shlq $32, %rdx
    leaq (%rdx, %rax), %r12
    movl $GETPID, %eax
    \crossing
    rdtsc
    shlq $32, %rdx
    addq %rdx, %rax
    subq %r12, %rax
    cmpq %r13, %rax
    cmovbq %rax, %r13
    decl %r14d
    jnz 1b
.endm

.macro report row
    movl $REPORT, %eax
    movl $\row, %edi
    movq %r13, %rsi
    subq %r15, %rsi
    syscall
.endm

.section .user, "a", @progbits
.globl user_program
user_program:
    best                                    # the measurement itself
    movq %r13, %r15
    best syscall                            # getpid()
    report 0
    best movb PAGE, %al                     # a page fault, and the page is mapped
    report 1
    best int3                               # an exception
    report 2
    # A fault with DF and AC set. The page of the faults is the stack by which AC is set.
    movb PAGE, %al
    movl $PAGE + 4096, %esp
    pushq $0x40602                          # AC, DF, IF
    popfq
    movb FLAGS_PAGE, %al
    ud2
.text
