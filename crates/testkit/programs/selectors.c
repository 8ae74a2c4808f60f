// Selectors that are allowed and seldom: null ones with a privilege level, and the stack's in a data segment. The kernel goes on,
// and the registers are the program's.
#include "kit.h"

static void load(u16 value)
{
    asm volatile("movw %0, %%ds; movw %0, %%es; movw %0, %%fs; movw %0, %%gs" : : "r"(value));
}

static void prepare(void)
{
    static u16 value;
    asm volatile("movw %0, %%es; movw %0, %%fs; movw %0, %%gs" : : "r"((u16)(value++ & 3)));
}

// RCX and R11 are in the program `interrupts`.
static void look(void)
{
    compare(BIT(RCX) | BIT(R11));
}

void kit_main(void)
{
    // The bases are the kernel's gift: without one, a program that needs none may change them.
    u16 before[6];
    for (int which = 2; which < 6; which++)
        before[which] = selector(which);

    u16 values[] = {0, 1, 2, 3, selector(1)};
    try("syscall");
    for (u64 i = 0; i < sizeof values / sizeof *values; i++) {
        load(values[i]);
        patterns(i);
        nothing_to_write();
        by_syscall();
        compare(BIT(RAX) | BIT(RCX) | BIT(R11));
    }
    load(0);
    end();

    try("page_fault");
    static u8 pages[16][4096] __attribute__((aligned(4096)));
    for (u64 i = 0; i < sizeof values / sizeof *values; i++) {
        load(values[i]);
        patterns(i);
        given.rsi = (u64)pages[2 * i];
        by_touch();
        compare(0);
    }
    load(0);
    end();

    try("interrupt");
    int hits = spin(4, prepare, look);
    asm volatile("movw %0, %%ds; movw %1, %%es" : : "m"(before[2]), "m"(before[3]));
    if (!hits)
        skip("no interrupt came");
    else
        end();
}
