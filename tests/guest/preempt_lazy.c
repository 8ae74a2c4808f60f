/* When its slice is over, a task in user mode makes way at once. One in the kernel is given time to get there, up to the next tick,
 * when it is preempted where it is (NEED_RESCHED_LAZY, PREEMPT_LAZY in Linux).
 */
#include "check.h"
#include <sys/mman.h>
#include <sys/random.h>

enum { GAPS = 21, BUFFER = 48 << 20, LEAST_US = 1000 };

static volatile struct {
    int count;
    uint64_t gaps[GAPS];
} *seen;

static void pin(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void spin(void)
{
    for (;;)
        ;
}

/* One call lasts for many slices. */
static void stay_in_the_kernel(void)
{
    char *buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (;;)
        getrandom(buffer, BUFFER, 0);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* For how long a task that shares the CPU with a spinning one is off it: the median. */
static uint64_t off_cpu_beside(void (*body)(void))
{
    pid_t other = fork();
    if (other == 0)
        body();
    seen->count = 0;
    for (uint64_t last = microseconds(), now; seen->count < GAPS; last = now) {
        now = microseconds();
        if (now - last > LEAST_US)
            seen->gaps[seen->count++] = now - last;
    }
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    qsort((void *)seen->gaps, GAPS, sizeof *seen->gaps, compare);
    return seen->gaps[GAPS / 2];
}

int main(void)
{
    pin();
    seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t user = off_cpu_beside(spin), kernel = off_cpu_beside(stay_in_the_kernel);
    if (access("/dev/hooks", F_OK)) {
        skip("a task in the kernel", "Linux decides it by its configuration");
        return done();
    }
    check(kernel > user + user / 2 || !steady_clock(), "a task in the kernel is not preempted by the first tick", "%llu us; one in user mode %llu us",
          (unsigned long long)kernel, (unsigned long long)user);
    check(kernel < 3 * user || !steady_clock(), "but by the second", "%llu us; one in user mode %llu us", (unsigned long long)kernel,
          (unsigned long long)user);
    return done();
}
