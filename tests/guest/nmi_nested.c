/*
 * A second NMI hits the handler of the first, which an exception inside the handler lets in early: both are handled,
 * and what they hit goes on as if nothing had been. (The second half of the mechanism behind bugs 6 and 7.)
 */
#include "gate.h"

int main(void)
{
    if (gate_status("nmis") < 0) {
        skip("nested NMIs", "no /dev/gate");
        return done();
    }
    enum { rounds = 200 };
    long before = gate_status("nmis");
    int refused = 0;
    for (int i = 0; i < rounds; i++)
        refused += !gate_command("nmi-nested");
    check(refused == 0, "the kernel sends nested NMIs", "%d refused", refused);
    long handled = gate_status("nmis") - before;
    check(handled == 2 * rounds, "every NMI is handled, nested ones too", "%ld of %d", handled, 2 * rounds);
    check(gate_status("violations") == 0, "no invariant was broken", "%ld", gate_status("violations"));
    return done();
}
