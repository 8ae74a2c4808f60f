/* Bad pointers to system calls: null, unmapped, read-only, partly mapped, kernel addresses and non-canonical ones give
 * EFAULT, write nothing they should not, and never harm the kernel, whatever the pointer's own bits are.
 */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>

static int tube[2], null_device;
static unsigned char *pages; /* one writable page, one read-only, one that is not there */

/* A system call with `bad` in the place of argument `place`; what it must not do is succeed. */
struct call {
    const char *name;
    long number, arguments[6];
    int place;  /* counted from 0 */
    int reads;  /* the kernel reads there; read-only memory is then good */
};

static void sweep(const struct call *call)
{
    const uint64_t end = (uint64_t)pages + 2 * 4096;
    const uint64_t bad[] = { 8, 4095, end, end + 4096, 0x7ffffffff000, 0x7fffffffffff, 0x800000000000,
                             0x8000000000000000, 0xdeadbeefdeadbeef, 0xffff7fffffffffff, 0xffff800000000000,
                             0xffff888000000000, 0xfffffe0000000000, 0xffffffff81000000, 0xfffffffffffff000, -8ull, -1ull,
                             (uint64_t)pages + 4096 };
    int wrong = 0;
    uint64_t which = 0;
    long got = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad - (call->reads != 0); i++) {
        long a[6];
        memcpy(a, call->arguments, sizeof a);
        a[call->place] = bad[i];
        long result = syscall(call->number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (result != -1 || errno != EFAULT) {
            wrong++;
            which = bad[i];
            got = result == -1 ? -errno : result;
        }
    }
    check(!wrong, call->name, "%d of the pointers, such as %#lx, gave %ld", wrong, which, got);
}

static void calls(void)
{
    static struct timespec soon = { 0, 1000 };
    static const struct call list[] = {
        { "write", SYS_write, { 1, 0, 64 }, 1, 1 },
        { "stat, name", SYS_stat, { 0, 0 }, 0, 1 },
        { "stat, result", SYS_stat, { (long)"/", 0 }, 1, 0 },
        { "open", SYS_open, { 0, O_RDONLY }, 0, 1 },
        { "openat", SYS_openat, { AT_FDCWD, 0, O_RDONLY }, 1, 1 },
        { "pipe", SYS_pipe, { 0 }, 0, 0 },
        { "uname", SYS_uname, { 0 }, 0, 0 },
        { "gettimeofday", SYS_gettimeofday, { 0, 0 }, 0, 0 },
        { "clock_gettime", SYS_clock_gettime, { CLOCK_MONOTONIC, 0 }, 1, 0 },
        { "nanosleep", SYS_nanosleep, { 0, 0 }, 0, 1 },
        { "rt_sigaction, new", SYS_rt_sigaction, { SIGUSR1, 0, 0, 8 }, 1, 1 },
        { "rt_sigaction, old", SYS_rt_sigaction, { SIGUSR1, 0, 0, 8 }, 2, 0 },
        { "rt_sigprocmask", SYS_rt_sigprocmask, { SIG_BLOCK, 0, 0, 8 }, 1, 1 },
        { "rt_sigpending", SYS_rt_sigpending, { 0, 8 }, 0, 0 },
        { "rt_sigsuspend", SYS_rt_sigsuspend, { 0, 8 }, 0, 1 },
        { "rt_sigtimedwait, set", SYS_rt_sigtimedwait, { 0, 0, (long)&soon, 8 }, 0, 1 },
        { "sigaltstack, new", SYS_sigaltstack, { 0, 0 }, 0, 1 },
        { "sigaltstack, old", SYS_sigaltstack, { 0, 0 }, 1, 0 },
        { "setitimer", SYS_setitimer, { ITIMER_REAL, 0, 0 }, 1, 1 },
        { "getitimer", SYS_getitimer, { ITIMER_REAL, 0 }, 1, 0 },
        { "getrusage", SYS_getrusage, { RUSAGE_SELF, 0 }, 1, 0 },
        { "times", SYS_times, { 0 }, 0, 0 },
        { "getrlimit", SYS_getrlimit, { RLIMIT_NOFILE, 0 }, 1, 0 },
        { "poll", SYS_poll, { 0, 1, 0 }, 0, 0 },
        { "execve, name", SYS_execve, { 0, 0, 0 }, 0, 1 },
        { "chdir", SYS_chdir, { 0 }, 0, 1 },
        { "readv", SYS_readv, { 0, 0, 1 }, 1, 1 },
        { "sched_getaffinity", SYS_sched_getaffinity, { 0, 8, 0 }, 2, 0 },
        { "getdents64", SYS_getdents64, { 3, 0, 4096 }, 1, 0 },
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct call call = list[i];
        if (call.number == SYS_write)
            call.arguments[0] = tube[1];
        if (call.number == SYS_readv)
            call.arguments[0] = null_device;
        if (call.number == SYS_getdents64)
            call.arguments[0] = open("/", O_RDONLY | O_DIRECTORY);
        sweep(&call);
        if (call.number == SYS_getdents64)
            close(call.arguments[0]);
    }
}

/* A read into bad memory takes the data or leaves it; the pipe is intact afterwards. */
static void reads(void)
{
    const struct call call = { "read", SYS_read, { tube[0], 0, 64 }, 1, 0 };
    char buffer[4096] = { 0 };
    for (int i = 0; i < 40; i++)
        if (write(tube[1], buffer, 64) != 64)
            _exit(98);
    sweep(&call);
    fcntl(tube[0], F_SETFL, O_NONBLOCK);
    while (read(tube[0], buffer, sizeof buffer) > 0)
        ;
    fcntl(tube[0], F_SETFL, 0);
    check(write(tube[1], "ok", 2) == 2 && read(tube[0], buffer, 8) == 2 && !memcmp(buffer, "ok", 2), "the pipe afterwards",
          "%.2s", buffer);
}

/* Buffers that end where memory ends. */
static void borders(void)
{
    char *hole = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(hole + 4096, 4096);
    memset(hole, 'h', 4096);
    ssize_t result = write(tube[1], hole + 4096 - 100, 100);
    check(result == 100, "write up to the end of memory", "%zd", result);
    char buffer[200];
    check(read(tube[0], buffer, 200) == 100, "it all came", "less");
    result = write(tube[1], hole + 4096 - 100, 101);
    check(result == 100 || (result == -1 && errno == EFAULT), "write one byte too far: a part, or EFAULT", "%zd", result);
    while (result > 0)
        result -= read(tube[0], buffer, 200);
    strcpy(hole + 4096 - 5, "/tmp");
    struct stat status;
    check(stat(hole + 4096 - 5, &status) == 0 || errno == ENOENT, "a name that ends where memory ends", "%s",
          strerror(errno));
    memset(hole, 'h', 4096);
    hole[0] = '/';
    int fd = open(hole, O_RDONLY);
    check(fd == -1 && (errno == EFAULT || errno == ENAMETOOLONG), "a name without an end", "%s", strerror(errno));
    fd = open(hole + 4000, O_RDONLY);
    check(fd == -1 && errno == EFAULT, "a name that runs out of memory", "%s", strerror(errno));

    struct stat *split = (struct stat *)(hole + 4096 - sizeof(struct stat) + 8);
    int code = stat("/", split);
    check(code == -1 && errno == EFAULT, "a result that does not fit", "%d, %s", code, strerror(errno));
    result = syscall(SYS_write, tube[1], hole, -1ul);
    check(result == -1 || result > 0, "a length beyond all memory", "%zd", result);
    munmap(hole, 4096);
}

static void vectors(void)
{
    struct iovec parts[3] = { { "ab", 2 }, { (void *)0xffff888000000000, 2 }, { "cd", 2 } };
    char buffer[16];
    fcntl(tube[0], F_SETFL, O_NONBLOCK);
    while (read(tube[0], buffer, sizeof buffer) > 0)
        ;
    ssize_t result = writev(tube[1], parts, 3);
    check(result == 2 || (result == -1 && errno == EFAULT), "writev with a kernel address: the first part, or EFAULT",
          "%zd, %s", result, strerror(errno));
    ssize_t came = read(tube[0], buffer, sizeof buffer);
    check(came == (result == 2 ? 2 : -1), "no byte of the kernel came", "%zd", came);
    parts[1] = (struct iovec){ buffer, -1ul };
    result = writev(tube[1], parts, 3);
    check(result == -1 && errno == EINVAL, "a negative length", "%zd, %s", result, strerror(errno));
    result = syscall(SYS_writev, tube[1], parts, -1);
    check(result == -1 && errno == EINVAL, "a negative count", "%zd, %s", result, strerror(errno));
    fcntl(tube[0], F_SETFL, 0);
}

static const char *self;

static int exec_with(char *const *arguments, char *const *environment)
{
    pid_t child = fork();
    int status = -1;
    if (child == 0) {
        execve(self, arguments, environment);
        _exit(errno == EFAULT ? 0 : errno);
    }
    waitpid(child, &status, 0);
    return status;
}

static void programs(void)
{
    char *bad[] = { "x", (char *)0xffff888000000000, NULL }, *good[] = { "x", NULL };
    int status = exec_with(bad, good);
    check(status == 0, "execve with a kernel address among the arguments", "status %#x", status);
    status = exec_with(good, bad);
    check(status == 0, "execve with one in the environment", "status %#x", status);
    status = exec_with((char **)0x8000000000000000, good);
    check(status == 0, "execve with a non-canonical list", "status %#x", status);
}

/* The wait status, the robust list, the clear-tid word: pointers that are used late. */
static int exits_with_bad_pointers(void)
{
    syscall(SYS_set_tid_address, 0xffff888000000000);
    syscall(SYS_set_robust_list, 0x8000000000000000, 24);
    return 4;
}

static void late(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(1);
    long result = syscall(SYS_wait4, child, 0xffff888000000000, 0, 0);
    check(result == -1 && errno == EFAULT, "wait4", "%ld", result);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    int status = in_child(exits_with_bad_pointers);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 4, "bad pointers that exit follows", "status %#x", status);
}

int main(int argc, char **argv)
{
    self = argv[argc - 1];
    pages = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + 4096, 4096, PROT_READ);
    munmap(pages + 2 * 4096, 2 * 4096);
    null_device = open("/dev/zero", O_RDONLY);
    if (null_device < 0 || pipe(tube))
        return 99;
    calls();
    reads();
    borders();
    vectors();
    programs();
    late();
    return done();
}
