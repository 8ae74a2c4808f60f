/* The console as a terminal: settings, window size, foreground group, and the stop of a background group that touches it.
 * Skips where /dev/console is no terminal that this process may control.
 */
#include "check.h"
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

static int console;

static void settings(void)
{
    struct termios old, now;
    check(tcgetattr(console, &old) == 0, "TCGETS", "%s", strerror(errno));
    struct termios raw = old;
    raw.c_lflag &= ~(ICANON | ECHO | ISIG);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 1;
    check(tcsetattr(console, TCSANOW, &raw) == 0 && tcgetattr(console, &now) == 0 && now.c_lflag == raw.c_lflag &&
              now.c_cc[VTIME] == 1,
          "TCSETS", "lflag %#x", now.c_lflag);
    check(tcsetattr(console, TCSAFLUSH, &raw) == 0 && tcsetattr(console, TCSADRAIN, &raw) == 0, "TCSETSF and TCSETSW", "%s",
          strerror(errno));
    char byte;
    uint64_t start = microseconds();
    ssize_t got = read(console, &byte, 1);
    check(got >= 0 && (got > 0 || microseconds() - start >= 90000), "a read with VTIME ends by itself", "%zd, %s", got,
          strerror(errno));
    check(tcsetattr(console, TCSANOW, &old) == 0 && tcgetattr(console, &now) == 0 && now.c_lflag == old.c_lflag &&
              now.c_iflag == old.c_iflag && now.c_oflag == old.c_oflag,
          "the settings are put back", "lflag %#x", now.c_lflag);
    check(tcsetattr(console, 77, &old) == -1 && errno == EINVAL, "unknown action", "%s", strerror(errno));
    struct winsize size = { 0 }, changed = { .ws_row = 33, .ws_col = 101 }, read_back = { 0 };
    check(ioctl(console, TIOCGWINSZ, &size) == 0, "TIOCGWINSZ", "%s", strerror(errno));
    check(ioctl(console, TIOCSWINSZ, &changed) == 0 && ioctl(console, TIOCGWINSZ, &read_back) == 0 && read_back.ws_row == 33 &&
              read_back.ws_col == 101,
          "TIOCSWINSZ", "%d by %d", read_back.ws_row, read_back.ws_col);
    ioctl(console, TIOCSWINSZ, &size);
    check(ioctl(console, TCGETS, (void *)0xffff888000000000) == -1 && errno == EFAULT, "TCGETS to a kernel address", "%s",
          strerror(errno));
    check(ioctl(console, 0x5fff, 0) == -1 && (errno == ENOTTY || errno == EINVAL), "unknown ioctl", "%s", strerror(errno));
    int ends[2];
    if (pipe(ends))
        _exit(98);
    check(tcgetattr(ends[0], &now) == -1 && (errno == ENOTTY || errno == EINVAL) && !isatty(ends[0]), "a pipe is no terminal",
          "%s", strerror(errno));
    check(isatty(console) == 1, "the console is one", "%s", strerror(errno));
}

/* In a session of its own, whose controlling terminal the console becomes. Gives the number of the step that failed,
 * or 0; 77 where the terminal cannot be had. */
static int control(void)
{
    int status;
    if (setsid() < 0)
        return 1;
    if (ioctl(console, TIOCSCTTY, 1) < 0)
        return 77;
    close(console);
    console = open("/dev/tty", O_RDWR); /* on Linux, /dev/console knows no job control */
    if (console < 0)
        return 10;
    pid_t group = -1;
    if (ioctl(console, TIOCGPGRP, &group) || group != getpgrp())
        return 2;
    if (tcgetsid(console) != getsid(0))
        return 3;

    /* A background group that reads is stopped by SIGTTIN, one that changes the settings by SIGTTOU. */
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child == 0) {
            struct termios now;
            char byte;
            setpgid(0, 0);
            tcgetattr(console, &now);
            alarm(HANG_US / 1000000);
            if (i == 0)
                _exit(read(console, &byte, 1) >= 0 ? 1 : 2);
            _exit(tcsetattr(console, TCSANOW, &now) != 0);
        }
        setpgid(child, child);
        waitpid(child, &status, WUNTRACED);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != (i ? SIGTTOU : SIGTTIN))
            return 4 + i;
        if (i == 1) { /* in the foreground it goes on */
            if (ioctl(console, TIOCSPGRP, &child) < 0)
                return 6;
            kill(child, SIGCONT);
            waitpid(child, &status, 0);
            group = getpgrp();
            signal(SIGTTOU, SIG_IGN);
            if (ioctl(console, TIOCSPGRP, &group) < 0 || status != 0)
                return 7;
        } else {
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
        }
    }
    pid_t nobody = 0x3ffffff;
    if (ioctl(console, TIOCSPGRP, &nobody) != -1 || (errno != ESRCH && errno != EPERM))
        return 8;
    /* Ignoring SIGTTIN, a background read is EIO. */
    pid_t child = fork();
    if (child == 0) {
        char byte;
        setpgid(0, 0);
        signal(SIGTTIN, SIG_IGN);
        _exit(!(read(console, &byte, 1) == -1 && errno == EIO));
    }
    waitpid(child, &status, 0);
    if (status != 0)
        return 9;
    signal(SIGHUP, SIG_IGN); /* what the group in the foreground gets now */
    return ioctl(console, TIOCNOTTY, 0) ? 11 : 0;
}

int main(void)
{
    console = open("/dev/console", O_RDWR | O_NOCTTY);
    if (console < 0 || !isatty(console)) {
        skip("the console", "/dev/console: %s", console < 0 ? strerror(errno) : "no terminal");
        return done();
    }
    settings();
    int status = in_child(control);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip("job control of the terminal", "it cannot be made the controlling terminal");
    else
        check(status == 0, "job control of the terminal", "status %#x: exit is the step that failed", status);
    return done();
}
