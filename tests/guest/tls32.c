// build: -m32
/* Thread-local storage of 32-bit programs: three entries of the GDT, which are a task's own across switches, threads, fork
 * and clone. Bug 4 (16-bit segments of the GDT).
 */
#include "check.h"
#include <asm/ldt.h>
#include <pthread.h>
#include <sched.h>

static long set(struct user_desc *segment)
{
    return syscall(SYS_set_thread_area, segment) ? -errno : 0;
}

static struct user_desc over(unsigned entry, void *base)
{
    return (struct user_desc){ .entry_number = entry, .base_addr = (uintptr_t)base, .limit = 0xfffff, .seg_32bit = 1,
                               .limit_in_pages = 1, .useable = 1 };
}

#define SELECTOR(entry) ((entry) << 3 | 3)

static void load_fs(unsigned selector)
{
    asm volatile("mov %0, %%fs" : : "r"(selector));
}

static unsigned fs(void)
{
    unsigned selector;
    asm volatile("mov %%fs, %0" : "=r"(selector));
    return selector & 0xffff;
}

static unsigned at_fs(void)
{
    unsigned value;
    asm volatile("mov %%fs:0, %0" : "=r"(value));
    return value;
}

static unsigned cells[64];
static unsigned entries[2];

static void interface(void)
{
    unsigned own;
    asm("mov %%gs, %0" : "=r"(own));
    struct user_desc segment = over(own >> 3, NULL);
    check(syscall(SYS_get_thread_area, &segment) == 0 && segment.base_addr && segment.seg_32bit && !segment.seg_not_present,
          "the library's own entry", "entry %u, base %#x", own >> 3, segment.base_addr);
    for (int n = 0; n < 2; n++) {
        segment = over(-1, cells + n);
        long result = set(&segment);
        entries[n] = segment.entry_number;
        check(result == 0 && entries[n] >= 12 && entries[n] <= 14 && entries[n] != own >> 3, "a free entry", "result %ld, %u",
              result, entries[n]);
    }
    segment = over(-1, cells);
    check(set(&segment) == -ESRCH, "no fourth", "there is one");
    static const unsigned wrong[] = { 0, 11, 15, 8191, -2u };
    for (unsigned n = 0; n < sizeof wrong / sizeof *wrong; n++) {
        segment = over(wrong[n], cells);
        check(set(&segment) == -EINVAL, "a wrong entry", "%u taken", wrong[n]);
    }
    segment = over(entries[0], cells);
    segment.seg_32bit = 0;
    check(set(&segment) == -EINVAL, "a 16-bit segment", "taken");
    segment = over(entries[0], cells);
    segment.contents = 2;
    check(set(&segment) == -EINVAL, "code", "taken");
    segment = over(entries[0], cells);
    segment.seg_not_present = 1;
    check(set(&segment) == -EINVAL, "a segment that is not present", "taken");
    struct user_desc back = { .entry_number = entries[1] };
    segment = over(entries[1], cells + 1);
    segment.limit = 0x12345;
    segment.contents = 1;
    segment.read_exec_only = 1;
    check(set(&segment) == 0 && syscall(SYS_get_thread_area, &back) == 0 && !memcmp(&segment, &back, 13), "it is read back",
          "base %#x, limit %#x", back.base_addr, back.limit);
    segment = over(entries[1], cells + 1);
    set(&segment);
}

/* What is loaded follows the entry; a register whose entry is emptied becomes null. */
static void loaded(void)
{
    struct user_desc segment = over(entries[0], cells + 5);
    load_fs(SELECTOR(entries[0]));
    set(&segment);
    check(at_fs() == 5, "a loaded register follows its entry", "%u", at_fs());
    segment = (struct user_desc){ .entry_number = entries[0], .read_exec_only = 1, .seg_not_present = 1 };
    check(set(&segment) == 0 && fs() == 0, "and is null when there is none", "%#x", fs());
    segment = over(entries[0], cells);
    set(&segment);
    load_fs(SELECTOR(entries[0]));
}

static volatile int go;

/* Threads that share a CPU, each with its own segment behind the same selector. */
static void *own_segment(void *number)
{
    unsigned n = (uintptr_t)number, bad = 0;
    struct user_desc segment = over(entries[0], cells + n);
    if (fs() != SELECTOR(entries[0]) || at_fs() != 0)
        return (void *)1000;
    set(&segment);
    for (int round = 0; round < 200; round++) {
        bad += at_fs() != n;
        load_fs(SELECTOR(entries[1]));
        bad += at_fs() != 1;
        sched_yield();
        bad += fs() != SELECTOR(entries[1]) || at_fs() != 1;
        load_fs(SELECTOR(entries[0]));
        sched_yield();
    }
    return (void *)(uintptr_t)bad;
}

static void switches(void)
{
    cpu_set_t set_0, before;
    CPU_ZERO(&set_0);
    CPU_SET(0, &set_0);
    sched_getaffinity(0, sizeof before, &before);
    sched_setaffinity(0, sizeof set_0, &set_0);
    pthread_t threads[4];
    unsigned bad = 0;
    for (uintptr_t n = 0; n < 4; n++)
        pthread_create(&threads[n], NULL, own_segment, (void *)(n + 10));
    for (int n = 0; n < 4; n++) {
        void *result;
        pthread_join(threads[n], &result);
        bad += (uintptr_t)result;
    }
    sched_setaffinity(0, sizeof before, &before);
    check(!bad && at_fs() == 0, "each thread's entry is its own", "%u times not, here %u", bad, at_fs());
}

static int in_a_child(void)
{
    int inherited = at_fs() == 0;
    struct user_desc segment = over(entries[0], cells + 7);
    set(&segment);
    sched_yield();
    return inherited && at_fs() == 7 ? 0 : 1;
}

int main(void)
{
    for (unsigned n = 0; n < 64; n++)
        cells[n] = n;
    interface();
    loaded();
    switches();
    int status = in_child(in_a_child);
    check(status == 0 && at_fs() == 0, "a child's entries are its own", "status %#x, here %u", status, at_fs());
    return done();
}
