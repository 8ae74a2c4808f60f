/* Sockets of the loopback addresses: TCP and UDP, ports, connections that are refused, closed and reset, poll and epoll.
 */
#include "sockets.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

static struct sockaddr_in address(const char *text, int port)
{
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = htons(port) };
    inet_pton(AF_INET, text, &name.sin_addr);
    return name;
}

static int new_socket(int type)
{
    int fd = socket(AF_INET, type, 0);
    if (fd < 0) {
        perror("socket");
        _exit(99);
    }
    return fd;
}

static int bind_to(int fd, const char *text, int port)
{
    struct sockaddr_in name = address(text, port);
    return bind(fd, (struct sockaddr *)&name, sizeof name);
}

static int connect_to(int fd, const char *text, int port)
{
    struct sockaddr_in name = address(text, port);
    return connect(fd, (struct sockaddr *)&name, sizeof name);
}

static int port_of(int fd)
{
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &length) == 0 && length == sizeof name ? ntohs(name.sin_port) : -1;
}

static int listener(const char *text, int backlog)
{
    int fd = new_socket(SOCK_STREAM);
    if (bind_to(fd, text, 0) || listen(fd, backlog)) {
        perror("listen");
        _exit(99);
    }
    return fd;
}

static void new_pair(int ends[2])
{
    int server = listener("127.0.0.1", 1);
    ends[0] = new_socket(SOCK_STREAM);
    if (connect_to(ends[0], "127.0.0.1", port_of(server)) || (ends[1] = accept(server, NULL, NULL)) < 0) {
        perror("a connection");
        _exit(99);
    }
    close(server);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, level, name, &value, &length) ? -errno : value;
}

/* Waits until events come that were asked for, or are told in any case. */
static int await_events(int fd, int wanted)
{
    struct pollfd entry = { fd, wanted, 0 };
    poll(&entry, 1, HANG_US / 1000);
    return entry.revents;
}

static void made(void)
{
    check(fails_with(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT) && fails_with(socket(AF_INET, SOCK_SEQPACKET, 0), ESOCKTNOSUPPORT),
          "types and protocols that do not go together", "%s", strerror(errno));
    int pair[2];
    check(fails_with(socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP), "no pairs", "%s", strerror(errno));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    check(option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM && option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET && option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP,
          "what options say of it", "%d", option(fd, SOL_SOCKET, SO_PROTOCOL));
    check(port_of(fd) == 0 && events(fd, POLLIN | POLLOUT) == (POLLOUT | POLLHUP), "not connected", "%#x", events(fd, POLLIN | POLLOUT));
    char byte;
    check(fails_with(recv(fd, &byte, 1, 0), ENOTCONN) && fails_with(send(fd, "x", 1, MSG_NOSIGNAL), EPIPE) && fails_with(shutdown(fd, SHUT_RDWR), ENOTCONN),
          "nothing comes or goes", "%s", strerror(errno));
    check(option(fd, IPPROTO_TCP, TCP_NODELAY) == 0, "TCP_NODELAY is off", "%d", option(fd, IPPROTO_TCP, TCP_NODELAY));
    int one = 7;
    check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0 && option(fd, IPPROTO_TCP, TCP_NODELAY) == 1, "and on", "%d", option(fd, IPPROTO_TCP, TCP_NODELAY));
    check(option(fd, IPPROTO_IP, IP_TTL) == 64 && option(fd, IPPROTO_TCP, 12345) == -ENOPROTOOPT, "other options", "%d", option(fd, IPPROTO_TCP, 12345));
    struct sockaddr_in name = address("127.0.0.1", 1);
    check(fails_with(bind(fd, (void *)&name, 15), EINVAL) && fails_with(bind_to(fd, "10.1.2.3", 0), EADDRNOTAVAIL), "addresses that are none of ours", "%s", strerror(errno));
    close(fd);
}

static void ports(void)
{
    int first = new_socket(SOCK_STREAM), second = new_socket(SOCK_STREAM), third = new_socket(SOCK_STREAM);
    check(bind_to(first, "127.0.0.1", 0) == 0 && port_of(first) > 1023, "any port", "%d", port_of(first));
    int port = port_of(first);
    check(fails_with(bind_to(first, "127.0.0.1", 0), EINVAL) && fails_with(bind_to(second, "127.0.0.1", port), EADDRINUSE) &&
              fails_with(bind_to(second, "0.0.0.0", port), EADDRINUSE), "a port has one owner", "%s", strerror(errno));
    check(bind_to(second, "127.0.0.2", port) == 0, "on each address", "%s", strerror(errno));
    close(second);
    second = new_socket(SOCK_STREAM);
    int one = 1;
    setsockopt(first, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), setsockopt(second, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    close(first);
    first = new_socket(SOCK_STREAM);
    setsockopt(first, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    check(bind_to(first, "127.0.0.1", port) == 0 && bind_to(second, "127.0.0.1", port) == 0, "SO_REUSEADDR shares it", "%s", strerror(errno));
    check(listen(first, 1) == 0 && fails_with(listen(second, 1), EADDRINUSE), "but one listens", "%s", strerror(errno));
    setsockopt(third, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    check(fails_with(bind_to(third, "127.0.0.1", port), EADDRINUSE), "and then it is not shared any more", "%s", strerror(errno));
    close(first), close(second), close(third);
    /* The same after a connection: a server is started again. */
    int server = new_socket(SOCK_STREAM), client = new_socket(SOCK_STREAM);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bind_to(server, "127.0.0.1", 0), listen(server, 1), port = port_of(server);
    connect_to(client, "127.0.0.1", port);
    int end = accept(server, NULL, NULL);
    close(end), close(client), close(server);
    server = new_socket(SOCK_STREAM);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    check(bind_to(server, "127.0.0.1", port) == 0 && listen(server, 1) == 0, "a server that is started again", "%s", strerror(errno));
    close(server);
    if (getuid() == 0) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            server = new_socket(SOCK_STREAM);
            _exit(setuid(1000) || !fails_with(bind_to(server, "127.0.0.1", 80), EACCES));
        }
        waitpid(child, &status, 0);
        check(status == 0, "ports below 1024 are root's", "%#x", status);
    }
}

static void connections(void)
{
    int server = listener("0.0.0.0", 5), port = port_of(server), client = new_socket(SOCK_STREAM);
    check(option(server, SOL_SOCKET, SO_ACCEPTCONN) == 1 && events(server, POLLIN) == 0, "it listens", "%#x", events(server, POLLIN));
    check(connect_to(client, "127.0.0.1", port) == 0 && await_events(server, POLLIN) == POLLIN, "a connection waits", "%s", strerror(errno));
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    int end = accept4(server, (struct sockaddr *)&name, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    check(end >= 0 && length == sizeof name && ntohs(name.sin_port) == port_of(client) && name.sin_addr.s_addr == htonl(INADDR_LOOPBACK) &&
              fcntl(end, F_GETFD) == FD_CLOEXEC && (fcntl(end, F_GETFL) & O_NONBLOCK), "accept4", "%d, port %d", end, ntohs(name.sin_port));
    length = sizeof name;
    check(port_of(end) == port && getpeername(client, (struct sockaddr *)&name, &length) == 0 && ntohs(name.sin_port) == port, "names of both sides", "%d", ntohs(name.sin_port));
    check(fails_with(connect_to(client, "127.0.0.1", port), EISCONN), "connected once", "%s", strerror(errno));
    char text[64] = "";
    int left = -1;
    check(fails_with(recv(end, text, 1, 0), EAGAIN) && send(client, "hello ", 6, 0) == 6 && send(client, "there", 5, 0) == 5 && await_events(end, POLLIN) == POLLIN &&
              recv(end, text, 3, MSG_PEEK) == 3 && ioctl(end, FIONREAD, &left) == 0 && left == 11, "bytes wait", "%d", left);
    check(recv(end, text, 64, 0) == 11 && !memcmp(text, "hello there", 11), "and are read", "%s", text);
    check(write(end, "back", 4) == 4 && read(client, text, 64) == 4 && !memcmp(text, "back", 4), "both ways", "%s", text);
    check((events(client, POLLIN | POLLOUT | POLLRDHUP)) == POLLOUT, "nothing to read", "%#x", events(client, POLLIN | POLLOUT));
    check(shutdown(client, SHUT_WR) == 0 && await_events(end, POLLIN | POLLRDHUP) == (POLLIN | POLLRDHUP) && read(end, text, 1) == 0, "half closed", "%#x", events(end, POLLIN | POLLRDHUP));
    check(write(end, "rest", 4) == 4 && read(client, text, 64) == 4 && fails_with(send(client, "x", 1, MSG_NOSIGNAL), EPIPE), "the other half is open", "%s", strerror(errno));
    close(end);
    check((await_events(client, POLLIN | POLLRDHUP) & (POLLIN | POLLHUP | POLLRDHUP)) == (POLLIN | POLLHUP | POLLRDHUP) && read(client, text, 64) == 0, "closed", "%#x", events(client, POLLIN));
    close(client);
    client = new_socket(SOCK_STREAM);
    check(connect_to(client, "127.0.0.77", port) == 0 && (end = accept(server, NULL, NULL)) >= 0, "another loopback address", "%s", strerror(errno));
    length = sizeof name;
    check(getsockname(end, (struct sockaddr *)&name, &length) == 0 && name.sin_addr.s_addr == htonl(0x7f00004d), "which the server's end has", "%#x", ntohl(name.sin_addr.s_addr));
    close(client), close(end);
    /* Several, before any is accepted. */
    int clients[4], good = 0;
    for (int i = 0; i < 4; i++) {
        clients[i] = new_socket(SOCK_STREAM);
        good += connect_to(clients[i], "0.0.0.0", port) == 0 && write(clients[i], "abcd" + i, 1) == 1;
    }
    for (int i = 0; i < 4; i++) {
        end = accept(server, NULL, NULL);
        good += read(end, text, 8) == 1 && text[0] == "abcd"[i];
        close(end);
    }
    check(good == 8, "four wait in order", "%d", good);
    for (int i = 0; i < 4; i++)
        close(clients[i]);
    close(server);
}

static void refused(void)
{
    int server = listener("127.0.0.1", 0), port = port_of(server), client = new_socket(SOCK_STREAM);
    close(server);
    check(fails_with(connect_to(client, "127.0.0.1", port), ECONNREFUSED), "nobody listens", "%s", strerror(errno));
    close(client);
    client = new_socket(SOCK_STREAM | SOCK_NONBLOCK);
    check(fails_with(connect_to(client, "127.0.0.1", port), EINPROGRESS), "without waiting", "%s", strerror(errno));
    int got = await_events(client, POLLOUT);
    check((got & (POLLOUT | POLLERR | POLLHUP)) == (POLLOUT | POLLERR | POLLHUP) && option(client, SOL_SOCKET, SO_ERROR) == ECONNREFUSED && option(client, SOL_SOCKET, SO_ERROR) == 0,
          "SO_ERROR says how it went", "%#x", got);
    close(client);
    server = listener("127.0.0.1", 5), port = port_of(server), client = new_socket(SOCK_STREAM | SOCK_NONBLOCK);
    check(fails_with(connect_to(client, "127.0.0.1", port), EINPROGRESS) && await_events(client, POLLOUT) == POLLOUT && option(client, SOL_SOCKET, SO_ERROR) == 0 &&
              connect_to(client, "127.0.0.1", port) == 0 && fails_with(connect_to(client, "127.0.0.1", port), EISCONN), "connected without waiting", "%s", strerror(errno));
    int end = accept(server, NULL, NULL);
    char byte;
    /* Bytes unread when it is closed: a reset. */
    if (write(client, "unread", 6) != 6 || await_events(end, POLLIN) != POLLIN)
        _exit(98);
    close(end);
    check((await_events(client, POLLIN) & (POLLIN | POLLERR | POLLHUP)) == (POLLIN | POLLERR | POLLHUP) && fails_with(read(client, &byte, 1), ECONNRESET) && read(client, &byte, 1) == 0,
          "closed with bytes unread", "%s", strerror(errno));
    close(client);
    /* Bytes for who has closed: a reset, too. */
    int ends[2];
    new_pair(ends);
    close(ends[1]);
    signal(SIGPIPE, SIG_IGN);
    check(read(ends[0], &byte, 1) == 0 && write(ends[0], "x", 1) == 1 && (await_events(ends[0], 0), fails_with(write(ends[0], "x", 1), EPIPE)), "bytes for who has closed", "%s", strerror(errno));
    close(ends[0]);
    new_pair(ends);
    struct linger now = { 1, 0 };
    setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(ends[1]);
    check((await_events(ends[0], POLLIN) & POLLERR) && fails_with(read(ends[0], &byte, 1), ECONNRESET), "SO_LINGER of no time", "%s", strerror(errno));
    close(ends[0]), close(server);
    check(fails_with(connect_to(client = new_socket(SOCK_STREAM), "127.0.0.1", 0), ECONNREFUSED), "port 0", "%s", strerror(errno));
    close(client);
}

/* More than the backlog: they wait, and get through when there is room. */
static void crowded(void)
{
    enum { CLIENTS = 6 };
    int server = listener("127.0.0.1", 1), port = port_of(server), good = 0, status;
    for (int i = 0; i < CLIENTS; i++)
        if (fork() == 0) {
            int client = new_socket(SOCK_STREAM);
            char byte;
            _exit(connect_to(client, "127.0.0.1", port) || write(client, "x", 1) != 1 || read(client, &byte, 1) != 1);
        }
    for (int i = 0; i < CLIENTS; i++) {
        int end = accept(server, NULL, NULL);
        char byte;
        good += read(end, &byte, 1) == 1 && write(end, "y", 1) == 1;
        close(end);
    }
    for (int i = 0; i < CLIENTS; i++)
        good += wait(&status) > 0 && status == 0;
    check(good == 2 * CLIENTS, "more than the backlog", "%d", good);
    close(server);
}

static void streams(void)
{
    int ends[2];
    char text[8];
    new_pair(ends);
    enum { SIZE = 2 << 20 };
    static unsigned char out[SIZE];
    sends_in_order(ends, out, SIZE, "two MiB in order");
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    long filled = 0, got;
    while ((got = write(ends[0], out, 10000)) > 0)
        filled += got;
    check(fails_with(got, EAGAIN) && filled >= 60000 && !(events(ends[0], POLLOUT) & POLLOUT), "a full connection", "%ld", filled);
    int set = epoll_create1(0);
    struct epoll_event event = { .events = EPOLLOUT | EPOLLET };
    epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event);
    int none = epoll_wait(set, &event, 1, 0);
    while (filled > 0 && (got = read(ends[1], out, SIZE)) > 0)
        filled -= got;
    check(none == 0 && filled == 0 && epoll_wait(set, &event, 1, HANG_US / 1000) == 1 && events(ends[0], POLLOUT) == POLLOUT, "epoll sees the room", "%ld", filled);
    close(set), close_both(ends);
    new_pair(ends);
    set = epoll_create1(0);
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
    epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event);
    check(epoll_wait(set, &event, 1, 0) == 0 && write(ends[1], "ab", 2) == 2 && epoll_wait(set, &event, 1, HANG_US / 1000) == 1 && read(ends[0], text, 1) == 1 &&
              epoll_wait(set, &event, 1, 0) == 0 && write(ends[1], "c", 1) == 1 && epoll_wait(set, &event, 1, HANG_US / 1000) == 1, "edges", "%#x", event.events);
    close(set), close_both(ends);
    struct timeval time = { 0, 30000 };
    new_pair(ends);
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    check(fails_with(read(ends[0], text, 1), EAGAIN), "SO_RCVTIMEO", "%s", strerror(errno));
    close_both(ends);
}

static volatile sig_atomic_t caught;
static void note(int signal) { caught = signal; }

static void interrupted(void)
{
    int ends[2], server = listener("127.0.0.1", 1);
    char byte;
    struct sigaction action = { .sa_handler = note };
    sigaction(SIGUSR1, &action, NULL);
    new_pair(ends);
    pid_t child = signal_when_asleep(SIGUSR1);
    check(fails_with(read(ends[0], &byte, 1), EINTR), "read", "%s", strerror(errno));
    reap(child), child = signal_when_asleep(SIGUSR1);
    check(fails_with(accept(server, NULL, NULL), EINTR), "accept", "%s", strerror(errno));
    reap(child);
    close_both(ends), close(server);
}

static void datagrams(void)
{
    int receiver = new_socket(SOCK_DGRAM), sender = new_socket(SOCK_DGRAM);
    check(bind_to(receiver, "127.0.0.1", 0) == 0, "a port", "%s", strerror(errno));
    struct sockaddr_in name = address("127.0.0.1", port_of(receiver)), from;
    socklen_t length = sizeof from;
    char text[16] = "";
    check(fails_with(send(sender, "x", 1, 0), EDESTADDRREQ), "no destination", "%s", strerror(errno));
    check(sendto(sender, "hello", 5, 0, (void *)&name, sizeof name) == 5 && recvfrom(receiver, text, 16, 0, (void *)&from, &length) == 5 && length == sizeof from &&
              ntohs(from.sin_port) == port_of(sender) && from.sin_addr.s_addr == htonl(INADDR_LOOPBACK), "recvfrom says who", "%d", ntohs(from.sin_port));
    check(sendto(receiver, "back", 4, 0, (void *)&from, length) == 4 && recv(sender, text, 2, MSG_TRUNC) == 4 && !memcmp(text, "ba", 2), "an answer, cut", "%s", text);
    check(connect_to(sender, "127.0.0.1", port_of(receiver)) == 0 && send(sender, "", 0, 0) == 0 && recv(receiver, text, 16, 0) == 0 && send(sender, "two", 3, 0) == 3 &&
              recv(receiver, text, 16, MSG_PEEK) == 3 && recv(receiver, text, 16, 0) == 3, "connected", "%s", strerror(errno));
    int stranger = new_socket(SOCK_DGRAM), left = -1;
    struct sockaddr_in back = address("127.0.0.1", port_of(sender));
    sendto(stranger, "x", 1, 0, (void *)&back, sizeof back);
    check(fails_with(recv(sender, text, 16, MSG_DONTWAIT), EAGAIN), "who is connected hears its peer alone", "%s", strerror(errno));
    check(events(receiver, POLLIN | POLLOUT) == POLLOUT && send(sender, "abc", 3, 0) == 3 && await_events(receiver, POLLIN) == POLLIN && ioctl(receiver, FIONREAD, &left) == 0 && left == 3,
          "poll, FIONREAD", "%d", left);
    static char big[70000];
    check(fails_with(send(sender, big, 65508, 0), EMSGSIZE) && send(sender, big, 65507, 0) == 65507 && recv(receiver, big, 1, 0) == 1 && recv(receiver, big, 70000, 0) == 65507,
          "the longest", "%s", strerror(errno));
    close(receiver);
    check(send(sender, "x", 1, 0) == 1 && await_events(sender, 0) == POLLERR && fails_with(recv(sender, text, 1, 0), ECONNREFUSED), "nobody there", "%s", strerror(errno));
    check(shutdown(sender, SHUT_RD) == 0 && recv(sender, text, 1, 0) == 0 && fails_with(shutdown(stranger, SHUT_RD), ENOTCONN), "shutdown", "%s", strerror(errno));
    close(sender), close(stranger);
}

int main(void)
{
    made();
    ports();
    connections();
    refused();
    crowded();
    streams();
    interrupted();
    datagrams();
    return done();
}
