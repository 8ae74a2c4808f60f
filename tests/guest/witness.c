/* What random programs (`./x prove differential`) have found different from Linux: one check for each. */
#include "gate.h"
#include "registers.h"
#include "rseq.h"
#include <poll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/user.h>
#include <sys/utsname.h>

/* A page below 4 GiB and one behind it without any access. */
static unsigned char *low;

static long int80(long number, unsigned a, unsigned b, unsigned c, unsigned d)
{
    int result;
    asm volatile("int $0x80"
                 : "=a"(result)
                 : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d)
                 : "memory", "r8", "r9", "r10", "r11");
    return result;
}

/* A 32-bit siginfo of a kind that there is not, with something where no known kind has anything. */
static void unknown_siginfo(void)
{
    int *info = (int *)low;
    memset(info, 0, 128);
    info[2] = -100; /* si_code */
    info[20] = 1;
    signal(SIGUSR1, SIG_IGN);
    long result = int80(335, getpid(), getpid(), SIGUSR1, (unsigned)(uintptr_t)info);
    check(result == 0, "rt_tgsigqueueinfo, 32 bits, of an unknown kind", "%ld", result);
    result = syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR1, info);
    check(result == -1 && errno == E2BIG, "the same, 64 bits", "%ld, %s", result, strerror(errno));
}

static siginfo_t bounds_seen;

static void see_bounds(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    bounds_seen = *info;
}

/* A 32-bit siginfo with bounds: they lie behind the address and a word of nothing. */
static void siginfo_with_bounds(void)
{
    int *info = (int *)low;
    memset(info, 0, 128);
    info[2] = SEGV_BNDERR;
    info[3] = 0x1000, info[5] = 0x2000, info[6] = 0x3000;
    struct sigaction action = { .sa_sigaction = see_bounds, .sa_flags = SA_SIGINFO }, old;
    sigaction(SIGSEGV, &action, &old);
    long result = int80(335, getpid(), getpid(), SIGSEGV, (unsigned)(uintptr_t)info);
    sigaction(SIGSEGV, &old, NULL);
    check(result == 0 && bounds_seen.si_addr == (void *)0x1000 && bounds_seen.si_lower == (void *)0x2000 &&
              bounds_seen.si_upper == (void *)0x3000, "a 32-bit siginfo with bounds", "%ld: %p, %p to %p", result, bounds_seen.si_addr,
          bounds_seen.si_lower, bounds_seen.si_upper);
}

static void narrow_ids(void)
{
    static const struct {
        int number;
        const char *name;
    } calls[] = { { 165, "getresuid, 16 bits" }, { 171, "getresgid, 16 bits" } };
    for (int i = 0; i < 2; i++) {
        memset(low, 0xee, 8);
        unsigned at = (unsigned)(uintptr_t)low;
        long result = int80(calls[i].number, at, at + 2, at + 4, 0);
        unsigned short id = i ? getgid() : getuid();
        unsigned short want[] = { id, id, id, 0xeeee };
        check(result == 0 && !memcmp(low, want, 8), calls[i].name, "%ld", result);
    }
}

static void poll_of_nothing(void)
{
    long result = syscall(SYS_poll, 0xffff888000000000, 0, 0);
    check(result == -1 && errno == EFAULT, "poll of no files at a kernel address", "%ld", result);
    result = syscall(SYS_poll, low, 0, 0);
    check(result == 0, "poll of no files", "%ld", result);
}

static volatile int interruptions;

static void count_signal(int signal)
{
    (void)signal;
    interruptions++;
}

/* A call that finds nothing and has a signal to handle is interrupted, whether it waits or not. */
static void poll_with_signal(void)
{
    sigset_t blocked, before;
    struct timespec now = { 0, 0 };
    signal(SIGUSR1, count_signal);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    for (int n = 0; n < 2; n++) {
        interruptions = 0;
        raise(SIGUSR1);
        int result = n ? ppoll(NULL, 0, &now, &before) : pselect(0, NULL, NULL, NULL, &now, &before);
        check(result == -1 && errno == EINTR && interruptions == 1, n ? "ppoll without time, and a signal" : "pselect without time, and a signal",
              "%d, %s, %d signals", result, strerror(errno), interruptions);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
}

/* How a process's time is counted: there is one way. */
static void timing(void)
{
    int is = syscall(SYS_prctl, PR_GET_TIMING), same = syscall(SYS_prctl, PR_SET_TIMING, PR_TIMING_STATISTICAL);
    int other = syscall(SYS_prctl, PR_SET_TIMING, PR_TIMING_TIMESTAMP), error = errno;
    int stopped = prctl(PR_TASK_PERF_EVENTS_DISABLE), counting = prctl(PR_TASK_PERF_EVENTS_ENABLE);
    check(stopped == 0 && counting == 0, "PR_TASK_PERF_EVENTS_DISABLE and ENABLE", "%d, %d", stopped, counting);
    check(is == 0 && same == 0 && other == -1 && error == EINVAL, "PR_GET_TIMING and PR_SET_TIMING", "%d, %d, %d, %s", is, same, other, strerror(error));
}

static void filter_of_nothing(void)
{
    struct {
        unsigned short length;
        void *instructions;
    } program = { 1, NULL };
    /* Who may not have a filter hears that first. */
    long result = syscall(SYS_seccomp, 1, 0, &program);
    check(result == -1 && (errno == EINVAL || errno == EACCES), "a filter without instructions", "%ld, %s", result, strerror(errno));
}

static void pending_of_no_size(void)
{
    long result = syscall(SYS_rt_sigpending, 0xe9e843f9d6c1dc1b, 0);
    check(result == 0, "rt_sigpending of no bytes at a bad address", "%ld", result);
}

/* A bad vector is said before that nothing is mapped. */
static void residence_of_nothing(void)
{
    void *hole = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(hole, 4096);
    long result = syscall(SYS_mincore, hole, 4096, 0xffff888000000000);
    check(result == -1 && errno == EFAULT, "mincore into the kernel, of what is not mapped", "%ld, %s", result, strerror(errno));
    result = syscall(SYS_mincore, hole, 4096, low);
    check(result == -1 && errno == ENOMEM, "mincore of what is not mapped", "%ld, %s", result, strerror(errno));
}

static void advice_for_too_much(void)
{
    void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static const int advice[] = { MADV_DOFORK, MADV_KEEPONFORK, MADV_WILLNEED }; /* which change nothing */
    for (unsigned i = 0; i < sizeof advice / sizeof *advice; i++) {
        long result = syscall(SYS_madvise, page, 1ul << 62, advice[i]);
        check(result == -1 && errno == ENOMEM, "madvise beyond user memory", "advice %d: %ld, %s", advice[i], result, strerror(errno));
    }
    long result = syscall(SYS_madvise, page, -4096l, MADV_WILLNEED);
    check(result == -1 && errno == EINVAL, "madvise around the end of all addresses", "%ld, %s", result, strerror(errno));
    result = syscall(SYS_madvise, 0xffff888000000000, 0, MADV_WILLNEED);
    check(result == 0, "madvise of nothing, anywhere", "%ld, %s", result, strerror(errno));
    munmap(page, 4096);
}

static void locked_memory_discarded(void)
{
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mlock(page, 4096);
    *page = 1;
    long result = syscall(SYS_madvise, page, 4096, MADV_DONTNEED);
    check(result == -1 && errno == EINVAL && *page == 1, "MADV_DONTNEED of locked memory", "%ld, %s", result, strerror(errno));
    result = syscall(SYS_madvise, page, 4096, 24 /* MADV_DONTNEED_LOCKED, Linux 5.18 */);
    check(result == 0 && *page == 0, "MADV_DONTNEED_LOCKED", "%ld, %s", result, strerror(errno));
    munmap(page, 4096);
}

static void priority_of_nobody(void)
{
    static const char *const names[] = { "getpriority of a negative process", "getpriority of a negative group" };
    for (int which = 0; which < 2; which++) {
        long result = syscall(SYS_getpriority, which, -45);
        check(result == -1 && errno == ESRCH, names[which], "%ld, %s", result, strerror(errno));
    }
}

/* What is wrong is said in this order, and nothing is wrong with no bytes. */
static void protection_of_nothing(void)
{
    enum { UNKNOWN = 0x10200000 };
    const struct {
        const char *name;
        uintptr_t at;
        unsigned long size;
        long protection;
        int error;
    } tried[] = {
        { "mprotect of no bytes with unknown bits", 0, 0, UNKNOWN, 0 },
        { "mprotect of no bytes, not at a page", 1, 0, UNKNOWN, EINVAL },
        { "mprotect past the end of addresses", 0, -1ul, UNKNOWN, ENOMEM },
        { "mprotect with unknown bits", 0, 4096, UNKNOWN, EINVAL },
        { "mprotect with bits beyond the lower half", 0, 4096, (long)1 << 40, EINVAL },
        { "mprotect of no bytes, growing both ways", 0, 0, PROT_GROWSUP | PROT_GROWSDOWN, EINVAL },
    };
    for (int i = 0; i < (int)(sizeof tried / sizeof *tried); i++) {
        long result = syscall(SYS_mprotect, low + tried[i].at, tried[i].size, tried[i].protection);
        check(tried[i].error ? result == -1 && errno == tried[i].error : result == 0, tried[i].name, "%ld, %s", result, strerror(errno));
    }
}

SNIPPET(jump, "jmp *%rax");

/* The error code of a jump into a page that was never touched. */
static unsigned long jump_into(int protection)
{
    unsigned char *page = mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    catch_signal(SIGSEGV, 0);
    resume_at = door_return;
    randomize(&in);
    in.rax = (uint64_t)page;
    run(jump);
    munmap(page, 4096);
    return caught.err;
}

static void fetches(void)
{
    unsigned long error = jump_into(PROT_READ);
    check(error == 0x15, "a jump into a new page without execution", "error code %#lx", error);
    error = jump_into(PROT_READ | PROT_WRITE);
    check(error == 0x15, "the same, writable", "error code %#lx", error);
    error = jump_into(PROT_NONE);
    check(error == 0x14, "a jump into a page without any access", "error code %#lx", error);
}

static long sigreturn_number;
static uint64_t sigreturn_stack;

SNIPPET(return_wide, "syscall");
SNIPPET(return_narrow, "int $0x80");

static int returns(void)
{
    catch_signal(SIGSEGV, 0);
    resume_at = door_return;
    randomize(&in);
    in.rax = sigreturn_number;
    in.rsp = sigreturn_stack;
    run(sigreturn_number == SYS_rt_sigreturn ? return_wide : return_narrow);
    return 0;
}

/* A frame whose registers cannot be read and whose mask can: SIGSEGV is blocked when it is to be sent, and the process ends. In a
 * 64-bit frame the flags lie before the registers, and without them the mask does not count. */
static void torn_frames(void)
{
    memset(low + 4096, 0xff, 4096);
    mprotect(low, 4096, PROT_NONE);
    uint64_t page = (uint64_t)low + 4096;
    const struct {
        const char *name;
        long number;
        uint64_t stack;
        int status;
    } frames[] = {
        /* The mask is the last word of the 64-bit frame's context, at 8 + 296. */
        { "rt_sigreturn: the mask alone can be read", SYS_rt_sigreturn, page - 296, 0 },
        { "rt_sigreturn, 32 bits", 173, page - 16 - 128 - 20 - 88 + 4, SIGSEGV },
        { "sigreturn, 32 bits", 119, page - 80, SIGSEGV },
    };
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        sigreturn_number = frames[i].number;
        sigreturn_stack = frames[i].stack;
        int status = in_child(returns);
        check(status == frames[i].status, frames[i].name, "status %#x", status);
    }
    mprotect(low, 4096, PROT_READ | PROT_WRITE);
}

static int returns_traced(void)
{
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    return returns();
}

/* Where the registers could not be read, a tracer still sees the call. */
static void call_of_bad_frame(void)
{
    sigreturn_number = SYS_rt_sigreturn;
    sigreturn_stack = 0x7ffff000; /* nothing is there */
    int status = 0;
    struct user_regs_struct regs = { 0 };
    pid_t child = fork();
    if (child == 0)
        _exit(returns_traced());
    waitpid(child, &status, 0);
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    ptrace(PTRACE_GETREGS, child, 0, &regs);
    check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSEGV && regs.orig_rax == SYS_rt_sigreturn && regs.rax == 0, "rt_sigreturn without a frame, traced",
          "status %#x, orig_rax %llx, rax %llx", status, regs.orig_rax, regs.rax);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

SEQUENCE(trap, "int3; nop");

static int traps_in_sequence(void)
{
    static struct rseq area __attribute__((aligned(32)));
    static struct sequence sequence;
    sequence = (struct sequence){ 0, 0, (uint64_t)trap_start, trap_end - trap_start, (uint64_t)trap_abort };
    unregister_the_librarys();
    if (rseq(&area, 32, 0, SIGNATURE))
        return 2;
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    return run_trap(&area, &sequence);
}

/* A tracer's stop ends a sequence, also where the tracer has written another number: a 32-bit one that has written all registers
 * back the lower half of -1 alone. */
static void sequence_of_tracer(unsigned long number)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(traps_in_sequence());
    waitpid(child, &status, 0);
    check(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "a breakpoint in a sequence", "status %#x", status);
    ptrace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, orig_rax), number);
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    check(status == 1 << 8, "a sequence that a tracer has stopped in", "number %lx: status %#x", number, status);
}

static stack_t stack_of_handler;

/* Makes the stack that it runs on the alternate one, with the frame and without what was interrupted. */
static void change_stack(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    stack_of_handler.ss_sp = (char *)context - 8192;
    stack_of_handler.ss_size = 8192 + 64;
    sigaltstack(&stack_of_handler, NULL);
}

/* Whether a stack is in use goes by the stack pointer that rt_sigreturn is called with (since Linux 6.12), not by the one that it
 * restores: so the frame's stack does not replace the one that the handler is on. */
static void returns_from_new_stack(void)
{
    stack_t seen;
    struct utsname names;
    int major = 0, minor = 0;
    if (gate_status("violations") < 0 && uname(&names) == 0 && sscanf(names.release, "%d.%d", &major, &minor) == 2 &&
        major * 100 + minor < 612) {
        skip("the alternate stack behind a handler that is on it", "this Linux is older than 6.12");
        return;
    }
    struct sigaction action = { .sa_sigaction = change_stack, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR2);
    sigaltstack(NULL, &seen);
    check(seen.ss_sp == stack_of_handler.ss_sp, "the alternate stack behind a handler that is on it", "%p instead of %p", seen.ss_sp,
          stack_of_handler.ss_sp);
    stack_t none = { .ss_flags = SS_DISABLE };
    sigaltstack(&none, NULL);
}

int main(void)
{
    low = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    unknown_siginfo();
    siginfo_with_bounds();
    narrow_ids();
    poll_of_nothing();
    poll_with_signal();
    timing();
    pending_of_no_size();
    filter_of_nothing();
    protection_of_nothing();
    residence_of_nothing();
    advice_for_too_much();
    locked_memory_discarded();
    priority_of_nobody();
    fetches();
    torn_frames();
    call_of_bad_frame();
    sequence_of_tracer(0xffffffff);
    sequence_of_tracer(SYS_sched_yield);
    returns_from_new_stack();
    return done();
}
