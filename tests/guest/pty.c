/* Pseudo-terminals: what one end writes the other reads, the line between them, its signals, and the end of either side. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

static int master, slave;
static char name[64];

/* Opens a new one; the terminal's side with `open` where `named`, else by the master's descriptor. */
static void open_pair(int named)
{
    int unlocked = 0;
    unsigned index;
    master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked) || ioctl(master, TIOCGPTN, &index))
        _exit(97);
    snprintf(name, sizeof name, "/dev/pts/%u", index);
    slave = named ? open(name, O_RDWR | O_NOCTTY) : ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    if (slave < 0)
        _exit(96);
}

static void close_pair(void)
{
    close(slave);
    close(master);
}

/* What comes at one end, as a string. */
static const char *got(int fd)
{
    static char buffer[4096];
    ssize_t length = read(fd, buffer, sizeof buffer - 1);
    buffer[length < 0 ? 0 : length] = 0;
    return buffer;
}

static short ready(int fd)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN | POLLOUT };
    poll(&poll_fd, 1, 0);
    return poll_fd.revents;
}

static void send_to(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        _exit(95);
}

static void names(void)
{
    int locked = -1, second;
    struct stat status;
    char link[64], path[64];
    int lone = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    check(ioctl(lone, TIOCGPTLCK, &locked) == 0 && locked == 1, "a new one is locked", "%d", locked);
    check(ioctl(lone, TIOCGPTN, &second) == 0, "TIOCGPTN", "%s", strerror(errno));
    snprintf(path, sizeof path, "/dev/pts/%d", second);
    check(open(path, O_RDWR | O_NOCTTY) < 0 && errno == EIO, "a locked one is not opened", "%s", strerror(errno));
    close(lone);
    check(stat(path, &status) < 0 && errno == ENOENT, "without its master it has no name", "%s", strerror(errno));
    open_pair(1);
    check(isatty(slave) && isatty(master), "both ends are terminals", "%s", strerror(errno));
    check(fstat(slave, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev >> 8 == 136, "its number", "%#lx",
          (long)status.st_rdev);
    snprintf(path, sizeof path, "/proc/self/fd/%d", slave);
    ssize_t length = readlink(path, link, sizeof link - 1);
    link[length < 0 ? 0 : length] = 0;
    check(strcmp(link, name) == 0, "its name in /proc/self/fd", "%s", link);
    check(ttyname(slave) && strcmp(ttyname(slave), name) == 0, "ttyname", "%s", ttyname(slave) ?: "none");
    check(fchmod(slave, 0600) == 0 && fstat(slave, &status) == 0 && (status.st_mode & 07777) == 0600, "chmod", "%o",
          status.st_mode);
    close_pair();
    open_pair(0);
    check(isatty(slave), "TIOCGPTPEER", "%s", strerror(errno));
    close_pair();
}

static void bytes(void)
{
    struct termios settings;
    open_pair(1);
    send_to(master, "lins\x7f" "e\r");
    check(strcmp(got(slave), "line\n") == 0, "a line that is typed", "another");
    check(strcmp(got(master), "lins\b \be\r\n") == 0, "its echo", "another");
    send_to(slave, "a\n");
    check(strcmp(got(master), "a\r\n") == 0, "what is printed", "another");
    send_to(master, "\x04");
    check(read(slave, name, 1) == 0, "Ctrl-D is the end", "%s", strerror(errno));
    check(ready(slave) == POLLOUT && ready(master) == POLLOUT, "nothing waits", "%#x %#x", ready(slave), ready(master));
    check(tcgetattr(master, &settings) == 0, "the master has the settings", "%s", strerror(errno));
    cfmakeraw(&settings);
    check(tcsetattr(master, TCSANOW, &settings) == 0, "and changes them", "%s", strerror(errno));
    send_to(master, "\x03\r");
    check(strcmp(got(slave), "\x03\r") == 0, "raw, typed", "another");
    send_to(slave, "b\n");
    check(strcmp(got(master), "b\n") == 0, "raw, printed", "another");
    fcntl(slave, F_SETFL, O_NONBLOCK);
    fcntl(master, F_SETFL, O_NONBLOCK);
    check(read(slave, name, 1) < 0 && errno == EAGAIN, "nothing is typed", "%s", strerror(errno));
    check(read(master, name, 1) < 0 && errno == EAGAIN, "nothing is printed", "%s", strerror(errno));
    /* Neither end takes without end; all that it took comes out. */
    for (int turn = 0; turn < 2; turn++) {
        int from = turn ? master : slave, to = turn ? slave : master;
        static char block[1000];
        long in = 0, out = 0;
        ssize_t length;
        for (int i = 0; i < 1000 && (length = write(from, block, sizeof block)) > 0; i++)
            in += length;
        check(errno == EAGAIN && !(ready(from) & POLLOUT), "it is full", "%ld bytes, %s", in, strerror(errno));
        while ((length = read(to, block, sizeof block)) > 0)
            out += length;
        check(in == out && in > 1000 && (ready(from) & POLLOUT), "and is emptied", "%ld of %ld", out, in);
    }
    close_pair();
}

/* A child that blocks in write goes on when the other end reads. */
static void waits(void)
{
    open_pair(1);
    struct termios raw;
    tcgetattr(slave, &raw);
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    enum { LENGTH = 100000 };
    for (int turn = 0; turn < 2; turn++) {
        int from = turn ? master : slave, to = turn ? slave : master;
        pid_t child = fork();
        if (child == 0) {
            static char block[LENGTH];
            alarm(HANG_US / 1000000);
            _exit(write(from, block, LENGTH) != LENGTH);
        }
        long sum = 0;
        while (sum < LENGTH) {
            static char block[3000];
            ssize_t length = read(to, block, sizeof block);
            if (length <= 0)
                break;
            sum += length;
        }
        int status = -1;
        waitpid(child, &status, 0);
        check(sum == LENGTH && status == 0, turn ? "typing waits for the reader" : "printing waits for the reader",
              "%ld bytes, status %#x", sum, status);
    }
    close_pair();
}

static volatile sig_atomic_t hangups, continues, resizes;

static void count(int signo)
{
    *(signo == SIGHUP ? &hangups : signo == SIGCONT ? &continues : &resizes) += 1;
}

/* The leader of a session on the terminal; ends with the step that failed. */
static void lead(int ready_pipe)
{
    sigset_t none;
    char byte;
    sigemptyset(&none);
    close(master);
    struct sigaction action = { .sa_handler = count };
    sigaction(SIGHUP, &action, NULL);
    sigaction(SIGCONT, &action, NULL);
    sigaction(SIGWINCH, &action, NULL);
    if (setsid() < 0 || ioctl(slave, TIOCSCTTY, 0))
        _exit(1);
    if (tcgetpgrp(slave) != getpgrp() || tcgetsid(slave) != getpid())
        _exit(2);
    int again = open("/dev/tty", O_RDWR);
    if (again < 0)
        _exit(3);
    close(again);
    /* The child in the foreground group of its own: Ctrl-C ends it, then the size changes for the leader. */
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_IGN);
        tcsetpgrp(slave, getpid());
        if (write(ready_pipe, "c", 1) != 1)
            _exit(1);
        alarm(HANG_US / 1000000);
        for (;;)
            pause();
    }
    int status;
    waitpid(child, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGINT)
        _exit(4);
    signal(SIGTTOU, SIG_IGN);
    if (tcsetpgrp(slave, getpgrp()))
        _exit(5);
    alarm(HANG_US / 1000000);
    if (write(ready_pipe, "w", 1) != 1)
        _exit(6);
    while (!resizes)
        usleep(1000);
    struct winsize size;
    if (ioctl(slave, TIOCGWINSZ, &size) || size.ws_row != 33 || size.ws_col != 44)
        _exit(7);
    /* A read that the hangup ends. */
    if (write(ready_pipe, "r", 1) != 1)
        _exit(8);
    ssize_t length;
    do
        length = read(slave, &byte, 1);
    while (length < 0 && errno == EINTR);
    if (length > 0 || (length < 0 && errno != EIO)) /* Linux has EIO if the end is seen before the hangup */
        _exit(9);
    /* The end may be seen before the signals come. */
    while (!hangups || !continues)
        usleep(1000);
    if (hangups != 1 || continues != 1)
        _exit(10);
    if (write(slave, "x", 1) >= 0 || errno != EIO)
        _exit(11);
    if (open("/dev/tty", O_RDWR) >= 0 || errno != ENXIO)
        _exit(12);
    if ((ready(slave) & (POLLHUP | POLLIN)) != (POLLHUP | POLLIN))
        _exit(13);
    struct termios settings;
    if (tcgetattr(slave, &settings) >= 0 || errno != EIO)
        _exit(14);
    _exit(0);
}

static void session(void)
{
    int ends[2], status = -1;
    char byte = 0;
    open_pair(1);
    if (pipe(ends))
        _exit(94);
    pid_t leader = fork();
    if (leader == 0)
        lead(ends[1]);
    close(ends[1]);
    close(slave);
    if (read(ends[0], &byte, 1) != 1 || byte != 'c')
        _exit(93);
    int group = -1, sid = -1;
    check(ioctl(master, TIOCGPGRP, &group) == 0 && group > 0 && group != leader && ioctl(master, TIOCGSID, &sid) == 0 &&
              sid == leader,
          "the master knows the groups", "%d %d", group, sid);
    send_to(master, "\x03");
    int moved = read(ends[0], &byte, 1) == 1 && byte == 'w';
    struct winsize size = { .ws_row = 33, .ws_col = 44 };
    check(moved && ioctl(master, TIOCSWINSZ, &size) == 0, "Ctrl-C comes through", "%s", strerror(errno));
    check(read(ends[0], &byte, 1) == 1 && byte == 'r', "and the size", "%s", strerror(errno));
    close(master);
    waitpid(leader, &status, 0);
    check(status == 0, "a session on it, until it hangs up", "step %d, signal %d", WEXITSTATUS(status), WTERMSIG(status));
    close(ends[0]);
}

/* The leader ends of SIGHUP, and its end hangs up the group that was in the foreground. */
static void group_hangs_up(void)
{
    int ends[2];
    char byte;
    open_pair(1);
    if (pipe(ends))
        _exit(92);
    pid_t leader = fork();
    if (leader == 0) {
        close(master);
        setsid();
        ioctl(slave, TIOCSCTTY, 0);
        if (fork() == 0) {
            setpgid(0, 0);
            signal(SIGTTOU, SIG_IGN);
            tcsetpgrp(slave, getpid());
            if (write(ends[1], "x", 1) != 1)
                _exit(1);
            alarm(HANG_US / 1000000);
            for (;;)
                pause();
        }
        close(ends[1]);
        for (;;)
            pause();
    }
    close(ends[1]);
    close(slave);
    if (read(ends[0], &byte, 1) != 1)
        _exit(91);
    close(master);
    int status = -1;
    waitpid(leader, &status, 0);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP, "the leader is hung up", "%#x", status);
    uint64_t start = microseconds();
    check(read(ends[0], &byte, 1) == 0 && microseconds() - start < HANG_US / 2, "and so is the foreground", "late");
    close(ends[0]);
}

static void left(void)
{
    open_pair(1);
    send_to(slave, "last");
    close(slave);
    check((ready(master) & (POLLIN | POLLHUP)) == (POLLIN | POLLHUP), "poll when the terminal is left", "%#x", ready(master));
    check(strcmp(got(master), "last") == 0, "what was printed last", "another");
    check(read(master, name, 1) < 0 && errno == EIO, "and then EIO", "%s", strerror(errno));
    unsigned index = 0;
    ioctl(master, TIOCGPTN, &index);
    snprintf(name, sizeof name, "/dev/pts/%u", index);
    slave = open(name, O_RDWR | O_NOCTTY);
    check(slave >= 0 && !(ready(master) & POLLHUP), "it is opened again", "%s", strerror(errno));
    send_to(slave, "more");
    check(strcmp(got(master), "more") == 0, "and goes on", "another");
    close_pair();
}

int main(void)
{
    if (access("/dev/ptmx", R_OK | W_OK)) {
        skip("pseudo-terminals", "there is no /dev/ptmx");
        return done();
    }
    names();
    bytes();
    waits();
    session();
    group_hangs_up();
    left();
    return done();
}
