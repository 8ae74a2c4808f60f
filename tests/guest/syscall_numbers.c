/* Bugs 10 and 43: a system-call number that is unknown, negative, huge or random gives ENOSYS through the ordinary way
 * out, and nothing else happens. As on Linux, the low 32 bits of RAX are the number. Row 34: RAX that looks like a
 * restart code at an interrupt or an exception is no restart.
 */
#include "registers.h"
#include <sys/time.h>

SNIPPET(enter_kernel, "syscall");
SNIPPET(spin, "1: jmp 1b");
SNIPPET(undefined, "ud2");

static const char *call(uint64_t number, uint64_t result)
{
    randomize(&in);
    in.rax = number;
    run(enter_kernel);
    struct registers want = in;
    want.rax = result;
    leave_syscall(&want, enter_kernel_end);
    return difference(&want, &out, 0);
}

static void unknown_numbers(void)
{
    static const uint64_t list[] = { -1ull, -2ull, -512ull, -513ull, -514ull, -516ull, -4095ull, 0xffffffff, 0x7fffffff,
                                     0x80000000, 0x80000027, 0xffffffff80000000, 0x7fffffffffffffff, 1000, 2000, 4095,
                                     4096, 0xffff, 0x10000, 0x10027, 0x1000000, 0x20000027, 0x8000000000000fff };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char name[32];
        snprintf(name, sizeof name, "number %#lx", list[i]);
        const char *wrong = call(list[i], -ENOSYS);
        check(!wrong, name, "%s", wrong);
    }
    const char *wrong = NULL;
    for (int round = 0; round < 2000 && !wrong; round++) {
        uint64_t number = random_number() >> (round % 48);
        if ((number & 0xbfffffff) >= 4096)
            wrong = call(number & ~0x40000000ull, -ENOSYS);
    }
    check(!wrong, "random numbers", "%s", wrong);
    wrong = NULL;
    for (int round = 0; round < 200 && !wrong; round++)
        wrong = call((random_number() << 32) | SYS_getpid, getpid());
    check(!wrong, "random high half", "%s", wrong);
}

/* An unknown number with a signal pending at the way out: the signal is taken, once, and RAX says ENOSYS. */
static void signal_pending(void)
{
    const char *wrong = NULL;
    for (int round = 0; round < 6 && !wrong; round++) {
        static const uint64_t numbers[] = { -1ull, -512ull, -513ull, -514ull, -516ull, 4000 };
        struct itimerval timer = { { 0, 0 }, { 0, 2000 } };
        /* The timer's signal finds the task looping over the call. */
        catch_signal(SIGALRM, SA_RESTART);
        caught.count = 0;
        setitimer(ITIMER_REAL, &timer, NULL);
        while (!caught.count && !wrong)
            wrong = call(numbers[round], -ENOSYS);
    }
    check(!wrong, "unknown numbers while signals come", "%s", wrong);
}

static int remaining;
static struct registers in_spin; /* of the last signal there; a later one may come before the timer is off */

static void leave_spin(int signal, siginfo_t *info, ucontext_t *context)
{
    (void)signal, (void)info;
    if (caught.rip != (uint64_t)spin)
        return;
    in_spin = *interrupted();
    if (--remaining <= 0)
        context->uc_mcontext.gregs[REG_RIP] = (greg_t)spin_end;
}

static void no_restart(uint64_t code, unsigned long flags)
{
    char name[64];
    struct itimerval timer = { { 0, 1000 }, { 0, 1000 } }, off = { 0 };
    catch_signal(SIGALRM, flags);
    remaining = 3;
    randomize(&in);
    in.rax = code;
    on_signal = leave_spin;
    setitimer(ITIMER_REAL, &timer, NULL);
    run(spin);
    setitimer(ITIMER_REAL, &off, NULL);
    on_signal = NULL;
    const char *wrong = difference(&in, &out, 0);
    const char *in_frame = difference(&in, &in_spin, 0);
    snprintf(name, sizeof name, "RAX %ld at an interrupt%s", (long)code, flags ? ", SA_RESTART" : "");
    check(!wrong && !in_frame, name, "%s", wrong ? wrong : in_frame);

    catch_signal(SIGILL, flags);
    randomize(&in);
    in.rax = code;
    resume_at = undefined_end;
    run(undefined);
    resume_at = NULL;
    wrong = difference(&in, &out, 0);
    snprintf(name, sizeof name, "RAX %ld at an exception%s", (long)code, flags ? ", SA_RESTART" : "");
    check(!wrong && caught.rip == (uint64_t)undefined, name, "rip %#lx, %s", caught.rip, wrong ? wrong : "");
}

int main(void)
{
    static const int codes[] = { -512, -513, -514, -515, -516, -4 };
    unknown_numbers();
    signal_pending();
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        no_restart((int64_t)codes[i], 0);
        no_restart((int64_t)codes[i], SA_RESTART);
    }
    return done();
}
