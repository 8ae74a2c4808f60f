/* Which flags openat2(2) refuses and open(2) ignores, and what makes O_TMPFILE whole.
 */
#include "check.h"
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#ifndef O_TMPFILE
#define O_TMPFILE (020000000 | O_DIRECTORY)
#endif

static void equal(const char *call, const char *with, int result, int expected)
{
    char name[96];
    snprintf(name, sizeof name, "%s: %s", call, with);
    check(result == expected, name, "%d, not %d", result, expected);
}

static int opened(long fd)
{
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

static int by_openat2(unsigned long flags, unsigned mode)
{
    struct open_how how = { .flags = flags, .mode = mode };
    return opened(syscall(SYS_openat2, AT_FDCWD, "/tmp", &how, sizeof how));
}

int main(void)
{
    static const struct {
        const char *name;
        unsigned long flag;
    } beside_path[] = {
        { "O_RDWR", O_RDWR },         { "O_CREAT", O_CREAT },   { "O_EXCL", O_EXCL },     { "O_NOCTTY", O_NOCTTY },
        { "O_TRUNC", O_TRUNC },       { "O_APPEND", O_APPEND }, { "O_DIRECT", O_DIRECT }, { "O_LARGEFILE", 0100000 },
        { "O_NONBLOCK", O_NONBLOCK },
    };
    char name[64];
    mkdir("/tmp", 01777);
    for (size_t i = 0; i < sizeof beside_path / sizeof *beside_path; i++) {
        snprintf(name, sizeof name, "O_PATH with %s", beside_path[i].name);
        equal("openat2", name, by_openat2(O_PATH | beside_path[i].flag, 0), -EINVAL);
        equal("open", name, opened(open("/tmp", O_PATH | beside_path[i].flag, 0)), 0);
    }
    equal("openat2", "O_PATH with what it knows", by_openat2(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0), 0);
    equal("openat2", "O_TMPFILE", by_openat2(O_TMPFILE | O_RDWR, 0600), 0);
    equal("openat2", "O_TMPFILE with O_PATH", by_openat2(O_TMPFILE | O_PATH, 0), -EINVAL);
    equal("openat2", "O_TMPFILE with O_CREAT", by_openat2(O_TMPFILE | O_CREAT | O_RDWR, 0600), -EINVAL);
    equal("openat2", "O_TMPFILE for reading", by_openat2(O_TMPFILE, 0600), -EINVAL);
    equal("openat2", "O_TMPFILE without O_DIRECTORY", by_openat2((O_TMPFILE & ~O_DIRECTORY) | O_RDWR, 0600), -EINVAL);
    equal("open", "O_TMPFILE with O_CREAT", opened(open("/tmp", O_TMPFILE | O_CREAT | O_RDWR, 0600)), -EINVAL);
    equal("open", "O_TMPFILE", opened(open("/tmp", O_TMPFILE | O_RDWR, 0600)), 0);
    equal("openat2", "a mode without a new file", by_openat2(O_RDONLY, 0600), -EINVAL);
    return done();
}
