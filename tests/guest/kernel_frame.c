/* Bug 44: the stack pointer in the frame of an exception or NMI that hit the kernel is the one that the kernel had. */
#include "gate.h"

int main(void)
{
    if (gate_status("violations") < 0) {
        skip("the stack pointer of the kernel's frames", "no /dev/gate");
        return done();
    }
    int sent = 1;
    for (int i = 0; i < 100; i++)
        sent &= gate_command("stack-pointers");
    long violations = gate_status("violations");
    check(sent && violations == 0, "the stack pointer of the kernel's frames", "sent %d, %ld invariants were broken", sent,
          violations);
    return done();
}
