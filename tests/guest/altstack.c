/* Bug 27: an unusable alternate signal stack panics the kernel. Here it is inaccessible, too small, null, or a kernel
 * address, and the task dies of SIGSEGV; and the rules of sigaltstack hold.
 */
#include "registers.h"
#include <sched.h>
#include <setjmp.h>
#include <sys/auxv.h>

SNIPPET(breakpoint, "int3");

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static unsigned char *area; /* PROT_NONE, then 32 KiB, then PROT_NONE */
enum { AREA = 32768 };

static void *stack_base;
static size_t stack_size;

/* Takes a signal on that stack; exits with 0 if the handler ran. */
static int take_signal(void)
{
    stack_t stack = { .ss_sp = stack_base, .ss_size = stack_size };
    catch_signal(SIGTRAP, 0);
    catch_signal(SIGSEGV, 0); /* on the same stack: no way to handle that either */
    if (sigaltstack(&stack, NULL))
        return 2;
    run(breakpoint);
    return caught.count == 1 ? 0 : 3;
}

static void unusable(const char *name, void *base, size_t size)
{
    stack_base = base;
    stack_size = size;
    int status = in_child(take_signal);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, name, "status %#x", status);
}

static void unusable_stacks(void)
{
    unusable("inaccessible", area - 16384, 16384);
    unusable("partly inaccessible", area - 65536, 65536 + 256);
    unusable("null", (void *)0, 16384);
    unusable("a kernel address", (void *)0xffff888000000000, 16384);
    unusable("non-canonical", (void *)0x8000000000000000, 16384);
    unusable("wrapping around", (void *)-8192ul, 16384);
    stack_base = area;
    stack_size = 16384;
    int status = in_child(take_signal);
    check(status == 0, "a usable one", "status %#x", status);
    /* The least size the C library knows may be too small for this processor's registers; the kernel says. */
    size_t needed = getauxval(51); /* AT_MINSIGSTKSZ */
    stack_size = 2048;
    status = in_child(take_signal);
    check(status == 0 ? needed <= 2048 : WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
          "of the least size: works, or SIGSEGV", "status %#x, the kernel needs %zu", status, needed);
    if (needed) {
        stack_size = needed + 256 > 2048 ? needed + 256 : 2048;
        status = in_child(take_signal);
        check(status == 0, "of the size AT_MINSIGSTKSZ says", "status %#x for %zu", status, needed);
    }
}

static void expect_error(const char *name, const stack_t *stack, int error)
{
    errno = 0;
    int result = sigaltstack(stack, NULL);
    check(error ? result == -1 && errno == error : result == 0, name, "%d, %s", result, strerror(errno));
}

static void rules(void)
{
    stack_t old = { 0 };
    stack_t none = { .ss_flags = SS_DISABLE };
    sigaltstack(&none, NULL);
    check(sigaltstack(NULL, &old) == 0 && old.ss_flags == SS_DISABLE, "none at first", "flags %#x", old.ss_flags);
    expect_error("smaller than the least size", &(stack_t){ .ss_sp = area, .ss_size = 2047 }, ENOMEM);
    expect_error("unknown flags", &(stack_t){ .ss_sp = area, .ss_size = 16384, .ss_flags = 0x40 }, EINVAL);
    expect_error("SS_ONSTACK as a flag", &(stack_t){ .ss_sp = area, .ss_size = 16384, .ss_flags = SS_ONSTACK }, 0);
    expect_error("a bad pointer", (stack_t *)8, EFAULT);
    expect_error("set", &(stack_t){ .ss_sp = area, .ss_size = 16384 }, 0);
    check(sigaltstack(NULL, &old) == 0 && old.ss_sp == area && old.ss_size == 16384 && old.ss_flags == 0, "read back",
          "%p, %zu, %#x", old.ss_sp, old.ss_size, old.ss_flags);
    int same = sigaltstack(NULL, (stack_t *)8);
    check(same == -1 && errno == EFAULT, "a bad pointer for the old one", "%d", same);
}

static volatile int depth, error_inside, flags_inside, result_inside;
static volatile uint64_t levels[4];

static void nested(int signal)
{
    char here;
    stack_t now = { 0 }, other = { .ss_sp = area + 16384, .ss_size = 16384 };
    (void)signal;
    levels[depth++] = (uint64_t)&here;
    sigaltstack(NULL, &now);
    int result = sigaltstack(&other, NULL);
    if (depth == 1) {
        flags_inside = now.ss_flags;
        result_inside = result;
        error_inside = errno;
    }
    if (depth < 3)
        raise(SIGUSR1);
}

static void on_handler(const char *name, unsigned long flags, unsigned stack_flags)
{
    struct sigaction action = { .sa_handler = nested, .sa_flags = SA_ONSTACK | SA_NODEFER | flags };
    stack_t stack = { .ss_sp = area, .ss_size = 16384, .ss_flags = stack_flags }, after = { 0 };
    sigaction(SIGUSR1, &action, NULL);
    sigaltstack(&stack, NULL);
    depth = 0;
    raise(SIGUSR1);
    sigaltstack(NULL, &after);
    int inside = levels[0] > (uint64_t)area && levels[0] < (uint64_t)area + 16384;
    check(depth == 3 && inside, name, "depth %d, %#lx", depth, levels[0]);
    check(after.ss_sp == area && after.ss_size == 16384 && after.ss_flags == (int)stack_flags,
          "the stack is set again afterwards", "%p, %#x", after.ss_sp, after.ss_flags);
    if (stack_flags) {
        /* Disarmed in the handler, which may set another: the next signal goes there, the third wherever. */
        check(result_inside == 0, "SS_AUTODISARM: another can be set in the handler", "%d", error_inside);
        check(levels[1] > (uint64_t)area + 16384 && levels[1] < (uint64_t)area + AREA, "and is used", "%#lx", levels[1]);
    } else {
        check(flags_inside == SS_ONSTACK, "SS_ONSTACK is reported in the handler", "%#x", flags_inside);
        check(result_inside == -1 && error_inside == EPERM, "EPERM while on it", "%d", error_inside);
        check(levels[1] < levels[0] && levels[2] < levels[1] && levels[2] > (uint64_t)area,
              "a nested signal goes on below", "%#lx, %#lx, %#lx", levels[0], levels[1], levels[2]);
    }
}

/* On the alternate stack already, with no room for another frame: no frame may be written below it. */
static int exhaust(void)
{
    stack_t stack = { .ss_sp = area, .ss_size = AREA };
    struct sigaction action = { .sa_handler = nested, .sa_flags = SA_ONSTACK | SA_NODEFER };
    sigaction(SIGSEGV, &action, NULL);
    catch_signal(SIGTRAP, SA_NODEFER);
    sigaltstack(&stack, NULL);
    randomize(&in);
    in.rsp = (uint64_t)area + 512;
    run(breakpoint);
    return 1;
}

static volatile sig_atomic_t overflows;
static sigjmp_buf recovery;

static void recover(int signal)
{
    (void)signal;
    overflows++;
    siglongjmp(recovery, 1);
}

static int __attribute__((noinline)) overflow(volatile char *above)
{
    volatile char frame[4096];
    frame[0] = above[0] + 1;
    return overflows < 2 ? overflow(frame) + frame[0] : 0;
}

/* The main reason for alternate stacks. */
static int stack_overflow(void)
{
    struct sigaction action = { .sa_handler = recover, .sa_flags = SA_ONSTACK };
    stack_t stack = { .ss_sp = area, .ss_size = 16384 };
    sigaction(SIGSEGV, &action, NULL);
    sigaltstack(&stack, NULL);
    for (int i = 0; i < 2; i++)
        if (sigsetjmp(recovery, 1) == 0)
            return overflow((char[]){ 0 });
    return overflows == 2 ? 0 : 1;
}

static int child_has_it(void)
{
    stack_t old = { 0 };
    sigaltstack(NULL, &old);
    return !(old.ss_sp == area && old.ss_size == 16384);
}

static int thread_has_none(void *unused)
{
    stack_t old = { 0 };
    (void)unused;
    syscall(SYS_sigaltstack, NULL, &old);
    syscall(SYS_exit, old.ss_flags != SS_DISABLE);
    return 1;
}

static void inheritance(void)
{
    stack_t stack = { .ss_sp = area, .ss_size = 16384 };
    sigaltstack(&stack, NULL);
    int status = in_child(child_has_it);
    check(status == 0, "fork keeps it", "status %#x", status);
    pid_t child = clone(thread_has_none, area + AREA, CLONE_VM | SIGCHLD, NULL);
    waitpid(child, &status, 0);
    check(status == 0, "a task that shares memory starts without", "status %#x", status);
}

int main(void)
{
    area = mmap(NULL, AREA + 2 * 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    area += 65536;
    mprotect(area, AREA, PROT_READ | PROT_WRITE);
    unusable_stacks();
    rules();
    on_handler("nested handlers", 0, 0);
    on_handler("nested handlers with SS_AUTODISARM", 0, SS_AUTODISARM);
    inheritance();
    int status = in_child(exhaust);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "no room left on it", "status %#x", status);
    status = in_child(stack_overflow);
    check(status == 0, "recovery from stack overflow, twice", "status %#x", status);
    return done();
}
