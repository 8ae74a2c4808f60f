/* Bug 21: on AMD processors SYSRET leaves SS with the attributes that it had in the kernel, unusable ones when an
 * interrupt had loaded the null selector. 64-bit code does not notice, so the stack is used from 32-bit code, right after
 * a system call that switched tasks. There is no kernel entry from 32-bit code here but interrupts and exceptions.
 */
#include "gate.h"
#include "registers.h"
#include <sched.h>

/* To the 32-bit segment and back, using the stack there. RBX is left with what was popped. By far jumps, since the
 * emulator makes the accesses of a far return with the kernel's rights. */
__attribute__((used)) static struct { uint32_t offset; uint16_t selector; } in_32_bit = { 0, 0x23 };

SNIPPET(use_ss, "syscall\n"
                "leaq 1f(%rip), %rax; mov %eax, in_32_bit(%rip); ljmpl *in_32_bit(%rip)\n"
                ".code32\n"
                "1: push %ecx; push $0x5a5a5a5a; pop %ebx; pop %edx; mov %ss, %esi; mov %ss:(%esp), %edi\n"
                "ljmp $0x33, $2f\n"
                ".code64\n"
                "2:");
SNIPPET(read_ss, "syscall; mov %ss, %ebx; mov %cs, %ecx; mov %ebx, %ss"); /* the load checks the descriptor */

static void burn(void)
{
    for (;;)
        asm volatile("1: dec %%rcx; jnz 1b" : : "c"(10000) : "cc");
}

int main(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    catch_signal(SIGSEGV, 0);
    catch_signal(SIGBUS, 0);
    catch_signal(SIGILL, 0);
    pid_t other = fork();
    if (other == 0)
        burn(); /* leaves by the timer interrupt only */

    int bad = 0;
    resume_at = read_ss_end;
    for (int round = 0; round < 20; round++) {
        randomize(&in);
        in.rax = SYS_sched_yield;
        run(read_ss);
        bad += caught.count || out.rbx != 0x2b || (out.rcx & 0xffff) != 0x33;
    }
    check(!bad, "the selectors after SYSRET", "SS %#lx, CS %#lx, %d signals", out.rbx, out.rcx, caught.count);

    uint32_t rights = 0;
    asm("lar %1, %0" : "+r"(rights) : "r"(0x23));
    if ((rights & 0xd0f800) != 0xc0f800) { /* 32-bit code, present, DPL 3, 4 KiB units */
        skip("the stack in 32-bit code after SYSRET", "no 32-bit code segment at 0x23 (access rights %#x)", rights);
    } else {
        resume_at = use_ss_end;
        bad = 0;
        for (int round = 0; round < 30; round++) {
            randomize(&in);
            in.rax = SYS_sched_yield;
            run(use_ss);
            bad += caught.count || (uint32_t)out.rbx != 0x5a5a5a5a || (uint16_t)out.rsi != 0x2b ||
                   (uint32_t)out.rdx != (uint32_t)(uint64_t)out.rcx || out.rsp != in.rsp;
        }
        check(!bad, "the stack in 32-bit code after SYSRET", "%d rounds wrong; %d signals, EBX %#lx, RSP %#lx not %#lx",
              bad, caught.count, out.rbx, out.rsp, in.rsp);
    }
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    /* The emulator's SYSRET loads the whole register. The kernel tells whether it had left it null. */
    if (gate_status("violations") >= 0)
        check(gate_status("violations") == 0, "no SYSRET with SS null", "%ld invariants were broken", gate_status("violations"));
    return done();
}
