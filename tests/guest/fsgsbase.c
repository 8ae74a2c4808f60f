/* Bug 33: the base that user code wrote with WRFSBASE or WRGSBASE is lost. FS and GS bases, set by arch_prctl and by the
 * instructions, are kept across system calls, exceptions, interrupts, signals, context switches and CPU changes, with
 * values that look like the kernel's own too (rows 6 and 31: a door that judges by the sign of the base).
 */
#include "gate.h"
#include "registers.h"
#include <asm/prctl.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/time.h>

/* The bases for the snippet in RBX (GS) and RBP (FS); what is left of them goes to R14 and R15. FS is the C library's
 * again at the end. RAX and R12 are the snippet's. */
#define WITH_BASES(middle) \
    "rdfsbase %r13; wrgsbase %rbx; wrfsbase %rbp\n" middle "\nrdgsbase %r14; rdfsbase %r15; wrfsbase %r13"

SNIPPET(in_user_mode, WITH_BASES(""));
SNIPPET(over_syscall, WITH_BASES("syscall"));
SNIPPET(over_int3, WITH_BASES("int3"));
SNIPPET(over_ud2, WITH_BASES("ud2"));
SNIPPET(over_page_fault, WITH_BASES("mov %r12b, (%rdi)"));
SNIPPET(over_spin, WITH_BASES("1: dec %r12; jnz 1b"));
SNIPPET(over_signal, WITH_BASES("over_signal_loop: jmp over_signal_loop\nover_signal_out:"));
SNIPPET(over_step, WITH_BASES("pushfq; orl $0x100, (%rsp); popfq; nop; nop; pushfq; andl $~0x100, (%rsp); popfq"));
SNIPPET(only_wrgsbase, "wrgsbase %rbx");
SNIPPET(only_rdgsbase, "rdgsbase %rbx");
SNIPPET(load_gs, "mov %gs:(%rcx), %rbx");
extern const unsigned char over_signal_loop[], over_signal_out[];

static const uint64_t values[] = { 0, 1, 4096, 0x7fffffffefff, 0x7ffffffff000, 0x7fffffffffff, 0xffff800000000000,
                                   0xffff888000000000, 0xffffffff81000000, 0xfffffe0000000000, 0xfffffffffffff000, -1ull };
enum { VALUES = sizeof values / sizeof *values };

static int has_instructions;

/* Handlers must not use thread-local data: FS is not the C library's while they run. */
static void handle(int signal, siginfo_t *info, ucontext_t *context)
{
    (void)info;
    greg_t *g = context->uc_mcontext.gregs;
    if (signal == SIGALRM && g[REG_RIP] == (greg_t)over_signal_loop)
        g[REG_RIP] = (greg_t)over_signal_out;
    else if (signal == SIGILL)
        g[REG_RIP] += 2;
    uint64_t gs = 0x1234000, fs = 0x5678000; /* a handler's own bases are the task's: there is one set of them */
    asm volatile("rdgsbase %0; rdfsbase %1" : "=r"(gs), "=r"(fs));
    caught.err = gs ^ in.rbx ^ fs ^ in.rbp;
}

static void over(const char *door, const void *snippet, int signals)
{
    char *fresh = mmap(NULL, VALUES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const char *wrong = NULL;
    uint64_t gs = 0, fs = 0;
    for (int i = 0; i < VALUES && !wrong; i++) {
        struct itimerval timer = { { 0, 1000 }, { 0, 1000 } }, off = { 0 };
        randomize(&in);
        in.rax = SYS_sched_yield;
        gs = in.rbx = values[i];
        fs = in.rbp = values[(i + 5) % VALUES];
        in.rdi = (uint64_t)fresh + i * 4096;
        in.r12 = 3000000;
        caught.count = 0;
        if (snippet == over_signal)
            setitimer(ITIMER_REAL, &timer, NULL);
        run(snippet);
        if (snippet == over_signal)
            setitimer(ITIMER_REAL, &off, NULL);
        if (out.r14 != gs)
            wrong = "the GS base is lost";
        else if (out.r15 != fs)
            wrong = "the FS base is lost";
        else if (signals && !caught.count)
            wrong = "no signal came";
        else if (signals && snippet != over_signal && caught.err)
            wrong = "the handler saw other bases";
    }
    munmap(fresh, VALUES * 4096);
    char name[64];
    snprintf(name, sizeof name, "bases written by instruction, over %s", door);
    check(!wrong, name, "%s: GS %#lx became %#lx, FS %#lx became %#lx", wrong, gs, out.r14, fs, out.r15);
}

/* Two tasks with different bases on one CPU, and a task that moves between CPUs. */
static int task_with_bases(void)
{
    uint64_t end = microseconds() + 150000;
    random_state ^= (uint64_t)getpid() << 20;
    while (microseconds() < end) {
        randomize(&in);
        in.rax = SYS_sched_yield;
        in.rbx = values[random_number() % VALUES];
        in.rbp = values[random_number() % VALUES];
        in.r12 = 400000;
        run(random_number() % 2 ? over_spin : over_syscall);
        if (out.r14 != in.rbx || out.r15 != in.rbp)
            return 1;
    }
    return 0;
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void context_switches(void)
{
    pid_t children[2];
    pin(0);
    for (int i = 0; i < 2; i++)
        if ((children[i] = fork()) == 0)
            _exit(task_with_bases());
    for (int i = 0; i < 2; i++) {
        int status = -1;
        waitpid(children[i], &status, 0);
        check(status == 0, i ? "switches, the second task" : "switches, the first task", "status %#x", status);
    }
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        skip("moves between CPUs", "one CPU");
        return;
    }
    const char *wrong = NULL;
    cpu_set_t sets[2];
    for (int i = 0; i < 2; i++) {
        CPU_ZERO(&sets[i]);
        CPU_SET(i, &sets[i]);
    }
    for (int i = 0; i < 60 && !wrong; i++) {
        randomize(&in);
        in.rax = SYS_sched_setaffinity;
        in.rdi = 0;
        in.rsi = sizeof sets[0];
        in.rdx = (uint64_t)&sets[i % 2];
        in.rbx = values[i % VALUES];
        in.rbp = values[(i + 3) % VALUES];
        run(over_syscall);
        if (out.rax != 0 || out.r14 != in.rbx || out.r15 != in.rbp)
            wrong = "lost";
    }
    check(!wrong, "moves between CPUs", "GS %#lx became %#lx, FS %#lx became %#lx", in.rbx, out.r14, in.rbp, out.r15);
}

static void instructions(void)
{
    on_signal = handle;
    over("nothing", in_user_mode, 0);
    over("a system call", over_syscall, 0);
    over("int3", over_int3, 1);
    over("an invalid opcode", over_ud2, 1);
    over("a page fault", over_page_fault, 0);
    over("timer interrupts", over_spin, 0);
    over("an asynchronous signal", over_signal, 1);
    over("single steps", over_step, 1);
    on_signal = NULL;
    /* Only canonical values can be written. */
    randomize(&in);
    in.rbx = 1ull << 63;
    caught.count = 0;
    resume_at = only_wrgsbase_end;
    run(only_wrgsbase);
    resume_at = NULL;
    if (emulated() && !caught.count)
        skip("WRGSBASE of a non-canonical value", "the emulator takes it");
    else
        check(caught.count == 1 && caught.signal == SIGSEGV && caught.trapno == 13, "WRGSBASE of a non-canonical value",
              "%d signals", caught.count);
    asm volatile("wrgsbase %0" : : "r"(0ul));

    context_switches();

    if (gate_command("nmi-storm 200")) {
        on_signal = handle;
        over("system calls under NMIs", over_syscall, 0);
        over("page faults under NMIs", over_page_fault, 0);
        over("breakpoints under NMIs", over_int3, 1);
        over("single steps under NMIs", over_step, 1);
        over("interrupts under NMIs", over_spin, 0);
        on_signal = NULL;
        gate_command("nmi-storm 0");
    } else {
        skip("bases under NMIs", "no /dev/gate");
    }
}

/* arch_prctl sets what the instructions and addressing see; kernel addresses are refused. */
static void prctl(void)
{
    uint64_t read_back = 1, datum = 0x1122334455667788;
    check(syscall(SYS_arch_prctl, ARCH_SET_GS, &datum) == 0 && syscall(SYS_arch_prctl, ARCH_GET_GS, &read_back) == 0 &&
              read_back == (uint64_t)&datum,
          "ARCH_SET_GS, ARCH_GET_GS", "%#lx", read_back);
    randomize(&in);
    in.rcx = 0;
    run(load_gs);
    check(out.rbx == datum, "GS base addresses memory", "%#lx", out.rbx);
    if (has_instructions) {
        run(only_rdgsbase);
        check(out.rbx == (uint64_t)&datum, "RDGSBASE reads it", "%#lx", out.rbx);
        asm volatile("wrgsbase %0" : : "r"(0xffff888000000000));
        syscall(SYS_arch_prctl, ARCH_GET_GS, &read_back);
        check(read_back == 0xffff888000000000, "ARCH_GET_GS reads what WRGSBASE wrote", "%#lx", read_back);
    }
    syscall(SYS_arch_prctl, ARCH_SET_GS, &datum);
    pid_t child = fork();
    if (child == 0) {
        run(load_gs);
        _exit(out.rbx != datum);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check(status == 0, "a forked child has the GS base", "status %#x", status);

    uint64_t fs = 0, thread_pointer;
    asm("mov %%fs:0, %0" : "=r"(thread_pointer));
    check(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs) == 0 && fs == thread_pointer, "ARCH_GET_FS", "%#lx", fs);
    static const uint64_t refused[] = { 0x7ffffffff000, 0x800000000000, 0xffff800000000000, -1ull };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char name[48];
        if (refused[i] < task_size())
            continue;
        snprintf(name, sizeof name, "ARCH_SET_GS to %#lx", refused[i]);
        long result = syscall(SYS_arch_prctl, ARCH_SET_GS, refused[i]);
        check(result == -1 && errno == EPERM, name, "%ld, %s", result, strerror(errno));
    }
    long result = syscall(SYS_arch_prctl, ARCH_GET_GS, 8);
    check(result == -1 && errno == EFAULT, "ARCH_GET_GS to a bad address", "%ld, %s", result, strerror(errno));
    result = syscall(SYS_arch_prctl, 0x7777, 8);
    check(result == -1 && errno == EINVAL, "unknown arch_prctl", "%ld, %s", result, strerror(errno));
    syscall(SYS_arch_prctl, ARCH_SET_GS, 0);
}

int main(void)
{
    static const int signals[] = { SIGTRAP, SIGILL, SIGSEGV, SIGALRM };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        catch_signal(signals[i], 0);
    has_instructions = getauxval(AT_HWCAP2) >> 1 & 1; /* HWCAP2_FSGSBASE */
    prctl();
    if (has_instructions) {
        instructions();
    } else {
        skip("WRFSBASE and WRGSBASE", "AT_HWCAP2 says that they are off");
        randomize(&in);
        in.rbx = 0;
        caught.count = 0;
        resume_at = only_wrgsbase_end;
        run(only_wrgsbase);
        check(caught.count == 1 && caught.signal == SIGILL, "WRGSBASE is an invalid opcode then", "%d signals",
              caught.count);
    }
    return done();
}
