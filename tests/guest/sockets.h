/* What the tests of sockets of both families share. */
#pragma once
#include "check.h"
#include <poll.h>
#include <sys/socket.h>

static void close_both(int ends[2]) { close(ends[0]), close(ends[1]); }

/* Those that poll says at once. */
static int events(int fd, int wanted)
{
    struct pollfd entry = { fd, wanted, 0 };
    poll(&entry, 1, 0);
    return entry.revents;
}

/* Much more than there is room for at once; a child at the other end looks at each byte, and answers. `out` has room
 * for all. */
static void sends_in_order(int ends[2], unsigned char *out, size_t size, const char *what)
{
    pid_t child = fork();
    if (child == 0) {
        static unsigned char block[70001];
        size_t done = 0;
        long wrong = 0;
        while (done < size) {
            long got = read(ends[1], block, sizeof block);
            if (got <= 0)
                _exit(1);
            for (long n = 0; n < got; n++)
                wrong += block[n] != (unsigned char)((done + n) * 7 >> 3);
            done += got;
        }
        _exit(wrong != 0 || write(ends[1], "done", 4) != 4);
    }
    for (size_t n = 0; n < size; n++)
        out[n] = n * 7 >> 3;
    int status = -1;
    char text[4];
    long written = write(ends[0], out, size);
    check(written == (long)size && recv(ends[0], text, 4, MSG_WAITALL) == 4 && waitpid(child, &status, 0) == child && status == 0, what,
          "%ld, %#x", written, status);
}
