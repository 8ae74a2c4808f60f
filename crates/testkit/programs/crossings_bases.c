// The same with a GS base that looks like the kernel's, if programs may write it.
#include "kit.h"

volatile u8 finish;

void kit_main(void)
{
    u64 base = 0xffff800000000000, now;
    try("open");
    asm volatile("wrgsbase %0" : : "r"(base));
    ok();
    try("registers");
    for (u64 crossing = 0; !finish && !failed(); crossing++) {
        patterns(crossing);
        nothing_to_write();
        by_syscall();
        compare(BIT(RAX) | BIT(RCX) | BIT(R11));
        asm volatile("rdgsbase %0" : "=r"(now));
        if (now != base)
            bad_value("the GS base", now, base);
    }
    end();
}
