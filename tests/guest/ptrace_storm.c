/* Tracers, tracees and killers at once: every request in any order, at any moment. Nothing may hang or go wrong but what
 * the programs do to each other; in the end everybody can be waited for.
 */
#include "tracer.h"
#include "gate.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>

enum { TRACERS = 3, SECONDS_MS = 1200 };

static unsigned seed;

static unsigned any(unsigned below)
{
    seed = seed * 1103515245 + 12345;
    return (seed >> 16) % below;
}

static void *spin_thread(void *unused)
{
    (void)unused;
    for (int i = 0; i < 50; i++)
        sched_yield();
    return NULL;
}

/* A program with children, threads and signals. */
static void busy(void)
{
    signal(SIGUSR1, SIG_IGN);
    for (;;) {
        pthread_t thread;
        int made = !pthread_create(&thread, NULL, spin_thread, NULL);
        pid_t child = any(2) ? fork() : vfork();
        if (!child)
            _exit(3);
        kill(getpid(), any(2) ? SIGUSR1 : SIGCONT);
        if (child > 0)
            waitpid(child, NULL, __WALL);
        if (made)
            pthread_join(thread, NULL);
        getppid();
    }
}

static const int requests[] = { PTRACE_CONT, PTRACE_SYSCALL, PTRACE_SINGLESTEP, PTRACE_CONT, PTRACE_SYSCALL, PTRACE_LISTEN,
                                PTRACE_INTERRUPT, PTRACE_DETACH };

static void tracer(pid_t *shared, int number)
{
    static unsigned char state[8192];
    static const int signals[] = { 0, 0, 0, 0, SIGUSR1, SIGSTOP, SIGCONT };
    seed = number * 77 + 5;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    uint64_t end = microseconds() + SECONDS_MS * 1000ull;
    while (microseconds() < end) {
        pid_t child = fork();
        if (!child)
            busy();
        shared[number] = child;
        trace(any(3) ? PTRACE_SEIZE : PTRACE_ATTACH, child, 0, 0);
        for (int i = 0; i < 200 && microseconds() < end; i++) {
            int status;
            pid_t pid = any(4) ? waitpid(-1, &status, __WALL | WNOHANG) : shared[any(TRACERS)];
            if (pid <= 0) {
                trace(PTRACE_INTERRUPT, child, 0, 0);
                sched_yield();
                continue;
            }
            trace(PTRACE_SETOPTIONS, pid, 0, any(256));
            struct user_regs_struct regs = registers_of(pid);
            struct iovec io = { state, sizeof state };
            if (any(3) == 0)
                trace(PTRACE_GETREGSET, pid, 1 + any(2), (long)&io);
            if (any(3) == 0 && regs.rip)
                set_registers(pid, regs);
            unsigned long word;
            trace(PTRACE_PEEKDATA, pid, regs.rsp, (long)&word);
            if (any(8) == 0)
                trace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[any(8)]), any(2) ? (long)&seed : any(0x10000));
            if (any(20) == 0)
                trace(PTRACE_ATTACH, shared[any(TRACERS)], 0, 0);
            if (any(40) == 0)
                kill(pid, SIGKILL);
            trace(requests[any(sizeof requests / sizeof *requests)], pid, 0, signals[any(7)]);
        }
        kill(child, SIGKILL);
        if (any(4) == 0)
            _exit(0);
    }
    _exit(0);
}

int main(void)
{
    pid_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    long violations = gate_status("violations");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    uint64_t end = microseconds() + SECONDS_MS * 1000ull;
    int started = 0, ended = 0;
    pid_t pids[TRACERS] = { 0 };
    pid_t group = fork();
    if (!group)
        for (;;)
            pause();
    setpgid(group, group);
    while (microseconds() < end) {
        for (int i = 0; i < TRACERS; i++)
            if (!pids[i] || waitpid(pids[i], NULL, WNOHANG) == pids[i]) {
                ended += pids[i] != 0;
                pids[i] = fork();
                if (!pids[i]) {
                    setpgid(0, group);
                    tracer(shared, i);
                }
                /* Here, too: once all others of the group have been waited for, it could not enter it any more. */
                setpgid(pids[i], group);
                started++;
            }
        usleep(2000);
    }
    /* Whoever is left ends, tracees of the dead included. */
    uint64_t limit = microseconds() + HANG_US;
    int left = 1;
    while (left && microseconds() < limit) {
        kill(-group, SIGKILL);
        int status;
        pid_t pid = waitpid(-1, &status, __WALL | WNOHANG);
        if (pid < 0)
            left = 0;
        else if (pid > 0 && !WIFSTOPPED(status))
            continue;
        usleep(1000);
    }
    check(!left, "everybody ends", "somebody is left");
    check(started >= TRACERS, "tracers", "%d", started);
    if (violations >= 0)
        check(gate_status("violations") == violations, "the tracees slept while they were looked at", "%ld times not",
              gate_status("violations") - violations);
    return done();
}
