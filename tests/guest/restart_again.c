/* Bug 34: waits that are interrupted again and again: by stops of job control, by a tracer that comes and goes, by signals
 * that a tracer takes or that are ignored. Each goes on, ends with what it waited for, and not before its time. Then a
 * handler: what becomes of a wait that has been interrupted before is what becomes of one that has not.
 */
#include "check.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* The kernel's structures of the call's own width: the C library's 32-bit one may have wider ones. */
struct time { long seconds, fraction; };
enum { WAIT_MS = 1000, ROUNDS = 4 };
#define LATER { WAIT_MS / 1000, WAIT_MS % 1000 * 1000000 }

static int tube[2], quiet[2], full[2], event, pair[2], packets[2];
static uint32_t *shared; /* [0] is the futex that nobody wakes, [1] the one that is woken */
static char byte;
static char fifo[] = "/tmp/restart_again.fifo", locked[] = "/tmp/restart_again.lock";

static struct time left, request;

static struct time at(int clock, long milliseconds)
{
    struct timespec now;
    clock_gettime(clock, &now);
    long fraction = now.tv_nsec + milliseconds % 1000 * 1000000;
    return (struct time){ now.tv_sec + milliseconds / 1000 + fraction / 1000000000, fraction % 1000000000 };
}

#ifdef __i386__
enum { SELECT = 142 };
#else
enum { SELECT = SYS_select };
#endif

/* Waits that time ends. */
static long futex_relative(void) { return syscall(SYS_futex, shared, FUTEX_WAIT, 0, &request, 0, 0); }
static long futex_absolute(void)
{
    request = at(CLOCK_MONOTONIC, WAIT_MS);
    return syscall(SYS_futex, shared, FUTEX_WAIT_BITSET, 0, &request, 0, -1);
}
static long futex_realtime(void)
{
    request = at(CLOCK_REALTIME, WAIT_MS);
    return syscall(SYS_futex, shared, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME | FUTEX_PRIVATE_FLAG, 0, &request, 0, -1);
}
static long naps(void) { return syscall(SYS_nanosleep, &request, &left); }
static long naps_on_clock(void) { return syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, &request, &left); }
static long naps_until(void)
{
    request = at(CLOCK_MONOTONIC, WAIT_MS);
    return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &request, &left);
}
static long polls(void)
{
    struct pollfd nothing = { quiet[0], POLLIN, 0 };
    return syscall(SYS_poll, &nothing, 1, WAIT_MS);
}
static long ppolls(void)
{
    struct pollfd nothing = { quiet[0], POLLIN, 0 };
    uint64_t mask = 1;
    return syscall(SYS_ppoll, &nothing, 1, &request, &mask, 8);
}
static long selects(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(quiet[0], &set);
    request.fraction /= 1000;
    return syscall(SELECT, quiet[0] + 1, &set, 0, 0, &request);
}
static long pselects(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(quiet[0], &set);
    return syscall(SYS_pselect6, quiet[0] + 1, &set, 0, 0, &request, 0);
}

/* Waits that an event ends. */
static long futex_forever(void) { return syscall(SYS_futex, shared + 1, FUTEX_WAIT, 0, 0, 0, 0); }
static long futex_long(void)
{
    request = (struct time){ 1000, 0 };
    return syscall(SYS_futex, shared + 1, FUTEX_WAIT, 0, &request, 0, 0);
}
static long reads_pipe(void) { return read(tube[0], &byte, 1) - 1; }
static long reads_event(void)
{
    uint64_t value;
    return read(event, &value, 8) - 8;
}
static long reads_socket(void) { return read(pair[0], &byte, 1) - 1; }
static long reads_packet(void) { return read(packets[0], &byte, 1) - 1; }
static long writes_pipe(void) { return write(full[1], &byte, 1) - 1; }
static long opens_fifo(void) { return open(fifo, O_RDONLY) < 0; }
static long locks(void) { return flock(open(locked, O_RDONLY), LOCK_EX); }
static long locks_record(void)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    return fcntl(open(locked, O_RDWR), F_SETLKW, &lock);
}
static long polls_forever(void)
{
    struct pollfd readable = { tube[0], POLLIN, 0 };
    return poll(&readable, 1, -1) - 1;
}
static long waits_for_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        syscall(SYS_futex, shared + 1, FUTEX_WAIT, 0, 0, 0, 0);
        _exit(0);
    }
    return syscall(SYS_wait4, child, 0, 0, 0) - child;
}

static long waits_for_id(void)
{
    siginfo_t info;
    pid_t child = fork();
    if (child == 0) {
        syscall(SYS_futex, shared + 1, FUTEX_WAIT, 0, 0, 0, 0);
        _exit(0);
    }
    return waitid(P_PID, child, &info, WEXITED);
}

/* Waits that a handler ends, and nothing else. */
static long pauses(void) { return pause(); }
static long suspends(void)
{
    uint64_t mask = 1;
    return syscall(SYS_rt_sigsuspend, &mask, 8);
}

/* Waits that any signal ends, a stop too. */
static long waits_for_signal(void)
{
    uint64_t set = 1ull << (SIGUSR2 - 1);
    return syscall(SYS_rt_sigtimedwait, &set, 0, &request, 8);
}
static long epolls(void)
{
    int set = epoll_create1(0);
    struct epoll_event in = { .events = EPOLLIN };
    epoll_ctl(set, EPOLL_CTL_ADD, quiet[0], &in);
    return epoll_wait(set, &in, 1, WAIT_MS);
}
static long epolls_with_mask(void)
{
    int set = epoll_create1(0);
    struct epoll_event in = { .events = EPOLLIN };
    uint64_t mask = 1;
    epoll_ctl(set, EPOLL_CTL_ADD, quiet[0], &in);
    return syscall(SYS_epoll_pwait, set, &in, 1, WAIT_MS, &mask, 8);
}

enum ends { BY_TIME, BY_EVENT, BY_HANDLER, BY_ANY_SIGNAL };

static const struct wait {
    const char *name;
    long (*call)(void);
    enum ends ends;
    int error; /* of the call when it was not interrupted by a handler */
    int restarts; /* by a handler with SA_RESTART */
} waits[] = {
    { "futex", futex_relative, BY_TIME, ETIMEDOUT, 0 },
    { "futex until", futex_absolute, BY_TIME, ETIMEDOUT, 0 },
    { "futex until a time of day", futex_realtime, BY_TIME, ETIMEDOUT, 0 },
    { "nanosleep", naps, BY_TIME, 0, 0 },
    { "clock_nanosleep", naps_on_clock, BY_TIME, 0, 0 },
    { "clock_nanosleep until", naps_until, BY_TIME, 0, 0 },
    { "poll", polls, BY_TIME, 0, 0 },
    { "ppoll", ppolls, BY_TIME, 0, 0 },
    { "select", selects, BY_TIME, 0, 0 },
    { "pselect", pselects, BY_TIME, 0, 0 },
    { "futex without a timeout", futex_forever, BY_EVENT, 0, 1 },
    { "futex with a long timeout", futex_long, BY_EVENT, 0, 0 },
    { "read of a pipe", reads_pipe, BY_EVENT, 0, 1 },
    { "read of an eventfd", reads_event, BY_EVENT, 0, 1 },
    { "read of a socket", reads_socket, BY_EVENT, 0, 1 },
    { "read of a packet", reads_packet, BY_EVENT, 0, 1 },
    { "write to a full pipe", writes_pipe, BY_EVENT, 0, 1 },
    { "open of a fifo", opens_fifo, BY_EVENT, 0, 1 },
    { "flock", locks, BY_EVENT, 0, 1 },
    { "F_SETLKW", locks_record, BY_EVENT, 0, 1 },
    { "poll without a timeout", polls_forever, BY_EVENT, 0, 0 },
    { "wait4", waits_for_child, BY_EVENT, 0, 1 },
    { "waitid", waits_for_id, BY_EVENT, 0, 1 },
    { "pause", pauses, BY_HANDLER, EINTR, 0 },
    { "rt_sigsuspend", suspends, BY_HANDLER, EINTR, 0 },
    { "rt_sigtimedwait", waits_for_signal, BY_ANY_SIGNAL, EINTR, 0 },
    { "epoll_wait", epolls, BY_ANY_SIGNAL, EINTR, 0 },
    { "epoll_pwait", epolls_with_mask, BY_ANY_SIGNAL, EINTR, 0 },
};
enum { WAITS = sizeof waits / sizeof *waits };

static void on_signal(int signal)
{
    (void)signal;
}

static char state_of(pid_t pid)
{
    char path[40], line[300];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
    close(fd);
    line[length < 0 ? 0 : length] = 0;
    char *end = strrchr(line, ')');
    return end ? end[2] : 'X';
}

/* Whether it sleeps in its call; if not, it has ended. */
static int asleep(pid_t pid)
{
    for (;;) {
        char state = state_of(pid);
        if (state == 'S')
            return 1;
        if (state == 'Z' || state == 'X')
            return 0;
        usleep(1000);
    }
}

static pid_t start(const struct wait *wait, int error)
{
    pid_t child = fork();
    if (child)
        return child;
    request = (struct time)LATER;
    struct time begin = at(CLOCK_MONOTONIC, 0);
    errno = 0;
    long result = wait->call();
    int got = result ? errno : 0;
    struct time end = at(CLOCK_MONOTONIC, 0);
    long took = (end.seconds - begin.seconds) * 1000 + (end.fraction - begin.fraction) / 1000000;
    if (got != error || (result == 0) != (error == 0))
        _exit(100 + (got & 63));
    if (wait->ends == BY_TIME && error != EINTR && took < WAIT_MS - 1)
        _exit(99);
    /* The rest was told at the last interruption. */
    if (error == EINTR && (wait->call == naps || wait->call == naps_on_clock) &&
        (left.seconds * 1000 + left.fraction / 1000000 > WAIT_MS || left.seconds + left.fraction == 0))
        _exit(98);
    _exit(0);
}

static void drain(int fd)
{
    char some[4096];
    while (poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 0) == 1 && read(fd, some, sizeof some) > 0)
        ;
}

/* What ends the waits for events. */
static void happen(void)
{
    shared[1] = 1;
    syscall(SYS_futex, shared + 1, FUTEX_WAKE, 1000, 0, 0, 0);
    close(open(fifo, O_WRONLY | O_NONBLOCK));
    uint64_t one = 1;
    if (write(tube[1], "xx", 2) != 2 || write(pair[1], "x", 1) != 1 || write(packets[1], "x", 1) != 1 ||
        write(event, &one, 8) != 8)
        _exit(97);
    drain(full[0]);
}

static int *const drained[] = { tube, pair, packets, full, &event };
static int holder;

static void hold_locks(void)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    holder = open(locked, O_RDWR | O_CREAT, 0600);
    if (holder < 0 || flock(holder, LOCK_EX) || fcntl(holder, F_SETLK, &lock))
        _exit(97);
}

/* Not by closing it: the children have it open, too. */
static void release_locks(void)
{
    struct flock none = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
    if (flock(holder, LOCK_UN) || fcntl(holder, F_SETLK, &none))
        _exit(97);
}

static const char page[4096];

enum how { BY_STOP, BY_ATTACH, BY_SEIZE, TAKEN, IGNORED, HOWS };
static const char *const how_names[] = { "stops", "a tracer that comes and goes", "a seizing tracer's stops",
                                         "signals that a tracer takes", "ignored signals that a tracer lets through" };

static int interrupt(pid_t pid, enum how how)
{
    int status = -1;
    switch (how) {
    case BY_STOP:
        kill(pid, SIGSTOP);
        waitpid(pid, &status, WUNTRACED);
        kill(pid, SIGCONT);
        break;
    case BY_ATTACH:
        ptrace(PTRACE_ATTACH, pid, 0, 0);
        waitpid(pid, &status, __WALL);
        ptrace(PTRACE_DETACH, pid, 0, 0);
        break;
    case BY_SEIZE:
        ptrace(PTRACE_SEIZE, pid, 0, 0);
        ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        waitpid(pid, &status, __WALL);
        ptrace(PTRACE_DETACH, pid, 0, 0);
        break;
    case TAKEN:
    case IGNORED:
        ptrace(PTRACE_SEIZE, pid, 0, 0);
        kill(pid, how == TAKEN ? SIGUSR1 : SIGWINCH);
        waitpid(pid, &status, __WALL);
        ptrace(PTRACE_DETACH, pid, 0, (void *)(long)(how == TAKEN ? 0 : SIGWINCH));
        break;
    default:
        break;
    }
    return WIFSTOPPED(status);
}

/* All waits at once. `handler`: at last a signal comes, whose handler has these flags. */
static void all(enum how how, int handler, int flags)
{
    pid_t pids[WAITS];
    int interrupted[WAITS] = { 0 }, last = handler ? 2 : ROUNDS;
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = flags };
    sigaction(SIGUSR1, &action, NULL);
    shared[1] = 0;
    hold_locks();
    while (poll(&(struct pollfd){ full[1], POLLOUT, 0 }, 1, 0) == 1)
        if (write(full[1], page, sizeof page) != sizeof page)
            _exit(97);
    for (int i = 0; i < WAITS; i++) {
        int restarts = flags & SA_RESTART && waits[i].restarts;
        pids[i] = start(&waits[i], handler && !restarts ? EINTR : waits[i].error);
    }
    for (int round = 0; round < last; round++)
        for (int i = 0; i < WAITS; i++)
            if (!(round && waits[i].ends == BY_ANY_SIGNAL) && asleep(pids[i]))
                interrupted[i] += interrupt(pids[i], how);
    for (int i = 0; i < WAITS; i++)
        if (!handler && waits[i].ends == BY_HANDLER && asleep(pids[i]))
            kill(pids[i], SIGUSR1);
    for (int i = 0; i < WAITS && handler; i++)
        if (waits[i].ends != BY_ANY_SIGNAL && asleep(pids[i])) {
            kill(pids[i], SIGUSR1);
            interrupted[i]++;
            asleep(pids[i]); /* again, or it has ended: before the event may come */
        } else if (waits[i].ends != BY_ANY_SIGNAL) {
            interrupted[i] = 0; /* it was over before its handler's turn */
        }
    for (int i = 0; i < WAITS && !handler; i++)
        if (waits[i].ends == BY_EVENT)
            asleep(pids[i]);
    if (!handler || flags & SA_RESTART) {
        happen();
        release_locks();
    }
    for (int i = 0; i < WAITS; i++) {
        char name[120];
        int status = -1;
        snprintf(name, sizeof name, "%s: %s%s", waits[i].name, how_names[how],
                 !handler ? "" : flags ? ", then a handler with SA_RESTART" : ", then a handler");
        waitpid(pids[i], &status, __WALL);
        if (interrupted[i] < (waits[i].ends == BY_ANY_SIGNAL ? 1 : 2))
            skip(name, "it had ended before it was interrupted twice");
        else
            check(status == 0, name, "status %#x (%s)", status,
                  WIFEXITED(status) && WEXITSTATUS(status) >= 100 ? strerror(WEXITSTATUS(status) - 100) : "time");
    }
    release_locks();
    close(holder);
    happen(); /* a child's child still waits */
    for (size_t i = 0; i < sizeof drained / sizeof *drained; i++)
        drain(*drained[i]);
}

int main(void)
{
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unlink(fifo);
    unlink(locked);
    event = eventfd(0, 0);
    if (pipe2(tube, 0) || pipe2(quiet, 0) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
        socketpair(AF_UNIX, SOCK_DGRAM, 0, packets) || pipe2(full, 0) || mkfifo(fifo, 0600))
        return 99;
    for (enum how how = 0; how < HOWS; how++)
        all(how, 0, 0);
    all(BY_STOP, 1, 0);
    all(BY_ATTACH, 1, SA_RESTART);
    unlink(fifo);
    unlink(locked);
    return done();
}
