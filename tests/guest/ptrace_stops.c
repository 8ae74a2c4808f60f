/* The stops of a tracee and what waits tell of them: signals, system calls, events, groups; attach and detach.
 *
 * Catalogue rows: 40 (a signal releases a ptrace stop), 10 (bad numbers skip no stop).
 */
#include "hooks.h"
#include "tracer.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static volatile int handled;

static void count(int signal) { handled += signal == SIGUSR1; }

static int raise_usr1(void)
{
    signal(SIGUSR1, count);
    syscall(SYS_kill, getpid(), SIGUSR1);
    return handled;
}

static void signals(void)
{
    pid_t child = start_traced(raise_usr1);
    int status = go(PTRACE_CONT, child, 0);
    check(status == STOP(SIGUSR1), "a signal stops before it is delivered", "status %#x", status);
    siginfo_t info = { 0 };
    check(!trace(PTRACE_GETSIGINFO, child, 0, (long)&info) && info.si_signo == SIGUSR1 && info.si_pid == child,
          "its information", "signal %d from %d", info.si_signo, info.si_pid);
    status = go(PTRACE_CONT, child, SIGUSR1);
    check(status == EXIT(1), "passed on, the handler runs", "status %#x", status);

    child = start_traced(raise_usr1);
    go(PTRACE_CONT, child, 0);
    status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(0), "kept, it does not", "status %#x", status);

    child = start_traced(raise_usr1);
    go(PTRACE_CONT, child, 0);
    status = go(PTRACE_CONT, child, SIGTERM);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "another one in its place", "status %#x", status);

    child = start_traced(raise_usr1);
    go(PTRACE_CONT, child, 0);
    info.si_value.sival_int = 7;
    check(!trace(PTRACE_SETSIGINFO, child, 0, (long)&info), "SETSIGINFO", "failed");
    check(trace(PTRACE_CONT, child, 0, 65) == -EIO, "no such signal", "taken");
    finish(child);
}

static int sleep_long(void)
{
    for (;;)
        pause();
    return 0;
}

/* Row 40. */
static void signals_do_not_release(void)
{
    pid_t child = start_traced(sleep_long);
    int status = -1;
    kill(child, SIGUSR1);
    kill(child, SIGCONT);
    syscall(SYS_tgkill, child, child, SIGUSR2);
    usleep(20000);
    check(waitpid(child, &status, WNOHANG | __WALL) == 0, "signals do not release a stop", "status %#x", status);
    struct user_regs_struct regs = registers_of(child);
    check(regs.rip != 0, "it is still stopped", "no registers");
    status = go(PTRACE_CONT, child, 0);
    check(status == STOP(SIGUSR2), "they are delivered afterwards", "status %#x", status);
    kill(child, SIGKILL);
    status = next_status(child);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "SIGKILL does", "status %#x", status);
    check(trace(PTRACE_CONT, child, 0, 0) == -ESRCH, "then there is nobody", "somebody");
}

static int three_calls(void)
{
    long a = syscall(SYS_getppid), b = syscall(SYS_getppid);
    syscall(-1);
    syscall(100000);
    return a != b;
}

/* Each call stops once at its entry and once at its exit. */
static void system_calls(void)
{
    pid_t child = start_traced(three_calls);
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD);
    int status = 0;
    static const long expected[] = { SYS_getppid, SYS_getppid, -1, 100000 };
    int wrong = 0;
    for (unsigned i = 0; i < 4; i++) {
        status = go(PTRACE_SYSCALL, child, 0);
        struct user_regs_struct regs = registers_of(child);
        wrong += status != STOP(SYSGOOD) || (long)regs.orig_rax != expected[i] || (long)regs.rax != -ENOSYS;
        unsigned long message = 0;
        trace(PTRACE_GETEVENTMSG, child, 0, (long)&message);
        wrong += message != 1;
        status = go(PTRACE_SYSCALL, child, 0);
        regs = registers_of(child);
        long want = i < 2 ? getpid() : -ENOSYS;
        wrong += status != STOP(SYSGOOD) || (long)regs.orig_rax != expected[i] || (long)regs.rax != want;
        trace(PTRACE_GETEVENTMSG, child, 0, (long)&message);
        wrong += message != 2;
    }
    check(!wrong, "one stop at entry and one at exit", "%d wrong", wrong);
    status = go(PTRACE_SYSCALL, child, 0);
    check(registers_of(child).orig_rax == SYS_exit_group, "the last", "status %#x", status);
    status = go(PTRACE_SYSCALL, child, 0);
    check(status == EXIT(0), "a call that does not return", "status %#x", status);

    child = start_traced(three_calls);
    go(PTRACE_SYSCALL, child, 0);
    go(PTRACE_SYSCALL, child, 0);
    kill(child, SIGKILL);
    status = next_status(child);
    check(WIFSIGNALED(status), "SIGKILL at a system-call stop", "status %#x", status);
}

static int call_twice(void)
{
    return syscall(SYS_getpid) == 4711 && syscall(SYS_getppid) == 4712;
}

static void emulate(void)
{
    pid_t child = start_traced(call_twice);
    int status = go(PTRACE_SYSEMU, child, 0);
    struct user_regs_struct regs = registers_of(child);
    check(status == STOP(SIGTRAP) && regs.orig_rax == SYS_getpid, "SYSEMU stops at the entry", "status %#x, call %lld",
          status, regs.orig_rax);
    regs.rax = 4711;
    set_registers(child, regs);
    status = go(PTRACE_SYSEMU, child, 0);
    regs = registers_of(child);
    check(regs.orig_rax == SYS_getppid, "and not at the exit", "call %lld", regs.orig_rax);
    regs.rax = 4712;
    set_registers(child, regs);
    status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(1), "the results are the tracer's", "status %#x", status);
}

static int fork_all(void)
{
    pid_t a = fork();
    if (!a)
        _exit(1);
    int status;
    waitpid(a, &status, 0);
    pid_t b = vfork();
    if (!b)
        _exit(2);
    waitpid(b, &status, 0);
    pid_t c = syscall(SYS_clone, SIGUSR1 | CLONE_VFORK, 0, 0, 0, 0);
    if (!c)
        _exit(3);
    waitpid(c, &status, __WALL);
    pid_t d = syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (!d)
        _exit(4);
    waitpid(d, &status, __WALL);
    return 5;
}

static void children(void)
{
    pid_t child = start_traced(fork_all);
    trace(PTRACE_SETOPTIONS, child, 0,
          PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXIT);
    static const int events[] = { PTRACE_EVENT_FORK, PTRACE_EVENT_VFORK, PTRACE_EVENT_VFORK, PTRACE_EVENT_CLONE };
    for (int i = 0; i < 4; i++) {
        int status = go(PTRACE_CONT, child, 0);
        while (status == STOP(SIGCHLD))
            status = go(PTRACE_CONT, child, 0);
        unsigned long new = 0;
        trace(PTRACE_GETEVENTMSG, child, 0, (long)&new);
        check(status == EVENT(events[i]) && new, "the event of a new child", "%d: status %#x, child %lu", i, status, new);
        status = next_status(new);
        check(status == STOP(SIGSTOP), "a new child is traced and stopped", "%d: status %#x", i, status);
        trace(PTRACE_CONT, child, 0, 0);
        status = go(PTRACE_CONT, new, 0);
        unsigned long code = 0;
        trace(PTRACE_GETEVENTMSG, new, 0, (long)&code);
        check(status == EVENT(PTRACE_EVENT_EXIT) && code == EXIT(i + 1ul), "its exit", "%d: status %#x, code %#lx", i,
              status, code);
        status = go(PTRACE_CONT, new, 0);
        check(status == EXIT(i + 1), "its end is the tracer's to see", "%d: status %#x", i, status);
        if (events[i] == PTRACE_EVENT_VFORK) {
            status = next_status(child);
            unsigned long done = 0;
            trace(PTRACE_GETEVENTMSG, child, 0, (long)&done);
            check(status == EVENT(PTRACE_EVENT_VFORK_DONE) && done == new, "vfork is over", "status %#x", status);
        }
        if (events[i] == PTRACE_EVENT_VFORK)
            trace(PTRACE_CONT, child, 0, 0);
        /* Its SIGCHLD, or SIGUSR1, and then the wait goes on. */
        if (i < 3) {
            status = next_status(child);
            int want = i == 2 ? SIGUSR1 : SIGCHLD;
            check(status == STOP(want), "its parent sees it then, too", "%d: status %#x", i, status);
        }
    }
    int status = next_status(child);
    check(status == EVENT(PTRACE_EVENT_EXIT), "the parent's exit", "status %#x", status);
    status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(5), "the parent has waited for all", "status %#x", status);
}

static char *self;

static int exec_self(void)
{
    char *arguments[] = { self, "child", NULL };
    execv(self, arguments);
    return 96;
}

static void *exec_thread(void *unused)
{
    (void)unused;
    exec_self();
    return NULL;
}

static int exec_in_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, exec_thread, NULL);
    for (;;)
        pause();
    return 0;
}

static void exec(void)
{
    pid_t child = start_traced(exec_self);
    int status = go(PTRACE_CONT, child, 0);
    check(status == STOP(SIGTRAP), "exec raises SIGTRAP", "status %#x", status);
    status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(55), "and goes on", "status %#x", status);

    child = start_traced(exec_self);
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXEC);
    status = go(PTRACE_CONT, child, 0);
    unsigned long old = 0;
    trace(PTRACE_GETEVENTMSG, child, 0, (long)&old);
    check(status == EVENT(PTRACE_EVENT_EXEC) && (pid_t)old == child, "the event of exec", "status %#x", status);
    status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(55), "in place of SIGTRAP", "status %#x", status);

    child = start_traced(exec_in_thread);
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE);
    status = go(PTRACE_CONT, child, 0);
    unsigned long thread = 0;
    trace(PTRACE_GETEVENTMSG, child, 0, (long)&thread);
    next_status(thread);
    trace(PTRACE_CONT, child, 0, 0);
    trace(PTRACE_CONT, thread, 0, 0);
    status = next_status(child);
    old = 0;
    trace(PTRACE_GETEVENTMSG, child, 0, (long)&old);
    check(status == EVENT(PTRACE_EVENT_EXEC) && old == thread, "a thread that execs takes over the process's number",
          "status %#x, was %lu, not %lu", status, old, thread);
    status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(55), "and nobody else is left", "status %#x", status);
}

static void seize(void)
{
    pid_t child = fork();
    if (!child)
        sleep_long();
    check(trace(PTRACE_SEIZE, child, 1, 0) == -EIO, "SEIZE with an address", "taken");
    check(trace(PTRACE_SEIZE, child, 0, 1 << 10) == -EIO, "SEIZE with an unknown option", "taken");
    check(trace(PTRACE_SEIZE, child, 0, 0) == 0, "SEIZE", "failed");
    check(trace(PTRACE_SEIZE, child, 0, 0) == -EPERM, "SEIZE of one that is traced", "taken");
    check(trace(PTRACE_CONT, child, 0, 0) == -ESRCH, "it runs on", "it is stopped");
    check(trace(PTRACE_INTERRUPT, child, 0, 0) == 0, "INTERRUPT", "failed");
    int status = next_status(child);
    check(status == STOP(SIGTRAP | EVENT_STOP << 8), "stops it without a signal", "status %#x", status);
    check(trace(PTRACE_LISTEN, child, 0, 0) == 0, "LISTEN", "failed");
    check(trace(PTRACE_CONT, child, 0, 0) == -ESRCH, "one that listens does not count as stopped", "stopped");
    check(trace(PTRACE_INTERRUPT, child, 0, 0) == 0, "INTERRUPT of one that listens", "failed");
    status = next_status(child);
    check(status == STOP(SIGTRAP | EVENT_STOP << 8), "stops it again", "status %#x", status);
    trace(PTRACE_CONT, child, 0, 0);

    kill(child, SIGSTOP);
    status = next_status(child);
    check(status == STOP(SIGSTOP), "SIGSTOP is delivered", "status %#x", status);
    status = go(PTRACE_CONT, child, SIGSTOP);
    check(status == STOP(SIGSTOP | EVENT_STOP << 8), "and stops the group", "status %#x", status);
    trace(PTRACE_LISTEN, child, 0, 0);
    kill(child, SIGCONT);
    status = next_status(child);
    check(status == STOP(SIGTRAP | EVENT_STOP << 8), "the end of the group stop is told", "status %#x", status);
    status = go(PTRACE_CONT, child, 0);
    check(status == STOP(SIGCONT), "then SIGCONT", "status %#x", status);
    check(trace(PTRACE_DETACH, child, 0, 0) == 0, "DETACH", "failed");
    check(trace(PTRACE_DETACH, child, 0, 0) == -ESRCH, "DETACH twice", "taken");
    finish(child);
}

static void attach(void)
{
    check(trace(PTRACE_ATTACH, getpid(), 0, 0) == -EPERM, "ATTACH to oneself", "taken");
    check(trace(PTRACE_ATTACH, 30000, 0, 0) == -ESRCH, "ATTACH to nobody", "taken");
    pid_t child = fork();
    if (!child)
        sleep_long();
    check(trace(PTRACE_ATTACH, child, 0, 0) == 0, "ATTACH", "failed");
    int status = next_status(child);
    check(status == STOP(SIGSTOP), "stops it by SIGSTOP", "status %#x", status);
    check(trace(PTRACE_DETACH, child, 0, SIGSTOP) == 0, "DETACH with SIGSTOP", "failed");
    status = -1;
    check(waitpid(child, &status, WUNTRACED) == child && status == STOP(SIGSTOP), "stops it for its parent",
          "status %#x", status);

    /* One that is stopped already goes over to the tracer unseen. */
    check(trace(PTRACE_ATTACH, child, 0, 0) == 0, "ATTACH to a stopped one", "failed");
    check(waitpid(child, &status, __WALL | WNOHANG) == child && status == STOP(SIGSTOP), "is there at once", "status %#x",
          status);
    trace(PTRACE_DETACH, child, 0, 0);
    kill(child, SIGCONT);
    finish(child);

    child = start_traced(raise_usr1);
    trace(PTRACE_DETACH, child, 0, SIGTERM);
    status = next_status(child);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "DETACH with a signal", "status %#x", status);
}

/* A tracer that is not the parent, and its end. */
static int *shared;

static void tracer_ends(int options)
{
    pid_t child = fork();
    if (!child)
        sleep_long();
    pid_t tracer = fork();
    if (!tracer) {
        if (trace(PTRACE_SEIZE, child, 0, options))
            _exit(1);
        trace(PTRACE_INTERRUPT, child, 0, 0);
        next_status(child);
        kill(child, SIGUSR1);
        _exit(0);
    }
    int status;
    waitpid(tracer, &status, 0);
    check(status == 0, "a tracer that is no parent", "status %#x", status);
    status = next_status(child);
    int want = options ? SIGKILL : SIGUSR1;
    check(WIFSIGNALED(status) && WTERMSIG(status) == want,
          options ? "EXITKILL: a tracee ends with its tracer" : "a tracee goes on without its tracer", "status %#x", status);
}

static void parent_and_tracer(void)
{
    pid_t child = fork();
    if (!child) {
        while (!*shared)
            usleep(1000);
        _exit(9);
    }
    *shared = 0;
    pid_t tracer = fork();
    if (!tracer) {
        trace(PTRACE_SEIZE, child, 0, 0);
        *shared = 1;
        int status;
        siginfo_t info = { 0 };
        waitid(P_PID, child, &info, WEXITED | WNOWAIT | __WALL);
        usleep(20000);
        shared[1] = 1;
        status = next_status(child);
        _exit(status == EXIT(9) ? 0 : 1);
    }
    while (!*shared)
        usleep(1000);
    siginfo_t info = { 0 };
    int early = 0;
    for (;;) {
        info.si_pid = 0;
        waitid(P_PID, child, &info, WEXITED | WNOHANG);
        if (info.si_pid)
            break;
        usleep(1000);
    }
    early = !shared[1];
    check(!early && info.si_status == 9, "the parent sees the end after the tracer", "early %d, status %d", early,
          info.si_status);
    int status;
    waitpid(tracer, &status, 0);
    check(status == 0, "the tracer saw it first", "status %#x", status);
}

static void *exit_thread(void *unused)
{
    (void)unused;
    syscall(SYS_exit, 3);
    return NULL;
}

static int one_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, exit_thread, NULL);
    syscall(SYS_pause);
    return 4;
}

static void threads(void)
{
    pid_t child = start_traced(one_thread);
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE);
    int status = go(PTRACE_CONT, child, 0);
    unsigned long thread = 0;
    trace(PTRACE_GETEVENTMSG, child, 0, (long)&thread);
    check(status == EVENT(PTRACE_EVENT_CLONE) && thread, "the event of a thread", "status %#x", status);
    status = next_status(thread);
    check(status == STOP(SIGSTOP), "a new thread is traced", "status %#x", status);
    trace(PTRACE_CONT, child, 0, 0);
    status = go(PTRACE_CONT, thread, 0);
    check(status == EXIT(3), "its end is a tracee's", "status %#x", status);
    trace(PTRACE_SETOPTIONS, child, 0, 0);
    syscall(SYS_tgkill, child, child, SIGUSR1);
    status = next_status(child);
    signal(SIGUSR1, SIG_DFL);
    check(status == STOP(SIGUSR1), "the other thread runs on", "status %#x", status);
    status = go(PTRACE_CONT, child, SIGTERM);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM, "the process's end", "status %#x", status);
}

static void sigchld(void)
{
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &old);
    struct timespec now = { 0, 0 }, second = { 1, 0 };
    pid_t child = start_traced(raise_usr1);
    siginfo_t info;
    while (sigtimedwait(&set, &info, &now) > 0)
        ;
    trace(PTRACE_CONT, child, 0, 0);
    int got = sigtimedwait(&set, &info, &second);
    check(got == SIGCHLD && info.si_code == CLD_TRAPPED && info.si_status == SIGUSR1 && info.si_pid == child,
          "a stop sends SIGCHLD to the tracer", "%d, code %d, status %d", got, info.si_code, info.si_status);
    memset(&info, 0, sizeof info);
    waitid(P_PID, child, &info, WSTOPPED | WNOWAIT | __WALL);
    check(info.si_code == CLD_TRAPPED && info.si_status == SIGUSR1, "waitid says the same", "code %d, status %d",
          info.si_code, info.si_status);
    finish(child);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void masks(void)
{
    pid_t child = start_traced(raise_usr1);
    unsigned long mask = 1ul << (SIGUSR1 - 1) | 1ul << (SIGKILL - 1);
    check(trace(PTRACE_SETSIGMASK, child, 4, (long)&mask) == -EINVAL, "a mask of the wrong size", "taken");
    check(trace(PTRACE_SETSIGMASK, child, 8, (long)&mask) == 0, "SETSIGMASK", "failed");
    mask = 0;
    check(trace(PTRACE_GETSIGMASK, child, 8, (long)&mask) == 0 && mask == 1ul << (SIGUSR1 - 1), "GETSIGMASK", "%#lx",
          mask);
    int status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(0), "what is blocked does not come", "status %#x", status);
}

static int poke_me = 17;
static int *constant;
static char *secret;

static int read_all(void) { return poke_me + *constant; }

static void memory(void)
{
    secret = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(secret, "secret!");
    mprotect(secret, 4096, PROT_NONE);
    constant = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *constant = 18;
    mprotect(constant, 4096, PROT_READ);
    pid_t child = start_traced(read_all);
    unsigned long word = 0;
    check(!trace(PTRACE_PEEKDATA, child, (long)&poke_me, (long)&word) && (int)word == 17, "PEEKDATA", "%lx", word);
    check(!trace(PTRACE_PEEKDATA, child, (long)secret, (long)&word) && !memcmp(&word, "secret!", 8),
          "of memory that it cannot read", "%lx", word);
    check(trace(PTRACE_PEEKDATA, child, 8, (long)&word) == -EIO, "of no memory", "read");
    check(trace(PTRACE_PEEKDATA, child, 0xffffffff81000000, (long)&word) == -EIO, "of the kernel's", "read");
    check(trace(PTRACE_PEEKDATA, child, (long)&poke_me, 8) == -EFAULT, "to no memory", "written");
    trace(PTRACE_PEEKDATA, child, (long)&poke_me, (long)&word);
    check(!trace(PTRACE_POKEDATA, child, (long)&poke_me, (word & ~0xfffffffful) | 20), "POKEDATA", "failed");
    trace(PTRACE_PEEKDATA, child, (long)constant, (long)&word);
    check(!trace(PTRACE_POKETEXT, child, (long)constant, (word & ~0xfffffffful) | 21), "of read-only memory", "failed");
    int status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(41) && poke_me == 17 && *constant == 18, "it sees both, and nobody else does", "status %#x",
          status);

    child = start_traced(read_all);
    char buffer[8] = "", more[8] = "";
    struct iovec local[2] = { { buffer, 3 }, { more, 5 } }, remote = { (char *)"abcdefg", 8 };
    check(process_vm_readv(child, local, 2, &remote, 1, 0) == 8 && !memcmp(buffer, "abc", 3) && !strcmp(more, "defg"),
          "process_vm_readv", "%s %s", buffer, more);
    int new = 40;
    struct iovec from = { &new, 4 }, to = { &poke_me, 4 }, bad = { (void *)constant, 4 }, none = { (void *)8, 4 };
    check(process_vm_writev(child, &from, 1, &to, 1, 0) == 4, "process_vm_writev", "%s", strerror(errno));
    check(process_vm_writev(child, &from, 1, &bad, 1, 0) == -1 && errno == EFAULT, "not of read-only memory", "written");
    check(process_vm_readv(child, &from, 1, &none, 1, 0) == -1 && errno == EFAULT, "not of no memory", "read");
    status = go(PTRACE_CONT, child, 0);
    check(status == EXIT(58), "it sees that", "status %#x", status);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return 55;
    char path[256];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    self = length < 0 ? argv[0] : path;
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    signals();
    signals_do_not_release();
    system_calls();
    emulate();
    children();
    exec();
    seize();
    attach();
    tracer_ends(0);
    tracer_ends(PTRACE_O_EXITKILL);
    parent_and_tracer();
    threads();
    sigchld();
    masks();
    memory();
    check_violations("Ptrace");
    return done();
}
