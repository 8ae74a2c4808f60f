/* A wait(2) that looks up every five seconds, for Linux's seccomp selftest. Its tracer is ended by a signal whose handler
 * clears a flag, and tests that flag before each wait: a signal between the two is forgotten, and the test hangs in any
 * kernel. Under an emulator, which translates what it has not run before, that is hundreds of microseconds. */
#include <signal.h>
#include <stddef.h>
#include <sys/time.h>
#include <sys/wait.h>

static void look_up(int signo)
{
    (void)signo;
}

pid_t wait(int *status)
{
    const struct itimerval often = { { 5, 0 }, { 5, 0 } }, never = { { 0, 0 }, { 0, 0 } };
    struct sigaction interrupt = { .sa_handler = look_up }, before;

    sigaction(SIGALRM, &interrupt, &before);
    setitimer(ITIMER_REAL, &often, NULL);
    pid_t pid = waitpid(-1, status, 0);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    return pid;
}
