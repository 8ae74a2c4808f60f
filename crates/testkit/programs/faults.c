// Memory that is touched for the first time: a kernel that maps it only then gives back every register. One that has mapped it
// before has nothing to do, and passes.
#include "kit.h"

static u8 pages[32][4096] __attribute__((aligned(4096)));

static void touch(int page, u64 flags)
{
    patterns(page);
    given.rsi = (u64)&pages[page][page * 8];
    given.rflags |= flags;
    by_touch();
}

void kit_main(void)
{
    try("registers");
    for (int page = 0; page < 8; page++) {
        touch(page, 0);
        compare(0);
    }
    end();

    try("flags");
    static const u32 flags[] = {CF, PF, AF, ZF, SF, OF, ID, AC};
    for (int i = 0; i < 8; i++) {
        touch(8 + i, flags[i]);
        compare_flags();
    }
    end();

    try("stack");
    touch(17, 0);
    compare_stack();
    end();

    try("nested_task_flag");
    touch(16, NT);
    compare_flags();
    end();
}
