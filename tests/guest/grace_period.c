/* A grace period ends although a thread stays in user mode on another CPU, which is interrupted for it only where the kernel does
 * not track user mode. */
#include "gate.h"

static int tracked(void)
{
    char line[512] = "";
    int fd = open("/proc/cmdline", O_RDONLY);
    ssize_t size = read(fd, line, sizeof line - 1);
    close(fd);
    return size > 0 && strstr(line, "user-mode=tracked") != NULL;
}

static void run_on(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

int main(void)
{
    int ready[2];
    char byte;
    if (gate_status("ipis") < 0 || sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        skip("grace period", "no /dev/gate, or one CPU");
        return done();
    }
    if (pipe(ready) != 0)
        return 1;
    run_on(0);
    pid_t spins = fork();
    if (spins == 0) {
        run_on(1);
        if (write(ready[1], "", 1) != 1)
            _exit(1);
        for (;;)
            __asm__ volatile("pause");
    }
    if (read(ready[0], &byte, 1) != 1)
        return 1;
    /* Past the write. */
    struct timespec moment = { 0, 20000000 };
    nanosleep(&moment, NULL);

    enum { ROUNDS = 20 };
    int interrupted = 0, sent = 1;
    for (int round = 0; round < ROUNDS; round++) {
        long before = gate_status("ipis");
        sent &= gate_command("synchronize");
        interrupted += gate_status("ipis") > before;
    }
    check(sent, "grace periods end beside a spinning thread", "/dev/gate: %s", strerror(errno));
    if (tracked())
        check(interrupted < ROUNDS / 2, "tracked user mode is not interrupted", "in %d rounds", interrupted);
    else
        check(interrupted > ROUNDS / 2, "user mode that is not tracked is interrupted", "in %d rounds", interrupted);
    kill(spins, SIGKILL);
    waitpid(spins, NULL, 0);
    return done();
}
