/* Bug 22 (a forged frame halts the machine) and 30 (sigreturn outside a handler): whatever the frame of a sigreturn
 * holds and wherever the stack pointer is, the task gets SIGSEGV at worst, and can go on in its handler. Also forged CS
 * and SS selectors (rows 3 to 5 as far as there is no LDT), where the return faults at the very last instruction.
 */
#include "registers.h"

SNIPPET(enter_kernel, "syscall");
/* Ends the process with 42 whatever the registers are. */
SNIPPET(exit_42, "mov $60, %eax; mov $42, %edi; syscall");
SNIPPET(undefined, "ud2");

static unsigned char *frame_page; /* 8 KiB, then nothing */

static int cold(void)
{
    run(enter_kernel);
    return 1; /* sigreturn never comes back here, but for a frame that says so */
}

static int died_of_segv(int status)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

/* What a frame of zeroes restored is not fit to return to. */
static void repair(int signal, siginfo_t *info, ucontext_t *context)
{
    greg_t *g = context->uc_mcontext.gregs;
    (void)signal, (void)info;
    g[REG_CSGSFS] = (g[REG_CSGSFS] & 0x0000ffffffff0000) | 0x33 | (0x2bull << 48);
    g[REG_EFL] = FLAGS_DEFAULT;
}

static void bad_stacks(void)
{
    const uint64_t page = (uint64_t)frame_page;
    const uint64_t stacks[] = { 0, 8, 7, 4096, page + 8, page + 9, page + 8192, page + 8192 - 8, page + 8192 - 100,
                                page + 8192 + 8, task_size(), task_size() - 8, 0x800000000000, 0x8000000000000000,
                                0xdeadbeefdeadbeef, 0xffff800000000000, 0xffff888000000000, 0xfffffe0000001000,
                                0xffffffff81000000, 0xfffffffffffffff8, 0xffffffffffffffff };
    for (size_t i = 0; i < sizeof stacks / sizeof *stacks; i++) {
        char name[64];
        memset(frame_page, 0, 8192);
        randomize(&in);
        in.rax = SYS_rt_sigreturn;
        in.rsp = stacks[i];
        int status = in_child(cold);
        snprintf(name, sizeof name, "cold sigreturn, RSP %#lx", stacks[i] - page < 16384 ? stacks[i] - page : stacks[i]);
        check(died_of_segv(status), name, "status %#x", status);

        catch_signal(SIGSEGV, 0);
        caught.count = 0;
        resume_at = door_return;
        on_signal = repair;
        run(enter_kernel);
        on_signal = NULL;
        strcat(name, ", caught");
        check(caught.count == 1 && caught.signal == SIGSEGV, name, "%d signals", caught.count);
        signal(SIGSEGV, SIG_DFL);
    }
}

static void random_frames(void)
{
    const char *wrong = NULL;
    char text[64];
    for (int round = 0; round < 150 && !wrong; round++) {
        uint64_t *words = (uint64_t *)frame_page;
        for (int i = 0; i < 1024; i++)
            words[i] = random_number();
        if (round % 3)
            words[1 + 28] = 0; /* no FPU state: the rest is looked at */
        randomize(&in);
        in.rax = SYS_rt_sigreturn;
        in.rsp = (uint64_t)frame_page + 8;
        int status = in_child(cold);
        if (!died_of_segv(status)) {
            snprintf(text, sizeof text, "round %d: status %#x", round, status);
            wrong = text;
        }
    }
    check(!wrong, "random frames", "%s", wrong);
}

static size_t mutated_word;
static uint64_t mutation;

static void mutate(int signal, siginfo_t *info, ucontext_t *context)
{
    (void)signal, (void)info;
    context->uc_mcontext.gregs[REG_RIP] = (greg_t)exit_42;
    ((uint64_t *)context)[mutated_word] ^= mutation;
}

static int mutated_return(void)
{
    catch_signal(SIGUSR1, 0);
    on_signal = mutate;
    randomize(&in);
    in.rax = SYS_kill;
    in.rdi = getpid();
    in.rsi = SIGUSR1;
    run(enter_kernel);
    return 1;
}

/* Each word of the ucontext, with random bits and with one bit turned. */
static void mutated_frames(void)
{
    const char *wrong = NULL;
    char text[64];
    for (int round = 0; round < 4; round++)
        for (mutated_word = 0; mutated_word < 304 / 8 && !wrong; mutated_word++) {
            if (mutated_word == 5 + REG_CSGSFS || (mutated_word == 5 + REG_RIP && round % 2))
                continue;
            mutation = round % 2 ? 1ull << random_number() % 64 : random_number();
            int status = in_child(mutated_return);
            int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
            int stepped = mutated_word == 5 + REG_EFL && signal == SIGTRAP;
            if (!(WIFEXITED(status) && WEXITSTATUS(status) == 42) && signal != SIGSEGV && !stepped) {
                snprintf(text, sizeof text, "word %zu, mutation %#lx: status %#x", mutated_word, mutation, status);
                wrong = text;
            }
        }
    check(!wrong, "mutated frames", "%s", wrong);
}

static uint16_t forged_cs, forged_ss;
static uint64_t frame_flags;

static void forge_selectors(int signal, siginfo_t *info, ucontext_t *context)
{
    greg_t *g = context->uc_mcontext.gregs;
    if (signal == SIGUSR1) {
        uint64_t word = (uint64_t)g[REG_CSGSFS] & 0x0000ffffffff0000;
        g[REG_CSGSFS] = word | forged_cs | (uint64_t)forged_ss << 48;
        g[REG_RIP] = (greg_t)undefined;
        context->uc_flags = frame_flags;
    } else {
        repair(signal, info, context);
        g[REG_RIP] = (greg_t)door_return;
    }
}

/* A return with these selectors; gives the signal that came of it. */
static int selectors(uint16_t cs, uint16_t ss, uint64_t flags)
{
    forged_cs = cs;
    forged_ss = ss;
    frame_flags = flags;
    caught.count = 0;
    randomize(&in);
    in.rax = SYS_kill;
    in.rdi = getpid();
    in.rsi = SIGUSR1;
    run(enter_kernel);
    return caught.count == 2 ? caught.signal : -caught.count;
}

static void forged_selectors(void)
{
    static const uint16_t list[] = { 0, 1, 2, 3, 8, 0xb, 0x10, 0x13, 0x18, 0x1b, 0x20, 0x28, 0x30, 0x38, 0x3b, 0x40, 0x43, 0x50,
                                     0x53, 0x60, 0x63, 0x73, 0x78, 0x7b, 0x80, 0x83, 4, 7, 0xf, 0x17, 0x3f, 0xfff8,
                                     0xfffb, 0xffff };
    const uint64_t strict = 7, loose = 3; /* UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
    char name[64];
    catch_signal(SIGUSR1, 0);
    catch_signal(SIGSEGV, 0);
    catch_signal(SIGILL, 0);
    resume_at = NULL;
    on_signal = forge_selectors;
    check(selectors(0x33, 0x2b, strict) == SIGILL, "good selectors reach the code", "%d signals", caught.count);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        uint16_t s = list[i];
        int signal = selectors(s, 0x2b, strict);
        snprintf(name, sizeof name, "CS %#x", s);
        if ((s | 3) == 0x33)
            check(signal == SIGILL, name, "signal %d: RPL 3 is forced", signal);
        else if ((s | 3) == 0x23) /* 32-bit code, where there is such a segment */
            check(signal == SIGILL || signal == SIGSEGV, name, "signal %d", signal);
        else
            check(signal == SIGSEGV, name, "signal %d", signal);
        signal = selectors(0x33, s, strict);
        snprintf(name, sizeof name, "SS %#x", s);
        check(signal == ((s | 3) == 0x2b ? SIGILL : SIGSEGV), name, "signal %d", signal);
        signal = selectors(0x33, s, loose);
        snprintf(name, sizeof name, "SS %#x, repaired where not strict", s);
        check(signal == SIGILL, name, "signal %d", signal);
    }
    int signal = selectors(0x2b, 0x33, strict);
    check(signal == SIGSEGV, "CS and SS exchanged", "signal %d", signal);
    signal = selectors(0, 0, strict);
    check(signal == SIGSEGV, "both null", "signal %d", signal);
    int odd = 0;
    for (int i = 0; i < 300; i++) {
        uint16_t cs = random_number(), ss = random_number();
        signal = selectors(cs, ss, strict);
        odd += signal != SIGSEGV && !((cs | 3) == 0x33 && (ss | 3) == 0x2b);
    }
    check(!odd, "random selectors", "%d returns without SIGSEGV", odd);
    on_signal = NULL;
}

int main(void)
{
    frame_page = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(frame_page + 8192, 8192);
    bad_stacks();
    random_frames();
    mutated_frames();
    forged_selectors();
    return done();
}
