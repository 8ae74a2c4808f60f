/* What waits find and what they do not wait for; a process whose first thread has ended; the times of children that nobody
 * waits for; poll ended by a signal; a tracee's end that makes way for exec; the time-stamp counter turned off.
 */
// build: -pthread
#include "check.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/select.h>

static int waitid_error(int kind, id_t id, siginfo_t *info, int options) { return waitid(kind, id, info, options) ? errno : 0; }

static void options(void)
{
    siginfo_t info;
    pid_t child = fork();
    if (child == 0)
        _exit(3);
    check(waitid_error(P_PID, child, &info, WEXITED | WNOWAIT) == 0, "WNOWAIT leaves the child", "%d", errno);
    check(info.si_pid == child && info.si_status == 3 && info.si_code == CLD_EXITED && info.si_signo == SIGCHLD && info.si_uid == getuid(),
          "its siginfo", "pid %d status %d uid %d", info.si_pid, info.si_status, info.si_uid);
    static const int without[] = {WSTOPPED, WCONTINUED, WSTOPPED | WCONTINUED, WSTOPPED | WNOHANG};
    for (size_t n = 0; n < sizeof without / sizeof *without; n++) {
        memset(&info, 0x55, sizeof info);
        check(waitid_error(P_ALL, 0, &info, without[n]) == ECHILD, "a zombie is nothing to wait for without WEXITED", "%d", errno);
        check(info.si_signo == 0 && info.si_pid == 0 && info.si_status == 0, "and siginfo is zero", "%d", info.si_signo);
    }
    check(waitid_error(P_ALL, 0, &info, 0) == EINVAL, "waitid for nothing", "%d", errno);
    check(waitid_error(P_ALL, 0, &info, WEXITED | 0x100) == EINVAL, "an unknown option", "%d", errno);
    check(waitid_error(P_PID, 0, &info, WEXITED) == EINVAL, "P_PID 0", "%d", errno);
    check(waitid_error(9, 0, &info, WEXITED) == EINVAL, "an unknown kind", "%d", errno);
    check(waitpid(child, NULL, 0x100) == -1 && errno == EINVAL, "an unknown option of wait4", "%d", errno);
    check(waitpid(child, NULL, __WCLONE | WNOHANG) == -1 && errno == ECHILD, "__WCLONE is for others", "%d", errno);
    check(waitid_error(P_PGID, 0, NULL, WEXITED | WNOWAIT) == 0, "P_PGID 0 without a siginfo", "%d", errno);
    check(waitpid(child, NULL, __WALL) == child, "__WALL is for all", "%d", errno);
    check(waitid_error(P_ALL, 0, &info, WEXITED) == ECHILD, "and then there is none", "%d", errno);
    child = fork();
    if (child == 0) {
        for (;;)
            pause();
    }
    memset(&info, 0x55, sizeof info);
    check(waitid_error(P_PID, child, &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == 0, "one that lives may yet stop", "%d", errno);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* The letter of /proc/PID/stat. */
static char state(pid_t pid)
{
    char path[64], line[256], letter = '?';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (file && fgets(line, sizeof line, file))
        sscanf(strrchr(line, ')') + 1, " %c", &letter);
    if (file)
        fclose(file);
    return letter;
}

static int release[2];
static void *survivor(void *unused)
{
    char byte;
    (void)unused;
    if (read(release[0], &byte, 1) != 1)
        _exit(91);
    syscall(SYS_exit, 5);
    return NULL;
}

static pid_t without_leader(void)
{
    if (pipe(release))
        return -1;
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        pthread_create(&thread, NULL, survivor, NULL);
        syscall(SYS_exit, 3);
    }
    while (state(child) != 'Z')
        sched_yield();
    return child;
}

static void dead_leader(void)
{
    int status;
    char path[64];
    pid_t child = without_leader();
    check(waitpid(child, &status, WNOHANG) == 0, "it is not reaped while threads live", "it is");
    check(kill(child, 0) == 0, "it may be signalled", "%d", errno);
    check(syscall(SYS_tgkill, child, child, SIGKILL) == 0, "so may its first thread", "%d", errno);
    check(syscall(SYS_tkill, child, 0) == 0, "by tkill, too", "%d", errno);
    check(state(child) == 'Z', "which does nothing", "%c", state(child));
    snprintf(path, sizeof path, "/proc/%d/task/%d", child, child);
    check(access(path, F_OK) == 0, "it is still among its threads", "%d", errno);
    if (write(release[1], "r", 1) != 1)
        _exit(92);
    waitpid(child, &status, 0);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 5, "the process ends with the last thread's status", "%x", status);
    child = without_leader();
    kill(child, SIGUSR1);
    waitpid(child, &status, 0);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1, "kill reaches the others", "%x", status);
    child = fork();
    if (child == 0)
        _exit(0);
    while (state(child) != 'Z')
        sched_yield();
    check(syscall(SYS_tgkill, child, child, SIGTERM) == 0 && kill(child, SIGTERM) == 0, "a zombie is sent to in vain", "%d", errno);
    check(syscall(SYS_tgkill, child, child, 65) == -1 && errno == EINVAL, "but not a bad signal", "%d", errno);
    check(syscall(SYS_tgkill, getpid(), child, 0) == -1 && errno == ESRCH, "nor as another process's", "%d", errno);
    waitpid(child, NULL, 0);
    check(syscall(SYS_tgkill, child, child, 0) == -1 && errno == ESRCH, "and then it is gone", "%d", errno);
}

static long long used_by_children(void)
{
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000ll + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static int burn(void)
{
    struct timespec time;
    do
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    while (time.tv_nsec < 50000000 && time.tv_sec == 0);
    return 0;
}

static void children_not_waited_for(void)
{
    long long before = used_by_children();
    signal(SIGCHLD, SIG_IGN);
    in_child(burn);
    long long after = used_by_children();
    check(after == before, "what nobody waits for is not counted", "%lld us", after - before);
    signal(SIGCHLD, SIG_DFL);
    in_child(burn);
    check(used_by_children() >= before + 40000, "what is waited for is", "%lld us", used_by_children() - before);
}

static void nothing(int signal) { (void)signal; }
static pid_t sends_when_it_sleeps(int signal)
{
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        /* Again and again: one that comes before the sleep only ends an earlier call. */
        while (getppid() == parent) {
            kill(parent, signal);
            usleep(1000);
        }
        _exit(0);
    }
    return child;
}

static void poll_and_select(void)
{
    struct sigaction action = {.sa_handler = nothing};
    int pipes[2];
    if (pipe(pipes))
        return;
    sigaction(SIGUSR1, &action, NULL);
    pid_t sender = sends_when_it_sleeps(SIGUSR1);
    struct pollfd polled[2] = {{pipes[0], POLLIN, 0x7f}, {-1, POLLIN, 0x7e}};
    int result = poll(polled, 2, -1);
    check(result == -1 && errno == EINTR, "poll is ended by a signal", "%d", result);
    check(polled[0].revents == 0 && polled[1].revents == 0, "and has written revents", "%x %x", polled[0].revents, polled[1].revents);
    polled[0].revents = polled[1].revents = 0x7f;
    result = ppoll(polled, 2, NULL, NULL);
    check(result == -1 && errno == EINTR && polled[0].revents == 0 && polled[1].revents == 0, "so does ppoll", "%d %x", result, polled[0].revents);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipes[0], &set);
    result = select(pipes[0] + 1, &set, NULL, NULL, NULL);
    check(result == -1 && errno == EINTR && FD_ISSET(pipes[0], &set), "select leaves its sets alone", "%d", result);
    kill(sender, SIGKILL);
    waitpid(sender, NULL, 0);
}

static void *executes(void *unused)
{
    execl("/proc/self/exe", "waits", "end", NULL);
    return unused;
}

static void exec_in_thread(void)
{
    int status;
    unsigned long message = 77;
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        pthread_create(&thread, NULL, executes, NULL);
        for (;;)
            pause();
    }
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL);
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    ptrace(PTRACE_GETEVENTMSG, child, 0, &message);
    check(status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8) && message == 0, "a thread that makes way for exec ends with 0", "status %x message %lu", status, message);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
}

static int tsc_mode(void)
{
    int mode = -1;
    return prctl(PR_GET_TSC, &mode) ? -1 : mode;
}
static int reads_counter(void) { __builtin_ia32_rdtsc(); return 0; }
static int forbidden(void) { return prctl(PR_SET_TSC, PR_TSC_SIGSEGV) ? 99 : reads_counter(); }
static int inherited(void)
{
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
    int status = in_child(reads_counter);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 98;
}
static int executed(void)
{
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
    execl("/proc/self/exe", "waits", "tsc", NULL);
    return 97;
}
static int allowed_again(void)
{
    /* Others run in between, with and without. */
    prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
    int status = in_child(reads_counter);
    prctl(PR_SET_TSC, PR_TSC_ENABLE);
    for (int n = 0; n < 100; n++) {
        reads_counter();
        sched_yield();
    }
    return WIFSIGNALED(status) ? in_child(reads_counter) : 96;
}

static void counter(void)
{
    check(tsc_mode() == PR_TSC_ENABLE, "the counter may be read", "%d", tsc_mode());
    int status = in_child(forbidden);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "PR_TSC_SIGSEGV", "%x", status);
    reads_counter();
    status = in_child(inherited);
    check(WEXITSTATUS(status) == SIGSEGV, "children inherit it", "%x", status);
    status = in_child(executed);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "exec keeps it", "%x", status);
    status = in_child(allowed_again);
    check(status == 0, "and it can be taken back", "%x", status);
    check(prctl(PR_SET_TSC, 3) == -1 && errno == EINVAL, "there is no third mode", "%d", errno);
}

int main(int count, char **arguments)
{
    if (count > 1)
        return strcmp(arguments[1], "tsc") == 0 ? reads_counter() : 0;
    options();
    dead_leader();
    children_not_waited_for();
    poll_and_select();
    exec_in_thread();
    counter();
    return done();
}
