/* The kernel runs on all processors that the machine has, of which the suite tells the number (CPUS). A kernel that misses some
 * would have the tests that need two skipped.
 */
#include "check.h"

int main(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    const char *told = getenv("CPUS");
    if (told)
        check(count == atol(told), "as many as the machine has", "%ld, not %s", count, told);
    for (int cpu = 0; cpu < count; cpu++) {
        char name[32];
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        snprintf(name, sizeof name, "a thread runs on CPU %d", cpu);
        int moved = sched_setaffinity(0, sizeof set, &set) == 0;
        check(moved && sched_getcpu() == cpu, name, "moved %d, on %d", moved, sched_getcpu());
    }
    return done();
}
