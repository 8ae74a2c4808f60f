/* Crosses one door again and again and compares every register after each crossing.
 *
 *     every_instruction              each door a few times
 *     every_instruction DOOR         one door until `finish` is set, by a debugger
 *
 * The suite `instructions` attaches a debugger to the machine and sends an NMI, a machine check and a debug exception at each
 * instruction between the label `crossing_DOOR` and the way back: whatever they hit (a SWAPGS window, a stack switch, the last
 * instruction before user mode), they are handled and the program notices nothing (bugs 6, 7, 8, 23, 31). At the idle loop's halt,
 * too, from which they have to wake the CPU.
 */
#include "crossing.h"
#include "registers.h"

SNIPPET(door_syscall, ".globl crossing_syscall\ncrossing_syscall: syscall");
SNIPPET(door_efault, ".globl crossing_efault\ncrossing_efault: syscall");
SNIPPET(door_int80, ".globl crossing_int80\ncrossing_int80: int $0x80");
SNIPPET(door_exception, ".globl crossing_exception\ncrossing_exception: ud2");
SNIPPET(door_fault, ".globl crossing_fault\ncrossing_fault: movb $1, (%rsi)");
SNIPPET(door_step, "pushfq; orq $0x100, (%rsp); popfq\n.globl crossing_step\ncrossing_step: nop; nop");
SNIPPET(door_sigreturn, "int3");
SNIPPET(door_idle, ".globl crossing_idle\ncrossing_idle: syscall");

static unsigned char *page;

/* The registers after the crossing are those before it, but for the ones that the door changes by its nature. */
static const char *compare(unsigned ignored)
{
    return difference(&in, &out, ignored);
}

static const char *syscall_door(void)
{
    in.rax = SYS_getppid;
    run(door_syscall);
    if (out.rax != (uint64_t)getppid())
        return "the result is wrong";
    return compare(NO_RAX | NO_RCX | NO_R11);
}

/* A system call with the stack pointer in the middle of the NMI's own stacks, which is where it points until the door has
 * switched stacks.
 */
static const char *nmi_stack_door(void)
{
    static uint64_t top, end;
    if (!top) {
        top = gate_status("nmi_stack");
        end = gate_status("nmi_stack_end");
    }
    in.rsp = top + random_number() % (end - top + 64) / 8 * 8;
    return syscall_door();
}

/* A 32-bit call from 64-bit code. */
static const char *int80_door(void)
{
    enum { I386_GETPPID = 64 };
    in.rax = I386_GETPPID;
    run(door_int80);
    if (out.rax != (uint64_t)getppid())
        return "the result is wrong";
    return compare(NO_RAX);
}

/* A page fault in the kernel. */
static const char *efault_door(void)
{
    in.rax = SYS_gettimeofday;
    in.rdi = 1;
    in.rsi = 0;
    run(door_efault);
    if (out.rax != (uint64_t)-EFAULT)
        return "the result is not EFAULT";
    return compare(NO_RAX | NO_RCX | NO_R11);
}

static const char *exception_door(void)
{
    resume_at = door_exception_end;
    run(door_exception);
    return caught.count != 1 ? "no signal" : compare(0);
}

static const char *fault_door(void)
{
    madvise(page, 4096, MADV_DONTNEED);
    in.rsi = (uint64_t)page;
    run(door_fault);
    return *page != 1 ? "nothing was written" : compare(0);
}

static void end_step(int signal, siginfo_t *info, ucontext_t *context)
{
    (void)signal, (void)info;
    context->uc_mcontext.gregs[REG_EFL] &= ~TF;
}

static const char *step_door(void)
{
    on_signal = end_step;
    run(door_step);
    return caught.count != 1 ? "no signal" : compare(NO_RFLAGS);
}

static void forge_then_mend(int signal, siginfo_t *info, ucontext_t *context)
{
    enum { LDT_SELECTOR = 0x57 };
    greg_t *g = context->uc_mcontext.gregs;
    uint64_t ss = signal == SIGTRAP ? LDT_SELECTOR : 0x2b;
    (void)info;
    g[REG_CSGSFS] = (greg_t)(((uint64_t)g[REG_CSGSFS] & ~(0xffffull << 48)) | ss << 48);
}

/* The IRET that is to enter user mode faults: the frame names a segment that there is not. */
static const char *bad_iret_door(void)
{
    on_signal = forge_then_mend;
    run(door_sigreturn);
    return caught.count != 2 || caught.signal != SIGSEGV ? "the bad frame gave no SIGSEGV" : compare(NO_RFLAGS);
}

static int child(void)
{
    return 42;
}

/* A task's first way out. */
static const char *fork_door(void)
{
    return in_child(child) == 42 << 8 ? NULL : "the child is lost";
}

static long own_nmis;

/* An NMI in the kernel, which others then hit. */
static const char *nmi_door(void)
{
    own_nmis++;
    return gate_command("nmi 0") ? NULL : "the kernel sends no NMI";
}

/* An interrupt in the kernel. */
static const char *interrupt_door(void)
{
    return gate_command("ipi 0") ? NULL : "the kernel sends no interrupt";
}

/* A sleep: where nothing else runs, the CPU halts. */
static const char *idle_door(void)
{
    static const struct timespec some_time = { 0, 2000000 };
    in.rax = SYS_nanosleep;
    in.rdi = (uint64_t)&some_time;
    in.rsi = 0;
    run(door_idle);
    if (out.rax)
        return "the sleep failed";
    return compare(NO_RAX | NO_RCX | NO_R11);
}

static const struct door {
    const char *name;
    const char *(*cross)(void);
    int needs_gate;
} doors[] = {
    { "syscall", syscall_door, 0 }, { "nmi_stack", nmi_stack_door, 1 },
    { "int80", int80_door, 0 },     { "efault", efault_door, 0 },     { "exception", exception_door, 0 },
    { "fault", fault_door, 0 },     { "step", step_door, 0 },         { "bad_iret", bad_iret_door, 0 },
    { "fork", fork_door, 0 },       { "nmi", nmi_door, 1 },           { "interrupt", interrupt_door, 1 },
    { "idle", idle_door, 0 },
};

static void cross(const struct door *door, long rounds)
{
    const char *wrong = NULL;
    long round;
    for (round = 0; round < rounds && !finish && !wrong; round++) {
        memset(&caught, 0, sizeof caught);
        resume_at = NULL;
        on_signal = NULL;
        randomize(&in);
        wrong = door->cross();
    }
    check(!wrong, door->name, "round %ld: %s", round, wrong);
}

int main(int argc, char **argv)
{
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    catch_signal(SIGILL, 0);
    catch_signal(SIGTRAP, 0);
    catch_signal(SIGSEGV, 0);
    for (unsigned i = 0; i < sizeof doors / sizeof *doors; i++) {
        if (argc > 1 && strcmp(argv[1], doors[i].name))
            continue;
        if (doors[i].needs_gate && gate_status("nmis") < 0)
            skip(doors[i].name, "no /dev/gate");
        else
            cross(&doors[i], argc > 1 ? UNTIL_FINISH : ROUNDS);
    }
    if (argc > 1)
        report_injections(own_nmis);
    check_invariants();
    return done();
}
