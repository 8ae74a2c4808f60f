/* Stop and continue, wait statuses, process groups and sessions, orphaned groups; a task without system calls is still
 * stopped, continued and killed (bug 26: `for (;;);` under an alarm).
 */
#include "check.h"
#include <sys/mman.h>
#include <sys/resource.h>

static volatile uint32_t *shared;

static int exits_with_300(void) { return 300; }
static int aborts(void)
{
    struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_CORE, &none);
    abort();
}

static __attribute__((noreturn)) int alarmed(void)
{
    alarm(1);
    for (;;)
        ;
}

static int broken_pipe(void)
{
    int ends[2];
    if (pipe(ends))
        return 2;
    close(ends[0]);
    return write(ends[1], "x", 1) == 1;
}

static int broken_pipe_ignored(void)
{
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    if (pipe(ends))
        return 2;
    close(ends[0]);
    return !(write(ends[1], "x", 1) == -1 && errno == EPIPE);
}

static void statuses(void)
{
    int status = in_child(exits_with_300);
    check(status == (300 & 0xff) << 8, "exit keeps eight bits", "status %#x", status);
    status = in_child(aborts);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "abort", "status %#x", status);
    uint64_t start = microseconds();
    status = in_child(alarmed);
    uint64_t took = microseconds() - start;
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM && took > 900000 && (took < 1900000 || !steady_clock()),
          "an alarm kills for (;;);", "status %#x after %lu us", status, took);
    status = in_child(broken_pipe);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE, "SIGPIPE", "status %#x", status);
    status = in_child(broken_pipe_ignored);
    check(status == 0, "EPIPE where SIGPIPE is ignored", "status %#x", status);
}

static pid_t spinner(void)
{
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        for (;;)
            (*shared)++;
    }
    setpgid(child, child);
    return child;
}

static int moves(void)
{
    uint32_t before = *shared;
    usleep(30000);
    return *shared != before;
}

static int goes_on(void)
{
    uint32_t before = *shared;
    return wait_until(*shared != before);
}

static void stop_and_continue(void)
{
    siginfo_t info;
    int status = -1;
    pid_t child = spinner();
    while (!*shared)
        usleep(1000);
    check(waitpid(child, &status, WNOHANG) == 0, "WNOHANG while it runs", "status %#x", status);
    kill(child, SIGSTOP);
    pid_t waited = waitpid(child, &status, WUNTRACED);
    check(waited == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "WUNTRACED", "%d, status %#x", waited,
          status);
    check(!moves(), "a stopped task does not run", "it does");
    check(waitpid(child, &status, WUNTRACED | WNOHANG) == 0, "a stop is reported once", "status %#x", status);
    kill(child, SIGUSR1);
    check(waitpid(child, &status, WUNTRACED | WNOHANG) == 0, "a stopped task takes no signal", "status %#x", status);
    kill(child, SIGKILL);
    waited = waitpid(child, &status, 0);
    check(waited == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "but SIGKILL", "status %#x", status);

    child = spinner();
    usleep(5000);
    kill(child, SIGTSTP);
    memset(&info, 0, sizeof info);
    int result = waitid(P_PID, child, &info, WSTOPPED | WNOWAIT);
    check(result == 0 && info.si_code == CLD_STOPPED && info.si_status == SIGTSTP && info.si_pid == child,
          "waitid, WSTOPPED and WNOWAIT", "%d, code %d, status %d", result, info.si_code, info.si_status);
    memset(&info, 0, sizeof info);
    result = waitid(P_PID, child, &info, WSTOPPED | WNOHANG);
    check(result == 0 && info.si_pid == child, "WNOWAIT leaves it", "%d", info.si_pid);
    kill(child, SIGCONT);
    waited = waitpid(child, &status, WCONTINUED);
    check(waited == child && WIFCONTINUED(status), "WCONTINUED", "%d, status %#x", waited, status);
    check(goes_on(), "a continued task runs", "it does not");
    kill(child, SIGSTOP);
    kill(child, SIGCONT);
    check(goes_on(), "SIGCONT undoes a stop that is pending", "it is stopped");
    kill(-child, SIGTERM);
    memset(&info, 0, sizeof info);
    result = waitid(P_PGID, child, &info, WEXITED);
    check(result == 0 && info.si_code == CLD_KILLED && info.si_status == SIGTERM, "kill of a group, waitid of a group",
          "%d, code %d, status %d", result, info.si_code, info.si_status);
    waited = waitpid(child, &status, 0);
    check(waited == -1 && errno == ECHILD, "ECHILD when there is none", "%d", waited);
}

static volatile int child_signals;
static siginfo_t child_info;

static void on_child(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    child_info = *info;
    child_signals++;
}

static void child_signal(void)
{
    struct sigaction action = { .sa_sigaction = on_child, .sa_flags = SA_SIGINFO };
    int status;
    sigaction(SIGCHLD, &action, NULL);
    pid_t child = spinner();
    usleep(5000);
    child_signals = 0;
    kill(child, SIGSTOP);
    wait_until(child_signals);
    check(child_signals == 1 && child_info.si_code == CLD_STOPPED && child_info.si_status == SIGSTOP,
          "SIGCHLD for a stop", "%d, code %d", child_signals, child_info.si_code);
    kill(child, SIGCONT);
    wait_until(child_signals == 2);
    check(child_signals == 2 && child_info.si_code == CLD_CONTINUED && child_info.si_status == SIGCONT,
          "SIGCHLD for a continuation", "%d, code %d", child_signals, child_info.si_code);
    action.sa_flags = SA_SIGINFO | SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, NULL);
    child_signals = 0;
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    usleep(10000);
    check(child_signals == 0, "none with SA_NOCLDSTOP", "%d", child_signals);
    kill(child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;

    for (int ignore = 0; ignore < 2; ignore++) {
        action = (struct sigaction){ .sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_NOCLDWAIT };
        if (ignore)
            action = (struct sigaction){ .sa_handler = SIG_IGN };
        sigaction(SIGCHLD, &action, NULL);
        child = fork();
        if (child == 0)
            _exit(1);
        pid_t waited;
        while ((waited = waitpid(child, &status, 0)) == -1 && errno == EINTR)
            ;
        check(waited == -1 && errno == ECHILD, ignore ? "no zombie when SIGCHLD is ignored" : "no zombie with SA_NOCLDWAIT",
              "%d, %s", waited, strerror(errno));
    }
    signal(SIGCHLD, SIG_DFL);
}

static void groups(void)
{
    int status, result;
    pid_t child = fork();
    if (child == 0) {
        pid_t self = getpid();
        int bad = getpgrp() != getpgid(getppid()) || setpgid(0, 0) || getpgrp() != self;
        bad |= setpgid(0, 0x3ffffff) != -1 || errno != EPERM;
        _exit(bad);
    }
    waitpid(child, &status, 0);
    check(status == 0, "a child inherits its group and may make its own", "status %#x", status);

    child = fork();
    if (child == 0) {
        pid_t self = getpid(), session = setsid();
        int bad = session != self || getsid(0) != self || getpgrp() != self || setsid() != -1 || errno != EPERM;
        bad |= setpgid(0, 0) != -1 || errno != EPERM; /* a session's leader */
        _exit(bad);
    }
    waitpid(child, &status, 0);
    check(status == 0, "setsid", "status %#x", status);
    result = setpgid(0x3ffffff, 0);
    check(result == -1 && errno == ESRCH, "setpgid of nobody", "%d, %s", result, strerror(errno));
    result = setpgid(0, -1);
    check(result == -1 && errno == EINVAL, "setpgid to a negative group", "%d, %s", result, strerror(errno));
    result = kill(-0x3ffffff, 0);
    check(result == -1 && errno == ESRCH, "kill of an empty group", "%d, %s", result, strerror(errno));
    result = kill(-0x3ffffff, 65);
    check(result == -1 && errno == ESRCH, "the group comes before the signal", "%d, %s", result, strerror(errno));
    result = kill(-getpgrp(), 65);
    check(result == -1 && errno == EINVAL, "a group is sent no bad signal", "%d, %s", result, strerror(errno));

    /* kill(0) reaches all members of the own group and nobody else. */
    pid_t leader = fork();
    if (leader == 0) {
        setpgid(0, 0);
        for (int i = 0; i < 2; i++)
            if (fork() == 0)
                for (;;)
                    pause();
        signal(SIGTERM, SIG_IGN);
        usleep(5000);
        kill(0, SIGTERM);
        int members = 0;
        for (int i = 0; i < 2; i++)
            members += wait(&status) > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
        _exit(members != 2);
    }
    waitpid(leader, &status, 0);
    check(status == 0, "kill of the own group", "status %#x", status);
}

/* A stopped group whose last link to its session goes away gets SIGHUP and SIGCONT; and in an orphaned group the
 * terminal's stop signals do nothing. */
static void note_hangup(int signal)
{
    shared[signal == SIGHUP ? 1 : 2] = 1;
}

static void orphans(void)
{
    int status;
    memset((void *)shared, 0, 64);
    pid_t middle = fork();
    if (middle == 0) {
        setsid();
        pid_t child = fork();
        if (child == 0) {
            setpgid(0, 0);
            signal(SIGHUP, note_hangup);
            signal(SIGCONT, note_hangup);
            raise(SIGTSTP);
            wait_until(shared[1] && shared[2]);
            raise(SIGTSTP); /* orphaned now: no stop */
            shared[3] = 1;
            _exit(0);
        }
        waitpid(child, &status, WUNTRACED);
        _exit(!WIFSTOPPED(status));
    }
    waitpid(middle, &status, 0);
    check(status == 0, "a group stops while its session is there", "status %#x", status);
    wait_until(shared[3]);
    check(shared[1] && shared[2], "an orphaned stopped group gets SIGHUP and SIGCONT", "SIGHUP %u, SIGCONT %u", shared[1],
          shared[2]);
    check(shared[3], "SIGTSTP does not stop an orphaned group", "it does");
}

int main(void)
{
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    statuses();
    stop_and_continue();
    child_signal();
    groups();
    orphans();
    return done();
}
