// build: -m32
/* The two fast doors of 32-bit programs, by the vDSO's convention: SYSENTER and SYSCALL. Registers, flags, unknown numbers,
 * the sixth argument and a stack that cannot be read, restarts, single steps and signals at each. Bugs 10 and 43 (unknown
 * numbers), 25 and 41 (TF, AC, DF, NT at a door that keeps them), 34 (restarts), 42 (a stack that is no stack).
 */
#include "gate.h"
#include "registers32.h"
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/ucontext.h>

/* A stack pointer of one's own: the door's pushes go to a page that is unmapped then. */
asm(".pushsection .text\n"
    "sysenter_without_stack: mov %ebx, %ebp; mov %ebx, %esp; sysenter; ud2\n"
    "syscall_without_stack: mov %ebx, %esp; syscall; ud2\n"
    ".popsection\n");
extern const unsigned char sysenter_without_stack[], syscall_without_stack[];

struct door {
    const char *name;
    const void *code, *without_stack;
};

static void report_for(const struct door *door, const char *what, const char *wrong)
{
    char name[96];
    snprintf(name, sizeof name, "%s: %s", door->name, what);
    check(!wrong, name, "%s", wrong);
}

static void registers(const struct door *door)
{
    const char *wrong = NULL;
    for (int round = 0; round < 300 && !wrong; round++) {
        randomize();
        in.eflags |= random_number() & (DF | ID | NT | AC);
        wrong = call(door->code, SYS_getpid, getpid(), 0);
    }
    report_for(door, "registers and flags", wrong);
    for (int round = 0; round < 100 && !wrong; round++) {
        randomize();
        wrong = call(door->code, SYS_sched_yield, 0, 0);
    }
    report_for(door, "registers across a switch", wrong);
}

static void numbers(const struct door *door)
{
    static const uint32_t list[] = { 0xffffffff, 0xfffffffe, 0xfffffe00, 0xfffffdff, 0xfffffdfe, 0xfffffdfc, 0x80000000,
                                     0x80000014, 0x40000014, 0x7fffffff, 600, 1000, 4096, 0x10014 };
    const char *wrong = NULL;
    for (size_t i = 0; i < sizeof list / sizeof *list && !wrong; i++) {
        randomize();
        wrong = call(door->code, list[i], -ENOSYS, 0);
    }
    report_for(door, "unknown numbers", wrong);
    for (int round = 0; round < 1000; round++) {
        uint32_t number = random_number() >> (round % 22);
        if (number < 600)
            continue;
        randomize();
        wrong = call(door->code, number, -ENOSYS, 0);
        if (wrong)
            break;
    }
    report_for(door, "random numbers", wrong);
}

static void sixth_argument(const struct door *door)
{
    int fd = memfd_create("pages", 0);
    char content[8192];
    memset(content, 'a', 4096);
    memset(content + 4096, 'b', 4096);
    if (write(fd, content, sizeof content) != sizeof content)
        return;
    randomize();
    in.ebx = 0, in.ecx = 4096, in.edx = PROT_READ, in.esi = MAP_PRIVATE, in.edi = fd, in.ebp = 1;
    const char *wrong = call(door->code, SYS_mmap2, 0, 1);
    if (!wrong)
        wrong = out.eax >= -4095u ? "mmap2 failed" : *(char *)out.eax != 'b' ? "not the second page" : NULL;
    report_for(door, "sixth argument", wrong);
    munmap((void *)out.eax, 4096);
    close(fd);
}

/* Where the stack cannot be read the call gives EFAULT, and popping what it should have held is a fault: of the program. */
static const void *bad_door;
static uint32_t bad_stack;

static int die_without_stack(void)
{
    signal(SIGSEGV, SIG_DFL);
    randomize();
    in.eax = SYS_getpid;
    in.ebx = bad_stack;
    run(bad_door);
    return 1;
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | flags };
    sigaction(signal, &action, NULL);
}

/* What a handler sees of a stack that cannot be read: EFAULT, and 0 in place of the word. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    _exit(registers[REG_EAX] == -EFAULT && registers[REG_EBP] == 0 ? 42 : 43);
}

static int see_efault(void)
{
    static char alternate[16384];
    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
    sigaltstack(&stack, NULL);
    handle(SIGSEGV, on_fault, 0);
    randomize();
    in.eax = SYS_getpid;
    in.ebx = 16;
    run(bad_door);
    return 1;
}

static void no_stack(const struct door *door)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page, 4096);
    mprotect(page + 4096, 4096, PROT_NONE);
    const uint32_t stacks[] = { 0, 4, 0xfffffffc, 0xffffe000, 0xc0000000, (uint32_t)page, (uint32_t)page + 4093,
                                (uint32_t)page + 4096 };
    if (!door->without_stack)
        return;
    const char *wrong = NULL;
    static char text[64];
    bad_door = door->without_stack;
    for (size_t i = 0; i < sizeof stacks / sizeof *stacks && !wrong; i++) {
        bad_stack = stacks[i];
        int status = in_child(die_without_stack);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV) {
            snprintf(text, sizeof text, "stack at %#x: status %#x", bad_stack, status);
            wrong = text;
        }
    }
    report_for(door, "a stack that cannot be read is a SIGSEGV", wrong);
    report_for(door, "and the call gave EFAULT", in_child(see_efault) == 42 << 8 ? NULL : "it did not");
    munmap(page + 4096, 4096);
}

static volatile int caught;
static volatile uint32_t caught_eip, caught_eax, caught_eflags;
static int tube[2];

static void on_signal(int signal, siginfo_t *info, void *context)
{
    const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)info;
    caught++;
    caught_eip = g[REG_EIP];
    caught_eax = g[REG_EAX];
    caught_eflags = g[REG_EFL];
    if (signal == SIGALRM && tube[1] && write(tube[1], "x", 1) != 1)
        _exit(97);
}

static void signals(const struct door *door)
{
    const char *wrong = NULL;
    handle(SIGUSR1, on_signal, 0);
    for (int round = 0; round < 50 && !wrong; round++) {
        randomize();
        in.ebx = getpid(), in.ecx = SIGUSR1;
        caught = 0;
        wrong = call(door->code, SYS_kill, 0, 0);
        if (!wrong && (caught != 1 || caught_eax != 0))
            wrong = "the handler did not run once with the call's result";
    }
    report_for(door, "signal at the exit", wrong);

    char byte;
    if (pipe(tube))
        return;
    for (int again = 0; again < 2; again++) {
        handle(SIGALRM, on_signal, again ? SA_RESTART : 0);
        randomize();
        in.ebx = tube[0], in.ecx = (uint32_t)&byte, in.edx = 1;
        caught = 0;
        pid_t sender = signal_when_asleep(SIGALRM);
        wrong = call(door->code, SYS_read, again ? 1 : -EINTR, 0);
        reap(sender);
        if (!wrong && (caught != 1 || caught_eax != (again ? SYS_read : (uint32_t)-EINTR)))
            wrong = "the handler did not see the call interrupted";
        report_for(door, again ? "restart" : "EINTR", wrong);
        if (!again && read(tube[0], &byte, 1) != 1)
            return;
    }
    close(tube[0]);
    close(tube[1]);
    tube[1] = 0;
}

/* Stopped and continued in a sleep: restart_syscall. */
static const void *sleeping_door;

static int sleeps(void)
{
    static uint32_t nap[2] = { 0, 60000000 };
    uint64_t start = microseconds();
    randomize();
    in.ebx = (uint32_t)nap, in.ecx = 0;
    const char *wrong = call(sleeping_door, SYS_nanosleep, 0, 0);
    return wrong ? 1 : microseconds() - start < 60000 ? 2 : 0;
}

static void stopped(const struct door *door)
{
    int status = -1;
    sleeping_door = door->code;
    pid_t child = fork();
    if (child == 0)
        _exit(sleeps());
    usleep(20000);
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    report_for(door, "a sleep that is stopped and continued", status ? "it gives another result, or too early" : NULL);
}

static void forks(const struct door *door)
{
    pid_t self = getpid();
    randomize();
    const char *wrong = call(door->code, SYS_fork, 0, 1);
    if (getpid() != self)
        _exit(wrong || out.eax != 0);
    int status = -1;
    waitpid(out.eax, &status, 0);
    report_for(door, "fork", wrong ? wrong : status ? "the child's registers differ" : NULL);
}

/* Single-stepped through the door: a trap after each instruction of the program's own, and none of the kernel's. */
static volatile int steps;
static volatile uint32_t last_step, stray_step;

static void on_step(int signal, siginfo_t *info, void *context)
{
    greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)signal, (void)info;
    steps++;
    last_step = g[REG_EIP];
    if (!(g[REG_EFL] & TF))
        stray_step = last_step;
    if (last_step == (uint32_t)run_return)
        g[REG_EFL] &= ~TF;
}

static void single_steps(const struct door *door)
{
    const char *wrong = NULL;
    static char text[96];
    handle(SIGTRAP, on_step, 0);
    static const uint32_t flags[] = { TF, TF | DF, TF | NT, TF | AC, TF | AC | NT | DF | ID };
    int expected = 0;
    for (size_t i = 0; i < sizeof flags / sizeof *flags && !wrong; i++) {
        randomize();
        in.eax = SYS_getpid;
        in.eflags |= flags[i];
        steps = last_step = stray_step = 0;
        run(door->code);
        if (i == 0)
            expected = steps;
        if (out.eax != (uint32_t)getpid() || out.ecx != in.ecx || out.edx != in.edx || out.ebp != in.ebp)
            wrong = "registers differ";
        else if (stray_step || last_step != (uint32_t)run_return)
            wrong = "a trap without TF, or one missing at the end";
        else if (steps != expected || steps < 2 || steps > 16) {
            snprintf(text, sizeof text, "%d steps, %d before", steps, expected);
            wrong = text;
        }
    }
    report_for(door, "single steps", wrong);
    signal(SIGTRAP, SIG_DFL);
}

static void every_test(const struct door *door)
{
    registers(door);
    numbers(door);
    sixth_argument(door);
    no_stack(door);
    signals(door);
    stopped(door);
    forks(door);
    single_steps(door);
}

int main(void)
{
    int ours = gate_status("violations") >= 0;
    const struct door int80 = { "INT 0x80", by_int80, NULL }, vdso = { "vDSO", by_vdso, NULL },
                      sysenter = { "SYSENTER", by_sysenter, sysenter_without_stack },
                      syscall_door = { "SYSCALL", by_syscall, syscall_without_stack };
    vdso_entry = getauxval(AT_SYSINFO);
    every_test(&int80);
    if (vdso_entry)
        every_test(&vdso);
    else
        skip("vDSO", "there is none");
    if (has_sysenter())
        every_test(&sysenter);
    else
        skip("SYSENTER", NO_FAST_DOOR);
    if (has_syscall(ours))
        every_test(&syscall_door);
    else
        skip("SYSCALL", NO_FAST_DOOR);
    if (ours)
        check(gate_status("violations") == 0, "no invariant of the gate was broken", "%ld were", gate_status("violations"));
    return done();
}
