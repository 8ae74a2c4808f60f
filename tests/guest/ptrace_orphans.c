/* A tracer ends while a tracee makes children that it would trace, too. None of them may stay with it: nobody would let it go on,
 * and nobody could wait for it.
 */
#include "tracer.h"
#include <sched.h>
#include <sys/mman.h>

/* Who ends has to let go of the IDLE ones first, and meanwhile there are more and more children. */
enum { ROUNDS = 24, IDLE = 48, CHILDREN = 24 };

static volatile int *go_on;

/* Makes children with the same tracer, and waits until all have ended. */
static void make_children(void)
{
    while (!*go_on)
        sched_yield();
    for (int i = 0; i < CHILDREN; i++)
        if (syscall(SYS_clone, CLONE_PTRACE | SIGCHLD, 0, 0, 0, 0) == 0)
            _exit(0);
    while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
        ;
    _exit(0);
}

static void tracer(const pid_t idle[IDLE], pid_t maker, int round)
{
    for (int i = 0; i < IDLE; i++)
        if (trace(PTRACE_SEIZE, idle[i], 0, 0))
            _exit(1);
    if (trace(PTRACE_SEIZE, maker, 0, 0))
        _exit(2);
    *go_on = 1;
    /* Sometimes the first of them are there already. */
    usleep(round * 100);
    _exit(0);
}

static int ends(pid_t pid)
{
    int status = 0;
    pid_t got = 0;
    for (uint64_t limit = microseconds() + HANG_US; !got && microseconds() < limit; usleep(500))
        got = waitpid(pid, &status, WNOHANG);
    return got == pid && status == 0;
}

int main(void)
{
    pid_t idle[IDLE];
    go_on = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < IDLE; i++)
        if ((idle[i] = fork()) == 0)
            for (;;)
                pause();
    int traced = 0, ended = 0, round;
    for (round = 0; round < ROUNDS && ended == round; round++) {
        *go_on = 0;
        pid_t maker = fork();
        if (maker == 0)
            make_children();
        pid_t first = fork();
        if (first == 0)
            tracer(idle, maker, round);
        traced += ends(first);
        ended += ends(maker);
    }
    check(traced == round, "a tracer ends", "%d of %d", traced, round);
    check(ended == ROUNDS, "none of its tracees' children stays with it", "one in round %d does", round);
    for (int i = 0; i < IDLE; i++)
        kill(idle[i], SIGKILL), waitpid(idle[i], NULL, 0);
    return done();
}
