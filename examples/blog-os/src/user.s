# The program. It is position independent, needs no stack, and fits into a page. Linux's numbers: write is 1, exit 60.

.section .rodata
.globl user_program, user_program_end
user_program:
    leaq hello(%rip), %rsi                  # write(…, hello, its length)
    movl $(hello_end - hello), %edx
    movl $1, %eax
    syscall

1:  cmpq $3, %r12                           # until it has been preempted three times
    jb 1b

    movq $0xffff800000000000, %rsi          # write(…, the kernel's memory, 1)
    movl $1, %edx
    movl $1, %eax
    syscall
    movl $1, %edi                           # exit(1), if that wrote something
    cmpq $1, %rax
    je 2f

    leaq refused(%rip), %rsi
    movl $(refused_end - refused), %edx
    movl $1, %eax
    syscall

    ud2
    movl $2, %edi                           # exit(2), if the kernel has let that pass
2:  movl $60, %eax
    syscall

hello:
    .ascii "hello"
hello_end:
refused:
    .ascii "three preemptions, and the kernel's memory is the kernel's"
refused_end:
user_program_end:
.text
