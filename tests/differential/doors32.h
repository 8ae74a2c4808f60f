/* 32-bit programs. There is no base of 0 for DS and SS here that could be relied on, so that what is recorded goes by
 * CS and by two vector registers. */
#ifndef DOORS32_H
#define DOORS32_H

#include "doors.h"

/* The vDSO's door, and a selector to load. */
__attribute__((used)) static word vdso_door;
__attribute__((used)) static const half flat_data = 0x2b;

#define STORE(to) \
    "mov %eax, " to "; mov %ebx, " to "+4; mov %ecx, " to "+8; mov %edx, " to "+12; mov %esi, " to "+16; mov %edi, " to "+20\n" \
    "mov %ebp, " to "+24; mov %esp, " to "+28\n"
#define FROM_IN(at, to) "mov %cs:in+" #at ", " to "\n"

asm(".pushsection .text\n"
    ".globl _start\n"
    "_start: mov %esp, %eax; and $-16, %esp; sub $12, %esp; push %eax; call map_main; mov $" STRING(STACK_OF_MAIN) ", %esp; call first\n"
    "run: push %ebx; push %ebp; push %esi; push %edi\n"
    "mov %esp, door_stack\n"
    "mov in_segments+8, %eax; test $0x10000, %eax; jnz 1f; mov %eax, %fs; 1:\n"
    "mov in_segments+12, %eax; test $0x10000, %eax; jnz 1f; mov %eax, %gs; 1:\n"
    "mov in_segments+4, %eax; mov %eax, %es; mov in_segments, %eax; mov %eax, %ds\n"
    FROM_IN(0, "%eax") FROM_IN(4, "%ebx") FROM_IN(8, "%ecx") FROM_IN(12, "%edx") FROM_IN(16, "%esi") FROM_IN(20, "%edi") FROM_IN(24, "%ebp")
    "pushl %cs:in+32\n"
    "armed: popfl\n" /* no instruction from here to the code changes a flag */
    FROM_IN(28, "%esp")
    "jmp *%cs:in_launch\n"
    "launch_near: jmp *%cs:in_entry\n"
    "launch_far: ljmp *%cs:in_far\n"
    "door_return:\n"
    /* EAX and DS into vector registers, and a good DS. */
    "movd %eax, %xmm7; mov %ds, %eax; movd %eax, %xmm6; mov %cs:flat_data, %ds; movd %xmm6, out_segments; movd %xmm7, %eax\n"
    STORE("out")
    "mov %es, out_segments+4; mov %fs, out_segments+8; mov %gs, out_segments+12; mov %ss, out_segments+16\n"
    "mov $0x2b, %eax; mov %eax, %ss; mov door_stack, %esp\n"
    "pushfl; popl out+32; pushl $2; popfl\n"
    "mov $0x2b, %eax; mov %eax, %es\n"
    "pop %edi; pop %esi; pop %ebp; pop %ebx\n"
    "ret\n"
    "end_of_run:\n"
    /* Handlers: number, siginfo and context are in registers, too; the old kind has them behind the number. */
    "signal_entry_old:\n"
    STORE("at_handler")
    "pushfl; popl at_handler+32; pushl $2; popfl\n"
    "mov %esp, %ecx; mov handler_stack, %esp; sub $12, %esp\n"
    "push %ecx; push %eax; call handle_old; jmp 1f\n"
    "signal_entry:\n"
    STORE("at_handler")
    "pushfl; popl at_handler+32; pushl $2; popfl\n"
    "mov handler_stack, %esp; sub $4, %esp\n"
    "push %ecx; push %edx; push %eax; call handle\n"
    "1: mov %eax, %esp; ret\n"
    "signal_restorer: mov $173, %eax; int $0x80; ud2\n"
    "signal_restorer_old: pop %eax; mov $119, %eax; int $0x80; ud2\n"
    ".popsection\n");

extern const char signal_entry_old[], signal_restorer_old[];

#define NARROW(name, text) asm(".pushsection pieces, \"ax\"\ns_" #name ": " text "\nljmp $0x23, $door_return\n.popsection"); extern const char s_##name[];
/* 64-bit code, in a 32-bit program: what comes back is a far jump by an absolute address. */
asm(".pushsection .rodata\nfar_return: .long door_return; .word 0x23\n.popsection");
#define WIDE(name, text) \
    asm(".pushsection pieces, \"ax\"\n.code64\ns_" #name ": " text "\n.byte 0xff, 0x2c, 0x25; .long far_return\n.code32\n.popsection"); \
    extern const char s_##name[];
#define GOOD_STACK "mov $0x10103000, %esp; "
/* The frame that the vDSO pops. */
#define DOOR_FRAME GOOD_STACK "push $door_return; push %ecx; push %edx; push %ebp; "
/* The emulator's IRET with VM. */
#define NO_VM "and $0xfffdffff, %edx; "

NARROW(int80, "int $0x80")
NARROW(int80_nops, "int $0x80; nop; nop")
NARROW(two_calls, "int $0x80; mov $64, %eax; int $0x80")
NARROW(mov_ss_int80, "mov %ss, %esi; mov %esi, %ss; int $0x80")
NARROW(sysenter, DOOR_FRAME "mov %esp, %ebp; sysenter")
NARROW(sysenter_wild, GOOD_STACK "sysenter")
NARROW(syscall32, DOOR_FRAME "mov %ecx, %ebp; syscall")
NARROW(vdso, GOOD_STACK "call *%cs:vdso_door")
NARROW(vdso_nops, GOOD_STACK "call *%cs:vdso_door; nop; pushfl; pop %ebx")
/* What these hold in 32-bit code is not specified. */
WIDE(w_syscall, "xor %r8d, %r8d; xor %r9d, %r9d; xor %r10d, %r10d; syscall")
WIDE(w_int80, "int $0x80; nop")
NARROW(nops, "nop; nop; pushfl; pop %eax; nop")
NARROW(int3, "int3; nop")
NARROW(int_3, ".byte 0xcd, 3; nop")
NARROW(icebp, ".byte 0xf1; nop")
NARROW(into, "mov $0x7fffffff, %eax; add $1, %eax; into")
NARROW(bound, GOOD_STACK "push $1; push $0; mov $5, %eax; bound %eax, %ss:(%esp)")
NARROW(ud2, "ud2")
NARROW(ud1, ".byte 0x0f, 0xb9, 0xc0")
NARROW(divide, "xor %ebx, %ebx; div %ebx")
NARROW(idiv, "mov $-1, %ebx; idiv %ebx")
NARROW(aam, "aam $0")
NARROW(hlt, "hlt")
NARROW(in, "in %dx, %al")
NARROW(out, "out %eax, %dx")
NARROW(insb, "insb")
NARROW(cli, "cli")
NARROW(sti, "sti")
NARROW(mov_cr3, "mov %cr3, %eax")
NARROW(mov_dr7, "mov %eax, %dr7")
NARROW(rdmsr, "rdmsr")
NARROW(wrmsr, "wrmsr")
NARROW(lgdt, "lgdt (%eax)")
NARROW(sysexit, "sysexit")
NARROW(sysret, "sysret")
NARROW(invlpg, "invlpg (%eax)")
NARROW(clac, "clac")
NARROW(load, "mov (%eax), %ebx")
NARROW(store, "mov %ebx, (%eax)")
NARROW(add_to, "lock addl $1, (%eax)")
NARROW(load_bp, "mov (%ebp), %ebx")
NARROW(load_es, "mov %es:(%eax), %ebx")
NARROW(load_fs, "mov %fs:(%eax), %ebx")
NARROW(load_gs, "mov %gs:8, %ebx")
NARROW(store_gs, "mov %ebx, %gs:(%eax)")
NARROW(push, "push %eax")
NARROW(pop, "pop %eax")
NARROW(call, "call *%eax")
NARROW(jump, "jmp *%eax")
NARROW(jump_through, "jmp *(%eax)")
NARROW(ret, "ret")
NARROW(lret, GOOD_STACK "push %eax; push %ebx; lret")
NARROW(lret_flat, GOOD_STACK "push $0x23; push $door_return; lret")
NARROW(iret, GOOD_STACK NO_VM "push %esi; push %edi; push %edx; push %eax; push %ebx; iret")
NARROW(iret_flat, GOOD_STACK NO_VM "push %edx; push $0x23; push $door_return; iret")
NARROW(iret_ss, GOOD_STACK NO_VM "push %eax; push %edi; push %edx; push $0x23; push $door_return; iret")
NARROW(far_jump, "ljmp *(%eax)")
NARROW(push_flags, GOOD_STACK "push %eax; popfl; nop; nop; pushfl; pop %ebx")
NARROW(popf, "popfl; nop; nop")
NARROW(enter, "enter $4096, $3")
NARROW(pusha, "pusha; popa; aaa")
NARROW(rep_movs, "and $255, %ecx; rep movsb")
NARROW(rep_stos, "and $255, %ecx; rep stosl")
NARROW(rep_movs_std, "and $255, %ecx; std; rep movsl; cld")
NARROW(cmpsb, "and $255, %ecx; repe cmpsb")
NARROW(mov_ds, "mov %eax, %ds")
NARROW(mov_es, "mov %eax, %es")
NARROW(mov_fs, "mov %eax, %fs")
NARROW(mov_gs, "mov %eax, %gs")
NARROW(mov_ss, "mov %eax, %ss; nop")
NARROW(push_pop_ds, GOOD_STACK "push %eax; pop %ds")
NARROW(lds, "lds (%eax), %ebx")
NARROW(lar, "lar %ax, %ebx")
NARROW(lsl, "lsl %ax, %ebx")
NARROW(verr, "verr %ax")
NARROW(verw, "verw %ax")
NARROW(xmm_fault, GOOD_STACK "pushl $0; ldmxcsr %ss:(%esp); divss %xmm0, %xmm0")
NARROW(movaps, "movaps (%eax), %xmm1")
NARROW(x87_fault, GOOD_STACK "fninit; pushl $0; fldcw %ss:(%esp); fldz; fld1; fdivp; fwait; fninit")
NARROW(fxrstor, "fxrstor (%eax)")
NARROW(cmpxchg8b, "cmpxchg8b (%eax)")
NARROW(lock_nop, ".byte 0xf0, 0x90")
NARROW(to_kernel, "mov $0xffffe000, %ebx; jmp *%ebx")
WIDE(w_nops, "nop; nop")
WIDE(w_load, "mov (%rax), %rbx")
WIDE(w_ud2, "ud2")
WIDE(w_hole, "mov $0x800000000000, %rbx; mov (%rbx), %rax")
WIDE(w_int3, "int3")
WIDE(w_mov_ds, "mov %eax, %ds")
/* Each `int N`, of seven bytes. */
asm(".pushsection pieces, \"ax\"\ns_int_n: n = 0\n.rept 256\n.byte 0xcd, n; .byte 0xe9; .long door_return - . - 4; n = n + 1\n.endr\n.popsection");
extern const char s_int_n[];
enum { INT_N_LENGTH = 7 };

#define S(name) { #name, s_##name, NONE, 0 }
#define W(name) { #name, s_##name, NONE, 1 }
static const struct snippet snippets[] = {
    { "int80", s_int80, INT80, 0 }, { "int80_nops", s_int80_nops, INT80, 0 }, { "two_calls", s_two_calls, INT80, 0 },
    { "mov_ss_int80", s_mov_ss_int80, INT80, 0 }, { "sysenter", s_sysenter, INT80, 0 }, { "sysenter_wild", s_sysenter_wild, INT80, 0 },
    { "syscall32", s_syscall32, INT80, 0 }, { "vdso", s_vdso, INT80, 0 }, { "vdso_nops", s_vdso_nops, INT80, 0 },
    { "w_syscall", s_w_syscall, SYSCALL, 1 }, { "w_int80", s_w_int80, INT80, 1 },
    S(nops), S(int3), S(int_3), S(icebp), S(into), S(bound), S(ud2), S(ud1), S(divide), S(idiv), S(aam), S(hlt), S(in), S(out), S(insb), S(cli),
    S(sti), S(mov_cr3), S(mov_dr7), S(rdmsr), S(wrmsr), S(lgdt), S(sysexit), S(sysret), S(invlpg), S(clac), S(load), S(store), S(add_to),
    S(load_bp), S(load_es), S(load_fs), S(load_gs), S(store_gs), S(push), S(pop), S(call), S(jump), S(jump_through), S(ret), S(lret),
    S(lret_flat), S(iret), S(iret_flat), S(iret_ss), S(far_jump), S(push_flags), S(popf), S(enter), S(pusha), S(rep_movs), S(rep_stos),
    S(rep_movs_std), S(cmpsb), S(mov_ds), S(mov_es), S(mov_fs), S(mov_gs), S(mov_ss), S(push_pop_ds), S(lds), S(lar), S(lsl), S(verr), S(verw),
    S(xmm_fault), S(movaps), S(x87_fault), S(fxrstor), S(cmpxchg8b), S(lock_nop), S(to_kernel),
    W(w_nops), W(w_load), W(w_ud2), W(w_hole), W(w_int3), W(w_mov_ds),
};
#undef S
#undef W
enum { CALLING = 11 }; /* how many of them make system calls */
/* Where changed frames go, in code of this width and of the other. */
#define PLAIN_CODE s_nops
#define OTHER_PLAIN s_w_nops
#define OTHER_CALL s_w_int80

/* Where arguments go. In 64-bit code two of them are in registers that 32-bit code does not have. */
static const byte argument_registers[3][6] = { { AX }, { DI, SI, DX, SP, SP, SP }, { BX, CX, DX, SI, DI, BP } };
static const byte argument_counts[3] = { 1, 3, 6 };

/* The part of a signal's frame that a handler gets. */
enum { G_GS, G_FS, G_ES, G_DS, G_DI, G_SI, G_BP, G_SP, G_BX, G_DX, G_CX, G_AX, G_TRAP, G_ERROR, G_IP, G_CS, G_FLAGS, G_SP_AT_SIGNAL, G_SS, GREGS };
static const char *const frame_names[] = { "gs", "fs", "es", "ds", "di", "si", "bp", "sp", "bx", "dx", "cx", "ax", "trap", "error", "ip", "cs",
                                           "flags", "sp at signal", "ss" };

struct context {
    word flags, link, stack, stack_flags, stack_size, g[GREGS];
    byte *fpu;
    word old_mask, cr2;
    wide mask;
};

/* The extended state lies behind the old form of the x87 state, and is aligned itself. */
enum { FXSAVE = 112, FPU_MARGIN = 16, GENERAL_FIRST = G_DI, GENERAL_COUNT = 8 };

struct frame {
    word restorer;
    int signal;
    const byte *info_at;
    struct context *context_at;
    byte info[128];
    struct context context;
    byte code[8];
};

/* Without SA_SIGINFO. */
struct old_frame {
    word restorer;
    int signal;
    word g[GREGS];
    byte *fpu;
    word old_mask, cr2;
    byte unused_fpu[624];
    word more_mask;
    byte code[8];
};

static inline half code_selector(const struct context *context) { return context->g[G_CS]; }

static void set_selectors(struct context *context, half code, half stack)
{
    context->g[G_CS] = code;
    context->g[G_SS] = stack;
}

static half stack_selector(const struct context *context) { return context->g[G_SS]; }

enum { FLAT_CODE = 0x23, OTHER_CODE = 0x33, FLAT_DATA = 0x2b };

/* The vDSO is elsewhere in each boot. */
static word vdso_first, vdso_end;

static word place(word value) { return value >= vdso_first && value < vdso_end ? 0xfdfd0000 : value; }

#endif
