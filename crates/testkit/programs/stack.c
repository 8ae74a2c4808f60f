// Stack pointers that point to no stack: a door that pushes there before it has one of its own dies.
#include "kit.h"

static const u64 pointers[] = {
    0, 1, 8, 0x1000, 0x7fffffffeff8, 0x800000000000, 0x800000000008, 0x7fffffffffffffff, 0xffff7ffffffffff8,
    0xffff800000000000, KERNEL_ADDRESS, 0xfffffffffffffff8, 0xffffffffffffffff,
};

static void prepare(void)
{
    static int which;
    given.rsp = pointers[which++ % (sizeof pointers / sizeof *pointers)];
}

// RCX and R11 are in the program `interrupts`.
static void look(void)
{
    compare(BIT(RCX) | BIT(R11));
}

void kit_main(void)
{
    try("syscall");
    for (u64 i = 0; i < sizeof pointers / sizeof *pointers; i++) {
        patterns(i);
        nothing_to_write();
        given.rsp = pointers[i];
        by_syscall();
        compare(BIT(RAX) | BIT(RCX) | BIT(R11));
    }
    end();

    // A page fault that the kernel resolves, if it does not map all at the start.
    try("page_fault");
    static u8 pages[64][4096] __attribute__((aligned(4096)));
    for (u64 i = 0; i < sizeof pointers / sizeof *pointers; i++) {
        patterns(i);
        given.rsp = pointers[i];
        given.rsi = (u64)&pages[2 * i][8];
        by_touch();
        compare(0);
    }
    end();

    try("interrupt");
    if (!spin(3, prepare, look))
        skip("no interrupt came");
    else
        end();
}
