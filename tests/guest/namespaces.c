/* PID and user namespaces: which numbers tasks have for whom, what a namespace's init is spared and what ends with it, whose
 * capabilities count, which ids are seen.
 */
#include "tracer.h"
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static volatile int *shared; /* by all processes of the test */

/* Forks a child that is the init of a new PID namespace. */
static pid_t fork_init(void)
{
    return syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
}

static void *thread_number(void *unused)
{
    (void)unused;
    shared[2] = syscall(SYS_gettid);
    return NULL;
}

static int first_numbers(void)
{
    if (getpid() != 1 || syscall(SYS_gettid) != 1 || getppid() != 0)
        return 1;
    if (setsid() != 1 || getpgid(0) != 1 || getsid(0) != 1)
        return 2;
    pid_t child = fork();
    if (child == 0)
        _exit(getpid() == 2 && getppid() == 1 && getpgid(0) == 1 ? 7 : 8);
    int status;
    if (child != 2 || waitpid(2, &status, 0) != 2 || exit_code(status) != 7)
        return 3;
    pthread_t thread;
    pthread_create(&thread, NULL, thread_number, NULL);
    pthread_join(thread, NULL);
    if (shared[2] != 3)
        return 4;
    return kill(100, 0) == -1 && errno == ESRCH && kill(shared[0], 0) == -1 ? 0 : 5;
}

static void numbers(void)
{
    shared[0] = getpid() > 100 ? getpid() : 101;
    pid_t child = fork_init();
    if (child == 0)
        _exit(first_numbers());
    check(child > 1, "the parent knows init by another number", "%d: %s", child, strerror(errno));
    int status = next_status(child);
    check(exit_code(status) == 0, "numbers of a namespace", "step %d", exit_code(status));
}

/* What a signal from outside, from within, and about a child say of the sender. */
static int senders(void)
{
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    shared[0] = 1;
    if (sigwaitinfo(&set, &info) != SIGUSR1 || info.si_pid != 0)
        return 1;
    if (fork() == 0)
        _exit(kill(1, SIGUSR1));
    for (int n = 0; n < 2; n++) {
        int signal = sigwaitinfo(&set, &info);
        if (info.si_pid != 2)
            return 2 + signal;
    }
    return 0;
}

static void numbers_in_status(void)
{
    static const char *const names[] = { "NSpid:", "NStgid:" };
    char path[64], expected[64];
    pid_t child = fork_init();
    if (child == 0) {
        pause();
        _exit(0);
    }
    const char *got = proc_field("/proc/self/status", "NSpid:");
    snprintf(expected, sizeof expected, "\t%d\n", getpid());
    check(!strcmp(got, expected), "NSpid of one's own", "%s", got);
    snprintf(path, sizeof path, "/proc/%d/status", child);
    snprintf(expected, sizeof expected, "\t%d\t1\n", child);
    for (int i = 0; i < 2; i++) {
        got = proc_field(path, names[i]);
        check(!strcmp(got, expected), "numbers of a namespace's init", "%s%s", names[i], got);
    }
    got = proc_field(path, "NSpgid:");
    snprintf(expected, sizeof expected, "\t%d\t0\n", getpgrp());
    check(!strcmp(got, expected), "its group is of no number within", "%s", got);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static void sender_numbers(void)
{
    shared[0] = 0;
    pid_t child = fork_init();
    if (child == 0)
        _exit(senders());
    while (!shared[0])
        usleep(1000);
    kill(child, SIGUSR1);
    int status = next_status(child);
    check(exit_code(status) == 0, "who sent a signal", "step %d", exit_code(status));
}

static int spared(void)
{
    signal(SIGUSR1, SIG_DFL);
    if (fork() == 0) {
        for (int n = 0; n < 3; n++)
            kill(1, (int[]){ SIGTERM, SIGKILL, SIGSTOP }[n]);
        _exit(0);
    }
    int status;
    wait(&status);
    kill(getpid(), SIGKILL);
    shared[0] = 1;
    for (;;)
        pause();
}

static void protection(void)
{
    shared[0] = 0;
    pid_t child = fork_init();
    if (child == 0)
        _exit(spared());
    for (int n = 0; !shared[0] && n < 20000; n++)
        usleep(1000);
    check(shared[0], "no signal from within ends init", "it did");
    kill(child, SIGTERM);
    usleep(20000);
    check(waitpid(child, NULL, WNOHANG) == 0, "from outside not one that it could handle", "SIGTERM did");
    kill(child, SIGKILL);
    int status = next_status(child);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "but SIGKILL", "%#x", status);

    child = fork_init();
    if (child == 0) {
        asm volatile("ud2");
        _exit(1);
    }
    status = next_status(child);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL, "and its own fault", "%#x", status);
}

/* Init with a child and a grandchild that becomes an orphan; they hold the pipe open as long as they live. */
static int family(int end)
{
    if (fork() == 0) {
        if (fork() == 0) {
            while (getppid() != 1)
                usleep(1000);
            if (write(end, "o", 1) != 1)
                _exit(1);
            for (;;)
                pause();
        }
        _exit(0);
    }
    if (fork() == 0)
        for (;;)
            pause();
    /* Until the orphan is ours and has said so. */
    for (;;)
        pause();
}

static void all_end_with_init(void)
{
    int ends[2];
    char byte = 0;
    if (pipe(ends))
        return;
    if (unshare(CLONE_NEWPID)) {
        check(0, "unshare", "%s", strerror(errno));
        return;
    }
    check(getpid() > 1 && unshare(CLONE_NEWPID) == -1 && errno == EINVAL, "unshare is for children, and once", "it is not");
    pthread_t thread;
    int error = pthread_create(&thread, NULL, thread_number, NULL);
    check(error == EINVAL, "threads are of one namespace", "%d", error);
    pid_t init = fork();
    if (init == 0)
        family(ends[1]);
    close(ends[1]);
    check(read(ends[0], &byte, 1) == 1 && byte == 'o', "an orphan is init's", "%d", byte);
    kill(init, SIGKILL);
    next_status(init);
    check(read(ends[0], &byte, 1) == 0, "all are gone when init is", "one lives");
    pid_t late = fork();
    if (late == 0)
        _exit(0);
    check(late == -1 && errno == ENOMEM, "and nobody comes after", "%d, %s", late, strerror(errno));
}

static int put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    ssize_t done = write(fd, text, strlen(text));
    int error = done < 0 ? errno : 0;
    close(fd);
    return error;
}

static int as_nobody(void)
{
    if (unshare(CLONE_NEWUSER))
        return 1;
    if (getuid() != 65534 || getegid() != 65534)
        return 2;
    if (setuid(0) != -1 || errno != EINVAL)
        return 3;
    if (setgroups(0, NULL) != -1 || errno != EPERM)
        return 4;
    if (iopl(3) != -1 || (errno != EPERM && errno != ENOSYS))
        return 5;
    if (trace(PTRACE_ATTACH, getppid(), 0, 0) != -EPERM)
        return 6;
    if (unshare(CLONE_NEWPID))
        return 7;
    return unshare(CLONE_NEWUSER) == -1 && errno == EPERM ? 0 : 8;
}

static int as_root(void)
{
    char map[128] = "";
    if (unshare(CLONE_NEWUSER))
        return 1;
    if (put("/proc/self/uid_map", "0 0 1\n1 0 1\n") == 0)
        return 2;
    if (put("/proc/self/setgroups", "deny") || put("/proc/self/gid_map", "5 0 1"))
        return 3;
    if (put("/proc/self/uid_map", "7 0 1"))
        return 4;
    if (put("/proc/self/uid_map", "7 0 1") != EPERM)
        return 5;
    if (getuid() != 7 || getgid() != 5)
        return 6;
    if (setuid(0) != -1 || errno != EINVAL || setuid(7))
        return 7;
    int fd = open("/proc/self/uid_map", O_RDONLY);
    unsigned inside, outside, count;
    ssize_t length = read(fd, map, sizeof map - 1);
    close(fd);
    if (length <= 0 || sscanf(map, "%u %u %u", &inside, &outside, &count) != 3 || inside != 7 || outside != 0 || count != 1)
        return 8;
    if (setgroups(0, NULL) != -1 || errno != EPERM)
        return 9;
    if (unshare(CLONE_NEWUSER) || getuid() != 65534)
        return 10;
    return put("/proc/self/uid_map", "3 7 1") || getuid() != 3 ? 11 : 0;
}

static void users(void)
{
    int status = in_child(as_nobody);
    check(exit_code(status) == 0, "without a map one is nobody, and has no rights outside", "step %d", exit_code(status));
    status = in_child(as_root);
    check(exit_code(status) == 0, "a map, once, and one within it", "step %d", exit_code(status));
}

int main(void)
{
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    numbers();
    numbers_in_status();
    sender_numbers();
    protection();
    users();
    all_end_with_init();
    return done();
}
