// The direction flag is the program's own: a kernel that takes it over copies and clears backwards.
#include "kit.h"

static u8 pages[24][4096] __attribute__((aligned(4096)));

static void prepare(void)
{
    given.rflags |= DF;
}

// RCX and R11 are in the program `interrupts`.
static void look(void)
{
    compare(BIT(RCX) | BIT(R11));
    compare_flags();
}

void kit_main(void)
{
    try("syscall");
    patterns(0);
    nothing_to_write();
    given.rflags |= DF;
    by_syscall();
    compare(BIT(RAX) | BIT(RCX) | BIT(R11));
    compare_flags();
    end();

    // If the kernel maps pages when they are touched, it clears them.
    try("page_fault");
    for (int i = 8; i < 24; i++) {
        patterns(i);
        given.rsi = (u64)&pages[i][2048];
        given.rax = 0;
        given.rflags |= DF;
        by_touch();
        compare(0);
        compare_flags();
        for (int at = 0; at < 4096; at++)
            if (pages[i][at])
                bad_value("a byte of a page that nobody has written to", pages[i][at], 0);
    }
    end();

    try("interrupt");
    if (!spin(2, prepare, look))
        skip("no interrupt came");
    else
        end();
}
