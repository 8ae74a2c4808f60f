// INT 0x80, where it is open to programs: the same as for SYSCALL, and RCX and R11, too.
#include "kit.h"

// In no table, whichever the numbers are of, and still within a table of 512.
#define UNKNOWN 511

static void call(u64 seed, u64 flags)
{
    patterns(seed);
    given.rax = UNKNOWN;
    given.rflags |= flags;
    by_int80();
}

void kit_main(void)
{
    try("open");
    call(0, 0);
    ok();

    try("registers");
    for (u64 seed = 0; seed < 8; seed++) {
        call(seed, 0);
        compare(BIT(RAX));
    }
    end();

    try("stack");
    call(9, 0);
    compare_stack();
    end();

    try("flags");
    static const u32 flags[] = {0, CF, PF, AF, ZF, SF, OF, AC, ID, NT};
    for (u64 i = 0; i < sizeof flags / sizeof *flags; i++) {
        call(i, flags[i]);
        compare_flags();
    }
    end();

    try("direction_flag");
    call(10, DF);
    compare_flags();
    end();

    try("unbounded");
    static const u64 numbers[] = {0x7fffffff, 0x80001000, 0xfffff000, 0x7fffffff00100000, 0x8000000000100000, -4096ul};
    for (u64 i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        patterns(i);
        given.rax = numbers[i];
        by_int80();
        compare(BIT(RAX));
    }
    end();
}
