# The 64-bit vDSO: the clock without a system call.
#
# The page before the image is the clock's (`clock_page.rs`): a count that is odd while the rest changes, the counter's
# value at boot, nanoseconds per count times 2^32, and real time at boot. What is not here is left to the system call.

        .intel_syntax noprefix
        .hidden __ehdr_start

        .set CLOCK, __ehdr_start - 4096
        .set COUNT, 0
        .set BASE, 8
        .set SCALE, 16
        .set EPOCH, 24

# Bit N: the clock N is one of real time, of monotonic time.
        .set REALTIME, 1 << 0 | 1 << 5 | 1 << 11
        .set MONOTONIC, 1 << 1 | 1 << 4 | 1 << 6 | 1 << 7
        .set SECOND, 1000000000

        .set NR_GETTIMEOFDAY, 96
        .set NR_CLOCK_GETTIME, 228
        .set NR_CLOCK_GETRES, 229
        .set NR_GETCPU, 309

        .macro function name
        .globl __vdso_\name
        .type __vdso_\name, @function
        .weak \name
        .type \name, @function
        .balign 16
__vdso_\name:
\name:
        .cfi_startproc
        .endm

        .macro end_function name
        .cfi_endproc
        .size __vdso_\name, . - __vdso_\name
        .size \name, . - \name
        .endm

# RAX: nanoseconds since boot; R8: real time at boot. Changes RCX, RDX, R9, R10.
        .macro read_clock
        lea r9, [rip + CLOCK]
1:      mov r10d, [r9 + COUNT]
        test r10d, 1
        jnz 3f
        lfence
        rdtsc
        shl rdx, 32
        or rax, rdx
        xor ecx, ecx
        sub rax, [r9 + BASE]
        cmovb rax, rcx
        mul qword ptr [r9 + SCALE]
        shrd rax, rdx, 32
        mov r8, [r9 + EPOCH]
        cmp r10d, [r9 + COUNT]
        je 4f
3:      pause
        jmp 1b
4:
        .endm

        .text

# int clock_gettime(clockid_t, struct timespec *)
        function clock_gettime
        cmp edi, 11
        ja .Lgettime_call
        mov r11d, REALTIME | MONOTONIC
        bt r11d, edi
        jnc .Lgettime_call
        read_clock
        mov r11d, MONOTONIC
        bt r11d, edi
        jc 2f
        add rax, r8
2:      xor edx, edx
        mov ecx, SECOND
        div rcx
        mov [rsi], rax
        mov [rsi + 8], rdx
        xor eax, eax
        ret
.Lgettime_call:
        mov eax, NR_CLOCK_GETTIME
        syscall
        ret
        end_function clock_gettime

# int clock_getres(clockid_t, struct timespec *)
        function clock_getres
        cmp edi, 11
        ja .Lgetres_call
        mov r11d, REALTIME | MONOTONIC
        bt r11d, edi
        jnc .Lgetres_call
        xor eax, eax
        test rsi, rsi
        jz 2f
        mov qword ptr [rsi], rax
        mov qword ptr [rsi + 8], 1
2:      ret
.Lgetres_call:
        mov eax, NR_CLOCK_GETRES
        syscall
        ret
        end_function clock_getres

# int gettimeofday(struct timeval *, struct timezone *)
        function gettimeofday
        test rdi, rdi
        jz 2f
        read_clock
        add rax, r8
        xor edx, edx
        mov ecx, SECOND
        div rcx
        mov [rdi], rax
        mov eax, edx
        xor edx, edx
        mov ecx, 1000
        div ecx
        mov [rdi + 8], rax
2:      xor eax, eax
        test rsi, rsi
        jz 5f
        mov [rsi], rax
5:      ret
        end_function gettimeofday

# time_t time(time_t *)
        function time
        read_clock
        add rax, r8
        xor edx, edx
        mov ecx, SECOND
        div rcx
        test rdi, rdi
        jz 2f
        mov [rdi], rax
2:      ret
        end_function time

# int getcpu(unsigned *cpu, unsigned *node, void *)
        function getcpu
        mov eax, NR_GETCPU
        syscall
        ret
        end_function getcpu

        .section .note.GNU-stack, "", @progbits
