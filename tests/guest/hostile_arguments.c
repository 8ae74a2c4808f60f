/* Hostile arguments: every number of both system-call tables (SYSCALL, and INT 0x80 for the i386 table) with values from
 * a table of boundaries, pointers to memory of every kind and structures full of such values; forged signal frames; ELF
 * files with such values in their headers. The kernel survives it, and everything that was started can be killed.
 *
 * The calls are pseudo-random and repeatable: `hostile_arguments ROUNDS SEED` (the seed is printed). Each batch of calls
 * runs in a process of its own in a PID namespace of the test's, whose init starts it, and kills and reaps what is left.
 * Left out is what would end the test: reboot, and what changes the machine's clock.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include "check.h"

enum { BATCH = 24, NUMBERS = 464, NUMBERS32 = 464, PAGE = 4096, ARENA = 16 * PAGE };

/* What the init of the namespace and the batches share. */
static struct shared {
    volatile unsigned next;    /* the call that comes next */
    volatile unsigned made;    /* calls made */
    volatile unsigned killed;  /* batches that were killed because they did not end */
    volatile unsigned rounds;  /* rounds done */
    volatile int frames, files; /* forged frames and files tried */
    volatile int stuck;         /* processes that were left after SIGKILL */
    volatile char seen[2][NUMBERS];
} *shared;

static uint64_t seed = 0x9e3779b97f4a7c15, state;
static int verbose;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static unsigned below(unsigned limit)
{
    return (next_random() >> 33) % limit;
}

/* Reached by 32-bit pointers, too. The page after it is not mapped, the one after that is read-only. */
static unsigned char *arena;
static int files[24], file_count;
static int tracee;

static const uint64_t boundaries[] = {
    0, 1, 2, 3, 7, 8, 9, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 511, 512, 1023, 1024, 1025, 4095, 4096,
    4097, 8191, 8192, 65535, 65536, 0xfffff, 0x100000, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff,
    0x100000000, 0x100000001, 0x7ffffffff000, 0x7fffffffffff, 0x800000000000, 0xffff7fffffffffff, 0xffff800000000000,
    0xffff888000000000, 0xffffffff80000000, 0xffffffff81000000, 0xffffffffff600000, 0x3fffffffffffffff, 0x4000000000000000,
    0x7ffffffffffff000, 0x7fffffffffffffff, 0x8000000000000000, 0x8000000000000001, 0xfffffffffffff000,
    0xffffffffffffffc0, 0xfffffffffffffff0, 0xfffffffffffffff8, 0xfffffffffffffffe, 0xffffffffffffffff,
    999999999, 1000000000, 1000000001, 9223372036, 9223372037, 18446744073, 18446744074, 9223372036854775,
};
#define COUNT(array) (sizeof array / sizeof *array)

static uint64_t pointer(void)
{
    uint64_t base = (uintptr_t)arena;
    switch (below(12)) {
    case 0: return base + ARENA - 1 - below(64); /* ends in what is not mapped */
    case 1: return base + ARENA;                 /* not mapped */
    case 2: return base + ARENA + PAGE;          /* read-only */
    case 3: return base + below(ARENA);          /* unaligned */
    case 4: return base + ARENA - 8 * (1 + below(16));
    case 5: return base + ARENA + PAGE - 4;
    default: return base + 64 * below(ARENA / 64);
    }
}

static uint64_t value(void)
{
    switch (below(10)) {
    case 0:
    case 1: return pointer();
    case 2: return below(24);
    case 3: return 1ull << below(64);
    case 4: return -(uint64_t)below(200);
    case 5: return 1ull << below(32) | 1ull << below(32);
    case 6: return files[below(file_count)];
    default: return boundaries[below(COUNT(boundaries))];
    }
}

/* Paths that lead to no harm. */
static const char *const paths[] = {
    "", ".", "x", "y/../x", "/proc/self/stat", "/proc/self/mem", "/proc/self/fd/3", "/proc/self/task", "/dev/null",
};

/* Fills the memory that pointers lead to with numbers, pointers and a few paths. */
static void fill_arena(void)
{
    uint64_t words[ARENA / 8];
    for (unsigned i = 0; i < COUNT(words); i++) {
        uint64_t word = value();
        if (below(3) == 0)
            word = (uint32_t)value() | value() << 32;
        words[i] = below(3) ? word : 0;
    }
    memcpy(arena, words, sizeof words);
    for (unsigned i = 0; i < 24; i++) {
        const char *path = paths[below(COUNT(paths))];
        memcpy(arena + 64 * below(ARENA / 64 - 1), path, strlen(path) + 1);
    }
}

/* Arguments that choose what a call does, by call: a call reaches little with others. */
struct choice {
    short number, number32, argument;
    unsigned first, count;
};
static const struct choice choices[] = {
    { SYS_ioctl, 54, 1, 0x5400, 0x60 },
    { SYS_fcntl, 55, 1, 0, 16 },
    { SYS_fcntl, 221, 1, 1024, 16 },
    { SYS_futex, 240, 1, 0, 14 },
    { SYS_futex, 422, 1, 128, 14 },
    { SYS_prctl, 172, 0, 1, 70 },
    { SYS_arch_prctl, 384, 0, 0x1000, 32 },
    { SYS_ptrace, 26, 0, 0x4200, 20 },
    { SYS_ptrace, 26, 0, 0, 34 },
    { SYS_madvise, 219, 2, 0, 26 },
    { SYS_modify_ldt, 123, 0, 0, 18 },
    { SYS_clock_gettime, 265, 0, 0, 14 },
    { SYS_clock_nanosleep, 267, 0, 0, 14 },
    { SYS_timer_create, 259, 0, 0, 14 },
    { SYS_timer_settime, 260, 0, 0, 4 },
    { SYS_seccomp, 354, 0, 0, 4 },
    { SYS_getrlimit, 76, 0, 0, 17 },
    { SYS_setrlimit, 75, 0, 0, 17 },
    { SYS_prlimit64, 340, 1, 0, 17 },
    { SYS_membarrier, 375, 0, 0, 0x201 },
    { SYS_getrusage, 77, 0, -2, 5 },
    { SYS_epoll_ctl, 255, 1, 0, 4 },
    { SYS_lseek, 19, 2, 0, 6 },
    { SYS_kcmp, 349, 2, 0, 9 },
    { SYS_waitid, 284, 0, 0, 5 },
    { SYS_setitimer, 104, 0, 0, 4 },
};

/* Calls whose argument is a process, by the argument. The namespace's init runs the test: it is spared. */
static const short takes_pid[][3] = {
    { SYS_kill, 37, 0 }, { SYS_tkill, 238, 0 }, { SYS_tgkill, 270, 0 }, { SYS_tgkill, 270, 1 }, { SYS_ptrace, 26, 1 },
    { SYS_prlimit64, 340, 0 }, { SYS_process_vm_writev, 348, 0 }, { SYS_process_vm_readv, 347, 0 },
    { SYS_rt_sigqueueinfo, 178, 0 }, { SYS_rt_tgsigqueueinfo, 335, 0 }, { SYS_rt_tgsigqueueinfo, 335, 1 },
    { SYS_setpgid, 57, 0 }, { SYS_sched_setaffinity, 241, 0 }, { SYS_sched_setparam, 154, 0 },
    { SYS_sched_setscheduler, 156, 0 }, { SYS_setpriority, 97, 1 }, { SYS_kcmp, 349, 0 }, { 434, 434, 0 },
    { SYS_get_robust_list, 312, 0 }, { SYS_getpgid, 132, 0 }, { SYS_wait4, 114, 0 }, { 314, 351, 0 },
};

static int left_out(int narrow, unsigned number)
{
    static const short wide[] = { SYS_reboot, SYS_exit, SYS_exit_group, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex,
        SYS_clock_adjtime, SYS_rt_sigreturn, SYS_kexec_load, SYS_syslog, SYS_sethostname, SYS_setdomainname };
    static const short thin[] = { 88, 1, 252, 79, 264, 404, 25, 124, 343, 405, 119, 173, 283, 103, 74, 121 };
    const short *list = narrow ? thin : wide;
    for (unsigned i = 0; i < (narrow ? COUNT(thin) : COUNT(wide)); i++)
        if (list[i] == (int)number)
            return 1;
    return 0;
}

/* Makes the call. A task that it makes (RAX 0 where `makes_tasks`) ends at once, on whatever stack it has. */
static long call(int narrow, uint64_t number, const uint64_t a[6], int makes_tasks)
{
    long result = number;
    if (narrow) {
        asm volatile("push %%rbp\n\tpush %%r12\n\tmov %[tasks], %%r12d\n\tmov 40(%[a]), %%rbp\n\tmov (%[a]), %%rbx\n\t"
                     "mov 8(%[a]), %%rcx\n\tmov 16(%[a]), %%rdx\n\tmov 24(%[a]), %%rsi\n\tmov 32(%[a]), %%rdi\n\t"
                     "int $0x80\n\t"
                     "test %%r12d, %%r12d\n\tjz 1f\n\ttest %%eax, %%eax\n\tjnz 1f\n\tmov $60, %%eax\n\txor %%edi, %%edi\n\tsyscall\n\t"
                     "1: pop %%r12\n\tpop %%rbp"
                     : "+a"(result)
                     : [a] "r"(a), [tasks] "r"(makes_tasks)
                     : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    } else {
        asm volatile("push %%rbp\n\tpush %%r12\n\tmov %[tasks], %%r12d\n\tmov (%[a]), %%rdi\n\t"
                     "mov 8(%[a]), %%rsi\n\tmov 16(%[a]), %%rdx\n\tmov 24(%[a]), %%r10\n\tmov 32(%[a]), %%r8\n\t"
                     "mov 40(%[a]), %%r9\n\tsyscall\n\t"
                     "test %%r12d, %%r12d\n\tjz 1f\n\ttest %%eax, %%eax\n\tjnz 1f\n\tmov $60, %%eax\n\txor %%edi, %%edi\n\tsyscall\n\t"
                     "1: pop %%r12\n\tpop %%rbp"
                     : "+a"(result)
                     : [a] "r"(a), [tasks] "r"(makes_tasks)
                     : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
    }
    return result;
}

static void on_alarm(int signo)
{
    (void)signo;
}

static void open_files(void)
{
    static const char *const names[] = { "/dev/null", "/dev/zero", "/proc/self/stat", "/proc/self/mem", "/proc/self/maps",
        "/proc/self", "/proc/self/oom_score_adj", "/proc/self/comm", "/proc/self/uid_map", "/dev/tty", "." };
    int pair[2];
    file_count = 0;
    for (unsigned i = 0; i < COUNT(names); i++) {
        int file = open(names[i], O_RDWR | O_NONBLOCK);
        if (file < 0)
            file = open(names[i], O_RDONLY | O_NONBLOCK);
        if (file >= 0)
            files[file_count++] = file;
    }
    if (pipe2(pair, O_NONBLOCK) == 0)
        files[file_count++] = pair[0], files[file_count++] = pair[1];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0)
        files[file_count++] = pair[0], files[file_count++] = pair[1];
    sigset_t all;
    sigfillset(&all);
    int more[] = { eventfd(3, EFD_NONBLOCK), epoll_create1(0), memfd_create("x", 0), signalfd(-1, &all, SFD_NONBLOCK) };
    for (unsigned i = 0; i < COUNT(more); i++)
        if (more[i] >= 0)
            files[file_count++] = more[i];
}

static void prepare(void)
{
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    if (!verbose)
        dup2(null, 2);
    arena = mmap(NULL, ARENA + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    mprotect(arena + ARENA + PAGE, PAGE, PROT_READ);
    munmap(arena + ARENA, PAGE);
    open_files();
    struct sigaction action = { .sa_handler = on_alarm };
    sigaction(SIGALRM, &action, NULL);
    /* What blocks is interrupted. */
    struct itimerval soon = { { 0, 3000 }, { 0, 3000 } };
    setitimer(ITIMER_REAL, &soon, NULL);
}

static void start_tracee(void)
{
    tracee = fork();
    if (tracee == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        for (;;)
            raise(SIGSTOP);
    }
    waitpid(tracee, NULL, 0);
}

static void one_call(unsigned index)
{
    state = seed ^ (index + 1) * 0x9e3779b97f4a7c15;
    next_random();
    int narrow = index & 1;
    unsigned number = index / 2 * 37 % NUMBERS; /* 37 and the count have no common factor */
    if (left_out(narrow, number)) {
        shared->next = index + 1;
        return;
    }
    fill_arena();
    uint64_t a[6];
    for (int i = 0; i < 6; i++)
        a[i] = value();
    for (unsigned i = 0; i < COUNT(choices); i++) {
        const struct choice *choice = &choices[i];
        if ((narrow ? choice->number32 : choice->number) == (int)number && below(3))
            a[choice->argument] = choice->first + below(choice->count);
    }
    if (below(2))
        a[0] = below(2) ? (uint64_t)files[below(file_count)] : a[0];
    for (unsigned i = 0; i < COUNT(takes_pid); i++) {
        if (takes_pid[i][narrow] != (int)number)
            continue;
        uint64_t *pid = &a[takes_pid[i][2]];
        if ((uint32_t)*pid == 1 || below(2))
            *pid = below(2) ? tracee : getpid();
    }
    /* A group whose leader is the init would be signalled by 0. */
    int makes_tasks = narrow ? number == 2 || number == 120 || number == 190 || number == 435
                             : number == SYS_fork || number == SYS_vfork || number == SYS_clone || number == 435;
    if (verbose > 1)
        dprintf(2, "%u: %s %u (%#lx, %#lx, %#lx, %#lx, %#lx, %#lx)\n", index, narrow ? "int80" : "syscall", number, a[0],
            a[1], a[2], a[3], a[4], a[5]);
    shared->seen[narrow][number] = 1;
    shared->made++;
    shared->next = index + 1;
    call(narrow, number, a, makes_tasks);
}

/* rt_sigreturn and sigreturn on a stack of such values. */
static void forged_frame(unsigned index)
{
    state = seed ^ (index + 1) * 0xbf58476d1ce4e5b9;
    next_random();
    fill_arena();
    shared->frames++;
    uint64_t stack = pointer();
    switch (index % 3) {
    case 0: asm volatile("mov %0, %%rsp\n\tsyscall" : : "r"(stack), "a"(SYS_rt_sigreturn) : "memory"); break;
    case 1: asm volatile("mov %0, %%rsp\n\tint $0x80" : : "r"(stack), "a"(173) : "memory"); break;
    case 2: asm volatile("mov %0, %%rsp\n\tint $0x80" : : "r"(stack), "a"(119) : "memory"); break;
    }
    _exit(0);
}

/* A new program from a file with such values in its headers: a small one, that only ends. */
static void forged_file(unsigned index)
{
    static const unsigned char code[] = { 0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05 };
    unsigned char image[2 * PAGE] = { 0 };
    state = seed ^ (index + 1) * 0x94d049bb133111eb;
    next_random();
    shared->files++;
    Elf64_Ehdr *header = (void *)image;
    Elf64_Phdr *segments = (void *)(image + sizeof *header);
    *header = (Elf64_Ehdr){ .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 }, .e_type = below(2) ? ET_EXEC : ET_DYN,
        .e_machine = EM_X86_64, .e_version = 1, .e_entry = 0x401000, .e_phoff = sizeof *header, .e_ehsize = sizeof *header,
        .e_phentsize = sizeof *segments, .e_phnum = 4 };
    static const unsigned types[] = { PT_LOAD, PT_LOAD, PT_GNU_STACK, PT_TLS, PT_INTERP, PT_PHDR, PT_NOTE };
    for (int i = 0; i < 4; i++)
        segments[i] = (Elf64_Phdr){ .p_type = i < 2 ? PT_LOAD : types[below(COUNT(types))], .p_flags = 7, .p_offset = i == 1 ? 0 : PAGE,
            .p_vaddr = 0x401000 + i * 0x10000, .p_filesz = sizeof code, .p_memsz = PAGE, .p_align = PAGE };
    memcpy(image + PAGE, code, sizeof code);
    if (index & 1) {
        /* The 32-bit form, read by the other half of the loader. */
        Elf32_Ehdr *narrow = (void *)image;
        Elf32_Phdr *parts = (void *)(image + sizeof *narrow);
        memset(image, 0, PAGE);
        *narrow = (Elf32_Ehdr){ .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, 1 }, .e_type = below(2) ? ET_EXEC : ET_DYN,
            .e_machine = EM_386, .e_version = 1, .e_entry = 0x401000, .e_phoff = sizeof *narrow, .e_ehsize = sizeof *narrow,
            .e_phentsize = sizeof *parts, .e_phnum = 4 };
        for (int i = 0; i < 4; i++)
            parts[i] = (Elf32_Phdr){ .p_type = i < 2 ? PT_LOAD : types[below(COUNT(types))], .p_flags = 7, .p_offset = i == 1 ? 0 : PAGE,
                .p_vaddr = 0x401000 + i * 0x10000, .p_filesz = sizeof code, .p_memsz = PAGE, .p_align = PAGE };
    }
    for (unsigned changes = 1 + below(3); changes; changes--) {
        uint64_t with = below(4) ? boundaries[below(COUNT(boundaries))] : next_random();
        unsigned size = 2 << below(3), at = below((sizeof *header + 4 * sizeof *segments - 16) / size) * size;
        if (at >= 16)
            memcpy(image + at, &with, size);
    }
    int file = memfd_create("forged", 0);
    if (write(file, image, sizeof image) != sizeof image)
        _exit(9);
    char *arguments[] = { "forged", NULL };
    syscall(SYS_execveat, file, "", arguments, arguments + 1, AT_EMPTY_PATH);
    _exit(0);
}

static int is_over(unsigned limit)
{
    return shared->next >= limit;
}

static void batch(unsigned kind, unsigned limit)
{
    prepare();
    if (kind == 1)
        forged_frame(shared->next++);
    if (kind == 2)
        forged_file(shared->next++);
    start_tracee();
    for (int i = 0; i < BATCH && !is_over(limit); i++)
        one_call(shared->next);
    _exit(0);
}

/* The namespace's init: runs batches, one after the other, and ends what they leave. */
static void run_batches(unsigned kind, unsigned limit)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    shared->next = 0;
    while (!is_over(limit)) {
        pid_t worker = fork();
        if (worker == 0) {
            sigset_t none;
            sigemptyset(&none);
            sigprocmask(SIG_SETMASK, &none, NULL);
            setpgid(0, 0);
            batch(kind, limit);
        }
        struct timespec patience = { 0, 300000000 };
        int status, ended = 0;
        for (int tries = 0; worker > 0 && tries < 8 && !ended; tries++) {
            ended = waitpid(worker, &status, WNOHANG) == worker;
            if (!ended && sigtimedwait(&child, NULL, &patience) < 0 && errno == EAGAIN)
                break;
        }
        shared->killed += !ended;
        (kill)(-1, SIGKILL);
        while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
            ;
    }
}

static int as_init(unsigned rounds)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    run_batches(1, 12 * rounds);
    run_batches(2, 24 * rounds);
    run_batches(0, 2 * NUMBERS * rounds);
    return 0;
}

/* Arguments of which each was an overflow, an index or an endless loop somewhere. */
static int exit_signals(void)
{
    static const unsigned numbers[] = { 0, 1, 64, 65, 66, 127, 128, 200, 254, 255 };
    for (unsigned i = 0; i < COUNT(numbers); i++) {
        signal(numbers[i], SIG_IGN);
        int status = -1;
        long child = syscall(SYS_clone, (long)numbers[i], 0, 0, 0, 0);
        if (child == 0)
            _exit(7);
        if (waitpid(child, &status, __WALL) != child || status != 7 << 8)
            return 1 + i;
    }
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } arguments = { .exit_signal = 65 };
    return syscall(435, &arguments, sizeof arguments) == -1 && errno == EINVAL ? 0 : 99;
}

static int skipped_source(void)
{
    int null = open("/dev/null", O_WRONLY);
    /* Linux looks at the range first, we at what is moved. */
    syscall(SYS_write, null, -8L, 4096);
    return syscall(SYS_write, null, 16L, 4096) != 4096;
}

static int owners(void)
{
    struct {
        int type, pid;
    } owner = { 2 /* F_OWNER_PGRP */, INT32_MIN };
    int ends[2];
    if (pipe(ends))
        return 1;
    if (fcntl(ends[0], F_SETOWN, INT32_MIN) != -1 || errno != EINVAL)
        return 2;
    return fcntl(ends[0], 15 /* F_SETOWN_EX */, &owner) != -1 || errno != ESRCH;
}

static volatile int alarms;

static void count_alarm(int signo)
{
    (void)signo;
    alarms++;
}

static int endless_periods(void)
{
    for (int timer = 0; timer < 3; timer++) {
        static const int signals[] = { SIGALRM, SIGVTALRM, SIGPROF };
        struct itimerval value = { { INT64_MAX / 1000, 0 }, { 0, 1 } }, huge = { { INT64_MAX, 999999 }, { INT64_MAX, 999999 } };
        signal(signals[timer], count_alarm);
        alarms = 0;
        if (setitimer(timer, &huge, NULL) || setitimer(timer, &value, NULL))
            return 10 + timer;
        while (!alarms)
            ;
        if (getitimer(timer, &huge) || huge.it_value.tv_sec <= 0)
            return 20 + timer;
        value = (struct itimerval){ 0 };
        setitimer(timer, &value, NULL);
    }
    struct timespec never = { INT64_MAX, 999999999 };
    alarms = 0;
    struct itimerval soon = { { 0, 1000 }, { 0, 1000 } };
    setitimer(ITIMER_REAL, &soon, NULL);
    if (nanosleep(&never, &never) != -1 || errno != EINTR || never.tv_sec < INT64_MAX / 1000000000 - 100000000)
        return 30;
    return 0;
}

static int endless_day(void)
{
    struct timespec day = { INT64_MAX / 1000000000, 0 };
    struct timeval other = { INT64_MAX, 0 };
    /* Who may not set the clock gets EPERM, perhaps before the value is looked at. */
    if (clock_settime(CLOCK_REALTIME, &day) != -1 || (errno != EINVAL && errno != EPERM))
        return 1;
    return settimeofday(&other, NULL) != -1 || (errno != EINVAL && errno != EPERM);
}

static int endless_hole(void)
{
    int file = memfd_create("x", 0);
    char byte = 'x';
    if (pwrite(file, &byte, 1, 5000) != 1 || pwrite(file, &byte, 1, 9000) != 1)
        return 1;
    if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4999, INT64_MAX - 4999))
        return 2;
    return pread(file, &byte, 1, 5000) != 1 || byte != 0 || pread(file, &byte, 1, 9000) != 1 || byte != 0;
}

static int endless_files(void)
{
    struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
    /* Some sandboxes have no such limit. */
    if ((setrlimit(RLIMIT_NOFILE, &limit) != -1 || errno != EPERM) && access("/dev/gate", F_OK) == 0)
        return 1;
    if (syscall(SYS_poll, NULL, 0xfffffffful, 0) != -1 || (errno != EINVAL && errno != EFAULT))
        return 2;
    /* The number is an int. */
    return syscall(SYS_poll, NULL, 1ul << 60, 0) != 0;
}

/* A 32-bit program that may be anywhere and is linked above where such programs go: its base is below zero. */
static int linked_high(void)
{
    static const unsigned char code[] = { 0xb8, 1, 0, 0, 0, 0xbb, 7, 0, 0, 0, 0xcd, 0x80 };
    unsigned char image[PAGE] = { 0 };
    Elf32_Ehdr *header = (void *)image;
    Elf32_Phdr *segment = (void *)(header + 1);
    *header = (Elf32_Ehdr){ .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, 1 }, .e_type = ET_DYN, .e_machine = EM_386,
        .e_version = 1, .e_entry = 0x90000080, .e_phoff = sizeof *header, .e_ehsize = sizeof *header,
        .e_phentsize = sizeof *segment, .e_phnum = 1 };
    *segment = (Elf32_Phdr){ .p_type = PT_LOAD, .p_flags = 7, .p_vaddr = 0x90000000, .p_filesz = PAGE, .p_memsz = PAGE, .p_align = PAGE };
    memcpy(image + 0x80, code, sizeof code);
    int file = memfd_create("high", 0);
    char *arguments[] = { "high", NULL };
    if (write(file, image, sizeof image) != sizeof image)
        return 1;
    syscall(SYS_execveat, file, "", arguments, arguments + 1, AT_EMPTY_PATH);
    return 2;
}

static void directed(void)
{
    static const struct {
        const char *name;
        int (*body)(void);
        int status;
    } cases[] = {
        { "clone: an exit signal that is none sends none, and the child can be waited for", exit_signals, 0 },
        { "write to /dev/null: from where there is nothing", skipped_source, 0 },
        { "F_SETOWN, F_SETOWN_EX: INT_MIN", owners, 0 },
        { "setitimer: a period that never ends", endless_periods, 0 },
        { "clock_settime: the end of time", endless_day, 0 },
        { "fallocate: a hole as long as files can be", endless_hole, 0 },
        { "setrlimit, poll: more files than there can be", endless_files, 0 },
        { "execve: a 32-bit program linked high", linked_high, 7 << 8 },
    };
    for (unsigned i = 0; i < COUNT(cases); i++) {
        int status = in_child(cases[i].body);
        check(status == cases[i].status, cases[i].name, "status %#x", status);
    }
}

int main(int count, char **arguments)
{
    unsigned rounds = count > 1 ? atoi(arguments[1]) : 3;
    if (count > 2)
        seed = strtoull(arguments[2], NULL, 0);
    verbose = count > 3 ? atoi(arguments[3]) : 0;
    printf("seed %#lx, %u rounds\n", seed, rounds);
    fflush(stdout);
    mkdir("/tmp", 0777);
    char place[] = "/tmp/hostile-XXXXXX";
    /* Elsewhere than in the reference kernel, the machine is not the test's. */
    if (access("/dev/gate", F_OK) != 0 && getuid() == 0 && (setgid(65534) || setuid(65534)))
        return 9;
    if (!mkdtemp(place) || chdir(place))
        return 9;
    directed();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (unshare(CLONE_NEWPID) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
        skip("hostile arguments", "no PID namespace: %s", strerror(errno));
        return done();
    }
    pid_t init = fork();
    if (init == 0)
        _exit(as_init(rounds));
    int status = -1;
    waitpid(init, &status, 0);
    int missing = 0;
    for (unsigned number = 0; number < NUMBERS; number++)
        for (int narrow = 0; narrow < 2; narrow++)
            missing += !shared->seen[narrow][number] && !left_out(narrow, number);
    check(status == 0, "hostile arguments: the init of the namespace lives to the end", "status %#x after %u calls", status,
        shared->made);
    check(missing == 0, "hostile arguments: each number of both tables was called", "%d not", missing);
    check(shared->frames >= 12 * (int)rounds, "hostile signal frames: all were tried", "%d", shared->frames);
    check(shared->files >= 24 * (int)rounds, "hostile program files: all were tried", "%d", shared->files);
    printf("%u calls, %u batches killed\n", shared->made, shared->killed);
    fflush(stdout);
    return done();
}
