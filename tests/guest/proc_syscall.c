// build: -pthread
/* /proc/PID/syscall: what a task is in, as far as it sleeps or reads this itself.
 */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static char text[256];

/* Its length, or -1. */
static int show(const char *name)
{
    int fd = open(name, O_RDONLY), error;
    if (fd < 0)
        return -1;
    int length = read(fd, text, sizeof text - 1);
    error = errno;
    text[length > 0 ? length : 0] = 0;
    close(fd);
    errno = error;
    return length;
}

static int show_of(pid_t pid)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/syscall", pid);
    return show(name);
}

/* Until it sleeps in this call. */
static int wait_for(pid_t pid, long number)
{
    char prefix[32];
    snprintf(prefix, sizeof prefix, "%ld ", number);
    for (int try = 0; try < 20000; try++) {
        if (show_of(pid) > 0 && !strncmp(text, prefix, strlen(prefix)))
            return 1;
        usleep(1000);
    }
    return 0;
}

static void *thread(void *argument)
{
    char name[64];
    *(pid_t *)argument = syscall(SYS_gettid);
    snprintf(name, sizeof name, "/proc/self/task/%d/syscall", *(pid_t *)argument);
    return (void *)(long)(show(name) > 0 && text[0] != 'r' && text[0] != '-');
}

int main(void)
{
    unsigned long number, a[6], sp, ip;
    int fields = 0, length = show("/proc/self/syscall"), status;
    unsigned long here = (unsigned long)&length;
    fields = sscanf(text, "%lu 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx\n", &number, a, a + 1, a + 2, a + 3, a + 4, a + 5,
                    &sp, &ip);
    check(length > 0 && fields == 9 && text[length - 1] == '\n', "one's own call", "%d fields: %s", fields, text);
    check(fields == 9 && number == SYS_read && a[1] == (unsigned long)text && a[2] == sizeof text - 1, "is the read", "%s", text);
    check(fields == 9 && sp < here + 4096 && sp > here - 65536, "with the stack pointer", "%#lx, near %#lx", sp, here);
    struct stat file;
    check(stat("/proc/self/syscall", &file) == 0 && (file.st_mode & 07777) == 0400, "it is its owner's", "%o", file.st_mode);

    int ends[2];
    if (pipe(ends))
        return 99;
    pid_t pid = fork();
    if (pid == 0) {
        char byte;
        int got = syscall(SYS_read, ends[0], &byte, 1, 0x44, 0x55, 0x66);
        _exit(got == 1 ? 0 : 1);
    }
    char expected[64];
    snprintf(expected, sizeof expected, "%d 0x%x 0x", SYS_read, ends[0]);
    check(wait_for(pid, SYS_read) && !strncmp(text, expected, strlen(expected)) && strstr(text, " 0x1 0x44 0x55 0x66 "),
          "a child's call", "%s", text);
    pid_t stranger = fork();
    if (stranger == 0) {
        if (setgid(54321) || setuid(54321))
            _exit(0);
        int length = show_of(pid);
        _exit(length == -1 && (errno == EPERM || errno == EACCES) ? 0 : 1);
    }
    waitpid(stranger, &status, 0);
    check(status == 0, "nobody else sees it", "%#x", status);
    if (write(ends[1], "x", 1) != 1)
        return 99;
    siginfo_t info;
    waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
    length = show_of(pid);
    check(length > 0 && !strcmp(text, "-1 0x0 0x0\n"), "a zombie has none", "%s", text);
    waitpid(pid, NULL, 0);

    volatile int *rounds = mmap(NULL, sizeof *rounds, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (rounds == MAP_FAILED)
        return 99;
    pid = fork();
    if (pid == 0)
        for (;;)
            ++*rounds;
    /* It has to be scheduled first, and to leave the call that made it. */
    for (int try = 0; try < 20000 && !*rounds; try++)
        usleep(100);
    int seen = 0;
    for (int try = 0; try < 20000 && !seen; try++) {
        show_of(pid);
        seen = !strcmp(text, "running\n");
        usleep(100);
    }
    check(seen, "a task that runs", "%s", text);
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    for (int try = 0; try < 20000 && strncmp(text, "-1 0x", 5); try++) {
        show_of(pid);
        usleep(100);
    }
    check(!strncmp(text, "-1 0x", 5) && sscanf(text, "-1 0x%lx 0x%lx\n", &sp, &ip) == 2 && sp && ip, "one that is stopped in none",
          "%s", text);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);

    pthread_t other;
    pid_t tid = 0;
    void *result = NULL;
    pthread_create(&other, NULL, thread, &tid);
    pthread_join(other, &result);
    check(result != NULL, "a thread's own call", "%s", text);
    return done();
}
