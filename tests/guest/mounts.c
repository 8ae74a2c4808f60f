/* Mounts: what covers what, what a mount forbids, namespaces of mounts, a new root, and the /proc of a PID namespace.
 */
#include "check.h"
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000
#endif

static char top[] = "/tmp/mounts-XXXXXX";

/* The path of a name in the test's directory; the next call but seven overwrites it. */
static const char *at(const char *name)
{
    static char paths[8][128];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", top, name);
    return path;
}

static int exists(const char *path)
{
    struct stat file;
    return lstat(path, &file) == 0;
}

static int make_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    int wrong = fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text);
    close(fd);
    return wrong ? -1 : 0;
}

/* The line of /proc/self/mounts about a path, from the file system's kind on; "" if nothing is mounted there. */
static const char *line_of(const char *path)
{
    static char line[512];
    char source[256], place[256];
    FILE *mounts = fopen("/proc/self/mounts", "r");
    const char *found = "";
    while (mounts && fgets(line, sizeof line, mounts)) {
        int kind = 0;
        if (sscanf(line, "%255s %255s %n", source, place, &kind) == 2 && !strcmp(place, path))
            found = line + kind;
        if (*found)
            break;
    }
    if (mounts)
        fclose(mounts);
    return found;
}

static uint64_t mount_id(const char *path)
{
    struct statx file;
    return statx(AT_FDCWD, path, 0, STATX_MNT_ID, &file) == 0 ? file.stx_mnt_id : 0;
}

static void covering(void)
{
    struct stat directory, covered, file;
    mkdir(at("a"), 0755);
    make_file(at("a/below"), "below");
    stat(at("a"), &covered);
    check(mount("some thing", at("a"), "tmpfs", MS_NOSUID, "mode=0711,size=1m") == 0, "a file system in memory", "%s",
          strerror(errno));
    stat(at("a"), &directory);
    check(!exists(at("a/below")) && directory.st_dev != covered.st_dev && (directory.st_mode & 07777) == 0711,
          "it covers the directory", "mode %o", directory.st_mode);
    check(!strncmp(line_of(at("a")), "tmpfs rw,nosuid,relatime", 24), "it is in /proc/self/mounts", "%s", line_of(at("a")));
    make_file(at("a/file"), "above");
    check(fails_with(link(at("a/file"), at("link")), EXDEV) && fails_with(rename(at("a/file"), at("renamed")), EXDEV),
          "no link and no rename to another file system", "%s", strerror(errno));
    check(fails_with(rmdir(at("a")), EBUSY) && fails_with(rename(at("a"), at("c")), EBUSY),
          "what is mounted on is neither removed nor renamed", "%s", strerror(errno));
    int fd = open(at("a/file"), O_RDONLY);
    check(fails_with(umount(at("a")), EBUSY), "a mount in use stays", "%s", strerror(errno));
    check(fails_with(umount2(at("a/file"), 0), EINVAL), "what is no mount is not unmounted", "%s", strerror(errno));
    check(umount2(at("a"), MNT_DETACH) == 0 && exists(at("a/below")) && !*line_of(at("a")), "a mount goes lazily", "%s",
          strerror(errno));
    check(fstat(fd, &file) == 0 && file.st_dev == directory.st_dev && file.st_size == 5, "its open file stays", "%s",
          strerror(errno));
    close(fd);
    check(fails_with(umount(at("a")), EINVAL), "it goes once", "%s", strerror(errno));
    check(fails_with(mount("x", at("a"), "no such kind", 0, NULL), ENODEV) &&
              fails_with(mount("x", at("a"), "tmpfs", 0, "colour=red"), EINVAL) &&
              fails_with(mount("x", at("a/below"), "tmpfs", 0, NULL), ENOTDIR) &&
              fails_with(mount("x", at("missing"), "tmpfs", 0, NULL), ENOENT) &&
              fails_with(mount((void *)1, at("a"), "tmpfs", 0, NULL), EFAULT),
          "bad arguments", "%s", strerror(errno));
}

static void binding(void)
{
    struct stat one, other;
    mkdir(at("b"), 0755);
    mkdir(at("b/sub"), 0755);
    mkdir(at("c"), 0755);
    make_file(at("b/sub/file"), "text");
    mount("none", at("b/sub"), "tmpfs", 0, NULL);
    check(mount(at("b"), at("c"), NULL, MS_BIND, NULL) == 0, "a directory is bound", "%s", strerror(errno));
    stat(at("b"), &one);
    stat(at("c"), &other);
    check(one.st_ino == other.st_ino && one.st_dev == other.st_dev && mount_id(at("b")) != mount_id(at("c")),
          "it is the same by another mount", "%d %d", (int)mount_id(at("b")), (int)mount_id(at("c")));
    check(exists(at("c/sub/file")), "without what is mounted in it", "%s", strerror(errno));
    check(fails_with(rename(at("b/sub"), at("c/x")), EXDEV), "no rename from mount to mount", "%s", strerror(errno));
    char cwd[128] = "";
    check(chdir(at("c/sub")) == 0 && getcwd(cwd, sizeof cwd) && !strcmp(cwd, at("c/sub")) && chdir("../..") == 0 &&
              getcwd(cwd, sizeof cwd) && !strcmp(cwd, top),
          "the directory above is that of its place", "%s", cwd);
    chdir("/");
    umount(at("c"));
    check(mount(at("b"), at("c"), NULL, MS_BIND | MS_REC, NULL) == 0 && !exists(at("c/sub/file")), "with what is mounted in it",
          "%s", strerror(errno));
    umount2(at("c"), MNT_DETACH);
    umount(at("b/sub"));
    make_file(at("one"), "one");
    make_file(at("two"), "two!");
    check(mount(at("one"), at("two"), NULL, MS_BIND, NULL) == 0 && stat(at("two"), &other) == 0 && other.st_size == 3 &&
              fails_with(unlink(at("two")), EBUSY),
          "a file is bound", "%s", strerror(errno));
    umount(at("two"));
    check(fails_with(mount(at("one"), at("c"), NULL, MS_BIND, NULL), ENOTDIR) &&
              fails_with(mount(at("c"), at("one"), NULL, MS_BIND, NULL), ENOTDIR),
          "no file over a directory, no directory over a file", "%s", strerror(errno));
    mount("none", at("b"), "tmpfs", 0, NULL);
    mkdir(at("b/in"), 0755);
    check(fails_with(mount(at("b"), at("b/in"), NULL, MS_MOVE, NULL), ELOOP), "a mount is not moved into itself", "%s",
          strerror(errno));
    check(mount(at("b"), at("c"), NULL, MS_MOVE, NULL) == 0 && exists(at("c/in")) && exists(at("b/sub")), "a mount is moved",
          "%s", strerror(errno));
    umount(at("c"));
}

/* What a mount forbids. */
static void forbidding(void)
{
    mkdir(at("d"), 0755);
    make_file(at("d/file"), "text");
    make_file(at("d/script"), "#!/bin/true\n");
    mknod(at("d/null"), S_IFCHR | 0666, makedev(1, 3));
    int writer = open(at("d/file"), O_RDWR);
    mkdir(at("e"), 0755);
    mount(at("d"), at("e"), NULL, MS_BIND, NULL);
    unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NODEV | MS_NOEXEC;
    check(mount(NULL, at("e"), NULL, flags, NULL) == 0, "flags are changed", "%s", strerror(errno));
    check(strstr(line_of(at("e")), " ro,nodev,noexec") != NULL, "they are shown", "%s", line_of(at("e")));
    struct statfs system;
    check(statfs(at("e"), &system) == 0 && (system.f_flags & 0xf) == (1 | 4 | 8), "statfs has them (ST_RDONLY, ST_NODEV, ST_NOEXEC)", "%lx",
          (long)system.f_flags);
    struct timespec times[2] = {{0}};
    check(fails_with(open(at("e/file"), O_RDWR), EROFS) && fails_with(open(at("e/file"), O_RDONLY | O_TRUNC), EROFS) &&
              fails_with(open(at("e/new"), O_CREAT | O_RDONLY, 0600), EROFS) && fails_with(open(at("e"), O_TMPFILE | O_RDWR, 0600), EROFS),
          "read-only: open", "%s", strerror(errno));
    check(fails_with(mkdir(at("e/new"), 0700), EROFS) && fails_with(symlink("x", at("e/new")), EROFS) &&
              fails_with(mknod(at("e/new"), S_IFIFO, 0), EROFS) && fails_with(unlink(at("e/file")), EROFS) &&
              fails_with(link(at("e/file"), at("e/new")), EROFS) && fails_with(rename(at("e/file"), at("e/new")), EROFS) &&
              fails_with(rmdir(at("e/file")), EROFS),
          "read-only: names", "%s", strerror(errno));
    check(fails_with(mkdir(at("e/file"), 0700), EEXIST), "what is there already is there already", "%s", strerror(errno));
    check(fails_with(chmod(at("e/file"), 0600), EROFS) && fails_with(chown(at("e/file"), 1, 1), EROFS) &&
              fails_with(truncate(at("e/file"), 0), EROFS) && fails_with(utimensat(AT_FDCWD, at("e/file"), times, 0), EROFS) &&
              fails_with(setxattr(at("e/file"), "user.x", "", 0, 0), EROFS) && fails_with(access(at("e/file"), W_OK), EROFS),
          "read-only: attributes", "%s", strerror(errno));
    int reader = open(at("e/file"), O_RDONLY);
    check(fails_with(fchmod(reader, 0600), EROFS) && fchmod(writer, 0600) == 0, "by the mount that a file was opened by", "%s",
          strerror(errno));
    check(write(writer, "more", 4) == 4, "who had it open by another mount writes", "%s", strerror(errno));
    check(fails_with(open(at("e/null"), O_RDONLY), EACCES) && open(at("d/null"), O_RDWR) >= 0, "no devices", "%s", strerror(errno));
    char *const arguments[] = {"script", NULL};
    check(fails_with(execv(at("e/script"), arguments), EACCES) && fails_with(access(at("e/script"), X_OK), EACCES), "no programs",
          "%s", strerror(errno));
    void *code_page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, reader, 0);
    check(code_page == MAP_FAILED && errno == EPERM, "no code", "%p %s", code_page, strerror(errno));
    check(fails_with(mount(NULL, at("e/file"), NULL, flags, NULL), EINVAL), "of a mount only", "%s", strerror(errno));
    close(reader);
    close(writer);
    umount2(at("e"), MNT_DETACH);
}

static int ours(void)
{
    struct stat before, after;
    if (stat("/proc/self/ns/mnt", &before) || unshare(CLONE_NEWNS) || stat("/proc/self/ns/mnt", &after))
        return 1;
    if (before.st_ino == after.st_ino || before.st_dev != after.st_dev)
        return 2;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("none", at("a"), "tmpfs", 0, NULL) || exists(at("a/below")))
        return 3;
    return umount(at("f")) == 0 && !exists(at("f/there")) ? 7 : 4;
}

/* In a user namespace of its own: an administrator there, who came with others' mounts. */
static int restricted(void)
{
    if (unshare(CLONE_NEWUSER))
        return 1;
    if (!fails_with(mount("none", at("a"), "tmpfs", 0, NULL), EPERM) || !fails_with(umount(at("f")), EPERM))
        return 2;
    if (unshare(CLONE_NEWNS) || mount("none", at("a"), "tmpfs", 0, NULL) || umount(at("a")))
        return 3;
    if (!fails_with(umount2(at("f"), MNT_DETACH), EINVAL) || !fails_with(mount(NULL, at("f"), NULL, MS_REMOUNT | MS_BIND, NULL), EPERM))
        return 4;
    if (mount(NULL, at("f"), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOEXEC, NULL))
        return 5;
    /* Without the mount in it, the bound directory would show what is below. */
    if (!fails_with(mount(top, at("c"), NULL, MS_BIND, NULL), EINVAL) || mount(top, at("c"), NULL, MS_BIND | MS_REC, NULL))
        return 6;
    return fails_with(mkdir(at("c/f/x"), 0700), EROFS) ? 7 : 8;
}

static int unprivileged(void)
{
    if (setresuid(1000, 1000, 1000))
        return 1;
    if (!fails_with(mount("none", at("a"), "tmpfs", 0, NULL), EPERM) || !fails_with(unshare(CLONE_NEWNS), EPERM))
        return 2;
    return fails_with(syscall(SYS_pivot_root, "/", "/"), EPERM) ? 7 : 3;
}

static void namespaces(void)
{
    mkdir(at("f"), 0755);
    mount("none", at("f"), "tmpfs", 0, NULL);
    make_file(at("f/there"), "");
    int status = in_child(ours);
    check(exit_code(status) == 7, "mounts of one's own", "step %d", exit_code(status));
    check(exists(at("a/below")) && exists(at("f/there")), "others do not see them", "%s", strerror(errno));
    check(fails_with(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL), "not with a shared root directory",
          "%s", strerror(errno));
    pid_t child = syscall(SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(umount2(at("f"), MNT_DETACH) == 0 ? 7 : 8);
    check(child > 0 && waitpid(child, &status, 0) == child && exit_code(status) == 7 && exists(at("f/there")), "a child with its own",
          "%d", exit_code(status));
    mount(NULL, at("f"), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
    status = in_child(restricted);
    check(exit_code(status) == 7, "with fewer rights nothing is uncovered", "step %d", exit_code(status));
    status = in_child(unprivileged);
    check(exit_code(status) == 7, "without rights nothing is mounted", "step %d", exit_code(status));
    umount(at("f"));
}

static int new_root(void)
{
    char cwd[128];
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return 1;
    if (mount("none", at("b"), "tmpfs", 0, NULL) || mkdir(at("b/old"), 0755) || chdir(at("b")))
        return 2;
    if (!fails_with(syscall(SYS_pivot_root, at("c"), at("c")), EBUSY) && errno != EINVAL)
        return 3;
    if (syscall(SYS_pivot_root, ".", "old"))
        return 4;
    if (!getcwd(cwd, sizeof cwd) || strcmp(cwd, "/") || !exists("/old/proc") || exists("/proc"))
        return 5;
    if (umount2("/old", MNT_DETACH) || exists("/old/proc") || chdir("..") || !getcwd(cwd, sizeof cwd) || strcmp(cwd, "/"))
        return 6;
    return 7;
}

static int numbered(void)
{
    char text[64] = "";
    mkdir(at("g"), 0755);
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("proc", at("g"), "proc", 0, NULL))
        return 1;
    if (readlink(at("g/self"), text, sizeof text) != 1 || text[0] != '1')
        return 2;
    if (strtol(proc_field(at("g/1/status"), "Pid:"), NULL, 10) != 1 || strtol(proc_field(at("g/1/status"), "PPid:"), NULL, 10) != 0 ||
        strtol(proc_field(at("g/self/status"), "NSpid:"), NULL, 10) != 1)
        return 3;
    /* The first /proc shows the first namespace, of which the reader has another number. */
    if (strtol(proc_field("/proc/self/status", "Pid:"), NULL, 10) == 1)
        return 4;
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    if (child != 2 || !exists(at("g/2/stat")) || exists(at("g/3")))
        return 5;
    kill(child, SIGKILL);
    return waitpid(child, NULL, 0) == child && !exists(at("g/2")) ? 7 : 6;
}

static int in_own_pids(void)
{
    int status;
    pid_t child = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(numbered());
    return waitpid(child, &status, 0) == child ? exit_code(status) : 99;
}

/* A file system goes with directories deeper than any stack. */
static void deep(void)
{
    int wrong = 0;
    mount("none", at("c"), "tmpfs", 0, NULL);
    wrong |= chdir(at("c"));
    for (int depth = 0; depth < 20000; depth++)
        wrong |= mkdir("d", 0700) | chdir("d");
    wrong |= chdir("/");
    check(!wrong && umount(at("c")) == 0 && !exists(at("c/d")), "a deep file system goes", "%s", strerror(errno));
}

/* What the files of /sys say of the machine is what /proc says. */
static void machine(void)
{
    struct statfs system;
    char list[64] = "", expected[64];
    char cpu[16] = "cpu0 ";
    int cpus = 0;
    while (*proc_field("/proc/stat", cpu))
        snprintf(cpu, sizeof cpu, "cpu%d ", ++cpus);
    mkdir(at("h"), 0755);
    check(mount("sysfs", at("h"), "sysfs", MS_RDONLY, NULL) == 0 && statfs(at("h"), &system) == 0 && system.f_type == 0x62656572,
          "a /sys is mounted", "%s", strerror(errno));
    int fd = open(at("h/devices/system/cpu/online"), O_RDONLY);
    ssize_t length = read(fd, list, sizeof list - 1);
    close(fd);
    snprintf(expected, sizeof expected, cpus == 1 ? "0\n" : "0-%d\n", cpus - 1);
    check(length > 0 && !strcmp(list, expected), "which CPUs there are", "%s for %d", list, cpus);
    check(fails_with(open(at("h/devices/new"), O_CREAT | O_WRONLY, 0600), EROFS), "nothing is made there", "%s", strerror(errno));
    umount(at("h"));
}

int main(void)
{
    if (unshare(CLONE_NEWNS)) {
        skip("mounts", "no namespaces: %s", strerror(errno));
        return done();
    }
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    if (!mkdtemp(top))
        return 1;
    /* Whatever the root is: from here on, memory. */
    mount("none", top, "tmpfs", 0, NULL);
    covering();
    binding();
    forbidding();
    namespaces();
    deep();
    machine();
    int status = in_child(new_root);
    check(exit_code(status) == 7, "a new root", "step %d", exit_code(status));
    status = in_child(in_own_pids);
    check(exit_code(status) == 7, "a /proc of a PID namespace", "step %d", exit_code(status));
    umount2(top, MNT_DETACH);
    rmdir(top);
    return done();
}
