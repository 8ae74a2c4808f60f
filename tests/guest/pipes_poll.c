/* Pipes (atomic writes, end of file, EPIPE, non-blocking ends, sizes), fifos, descriptors, poll and select.
 */
#include "check.h"
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>

static void fresh(int ends[2], int flags)
{
    if (pipe2(ends, flags)) {
        perror("pipe2");
        _exit(99);
    }
}

static void close_both(int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static void basics(void)
{
    int ends[2], left = 0;
    char buffer[64];
    fresh(ends, 0);
    check(write(ends[1], "hello, ", 7) == 7 && write(ends[1], "pipe", 4) == 4 && read(ends[0], buffer, 64) == 11 &&
              !memcmp(buffer, "hello, pipe", 11), "what is written is read", "it is not");
    check(write(ends[1], "abcdef", 6) == 6 && read(ends[0], buffer, 2) == 2 && ioctl(ends[0], FIONREAD, &left) == 0 && left == 4,
          "FIONREAD tells what is left", "%d", left);
    check(read(ends[0], buffer, 64) == 4 && !memcmp(buffer, "cdef", 4), "a short read leaves the rest", "it does not");
    struct iovec parts[2] = { { "one", 3 }, { "two", 3 } };
    check(writev(ends[1], parts, 2) == 6 && read(ends[0], buffer, 64) == 6 && !memcmp(buffer, "onetwo", 6), "writev", "wrong");
    check(read(ends[1], buffer, 1) == -1 && errno == EBADF && write(ends[0], "x", 1) == -1 && errno == EBADF,
          "each end has one direction", "%s", strerror(errno));
    check(lseek(ends[0], 0, SEEK_SET) == -1 && errno == ESPIPE, "no seeking", "%s", strerror(errno));
    struct stat status;
    check(fstat(ends[0], &status) == 0 && S_ISFIFO(status.st_mode), "fstat says FIFO", "mode %o", status.st_mode);
    check(write(ends[1], "", 0) == 0, "a write of nothing", "%s", strerror(errno));
    close(ends[1]);
    check(read(ends[0], buffer, 1) == 0, "end of file when the last writer is gone", "not");
    close(ends[0]);
    fresh(ends, O_CLOEXEC);
    check(fcntl(ends[0], F_GETFD) == FD_CLOEXEC && fcntl(ends[1], F_GETFD) == FD_CLOEXEC, "O_CLOEXEC", "not set");
    int copy = dup(ends[1]);
    check(fcntl(copy, F_GETFD) == 0, "dup does not copy FD_CLOEXEC", "it does");
    close(ends[1]);
    check(write(copy, "d", 1) == 1 && read(ends[0], buffer, 1) == 1, "a duplicate keeps the end open", "not");
    close(copy);
    close(ends[0]);
    int result = pipe2(ends, 0x40000000);
    check(result == -1 && errno == EINVAL, "unknown flags", "%d", result);
}

static void not_blocking(void)
{
    int ends[2];
    static char block[4096], big[65536];
    long filled = 0, written;
    fresh(ends, O_NONBLOCK);
    check(read(ends[0], block, 1) == -1 && errno == EAGAIN, "an empty pipe gives EAGAIN", "%s", strerror(errno));
    while ((written = write(ends[1], block, sizeof block)) > 0)
        filled += written;
    check(written == -1 && errno == EAGAIN && filled == 65536, "a full pipe holds 64 KiB and gives EAGAIN", "%ld bytes",
          filled);
    check(read(ends[0], block, 100) == 100 && write(ends[1], block, 4096) == -1 && errno == EAGAIN,
          "a write of PIPE_BUF is all or nothing", "not");
    check(read(ends[0], block, 4096) == 4096, "room again", "none");
    written = write(ends[1], big, sizeof big);
    check(written > 0 && written < (long)sizeof big, "a longer write is partial", "%ld", written);
    close_both(ends);
}

/* Many writers; records of up to PIPE_BUF bytes must not mix. */
static void atomic_writes(void)
{
    enum { WRITERS = 4, RECORDS = 200, LENGTH = 1000 };
    int ends[2], mixed = 0, count[WRITERS] = { 0 };
    char record[LENGTH];
    fresh(ends, 0);
    for (int w = 0; w < WRITERS; w++)
        if (fork() == 0) {
            memset(record, 'a' + w, LENGTH);
            for (int i = 0; i < RECORDS; i++)
                if (write(ends[1], record, LENGTH) != LENGTH)
                    _exit(1);
            _exit(0);
        }
    close(ends[1]);
    for (;;) {
        int have = 0, got = 1;
        while (have < LENGTH && (got = read(ends[0], record + have, LENGTH - have)) > 0)
            have += got;
        if (have < LENGTH)
            break;
        for (int i = 1; i < LENGTH; i++)
            mixed += record[i] != record[0];
        if (record[0] >= 'a' && record[0] < 'a' + WRITERS)
            count[record[0] - 'a']++;
    }
    int complete = 1;
    for (int w = 0; w < WRITERS; w++)
        complete &= count[w] == RECORDS;
    check(!mixed && complete, "records of four writers do not mix", "%d bytes mixed, %d records of the first", mixed, count[0]);
    while (wait(NULL) > 0)
        ;
    close(ends[0]);
}

/* A stream much larger than the pipe, with all its bytes in order. */
static void stream(void)
{
    enum { SIZE = 1 << 20 };
    int ends[2], status = -1;
    static unsigned char buffer[3001];
    long position = 0, wrong = 0, got;
    fresh(ends, 0);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        static unsigned char out[SIZE];
        for (int i = 0; i < SIZE; i++)
            out[i] = i * 7 + (i >> 8);
        _exit(write(ends[1], out, SIZE) != SIZE);
    }
    close(ends[1]);
    while ((got = read(ends[0], buffer, sizeof buffer)) > 0)
        for (long i = 0; i < got; i++, position++)
            wrong += buffer[i] != (unsigned char)(position * 7 + (position >> 8));
    waitpid(child, &status, 0);
    check(position == SIZE && !wrong && status == 0, "a megabyte in one write", "%ld bytes, %ld wrong", position, wrong);
    close(ends[0]);
}

static void broken(void)
{
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    fresh(ends, 0);
    close(ends[0]);
    check(write(ends[1], "x", 1) == -1 && errno == EPIPE, "EPIPE without a reader", "%s", strerror(errno));
    close(ends[1]);
    /* A writer that sleeps on a full pipe wakes when the reader goes. */
    fresh(ends, 0);
    pid_t child = fork();
    if (child == 0) {
        static char big[200000];
        close(ends[0]);
        ssize_t written = write(ends[1], big, sizeof big);
        _exit(!((written == -1 && errno == EPIPE) || (written > 0 && written < (ssize_t)sizeof big)));
    }
    close(ends[1]);
    usleep(5000);
    close(ends[0]);
    int status = -1;
    waitpid(child, &status, 0);
    check(status == 0, "a sleeping writer wakes when the reader goes", "status %#x", status);
}

static int poll_one(int fd, short events, int timeout)
{
    struct pollfd item = { fd, events, 0 };
    int ready = poll(&item, 1, timeout);
    return ready < 0 ? -errno : ready ? item.revents : 0;
}

static void polls(void)
{
    int ends[2];
    char buffer[16];
    static char fill[65536];
    fresh(ends, 0);
    check(poll_one(ends[0], POLLIN, 0) == 0, "nothing to read", "%#x", poll_one(ends[0], POLLIN, 0));
    check(poll_one(ends[1], POLLOUT, 0) == POLLOUT, "room to write", "none");
    uint64_t start = microseconds();
    int none = poll_one(ends[0], POLLIN, 20);
    check(none == 0 && microseconds() - start >= 20000, "poll times out", "%d", none);
    check(write(ends[1], "x", 1) == 1 && poll_one(ends[0], POLLIN, -1) == POLLIN, "something to read", "none");
    if (read(ends[0], buffer, 1) != 1 || write(ends[1], fill, sizeof fill) != sizeof fill)
        _exit(98);
    check(poll_one(ends[1], POLLOUT, 0) == 0, "a full pipe is not ready", "it is");
    pid_t child = fork();
    if (child == 0) {
        usleep(10000);
        ssize_t got = read(ends[0], fill, sizeof fill);
        _exit(got <= 0);
    }
    check(poll_one(ends[1], POLLOUT, HANG_US / 1000) == POLLOUT, "poll wakes when there is room", "it times out");
    waitpid(child, NULL, 0);
    child = fork();
    if (child == 0) {
        usleep(10000);
        _exit(write(ends[1], "y", 1) != 1);
    }
    while (poll_one(ends[0], POLLIN, 0) && read(ends[0], fill, sizeof fill) > 1)
        ;
    check(poll_one(ends[0], POLLIN, HANG_US / 1000) == POLLIN, "poll wakes when there is data", "it times out");
    waitpid(child, NULL, 0);
    if (read(ends[0], buffer, 16) < 0)
        _exit(98);
    close(ends[1]);
    check(poll_one(ends[0], POLLIN, 0) == POLLHUP, "POLLHUP when the writer is gone", "%#x", poll_one(ends[0], POLLIN, 0));
    close(ends[0]);
    check(poll_one(ends[0], POLLIN, 0) == POLLNVAL, "POLLNVAL for a closed descriptor", "%#x", poll_one(ends[0], POLLIN, 0));
    check(poll_one(-1, POLLIN, 0) == 0, "a negative descriptor is passed over", "it is not");
    fresh(ends, 0);
    close(ends[0]);
    check((poll_one(ends[1], POLLOUT, 0) & POLLERR) == POLLERR, "POLLERR when the reader is gone", "%#x",
          poll_one(ends[1], POLLOUT, 0));
    close(ends[1]);

    int first[2], second[2];
    fresh(first, 0);
    fresh(second, 0);
    struct pollfd items[3] = { { first[0], POLLIN, 0 }, { second[0], POLLIN, 0 }, { -5, POLLIN, 7 } };
    if (write(second[1], "z", 1) != 1)
        _exit(98);
    int ready = poll(items, 3, 1000);
    check(ready == 1 && items[0].revents == 0 && items[1].revents == POLLIN && items[2].revents == 0, "one of several", "%d",
          ready);
    fd_set readable, writable;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_SET(first[0], &readable);
    FD_SET(second[0], &readable);
    FD_SET(first[1], &writable);
    struct timeval limit = { 1, 0 };
    ready = select(second[1] + 1, &readable, &writable, NULL, &limit);
    check(ready == 2 && !FD_ISSET(first[0], &readable) && FD_ISSET(second[0], &readable) && FD_ISSET(first[1], &writable),
          "select", "%d", ready);
    FD_ZERO(&readable);
    FD_SET(first[0], &readable);
    limit = (struct timeval){ 0, 20000 };
    start = microseconds();
    ready = select(first[0] + 1, &readable, NULL, NULL, &limit);
    check(ready == 0 && !FD_ISSET(first[0], &readable) && microseconds() - start >= 20000, "select times out", "%d", ready);
    close_both(first);
    FD_ZERO(&readable);
    FD_SET(first[0], &readable);
    ready = select(first[0] + 1, &readable, NULL, NULL, &limit);
    check(ready == -1 && errno == EBADF, "select on a closed descriptor", "%d", ready);
    close_both(second);
}

static volatile sig_atomic_t woken;
static void wake(int signal) { (void)signal; woken = 1; }

/* ppoll takes the signal mask and sleeps in one step. */
static void masked(void)
{
    int ends[2];
    sigset_t blocked, old;
    const struct timespec limit = { 2, 0 };
    fresh(ends, 0);
    signal(SIGUSR1, wake);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &old);
    raise(SIGUSR1);
    struct pollfd item = { ends[0], POLLIN, 0 };
    int ready = ppoll(&item, 1, &limit, &old);
    check(ready == -1 && errno == EINTR && woken, "ppoll with a pending signal", "%d", ready);
    sigset_t now;
    sigprocmask(SIG_SETMASK, &old, &now);
    check(sigismember(&now, SIGUSR1), "the mask is back after it", "it is not");
    close_both(ends);
}

static void descriptors(void)
{
    int ends[2];
    fresh(ends, 0);
    int high = fcntl(ends[0], F_DUPFD, 100);
    check(high == 100, "F_DUPFD", "%d", high);
    check(dup2(ends[0], 101) == 101 && dup2(101, 101) == 101 && dup3(101, 101, 0) == -1 && errno == EINVAL, "dup2, dup3",
          "%s", strerror(errno));
    check(close(100) == 0 && close(100) == -1 && errno == EBADF, "a descriptor is closed once", "%s", strerror(errno));
    close(101);
    int flags = fcntl(ends[0], F_GETFL);
    check((flags & O_ACCMODE) == O_RDONLY && (fcntl(ends[1], F_GETFL) & O_ACCMODE) == O_WRONLY, "F_GETFL", "%#x", flags);
    check(dup(-1) == -1 && errno == EBADF && dup(9999) == -1 && errno == EBADF, "no such descriptor", "%s", strerror(errno));
    close_both(ends);
}

static short hangup(int fd)
{
    struct pollfd poller = { fd, POLLIN, 0 };
    poll(&poller, 1, 0);
    return poller.revents;
}

/* An open waits for the other end, and is content with one that has come and gone while it waited. */
static void fifos(void)
{
    enum { ROUNDS = 300 };
    const char *const name = "/fifo";
    char byte;
    unlink(name);
    if (mkfifo(name, 0600)) {
        perror("mkfifo");
        _exit(98);
    }
    int result = open(name, O_WRONLY | O_NONBLOCK);
    check(result == -1 && errno == ENXIO, "a writer that does not wait needs a reader", "%d", result);
    int reader = open(name, O_RDONLY | O_NONBLOCK);
    check(reader >= 0 && hangup(reader) == 0, "no hang-up before the first writer", "%#x", hangup(reader));
    int writer = open(name, O_WRONLY);
    check(writer >= 0 && hangup(reader) == 0, "a writer that finds a reader", "%d, %#x", writer, hangup(reader));
    close(writer);
    check(hangup(reader) == POLLHUP && read(reader, &byte, 1) == 0, "a hang-up when it has gone", "%#x", hangup(reader));
    int both = open(name, O_RDWR);
    check(both >= 0 && hangup(both) == 0, "for both, without waiting", "%d, %#x", both, hangup(both));
    close(both), close(reader);

    /* Who stays alone waits for ever: a signal ends that, and both say how far they have come. */
    static struct { volatile int round, step, error; } *side;
    side = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sigaction(SIGALRM, &(struct sigaction){ .sa_handler = wake }, NULL);
    pid_t child = fork();
    for (int me = child == 0, i = 0; i < ROUNDS; i++) {
        int writes = i % 2 == me;
        side[me].round = i, side[me].step = 1;
        alarm(HANG_US / 1000000);
        int fd = open(name, writes ? O_WRONLY : O_RDONLY);
        side[me].step = 2;
        int good = fd >= 0 && (writes ? write(fd, "x", 1) : read(fd, &byte, 1)) == 1;
        side[me].error = good ? 0 : errno;
        if (!good)
            break;
        side[me].step = 3;
        close(fd);
    }
    alarm(0);
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    int complete = 1;
    for (int i = 0; i < 2; i++)
        complete &= side[i].round == ROUNDS - 1 && side[i].step == 3;
    check(complete, "openers that meet, again and again",
          "parent: round %d, step %d, %s; child: round %d, step %d, %s", side[0].round, side[0].step, strerror(side[0].error),
          side[1].round, side[1].step, strerror(side[1].error));
    unlink(name);
}

int main(void)
{
    basics();
    not_blocking();
    atomic_writes();
    stream();
    broken();
    fifos();
    polls();
    masked();
    descriptors();
    return done();
}
