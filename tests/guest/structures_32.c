// build: -m32
/* The i386 table's structures: each call that has a layout of its own there gives, or takes, what the program can check. The
 * calls are made by number, so that the C library converts nothing.
 */
#include "check.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/utsname.h>

/* The kernel's structures, word by word. */
struct stat64_32 { uint32_t dev[2], pad, ino32, mode, links, uid, gid, rdev[2], pad2, size[2], block_size, blocks[2], times[6],
                   ino[2]; };
struct stat_32 { uint32_t dev, ino; uint16_t mode, links, uid, gid; uint32_t rdev, size, block_size, blocks, times[6], unused[2]; };
struct flock_32 { int16_t type, whence; int32_t start, len, pid; };
struct flock64_32 { int16_t type, whence; int64_t start, len; int32_t pid; } __attribute__((packed));
struct dirent_32 { uint32_t ino, off; uint16_t len; char name[]; };
struct info_32 { int32_t signo, errno_, code; uint32_t fields[29]; };
_Static_assert(sizeof(struct stat64_32) == 96 && sizeof(struct stat_32) == 64 && sizeof(struct info_32) == 128, "layouts");

static const char *const path = "/tmp/structures_32";
static int file;

static void stats(void)
{
    struct stat64_32 by_name = { 0 }, by_fd = { 0 };
    struct stat_32 small = { 0 };
    struct statx full;
    check(syscall(SYS_stat64, path, &by_name) == 0 && syscall(SYS_fstat64, file, &by_fd) == 0, "stat64", "%d", errno);
    check(syscall(SYS_statx, AT_FDCWD, path, 0, STATX_BASIC_STATS, &full) == 0, "statx", "%d", errno);
    check(!memcmp(&by_name, &by_fd, sizeof by_fd), "stat64 and fstat64 agree", "they do not");
    check(by_name.size[0] == full.stx_size && by_name.size[1] == 0 && by_name.ino[0] == (uint32_t)full.stx_ino &&
          by_name.mode == full.stx_mode && by_name.links == full.stx_nlink &&
          by_name.times[2] == (uint32_t)full.stx_mtime.tv_sec && by_name.times[3] == full.stx_mtime.tv_nsec,
          "stat64 and statx agree", "size %u", by_name.size[0]);
    check(syscall(SYS_stat, path, &small) == 0 && small.size == full.stx_size && small.mode == full.stx_mode &&
          small.ino == (uint32_t)full.stx_ino, "stat", "size %u", small.size);
    memset(&by_name, 0, sizeof by_name);
    check(syscall(SYS_fstatat64, AT_FDCWD, path, &by_name, 0) == 0 && by_name.size[0] == full.stx_size, "fstatat64", "%d", errno);
    uint32_t fs[21] = { 0 };
    check(syscall(SYS_statfs64, "/", sizeof fs, fs) == 0 && fs[1] && fs[14] == 255, "statfs64", "%d, %u", errno, fs[14]);
    check(syscall(SYS_statfs64, "/", sizeof fs + 4, fs) < 0 && errno == EINVAL, "statfs64 of another size", "%d", errno);
    memset(fs, 0, sizeof fs);
    check(syscall(SYS_statfs, "/", fs) == 0 && fs[1] && fs[9] == 255, "statfs", "%d, %u", errno, fs[9]);
    uint32_t times[4] = { 1000, 1, 2000, 2 };
    check(syscall(SYS_utimensat, AT_FDCWD, path, times, 0) == 0 && syscall(SYS_stat64, path, &by_name) == 0 &&
          by_name.times[0] == 1000 && by_name.times[1] == 1 && by_name.times[2] == 2000 && by_name.times[3] == 2, "utimensat",
          "%u.%u %u.%u", by_name.times[0], by_name.times[1], by_name.times[2], by_name.times[3]);
    int64_t wide[4] = { 3000, 3, 4000, 4 };
    check(syscall(SYS_utimensat_time64, AT_FDCWD, path, wide, 0) == 0 && syscall(SYS_stat64, path, &by_name) == 0 &&
          by_name.times[0] == 3000 && by_name.times[3] == 4, "utimensat_time64", "%u", by_name.times[0]);
    uint32_t micro[4] = { 5000, 5, 6000, 6 };
    check(syscall(SYS_utimes, path, micro) == 0 && syscall(SYS_stat64, path, &by_name) == 0 && by_name.times[0] == 5000 &&
          by_name.times[3] == 6000, "utimes", "%u", by_name.times[0]);
}

static void directories(void)
{
    char buffer[4096];
    int fd = open("/", O_RDONLY | O_DIRECTORY), size = syscall(SYS_getdents, fd, buffer, sizeof buffer), found = 0;
    for (int at = 0; at < size;) {
        struct dirent_32 *entry = (void *)(buffer + at);
        if (entry->len < 12 || entry->len % 4 || at + entry->len > size)
            break;
        found += !strcmp(entry->name, "tmp") && entry->ino && buffer[at + entry->len - 1] == 4 /* DT_DIR */;
        at += entry->len;
    }
    check(found == 1, "getdents", "%d bytes, found %d times", size, found);
    close(fd);
}

static void transfers(void)
{
    char a[3], b[5], text[16];
    struct iovec vector[2] = { { a, 3 }, { b, 5 } };
    check(sizeof vector == 16 && syscall(SYS_preadv, file, vector, 2, 1, 0) == 8 && !memcmp(a, "123", 3) && !memcmp(b, "45678", 5),
          "preadv", "%d", errno);
    check(syscall(SYS_pread64, file, text, 4, 4, 0) == 4 && !memcmp(text, "4567", 4), "pread64", "%d", errno);
    vector[1].iov_len = 0x80000000;
    check(syscall(SYS_readv, file, vector, 2) < 0 && errno == EINVAL, "a vector that is too long", "%d", errno);
    uint64_t where = 0;
    check(syscall(SYS__llseek, file, 1, 5, &where, SEEK_SET) == 0 && where == 0x100000005, "_llseek", "%#llx", (long long)where);
    check(syscall(SYS_lseek, file, 6, SEEK_SET) == 6 && syscall(SYS_lseek, file, -2, SEEK_CUR) == 4, "lseek", "%d", errno);
    int tube[2];
    if (pipe(tube))
        return;
    uint32_t offset[2] = { 2, 0x5a5a5a5a };
    check(syscall(SYS_sendfile, tube[1], file, offset, 3) == 3 && offset[0] == 5 && offset[1] == 0x5a5a5a5a, "sendfile",
          "offset %#x %#x, %d", offset[0], offset[1], errno);
    uint64_t offset64 = 2;
    check(syscall(SYS_sendfile64, tube[1], file, &offset64, 3) == 3 && offset64 == 5, "sendfile64", "%d", errno);
    check(read(tube[0], text, 6) == 6 && !memcmp(text, "234234", 6), "what was sent", "%.6s", text);
    check(syscall(SYS_ftruncate64, file, 20, 1) == 0 || errno == EFBIG || errno == EINVAL, "ftruncate64", "%d", errno);
    check(syscall(SYS_ftruncate64, file, 4096, 0) == 0, "ftruncate64 back", "%d", errno);

    uint32_t arguments[6] = { 0, 4096, PROT_READ, MAP_PRIVATE, file, 0 };
    char *page = (char *)syscall(SYS_mmap, arguments);
    check(page != MAP_FAILED && page[3] == '3', "old mmap", "%d", errno);
    check((uint32_t)page < 0xffffe000 && (uint32_t)page >= 65536, "where it lies", "%p", page);
    munmap(page, 4096);
    check(mmap((void *)0xfffff000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED &&
          errno == ENOMEM, "the end of memory", "%d", errno);
    close(tube[0]);
    close(tube[1]);
}

static void locks(void)
{
    struct flock_32 lock = { F_WRLCK, SEEK_SET, 10, 20, 0 };
    struct flock64_32 wide = { F_WRLCK, SEEK_SET, 0x100000000, 5, 0 };
    check(syscall(SYS_fcntl64, file, F_SETLK, &lock) == 0, "F_SETLK", "%d", errno);
    check(syscall(SYS_fcntl64, file, 13 /* F_SETLK64 */, &wide) == 0, "F_SETLK64", "%d", errno);
    pid_t child = fork();
    if (child == 0) {
        struct flock_32 seen = { F_RDLCK, SEEK_SET, 15, 1, 0 };
        struct flock64_32 seen64 = { F_RDLCK, SEEK_SET, 0x100000001, 1, 0 };
        int wrong = syscall(SYS_fcntl, file, F_GETLK, &seen) || seen.type != F_WRLCK || seen.start != 10 || seen.len != 20 ||
                    seen.pid != getppid();
        wrong |= (syscall(SYS_fcntl64, file, 12 /* F_GETLK64 */, &seen64) || seen64.type != F_WRLCK ||
                  seen64.start != 0x100000000 || seen64.len != 5 || seen64.pid != getppid()) << 1;
        /* The old call cannot say where the other lock is. */
        struct flock_32 all = { F_RDLCK, SEEK_SET, 100, 0, 0 };
        wrong |= (syscall(SYS_fcntl, file, F_GETLK, &all) == 0 || errno != EOVERFLOW) << 2;
        _exit(wrong);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check(status == 0, "F_GETLK and F_GETLK64", "status %#x", status);
}

static void limits(void)
{
    uint32_t old[2], new[2];
    uint64_t wide[2];
    check(syscall(SYS_prlimit64, 0, RLIMIT_STACK, NULL, wide) == 0 && syscall(SYS_ugetrlimit, RLIMIT_STACK, new) == 0 &&
          syscall(SYS_getrlimit, RLIMIT_STACK, old) == 0, "limits", "%d", errno);
    check(new[0] == (wide[0] > 0xffffffff ? 0xffffffff : (uint32_t)wide[0]), "ugetrlimit", "%#x", new[0]);
    check(old[0] == (wide[0] > 0x7fffffff ? 0x7fffffff : (uint32_t)wide[0]), "getrlimit", "%#x", old[0]);
    uint32_t none[2] = { 0xffffffff, 0xffffffff };
    syscall(SYS_ugetrlimit, RLIMIT_AS, new);
    check(syscall(SYS_setrlimit, RLIMIT_AS, none) == 0 && syscall(SYS_prlimit64, 0, RLIMIT_AS, NULL, wide) == 0 &&
          wide[0] == ~0ull, "setrlimit: no limit", "%#llx", (long long)wide[0]);
}

static void times_and_usage(void)
{
    uint32_t usage[20], clocks[5], info[20], now32[3], day[3];
    int64_t now64[2];
    memset(usage, 0x5a, sizeof usage);
    check(syscall(SYS_getrusage, RUSAGE_SELF, usage) == 0 && usage[1] < 1000000 && usage[3] < 1000000 && usage[18] == 0x5a5a5a5a,
          "getrusage", "%#x", usage[18]);
    memset(clocks, 0x5a, sizeof clocks);
    check(syscall(SYS_times, clocks) != -1 && clocks[0] < 100000 && clocks[4] == 0x5a5a5a5a, "times", "%u", clocks[0]);
    memset(info, 0x5a, sizeof info);
    check(syscall(SYS_sysinfo, info) == 0 && info[4] && info[5] && info[5] <= info[4] && info[13] && info[16] == 0x5a5a5a5a,
          "sysinfo", "%u of %u, unit %u", info[5], info[4], info[13]);
    now32[2] = day[2] = 0x5a5a5a5a;
    check(syscall(SYS_clock_gettime, CLOCK_REALTIME, now32) == 0 && syscall(SYS_clock_gettime64, CLOCK_REALTIME, now64) == 0 &&
          syscall(SYS_gettimeofday, day, NULL) == 0 && now64[0] - now32[0] < 3 && day[0] - now32[0] < 3 &&
          now32[2] == 0x5a5a5a5a && day[2] == 0x5a5a5a5a && now32[1] < 1000000000 && now64[1] < 1000000000, "clocks",
          "%u %lld %u", now32[0], (long long)now64[0], day[0]);
    uint32_t seconds[2] = { 0, 0x5a5a5a5a };
    check((uint32_t)syscall(SYS_time, seconds) == seconds[0] && seconds[0] - now32[0] < 3 && seconds[1] == 0x5a5a5a5a, "time", "%u",
          seconds[0]);
    uint32_t resolution[3] = { 5, 5, 0x5a5a5a5a };
    check(syscall(SYS_clock_getres, CLOCK_MONOTONIC, resolution) == 0 && resolution[0] == 0 && resolution[1] &&
          resolution[2] == 0x5a5a5a5a, "clock_getres", "%u", resolution[1]);
    uint32_t bad[2] = { 0, 1000000000 };
    check(syscall(SYS_nanosleep, bad, NULL) < 0 && errno == EINVAL, "nanosleep, too many nanoseconds", "%d", errno);
    uint32_t interval[4] = { 0, 0, 100, 500000 }, left[5] = { [4] = 0x5a5a5a5a };
    check(syscall(SYS_setitimer, ITIMER_REAL, interval, NULL) == 0 && syscall(SYS_getitimer, ITIMER_REAL, left) == 0 &&
          left[2] >= 99 && left[2] <= 100 && left[4] == 0x5a5a5a5a, "interval timers", "%u.%06u", left[2], left[3]);
    memset(interval, 0, sizeof interval);
    syscall(SYS_setitimer, ITIMER_REAL, interval, NULL);
}

static void posix_timers(void)
{
    uint32_t event[16] = { 0x12345678, SIGUSR1, 0 /* SIGEV_SIGNAL */ }, mask = 1u << (SIGUSR1 - 1), none = 0;
    int id = -1;
    check(syscall(SYS_timer_create, CLOCK_MONOTONIC, event, &id) == 0, "timer_create", "%d", errno);
    uint32_t when[4] = { 0, 0, 0, 5000000 }, left[5] = { 1, 1, 1, 1, 0x5a5a5a5a }, set[2] = { mask, 0 };
    int64_t timeout[2] = { 5, 0 };
    struct info_32 info = { 0 };
    syscall(SYS_sigprocmask, SIG_BLOCK, &mask, NULL);
    check(syscall(SYS_timer_settime, id, 0, when, NULL) == 0, "timer_settime", "%d", errno);
    check(syscall(SYS_rt_sigtimedwait_time64, set, &info, timeout, 8) == SIGUSR1 && info.code == -2 /* SI_TIMER */ &&
          info.fields[2] == 0x12345678, "the timer's value", "code %d, value %#x", info.code, info.fields[2]);
    check(syscall(SYS_timer_gettime, id, left) == 0 && left[2] == 0 && left[3] == 0 && left[4] == 0x5a5a5a5a, "timer_gettime", "%u",
          left[3]);
    syscall(SYS_timer_delete, id);
    syscall(SYS_sigprocmask, SIG_SETMASK, &none, NULL);
}

static void waiting(void)
{
    int tube[2];
    if (pipe(tube) || write(tube[1], "x", 1) != 1)
        return;
    /* select: sets of 32-bit words; the bits beyond are not touched */
    uint32_t sets[3] = { 1u << tube[0], 0x5a5a5a5a, 0 }, timeout[2] = { 1, 0 };
    check(syscall(SYS__newselect, tube[0] + 1, sets, NULL, NULL, timeout) == 1 && sets[0] == 1u << tube[0] &&
          sets[1] == 0x5a5a5a5a, "_newselect", "%#x %#x", sets[0], sets[1]);
    uint32_t arguments[5] = { tube[0] + 1, (uint32_t)sets, 0, 0, (uint32_t)timeout };
    check(syscall(SYS_select, arguments) == 1, "old select", "%d", errno);
    uint32_t mask[2] = { 1u << (SIGUSR2 - 1), 0 }, packed[2] = { (uint32_t)mask, 8 };
    timeout[0] = 0, timeout[1] = 1000;
    check(syscall(SYS_pselect6, tube[0] + 1, sets, NULL, NULL, timeout, packed) == 1, "pselect6", "%d", errno);
    struct pollfd watched = { tube[0], POLLIN, 0 };
    check(syscall(SYS_ppoll, &watched, 1, timeout, mask, 8) == 1, "ppoll", "%d", errno);
    uint32_t word = 1, short_time[2] = { 0, 1000000 };
    int64_t long_time[2] = { 0, 1000000 };
    check(syscall(SYS_futex, &word, FUTEX_WAIT, 1, short_time) < 0 && errno == ETIMEDOUT, "futex", "%d", errno);
    check(syscall(SYS_futex_time64, &word, FUTEX_WAIT, 1, long_time) < 0 && errno == ETIMEDOUT, "futex_time64", "%d", errno);
    /* half of tv_nsec is padding in the 64-bit structure */
    long_time[1] |= 0x5a5a5a5a00000000;
    check(syscall(SYS_clock_nanosleep_time64, CLOCK_MONOTONIC, 0, long_time, NULL) == 0, "clock_nanosleep_time64", "%d", errno);
    uint32_t slice[3] = { 5, 5, 0x5a5a5a5a };
    check(syscall(SYS_sched_rr_get_interval, 0, slice) == 0 && slice[0] == 0 && slice[2] == 0x5a5a5a5a, "sched_rr_get_interval", "%u",
          slice[0]);
    close(tube[0]);
    close(tube[1]);
}

static void signals(void)
{
    uint32_t old[4] = { 0 }, action[5] = { 0, SA_RESTART, 0, 0xff, 0xee }, seen[6] = { [5] = 0x5a5a5a5a };
    check(syscall(SYS_rt_sigaction, SIGUSR2, action, NULL, 8) == 0 && syscall(SYS_rt_sigaction, SIGUSR2, NULL, seen, 8) == 0 &&
          seen[0] == 0 && seen[1] == SA_RESTART && seen[3] == (0xff & ~(1u << 8)) && seen[4] == 0xee && seen[5] == 0x5a5a5a5a,
          "rt_sigaction", "flags %#x, mask %#x %#x", seen[1], seen[3], seen[4]);
    check(syscall(SYS_sigaction, SIGUSR2, NULL, old) == 0 && old[1] == seen[3] && old[2] == SA_RESTART, "sigaction", "%#x", old[1]);
    uint32_t mask = 1u << (SIGUSR1 - 1), before[2] = { 0, 0x5a5a5a5a }, pending[2] = { 0, 0x5a5a5a5a };
    check(syscall(SYS_sigprocmask, SIG_BLOCK, &mask, before) == 0 && before[1] == 0x5a5a5a5a, "sigprocmask", "%#x", before[0]);
    /* A made-up signal keeps its value. */
    struct info_32 info = { SIGUSR1, 0, -1 /* SI_QUEUE */, { getpid(), 0, 0xcafe } }, got;
    check(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info) == 0, "rt_sigqueueinfo", "%d", errno);
    check(syscall(SYS_sigpending, pending) == 0 && pending[0] == mask && pending[1] == 0x5a5a5a5a, "sigpending", "%#x", pending[0]);
    uint32_t set[2] = { mask, 0 }, timeout[2] = { 1, 0 };
    memset(&got, 0x5a, sizeof got);
    check(syscall(SYS_rt_sigtimedwait, set, &got, timeout, 8) == SIGUSR1 && got.signo == SIGUSR1 && got.code == -1 &&
          (int)got.fields[0] == getpid() && got.fields[2] == 0xcafe && got.fields[20] == 0, "rt_sigtimedwait", "%d %d %#x", got.signo,
          got.code, got.fields[2]);
    syscall(SYS_sigprocmask, SIG_SETMASK, before, NULL);
    static char memory[8192];
    uint32_t stack[3] = { (uint32_t)memory, 0, sizeof memory }, current[4] = { 0, 0, 0, 0x5a5a5a5a };
    check(syscall(SYS_sigaltstack, stack, NULL) == 0 && syscall(SYS_sigaltstack, NULL, current) == 0 &&
          !memcmp(stack, current, sizeof stack) && current[3] == 0x5a5a5a5a, "sigaltstack", "%#x %#x %#x", current[0], current[1],
          current[2]);
}

static void children(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    struct info_32 info = { 0 };
    uint32_t usage[20];
    memset(usage, 0x5a, sizeof usage);
    check(syscall(SYS_waitid, P_PID, child, &info, WEXITED | WNOWAIT, usage) == 0 && info.signo == SIGCHLD && info.code == CLD_EXITED &&
          (int)info.fields[0] == child && info.fields[2] == 7 && usage[18] == 0x5a5a5a5a, "waitid", "pid %d, status %u", info.fields[0],
          info.fields[2]);
    int status = 0;
    memset(usage, 0x5a, sizeof usage);
    check(syscall(SYS_wait4, child, &status, 0, usage) == child && status == 7 << 8 && usage[17] != 0x5a5a5a5a &&
          usage[18] == 0x5a5a5a5a, "wait4", "%#x", status);
    /* clone: the thread area comes before the child's word */
    static int word;
    child = syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, 0, NULL, 0, &word);
    if (child == 0)
        _exit(word != getpid());
    check(syscall(SYS_waitpid, child, &status, 0) == child && status == 0, "clone and waitpid", "%#x", status);
    int pair[2] = { -1, -1 };
    uint32_t arguments[4] = { AF_UNIX, SOCK_STREAM, 0, (uint32_t)pair };
    check(syscall(SYS_socketcall, 8 /* SYS_SOCKETPAIR */, arguments) == 0 && pair[1] > pair[0], "socketcall", "%d", errno);
    check(syscall(SYS_getuid32) == (int)getuid() && syscall(SYS_getuid) == (int)(getuid() > 65535 ? 65534 : getuid()), "16-bit ids", "%ld",
          syscall(SYS_getuid));
}


/* The lock of a thread that ends while it holds it, in a list of 32-bit words. */
static void robust(void)
{
    static struct { uint32_t next, offset, pending; } head;
    static uint32_t entry[2];
    uint32_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        shared[0] = getpid();
        entry[0] = (uint32_t)&head;
        head.next = (uint32_t)entry;
        head.offset = (uint32_t)shared - (uint32_t)entry;
        uint32_t address = 0, size[2] = { 0, 0x5a5a5a5a };
        if (syscall(SYS_set_robust_list, &head, sizeof head) || syscall(SYS_get_robust_list, 0, &address, size) ||
            address != (uint32_t)&head || size[0] != 12 || size[1] != 0x5a5a5a5a)
            _exit(1);
        _exit(syscall(SYS_set_robust_list, &head, 24) == 0 || errno != EINVAL);
    }
    int status = -1;
    waitpid(child, &status, 0);
    check(status == 0 && shared[0] == FUTEX_OWNER_DIED, "robust list", "status %#x, word %#x", status, shared[0]);
}

int main(void)
{
    file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    check(file >= 0 && write(file, "0123456789", 10) == 10, "a file", "%d", errno);
    stats();
    directories();
    transfers();
    locks();
    limits();
    times_and_usage();
    posix_timers();
    waiting();
    signals();
    children();
    robust();
    unlink(path);
    return done();
}
