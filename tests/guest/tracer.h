/* A tracer's side: a forked child that is traced, and short forms of the requests. */
#ifndef TRACER_H
#define TRACER_H

#include "check.h"
#include <elf.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

enum { EVENT_STOP = 128, SYSGOOD = SIGTRAP | 0x80 };

/* ptrace(2) without the library's special treatment of PEEK requests: 0 or a value, or -errno. */
__attribute__((unused)) static long trace(long request, pid_t pid, unsigned long addr, unsigned long data)
{
    long result = syscall(SYS_ptrace, request, pid, addr, data);
    return result < 0 ? -errno : result;
}

/* The next wait status of `pid`, or -1. */
__attribute__((unused)) static int next_status(pid_t pid)
{
    int status;
    pid_t got;
    while ((got = waitpid(pid, &status, __WALL)) < 0 && errno == EINTR)
        ;
    return got < 0 ? -1 : status;
}

/* A stop's status as `waitpid` gives it. */
#define STOP(code) ((code) << 8 | 0x7f)
#define EVENT(event) STOP(SIGTRAP | (event) << 8)
#define EXIT(code) ((code) << 8)

/* Lets `pid` go on and gives its next status. */
__attribute__((unused)) static int go(long request, pid_t pid, int signal)
{
    return trace(request, pid, 0, signal) ? -1 : next_status(pid);
}

/* A child that is traced and stopped (by SIGSTOP) just before `body`, whose result is its exit code. */
__attribute__((unused)) static pid_t start_traced(int (*body)(void))
{
    pid_t child = fork();
    if (child == 0) {
        if (trace(PTRACE_TRACEME, 0, 0, 0))
            _exit(97);
        syscall(SYS_kill, getpid(), SIGSTOP);
        _exit(body());
    }
    if (next_status(child) != STOP(SIGSTOP)) {
        kill(child, SIGKILL);
        check(0, "start_traced", "no SIGSTOP");
        _exit(97);
    }
    return child;
}

__attribute__((unused)) static void finish(pid_t child)
{
    kill(child, SIGKILL);
    while (next_status(child) != -1)
        ;
}

__attribute__((unused)) static struct user_regs_struct registers_of(pid_t pid)
{
    struct user_regs_struct regs = { 0 };
    trace(PTRACE_GETREGS, pid, 0, (unsigned long)&regs);
    return regs;
}

__attribute__((unused)) static long set_registers(pid_t pid, struct user_regs_struct regs)
{
    return trace(PTRACE_SETREGS, pid, 0, (unsigned long)&regs);
}

__attribute__((unused)) static unsigned long peek_user(pid_t pid, unsigned long offset)
{
    unsigned long word = 0;
    return trace(PTRACE_PEEKUSER, pid, offset, (unsigned long)&word) ? ~0ul : word;
}

#define REGISTER(name) offsetof(struct user, regs.name)

#endif
