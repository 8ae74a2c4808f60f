/* Enters the kernel from 32-bit code with every register chosen, by each door.
 *
 *     randomize(); wrong = call(by_int80, SYS_getpid, getpid(), 0);
 *
 * Which doors the CPU has: SYSENTER is Intel's (AMD CPUs have it outside long mode only), SYSCALL AMD's. QEMU before 10.0 lets
 * SYSCALL through on every model; stock Linux does not expect that on Intel's, so it is tried there in the reference kernel
 * only. Both come back by way of the vDSO.
 */
#ifndef REGISTERS32_H
#define REGISTERS32_H

#include "check.h"
#include <sys/auxv.h>

enum { CF = 1, PF = 4, AF = 0x10, ZF = 0x40, SF = 0x80, TF = 0x100, IF = 0x200, DF = 0x400, OF = 0x800, NT = 0x4000,
       AC = 0x40000, ID = 0x200000, ARITHMETIC = CF | PF | AF | ZF | SF | OF };

struct registers {
    uint32_t eax, ebx, ecx, edx, esi, edi, ebp, eflags;
};

static const char *const names[] = { "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "eflags" };

__attribute__((used)) static struct registers in, out;
__attribute__((used)) static uint32_t run_stack, run_target, stack_moved;

/* `run(door)`: enters the kernel by `door` with the registers `in`, comes back with `out`. */
asm(".pushsection .text\n"
    "run:\n"
    "push %ebx; push %ebp; push %esi; push %edi; pushf\n"
    "mov 24(%esp), %eax\n"
    "mov %eax, run_target\n"
    "mov in, %eax; mov in+4, %ebx; mov in+8, %ecx; mov in+12, %edx; mov in+16, %esi; mov in+20, %edi; mov in+24, %ebp\n"
    "mov %esp, run_stack\n"
    "pushl in+28\n"
    "popf\n" /* no instruction from here to the door changes a flag */
    "run_stepped:\n"
    "call *run_target\n"
    "run_return:\n"
    "mov %eax, out; mov %ebx, out+4; mov %ecx, out+8; mov %edx, out+12; mov %esi, out+16; mov %edi, out+20\n"
    "mov %ebp, out+24\n"
    "pushf\n"
    "popl out+28\n"
    "pushl $2\n"
    "popf\n"
    "mov %esp, stack_moved\n"
    "mov run_stack, %esp\n"
    "sub %esp, stack_moved\n"
    "popf; pop %edi; pop %esi; pop %ebp; pop %ebx\n"
    "ret\n"
    "by_sysenter: push %ecx; push %edx; push %ebp; mov %esp, %ebp; sysenter; ud2\n"
    "by_syscall: push %ecx; push %edx; push %ebp; mov %ecx, %ebp; syscall; ud2\n"
    "by_int80: int $0x80; ret\n"
    "by_vdso: jmp *vdso_entry\n"
    ".popsection\n");
extern void run(const void *door);
extern const unsigned char run_stepped[], run_return[], by_sysenter[], by_syscall[], by_int80[], by_vdso[];
__attribute__((used)) static uint32_t vdso_entry;

static uint32_t random_state = 0x9e3779b9;

__attribute__((unused)) static uint32_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

__attribute__((unused)) static void randomize(void)
{
    for (size_t i = 0; i < sizeof in / 4; i++)
        ((uint32_t *)&in)[i] = random_number();
    in.eflags = IF | 2 | (in.eflags & ARITHMETIC);
}

/* Makes the call in `in`: the result, and that nothing else has changed, but for the arithmetic flags at SYSENTER: a Linux that
 * isolates its page tables changes them before it saves them. */
__attribute__((unused)) static const char *call(const void *door, uint32_t number, uint32_t result, int any_result)
{
    static char text[80];
    in.eax = number;
    run(door);
    struct registers want = in;
    want.eax = any_result ? out.eax : result;
    if (door == by_sysenter || door == by_vdso)
        want.eflags = (want.eflags & ~ARITHMETIC) | (out.eflags & ARITHMETIC);
    for (size_t i = 0; i < sizeof want / 4; i++) {
        uint32_t a = ((uint32_t *)&want)[i], b = ((uint32_t *)&out)[i];
        if (a == b)
            continue;
        snprintf(text, sizeof text, "%s is %#x, not %#x", names[i], b, a);
        return text;
    }
    return stack_moved ? "the stack pointer has moved" : NULL;
}

#define NO_FAST_DOOR "this CPU has none, or there is no vDSO to come back to"

static int vendor_is(unsigned first_letters)
{
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
    return b == first_letters;
}

__attribute__((unused)) static int has_sysenter(void)
{
    return getauxval(AT_SYSINFO) && vendor_is(0x756e6547); /* Genu */
}

static int exit_by_syscall(void)
{
    __asm__ volatile("syscall" : : "a"(1), "b"(0) : "ecx", "memory"); /* exit */
    return 1;
}

__attribute__((unused)) static int has_syscall(int reference_kernel)
{
    static int works = -1;
    if (works < 0)
        works = vendor_is(0x68747541) /* Auth */ || (reference_kernel && in_child(exit_by_syscall) == 0);
    return getauxval(AT_SYSINFO) && works;
}

#endif
