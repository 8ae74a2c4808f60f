/* clone3: the sizes of its structure, what is refused, children with chosen numbers.
 */
#include "check.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mman.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define CLEAR_SIGHAND 0x100000000ull
#define INTO_CGROUP 0x200000000ull

struct args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* A child that ends at once with status 5, waited for: its number, or -1 with errno. */
static long child_of(void *args, size_t size)
{
    long pid = syscall(SYS_clone3, args, size);
    int status = 0, error = errno;
    if (pid == 0)
        _exit(5);
    if (pid > 0 && (waitpid(pid, &status, __WALL) != pid || status != 5 << 8))
        return -2;
    errno = error;
    return pid;
}

static long with(struct args args)
{
    return child_of(&args, sizeof args);
}

#define REFUSED(name, expected, ...) \
    do { \
        long result = with((struct args){ __VA_ARGS__ }); \
        check(result == -1 && errno == (expected), name, "%ld: %s", result, strerror(errno)); \
    } while (0)
#define MADE(name, ...) \
    do { \
        long result = with((struct args){ __VA_ARGS__ }); \
        check(result > 0, name, "%ld: %s", result, strerror(errno)); \
    } while (0)

static void sizes(void)
{
    static char page[8192] __attribute__((aligned(4096)));
    struct args *args = (struct args *)page;
    args->exit_signal = SIGCHLD;
    long result;
    const struct { const char *name; size_t size; int error; } cases[] = {
        { "no structure", 0, EINVAL },         { "63 bytes", 63, EINVAL },        { "the first version", 64, 0 },
        { "the second version", 80, 0 },       { "the third version", 88, 0 },    { "an odd size", 71, 0 },
        { "more, that is zero", 4096, 0 },     { "more than a page", 4097, E2BIG }, { "far more", (size_t)-1, E2BIG },
    };
    for (unsigned n = 0; n < sizeof cases / sizeof *cases; n++) {
        result = child_of(page, cases[n].size);
        check(cases[n].error ? result == -1 && errno == cases[n].error : result > 0, cases[n].name, "%ld: %s", result,
              strerror(errno));
    }
    page[4095] = 1;
    result = child_of(page, 4096);
    check(result == -1 && errno == E2BIG, "more, that is not zero", "%ld: %s", result, strerror(errno));
    page[4095] = 0;
    args->cgroup = 1;
    result = child_of(page, 80);
    check(result > 0, "what is beyond the size does not count", "%ld: %s", result, strerror(errno));
    args->flags = INTO_CGROUP;
    result = child_of(page, 80);
    check(result == -1 && errno == EINVAL, "CLONE_INTO_CGROUP without the member", "%ld: %s", result, strerror(errno));
    args->flags = args->cgroup = 0;
    result = child_of((void *)8, 88);
    check(result == -1 && errno == EFAULT, "nowhere", "%ld: %s", result, strerror(errno));
    char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(two + 4096, 4096, PROT_NONE);
    memcpy(two + 4096 - 88, args, 88);
    result = child_of(two + 4096 - 88, 88);
    check(result > 0, "at the end of memory", "%ld: %s", result, strerror(errno));
    result = child_of(two + 4096 - 88, 96);
    check(result == -1 && errno == EFAULT, "beyond the end of memory", "%ld: %s", result, strerror(errno));
}

static void flags(void)
{
    REFUSED("an unknown flag", EINVAL, .flags = 1ull << 40, .exit_signal = SIGCHLD);
    REFUSED("the highest flag", EINVAL, .flags = 1ull << 63, .exit_signal = SIGCHLD);
    REFUSED("a signal among the flags", EINVAL, .flags = SIGCHLD);
    REFUSED("CLONE_DETACHED", EINVAL, .flags = CLONE_DETACHED, .exit_signal = SIGCHLD);
    REFUSED("CLONE_SIGHAND without CLONE_VM", EINVAL, .flags = CLONE_SIGHAND, .exit_signal = SIGCHLD);
    REFUSED("CLONE_THREAD without CLONE_SIGHAND", EINVAL, .flags = CLONE_THREAD);
    REFUSED("CLONE_CLEAR_SIGHAND with CLONE_SIGHAND", EINVAL, .flags = CLEAR_SIGHAND | CLONE_SIGHAND | CLONE_VM,
            .exit_signal = SIGCHLD);
    REFUSED("CLONE_THREAD with a signal", EINVAL, .flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, .exit_signal = SIGCHLD);
    REFUSED("CLONE_PARENT with a signal", EINVAL, .flags = CLONE_PARENT, .exit_signal = SIGCHLD);
    REFUSED("CLONE_FS with CLONE_NEWUSER", EINVAL, .flags = CLONE_FS | CLONE_NEWUSER, .exit_signal = SIGCHLD);
    REFUSED("signal 65", EINVAL, .exit_signal = 65);
    REFUSED("signal 256", EINVAL, .exit_signal = 256);
    REFUSED("a signal of 33 bits", EINVAL, .exit_signal = 1ull << 32 | SIGCHLD);
    MADE("no signal at all", .exit_signal = 0);
    REFUSED("a stack without a size", EINVAL, .stack = (uintptr_t)&checks, .exit_signal = SIGCHLD);
    REFUSED("a size without a stack", EINVAL, .stack_size = 4096, .exit_signal = SIGCHLD);
    REFUSED("a stack that is no user memory", EINVAL, .stack = 1ull << 63, .stack_size = 4096, .exit_signal = SIGCHLD);
    REFUSED("a stack that wraps", EINVAL, .stack = 4096, .stack_size = -4096ull, .exit_signal = SIGCHLD);
    /* Linux that is built without control groups ignores the descriptor. */
    int ignored = access("/dev/gate", F_OK) && access("/proc/cgroups", F_OK);
    if (ignored)
        skip("CLONE_INTO_CGROUP", "the kernel has no control groups");
    else
        REFUSED("CLONE_INTO_CGROUP without a descriptor", EBADF, .flags = INTO_CGROUP, .cgroup = 1000, .exit_signal = SIGCHLD);
    REFUSED("CLONE_INTO_CGROUP with more than a descriptor", EINVAL, .flags = INTO_CGROUP, .cgroup = 1ull << 31,
            .exit_signal = SIGCHLD);
    int null = open("/dev/null", O_RDONLY);
    if (!ignored)
        REFUSED("CLONE_INTO_CGROUP with another file", EBADF, .flags = INTO_CGROUP, .cgroup = null, .exit_signal = SIGCHLD);
    close(null);
}

static void handler(int signo)
{
    (void)signo;
}

static int handlers_are_cleared(void)
{
    struct args args = { .flags = CLEAR_SIGHAND, .exit_signal = SIGCHLD };
    signal(SIGUSR1, handler);
    signal(SIGUSR2, SIG_IGN);
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        struct sigaction one, two;
        sigaction(SIGUSR1, NULL, &one);
        sigaction(SIGUSR2, NULL, &two);
        _exit((one.sa_handler != SIG_DFL) | (two.sa_handler != SIG_IGN) << 1);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

/* A number that nobody has. */
static pid_t free_number(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    /* Far from where the next ones come from. */
    for (pid_t number = pid > 16000 ? 12000 : 25000;; number++)
        if (kill(number, 0) && errno == ESRCH && getpgid(number) < 0)
            return number;
}

static void chosen(void)
{
    pid_t number = free_number(), numbers[40] = { number, 0 };
    for (int n = 1; n < 40; n++)
        numbers[n] = number;
    uint64_t at = (uintptr_t)numbers;
    long result = with((struct args){ .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1 });
    if (result == -1 && errno == EPERM) {
        skip("chosen numbers", "not allowed");
        return;
    }
    check(result == number, "a child with a chosen number", "%ld, not %d: %s", result, number, strerror(errno));
    result = with((struct args){ .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1 });
    check(result == number, "once more", "%ld, not %d: %s", result, number, strerror(errno));
    pid_t next = fork();
    if (next == 0)
        _exit(0);
    waitpid(next, NULL, 0);
    check(next != number + 1, "others go on where they were", "%d", next);
    REFUSED("a size without numbers", EINVAL, .exit_signal = SIGCHLD, .set_tid_size = 1);
    REFUSED("numbers without a size", EINVAL, .exit_signal = SIGCHLD, .set_tid = at);
    REFUSED("more numbers than levels can be", EINVAL, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 33);
    REFUSED("more numbers than levels there are", EINVAL, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 32);
    REFUSED("numbers nowhere", EFAULT, .exit_signal = SIGCHLD, .set_tid = 8, .set_tid_size = 1);
    numbers[0] = 0;
    REFUSED("number 0", EINVAL, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1);
    numbers[0] = -1;
    REFUSED("number -1", EINVAL, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1);
    numbers[0] = 1 << 30;
    REFUSED("a number above all", EINVAL, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1);
    numbers[0] = 1;
    REFUSED("number 1 is taken", EEXIST, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1);
    numbers[0] = getpid();
    REFUSED("our own number", EEXIST, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1);
    /* A zombie still has its own, and the last of a group keeps the group's. */
    numbers[0] = number;
    struct args args = { .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1 };
    pid_t zombie = syscall(SYS_clone3, &args, sizeof args);
    if (zombie == 0)
        _exit(0);
    siginfo_t info;
    waitid(P_PID, zombie, &info, WEXITED | WNOWAIT);
    REFUSED("a zombie's number", EEXIST, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1);
    waitpid(zombie, NULL, 0);
    MADE("when it has been waited for", .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1);

    /* A new namespace: its init is 1, and may have a chosen number outside. */
    args = (struct args){ .flags = CLONE_NEWPID, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 2 };
    numbers[0] = 1;
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        if (getpid() != 1)
            _exit(2);
        pid_t inner = 77;
        result = with((struct args){ .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&inner, .set_tid_size = 1 });
        if (result != 77)
            _exit(3);
        result = with((struct args){ .exit_signal = SIGCHLD });
        if (result <= 0 || result >= 77)
            _exit(4);
        inner = 1;
        result = with((struct args){ .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&inner, .set_tid_size = 1 });
        if (result != -1 || errno != EEXIST)
            _exit(6);
        _exit(5);
    }
    int status = -1;
    check(pid == number && waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5, "numbers in two namespaces",
          "%d: %s, status %#x", pid, strerror(errno), status);
    numbers[0] = 2;
    REFUSED("nobody before the init", EINVAL, .flags = CLONE_NEWPID, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 2);
    numbers[0] = 1;
    numbers[1] = getpid();
    REFUSED("taken outside", EEXIST, .flags = CLONE_NEWPID, .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 2);
    REFUSED("more than there are in a new one", EINVAL, .flags = CLONE_NEWPID, .exit_signal = SIGCHLD, .set_tid = at,
            .set_tid_size = 3);
    numbers[0] = number;
    pid = fork();
    if (pid == 0) {
        if (setgid(54321) || setuid(54321))
            _exit(1);
        result = with((struct args){ .exit_signal = SIGCHLD, .set_tid = at, .set_tid_size = 1 });
        _exit(result == -1 && errno == EPERM ? 0 : 2);
    }
    waitpid(pid, &status, 0);
    check(status == 0, "nobody else may choose", "%#x", status);
}

/* With this capability alone. */
static int with_capability(int capability)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
        struct __user_cap_data_struct data[2];
        memset(data, 0, sizeof data);
        if (capability >= 0)
            data[capability / 32].effective = data[capability / 32].permitted = 1u << (capability % 32);
        pid_t number = free_number();
        if (syscall(SYS_capset, &header, data))
            _exit(100);
        long result = with((struct args){ .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&number, .set_tid_size = 1 });
        _exit(result == number ? 0 : errno);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

/* Many at once, all for the same number: one at a time has it. */
static void races(void)
{
    enum { CHILDREN = 4, ROUNDS = 200 };
    pid_t number = free_number(), pids[CHILDREN];
    int *counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int n = 0; n < CHILDREN; n++) {
        pids[n] = fork();
        if (pids[n] == 0) {
            for (int round = 0; round < ROUNDS; round++) {
                struct args args = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&number, .set_tid_size = n % 2 };
                args.set_tid = n % 2 ? args.set_tid : 0;
                long pid = syscall(SYS_clone3, &args, sizeof args);
                if (pid == 0)
                    _exit(getpid() == number ? 9 : 8);
                int status, error = errno;
                if (pid == -1 && error == EEXIST)
                    continue;
                if (pid < 0 || waitpid(pid, &status, 0) != pid || status != (n % 2 ? 9 : 8) << 8)
                    _exit(1);
                __sync_fetch_and_add(counts + n % 2, 1);
            }
            _exit(0);
        }
    }
    int failed = 0, status;
    for (int n = 0; n < CHILDREN; n++)
        failed |= waitpid(pids[n], &status, 0) != pids[n] || status;
    check(!failed && counts[1] > 0 && counts[0] == CHILDREN / 2 * ROUNDS, "many at once", "failed %d, %d chosen, %d others",
          failed, counts[1], counts[0]);
}

int main(void)
{
    sizes();
    flags();
    int kept = handlers_are_cleared();
    check(kept == 0, "CLONE_CLEAR_SIGHAND: no handlers, and what was ignored still is", "%d", kept);
    chosen();
    int result = with_capability(CAP_SYS_ADMIN);
    if (result == 100) {
        skip("capabilities", "none to give up");
    } else {
        check(result == 0, "CAP_SYS_ADMIN", "%s", strerror(result));
        result = with_capability(40 /* CAP_CHECKPOINT_RESTORE */);
        check(result == 0, "CAP_CHECKPOINT_RESTORE", "%s", strerror(result));
        result = with_capability(CAP_SYS_PTRACE);
        check(result == EPERM, "another capability will not do", "%s", strerror(result));
        result = with_capability(-1);
        check(result == EPERM, "nor none", "%s", strerror(result));
        races();
    }
    return done();
}
