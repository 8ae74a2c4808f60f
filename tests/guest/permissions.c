/* Who may signal, trace and control whom; what is kept by each thread; what a parent's end means to its children.
 *
 * Run as root: processes of other users are made with setresuid. Everything waits for a state, nothing for a time.
 */
// build: -pthread
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define ROOT 0
#define OTHER 1000
#define THIRD 1001

static void become(uid_t real, uid_t effective, uid_t saved)
{
    if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, real, effective, saved) || syscall(SYS_setresuid, real, effective, saved))
        _exit(90);
}

/* A process with these user ids that waits until it is killed. `ready` orders its ids before what follows. */
static pid_t sleeper(uid_t real, uid_t effective, uid_t saved)
{
    int ready[2];
    char byte;
    if (pipe(ready))
        _exit(91);
    pid_t child = fork();
    if (child == 0) {
        become(real, effective, saved);
        if (write(ready[1], "r", 1) != 1)
            _exit(92);
        for (;;)
            pause();
    }
    if (read(ready[0], &byte, 1) != 1)
        _exit(93);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static int end(pid_t pid)
{
    int status = -1;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return status;
}

/* Runs `body(pid)` as a process with these ids; its exit status. */
static int as(uid_t real, uid_t effective, uid_t saved, int (*body)(pid_t), pid_t pid)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        become(real, effective, saved);
        _exit(body(pid));
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

static int failed(long result) { return result == -1 ? errno : 0; }
static int kill_0(pid_t pid) { return failed(kill(pid, 0)); }
static int kill_continue(pid_t pid) { return failed(kill(pid, SIGCONT)); }
static int kill_bad(pid_t pid) { return failed(kill(pid, 65)); }
static int kill_all(pid_t pid) { (void)pid; return failed(kill(-1, 0)); }
static int tkill_0(pid_t pid) { return failed(syscall(SYS_tkill, pid, 0)); }
static int tgkill_usr1(pid_t pid) { return failed(syscall(SYS_tgkill, pid, pid, SIGUSR1)); }
static int group_0(pid_t pid) { return failed(kill(-pid, 0)); }
static int queue(pid_t pid)
{
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    return failed(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info));
}
static int queue_thread(pid_t pid)
{
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    return failed(syscall(SYS_rt_tgsigqueueinfo, pid, pid, SIGUSR1, &info));
}
static int continue_elsewhere(pid_t pid) { return setsid() < 0 ? 94 : kill_continue(pid); }

static void signals(void)
{
    static const struct { const char *name; uid_t sender[3], target[3]; int right; } rows[] = {
        {"root to anybody", {ROOT, ROOT, ROOT}, {OTHER, OTHER, OTHER}, 0},
        {"a user to root", {OTHER, OTHER, OTHER}, {ROOT, ROOT, ROOT}, EPERM},
        {"a user to its own", {OTHER, OTHER, OTHER}, {OTHER, OTHER, OTHER}, 0},
        {"a user to another", {OTHER, OTHER, OTHER}, {THIRD, THIRD, THIRD}, EPERM},
        {"real id is the target's real", {OTHER, THIRD, THIRD}, {OTHER, ROOT, ROOT}, 0},
        {"effective id is the target's real", {THIRD, OTHER, THIRD}, {OTHER, ROOT, ROOT}, 0},
        {"effective id is the target's saved", {THIRD, OTHER, THIRD}, {ROOT, ROOT, OTHER}, 0},
        {"real id is the target's saved", {OTHER, THIRD, THIRD}, {ROOT, ROOT, OTHER}, 0},
        {"the target's effective id does not count", {OTHER, OTHER, OTHER}, {ROOT, OTHER, ROOT}, EPERM},
        {"the sender's saved id does not count", {THIRD, THIRD, OTHER}, {OTHER, OTHER, OTHER}, EPERM},
        {"real root without its rights", {ROOT, OTHER, OTHER}, {THIRD, THIRD, THIRD}, EPERM},
    };
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++) {
        pid_t target = sleeper(rows[n].target[0], rows[n].target[1], rows[n].target[2]);
        int result = as(rows[n].sender[0], rows[n].sender[1], rows[n].sender[2], kill_0, target);
        check(result == rows[n].right, rows[n].name, "kill gave %d, not %d", result, rows[n].right);
        end(target);
    }
    static const struct { const char *name; int (*call)(pid_t); int right; } calls[] = {
        {"tkill asks, too", tkill_0, EPERM}, {"tgkill asks, too", tgkill_usr1, EPERM},
        {"rt_sigqueueinfo asks, too", queue, EPERM}, {"rt_tgsigqueueinfo asks, too", queue_thread, EPERM},
        {"a bad number comes first", kill_bad, EINVAL}, {"SIGCONT within the session", kill_continue, 0},
        {"not from another session", continue_elsewhere, EPERM},
    };
    pid_t root = sleeper(ROOT, ROOT, ROOT);
    for (size_t n = 0; n < sizeof calls / sizeof *calls; n++) {
        int result = as(OTHER, OTHER, OTHER, calls[n].call, root);
        check(result == calls[n].right, calls[n].name, "%d, not %d", result, calls[n].right);
    }
    int result = as(OTHER, OTHER, OTHER, kill_all, 0);
    check(result == 0, "kill(-1) passes over those it may not signal", "%d", result);
    check(kill(root, 0) == 0, "and nothing was sent", "it has ended");
    /* A group of root's process and, then, one of the user's. */
    setpgid(root, root);
    result = as(OTHER, OTHER, OTHER, group_0, root);
    check(result == EPERM, "a group of which nobody may be signalled", "%d", result);
    pid_t member = fork();
    if (member == 0) {
        setpgid(0, root);
        become(OTHER, OTHER, OTHER);
        for (;;)
            pause();
    }
    /* It is in the group with the user's ids once a process of that user may signal it. */
    while (as(OTHER, OTHER, OTHER, kill_0, member) != 0 || getpgid(member) != root)
        sched_yield();
    result = as(OTHER, OTHER, OTHER, group_0, root);
    check(result == 0, "a group of which somebody may be", "%d", result);
    end(member);
    end(root);
}

/* Who may regain which ids. */
static int regain(pid_t pid)
{
    (void)pid;
    return setuid(ROOT) == 0 || setresuid(-1, ROOT, -1) == 0 || setgid(ROOT) == 0 || syscall(SYS_setgroups, 0, NULL) == 0;
}
static int regain_saved(pid_t pid)
{
    (void)pid;
    if (setresuid(-1, ROOT, -1) || geteuid() != ROOT)
        return 1;
    return failed(setuid(THIRD)) + (getuid() != THIRD);
}

static void ids(void)
{
    int result = as(OTHER, OTHER, OTHER, regain, 0);
    check(result == 0, "who has given root's ids up does not get them back", "it got one");
    result = as(OTHER, OTHER, ROOT, regain_saved, 0);
    check(result == 0, "but from the saved id", "%d", result);
}

static int attach(pid_t pid) { return failed(ptrace(PTRACE_ATTACH, pid, 0, 0)); }
static int seize(pid_t pid) { return failed(ptrace(PTRACE_SEIZE, pid, 0, 0)); }
static int read_memory(pid_t pid)
{
    char byte;
    struct iovec local = {&byte, 1}, remote = {(void *)environ, 1};
    return failed(process_vm_readv(pid, &local, 1, &remote, 1, 0));
}
static int set_limit(pid_t pid)
{
    struct rlimit limit;
    return failed(prlimit(pid, RLIMIT_NOFILE, NULL, &limit));
}
static int set_affinity(pid_t pid)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    return failed(sched_setaffinity(pid, sizeof set, &set));
}
static int set_priority(pid_t pid) { return failed(setpriority(PRIO_PROCESS, pid, 10)); }
static int set_scheduler(pid_t pid)
{
    struct sched_param param = {0};
    return failed(sched_setscheduler(pid, SCHED_BATCH, &param));
}
static int compare(pid_t pid) { return failed(syscall(SYS_kcmp, getpid(), pid, 1, 0, 0)); }
static int open_in_proc(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    int fd = open(path, O_RDONLY);
    int error = failed(fd);
    close(fd);
    return error;
}
static int open_memory(pid_t pid) { return open_in_proc(pid, "mem"); }
static int open_maps(pid_t pid) { return open_in_proc(pid, "maps"); }
static int open_environment(pid_t pid) { return open_in_proc(pid, "environ"); }
static int open_descriptors(pid_t pid) { return open_in_proc(pid, "fd"); }
static int open_descriptor(pid_t pid) { return open_in_proc(pid, "fd/1"); }
static int open_status(pid_t pid) { return open_in_proc(pid, "status"); }
static int read_link(pid_t pid)
{
    char path[64], target[64];
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    return failed(readlink(path, target, sizeof target));
}

static void control(void)
{
    static const struct { const char *name; int (*call)(pid_t); int right; } rows[] = {
        {"PTRACE_ATTACH", attach, EPERM}, {"PTRACE_SEIZE", seize, EPERM}, {"process_vm_readv", read_memory, EPERM},
        {"prlimit", set_limit, EPERM}, {"sched_setaffinity", set_affinity, EPERM}, {"setpriority", set_priority, EPERM},
        {"sched_setscheduler", set_scheduler, EPERM}, {"kcmp", compare, EPERM}, {"/proc/PID/mem", open_memory, EACCES},
        {"/proc/PID/maps", open_maps, EACCES}, {"/proc/PID/environ", open_environment, EACCES},
        {"/proc/PID/fd", open_descriptors, EACCES}, {"/proc/PID/fd/N", open_descriptor, EACCES},
        {"/proc/PID/exe", read_link, EACCES}, {"/proc/PID/status", open_status, 0},
    };
    pid_t root = sleeper(ROOT, ROOT, ROOT);
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++) {
        char name[64];
        snprintf(name, sizeof name, "a user's %s of root", rows[n].name);
        int result = as(OTHER, OTHER, OTHER, rows[n].call, root);
        if (result == ENOSYS)
            skip(name, "the kernel is made without it");
        else
            check(result == rows[n].right, name, "%d, not %d", result, rows[n].right);
    }
    end(root);
    /* Root may; a container's root may not change limits. */
    pid_t user = sleeper(OTHER, OTHER, OTHER);
    for (size_t n = 4; n < sizeof rows / sizeof *rows; n++) {
        char name[64];
        snprintf(name, sizeof name, "root's %s of a user", rows[n].name);
        int result = as(ROOT, ROOT, ROOT, rows[n].call, user);
        if (result == ENOSYS)
            skip(name, "the kernel is made without it");
        else
            check(result == 0, name, "%d", result);
    }
    end(user);
    struct rlimit limit, more;
    getrlimit(RLIMIT_MSGQUEUE, &limit);
    more = limit;
    int result = 0;
    pid_t child = fork();
    if (child == 0) {
        more.rlim_cur = more.rlim_max = 1000;
        setrlimit(RLIMIT_MSGQUEUE, &more);
        become(OTHER, OTHER, OTHER);
        more.rlim_max = 1001;
        _exit(failed(setrlimit(RLIMIT_MSGQUEUE, &more)));
    }
    waitpid(child, &result, 0);
    check(WEXITSTATUS(result) == EPERM, "a hard limit is not raised", "%x", result);
}

/* A signal with a made-up code. */
static int forge(pid_t process, pid_t thread, int code)
{
    siginfo_t info = {.si_signo = SIGURG, .si_code = code};
    if (thread)
        return failed(syscall(SYS_rt_tgsigqueueinfo, process, thread, SIGURG, &info));
    return failed(syscall(SYS_rt_sigqueueinfo, process, SIGURG, &info));
}

static void *forge_in_thread(void *unused)
{
    (void)unused;
    pid_t self = syscall(SYS_gettid);
    check(forge(getpid(), 0, SI_USER) == EPERM, "a thread makes up no code for its process", "it may");
    check(forge(self, 0, SI_USER) == 0, "but by its own number", "%d", errno);
    check(forge(getpid(), self, SI_TKILL) == 0, "and for itself", "%d", errno);
    check(forge(getpid(), getpid(), SI_TKILL) == EPERM, "not for another thread", "it may");
    check(forge(getpid(), getpid(), SI_QUEUE) == 0, "but any code of sigqueue's kind", "%d", errno);
    return NULL;
}

static void codes(void)
{
    pthread_t thread;
    check(forge(getpid(), 0, SI_USER) == 0, "a process makes up any code for itself", "%d", errno);
    check(forge(getppid(), 0, SI_TKILL) == EPERM, "and not for another", "it may");
    pthread_create(&thread, NULL, forge_in_thread, NULL);
    pthread_join(thread, NULL);
}

/* PR_SET_NO_NEW_PRIVS. */
static int shown(const char *file, const char *field)
{
    const char *text = proc_field(file, field);
    return *text ? atoi(text) : -1;
}
static int privileges(void) { return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); }
static void *inherits(void *unused) { (void)unused; return (void *)(long)privileges(); }
static int other_ready[2], other_go[2];
static void *gives_up(void *unused)
{
    (void)unused;
    pthread_t child;
    void *inherited = NULL;
    char path[64];
    int status;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    check(privileges() == 1, "no_new_privs of the thread that asked", "0");
    pthread_create(&child, NULL, inherits, NULL);
    pthread_join(child, &inherited);
    check(inherited != NULL, "its threads inherit it", "0");
    pid_t forked = fork();
    if (forked == 0)
        _exit(privileges());
    waitpid(forked, &status, 0);
    check(WEXITSTATUS(status) == 1, "its children inherit it", "%x", status);
    forked = fork();
    if (forked == 0) {
        execl("/proc/self/exe", "permissions", "privileges", NULL);
        _exit(95);
    }
    waitpid(forked, &status, 0);
    check(WEXITSTATUS(status) == 1, "exec keeps it", "%x", status);
    snprintf(path, sizeof path, "/proc/self/task/%ld/status", (long)syscall(SYS_gettid));
    check(shown(path, "NoNewPrivs:") == 1, "its status in /proc shows it", "%d", shown(path, "NoNewPrivs:"));
    return NULL;
}
static void *waits(void *unused)
{
    char byte;
    (void)unused;
    if (write(other_ready[1], "r", 1) != 1 || read(other_go[0], &byte, 1) != 1)
        return NULL;
    return (void *)(long)privileges();
}

static void no_new_privileges(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, gives_up, NULL);
    pthread_join(thread, NULL);
    check(privileges() == 0, "no_new_privs of another thread", "1");
    check(shown("/proc/self/status", "NoNewPrivs:") == 0, "and its status", "1");
    pid_t child = fork();
    if (child == 0) {
        void *got = NULL;
        char byte;
        struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
        struct sock_fprog program = {1, &allow};
        if (pipe(other_ready) || pipe(other_go) || pthread_create(&thread, NULL, waits, NULL) || read(other_ready[0], &byte, 1) != 1)
            _exit(96);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program))
            _exit(97);
        if (write(other_go[1], "g", 1) != 1)
            _exit(98);
        pthread_join(thread, &got);
        _exit(got != NULL);
    }
    int status;
    waitpid(child, &status, 0);
    check(WEXITSTATUS(status) == 1, "TSYNC brings it along with the filter", "%x", status);
}

/* PR_SET_PDEATHSIG: the thread that forked is who counts. */
static pid_t orphan;
static int told[2];
static void *parent_thread(void *body)
{
    char byte;
    orphan = fork();
    if (orphan == 0)
        _exit(((int (*)(void))body)());
    if (read(told[0], &byte, 1) != 1)
        _exit(89);
    return NULL;
}
static int tells(void)
{
    if (write(told[1], "r", 1) != 1)
        return 1;
    for (;;)
        pause();
}
static int asks(void)
{
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    return tells();
}
static int asks_and_executes(void)
{
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    char descriptor[16];
    snprintf(descriptor, sizeof descriptor, "%d", told[1]);
    execl("/proc/self/exe", "permissions", descriptor, NULL);
    return 1;
}
static void *asks_thread(void *unused)
{
    (void)unused;
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    return (void *)(long)tells();
}
static int asks_in_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, asks_thread, NULL);
    return pthread_join(thread, NULL);
}
static int death_signal(void)
{
    int signo = -1;
    prctl(PR_GET_PDEATHSIG, &signo);
    return signo;
}
static int death_signal_of_fork(void)
{
    int status;
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    pid_t child = fork();
    if (child == 0)
        _exit(death_signal());
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}
static int death_signal_after_setuid(void)
{
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    if (setresuid(-1, OTHER, -1))
        return 99;
    return death_signal();
}
static int death_signal_after_real_id(void)
{
    prctl(PR_SET_PDEATHSIG, SIGUSR1);
    if (setresuid(OTHER, -1, -1))
        return 99;
    return death_signal();
}
static void ends_with(const char *name, int (*body)(void))
{
    pthread_t thread;
    int status = -1;
    if (pipe(told))
        return;
    pthread_create(&thread, NULL, parent_thread, (void *)body);
    pthread_join(thread, NULL);
    waitpid(orphan, &status, 0);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1, name, "status %x", status);
    close(told[0]);
    close(told[1]);
}

static void death_of_the_parent(void)
{
    ends_with("a child is told when the thread that forked it ends", asks);
    ends_with("exec keeps what it asked for", asks_and_executes);
    ends_with("any of its threads may ask", asks_in_thread);
    int status = in_child(death_signal_of_fork);
    check(WEXITSTATUS(status) == 0, "fork does not inherit it", "%d", WEXITSTATUS(status));
    status = in_child(death_signal_after_setuid);
    check(WEXITSTATUS(status) == 0, "a change of the effective id clears it", "%d", WEXITSTATUS(status));
    status = in_child(death_signal_after_real_id);
    check(WEXITSTATUS(status) == SIGUSR1, "one of the real id does not", "%d", WEXITSTATUS(status));
    check(prctl(PR_SET_PDEATHSIG, 65) == -1 && errno == EINVAL, "there is no signal 65", "%d", errno);
}

int main(int count, char **arguments)
{
    signal(SIGURG, SIG_IGN);
    setvbuf(stdout, NULL, _IONBF, 0);
    if (count > 1 && strcmp(arguments[1], "privileges") == 0)
        return privileges();
    if (count > 1) {
        told[1] = atoi(arguments[1]);
        return tells();
    }
    no_new_privileges();
    death_of_the_parent();
    if (getuid() == ROOT) {
        signals();
        ids();
        control();
    } else {
        skip("permissions", "not root");
    }
    codes();
    return done();
}
