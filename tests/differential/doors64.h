/* 64-bit programs. Everything lies below 4 GiB, so that 32-bit code reaches it, too. */
#ifndef DOORS64_H
#define DOORS64_H

#include "doors.h"

#define STORE(to) \
    "mov %rax, " to "; mov %rbx, " to "+8; mov %rcx, " to "+16; mov %rdx, " to "+24; mov %rsi, " to "+32; mov %rdi, " to "+40\n" \
    "mov %rbp, " to "+48; mov %rsp, " to "+56; mov %r8, " to "+64; mov %r9, " to "+72; mov %r10, " to "+80; mov %r11, " to "+88\n" \
    "mov %r12, " to "+96; mov %r13, " to "+104; mov %r14, " to "+112; mov %r15, " to "+120\n"
#define LOAD(from) \
    "mov " from ", %rax; mov " from "+8, %rbx; mov " from "+16, %rcx; mov " from "+24, %rdx; mov " from "+32, %rsi; mov " from \
    "+40, %rdi; mov " from "+48, %rbp\n" \
    "mov " from "+64, %r8; mov " from "+72, %r9; mov " from "+80, %r10; mov " from "+88, %r11; mov " from "+96, %r12\n" \
    "mov " from "+104, %r13; mov " from "+112, %r14; mov " from "+120, %r15\n"

asm(".pushsection .text\n"
    ".globl _start\n"
    "_start: mov %rsp, %rdi; and $-16, %rsp; xor %ebp, %ebp; call map_main; mov $" STRING(STACK_OF_MAIN) ", %rsp; call first\n"
    "run: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp, door_stack\n"
    "mov in_segments, %eax; mov %eax, %ds; mov in_segments+4, %eax; mov %eax, %es\n"
    "mov in_segments+8, %eax; test $0x10000, %eax; jnz 1f; mov %eax, %fs; 1:\n"
    "mov in_segments+12, %eax; test $0x10000, %eax; jnz 1f; mov %eax, %gs; 1:\n"
    LOAD("in")
    "pushq in+128\n"
    "armed: popfq\n" /* no instruction from here to the code changes a flag */
    "mov in+56, %rsp\n"
    "jmp *in_launch\n"
    "launch_near: jmp *in_entry\n"
    "launch_far: ljmp *in_far\n"
    "door_return:\n"
    STORE("out")
    "mov %ds, out_segments; mov %es, out_segments+4; mov %fs, out_segments+8; mov %gs, out_segments+12; mov %ss, out_segments+16\n"
    "mov door_stack, %rsp\n"
    "pushfq; popq out+128; pushq $2; popfq\n"
    "mov $0x2b, %eax; mov %eax, %ss\n"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "ret\n"
    "end_of_run:\n"
    "signal_entry:\n"
    STORE("at_handler")
    "pushfq; popq at_handler+128; pushq $2; popfq\n"
    "mov handler_stack, %rsp\n"
    "call handle\n"
    "mov %rax, %rsp\n"
    "signal_restorer: mov $15, %eax; syscall; ud2\n"
    ".popsection\n");

#define WIDE(name, text) asm(".pushsection pieces, \"ax\"\ns_" #name ": " text "\njmp door_return\n.popsection"); extern const char s_##name[];
#define COMPAT(name, text) \
    asm(".pushsection pieces, \"ax\"\n.code32\ns_" #name ": " text "\nljmp $0x33, $door_return\n.code64\n.popsection"); \
    extern const char s_##name[];

WIDE(syscall, "syscall")
WIDE(int80, "int $0x80")
WIDE(syscall_nops, "syscall; nop; pushfq; pop %rbx")
WIDE(int80_nops, "int $0x80; nop; nop")
WIDE(two_syscalls, "syscall; mov $110, %eax; syscall")
WIDE(mov_ss_syscall, "mov $0x2b, %r15d; mov %r15d, %ss; syscall")
WIDE(nops, "nop; nop; pushfq; pop %rax; nop")
WIDE(int3, "int3; nop")
WIDE(int_3, ".byte 0xcd, 3; nop")
WIDE(icebp, ".byte 0xf1; nop")
WIDE(ud2, "ud2")
WIDE(ud1, ".byte 0x0f, 0xb9, 0xc0")
WIDE(divide, "xor %ebx, %ebx; div %ebx")
WIDE(idiv, "mov $-1, %rbx; idiv %rbx")
WIDE(hlt, "hlt")
WIDE(in, "in %dx, %al")
WIDE(out, "out %eax, %dx")
WIDE(cli, "cli")
WIDE(sti, "sti")
WIDE(mov_cr3, "mov %cr3, %rax")
WIDE(mov_cr8, "mov %rax, %cr8")
WIDE(mov_dr7, "mov %rax, %dr7")
WIDE(rdmsr, "rdmsr")
WIDE(wrmsr, "wrmsr")
WIDE(lgdt, "lgdt (%rax)")
WIDE(swapgs, "swapgs")
WIDE(sysret, "sysretq")
WIDE(sysexit, "sysexitl")
WIDE(invlpg, "invlpg (%rax)")
WIDE(wbinvd, "wbinvd")
WIDE(clac, "clac")
WIDE(load, "mov (%rax), %rbx")
WIDE(store, "mov %rbx, (%rax)")
WIDE(add_to, "lock addq $1, (%rax)")
WIDE(load_bp, "mov (%rbp), %rbx")
WIDE(load_sp, "mov (%rsp,%rcx), %rbx")
WIDE(load_fs, "mov %fs:(%rax), %rbx")
WIDE(load_gs, "mov %gs:8, %rbx")
WIDE(push, "push %rax")
WIDE(pop, "pop %rax")
WIDE(call, "call *%rax")
WIDE(jump, "jmp *%rax")
WIDE(jump_through, "jmp *(%rax)")
WIDE(ret, "ret")
/* On a good stack: the emulator takes these accesses for the kernel's, and Linux dies of it. */
#define GOOD_STACK "mov $0x10103000, %esp; "
/* The emulator has a virtual-8086 mode in long mode, by IRET, in which Linux dies. */
#define NO_VM "and $0xfffdffff, %edx; "
WIDE(lret, GOOD_STACK "push %rax; push %rbx; lretq")
WIDE(lret_flat, GOOD_STACK "push $0x33; push $door_return; lretq")
WIDE(iret, GOOD_STACK NO_VM "push %rsi; push %rdi; push %rdx; push %rax; push %rbx; iretq")
WIDE(iret_flat, GOOD_STACK NO_VM "push $0x2b; push %rdi; push %rdx; push $0x33; push $door_return; iretq")
WIDE(iret_ss, GOOD_STACK NO_VM "push %rax; push %rdi; push %rdx; push $0x33; push $door_return; iretq")
WIDE(far_jump, "ljmp *(%rax)")
WIDE(push_and_ret, "push %rax; ret")
WIDE(push_flags, "push %rax; popfq; nop; nop; pushfq; pop %rbx")
WIDE(popfq, "popfq; nop; nop")
WIDE(enter, "enter $4096, $3")
WIDE(rep_movs, "and $255, %ecx; rep movsb")
WIDE(rep_stos, "and $255, %ecx; rep stosq")
WIDE(rep_movs_std, "and $255, %ecx; std; rep movsq; cld")
WIDE(cmpsb, "and $255, %ecx; repe cmpsb")
WIDE(mov_ds, "mov %eax, %ds")
WIDE(mov_es, "mov %eax, %es")
WIDE(mov_fs, "mov %eax, %fs")
WIDE(mov_gs, "mov %eax, %gs")
WIDE(mov_ss, "mov %eax, %ss; nop")
WIDE(lar, "lar %ax, %ebx")
WIDE(lsl, "lsl %ax, %ebx")
WIDE(verr, "verr %ax")
WIDE(verw, "verw %ax")
WIDE(xmm_fault, "pushq $0; ldmxcsr (%rsp); divss %xmm0, %xmm0; pop %rax")
WIDE(ldmxcsr, "ldmxcsr (%rax)")
WIDE(movaps, "movaps (%rax), %xmm1")
WIDE(x87_fault, "fninit; pushq $0; fldcw (%rsp); fldz; fld1; fdivp; fwait; fninit; pop %rax")
WIDE(fxrstor, "fxrstor (%rax)")
WIDE(xsetbv, "xsetbv")
WIDE(monitor, "monitor")
WIDE(vmcall, "vmcall")
WIDE(cmpxchg16b, "cmpxchg16b (%rax)")
WIDE(prefixes, ".fill 15, 1, 0x66; nop")
WIDE(push_cs, ".byte 0x0e")
WIDE(int_ff, "int $255")
WIDE(to_kernel, "mov $0xffffffff81000000, %rbx; jmp *%rbx")
WIDE(to_hole, "mov $0x800000000000, %rbx; jmp *%rbx")
WIDE(last_syscall, "mov $0x7fffffffeffe, %r14; jmp *%r14")
WIDE(vsyscall, "mov $0xffffffffff600000, %rbx; xor %edi, %edi; xor %esi, %esi; call *%rbx")
COMPAT(c_int80, "int $0x80")
COMPAT(c_nops, "nop; nop; nop")
COMPAT(c_int80_nops, "int $0x80; nop; nop")
COMPAT(c_int3, "int3")
COMPAT(c_into, "mov $0x7fffffff, %eax; add $1, %eax; into")
COMPAT(c_ud2, "ud2")
COMPAT(c_bound, "push $1; push $0; mov $5, %eax; bound %eax, (%esp); pop %eax; pop %eax")
COMPAT(c_push, "push %eax")
COMPAT(c_load, "mov (%eax), %ebx")
COMPAT(c_store, "mov %ebx, (%eax)")
COMPAT(c_load_es, "mov %es:(%eax), %ebx")
COMPAT(c_load_fs, "mov %fs:(%eax), %ebx")
COMPAT(c_load_gs, "mov %gs:0, %ebx")
COMPAT(c_mov_ss, "mov %eax, %ss; nop")
COMPAT(c_mov_ds, "mov %eax, %ds")
COMPAT(c_lret, GOOD_STACK "push %eax; push %ebx; lret")
COMPAT(c_iret, GOOD_STACK NO_VM "push %esi; push %edi; push %edx; push %eax; push %ebx; iret")
COMPAT(c_popf, "push %eax; popf; nop; nop")
COMPAT(c_hlt, "hlt")
COMPAT(c_jump, "jmp *%eax")
COMPAT(c_pusha, "pusha; popa; aaa")
/* Each `int N`, of seven bytes. */
asm(".pushsection pieces, \"ax\"\ns_int_n: n = 0\n.rept 256\n.byte 0xcd, n; .byte 0xe9; .long door_return - . - 4; n = n + 1\n.endr\n.popsection");
extern const char s_int_n[];
enum { INT_N_LENGTH = 7 };

#define S(name) { #name, s_##name, NONE, 0 }
#define C(name) { #name, s_c_##name, NONE, 1 }
static const struct snippet snippets[] = {
    { "syscall", s_syscall, SYSCALL, 0 }, { "int80", s_int80, INT80, 0 }, { "syscall_nops", s_syscall_nops, SYSCALL, 0 },
    { "int80_nops", s_int80_nops, INT80, 0 }, { "c_int80", s_c_int80, INT80, 1 }, { "c_int80_nops", s_c_int80_nops, INT80, 1 },
    { "two_syscalls", s_two_syscalls, SYSCALL, 0 }, { "mov_ss_syscall", s_mov_ss_syscall, SYSCALL, 0 },
    { "last_syscall", s_last_syscall, SYSCALL, 0 },
    S(nops), S(int3), S(int_3), S(icebp), S(ud2), S(ud1), S(divide), S(idiv), S(hlt), S(in), S(out), S(cli), S(sti), S(mov_cr3), S(mov_cr8),
    S(mov_dr7), S(rdmsr), S(wrmsr), S(lgdt), S(swapgs), S(sysret), S(sysexit), S(invlpg), S(wbinvd), S(clac), S(load), S(store), S(add_to),
    S(load_bp), S(load_sp), S(load_fs), S(load_gs), S(push), S(pop), S(call), S(jump), S(jump_through), S(ret), S(lret), S(lret_flat), S(iret), S(iret_flat), S(iret_ss), S(far_jump),
    S(push_and_ret), S(push_flags), S(popfq), S(enter), S(rep_movs), S(rep_stos), S(rep_movs_std), S(cmpsb), S(mov_ds), S(mov_es), S(mov_fs),
    S(mov_gs), S(mov_ss), S(lar), S(lsl), S(verr), S(verw), S(xmm_fault), S(ldmxcsr), S(movaps), S(x87_fault), S(fxrstor), S(xsetbv), S(monitor),
    S(vmcall), S(cmpxchg16b), S(prefixes), S(push_cs), S(int_ff), S(to_kernel), S(to_hole), S(vsyscall),
    C(nops), C(int3), C(into), C(ud2), C(bound), C(push), C(load), C(store), C(load_es), C(load_fs), C(load_gs), C(mov_ss), C(mov_ds), C(lret),
    C(iret), C(popf), C(hlt), C(jump), C(pusha),
};
#undef S
#undef C
enum { CALLING = 9 }; /* how many of them make system calls */
/* Where changed frames go, in code of this width and of the other. */
#define PLAIN_CODE s_nops
#define OTHER_PLAIN s_c_nops
#define OTHER_CALL s_c_int80

/* Where arguments go. */
static const byte argument_registers[3][6] = { { AX }, { DI, SI, DX, R10, R8, R9 }, { BX, CX, DX, SI, DI, BP } };
static const byte argument_counts[3] = { 1, 6, 6 };

/* The part of a signal's frame that a handler gets. */
enum { G_R8, G_DI = 8, G_SI, G_BP, G_BX, G_DX, G_AX, G_CX, G_SP, G_IP, G_FLAGS, G_SELECTORS, G_ERROR, G_TRAP, G_OLD_MASK, G_CR2, GREGS };
static const char *const frame_names[] = { "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "di", "si", "bp", "bx", "dx", "ax", "cx", "sp", "ip",
                                           "flags", "selectors", "error", "trap", "oldmask", "cr2" };

struct context {
    word flags, link, stack, stack_flags, stack_size, g[GREGS];
    byte *fpu;
    word reserved[8];
    wide mask;
};

enum { FXSAVE = 0, FPU_MARGIN = 0, GENERAL_FIRST = G_R8, GENERAL_COUNT = G_IP };

struct frame {
    word restorer;
    struct context context;
    byte info[128];
};

static inline half code_selector(const struct context *context) { return context->g[G_SELECTORS]; }

static void set_selectors(struct context *context, half code, half stack)
{
    context->g[G_SELECTORS] = (context->g[G_SELECTORS] & 0x0000ffffffff0000) | code | (word)stack << 48;
}

static half stack_selector(const struct context *context) { return context->g[G_SELECTORS] >> 48; }

enum { FLAT_CODE = 0x33, OTHER_CODE = 0x23, FLAT_DATA = 0x2b };

/* No register has an address of the vDSO. */
static word place(word value) { return value; }

#endif
