/* What the programs for the suite `instructions` share: until when they cross, and what they tell it. */
#ifndef CROSSING_H
#define CROSSING_H

#include "gate.h"

/* Set by the debugger. */
__attribute__((used)) static volatile int finish;

enum { ROUNDS = 50, UNTIL_FINISH = 1000000 };

/* How many injections were handled since the machine was started; `own_nmis` of the NMIs were the program's. */
static void report_injections(long own_nmis)
{
    printf("nmis %ld\n", gate_status("nmis") - own_nmis);
    printf("machine_checks %ld\n", gate_status("machine_checks"));
    printf("debugs %ld\n", gate_status("debugs"));
    fflush(stdout);
}

static void check_invariants(void)
{
    long broken = gate_status("violations");
    if (broken >= 0)
        check(broken == 0, "no invariant was broken", "%ld", broken);
}

#endif
