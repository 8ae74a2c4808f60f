/* What is opened by way of /proc/self/fd: a new open file on the same object. Of a pipe, an end that waits for nobody; of a
 * file, one with a position and flags of its own, also where the name is gone; of a socket and what has no name, nothing.
 */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

static int reopen(const char *directory, int fd, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "%s/%d", directory, fd);
    return open(path, flags);
}

static short events_of(int fd, short wanted)
{
    struct pollfd watched = { fd, wanted, 0 };
    poll(&watched, 1, 0);
    return watched.revents;
}

static void pipes(const char *directory)
{
    char name[100], buffer[8] = "";
    int tube[2];
    if (pipe(tube) || write(tube[1], "ab", 2) != 2)
        _exit(99);
    int reader = reopen(directory, tube[0], O_RDONLY), writer = reopen(directory, tube[0], O_WRONLY);
    snprintf(name, sizeof name, "%s: both ends of a pipe by its reading end", directory);
    check(reader >= 0 && writer >= 0 && write(writer, "c", 1) == 1 && read(reader, buffer, 8) == 3 && !memcmp(buffer, "abc", 3),
          name, "%d %d, %s, errno %d", reader, writer, buffer, errno);
    close(writer);
    close(tube[1]);
    int again = reopen(directory, tube[0], O_RDONLY);
    snprintf(name, sizeof name, "%s: the reading end without a writer", directory);
    check(again >= 0 && read(again, buffer, 1) == 0 && events_of(again, POLLIN) == POLLHUP, name, "%d, events %#x", again,
          events_of(again, POLLIN));
    int impatient = reopen(directory, tube[0], O_RDONLY | O_NONBLOCK);
    snprintf(name, sizeof name, "%s: the same with O_NONBLOCK", directory);
    check(impatient >= 0 && read(impatient, buffer, 1) == 0 && events_of(impatient, POLLIN) == POLLHUP &&
              fcntl(impatient, F_GETFL) & O_NONBLOCK && !(fcntl(tube[0], F_GETFL) & O_NONBLOCK),
          name, "%d, events %#x", impatient, events_of(impatient, POLLIN));
    writer = reopen(directory, tube[0], O_WRONLY);
    snprintf(name, sizeof name, "%s: a writer that comes back", directory);
    check(writer >= 0 && events_of(again, POLLIN) == 0 && write(writer, "d", 1) == 1 && read(again, buffer, 1) == 1, name,
          "%d, events %#x", writer, events_of(again, POLLIN));
    close(tube[0]), close(reader), close(again), close(impatient);
    signal(SIGPIPE, SIG_IGN);
    int both = reopen(directory, writer, O_RDWR), alone = reopen(directory, writer, O_WRONLY | O_NONBLOCK);
    close(both);
    snprintf(name, sizeof name, "%s: the writing end without a reader", directory);
    check(both >= 0 && alone >= 0 && write(alone, "x", 1) < 0 && errno == EPIPE && events_of(alone, POLLOUT) & POLLERR, name,
          "%d %d, errno %d", both, alone, errno);
    close(writer), close(alone);
}

static void files(void)
{
    char buffer[8] = "", link[100] = "";
    int fd = open("/tmp/proc_fd.file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, "0123", 4) != 4)
        _exit(98);
    unlink("/tmp/proc_fd.file");
    int other = reopen("/proc/self/fd", fd, O_RDONLY);
    check(other >= 0 && read(other, buffer, 8) == 4 && !memcmp(buffer, "0123", 4), "a removed file, from its start", "%d, %s",
          other, buffer);
    check(lseek(fd, 0, SEEK_CUR) == 4 && write(other, "x", 1) < 0 && errno == EBADF, "with a position and a mode of its own",
          "%ld, errno %d", (long)lseek(fd, 0, SEEK_CUR), errno);
    close(other);
    other = reopen("/proc/self/fd", fd, O_WRONLY | O_TRUNC);
    check(other >= 0 && lseek(fd, 0, SEEK_END) == 0, "it can be truncated", "%ld", (long)lseek(fd, 0, SEEK_END));
    close(other);
    other = reopen("/proc/self/fd", fd, O_WRONLY | O_CREAT | O_EXCL);
    check(other < 0 && errno == EEXIST, "O_EXCL: the link is there", "%d, errno %d", other, errno);
    other = reopen("/proc/self/fd", fd, O_RDONLY | O_NOFOLLOW);
    check(other < 0 && errno == ELOOP, "O_NOFOLLOW: it is a link", "%d, errno %d", other, errno);
    int named = reopen("/proc/self/fd", fd, O_PATH);
    other = reopen("/proc/self/fd", named, O_RDWR);
    check(named >= 0 && other >= 0 && write(other, "y", 1) == 1, "by a descriptor that only names it", "%d %d", named, other);
    close(other), close(named), close(fd);

    fd = memfd_create("memory", 0);
    if (write(fd, "m", 1) != 1)
        _exit(98);
    other = reopen("/proc/self/fd", fd, O_RDONLY);
    check(other >= 0 && read(other, buffer, 8) == 1 && buffer[0] == 'm', "a memory file", "%d", other);
    ssize_t length = readlink("/proc/self/fd/0", link, sizeof link - 1);
    check(length > 0 && open("/proc/self/fd/4095", O_RDONLY) < 0 && errno == ENOENT, "no such descriptor", "%zd, errno %d",
          length, errno);
    close(other), close(fd);
    fd = open("/tmp", O_RDONLY | O_DIRECTORY);
    other = reopen("/proc/self/fd", fd, O_RDONLY | O_DIRECTORY);
    check(other >= 0 && reopen("/proc/self/fd", fd, O_WRONLY) < 0 && errno == EISDIR, "a directory", "%d, errno %d", other,
          errno);
    close(other), close(fd);
}

static void nothing(const char *name, int fd)
{
    int other = reopen("/proc/self/fd", fd, O_RDWR), error = errno;
    int named = reopen("/proc/self/fd", fd, O_PATH);
    check(fd >= 0 && other < 0 && error == ENXIO && named >= 0, name, "%d, %d, errno %d, %d", fd, other, error, named);
    close(named), close(fd);
}

static void standard_input(void)
{
    int tube[2], status = -1;
    char buffer[8] = "";
    if (pipe(tube) || write(tube[1], "in", 2) != 2)
        _exit(97);
    pid_t child = fork();
    if (child == 0) {
        dup2(tube[0], 0);
        close(tube[0]), close(tube[1]);
        int fd = open(access("/dev/stdin", F_OK) ? "/proc/self/fd/0" : "/dev/stdin", O_RDONLY);
        _exit(fd < 0 || read(fd, buffer, 8) != 2);
    }
    close(tube[0]), close(tube[1]);
    waitpid(child, &status, 0);
    check(status == 0, "/dev/stdin is a pipe whose writer is gone", "status %#x", status);
}

int main(void)
{
    int pair[2];
    sigset_t set;
    sigemptyset(&set);
    alarm(20);
    pipes("/proc/self/fd");
    pipes(access("/dev/fd", F_OK) ? "/proc/self/fd" : "/dev/fd");
    files();
    standard_input();
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        _exit(96);
    nothing("a stream socket", pair[0]);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
        _exit(96);
    nothing("a packet socket", pair[0]);
    nothing("an eventfd", eventfd(0, 0));
    nothing("an epoll set", epoll_create1(0));
    nothing("a signalfd", signalfd(-1, &set, 0));
    return done();
}
