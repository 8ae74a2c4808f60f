/* A task that wakes up gets the CPU from one that has run long, and does not wait for the end of its slice; others are not
 * starved by it. Judged by the work that spinning tasks get done, not by clocks.
 */
#include "check.h"
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* What a spinning task tells, in a cache line of its own. */
static volatile struct line {
    uint64_t work, asked, told_work, told_switches;
    char rest[32];
} *lines;

static void pin(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static pid_t spinner(volatile struct line *line)
{
    pid_t child = fork();
    if (child != 0)
        return child;
    for (uint64_t told = 0;;) {
        line->work++;
        if (line->asked != told) {
            struct rusage usage;
            getrusage(RUSAGE_SELF, &usage);
            line->told_work = line->work;
            line->told_switches = usage.ru_nivcsw;
            told = line->asked;
            line->asked = ++told;
        }
    }
}

/* Works for so long, then sleeps, again and again. */
static pid_t worker(volatile struct line *line, uint64_t work)
{
    pid_t child = fork();
    if (child != 0)
        return child;
    for (;;) {
        for (uint64_t n = 0; n < work; n++)
            line->work++;
        struct timespec moment = { 0, 200000 };
        nanosleep(&moment, NULL);
    }
}

static void ask(volatile struct line *line)
{
    uint64_t before = line->asked;
    line->asked = before + 1;
    while (line->asked != before + 2)
        usleep(1000);
}

static void finish(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

int main(void)
{
    enum { ROUNDS = 300 };
    pin();
    lines = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t first = spinner(&lines[0]), second = spinner(&lines[1]);
    /* How much work a spinning task does before the other gets the CPU. */
    uint64_t switches = 0, work = 0;
    for (int n = 0; switches < 40; n++) {
        usleep(50000);
        ask(&lines[0]);
        ask(&lines[1]);
        switches = lines[0].told_switches + lines[1].told_switches;
        work = lines[0].told_work + lines[1].told_work;
    }
    uint64_t slice = work / switches;
    uint64_t before[] = { lines[0].work, lines[1].work };
    for (int n = 0; n < ROUNDS; n++) {
        struct timespec moment = { 0, 200000 };
        nanosleep(&moment, NULL);
    }
    uint64_t done_by[] = { lines[0].work - before[0], lines[1].work - before[1] };
    uint64_t round = (done_by[0] + done_by[1]) / ROUNDS;
    check(round < slice, "a sleeper does not wait for the end of a slice", "%lu units of work in each of its rounds, %lu in a slice",
          round, slice);
    check(done_by[0] > 0 && done_by[1] > 0, "both spinning tasks run meanwhile", "%lu and %lu", done_by[0], done_by[1]);
    finish(second);
    /* One that works for half a slice whenever it wakes up, beside one that spins: each has a share. */
    volatile struct line *busy = &lines[2];
    pid_t third = worker(busy, slice / 2);
    while (busy->work == 0)
        usleep(1000);
    uint64_t spun = lines[0].work, worked = busy->work;
    while (busy->work - worked < 40 * slice)
        usleep(20000);
    spun = lines[0].work - spun;
    worked = busy->work - worked;
    check(spun > worked / 8, "one that works when it wakes up does not starve one that spins", "%lu units, and %lu of it", spun, worked);
    finish(third);
    finish(first);
    return done();
}
