/* The vDSO: found by AT_SYSINFO_EHDR, its clocks between two readings of the system call's, its calls with bad clocks, no
 * pointers, and moved by mremap; and the vsyscall page, which can be called at its three entries and nothing else.
 */
#include "check.h"
#include <elf.h>
#include <link.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

#define VSYSCALL 0xffffffffff600000ul

/* The function `name` of the image at `base`, by its symbol table. */
static void *function(uintptr_t base, const char *name)
{
    const ElfW(Ehdr) *header = (void *)base;
    const ElfW(Phdr) *segments = (void *)(base + header->e_phoff);
    const ElfW(Dyn) *dynamic = NULL;
    for (int i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == PT_DYNAMIC)
            dynamic = (void *)(base + segments[i].p_offset);
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    const uint32_t *hash = NULL;
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        void *at = (void *)(base + dynamic->d_un.d_ptr);
        if (dynamic->d_tag == DT_SYMTAB)
            symbols = at;
        else if (dynamic->d_tag == DT_STRTAB)
            strings = at;
        else if (dynamic->d_tag == DT_HASH)
            hash = at;
    }
    for (uint32_t i = 0; symbols && strings && hash && i < hash[1]; i++)
        if (symbols[i].st_value && strcmp(strings + symbols[i].st_name, name) == 0)
            return (void *)(base + symbols[i].st_value);
    return NULL;
}

static int64_t nanoseconds(struct timespec at) { return at.tv_sec * 1000000000ll + at.tv_nsec; }

typedef int clock_function(clockid_t, struct timespec *);

static void clocks(uintptr_t base)
{
    clock_function *gettime = (clock_function *)function(base, "__vdso_clock_gettime");
    clock_function *getres = (clock_function *)function(base, "__vdso_clock_getres");
    if (!check(gettime && getres, "functions", "missing"))
        return;
    static const clockid_t ids[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_TAI };
    for (unsigned i = 0; i < sizeof ids / sizeof *ids; i++) {
        int ordered = 1;
        for (int round = 0; round < 1000 && ordered; round++) {
            struct timespec before, now = { 0, -1 }, after;
            syscall(SYS_clock_gettime, ids[i], &before);
            ordered = gettime(ids[i], &now) == 0 && now.tv_nsec >= 0 && now.tv_nsec < 1000000000;
            syscall(SYS_clock_gettime, ids[i], &after);
            ordered = ordered && nanoseconds(before) <= nanoseconds(now) && nanoseconds(now) <= nanoseconds(after);
        }
        char name[32];
        snprintf(name, sizeof name, "clock %d", ids[i]);
        check(ordered, name, "not between two readings of the system call");
    }
    struct timespec at;
    check(gettime(CLOCK_THREAD_CPUTIME_ID, &at) == 0, "a clock that is left to the system call", "fails");
    check(gettime(9999, &at) == -EINVAL && gettime(-1, &at) != 0, "a clock that is none", "is accepted");
    check(getres(CLOCK_MONOTONIC, NULL) == 0 && getres(9999, NULL) == -EINVAL, "clock_getres", "wrong result");
}

static void times(uintptr_t base)
{
    int (*gettimeofday_)(struct timeval *, void *) = function(base, "__vdso_gettimeofday");
    time_t (*time_)(time_t *) = function(base, "__vdso_time");
    int (*getcpu_)(unsigned *, unsigned *, void *) = function(base, "__vdso_getcpu");
    if (!check(gettimeofday_ && time_ && getcpu_, "further functions", "missing"))
        return;
    struct timeval before, now, after;
    int zone[2] = { -1, -1 };
    syscall(SYS_gettimeofday, &before, NULL);
    int result = gettimeofday_(&now, zone);
    syscall(SYS_gettimeofday, &after, NULL);
    check(result == 0 && !timercmp(&now, &before, <) && !timercmp(&now, &after, >), "gettimeofday", "out of order");
    check(gettimeofday_(NULL, NULL) == 0, "gettimeofday of nothing", "fails");
    time_t stored = -1, returned = time_(&stored);
    check(stored == returned && returned >= before.tv_sec && time_(NULL) >= returned, "time", "%ld", (long)returned);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    unsigned cpu = -1, node = -1;
    if (sched_setaffinity(0, sizeof one, &one) == 0)
        check(getcpu_(&cpu, &node, NULL) == 0 && cpu == 0 && node == 0, "getcpu", "CPU %u, node %u", cpu, node);
}

#ifdef __x86_64__
static volatile sig_atomic_t signals;
static volatile uint64_t fault_error, fault_address;
static ucontext_t resume;

static void on_segv(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info;
    ucontext_t *at = context;
    signals++;
    fault_error = at->uc_mcontext.gregs[REG_ERR];
    fault_address = at->uc_mcontext.gregs[REG_CR2];
    setcontext(&resume);
}

/* Whether `call(argument)` ends in SIGSEGV. */
static int faults(long (*call)(void *), void *argument)
{
    volatile sig_atomic_t before = signals;
    getcontext(&resume);
    if (signals == before)
        call(argument);
    return signals != before;
}

static long read_word(void *from) { return *(volatile long *)from; }

static void vsyscalls(void)
{
    char line[256];
    int executable = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        executable |= strstr(line, "[vsyscall]") && strstr(line, "--xp");
    if (maps)
        fclose(maps);
    if (!executable) {
        skip("vsyscall page", "this kernel has none that is execute-only");
        return;
    }
    struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_NODEFER };
    sigaction(SIGSEGV, &action, NULL);
    time_t now = -1, (*time_)(time_t *) = (void *)(VSYSCALL + 0x400);
    time_t before = time(NULL), result = time_(&now);
    check(now == result && result >= before && result <= before + 5, "vsyscall time", "%ld", (long)result);
    struct timeval day = { -1, -1 };
    int (*gettimeofday_)(struct timeval *, void *) = (void *)VSYSCALL;
    check(gettimeofday_(&day, NULL) == 0 && day.tv_sec >= before, "vsyscall gettimeofday", "%ld", (long)day.tv_sec);
    unsigned cpu = -1;
    int (*getcpu_)(unsigned *, void *, void *) = (void *)(VSYSCALL + 0x800);
    check(getcpu_(&cpu, NULL, NULL) == 0 && cpu < 4096, "vsyscall getcpu", "CPU %u", cpu);
    check(faults(read_word, (void *)VSYSCALL) && fault_error == 5 && fault_address == VSYSCALL, "the page cannot be read",
          "error %lx at %lx", (long)fault_error, (long)fault_address);
    check(faults((void *)(VSYSCALL + 0xc00), NULL), "there is no fourth call", "no signal");
    check(faults((void *)(VSYSCALL + 1), NULL), "nor a way in between", "no signal");
    check(faults((void *)(VSYSCALL + 0x400), (void *)16), "a bad pointer", "no signal");
    check(faults((void *)(VSYSCALL + 0x400), (void *)-4096l) && fault_error == 6 && fault_address == (uintptr_t)-4096l,
          "a pointer to the kernel", "error %lx at %lx", (long)fault_error, (long)fault_address);
}
#endif

/* In a child: the C library of a 32-bit program goes on looking for the vDSO where it was. */
static uintptr_t image;

static int move(void)
{
    long page = sysconf(_SC_PAGESIZE);
    char *to = MAP_FAILED;
    for (long size = page; size <= 4 * page && to == MAP_FAILED; size += page) {
        char *place = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        to = mremap((void *)image, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    }
    int result = to == MAP_FAILED || memcmp(to, ELFMAG, SELFMAG) != 0;
#ifdef __i386__
    __asm__ volatile("int $0x80" : : "a"(1), "b"(result));
#endif
    return result;
}

int main(void)
{
    uintptr_t base = getauxval(AT_SYSINFO_EHDR);
    if (check(base && memcmp((void *)base, ELFMAG, SELFMAG) == 0, "AT_SYSINFO_EHDR", "%lx", (long)base)) {
        clocks(base);
        times(base);
    }
#ifdef __x86_64__
    vsyscalls();
#endif
    image = base;
    if (base)
        check(in_child(move) == 0, "mremap", "the child fails");
    return done();
}
