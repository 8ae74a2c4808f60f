// Numbers of system calls that there are not. Neither is one of Linux's, nor has one the low half of such a number.
#include "kit.h"

// The next one after the last of most tables, and still within a table of 512.
#define UNKNOWN 511

static u64 call(u64 seed, u64 number)
{
    patterns(seed);
    given.rax = number;
    by_syscall();
    return found.rax;
}

static int is_error(u64 result)
{
    return result >= -4095ul;
}

static void refuses(u64 number)
{
    u64 result = call(number, number);
    if (!is_error(result))
        bad_value("the result of a call that there is not", result, -38ul);
    compare(BIT(RAX) | BIT(RCX) | BIT(R11));
}

void kit_main(void)
{
    try("unknown");
    refuses(UNKNOWN);
    refuses(UNKNOWN);
    end();

    // ERESTARTSYS and its like, and what Linux keeps to itself.
    try("restart_codes");
    u64 result = call(1, UNKNOWN);
    if (result >= -516ul && result <= -512ul)
        bad_value("RAX", result, -38ul);
    end();

    try("unbounded");
    static const u64 numbers[] = {
        1000, 4095, 4096, 0xffff, 0x10000, 0x100000, 0x7fffffff, 0x80000000, 0xffffffff, 0x100001000, 0x7fffffff00001000,
        0x7fffffffffffffff, 0x8000000000001000, -1ul, -2ul, -512ul, -4096ul, 0xffffffff00001000,
    };
    for (u64 i = 0; i < sizeof numbers / sizeof *numbers; i++)
        refuses(numbers[i]);
    u64 random = 88172645463325252;
    for (int i = 0; i < 200; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // The low half is above all tables, and has not the bit of x32.
        refuses((random | 0x1000) & ~0x40000000ul);
    }
    end();
}
