/* INT 0x80 from a 64-bit program: the call is one of the i386 table, with 32-bit number and arguments, and nothing but RAX
 * changes, R8 to R15 and all upper halves included. What such a call leaves behind is nothing: the next 64-bit call, of a
 * forked child too, is a 64-bit one. Bugs 9 (stale compat state), 10 and 43 (unknown numbers), 34 (restarts have the
 * number of their own table), 35 (registers).
 */
#include "registers.h"
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/time.h>

SNIPPET(enter_32, "int $0x80");
SNIPPET(enter_64, "syscall");

/* Numbers of the i386 table. */
enum { I386_FORK = 2, I386_READ = 3, I386_EXECVE = 11, I386_GETPID = 20, I386_KILL = 37, I386_WRITEV = 146,
       I386_GETPGID = 132, I386_NANOSLEEP = 162, I386_MMAP2 = 192, I386_GETTID = 224 };

/* Everything that is pointed to is below 4 GiB: the program is not position-independent. */
static int tube[2];
static char byte;

static const char *call(uint64_t number, uint64_t result, unsigned ignored)
{
    in.rax = number;
    run(enter_32);
    struct registers want = in;
    want.rax = result;
    return difference(&want, &out, ignored);
}

static void registers(void)
{
    const char *wrong = NULL;
    for (int round = 0; round < 200 && !wrong; round++) {
        randomize(&in);
        in.rflags |= random_number() & (DF | AC | ID);
        wrong = call(I386_GETPID, getpid(), 0);
    }
    check(!wrong, "getpid", "%s", wrong);
    for (int round = 0; round < 200 && !wrong; round++) {
        randomize(&in);
        wrong = call(random_number() << 32 | I386_GETPID, getpid(), 0);
    }
    check(!wrong, "the upper half of RAX is not looked at", "%s", wrong);
    for (int round = 0; round < 200 && !wrong; round++) {
        randomize(&in);
        in.rbx = random_number() << 32 | (uint32_t)getpid();
        wrong = call(I386_GETPGID, getpgid(0), 0);
    }
    check(!wrong, "nor those of the arguments", "%s", wrong);
    randomize(&in);
    in.rbx = 0x7fffffff;
    wrong = call(I386_GETPGID, -ESRCH, 0);
    check(!wrong, "errors fill all of RAX", "%s", wrong);
}

static void numbers(void)
{
    static const uint64_t list[] = { 0xffffffff, 0xfffffffe, 0x80000000, 0x80000014, 0x40000014, 0x7fffffff, 0x10014, 4096,
                                     1000, 600, -1ull, -512ull, -513ull, -514ull, -516ull, 1ull << 63 | 1000 };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char name[32];
        randomize(&in);
        const char *wrong = call(list[i], -ENOSYS, 0);
        snprintf(name, sizeof name, "number %#lx", list[i]);
        check(!wrong, name, "%s", wrong);
    }
    const char *wrong = NULL;
    for (int round = 0; round < 2000 && !wrong; round++) {
        uint64_t number = random_number() >> (round % 48);
        if ((uint32_t)number < 600)
            continue;
        randomize(&in);
        wrong = call(number, -ENOSYS, 0);
    }
    check(!wrong, "random numbers", "%s", wrong);
}

static void signal_at_exit(void)
{
    const char *wrong = NULL;
    catch_signal(SIGUSR1, 0);
    for (int round = 0; round < 50 && !wrong; round++) {
        randomize(&in);
        in.rbx = getpid();
        in.rcx = SIGUSR1;
        caught.count = 0;
        wrong = call(I386_KILL, 0, 0);
        struct registers want = in;
        want.rax = 0;
        if (!wrong)
            wrong = difference(&want, &caught.registers, 0);
        if (!wrong && (caught.count != 1 || caught.rip != (uint64_t)enter_32_end || caught.cs != 0x33))
            wrong = "the handler did not run once, in 64-bit code, right after the INT 0x80";
    }
    check(!wrong, "signal at the exit of the call", "%s", wrong);
}

/* Where a mapping goes tells which kind of call the kernel takes it for. */
static int mmap_is_64_bit(void)
{
    void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int high = (uint64_t)page >> 32 != 0;
    munmap(page, 4096);
    return high;
}

static void nothing_stays(void)
{
    randomize(&in);
    in.rbx = 0, in.rcx = 4096, in.rdx = PROT_READ | PROT_WRITE, in.rsi = MAP_PRIVATE | MAP_ANONYMOUS;
    in.rdi = -1, in.rbp = 0;
    const char *wrong = call(I386_MMAP2, 0, NO_RAX);
    check(!wrong && out.rax < 1ull << 32 && out.rax >= 65536, "mmap2 gives an address below 4 GiB", "%#lx, %s", out.rax, wrong);
    if (out.rax < 1ull << 32)
        munmap((void *)out.rax, 4096);
    check(mmap_is_64_bit(), "the mmap after it one above", "it does not");
    randomize(&in);
    call(5000, -ENOSYS, 0);
    check(mmap_is_64_bit(), "an unknown number leaves nothing behind", "the next mmap counts as a 32-bit call");
    catch_signal(SIGUSR1, 0);
    randomize(&in);
    in.rbx = getpid(), in.rcx = SIGUSR1;
    call(I386_KILL, 0, 0);
    check(mmap_is_64_bit(), "nor does a signal", "the next mmap counts as a 32-bit call");

    pid_t self = getpid();
    int status = -1;
    randomize(&in);
    wrong = call(I386_FORK, 0, NO_RAX);
    if (getpid() != self) /* the child: 39 is getpid here, mkdir in the other table */
        _exit(wrong || out.rax != 0 ? 1 : !mmap_is_64_bit() ? 2 : syscall(39) != getpid() ? 3 : 0);
    waitpid(out.rax, &status, 0);
    check(!wrong && status == 0, "fork: the child's calls are 64-bit ones", "status %#x, %s", status, wrong);
}

static void structures(void)
{
    static uint32_t vector[4];
    static char text[] = "written";
    if (pipe(tube))
        return;
    /* struct iovec of 32 bits */
    vector[0] = (uint32_t)(uint64_t)text, vector[1] = 3, vector[2] = (uint32_t)(uint64_t)text + 3, vector[3] = 5;
    randomize(&in);
    in.rbx = tube[1], in.rcx = (uint64_t)vector, in.rdx = 2;
    const char *wrong = call(I386_WRITEV, 8, 0);
    char got[8] = "";
    if (!wrong && read(tube[0], got, 8) != 8)
        wrong = "nothing to read";
    check(!wrong && !memcmp(got, text, 8), "writev with 32-bit vectors", "%s", wrong ? wrong : got);
}

static void refill(int signal, siginfo_t *info, ucontext_t *context)
{
    (void)signal, (void)info, (void)context;
    if (write(tube[1], "x", 1) != 1)
        _exit(97);
}

static void restarts(void)
{
    for (int again = 0; again < 2; again++) {
        catch_signal(SIGALRM, again ? SA_RESTART : 0);
        on_signal = refill;
        caught.count = 0;
        randomize(&in);
        in.rbx = tube[0], in.rcx = (uint64_t)&byte, in.rdx = 1;
        pid_t sender = signal_when_asleep(SIGALRM);
        const char *wrong = call(I386_READ, again ? 1 : -EINTR, 0);
        on_signal = NULL;
        reap(sender);
        uint64_t rip = (uint64_t)(again ? enter_32 : enter_32_end);
        check(!wrong && caught.count == 1 && caught.rip == rip, again ? "read, SA_RESTART" : "read",
              "%d signals, rip %#lx, %s", caught.count, caught.rip, wrong ? wrong : "registers right");
        if (!again && read(tube[0], &byte, 1) != 1)
            return;
    }
    /* Stopped and continued: restart_syscall, whose number the two tables do not share. */
    pid_t child = fork();
    if (child == 0) {
        static uint32_t nap[2] = { 0, 60000000 };
        uint64_t start = microseconds();
        randomize(&in);
        in.rbx = (uint64_t)nap, in.rcx = 0;
        const char *wrong = call(I386_NANOSLEEP, 0, 0);
        _exit(wrong ? 1 : microseconds() - start < 60000 ? 2 : 0);
    }
    int status = -1;
    usleep(20000);
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    check(status == 0, "nanosleep, stopped and continued", "status %#x", status);
}

static void exec(const char *self)
{
    static uint32_t pointers[4];
    static char path[256], argument[] = "executed";
    snprintf(path, sizeof path, "%s", self);
    pointers[0] = (uint32_t)(uint64_t)path, pointers[1] = (uint32_t)(uint64_t)argument;
    pid_t child = fork();
    if (child == 0) {
        randomize(&in);
        in.rbx = (uint64_t)path, in.rcx = (uint64_t)pointers, in.rdx = (uint64_t)&pointers[2];
        call(I386_EXECVE, 0, 0);
        _exit(1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check(status == 42 << 8, "execve with 32-bit pointers", "status %#x", status);
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "executed"))
        return mmap_is_64_bit() ? 42 : 43;
    registers();
    numbers();
    signal_at_exit();
    nothing_stays();
    structures();
    restarts();
    exec(argv[0]);
    return done();
}
