/*
 * A second NMI hits the handler of the first, which an exception inside the handler lets in early: both are handled,
 * what they hit goes on as if nothing had been, and the handler is never entered while it runs, whether the first one hit the
 * kernel or user mode. (The second half of the mechanism behind bugs 6 and 7.)
 */
#include "gate.h"
#include <sched.h>

enum { ROUNDS = 200 };

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* Sends pairs of NMIs, one pair at a time. */
static void send(const char *command, const char *what)
{
    char name[128];
    long before = gate_status("nmis"), reentered = gate_status("reentered"), handled = 0;
    int refused = 0;
    for (int i = 0; i < ROUNDS; i++) {
        refused += !gate_command(command);
        /* On another CPU they take their time; if one is lost the program ends by its time limit. */
        while (handled < 2 * (i + 1))
            handled = gate_status("nmis") - before;
    }
    reentered = gate_status("reentered") - reentered;
    snprintf(name, sizeof name, "the kernel sends nested NMIs to %s", what);
    check(refused == 0, name, "%d refused", refused);
    snprintf(name, sizeof name, "every NMI that hits %s is handled, nested ones too", what);
    check(handled == 2 * ROUNDS, name, "%ld of %d", handled, 2 * ROUNDS);
    snprintf(name, sizeof name, "an NMI's handler that hit %s is not entered again", what);
    if (gate_status("reentered") < 0)
        skip(name, "a kernel without debug assertions does not count");
    else
        check(reentered == 0, name, "%ld times", reentered);
}

int main(void)
{
    if (gate_status("nmis") < 0) {
        skip("nested NMIs", "no /dev/gate");
        return done();
    }
    pin(0);
    send("nmi-nested", "the kernel");
    if (gate_status("cpus") > 1) {
        pid_t spinner = fork();
        if (spinner == 0) {
            pin(1);
            for (;;)
                __asm__ volatile("pause");
        }
        send("nmi-nested-on 1", "user mode");
        kill(spinner, SIGKILL);
        waitpid(spinner, NULL, 0);
    } else {
        skip("NMIs that hit user mode", "one CPU: who sends one is in the kernel");
    }
    check(gate_status("violations") == 0, "no invariant was broken", "%ld", gate_status("violations"));
    return done();
}
