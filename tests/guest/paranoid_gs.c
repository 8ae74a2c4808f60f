/*
 * An NMI and a debug exception hit the kernel while GS is the user's, as between SWAPGS and IRET (bugs 23, 31): the doors
 * put in the kernel's GS base and put back what they found, whatever base the user has set. CR2, too: they may have hit between a
 * page fault and the read of its address.
 */
#include "gate.h"
#include <asm/prctl.h>
#include <sys/syscall.h>

int main(void)
{
    static const unsigned long bases[] = { 0, 0x1000, 0x7fffffffe000, 0xdeadbeef000 };
    if (gate_status("nmis") < 0) {
        skip("paranoid doors with the user's GS", "no /dev/gate");
        return done();
    }
    if (fred()) {
        skip("paranoid doors with the user's GS", "with FRED there are none, and in the kernel GS is never the user's");
        return done();
    }
    for (unsigned i = 0; i < sizeof bases / sizeof *bases; i++) {
        unsigned long base = 1;
        long before = gate_status("nmis");
        syscall(SYS_arch_prctl, ARCH_SET_GS, bases[i]);
        int sent = gate_command("paranoid");
        syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
        syscall(SYS_arch_prctl, ARCH_SET_GS, 0);
        long handled = gate_status("nmis") - before;
        check(sent && base == bases[i] && handled == 2, "doors with the user's GS", "base %#lx: sent %d, base after %#lx, %ld NMIs",
              bases[i], sent, base, handled);
    }
    long broken = gate_status("violations");
    int sent = gate_command("cr2");
    broken = gate_status("violations") - broken;
    check(sent && broken == 0, "CR2 survives handlers that fault", "sent %d, %ld differences", sent, broken);
    return done();
}
