/* Extended attributes of a file system that has none: EOPNOTSUPP, and not ENOSYS, which programs take for a kernel that
 * does not know the calls; lists are empty. What is wrong with descriptors, paths, names and values comes first.
 */
#include "check.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static char file[] = "/tmp/extended_attributes.file", dangling[] = "/tmp/extended_attributes.link";
static char fifo[] = "/tmp/extended_attributes.fifo";
static char *volatile nowhere = (char *)1;
static char value[65537], long_name[257];

static void fails(const char *name, long result, int error)
{
    int got = errno;
    check(result == -1 && got == error, name, "%ld, errno %d", result, result == -1 ? got : 0);
}

/* On Linux /tmp may have attributes; the names are of no kind that there is. */
#define NAME "none.attribute"

int main(void)
{
    memset(long_name, 'n', 256);
    memcpy(long_name, "none.", 5);
    int fd = open(file, O_RDWR | O_CREAT, 0600), named = open(file, O_PATH);
    unlink(dangling), unlink(fifo);
    if (fd < 0 || named < 0 || symlink("/tmp/extended_attributes.nothing", dangling) || mkfifo(fifo, 0600))
        return 99;

    fails("getxattr", getxattr(file, NAME, value, 10), EOPNOTSUPP);
    fails("lgetxattr", lgetxattr(file, NAME, value, 10), EOPNOTSUPP);
    fails("lgetxattr of a link", lgetxattr(dangling, NAME, NULL, 0), EOPNOTSUPP);
    fails("fgetxattr", fgetxattr(fd, NAME, value, 10), EOPNOTSUPP);
    fails("setxattr", setxattr(file, NAME, "v", 1, 0), EOPNOTSUPP);
    fails("lsetxattr of a link", lsetxattr(dangling, NAME, "v", 1, XATTR_CREATE), EOPNOTSUPP);
    fails("fsetxattr", fsetxattr(fd, NAME, "v", 1, XATTR_REPLACE), EOPNOTSUPP);
    fails("removexattr", removexattr(file, NAME), EOPNOTSUPP);
    fails("lremovexattr of a link", lremovexattr(dangling, NAME), EOPNOTSUPP);
    fails("fremovexattr", fremovexattr(fd, NAME), EOPNOTSUPP);

    long lists[] = { listxattr(file, value, 10), llistxattr(dangling, NULL, 0), flistxattr(fd, value, 10) };
    check(!lists[0] && !lists[1] && !lists[2], "lists are empty", "%ld %ld %ld", lists[0], lists[1], lists[2]);

    fails("no such file", getxattr("/tmp/extended_attributes.nothing", NAME, NULL, 0), ENOENT);
    fails("a link to nothing", listxattr(dangling, NULL, 0), ENOENT);
    fails("a path that is no memory", lgetxattr(nowhere, NAME, NULL, 0), EFAULT);
    fails("no descriptor", flistxattr(-1, NULL, 0), EBADF);
    fails("a descriptor that only names a file: get", fgetxattr(named, NAME, NULL, 0), EBADF);
    fails("a descriptor that only names a file: list", flistxattr(named, NULL, 0), EBADF);
    fails("a descriptor that only names a file: remove", fremovexattr(named, NAME), EBADF);
    fails("an empty name", getxattr(file, "", NULL, 0), ERANGE);
    fails("a name that is too long", removexattr(file, long_name), ERANGE);
    fails("a name that is no memory", fgetxattr(fd, nowhere, NULL, 0), EFAULT);
    fails("unknown flags", setxattr(file, NAME, "v", 1, 4), EINVAL);
    fails("a value that is too long", setxattr(file, NAME, value, 65537, 0), E2BIG);
    fails("a value that is no memory", setxattr(file, NAME, nowhere, 10, 0), EFAULT);
    fails("a program's attributes of a fifo: get", getxattr(fifo, "user.x", NULL, 0), ENODATA);
    fails("a program's attributes of a fifo: set", setxattr(fifo, "user.x", "v", 1, 0), EPERM);
    fails("a program's attributes of a fifo: remove", removexattr(fifo, "user.x"), EPERM);
    fails("a program's attributes of a link", lgetxattr(dangling, "user.x", NULL, 0), ENODATA);
    unlink(file), unlink(dangling), unlink(fifo);
    return done();
}
