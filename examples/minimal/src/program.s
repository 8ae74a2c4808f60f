# The user program. Linux's numbers: write is 1, sched_yield 24, exit 60. It is position independent, needs no stack,
# and fits into the one page that it is given.

.section .user, "a", @progbits
.globl user_program
user_program:
    movl $1, %eax                           # write(1, hello, its length)
    movl $1, %edi
    leaq hello(%rip), %rsi
    movl $(hello_end - hello), %edx
    syscall

    movl $24, %eax                          # sched_yield()
    syscall

    # getpid(), four times: what a call costs that does nothing (./x bench)
    movl $4, %ebx
1:  movl $39, %eax
    syscall
    decl %ebx
    jnz 1b

    ud2                                     # no such instruction: the kernel steps over it

    movl $1, %eax                           # write(1, again, its length)
    movl $1, %edi
    leaq again(%rip), %rsi
    movl $(again_end - again), %edx
    syscall

    movl %eax, %edi                         # exit(what write returned)
    movl $60, %eax
    syscall

hello:
    .ascii "user: hello\n"
hello_end:
again:
    .ascii "user: still here\n"
again_end:
.text
