/* SYSCALL preserves every register but RAX, RCX (= the next instruction) and R11 (= RFLAGS), also when the number is
 * unknown, when the way out has work to do (a reschedule, a signal), and in a forked child; a new program starts with
 * cleared registers. Bugs 35 (RCX and R11 clobbered on a way out) and 42 (registers pushed where user RSP points).
 */
#include "registers.h"
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/stat.h>

SNIPPET(enter_kernel, "syscall");

/* Runs the system call in `in` and compares: RAX must be `result` (unless `any_result`), the rest as it was. */
static const char *call(uint64_t result, unsigned ignored)
{
    run(enter_kernel);
    struct registers want = in;
    want.rax = result;
    leave_syscall(&want, enter_kernel_end);
    return difference(&want, &out, ignored);
}

static void many(const char *name, uint64_t number, uint64_t result, unsigned long flags_allowed)
{
    const char *wrong = NULL;
    for (int round = 0; round < 200 && !wrong; round++) {
        randomize(&in);
        in.rflags |= random_number() & flags_allowed;
        in.rax = number;
        wrong = call(result, 0);
    }
    check(!wrong, name, "%s", wrong);
}

static void signal_at_exit(void)
{
    const char *wrong = NULL;
    catch_signal(SIGUSR1, 0);
    for (int round = 0; round < 100 && !wrong; round++) {
        randomize(&in);
        in.rax = SYS_kill;
        in.rdi = getpid();
        in.rsi = SIGUSR1;
        caught.count = 0;
        wrong = call(0, 0);
        struct registers want = in;
        want.rax = 0;
        leave_syscall(&want, enter_kernel_end);
        if (!wrong)
            wrong = difference(&want, &caught.registers, 0);
        if (!wrong && (caught.count != 1 || caught.rip != (uint64_t)enter_kernel_end))
            wrong = "the handler did not run once, right after the SYSCALL";
    }
    check(!wrong, "signal at the exit of the system call", "%s", wrong);
}

static void child_registers(const char *name, uint64_t number, uint64_t flags)
{
    const char *wrong = NULL;
    int status = -1;
    for (int round = 0; round < 8 && !wrong && (round == 0 || status == 0); round++) {
        pid_t self = getpid();
        randomize(&in);
        in.rax = number;
        if (number == SYS_clone) {
            in.rdi = flags;
            in.rsi = in.rdx = in.r8 = in.r10 = 0;
        }
        wrong = call(0, NO_RAX);
        if (getpid() != self) /* the child: RAX is 0 */
            _exit(wrong || out.rax != 0);
        if (out.rax >= -4095ull) {
            check(0, name, "error %ld", (long)-out.rax);
            return;
        }
        waitpid(out.rax, &status, 0);
    }
    check(!wrong && status == 0, name, "%s", wrong ? wrong : "the child's registers differ");
}

/* The first instruction of a program whose entry point is moved here by `exec_registers`. */
asm(".pushsection .text\n"
    "exec_entry:\n"
    STORE_REGISTERS("out")
    "pushfq; popq out+128(%rip)\n"
    "por %xmm1, %xmm0; por %xmm2, %xmm0; por %xmm3, %xmm0; por %xmm4, %xmm0; por %xmm5, %xmm0\n"
    "por %xmm6, %xmm0; por %xmm7, %xmm0; por %xmm8, %xmm0; por %xmm9, %xmm0; por %xmm10, %xmm0\n"
    "por %xmm11, %xmm0; por %xmm12, %xmm0; por %xmm13, %xmm0; por %xmm14, %xmm0; por %xmm15, %xmm0\n"
    "movdqu %xmm0, exec_xmm(%rip); stmxcsr exec_mxcsr(%rip); fnstcw exec_control(%rip)\n"
    "and $-16, %rsp\n"
    "call exec_check\n"
    ".popsection\n");
extern const unsigned char exec_entry[];

__attribute__((used)) static uint64_t exec_xmm[2];
__attribute__((used)) static uint32_t exec_mxcsr;
__attribute__((used)) static uint16_t exec_control;

__attribute__((used, noreturn)) static void exec_check(void)
{
    uint64_t *registers = (uint64_t *)&out, bad = 0;
    for (int i = 0; i < 16; i++)
        if (i != 7 && registers[i])
            bad = i + 1;
    if (out.rsp % 16)
        bad = 20;
    if (out.rflags & ~(uint64_t)(FLAGS_DEFAULT | ARITHMETIC | ID)) /* no TF, DF, NT, AC, IOPL from the old program */
        bad = 21;
    if ((exec_xmm[0] | exec_xmm[1]) || exec_mxcsr != 0x1f80 || exec_control != 0x37f)
        bad = 22;
    asm volatile("syscall" : : "a"(SYS_exit_group), "D"(bad));
    __builtin_unreachable();
}

static int exec_copy(void)
{
    static char *no_strings[] = { "exec", NULL }, *no_environment[] = { NULL };
    static const char path[] = "/tmp/exec_registers";
    randomize(&in);
    in.rflags |= DF | AC | NT;
    in.rax = SYS_execve;
    in.rdi = (uint64_t)path;
    in.rsi = (uint64_t)no_strings;
    in.rdx = (uint64_t)no_environment;
    uint32_t mxcsr = 0x7f80;
    asm volatile("ldmxcsr %0; pcmpeqd %%xmm9, %%xmm9; fninit; fld1" : : "m"(mxcsr));
    run(enter_kernel);
    return 30;
}

static void exec_registers(const char *self)
{
    const char name[] = "registers of a new program";
    static unsigned char image[4 << 20];
    mkdir("/tmp", 0777);
    int from = open(self, O_RDONLY), to = open("/tmp/exec_registers", O_WRONLY | O_CREAT | O_TRUNC, 0755);
    ssize_t size = read(from, image, sizeof image);
    if (!check(size > 64 && size < (ssize_t)sizeof image && to >= 0, "copy of this program", "errno %d", errno))
        return;
    *(uint64_t *)(image + 24) = (uint64_t)exec_entry; /* e_entry */
    ssize_t written = write(to, image, size);
    close(from);
    close(to);
    if (!check(written == size, "new entry point", "wrote %zd of %zd", written, size))
        return;
    int status = in_child(exec_copy);
    check(status == 0, name, "status %#x (exit n = register n-1, 20 = stack alignment, 21 = flags, 22 = FPU)", status);
    unlink("/tmp/exec_registers");
}

int main(int argc, char **argv)
{
    (void)argc;
    many("getpid", SYS_getpid, getpid(), ARITHMETIC);
    many("getpid with DF, AC, NT and ID", SYS_getpid, getpid(), ARITHMETIC | DF | AC | NT | ID);
    many("unknown number", 4000, -ENOSYS, ARITHMETIC | DF | AC | NT | ID);
    many("sched_yield", SYS_sched_yield, 0, ARITHMETIC | DF | AC | NT | ID);
    signal_at_exit();
    child_registers("fork", SYS_fork, 0);
    child_registers("clone", SYS_clone, SIGCHLD);
    child_registers("vfork-like clone", SYS_clone, SIGCHLD | CLONE_VFORK);
    exec_registers(argv[0]);
    return done();
}
