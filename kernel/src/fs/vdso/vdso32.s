# The 32-bit vDSO: the way into the kernel, the ways back from signal handlers, and the clock without a system call.
#
# The page before the image is the clock's (`clock_page.rs`).

        .intel_syntax noprefix

        .set COUNT, 0
        .set BASE, 8
        .set SCALE, 16
        .set EPOCH, 24

        .set REALTIME, 1 << 0 | 1 << 5 | 1 << 11
        .set MONOTONIC, 1 << 1 | 1 << 4 | 1 << 6 | 1 << 7
        .set SECOND, 1000000000

        .set NR_SIGRETURN, 119
        .set NR_RT_SIGRETURN, 173
        .set NR_CLOCK_GETTIME, 265
        .set NR_CLOCK_GETRES, 266
        .set NR_GETCPU, 318
        .set NR_CLOCK_GETTIME64, 403

        .macro function name
        .globl \name
        .type \name, @function
        .balign 16
\name:
        .endm

        .macro end_function name
        .size \name, . - \name
        .endm

        .macro save register
        push \register
        .cfi_adjust_cfa_offset 4
        .cfi_rel_offset \register, 0
        .endm

        .macro restore register
        pop \register
        .cfi_adjust_cfa_offset -4
        .cfi_restore \register
        .endm

        .text

# The system call, as INT 0x80 makes it. The kernel returns to the landing pad whichever instruction was used, so all of
# them leave the same stack: at its top the EBP that is the sixth argument. `fast_call` is four bytes that the kernel
# fills in at boot, from one of the two below.
        function __kernel_vsyscall
        .cfi_startproc
        save ecx
        save edx
        save ebp
        .globl fast_call
fast_call:
        nop
        nop
        nop
        nop
        int 0x80
        .globl int80_landing_pad
int80_landing_pad:
        restore ebp
        restore edx
        restore ecx
        ret
        .cfi_endproc
        end_function __kernel_vsyscall

        .globl use_sysenter
use_sysenter:
        mov ebp, esp
        sysenter
        .globl use_syscall
use_syscall:
        mov ebp, ecx
        syscall

# Where registers are when a handler has returned: in the sigcontext at ESP + `offset`. Offsets take two bytes as SLEB128.
        .macro in_context register, offset
        .cfi_escape 0x10, \register, 3, 0x74, ((\offset) & 0x7f) | 0x80, ((\offset) >> 7) & 0x7f
        .endm

        .macro context at
        .cfi_signal_frame
        # The stack pointer of the interrupted code is the CFA: the word at ESP + at + 28.
        .cfi_escape 0x0f, 4, 0x74, ((\at + 28) & 0x7f) | 0x80, ((\at + 28) >> 7) & 0x7f, 0x06
        in_context 0, \at + 44
        in_context 1, \at + 40
        in_context 2, \at + 36
        in_context 3, \at + 32
        in_context 5, \at + 24
        in_context 6, \at + 20
        in_context 7, \at + 16
        in_context 8, \at + 56
        .endm

# The frames begin one byte early: an unwinder that knows no signal frames looks for the byte before the return address.
        .balign 16
        .cfi_startproc
        context 4
        nop
        .globl __kernel_sigreturn
        .type __kernel_sigreturn, @function
__kernel_sigreturn:
        pop eax
        context 0
        mov eax, NR_SIGRETURN
        int 0x80
        .cfi_endproc
        end_function __kernel_sigreturn

        .balign 16
        .cfi_startproc
        context 160
        nop
        .globl __kernel_rt_sigreturn
        .type __kernel_rt_sigreturn, @function
__kernel_rt_sigreturn:
        mov eax, NR_RT_SIGRETURN
        int 0x80
        .cfi_endproc
        end_function __kernel_rt_sigreturn

# EDX:EAX = nanoseconds since boot, with EDI not 0: since 1970. Changes EBX, ECX, EBP; ESI is kept.
        .balign 16
        .type read_clock, @function
read_clock:
        .cfi_startproc
        save esi
        call 1f
        .cfi_adjust_cfa_offset 4
1:      pop ebp
        .cfi_adjust_cfa_offset -4
        # The image is one page, and the clock's is the one before.
        and ebp, -4096
        sub ebp, 4096
2:      mov ecx, [ebp + COUNT]
        test ecx, 1
        jnz 5f
        save ecx
        lfence
        rdtsc
        sub eax, [ebp + BASE]
        sbb edx, [ebp + BASE + 4]
        jae 3f
        xor eax, eax
        xor edx, edx
3:      # (EDX:EAX * scale) >> 32, of which the lower 64 bits are the result.
        mov ecx, eax
        mov esi, edx
        mul dword ptr [ebp + SCALE]
        mov ebx, edx
        mov eax, esi
        mul dword ptr [ebp + SCALE]
        add ebx, eax
        adc edx, 0
        imul esi, [ebp + SCALE + 4]
        add esi, edx
        mov eax, ecx
        mul dword ptr [ebp + SCALE + 4]
        add eax, ebx
        adc edx, esi
        test edi, edi
        jz 4f
        add eax, [ebp + EPOCH]
        adc edx, [ebp + EPOCH + 4]
4:      restore ecx
        cmp ecx, [ebp + COUNT]
        je 6f
5:      pause
        jmp 2b
6:      restore esi
        ret
        .cfi_endproc
        .size read_clock, . - read_clock

# ECX:EAX = seconds and EDX = nanoseconds of the nanoseconds in EDX:EAX. Changes EBX.
        .macro split
        mov ebx, eax
        mov eax, edx
        xor edx, edx
        mov ecx, SECOND
        div ecx
        push eax
        .cfi_adjust_cfa_offset 4
        mov eax, ebx
        div ecx
        pop ecx
        .cfi_adjust_cfa_offset -4
        .endm

# The common part of both widths of time: `width` is 4 or 8, the size of each half of the structure.
        .macro gettime width, number
        .cfi_startproc
        save ebx
        save esi
        save edi
        save ebp
        mov ecx, [esp + 20]
        mov esi, [esp + 24]
        cmp ecx, 11
        ja 8f
        mov eax, REALTIME | MONOTONIC
        bt eax, ecx
        jnc 8f
        mov eax, REALTIME
        xor edi, edi
        bt eax, ecx
        adc edi, 0
        call read_clock
        split
        mov [esi], eax
        .if \width == 8
        mov [esi + 4], ecx
        mov dword ptr [esi + 12], 0
        .endif
        mov [esi + \width], edx
        xor eax, eax
        jmp 9f
8:      mov ebx, ecx
        mov ecx, esi
        mov eax, \number
        int 0x80
9:      restore ebp
        restore edi
        restore esi
        restore ebx
        ret
        .cfi_endproc
        .endm

# int clock_gettime(clockid_t, struct timespec *)
        function __vdso_clock_gettime
        gettime 4, NR_CLOCK_GETTIME
        end_function __vdso_clock_gettime

# int clock_gettime64(clockid_t, struct timespec64 *)
        function __vdso_clock_gettime64
        gettime 8, NR_CLOCK_GETTIME64
        end_function __vdso_clock_gettime64

# int gettimeofday(struct timeval *, struct timezone *)
        function __vdso_gettimeofday
        .cfi_startproc
        save ebx
        save esi
        save edi
        save ebp
        mov esi, [esp + 20]
        test esi, esi
        jz 8f
        mov edi, 1
        call read_clock
        split
        mov [esi], eax
        mov eax, edx
        xor edx, edx
        mov ecx, 1000
        div ecx
        mov [esi + 4], eax
8:      xor eax, eax
        mov esi, [esp + 24]
        test esi, esi
        jz 9f
        mov [esi], eax
        mov [esi + 4], eax
9:      restore ebp
        restore edi
        restore esi
        restore ebx
        ret
        .cfi_endproc
        end_function __vdso_gettimeofday

# time_t time(time_t *)
        function __vdso_time
        .cfi_startproc
        save ebx
        save esi
        save edi
        save ebp
        mov edi, 1
        call read_clock
        split
        mov esi, [esp + 20]
        test esi, esi
        jz 9f
        mov [esi], eax
9:      restore ebp
        restore edi
        restore esi
        restore ebx
        ret
        .cfi_endproc
        end_function __vdso_time

# int clock_getres(clockid_t, struct timespec *)
        function __vdso_clock_getres
        .cfi_startproc
        save ebx
        mov ebx, [esp + 8]
        mov ecx, [esp + 12]
        mov eax, NR_CLOCK_GETRES
        int 0x80
        restore ebx
        ret
        .cfi_endproc
        end_function __vdso_clock_getres

# int getcpu(unsigned *cpu, unsigned *node, void *)
        function __vdso_getcpu
        .cfi_startproc
        save ebx
        mov ebx, [esp + 8]
        mov ecx, [esp + 12]
        mov edx, [esp + 16]
        mov eax, NR_GETCPU
        int 0x80
        restore ebx
        ret
        .cfi_endproc
        end_function __vdso_getcpu

        .section .note.GNU-stack, "", @progbits
