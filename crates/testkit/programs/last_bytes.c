// SYSCALL in the last two bytes of user addresses: it would return to an address that is not canonical. Most kernels load nothing
// there; then this program does not run.
#include "kit.h"

void kit_main(void)
{
    try("dies");
    patterns(0);
    nothing_to_write();
    // The instruction is in the section .last (program.ld).
    asm volatile("movabsq $last_syscall, %%rcx; jmp *%%rcx"
                 : : "a"(given.rax), "D"(given.rdi), "S"(given.rsi), "d"(given.rdx) : "rcx", "r11", "memory");
    bad("user mode went on behind the last address");
}

asm(".pushsection .last, \"ax\", @progbits; .skip 4094, 0xf4; .globl last_syscall; last_syscall: syscall; .popsection");
