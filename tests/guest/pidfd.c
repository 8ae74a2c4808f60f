// build: -pthread
/* Descriptors of processes: made by pidfd_open, clone and clone3, waited for by poll, epoll and waitid, used to send
 * signals and to take over descriptors; in PID namespaces.
 */
#include "check.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#define NONBLOCK O_NONBLOCK

static int open_pidfd(pid_t pid, unsigned flags)
{
    return syscall(SYS_pidfd_open, pid, flags);
}

static int send(int pidfd, int signo, siginfo_t *info, unsigned flags)
{
    return syscall(SYS_pidfd_send_signal, pidfd, signo, info, flags);
}

static int take(int pidfd, int fd, unsigned flags)
{
    return syscall(SYS_pidfd_getfd, pidfd, fd, flags);
}

/* A child that lives until something is written to the pipe. */
struct child {
    pid_t pid;
    int fd;
    int hold;
};

static void wait_for_end_of(int fd)
{
    char byte;
    while (read(fd, &byte, 1) < 0 && errno == EINTR)
        ;
}

static struct child start(unsigned flags)
{
    int ends[2];
    if (pipe(ends))
        _exit(99);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[1]);
        wait_for_end_of(ends[0]);
        _exit(7);
    }
    close(ends[0]);
    return (struct child){ pid, open_pidfd(pid, flags), ends[1] };
}

static void let_go(int hold)
{
    if (write(hold, "x", 1) != 1)
        _exit(99);
    close(hold);
}

static short ready(int fd, int timeout)
{
    struct pollfd entry = { fd, POLLIN, 0 };
    return poll(&entry, 1, timeout) < 0 ? -1 : entry.revents;
}

static void *thread_that_shows_its_id(void *argument)
{
    int *ends = argument;
    pid_t tid = syscall(SYS_gettid);
    if (write(ends[1], &tid, sizeof tid) != sizeof tid)
        _exit(99);
    wait_for_end_of(ends[2]);
    return NULL;
}

static void opening(void)
{
    struct child child = start(0);
    struct stat status;
    char byte = 0, link[64] = "", name[64];
    check(child.fd >= 0, "pidfd_open", "%s", strerror(errno));
    check(fcntl(child.fd, F_GETFD) == FD_CLOEXEC, "it is closed by exec", "%d", fcntl(child.fd, F_GETFD));
    check((fcntl(child.fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == O_RDWR, "it is open for both", "%#x",
          fcntl(child.fd, F_GETFL));
    check(fails_with(read(child.fd, &byte, 1), EINVAL), "there is nothing to read", "%s", strerror(errno));
    check(fails_with(write(child.fd, &byte, 1), EINVAL), "or to write", "%s", strerror(errno));
    check(fstat(child.fd, &status) == 0, "fstat", "%s", strerror(errno));
    snprintf(name, sizeof name, "/proc/self/fd/%d", child.fd);
    check(readlink(name, link, sizeof link - 1) > 0 && (!strcmp(link, "anon_inode:[pidfd]") || strstr(link, "pidfd")),
          "its link", "%s", link);
    int copy = dup(child.fd);
    check(copy >= 0 && send(copy, 0, NULL, 0) == 0, "a duplicate", "%s", strerror(errno));
    close(copy);
    int other = open_pidfd(child.pid, NONBLOCK);
    check(other >= 0 && fcntl(other, F_GETFL) & O_NONBLOCK, "PIDFD_NONBLOCK", "%d", other);
    close(other);
    check(fails_with(open_pidfd(child.pid, 1u << 30), EINVAL), "unknown flags", "%s", strerror(errno));
    check(fails_with(open_pidfd(0, 0), EINVAL), "process 0", "%s", strerror(errno));
    check(fails_with(open_pidfd(-1, 0), EINVAL), "process -1", "%s", strerror(errno));
    check(fails_with(open_pidfd(INT_MIN, 0), EINVAL), "process INT_MIN", "%s", strerror(errno));
    check(fails_with(open_pidfd(INT_MAX, 0), ESRCH), "a process that there is not", "%s", strerror(errno));
    let_go(child.hold);
    siginfo_t info;
    waitid(P_PID, child.pid, &info, WEXITED | WNOWAIT);
    other = open_pidfd(child.pid, 0);
    check(other >= 0, "a zombie has one", "%s", strerror(errno));
    close(other);
    waitpid(child.pid, NULL, 0);
    check(fails_with(open_pidfd(child.pid, 0), ESRCH), "a process that has been waited for has none", "%s", strerror(errno));
    check(fails_with(send(child.fd, 0, NULL, 0), ESRCH), "and gets no signals", "%s", strerror(errno));
    check(fails_with(take(child.fd, 0, 0), ESRCH), "and has no descriptors", "%s", strerror(errno));
    check(ready(child.fd, 0) & POLLIN, "and is ready", "%#x", ready(child.fd, 0));
    close(child.fd);

    int ends[3], hold[2];
    pthread_t thread;
    pid_t tid = 0;
    if (pipe(ends) || pipe(hold))
        _exit(99);
    ends[2] = hold[0];
    pthread_create(&thread, NULL, thread_that_shows_its_id, ends);
    int got = read(ends[0], &tid, sizeof tid);
    int result = open_pidfd(tid, 0);
    /* Newer Linux says ENOENT. */
    check(got == sizeof tid && result == -1 && (errno == EINVAL || errno == ENOENT), "a thread has none", "%d: %s", result,
          strerror(errno));
    close(hold[1]);
    pthread_join(thread, NULL);
    close(ends[0]), close(ends[1]), close(hold[0]);
}

static int value_of(const char *file, const char *key, char *line, size_t size)
{
    FILE *stream = fopen(file, "r");
    int found = 0;
    while (stream && !found && fgets(line, size, stream))
        found = !strncmp(line, key, strlen(key));
    if (stream)
        fclose(stream);
    return found;
}

static void information(void)
{
    struct child child = start(0);
    char name[64], line[256] = "", expected[64];
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", child.fd);
    snprintf(expected, sizeof expected, "Pid:\t%d\n", child.pid);
    check(value_of(name, "Pid:", line, sizeof line) && !strcmp(line, expected), "fdinfo has the number", "%s", line);
    snprintf(expected, sizeof expected, "NSpid:\t%d\n", child.pid);
    check(value_of(name, "NSpid:", line, sizeof line) && !strncmp(line, expected, strlen(expected) - 1),
          "fdinfo has the numbers in namespaces", "%s", line);
    let_go(child.hold);
    waitpid(child.pid, NULL, 0);
    check(value_of(name, "Pid:", line, sizeof line) && !strcmp(line, "Pid:\t-1\n"), "a process that is gone: -1", "%s", line);
    check(value_of(name, "NSpid:", line, sizeof line) && !strcmp(line, "NSpid:\t-1\n"), "there as well", "%s", line);
    close(child.fd);
}

static void waiting(void)
{
    struct child child = start(0);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    check(waitid(P_PIDFD, child.fd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0, "WNOHANG", "pid %d", info.si_pid);
    check(fcntl(child.fd, F_SETFL, O_NONBLOCK) == 0 && fails_with(waitid(P_PIDFD, child.fd, &info, WEXITED), EAGAIN),
          "a nonblocking pidfd", "%s", strerror(errno));
    info.si_pid = 1;
    check(waitid(P_PIDFD, child.fd, &info, WEXITED | WNOHANG) == 0, "with WNOHANG it is no error", "%s", strerror(errno));
    fcntl(child.fd, F_SETFL, 0);
    let_go(child.hold);
    check(waitid(P_PIDFD, child.fd, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == child.pid && info.si_code == CLD_EXITED &&
              info.si_status == 7 && info.si_signo == SIGCHLD,
          "WNOWAIT", "pid %d code %d status %d", info.si_pid, info.si_code, info.si_status);
    memset(&info, 0, sizeof info);
    check(waitid(P_PIDFD, child.fd, &info, WEXITED) == 0 && info.si_pid == child.pid && info.si_status == 7, "P_PIDFD",
          "pid %d status %d", info.si_pid, info.si_status);
    check(fails_with(waitid(P_PIDFD, child.fd, &info, WEXITED), ECHILD), "once", "%s", strerror(errno));
    fcntl(child.fd, F_SETFL, O_NONBLOCK);
    check(fails_with(waitid(P_PIDFD, child.fd, &info, WEXITED), ECHILD), "once, nonblocking", "%s", strerror(errno));
    close(child.fd);
    check(fails_with(waitid(P_PIDFD, child.fd, &info, WEXITED), EBADF), "a closed descriptor", "%s", strerror(errno));
    check(fails_with(waitid(P_PIDFD, -1, &info, WEXITED), EINVAL), "-1", "%s", strerror(errno));
    int null = open("/dev/null", O_RDWR);
    check(fails_with(waitid(P_PIDFD, null, &info, WEXITED), EBADF), "another file", "%s", strerror(errno));
    close(null);
    int self = open_pidfd(getpid(), 0);
    check(fails_with(waitid(P_PIDFD, self, &info, WEXITED), ECHILD), "oneself is no child", "%s", strerror(errno));
    close(self);
    struct child one = start(0), two = start(0);
    let_go(one.hold);
    waitid(P_PID, one.pid, &info, WEXITED | WNOWAIT);
    memset(&info, 0, sizeof info);
    check(waitid(P_PIDFD, two.fd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0, "another child does not count", "pid %d",
          info.si_pid);
    waitpid(one.pid, NULL, 0);
    close(one.fd);
    kill(two.pid, SIGSTOP);
    memset(&info, 0, sizeof info);
    check(waitid(P_PIDFD, two.fd, &info, WSTOPPED) == 0 && info.si_code == CLD_STOPPED && info.si_status == SIGSTOP, "a stop",
          "code %d status %d", info.si_code, info.si_status);
    check(!(ready(two.fd, 0) & POLLIN), "a stop does not make it ready", "it does");
    kill(two.pid, SIGKILL);
    check(waitid(P_PIDFD, two.fd, &info, WEXITED) == 0 && info.si_code == CLD_KILLED && info.si_status == SIGKILL, "a kill",
          "code %d status %d", info.si_code, info.si_status);
    close(two.fd), close(two.hold);
}

static void *close_it(void *argument)
{
    /* Comes while main sleeps, or before: the result is the same. */
    usleep(20000);
    let_go(*(int *)argument);
    return NULL;
}

static int hold_of_leader;

static void *outlives_the_leader(void *argument)
{
    (void)argument;
    wait_for_end_of(hold_of_leader);
    _exit(3);
}

static void polling(void)
{
    struct child child = start(0);
    pthread_t thread;
    check(ready(child.fd, 0) == 0, "a process that runs is not ready", "%#x", ready(child.fd, 0));
    pthread_create(&thread, NULL, close_it, &child.hold);
    check(ready(child.fd, -1) == POLLIN, "its end wakes who polls", "%#x", ready(child.fd, 0));
    pthread_join(thread, NULL);
    siginfo_t info;
    check(waitid(P_PIDFD, child.fd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == child.pid, "then it can be waited for",
          "pid %d", info.si_pid);
    check(ready(child.fd, 0) & POLLIN, "and stays ready", "%#x", ready(child.fd, 0));
    close(child.fd);

    child = start(0);
    int set = epoll_create1(0);
    struct epoll_event event = { EPOLLIN | EPOLLET, { .u64 = 5 } };
    check(epoll_ctl(set, EPOLL_CTL_ADD, child.fd, &event) == 0, "epoll takes it", "%s", strerror(errno));
    check(epoll_wait(set, &event, 1, 0) == 0, "not ready", "ready");
    pthread_create(&thread, NULL, close_it, &child.hold);
    event.data.u64 = 0;
    check(epoll_wait(set, &event, 1, -1) == 1 && event.data.u64 == 5 && event.events & EPOLLIN, "its end wakes epoll", "%#x",
          event.events);
    pthread_join(thread, NULL);
    waitpid(child.pid, NULL, 0);
    close(child.fd), close(set);

    /* A leader that has ended, and another thread that has not. */
    int hold[2];
    if (pipe(hold))
        _exit(99);
    pid_t pid = fork();
    if (pid == 0) {
        close(hold[1]);
        hold_of_leader = hold[0];
        pthread_create(&thread, NULL, outlives_the_leader, NULL);
        syscall(SYS_exit, 0);
    }
    close(hold[0]);
    int fd = open_pidfd(pid, 0);
    char name[64], line[64] = "";
    snprintf(name, sizeof name, "/proc/%d/task/%d/stat", pid, pid);
    for (int try = 0; try < 2000 && access(name, F_OK) == 0; try++) {
        FILE *stream = fopen(name, "r");
        int zombie = stream && fgets(line, sizeof line, stream) && strstr(line, ") Z");
        if (stream)
            fclose(stream);
        if (zombie)
            break;
        usleep(1000);
    }
    check(ready(fd, 0) == 0, "a leader's end does not make it ready", "%#x", ready(fd, 0));
    close(hold[1]);
    check(ready(fd, -1) & POLLIN, "the last thread's does", "%#x", ready(fd, 0));
    int status;
    check(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3, "with the process's status", "%#x", status);
    close(fd);

    /* Children that nobody waits for. */
    signal(SIGCHLD, SIG_IGN);
    child = start(0);
    let_go(child.hold);
    check(ready(child.fd, -1) & POLLIN, "a child that is not waited for", "%#x", ready(child.fd, 0));
    close(child.fd);
    signal(SIGCHLD, SIG_DFL);
}

static volatile siginfo_t last;

static void note(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    last = *info;
}

static void *forge(void *argument)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGUSR1;
    info.si_code = SI_USER;
    *(int *)argument = send(*(int *)argument, SIGUSR1, &info, 0) == -1 ? errno : 0;
    return NULL;
}

static void signals(void)
{
    struct sigaction action = { .sa_sigaction = note, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR1, &action, NULL);
    int self = open_pidfd(getpid(), 0);
    memset((void *)&last, 0, sizeof last);
    check(send(self, SIGUSR1, NULL, 0) == 0 && last.si_signo == SIGUSR1 && last.si_code == SI_USER && last.si_pid == getpid(),
          "a signal to oneself", "code %d pid %d", last.si_code, last.si_pid);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGUSR1;
    info.si_code = SI_QUEUE;
    info.si_value.sival_int = 77;
    check(send(self, SIGUSR1, &info, 0) == 0 && last.si_code == SI_QUEUE && last.si_value.sival_int == 77, "with a value", "%d",
          last.si_value.sival_int);
    info.si_code = SI_USER;
    check(send(self, SIGUSR1, &info, 0) == 0 && last.si_code == SI_USER, "anything goes to oneself", "%s", strerror(errno));
    check(fails_with(send(self, SIGUSR2, &info, 0), EINVAL), "information about another signal", "%s", strerror(errno));
    check(fails_with(send(self, SIGUSR1, (void *)8, 0), EFAULT), "information nowhere", "%s", strerror(errno));
    check(fails_with(send(self, 65, NULL, 0), EINVAL), "signal 65", "%s", strerror(errno));
    check(fails_with(send(self, -1, NULL, 0), EINVAL), "signal -1", "%s", strerror(errno));
    check(fails_with(send(self, SIGUSR1, NULL, 1u << 31), EINVAL), "flags", "%s", strerror(errno));
    check(send(self, 0, NULL, 0) == 0, "signal 0", "%s", strerror(errno));
    pthread_t thread;
    int result = self;
    pthread_create(&thread, NULL, forge, &result);
    pthread_join(thread, NULL);
    check(result == EPERM || result == 0, "a thread forges for its leader", "%d", result);
    close(self);
    check(fails_with(send(self, 0, NULL, 0), EBADF), "a closed descriptor gets none", "%s", strerror(errno));
    int null = open("/dev/null", O_RDWR);
    check(fails_with(send(null, 0, NULL, 0), EBADF), "nor does another file", "%s", strerror(errno));
    close(null);

    struct child child = start(0);
    for (int code = SI_TKILL; code <= SI_USER; code++) {
        info.si_code = code;
        result = send(child.fd, SIGUSR1, &info, 0) == -1 ? errno : 0;
        int expected = code == SI_USER || code == SI_TKILL ? EPERM : 0;
        if (result != expected) {
            check(0, "what may be forged", "code %d gives %d", code, result);
            break;
        }
        if (code == SI_USER)
            check(1, "what may be forged", NULL);
    }
    info.si_code = 0x80;
    check(fails_with(send(child.fd, SIGUSR1, &info, 0), EPERM), "the kernel's word is not forged", "%s", strerror(errno));
    char name[64];
    snprintf(name, sizeof name, "/proc/%d", child.pid);
    int directory = open(name, O_RDONLY | O_DIRECTORY);
    check(send(directory, 0, NULL, 0) == 0, "its directory in /proc will do", "%s", strerror(errno));
    close(directory);
    directory = open("/proc", O_RDONLY | O_DIRECTORY);
    check(fails_with(send(directory, 0, NULL, 0), EBADF), "another will not", "%s", strerror(errno));
    close(directory);
    check(send(child.fd, SIGKILL, NULL, 0) == 0 && ready(child.fd, -1) & POLLIN, "SIGKILL", "%s", strerror(errno));
    check(send(child.fd, SIGTERM, NULL, 0) == 0, "a zombie takes them", "%s", strerror(errno));
    int status = -1;
    check(waitpid(child.pid, &status, 0) == child.pid && WTERMSIG(status) == SIGKILL, "and it was killed", "%#x", status);
    close(child.fd), close(child.hold);
}

static void descriptors(void)
{
    int ends[2], hold[2];
    char byte = 0;
    if (pipe(ends) || pipe(hold))
        _exit(99);
    pid_t pid = fork();
    if (pid == 0) {
        int here = dup2(ends[1], 200);
        close(ends[0]), close(ends[1]), close(hold[1]);
        if (write(here, "r", 1) != 1)
            _exit(1);
        wait_for_end_of(hold[0]);
        _exit(0);
    }
    int fd = open_pidfd(pid, 0);
    close(hold[0]);
    if (read(ends[0], &byte, 1) != 1)
        _exit(99);
    int taken = take(fd, 200, 0);
    check(taken >= 0 && write(taken, "x", 1) == 1 && read(ends[0], &byte, 1) == 1 && byte == 'x', "pidfd_getfd", "%d: %s", taken,
          strerror(errno));
    check(fcntl(taken, F_GETFD) == FD_CLOEXEC, "what it gives is closed by exec", "%d", fcntl(taken, F_GETFD));
    check(syscall(SYS_kcmp, getpid(), pid, 0, taken, 200) == 0, "it is the same open file", "%s", strerror(errno));
    close(taken);
    check(fails_with(take(fd, 201, 0), EBADF), "a descriptor that it does not have", "%s", strerror(errno));
    check(fails_with(take(fd, -1, 0), EBADF), "descriptor -1", "%s", strerror(errno));
    check(fails_with(take(fd, 200, 1), EINVAL), "flags of pidfd_getfd", "%s", strerror(errno));
    check(fails_with(take(ends[0], 200, 0), EBADF), "no pidfd", "%s", strerror(errno));
    check(fails_with(take(-1, 200, 0), EBADF), "no descriptor", "%s", strerror(errno));
    pid_t stranger = fork();
    if (stranger == 0) {
        /* Another user may not. */
        if (setgid(54321) || setuid(54321))
            _exit(0);
        _exit(take(fd, 200, 0) == -1 && errno == EPERM ? 0 : 1);
    }
    int status;
    waitpid(stranger, &status, 0);
    check(status == 0, "another user may not take any", "%#x", status);
    close(hold[1]);
    waitpid(pid, NULL, 0);
    close(fd), close(ends[0]), close(ends[1]);
}

static long clone_with(unsigned long flags, int *parent_tid)
{
#ifdef __i386__
    return syscall(SYS_clone, flags, 0, parent_tid, 0, 0);
#else
    return syscall(SYS_clone, flags, 0, parent_tid, 0, 0);
#endif
}

static void by_clone(void)
{
    int fd = -1, status;
    long pid = clone_with(CLONE_PIDFD | SIGCHLD, &fd);
    if (pid == 0)
        _exit(fcntl(fd, F_GETFD) == -1 ? 11 : 12);
    check(pid > 0 && fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC, "CLONE_PIDFD", "%ld, descriptor %d", pid, fd);
    siginfo_t info;
    check(waitid(P_PIDFD, fd, &info, WEXITED) == 0 && info.si_pid == pid, "it is the child's", "%s", strerror(errno));
    check(info.si_status == 11, "the child does not have it", "status %d", info.si_status);
    close(fd);
    pid = clone_with(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, &fd);
    if (pid == 0)
        _exit(0);
    check(fails_with(pid, EINVAL), "with CLONE_PARENT_SETTID", "%ld", pid);
    pid = clone_with(CLONE_PIDFD | CLONE_DETACHED | SIGCHLD, &fd);
    if (pid == 0)
        _exit(0);
    check(fails_with(pid, EINVAL), "with CLONE_DETACHED", "%ld", pid);
    int before = dup(0);
    close(before);
    pid = clone_with(CLONE_PIDFD | SIGCHLD, (int *)8);
    if (pid == 0)
        _exit(0);
    int after = dup(0);
    close(after);
    check(fails_with(pid, EFAULT) && before == after, "nowhere to write to: no child, no descriptor", "%ld, %d then %d", pid,
          before, after);
    check(waitpid(-1, &status, WNOHANG | __WALL) == -1 && errno == ECHILD, "no child is left", "one is");

    int tid = 0;
    struct clone_args args = { .flags = CLONE_PIDFD | CLONE_PARENT_SETTID,
                               .pidfd = (uintptr_t)&fd,
                               .parent_tid = (uintptr_t)&tid,
                               .exit_signal = SIGCHLD };
    pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        _exit(4);
    check(pid > 0 && tid == pid && ready(fd, -1) & POLLIN && waitid(P_PIDFD, fd, &info, WEXITED) == 0 && info.si_status == 4,
          "clone3 has a place for both", "%ld, tid %d", pid, tid);
    close(fd);
    args.parent_tid = args.pidfd;
    pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        _exit(0);
    check(fails_with(pid, EINVAL), "but not the same", "%ld", pid);
    args.flags = CLONE_PIDFD | CLONE_VFORK;
    pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        _exit(6);
    check(pid > 0 && ready(fd, 0) >= 0 && waitid(P_PIDFD, fd, &info, WEXITED) == 0 && info.si_status == 6,
          "with CLONE_VFORK, and memory of its own", "%ld", pid);
    close(fd);
    struct limits { uint64_t soft, hard; } limit, few;
    if (syscall(SYS_prlimit64, 0, 7, NULL, &limit) == 0) {
        few = (struct limits){ before, limit.hard };
        syscall(SYS_prlimit64, 0, 7, &few, NULL);
        args.flags = CLONE_PIDFD;
        pid = syscall(SYS_clone3, &args, sizeof args);
        if (pid == 0)
            _exit(0);
        check(fails_with(pid, EMFILE), "no descriptor left", "%ld: %s", pid, strerror(errno));
        syscall(SYS_prlimit64, 0, 7, &limit, NULL);
    }
}

/* What Linux's test harness does for each test: a group of its own, a wait with a limit by a pidfd. */
static void harness(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        struct clone_args args = { .flags = CLONE_VFORK, .exit_signal = SIGCHLD };
        pid_t inner = syscall(SYS_clone3, &args, sizeof args);
        if (inner == 0)
            _exit(21);
        int status;
        _exit(waitpid(inner, &status, 0) == inner ? WEXITSTATUS(status) : 1);
    }
    int fd = open_pidfd(pid, 0), status = 0;
    check(ready(fd, 60000) == POLLIN && waitpid(pid, &status, WNOHANG) == pid && WEXITSTATUS(status) == 21,
          "a test of Linux's harness", "status %#x", status);
    close(fd);
}

static int in_namespace(void)
{
    /* Process 1 of a new namespace. */
    char *failed = NULL;
    if (getpid() != 1)
        return 1;
    struct child child = start(0);
    int self = open_pidfd(1, 0);
    if (child.pid == 1 || child.fd < 0 || self < 0)
        failed = "open";
    if (!failed && send(child.fd, SIGKILL, NULL, 0))
        failed = "send";
    siginfo_t info;
    if (!failed && (waitid(P_PIDFD, child.fd, &info, WEXITED) || info.si_pid != child.pid))
        failed = "waitid";
    if (failed)
        fprintf(stderr, "%s: %s\n", failed, strerror(errno));
    return failed ? 2 : 0;
}

static void namespaces(void)
{
    int parent = open_pidfd(getpid(), 0), hold[2], go[2], fd = -1;
    if (pipe(hold) || pipe(go))
        _exit(99);
    struct clone_args args = { .flags = CLONE_NEWPID | CLONE_PIDFD, .pidfd = (uintptr_t)&fd, .exit_signal = SIGCHLD };
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        close(hold[1]);
        int result = in_namespace();
        if (!result && !(send(parent, 0, NULL, 0) == -1 && errno == EINVAL))
            result = 3;
        char code = result;
        if (write(go[1], &code, 1) != 1)
            _exit(9);
        wait_for_end_of(hold[0]);
        _exit(result);
    }
    if (pid < 0) {
        skip("PID namespaces", "%s", strerror(errno));
        return;
    }
    char code = -1;
    if (read(go[0], &code, 1) != 1)
        code = -2;
    check(code == 0, "a process of another namespace", "%d", code);
    char name[64], line[64] = "", expected[64];
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
    snprintf(expected, sizeof expected, "\t%d\t1\n", pid);
    check(value_of(name, "NSpid:", line, sizeof line) && strstr(line, expected), "fdinfo has both numbers", "%s", line);
    close(hold[1]);
    siginfo_t info;
    check(waitid(P_PIDFD, fd, &info, WEXITED) == 0 && info.si_pid == pid && info.si_status == 0, "and is waited for from outside",
          "pid %d status %d", info.si_pid, info.si_status);
    close(fd), close(parent), close(hold[0]), close(go[0]), close(go[1]);
}

int main(void)
{
    opening();
    information();
    waiting();
    polling();
    signals();
    descriptors();
    by_clone();
    harness();
    namespaces();
    return done();
}
