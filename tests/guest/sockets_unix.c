/* Local sockets: names, connections, the three types, descriptors and credentials in messages, options, poll and epoll,
 * signals.
 */
#include "sockets.h"
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#define PATH "/tmp/portcullis_socket"

/* The address of a path, or of an abstract name behind an `@`; gives its length. */
static socklen_t address(struct sockaddr_un *name, const char *text)
{
    memset(name, 0, sizeof *name);
    name->sun_family = AF_UNIX;
    strcpy(name->sun_path, text);
    if (*text != '@')
        return offsetof(struct sockaddr_un, sun_path) + strlen(text) + 1;
    name->sun_path[0] = 0;
    return offsetof(struct sockaddr_un, sun_path) + strlen(text);
}

static int bind_to(int fd, const char *text)
{
    struct sockaddr_un name;
    socklen_t length = address(&name, text);
    return bind(fd, (struct sockaddr *)&name, length);
}

static int connect_to(int fd, const char *text)
{
    struct sockaddr_un name;
    socklen_t length = address(&name, text);
    return connect(fd, (struct sockaddr *)&name, length);
}

static int new_socket(int type)
{
    int fd = socket(AF_UNIX, type, 0);
    if (fd < 0) {
        perror("socket");
        _exit(99);
    }
    return fd;
}

static int listener(const char *text, int type, int backlog)
{
    int fd = new_socket(type);
    if (bind_to(fd, text) || listen(fd, backlog)) {
        perror(text);
        _exit(99);
    }
    return fd;
}

static void new_pair(int ends[2], int type)
{
    if (socketpair(AF_UNIX, type, 0, ends)) {
        perror("socketpair");
        _exit(99);
    }
}

static int option(int fd, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &length) ? -errno : value;
}

static void made(void)
{
    check(fails_with(socket(AF_UNIX, 77 << 4, 0), EINVAL), "unknown flags", "%s", strerror(errno));
    check(fails_with(socket(AF_UNIX, 11, 0), EINVAL), "a type that there is not", "%s", strerror(errno));
    check(fails_with(socket(AF_UNIX, SOCK_RDM, 0), ESOCKTNOSUPPORT), "a type that it has not", "%s", strerror(errno));
    check(fails_with(socket(AF_UNIX, SOCK_STREAM, 7), EPROTONOSUPPORT), "a protocol", "%s", strerror(errno));
    check(fails_with(socket(12345, SOCK_STREAM, 0), EAFNOSUPPORT), "a family", "%s", strerror(errno));
    int fd = new_socket(SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK);
    check(fcntl(fd, F_GETFD) == FD_CLOEXEC && (fcntl(fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE)) == (O_NONBLOCK | O_RDWR), "flags",
          "%#x", fcntl(fd, F_GETFL));
    struct stat status;
    char text[32] = "";
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    check(fstat(fd, &status) == 0 && status.st_mode == (S_IFSOCK | 0777) && readlink(name, text, sizeof text) > 9 &&
              !strncmp(text, "socket:[", 8), "its inode", "%o %s", status.st_mode, text);
    check(option(fd, SO_TYPE) == SOCK_STREAM && option(fd, SO_DOMAIN) == AF_UNIX && option(fd, SO_PROTOCOL) == 0 &&
              option(fd, SO_ACCEPTCONN) == 0 && option(fd, SO_ERROR) == 0, "what options say of it", "%d", option(fd, SO_TYPE));
    check(fails_with(listen(0, 1), ENOTSOCK) && fails_with(listen(999, 1), EBADF), "no socket", "%s", strerror(errno));
    check(fails_with(lseek(fd, 0, SEEK_CUR), ESPIPE), "no position", "%s", strerror(errno));
    char byte = 0;
    check(fails_with(read(fd, &byte, 1), EINVAL) && fails_with(write(fd, "x", 1), ENOTCONN), "not connected", "%s", strerror(errno));
    check(events(fd, POLLIN | POLLOUT) == (POLLOUT | POLLHUP), "poll of one that is not connected", "%#x", events(fd, POLLIN | POLLOUT));
    struct sockaddr_un peer;
    socklen_t length = sizeof peer;
    check(fails_with(getpeername(fd, (void *)&peer, &length), ENOTCONN), "no peer", "%s", strerror(errno));
    close(fd);
}

static void named(void)
{
    unlink(PATH);
    int server = new_socket(SOCK_STREAM), other = new_socket(SOCK_STREAM), client = new_socket(SOCK_STREAM);
    struct sockaddr_un name;
    socklen_t length = sizeof name;
    check(getsockname(server, (void *)&name, &length) == 0 && length == 2 && name.sun_family == AF_UNIX, "no name", "%u", length);
    check(fails_with(listen(server, 1), EINVAL), "listen without a name", "%s", strerror(errno));
    check(fails_with(connect_to(client, PATH), ENOENT), "connect to no name", "%s", strerror(errno));
    umask(022);
    struct stat status;
    check(bind_to(server, PATH) == 0 && stat(PATH, &status) == 0 && status.st_mode == (S_IFSOCK | 0755), "a path becomes a socket",
          "%o", status.st_mode);
    length = sizeof name;
    check(getsockname(server, (void *)&name, &length) == 0 && length == 2 + sizeof PATH && !strcmp(name.sun_path, PATH), "its name",
          "%u %s", length, name.sun_path);
    memset(&name, '#', sizeof name), length = 4;
    check(getsockname(server, (void *)&name, &length) == 0 && length == 2 + sizeof PATH && !memcmp((char *)&name + 2, "/t##", 4),
          "cut where there is no room", "%u", length);
    check(fails_with(bind_to(server, "/tmp/another"), EINVAL) && fails_with(bind_to(other, PATH), EADDRINUSE), "names are bound once",
          "%s", strerror(errno));
    check(fails_with(open(PATH, O_RDWR), ENXIO), "it is not opened", "%s", strerror(errno));
    check(fails_with(connect_to(client, PATH), ECONNREFUSED), "it does not listen yet", "%s", strerror(errno));
    check(listen(server, 1) == 0 && option(server, SO_ACCEPTCONN) == 1, "listen", "%s", strerror(errno));
    int packets = new_socket(SOCK_SEQPACKET);
    check(fails_with(connect_to(packets, PATH), EPROTOTYPE), "a socket of another type", "%s", strerror(errno));
    check(connect_to(client, PATH) == 0 && fails_with(connect_to(client, PATH), EISCONN), "connect", "%s", strerror(errno));
    check(events(server, POLLIN | POLLOUT) == POLLIN, "poll of one that listens", "%#x", events(server, POLLIN | POLLOUT));
    length = sizeof name;
    int end = accept4(server, (void *)&name, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    check(end >= 0 && length == 2 && (fcntl(end, F_GETFL) & O_NONBLOCK) && fcntl(end, F_GETFD) == FD_CLOEXEC, "accept4", "%d, %u", end, length);
    length = sizeof name;
    check(getpeername(client, (void *)&name, &length) == 0 && !strcmp(name.sun_path, PATH), "the peer's name", "%s", name.sun_path);
    char text[8] = "";
    check(write(client, "ping", 4) == 4 && read(end, text, 8) == 4 && !memcmp(text, "ping", 4) && fails_with(read(end, text, 8), EAGAIN),
          "bytes go over", "%s", text);
    close(end), close(client), close(packets);
    struct rlimit limit, few;
    getrlimit(RLIMIT_NOFILE, &limit);
    client = new_socket(SOCK_STREAM);
    few = (struct rlimit){ client + 1, limit.rlim_max };
    int connected = connect_to(client, PATH);
    setrlimit(RLIMIT_NOFILE, &few);
    int refused = fails_with(accept(server, NULL, NULL), EMFILE);
    setrlimit(RLIMIT_NOFILE, &limit);
    end = accept4(server, NULL, NULL, SOCK_NONBLOCK);
    check(connected == 0 && refused && end >= 0, "no descriptor is left: the connection waits", "%d, %d", refused, end);
    close(end), close(client);

    /* The backlog, and one more. */
    int waiting[2] = { new_socket(SOCK_STREAM), new_socket(SOCK_STREAM) };
    client = new_socket(SOCK_STREAM | SOCK_NONBLOCK);
    check(connect_to(waiting[0], PATH) == 0 && connect_to(waiting[1], PATH) == 0 && fails_with(connect_to(client, PATH), EAGAIN),
          "a full backlog", "%s", strerror(errno));
    fcntl(client, F_SETFL, 0);
    pid_t child = fork();
    if (child == 0)
        _exit(connect_to(client, PATH) != 0);
    wait_until(is_asleep(child, child));
    int status_of_child = -1;
    end = accept(server, NULL, NULL);
    check(end >= 0 && waitpid(child, &status_of_child, 0) == child && status_of_child == 0, "connect waits for room", "%#x", status_of_child);
    close(end);
    /* Closed before it was accepted. */
    close(server);
    char byte = 0;
    check(fails_with(read(waiting[1], &byte, 1), ECONNRESET) && read(waiting[1], &byte, 1) == 0, "a listener that closes", "%s", strerror(errno));
    check(fails_with(connect_to(other, PATH), ECONNREFUSED), "a name without a socket", "%s", strerror(errno));
    unlink(PATH);
    close(waiting[0]), close(waiting[1]), close(other), close(client);

    server = listener("@abstract", SOCK_SEQPACKET, 5), client = new_socket(SOCK_SEQPACKET), other = new_socket(SOCK_SEQPACKET);
    check(fails_with(bind_to(other, "@abstract"), EADDRINUSE) && connect_to(client, "@abstract") == 0, "an abstract name", "%s", strerror(errno));
    close(server);
    check(bind_to(other, "@abstract") == 0, "it is free when its socket is closed", "%s", strerror(errno));
    close(client), close(other);
    client = new_socket(SOCK_DGRAM);
    sa_family_t family = AF_UNIX;
    length = sizeof name;
    check(bind(client, (void *)&family, sizeof family) == 0 && getsockname(client, (void *)&name, &length) == 0 && length == 8 && !name.sun_path[0],
          "a name of five digits for the asking", "%u", length);
    check(fails_with(bind(client, (void *)&name, 111), EINVAL) && fails_with(bind(client, (void *)&name, 1), EINVAL), "lengths of names",
          "%s", strerror(errno));
    close(client);
}

static void streams(void)
{
    int ends[2], left = -1;
    char text[64] = "";
    new_pair(ends, SOCK_STREAM);
    check(send(ends[0], "abc", 3, 0) == 3 && send(ends[0], "def", 3, 0) == 3 && ioctl(ends[1], FIONREAD, &left) == 0 && left == 6 &&
              recv(ends[1], text, 4, MSG_PEEK) == 4 && recv(ends[1], text, 64, 0) == 6 && !memcmp(text, "abcdef", 6),
          "no borders, and a look", "%d %s", left, text);
    check(fails_with(recv(ends[1], text, 1, MSG_DONTWAIT), EAGAIN), "MSG_DONTWAIT", "%s", strerror(errno));
    struct sockaddr_un name;
    socklen_t length = address(&name, "@nobody");
    check(fails_with(sendto(ends[0], "x", 1, 0, (void *)&name, length), EISCONN), "a destination", "%s", strerror(errno));
    /* MSG_WAITALL waits for the rest. */
    pid_t child = fork();
    if (child == 0) {
        int got = recv(ends[1], text, 6, MSG_WAITALL);
        _exit(got != 6 || memcmp(text, "onetwo", 6));
    }
    send(ends[0], "one", 3, 0);
    wait_until(ioctl(ends[1], FIONREAD, &left) == 0 && left == 0 && is_asleep(child, child));
    send(ends[0], "two", 3, 0);
    int status = -1;
    waitpid(child, &status, 0);
    check(status == 0, "MSG_WAITALL", "%#x", status);
    /* Much more than there is room for, both ways. */
    enum { SIZE = 3 << 20 };
    static unsigned char out[SIZE];
    sends_in_order(ends, out, SIZE, "three MiB in order");
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    long filled = 0, got;
    while ((got = write(ends[0], out, 5000)) > 0)
        filled += got;
    check(fails_with(got, EAGAIN) && filled >= 100000 && filled < 1000000 && !(events(ends[0], POLLOUT) & POLLOUT), "a full socket", "%ld", filled);
    left = -1;
    check(ioctl(ends[0], TIOCOUTQ, &left) == 0 && left >= filled, "TIOCOUTQ", "%d", left);
    while (filled > 0 && (got = read(ends[1], out, SIZE)) > 0)
        filled -= got;
    check(filled == 0 && events(ends[0], POLLOUT) == POLLOUT, "empty again", "%ld", filled);
    close_both(ends);
}

static volatile sig_atomic_t caught;
static void note(int signal) { caught = signal; }

static void ends_of_streams(void)
{
    int ends[2];
    char byte = 0;
    struct sigaction action = { .sa_handler = note };
    sigaction(SIGPIPE, &action, NULL);
    for (int type = SOCK_STREAM; type <= SOCK_SEQPACKET; type += SOCK_SEQPACKET - SOCK_STREAM) {
        int is_stream = type == SOCK_STREAM;
        new_pair(ends, type);
        check(shutdown(ends[0], SHUT_WR) == 0 && read(ends[1], &byte, 1) == 0 && events(ends[1], POLLIN | POLLOUT | POLLRDHUP) == (POLLIN | POLLOUT | POLLRDHUP),
              "SHUT_WR is the end for the other", "%#x", events(ends[1], POLLIN | POLLOUT | POLLRDHUP));
        caught = 0;
        check(fails_with(write(ends[0], "x", 1), EPIPE) && caught == (is_stream ? SIGPIPE : 0), "a write after it", "%s, signal %d", strerror(errno), caught);
        caught = 0;
        check(fails_with(send(ends[0], "x", 1, MSG_NOSIGNAL), EPIPE) && !caught, "MSG_NOSIGNAL", "%s, signal %d", strerror(errno), caught);
        check(write(ends[1], "y", 1) == 1 && read(ends[0], &byte, 1) == 1, "the other direction stays", "%s", strerror(errno));
        check(shutdown(ends[0], SHUT_RD) == 0 && fails_with(send(ends[1], "x", 1, MSG_NOSIGNAL), EPIPE) && (events(ends[0], POLLIN) & POLLHUP),
              "SHUT_RD", "%#x", events(ends[0], POLLIN));
        check(fails_with(shutdown(ends[0], 3), EINVAL), "shutdown of nothing", "%s", strerror(errno));
        close_both(ends);
        new_pair(ends, type);
        if (write(ends[0], "last", 4) != 4)
            _exit(98);
        close(ends[0]);
        char text[8];
        check(events(ends[1], POLLIN | POLLRDHUP) == (POLLIN | POLLHUP | POLLRDHUP) && read(ends[1], text, 8) == 4 && read(ends[1], text, 8) == 0,
              "closed behind its last bytes", "%#x", events(ends[1], POLLIN | POLLRDHUP));
        close(ends[1]);
        new_pair(ends, type);
        if (write(ends[1], "unread", 6) != 6)
            _exit(98);
        close(ends[0]);
        check(events(ends[1], POLLIN) == (POLLIN | POLLERR | POLLHUP) && option(ends[1], SO_ERROR) == ECONNRESET && option(ends[1], SO_ERROR) == 0 &&
                  read(ends[1], text, 8) == 0, "closed with bytes unread", "%#x", events(ends[1], POLLIN));
        close(ends[1]);
    }
    new_pair(ends, SOCK_DGRAM);
    close(ends[0]);
    caught = 0;
    check(fails_with(write(ends[1], "x", 1), ECONNREFUSED) && fails_with(write(ends[1], "x", 1), ENOTCONN) && !caught, "a datagram to nobody",
          "%s", strerror(errno));
    close(ends[1]);
}

static void datagrams(void)
{
    int ends[2];
    char text[64] = "";
    for (int type = SOCK_DGRAM; type <= SOCK_SEQPACKET; type += SOCK_SEQPACKET - SOCK_DGRAM) {
        new_pair(ends, type);
        int left = -1;
        check(write(ends[0], "first", 5) == 5 && write(ends[0], "", 0) == 0 && send(ends[0], "second", 6, 0) == 6 && ioctl(ends[1], FIONREAD, &left) == 0 &&
                  left == (type == SOCK_DGRAM ? 5 : 11), "messages", "%d", left);
        check(recv(ends[1], text, 64, MSG_PEEK) == 5 && recv(ends[1], text, 2, MSG_TRUNC) == 5 && recv(ends[1], text, 64, 0) == 0 &&
                  recv(ends[1], text, 64, MSG_WAITALL) == 6, "come whole, or cut", "%s", text);
        static char big[300000];
        check(fails_with(send(ends[0], big, sizeof big, 0), EMSGSIZE), "one that is too long", "%s", strerror(errno));
        check(send(ends[0], big, 100000, 0) == 100000 && recv(ends[1], big, sizeof big, 0) == 100000, "a long one", "%s", strerror(errno));
        close_both(ends);
    }
    int receiver = new_socket(SOCK_DGRAM), sender = new_socket(SOCK_DGRAM | SOCK_NONBLOCK), third = new_socket(SOCK_DGRAM);
    struct sockaddr_un name, from;
    socklen_t length = address(&name, "@receiver"), from_length = sizeof from;
    check(fails_with(sendto(sender, "x", 1, 0, (void *)&name, length), ECONNREFUSED), "sendto nobody", "%s", strerror(errno));
    bind_to(receiver, "@receiver"), bind_to(sender, "@sender");
    check(sendto(sender, "hello", 5, 0, (void *)&name, length) == 5 && recvfrom(receiver, text, 64, 0, (void *)&from, &from_length) == 5 &&
              from_length == 2 + 7 && !memcmp(from.sun_path, "\0sender", 7), "recvfrom says who", "%u", from_length);
    from_length = sizeof from;
    check(sendto(third, "hello", 5, 0, (void *)&name, length) == 5 && recvfrom(receiver, text, 64, 0, (void *)&from, &from_length) == 5 &&
              from_length == 0, "who has no name", "%u", from_length);
    check(fails_with(accept(receiver, NULL, NULL), EOPNOTSUPP) && fails_with(listen(receiver, 1), EOPNOTSUPP), "no connections", "%s", strerror(errno));
    int count = 0;
    while (sendto(sender, "x", 1, 0, (void *)&name, length) == 1)
        count++;
    check(errno == EAGAIN && count >= 10 && count < 600, "so many and no more", "%d, %s", count, strerror(errno));
    check(connect(sender, (void *)&name, length) == 0 && !(events(sender, POLLOUT) & POLLOUT), "poll of a peer that is full", "%#x", events(sender, POLLOUT));
    int set = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLOUT | EPOLLET };
    epoll_ctl(set, EPOLL_CTL_ADD, sender, &event);
    check(epoll_wait(set, &event, 1, 0) == 0 && recv(receiver, text, 1, 0) == 1 && epoll_wait(set, &event, 1, HANG_US / 1000) == 1, "epoll sees the room",
          "%s", strerror(errno));
    close(set);
    /* Who has a peer takes from that one alone. */
    length = address(&from, "@sender");
    check(fails_with(sendto(third, "x", 1, 0, (void *)&from, length), EPERM), "a stranger", "%s", strerror(errno));
    struct sockaddr nobody = { .sa_family = AF_UNSPEC };
    check(connect(sender, &nobody, sizeof nobody) == 0 && fails_with(send(sender, "x", 1, 0), ENOTCONN) && sendto(third, "x", 1, 0, (void *)&from, length) == 1,
          "AF_UNSPEC", "%s", strerror(errno));
    close(receiver), close(sender), close(third);
}

union control {
    struct cmsghdr header;
    char bytes[1024];
};

/* Sends a byte with these descriptors. */
static int send_files(int fd, const int *files, int count)
{
    union control control = { 0 };
    struct iovec part = { (void *)"f", 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(count * sizeof *files) };
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(count * sizeof *files);
    memcpy(CMSG_DATA(header), files, count * sizeof *files);
    return sendmsg(fd, &message, 0);
}

/* Receives with so much room for control data; gives how many descriptors came. */
static int receive_files(int fd, int *files, int room, int flags, int *reported)
{
    union control control = { 0 };
    char text[16];
    struct iovec part = { text, sizeof text };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = room };
    if (recvmsg(fd, &message, flags) != 1)
        return -1;
    *reported = message.msg_flags;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header)
        return 0;
    int length = header->cmsg_len - CMSG_LEN(0);
    memcpy(files, CMSG_DATA(header), length);
    int used = (int)CMSG_SPACE(length) < room ? (int)CMSG_SPACE(length) : room;
    return header->cmsg_type == SCM_RIGHTS && (int)message.msg_controllen == used ? length / (int)sizeof *files : -2;
}

static void descriptors(void)
{
    int ends[2], tube[2], got[8], flags = -1;
    char byte = 0;
    new_pair(ends, SOCK_STREAM);
    if (pipe(tube))
        _exit(98);
    check(send_files(ends[0], tube, 2) == 1 && receive_files(ends[1], got, CMSG_SPACE(8), MSG_CMSG_CLOEXEC, &flags) == 2 && flags == MSG_CMSG_CLOEXEC,
          "two descriptors go over", "%d, %#x", errno, flags);
    check(got[0] > tube[1] && fcntl(got[0], F_GETFD) == FD_CLOEXEC && write(got[1], "x", 1) == 1 && read(tube[0], &byte, 1) == 1, "they are the same files",
          "%d, %d", got[0], got[1]);
    close_both(got);
    int receives_one = send_files(ends[0], tube, 2) == 1 && receive_files(ends[1], got, CMSG_LEN(4), 0, &flags) == 1;
    check(receives_one && flags == MSG_CTRUNC && fcntl(got[0], F_GETFD) == 0, "room for one", "%#x", flags);
    close(got[0]);
    check(send_files(ends[0], tube, 2) == 1 && receive_files(ends[1], got, 0, 0, &flags) == 0 && flags == MSG_CTRUNC, "room for none", "%#x", flags);
    check(send_files(ends[0], tube, 1) == 1 && read(ends[1], &byte, 1) == 1, "read drops them", "%s", strerror(errno));
    /* A descriptor in flight keeps its file open; one that is dropped closes it. */
    check(send_files(ends[0], tube + 1, 1) == 1 && close(tube[1]) == 0 && events(tube[0], POLLIN) == 0, "in flight it is open", "%#x", events(tube[0], POLLIN));
    close_both(ends);
    check(events(tube[0], POLLIN) == POLLHUP, "and closed with the sockets", "%#x", events(tube[0], POLLIN));
    close(tube[0]);
    new_pair(ends, SOCK_DGRAM);
    int bad = 999;
    check(fails_with(send_files(ends[0], &bad, 1), EBADF), "no descriptor", "%s", strerror(errno));
    check(send_files(ends[0], ends, 2) == 1 && receive_files(ends[1], got, CMSG_SPACE(8), MSG_PEEK, &flags) == 2, "a look at descriptors", "%s", strerror(errno));
    close_both(got);
    check(receive_files(ends[1], got, CMSG_SPACE(8), 0, &flags) == 2 && write(got[0], "to b", 4) == 4 && recv(ends[1], &byte, 1, 0) == 1, "sockets go over themselves",
          "%s", strerror(errno));
    close_both(got), close_both(ends);
    /* A chain: each pair's end is in flight to the next. */
    new_pair(ends, SOCK_STREAM);
    int first = ends[1], sender = ends[0], good = 1;
    for (int i = 0; i < 200; i++) {
        new_pair(ends, SOCK_STREAM);
        good &= send_files(ends[0], &first, 1) == 1;
        close(first), close(sender);
        first = ends[1], sender = ends[0];
    }
    close(sender);
    check(good && close(first) == 0, "a chain of sockets in flight is closed", "%s", strerror(errno));
}

static void credentials(void)
{
    int ends[2], on = 1;
    struct ucred peer = { 1, 2, 3 };
    socklen_t length = sizeof peer;
    new_pair(ends, SOCK_STREAM);
    check(getsockopt(ends[0], SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == getpid() && peer.uid == geteuid() && peer.gid == getegid() && length == sizeof peer,
          "SO_PEERCRED", "%d %d %d", peer.pid, peer.uid, peer.gid);
    check(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 && option(ends[1], SO_PASSCRED) == 1, "SO_PASSCRED", "%s", strerror(errno));
    pid_t child = fork();
    if (child == 0)
        _exit(write(ends[0], "x", 1) != 1);
    waitpid(child, NULL, 0);
    union control control = { 0 };
    char text[8];
    struct iovec part = { text, sizeof text };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    ssize_t got = recvmsg(ends[1], &message, 0);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header)
        memcpy(&peer, CMSG_DATA(header), sizeof peer);
    check(got == 1 && header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS && header->cmsg_len == CMSG_LEN(sizeof peer) && peer.pid == child,
          "each message says who sent it", "%zd, %d", got, peer.pid);
    /* Its own, said by itself; and another's, which only the administrator may say. */
    memset(&control, 0, sizeof control);
    message.msg_controllen = CMSG_SPACE(sizeof peer), part.iov_len = 1;
    header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_CREDENTIALS, header->cmsg_len = CMSG_LEN(sizeof peer);
    peer = (struct ucred){ getpid(), getuid(), getgid() };
    memcpy(CMSG_DATA(header), &peer, sizeof peer);
    check(sendmsg(ends[0], &message, 0) == 1, "its own credentials", "%s", strerror(errno));
    header->cmsg_len = CMSG_LEN(sizeof peer) - 1;
    check(fails_with(sendmsg(ends[0], &message, 0), EINVAL), "of a wrong length", "%s", strerror(errno));
    header->cmsg_len = CMSG_LEN(sizeof peer);
    int status = -1;
    if ((child = fork()) == 0) {
        if (setuid(1000))
            _exit(2);
        _exit(!fails_with(sendmsg(ends[0], &message, 0), EPERM));
    }
    waitpid(child, &status, 0);
    if (getuid() == 0)
        check(status == 0, "another's are refused", "%#x", status);
    message.msg_controllen = sizeof control;
    check(recvmsg(ends[1], &message, 0) == 1 && ((struct ucred *)CMSG_DATA(CMSG_FIRSTHDR(&message)))->pid == getpid(), "are passed on", "%s", strerror(errno));
    close_both(ends);
    int server = listener("@credentials", SOCK_STREAM, 1), client = new_socket(SOCK_STREAM);
    peer.pid = 7, length = sizeof peer;
    check(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == 0 && peer.uid == (uid_t)-1, "nobody", "%d %d", peer.pid, peer.uid);
    if ((child = fork()) == 0)
        _exit(connect_to(client, "@credentials") != 0);
    waitpid(child, NULL, 0);
    int end = accept(server, NULL, NULL);
    length = sizeof peer;
    check(getsockopt(end, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == child, "who has connected", "%d", peer.pid);
    check(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid == getpid(), "who listens", "%d", peer.pid);
    close(server), close(client), close(end);
}

static void many_messages(void)
{
    int ends[2];
    new_pair(ends, SOCK_DGRAM);
    struct iovec parts[3] = { { (void *)"one", 3 }, { (void *)"three", 5 }, { (void *)"", 0 } };
    struct mmsghdr messages[3] = { 0 };
    for (int i = 0; i < 3; i++)
        messages[i].msg_hdr.msg_iov = parts + i, messages[i].msg_hdr.msg_iovlen = 1;
    int sent = sendmmsg(ends[0], messages, 3, 0);
    check(sent == 3 && messages[0].msg_len == 3 && messages[1].msg_len == 5 && messages[2].msg_len == 0, "sendmmsg", "%d", sent);
    char text[4][4];
    struct iovec room[4];
    struct mmsghdr received[4] = { 0 };
    for (int i = 0; i < 4; i++)
        room[i] = (struct iovec){ text[i], 4 }, received[i].msg_hdr.msg_iov = room + i, received[i].msg_hdr.msg_iovlen = 1;
    int got = recvmmsg(ends[1], received, 4, MSG_WAITFORONE, NULL);
    check(got == 3 && received[0].msg_len == 3 && received[1].msg_len == 4 && received[1].msg_hdr.msg_flags == MSG_TRUNC && received[2].msg_len == 0 &&
              received[0].msg_hdr.msg_flags == 0, "recvmmsg", "%d, %u, %#x", got, received[1].msg_len, received[1].msg_hdr.msg_flags);
    struct timespec none = { 0, 0 };
    check(fails_with(recvmmsg(ends[1], received, 4, MSG_DONTWAIT, &none), EAGAIN), "recvmmsg of none", "%s", strerror(errno));
    struct msghdr long_one = { .msg_iov = room, .msg_iovlen = 1025 };
    check(fails_with(sendmsg(ends[0], &long_one, 0), EMSGSIZE), "too many parts", "%s", strerror(errno));
    close_both(ends);
}

static void options(void)
{
    int fd = new_socket(SOCK_STREAM), value = 30000;
    struct timeval time = { 3, 500000 }, back = { 0, 0 };
    socklen_t length = sizeof value;
    check(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value) == 0 && option(fd, SO_SNDBUF) == 60000, "SO_SNDBUF is doubled", "%d", option(fd, SO_SNDBUF));
    value = 1;
    check(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value) == 0 && option(fd, SO_RCVBUF) == 2304, "SO_RCVBUF has a least value", "%d", option(fd, SO_RCVBUF));
    value = 5;
    check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value) == 0 && option(fd, SO_REUSEADDR) == 1 && option(fd, SO_KEEPALIVE) == 0,
          "switches", "%d", option(fd, SO_REUSEADDR));
    check(fails_with(setsockopt(fd, SOL_SOCKET, SO_TYPE, &value, sizeof value), ENOPROTOOPT) && fails_with(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 3), EINVAL),
          "what cannot be set", "%s", strerror(errno));
    check(option(fd, 12345) == -ENOPROTOOPT && fails_with(getsockopt(fd, 6, 1, &value, &length), EOPNOTSUPP), "what there is not", "%d", option(fd, 12345));
    length = 1;
    value = 0x55555555;
    check(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &length) == 0 && length == 1 && value == 0x55555501, "one byte of it", "%#x", value);
    length = -1;
    check(fails_with(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, &length), EINVAL), "a negative length", "%s", strerror(errno));
    length = sizeof back;
    check(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0 && getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &back, &length) == 0 && back.tv_sec == 3 &&
              back.tv_usec == 500000 && length == sizeof back, "SO_RCVTIMEO", "%ld.%06ld", (long)back.tv_sec, (long)back.tv_usec);
    time.tv_usec = 1000000;
    check(fails_with(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time), EDOM), "a time that is none", "%s", strerror(errno));
    struct linger linger = { 9, 4 };
    length = sizeof linger;
    check(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0 && getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length) == 0 && linger.l_onoff == 1 &&
              linger.l_linger == 4, "SO_LINGER", "%d", linger.l_onoff);
    close(fd);

    int ends[2];
    char byte;
    new_pair(ends, SOCK_STREAM);
    time = (struct timeval){ 0, 30000 };
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    uint64_t start = microseconds();
    int ended = fails_with(read(ends[0], &byte, 1), EAGAIN);
    /* Linux counts the ticks that come, and the first is under way: with 100 a second, 30 ms may be 20. */
    uint64_t took = microseconds() - start;
    check(ended && took >= 20000, "a read that waits no longer", "%d, after %u us", ended, (unsigned)took);
    value = 1;
    check(ioctl(ends[0], FIONBIO, &value) == 0 && (fcntl(ends[0], F_GETFL) & O_NONBLOCK), "FIONBIO", "%s", strerror(errno));
    close_both(ends);
}

static void interrupted(void)
{
    int ends[2], server = listener("@signals", SOCK_STREAM, 1);
    char byte;
    struct sigaction action = { .sa_handler = note };
    sigaction(SIGUSR1, &action, NULL);
    new_pair(ends, SOCK_STREAM);
    pid_t child = signal_when_asleep(SIGUSR1);
    check(fails_with(read(ends[0], &byte, 1), EINTR), "read", "%s", strerror(errno));
    reap(child), child = signal_when_asleep(SIGUSR1);
    check(fails_with(accept(server, NULL, NULL), EINTR), "accept", "%s", strerror(errno));
    reap(child), child = signal_when_asleep(SIGUSR1);
    static char block[1 << 20];
    ssize_t part = write(ends[0], block, sizeof block);
    check(part > 0 && part < (ssize_t)sizeof block, "a write that was begun", "%zd", part);
    reap(child), child = signal_when_asleep(SIGUSR1);
    check(fails_with(write(ends[0], block, 1), EINTR), "a write that was not", "%s", strerror(errno));
    reap(child);
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    caught = 0;
    close_both(ends);
    new_pair(ends, SOCK_STREAM);
    pid_t parent = getpid();
    if ((child = fork()) == 0) {
        wait_until(is_asleep(parent, parent));
        kill(parent, SIGUSR1);
        /* Asleep again, or still: the byte ends it either way. */
        _exit(write(ends[1], "x", 1) != 1);
    }
    check(recv(ends[0], &byte, 1, 0) == 1 && (wait_until(caught), caught == SIGUSR1), "SA_RESTART", "%s", strerror(errno));
    reap(child);
    struct timeval time = { 60, 0 };
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    child = signal_when_asleep(SIGUSR1);
    check(fails_with(read(ends[0], &byte, 1), EINTR), "no restart of a wait with a limit", "%s", strerror(errno));
    reap(child);
    close_both(ends), close(server);
}

/* Edge-triggered: each arrival is told once. */
static void edges(void)
{
    int ends[2], set = epoll_create1(0);
    char byte;
    new_pair(ends, SOCK_STREAM);
    struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET }, got;
    epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event);
    check(epoll_wait(set, &got, 1, 0) == 0 && write(ends[1], "a", 1) == 1 && epoll_wait(set, &got, 1, HANG_US / 1000) == 1 && got.events == EPOLLIN, "an arrival",
          "%#x", got.events);
    check(epoll_wait(set, &got, 1, 0) == 0, "is told once", "%#x", got.events);
    check(write(ends[1], "b", 1) == 1 && epoll_wait(set, &got, 1, HANG_US / 1000) == 1, "the next one, too", "%s", strerror(errno));
    check(read(ends[0], &byte, 1) == 1 && epoll_wait(set, &got, 1, 0) == 0, "what is left is not told again", "%#x", got.events);
    close(ends[1]);
    check(epoll_wait(set, &got, 1, HANG_US / 1000) == 1 && got.events == (EPOLLIN | EPOLLRDHUP | EPOLLHUP), "the end", "%#x", got.events);
    close(ends[0]), close(set);
}

#ifdef __i386__
static void socketcall(void)
{
    unsigned long make[3] = { AF_UNIX, SOCK_DGRAM, 0 };
    long fd = syscall(SYS_socketcall, 1, make);
    check(fd >= 0 && option(fd, SO_TYPE) == SOCK_DGRAM, "socketcall: socket", "%ld", fd);
    struct sockaddr_un name;
    unsigned long to_bind[3] = { fd, (unsigned long)&name, address(&name, "@socketcall") };
    check(syscall(SYS_socketcall, 2, to_bind) == 0, "bind", "%s", strerror(errno));
    char text[8] = "";
    unsigned long send[6] = { fd, (unsigned long)"to me", 5, 0, (unsigned long)&name, to_bind[2] }, receive[4] = { fd, (unsigned long)text, 8, 0 };
    check(syscall(SYS_socketcall, 11, send) == 5 && syscall(SYS_socketcall, 10, receive) == 5 && !strcmp(text, "to me"), "sendto, recv", "%s", text);
    check(fails_with(syscall(SYS_socketcall, 21, send), EINVAL) && fails_with(syscall(SYS_socketcall, 1, 8), EFAULT), "no such call", "%s", strerror(errno));
    close(fd);
}
#endif

int main(void)
{
    made();
    named();
    streams();
    ends_of_streams();
    datagrams();
    descriptors();
    credentials();
    many_messages();
    options();
    interrupted();
    edges();
#ifdef __i386__
    socketcall();
#endif
    return done();
}
