/* Watched memory that the kernel's handler of debug exceptions touches itself: nothing is watched while it runs. */
#include "gate.h"

int main(void)
{
    long before = gate_status("debugs");
    if (before < 0) {
        skip("a watchpoint in the handler's way", "no /dev/gate");
        return done();
    }
    int sent = gate_command("watch");
    long after = gate_status("debugs");
    check(sent && after == before + 2, "a watchpoint in the handler's way", "sent %d, %ld exceptions and accesses", sent,
          after - before);
    return done();
}
