/* Bug 10: a system-call number that there is not skips the work at the exit of the call. A tracer is told of each call's entry
 * and exit, and the audit log has a beginning and an end of it, whatever the number is and by whichever door it comes in.
 */
#include "hooks.h"
#include "tracer.h"
#ifdef __i386__
#include "registers32.h"
#endif

static const long numbers[] = {
    SYS_getppid, -1, -2, -512, 0x7ffffffe, 0x3fffffff, (long)0x80000000, 4096, 100000,
#ifdef __x86_64__
    (long)0x123456789abcdef0, 1l << 62 | 5000, ~0xffffffffl | 5000,
#endif
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

/* The doors: each makes the call `number` and returns its result. */
#ifdef __x86_64__
static long through_syscall(long number)
{
    long result;
    asm volatile("syscall" : "=a"(result) : "a"(number), "D"(0), "S"(0), "d"(0) : "rcx", "r11", "memory");
    return result;
}

static long through_int80(long number)
{
    long result;
    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(0), "c"(0), "d"(0) : "r8", "r9", "r10", "r11", "memory");
    return result;
}
#else
static long enter(const void *by, long number)
{
    randomize();
    in.eax = number;
    run(by);
    return out.eax;
}

static long through_int80(long number) { return enter(by_int80, number); }
static long through_sysenter(long number) { return enter(by_sysenter, number); }
static long through_syscall(long number) { return enter(by_syscall, number); }
#endif

static long (*door)(long number);

/* The number as the door's table has it, for the one call that there is. */
static long number_of(int index)
{
    enum { I386_GETPPID = 64 };
    return index == 0 && door == through_int80 ? I386_GETPPID : numbers[index];
}

static int makes_calls(void)
{
    int wrong = 0, parent = getppid();
    for (int i = 0; i < NUMBERS; i++) {
        raise(SIGUSR1);
        long result = door(number_of(i));
        raise(SIGUSR2);
        wrong += result != (i == 0 ? parent : -ENOSYS);
    }
    return wrong;
}

#ifdef __x86_64__
#define NUMBER(regs) (regs).orig_rax
#else
#define NUMBER(regs) (regs).orig_eax
#endif

static void traced(const char *name)
{
    char text[96];
    pid_t child = start_traced(makes_calls);
    int bad = -1, stops = 0, made = 0, status;
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD);
    status = go(PTRACE_SYSCALL, child, 0);
    while (WIFSTOPPED(status)) {
        if (status == STOP(SIGUSR1)) {
            stops = 0;
        } else if (status == STOP(SIGUSR2)) {
            if (stops != 2)
                bad = made;
            made++;
        } else if (made < NUMBERS && status == STOP(SYSGOOD)) {
            /* The C library's own calls between the signals have other numbers. */
            struct user_regs_struct regs = registers_of(child);
            stops += (int)NUMBER(regs) == (int)number_of(made);
        }
        status = go(PTRACE_SYSCALL, child, 0);
    }
    snprintf(text, sizeof text, "%s: a tracer is told of each call twice", name);
    check(bad < 0 && made == NUMBERS && status == EXIT(0), text, "number %#lx: wrong; %d of %d calls, status %#x",
          bad < 0 ? 0 : number_of(bad), made, NUMBERS, status);
    finish(child);
}

static void audited(const char *name)
{
    char text[96], which[32];
    int bad = -1, entries = 0, exits = 0;
    for (int i = 0; i < NUMBERS && bad < 0; i++) {
        control("/dev/audit", "clear");
        control("/dev/audit", "on %d", (int)syscall(SYS_gettid));
        door(number_of(i));
        control("/dev/audit", "off %d", (int)syscall(SYS_gettid));
        const char *log = device_text("/dev/audit");
        snprintf(which, sizeof which, "syscall=%d ", (int)number_of(i));
        entries = count_lines(log, " entry ", which, "");
        exits = count_lines(log, " exit ", which, "");
        if (entries != 1 || exits != 1)
            bad = i;
    }
    snprintf(text, sizeof text, "%s: the log has each call's beginning and end", name);
    check(bad < 0, text, "number %#lx: %d beginnings, %d ends", bad < 0 ? 0 : number_of(bad), entries, exits);
}

static void by(const char *name, long (*through)(long number))
{
    door = through;
    traced(name);
    if (has_hooks(name))
        audited(name);
}

int main(void)
{
    by("INT 0x80", through_int80);
#ifdef __x86_64__
    by("SYSCALL", through_syscall);
#else
    if (has_sysenter())
        by("SYSENTER", through_sysenter);
    else
        skip("SYSENTER", NO_FAST_DOOR);
    if (has_syscall(gate_status("violations") >= 0))
        by("SYSCALL from 32-bit code", through_syscall);
    else
        skip("SYSCALL from 32-bit code", NO_FAST_DOOR);
#endif
    return done();
}
