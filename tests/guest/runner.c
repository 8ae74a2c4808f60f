/* The first program of the test boot: runs the programs that /tests/list names, one after the other.
 *
 * A line of the list is `NAME SECONDS [VARIABLE=VALUE…] [PROGRAM [ARGUMENT…]]`. Without a program it is /tests/NAME. Each
 * is run in a process group of its own, which is killed as a whole when the time is over and, for what it may have left
 * behind, when it ends. Around its output stand `=== NAME` and one of `=== NAME exit N MILLISECONDS ms`,
 * `=== NAME signal N …`, `=== NAME timeout …`.
 * The running program's group has the terminal. Exits with the number of programs that failed, at most 100. As PID 1
 * (the oracle: stock Linux with the same initramfs) it mounts what the programs need first, prints `=== failed N`, and
 * reboots, which QEMU's -no-reboot makes the end: not every machine can be powered off.
 */
#include "check.h"
#include "gate.h"
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>

static const char list_path[] = "/tests/list";

/* One line, in one write, so that it stays whole beside what a program still prints. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (write(1, line, length) != length)
        _exit(100);
}

static int terminal = -1; /* the controlling one, where there is one */

/* Makes a group the one that may use the terminal, as a shell does. */
static void to_foreground(pid_t group)
{
    if (terminal >= 0)
        tcsetpgrp(terminal, group);
}

/* Whether the program ran and gave 0. */
static int run_program(const char *name, double seconds, char **words)
{
    char path[192];
    char *only_path[] = { path, NULL };
    snprintf(path, sizeof path, "/tests/%s", name);
    char **variables = words;
    while (*words && strchr(*words, '=') && **words != '/')
        words++;
    char **arguments = *words ? words : only_path;
    long violations = gate_status("violations");
    say("=== %s\n", name);

    uint64_t start = microseconds();
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        to_foreground(getpid());
        signal(SIGTTOU, SIG_DFL);
        for (; variables < words; variables++)
            putenv(*variables);
        execv(arguments[0], arguments);
        say("%s: %s\n", arguments[0], strerror(errno));
        _exit(127);
    }
    if (child < 0) {
        say("=== %s: fork: %s\n", name, strerror(errno));
        return 0;
    }
    setpgid(child, child); /* both do these, so that they have happened whoever runs first */
    to_foreground(child);

    int status = 0, timed_out = 0;
    pid_t reaped;
    while ((reaped = waitpid(child, &status, WNOHANG)) == 0 || (reaped < 0 && errno == EINTR)) {
        if (!timed_out && microseconds() - start > seconds * 1e6) {
            timed_out = 1;
            kill(-child, SIGKILL);
            kill(child, SIGKILL);
        }
        usleep(2000);
    }
    unsigned milliseconds = (microseconds() - start) / 1000;
    long broken = gate_status("violations") - violations;
    if (broken > 0)
        say("not ok invariants: %ld broken, see the kernel log\n", broken);
    kill(-child, SIGKILL);
    to_foreground(getpgrp());
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    if (timed_out)
        say("=== %s timeout %u ms\n", name, milliseconds);
    else if (WIFSIGNALED(status))
        say("=== %s signal %d %u ms\n", name, WTERMSIG(status), milliseconds);
    else
        say("=== %s exit %d %u ms\n", name, WEXITSTATUS(status), milliseconds);
    return !timed_out && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void prepare_linux(void)
{
    static const char *const mounts[][2] = { { "proc", "/proc" }, { "devtmpfs", "/dev" }, { "tmpfs", "/tmp" } };
    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++) {
        mkdir(mounts[i][1], 0755);
        mount(mounts[i][0], mounts[i][1], mounts[i][0], 0, NULL);
    }
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(console, fd);
}

int main(void)
{
    static char list[262144];
    int is_init = getpid() == 1, failed = 0;
    if (is_init)
        prepare_linux();
    terminal = open("/dev/tty", O_RDWR | O_CLOEXEC);
    signal(SIGTTOU, SIG_IGN);

    int fd = open(list_path, O_RDONLY);
    ssize_t size = read(fd, list, sizeof list - 1);
    if (size < 0 || size == sizeof list - 1) {
        say("%s: %s\n", list_path, strerror(errno));
        failed = 100;
    }
    close(fd); /* the programs inherit what is open, and some count on the lowest free number */
    char *rest = list;
    for (char *line; (line = strsep(&rest, "\n"));) {
        char *words[34] = { NULL };
        int count = 0;
        for (char *word; count < 33 && (word = strsep(&line, " "));)
            words[count++] = word;
        if (count >= 2 && words[0][0] != '#')
            failed += !run_program(words[0], atof(words[1]), words + 2);
    }
    if (failed > 100)
        failed = 100;
    say("=== failed %d\n", failed);
    if (is_init) {
        tcdrain(1); /* what the port has not sent yet a reboot loses */
        sync();
        reboot(RB_AUTOBOOT);
    }
    return failed;
}
