// For `inject`: crosses the door again and again until the debugger says that it is enough, and looks at everything each time.
#include "kit.h"

volatile u8 finish;

void kit_main(void)
{
    try("registers");
    for (u64 crossing = 0; !finish && !failed(); crossing++) {
        patterns(crossing);
        nothing_to_write();
        by_syscall();
        compare(BIT(RAX) | BIT(RCX) | BIT(R11));
        compare_flags();
        compare_stack();
    }
    end();
}
