/* fire_user_return_notifiers: what the kernel keeps in a register of user mode's is put back on the way to it, once, whoever
 * goes there first.
 */
#include "hooks.h"
#include <sched.h>

static uint32_t tsc_aux(void)
{
    uint32_t a, d, aux;
    asm volatile("rdtscp" : "=a"(a), "=d"(d), "=c"(aux));
    return aux;
}

int main(void)
{
    unsigned a, b, c, d = 0;
    if (!has_hooks("user-return notifiers"))
        return done();
    __cpuid(0x80000001, a, b, c, d);
    if (!(d >> 27 & 1)) {
        skip("user-return notifiers", "the processor has no RDTSCP");
        return done();
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    sched_setaffinity(0, sizeof set, &set);
    uint32_t own = tsc_aux();
    long before = hooks_status("user_returns");
    int restored = 1;
    for (int round = 0; round < 100; round++) {
        control("/dev/hooks", "lend-tsc-aux %d", 0x1000 + round);
        restored &= tsc_aux() == own;
    }
    check(restored, "TSC_AUX is user mode's again", "it is %#x and was %#x", tsc_aux(), own);
    check_violations("UserReturn");
    long fired = hooks_status("user_returns") - before;
    check(fired == 100, "one notifier for each time", "%ld for 100", fired);
    getppid();
    check(hooks_status("user_returns") - before == fired, "none without a cause", "more have run");
    return done();
}
