/* Reporting for the guest tests.
 *
 * A program reports each thing it checks by one line (`ok NAME`, `not ok NAME: reason`, `skip NAME: reason`), ends with
 * `done N` (N = lines reported) and exits with 0 if and only if nothing failed. Each line is one write(2), so that
 * lines of several processes do not mix. Only the process that calls `done` counts: children report by exit status.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int checks, failures;

static void report(const char *verdict, const char *name, const char *format, va_list arguments)
{
    char line[512];
    int length = snprintf(line, sizeof line, "%s %s", verdict, name);
    if (format) {
        length += snprintf(line + length, sizeof line - length, ": ");
        length += vsnprintf(line + length, sizeof line - length, format, arguments);
    }
    length = length > (int)sizeof line - 2 ? (int)sizeof line - 2 : length;
    line[length++] = '\n';
    checks++;
    if (write(1, line, length) != length)
        _exit(99);
}

/* One check. The reason is printed, and evaluated, only when `condition` is false. */
__attribute__((format(printf, 3, 4), unused))
static int check(int condition, const char *name, const char *reason, ...)
{
    va_list arguments;
    va_start(arguments, reason);
    failures += !condition;
    report(condition ? "ok" : "not ok", name, condition ? NULL : reason, arguments);
    va_end(arguments);
    return condition;
}

__attribute__((format(printf, 2, 3), unused)) static void skip(const char *name, const char *reason, ...)
{
    va_list arguments;
    va_start(arguments, reason);
    report("skip", name, reason, arguments);
    va_end(arguments);
}

/* Ends the program: `return done();` */
__attribute__((unused)) static int done(void)
{
    char line[32];
    int length = snprintf(line, sizeof line, "done %d\n", checks);
    return write(1, line, length) != length || failures;
}

/* A fork that fails gives -1, which to kill(2) is everybody: the whole machine, where a program runs as root. */
__attribute__((unused)) static int kill_but_not_everybody(pid_t process, int signal)
{
    static const char line[] = "not ok kill: a fork has failed\n";
    if (process == -1 && signal != 0)
        _exit(write(1, line, sizeof line - 1) < 0 ? 99 : 98);
    return kill(process, signal);
}
#define kill(...) kill_but_not_everybody(__VA_ARGS__)

/* Whether a call that gave `result` failed with this error. */
__attribute__((unused)) static int fails_with(long result, int expected) { return result == -1 && errno == expected; }

/* The exit code in a wait status; -1 if there is none. */
__attribute__((unused)) static int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }

/* Runs `body` in a forked child that exits with its result; gives the wait status, or -1. */
__attribute__((unused)) static int in_child(int (*body)(void))
{
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(body());
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

__attribute__((unused)) static uint64_t microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000ull + now.tv_nsec / 1000;
}

/* What follows a field's name in a file of /proc, to the end of the line; "" where the field is missing. The next call of the
 * thread overwrites it. */
__attribute__((unused)) static const char *proc_field(const char *file, const char *name)
{
    static __thread char line[256];
    size_t length = strlen(name);
    int found = 0;
    FILE *lines = fopen(file, "r");
    while (lines && !found && fgets(line, sizeof line, lines))
        found = !strncmp(line, name, length);
    if (lines)
        fclose(lines);
    return found ? line + length : "";
}

/* Whether the clock counts instructions and not time, so that only the kernel, and no busy host, can make anything late.
 * An upper bound on a time is checked where this holds. */
__attribute__((unused)) static int steady_clock(void) { return getenv("STEADY_CLOCK") != NULL; }

/* Whether a thread of a process sleeps where a signal wakes it. */
__attribute__((unused)) static int is_asleep(pid_t process, pid_t thread)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", process, thread);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    text[got < 0 ? 0 : got] = 0;
    char *end_of_name = strrchr(text, ')');
    return end_of_name && end_of_name[1] && end_of_name[2] == 'S';
}

/* Waits until `condition` holds, giving up after so long that nothing but a hang explains it; gives `condition`. */
enum { HANG_US = 60000000 };
#define wait_until(condition) \
    ({ \
        uint64_t limit_ = microseconds() + HANG_US; \
        int held_; \
        while (!(held_ = !!(condition)) && microseconds() < limit_) \
            sched_yield(); \
        held_; \
    })

/* A child that sends the caller, which must be the only thread, a signal as soon as it sleeps. To be waited for by
 * `reap`. A timer's signal may come before the sleep has begun, where the host is busy. */
__attribute__((unused)) static pid_t signal_when_asleep(int signal)
{
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        if (wait_until(is_asleep(parent, parent)))
            kill(parent, signal);
        _exit(0);
    }
    return child;
}

__attribute__((unused)) static void reap(pid_t child)
{
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* Whether the processor is QEMU's emulation, which leaves out some things that silicon does. */
__attribute__((unused)) static int emulated(void)
{
    unsigned a, b, c, d;
    __cpuid(0x40000000, a, b, c, d);
    return b == 0x54474354 && c == 0x43544743 && d == 0x47435447; /* "TCGTCGTCGTCG" */
}

#endif
