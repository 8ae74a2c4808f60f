/* Mapped files: what an access beyond the end gives, and what a truncation takes away, from whom and at once; what a
 * mapping may become that was made of a file open for reading only, or of a sealed one; what a debugger may do to it.
 */
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <ucontext.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#define ANY_WRITE (PROT_READ | PROT_WRITE)

enum { PAGE = 4096, WRITES = 2 };

static __thread sigjmp_buf after_fault;
static __thread siginfo_t fault;
static __thread long fault_error;

static void on_fault(int signo, siginfo_t *info, void *context)
{
    fault = *info;
    fault_error = ((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR];
    siglongjmp(after_fault, signo);
}

static int read_at(volatile char *at)
{
    int signo = sigsetjmp(after_fault, 1);
    return signo ? -signo : *at & 0xff;
}

static int write_at(volatile char *at, char value)
{
    int signo = sigsetjmp(after_fault, 1);
    if (!signo)
        *at = value;
    return -signo;
}

static void equal(const char *kind, const char *name, long got, long want)
{
    char text[160];
    snprintf(text, sizeof text, "%s: %s", kind, name);
    check(got == want, text, "%ld, not %ld", got, want);
}

static void bus_error(const char *kind, const char *name, char *at, int result)
{
    equal(kind, name, result, -SIGBUS);
    if (result == -SIGBUS)
        equal(kind, "a bus error with code and address",
              fault.si_code == BUS_ADRERR && fault.si_addr == (void *)at, 1);
}

static long error_of(long result)
{
    return result == -1 ? -errno : result;
}

static int new_file(int kind)
{
    char name[] = "/tmp/memory_files.XXXXXX";
    int fd = kind ? mkstemp(name) : memfd_create("memory_files", MFD_ALLOW_SEALING);
    if (kind)
        unlink(name);
    return fd;
}

static void resize(int fd, off_t size)
{
    if (ftruncate(fd, size))
        _exit(80);
}

static char *map_file(int fd, size_t pages, int prot, int flags)
{
    char *at = mmap(NULL, pages * PAGE, prot, flags, fd, 0);
    if (at == MAP_FAILED)
        _exit(81);
    return at;
}

static void beyond_the_end(const char *kind, int fd, int flags)
{
    resize(fd, 0);
    resize(fd, 5000);
    if (pwrite(fd, "abc", 3, 4997) != 3)
        _exit(82);
    char *at = map_file(fd, 4, ANY_WRITE, flags);
    equal(kind, "last byte", read_at(at + 4999), 'c');
    equal(kind, "rest of the last page", read_at(at + 5001), 0);
    bus_error(kind, "read beyond the last page", at + 8197, read_at(at + 8197));
    equal(kind, "the error code says read", fault_error & WRITES, 0);
    bus_error(kind, "write beyond the last page", at + 12288, write_at(at + 12288, 1));
    equal(kind, "the error code says write", fault_error & WRITES, WRITES);
    int ends[2];
    if (pipe(ends))
        _exit(83);
    equal(kind, "write(2) from beyond", error_of(write(ends[1], at + 8192, 1)), -EFAULT);
    equal(kind, "read(2) to beyond", error_of(pread(fd, at + 8192, 1, 0)), -EFAULT);
    equal(kind, "mlock beyond", error_of(mlock(at + 8192, PAGE)), -ENOMEM);
    munlock(at, 4 * PAGE);
    close(ends[0]), close(ends[1]);

    resize(fd, 4 * PAGE);
    equal(kind, "made longer: the tail is zero", read_at(at + 5001), 0);
    equal(kind, "made longer: the next page", read_at(at + 8197), 0);
    equal(kind, "made longer: write", write_at(at + 8197, 7), 0);
    resize(fd, PAGE);
    bus_error(kind, "made shorter: the page is gone", at + 8197, read_at(at + 8197));
    bus_error(kind, "made shorter: the next one, too", at + PAGE, write_at(at + PAGE, 1));
    equal(kind, "made shorter: the first page is not", read_at(at), 0);
    resize(fd, 4 * PAGE);
    equal(kind, "longer again: zero", read_at(at + 8197), 0);

    /* Inside a page. */
    write_at(at + 100, 1), write_at(at + 200, 2);
    resize(fd, 150);
    equal(kind, "cut within a page: what is left", read_at(at + 100), 1);
    if (flags == MAP_SHARED)
        equal(kind, "cut within a page: the rest is zero", read_at(at + 200), 0);
    bus_error(kind, "cut within a page: the next page", at + PAGE, read_at(at + PAGE));
    resize(fd, 0);
    bus_error(kind, "cut to nothing", at, read_at(at));
    munmap(at, 4 * PAGE);
}

/* The mapping in pieces, of different protection, moved, locked, with an offset. */
static void pieces(const char *kind, int fd, int flags)
{
    resize(fd, 0);
    resize(fd, 8 * PAGE);
    char *at = map_file(fd, 8, ANY_WRITE, flags);
    for (int page = 0; page < 8; page++)
        write_at(at + page * PAGE, page + 1);
    mprotect(at + 2 * PAGE, PAGE, PROT_NONE);
    mprotect(at + 3 * PAGE, PAGE, PROT_READ);
    mlock(at + 4 * PAGE, PAGE);
    char *room = map_file(fd, 2, PROT_NONE, MAP_PRIVATE);
    char *moved = mremap(at + 5 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    equal(kind, "moved", moved == room, 1);
    char *second = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 6 * PAGE);
    read_at(second), read_at(second + PAGE);
    resize(fd, 2 * PAGE);
    equal(kind, "pieces: before the end", read_at(at + PAGE), 2);
    mprotect(at + 2 * PAGE, PAGE, PROT_READ);
    bus_error(kind, "pieces: was PROT_NONE", at + 2 * PAGE, read_at(at + 2 * PAGE));
    bus_error(kind, "pieces: read-only", at + 3 * PAGE, read_at(at + 3 * PAGE));
    bus_error(kind, "pieces: locked", at + 4 * PAGE, read_at(at + 4 * PAGE));
    bus_error(kind, "pieces: moved", moved, read_at(moved));
    bus_error(kind, "pieces: moved, second page", moved + PAGE, read_at(moved + PAGE));
    bus_error(kind, "pieces: another mapping", second, read_at(second));
    resize(fd, 7 * PAGE);
    equal(kind, "pieces: zero again", read_at(moved), 0);
    equal(kind, "pieces: another mapping is zero again", read_at(second), 0);
    bus_error(kind, "pieces: still beyond", second + PAGE, read_at(second + PAGE));
    munmap(at, 8 * PAGE), munmap(moved, 2 * PAGE), munmap(second, 2 * PAGE);
}

/* A child has the page from its parent or has touched it itself; it loses it when the parent truncates. */
static void other_process(const char *kind, int fd, int flags)
{
    for (int inherited = 0; inherited < 2; inherited++) {
        resize(fd, 4 * PAGE);
        char *at = map_file(fd, 4, ANY_WRITE, flags);
        int to_child[2], to_parent[2];
        char byte = 0;
        if (pipe(to_child) || pipe(to_parent))
            _exit(84);
        if (inherited)
            write_at(at + 8200, 5);
        pid_t child = fork();
        if (child == 0) {
            int first = inherited ? read_at(at + 8200) : write_at(at + 8200, 5);
            if (write(to_parent[1], &byte, 1) != 1 || read(to_child[0], &byte, 1) != 1)
                _exit(1);
            int second = read_at(at + 8200);
            _exit(first == (inherited ? 5 : 0) && second == -SIGBUS ? 0 : 10);
        }
        int status = -1;
        if (read(to_parent[0], &byte, 1) != 1)
            _exit(85);
        resize(fd, PAGE);
        if (write(to_child[1], &byte, 1) != 1)
            _exit(86);
        waitpid(child, &status, 0);
        equal(kind, inherited ? "an inherited page is taken from a child" : "a page is taken from a child", status, 0);
        munmap(at, 4 * PAGE);
        close(to_child[0]), close(to_child[1]), close(to_parent[0]), close(to_parent[1]);
    }
}

static void other_ways(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    resize(fd, 2 * PAGE);
    char *at = map_file(fd, 2, ANY_WRITE, MAP_SHARED);
    write_at(at, 1);
    int other = open(path, O_RDWR | O_TRUNC);
    bus_error("other ways", "O_TRUNC", at, read_at(at));
    close(other);
    resize(fd, 2 * PAGE);
    write_at(at + PAGE, 1);
    if (truncate(path, 100))
        _exit(87);
    bus_error("other ways", "truncate(2)", at + PAGE, read_at(at + PAGE));

    /* A punched hole: shared memory is zero, private copies stay, the pages are given back. */
    resize(fd, 0);
    resize(fd, 3 * PAGE);
    char *private = map_file(fd, 3, ANY_WRITE, MAP_PRIVATE);
    char *reader = map_file(fd, 3, PROT_READ, MAP_PRIVATE);
    char *shared = map_file(fd, 3, ANY_WRITE, MAP_SHARED);
    for (int page = 0; page < 3; page++)
        write_at(shared + page * PAGE + 10, 1), write_at(shared + page * PAGE + 3000, 1);
    write_at(private + PAGE + 10, 2);
    read_at(reader + PAGE + 10);
    struct stat before, after;
    fstat(fd, &before);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2000, 8192)) {
        skip("punched hole", "no holes can be punched here");
    } else {
        fstat(fd, &after);
        equal("hole", "a shared page", read_at(shared + PAGE + 10), 0);
        equal("hole", "a page of a private mapping", read_at(reader + PAGE + 10), 0);
        equal("hole", "a private copy", read_at(private + PAGE + 10), 2);
        equal("hole", "before it", read_at(shared + 10), 1);
        equal("hole", "its first bytes", read_at(shared + 3000), 0);
        equal("hole", "its last bytes", read_at(shared + 2 * PAGE + 10), 0);
        equal("hole", "behind it", read_at(shared + 2 * PAGE + 3000), 1);
        equal("hole", "the page is given back", before.st_blocks - after.st_blocks, PAGE / 512);
        equal("hole", "write", write_at(shared + PAGE + 10, 3), 0);
        equal("hole", "is seen elsewhere", read_at(reader + PAGE + 10), 3);
    }
    munmap(at, 2 * PAGE), munmap(private, 3 * PAGE), munmap(reader, 3 * PAGE), munmap(shared, 3 * PAGE);
}

/* Threads touch a page that comes and goes. It is never seen with the mark of an earlier round. */
static volatile char *raced;
static volatile int stop, seen_stale;
static volatile int round_now;

static int mark(int round)
{
    return round % 100 + 1;
}

static void *toucher(void *unused)
{
    while (!stop) {
        int before = round_now;
        int value = read_at(raced);
        int after = round_now;
        int known = value <= 0;
        for (int round = before; round <= after; round++)
            known |= value == mark(round);
        seen_stale += !known;
    }
    return unused;
}

static void race(int fd, int flags, const char *name)
{
    enum { ROUNDS = 60, THREADS = 3 };
    pthread_t threads[THREADS];
    resize(fd, 2 * PAGE);
    char *at = map_file(fd, 2, ANY_WRITE, flags);
    raced = at + PAGE;
    stop = seen_stale = round_now = 0;
    int lost = 0, stayed = 0;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, toucher, NULL))
            _exit(88);
    for (int round = 1; round <= ROUNDS; round++) {
        resize(fd, 2 * PAGE);
        round_now = round;
        if (write_at(at + PAGE, mark(round)) || read_at(at + PAGE) != mark(round))
            lost++;
        resize(fd, PAGE);
        stayed += read_at(at + PAGE) != -SIGBUS;
        if (round % 8 == 0)
            sched_yield();
    }
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    equal(name, "pages that were lost", lost, 0);
    equal(name, "pages that stayed", stayed, 0);
    equal(name, "stale pages that threads saw", seen_stale, 0);
    munmap(at, 2 * PAGE);
}

/* Forks while another process truncates: no child keeps a page. */
static void race_with_fork(int fd)
{
    enum { ROUNDS = 15 };
    int wrong = 0;
    for (int round = 0; round < ROUNDS; round++) {
        resize(fd, 2 * PAGE);
        char *at = map_file(fd, 2, ANY_WRITE, MAP_PRIVATE);
        write_at(at + PAGE, 9);
        pid_t cutter = fork();
        if (cutter == 0) {
            resize(fd, PAGE);
            _exit(0);
        }
        pid_t child = fork();
        if (child == 0) {
            /* The page is there until the cutter has run; wait for that. */
            int value = 9;
            for (int i = 0; i < 1000000 && value == 9; i++) {
                value = read_at(at + PAGE);
                sched_yield();
            }
            _exit(value != -SIGBUS);
        }
        int status;
        while (waitpid(cutter, &status, 0) < 0)
            ;
        if (waitpid(child, &status, 0) != child || status)
            wrong++;
        wrong += read_at(at + PAGE) != -SIGBUS;
        munmap(at, 2 * PAGE);
    }
    equal("fork", "processes that kept a truncated page", wrong, 0);
}

static long try_map(int fd, int prot, int flags)
{
    void *at = mmap(NULL, PAGE, prot, flags, fd, 0);
    if (at == MAP_FAILED)
        return -errno;
    munmap(at, PAGE);
    return 0;
}

/* What mprotect makes of a mapping of `fd`. */
static long try_protect(int fd, int flags, int to)
{
    void *at = mmap(NULL, PAGE, PROT_READ, flags, fd, 0);
    if (at == MAP_FAILED)
        return 1;
    long result = error_of(mprotect(at, PAGE, to));
    munmap(at, PAGE);
    return result;
}

static void rights(void)
{
    char name[] = "/tmp/memory_rights.XXXXXX";
    int both = mkstemp(name);
    int reader = open(name, O_RDONLY), writer = open(name, O_WRONLY), path = open(name, O_PATH);
    resize(both, 2 * PAGE);
    equal("rights", "shared, writable, of a reader", try_map(reader, ANY_WRITE, MAP_SHARED), -EACCES);
    equal("rights", "private, writable, of a reader", try_map(reader, ANY_WRITE, MAP_PRIVATE), 0);
    equal("rights", "read of a writer", try_map(writer, PROT_READ, MAP_SHARED), -EACCES);
    equal("rights", "write of a writer", try_map(writer, PROT_WRITE, MAP_SHARED), -EACCES);
    equal("rights", "nothing of a writer", try_map(writer, PROT_NONE, MAP_PRIVATE), -EACCES);
    equal("rights", "O_PATH", try_map(path, PROT_READ, MAP_SHARED), -EBADF);
    equal("rights", "a file that grows down", try_map(both, PROT_READ, MAP_PRIVATE | MAP_GROWSDOWN), -EINVAL);
    equal("rights", "mprotect, shared, of a reader", try_protect(reader, MAP_SHARED, ANY_WRITE), -EACCES);
    equal("rights", "mprotect to write only", try_protect(reader, MAP_SHARED, PROT_WRITE), -EACCES);
    equal("rights", "mprotect to read", try_protect(reader, MAP_SHARED, PROT_READ), 0);
    equal("rights", "mprotect, private, of a reader", try_protect(reader, MAP_PRIVATE, ANY_WRITE), 0);
    equal("rights", "mprotect, shared, of both", try_protect(both, MAP_SHARED, ANY_WRITE), 0);
    char *at = map_file(reader, 2, PROT_READ, MAP_SHARED);
    mprotect(at, PAGE, PROT_NONE);
    equal("rights", "after PROT_NONE", error_of(mprotect(at, PAGE, ANY_WRITE)), -EACCES);
    char *moved = mremap(at + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    equal("rights", "after mremap", error_of(mprotect(moved, PAGE, ANY_WRITE)), -EACCES);
    char *copy = mremap(moved, 0, PAGE, MREMAP_MAYMOVE);
    equal("rights", "of a second mapping", error_of(mprotect(copy, PAGE, ANY_WRITE)), -EACCES);
    pid_t child = fork();
    if (child == 0)
        _exit(error_of(mprotect(moved, PAGE, ANY_WRITE)) != -EACCES);
    int status;
    waitpid(child, &status, 0);
    equal("rights", "in a child", status, 0);
    munmap(at, PAGE), munmap(moved, 2 * PAGE), munmap(copy, PAGE);
    int zero = open("/dev/zero", O_RDONLY);
    equal("rights", "/dev/zero of a reader", try_protect(zero, MAP_SHARED, ANY_WRITE), -EACCES);
    close(zero);
    unlink(name);
    close(both), close(reader), close(writer), close(path);
}

static void seals(void)
{
    int fd = new_file(0);
    resize(fd, PAGE);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int reader = open(path, O_RDONLY);
    char *at = map_file(fd, 1, PROT_READ | PROT_WRITE, MAP_SHARED);
    equal("seals", "F_SEAL_WRITE while it is mapped", error_of(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)), -EBUSY);
    equal("seals", "which leaves no seal", fcntl(fd, F_GET_SEALS), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(pause());
    munmap(at, PAGE);
    equal("seals", "while a child maps it", error_of(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)), -EBUSY);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    at = map_file(fd, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    char *of_reader = map_file(reader, 1, PROT_READ, MAP_SHARED);
    equal("seals", "F_SEAL_FUTURE_WRITE", error_of(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)), 0);
    equal("seals", "future: shared, writable", try_map(fd, ANY_WRITE, MAP_SHARED), -EPERM);
    equal("seals", "future: shared", try_map(fd, PROT_READ, MAP_SHARED), 0);
    equal("seals", "future: shared, mprotect", try_protect(fd, MAP_SHARED, ANY_WRITE), -EACCES);
    equal("seals", "F_SEAL_WRITE with private and readers' mappings", error_of(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)), 0);
    equal("seals", "sealed: shared, writable", try_map(fd, ANY_WRITE, MAP_SHARED), -EPERM);
    equal("seals", "sealed: shared, of a writer, for reading", try_map(fd, PROT_READ, MAP_SHARED), 0);
    equal("seals", "sealed: private, writable", try_map(fd, ANY_WRITE, MAP_PRIVATE), 0);
    equal("seals", "sealed: of a reader", try_map(reader, PROT_READ, MAP_SHARED), 0);
    equal("seals", "sealed: write(2)", error_of(write(fd, "x", 1)), -EPERM);
    equal("seals", "shrink", error_of(ftruncate(fd, 0)), 0);
    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK);
    equal("seals", "sealed: grow", error_of(ftruncate(fd, PAGE)), -EPERM);
    equal("seals", "sealed: fallocate", error_of(fallocate(fd, 0, 0, PAGE)), -EPERM);
    munmap(at, PAGE), munmap(of_reader, PAGE);
    close(fd), close(reader);
}

static void low_placement(void)
{
#ifdef __x86_64__
    const uintptr_t end = 1ul << 31;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT;
    uintptr_t at = (uintptr_t)mmap((void *)0x700000000000, PAGE, PROT_READ, flags, -1, 0);
    check(at < end, "MAP_32BIT: a high hint is not taken", "%#lx", at);
    munmap((void *)at, PAGE);
    at = (uintptr_t)mmap((void *)(end - PAGE), 2 * PAGE, PROT_READ, flags, -1, 0);
    check(at <= end - 2 * PAGE, "MAP_32BIT: nor one whose end is too high", "%#lx", at);
    munmap((void *)at, 2 * PAGE);
    at = (uintptr_t)mmap((void *)(end - PAGE), PAGE, PROT_READ, flags, -1, 0);
    check(at == end - PAGE, "MAP_32BIT: the last page", "%#lx", at);
    munmap((void *)at, PAGE);
    at = (uintptr_t)mmap((void *)0x20000000, PAGE, PROT_READ, flags, -1, 0);
    check(at == 0x20000000, "MAP_32BIT: a hint below the second GiB", "%#lx", at);
    munmap((void *)at, PAGE);
    void *high = (void *)0x7000000000;
    void *got = mmap(high, PAGE, PROT_READ, flags | MAP_FIXED, -1, 0);
    check(got == high, "MAP_32BIT: MAP_FIXED goes where it says", "%p", got);
    munmap(got, PAGE);
    got = mmap(NULL, end, PROT_READ, flags | MAP_NORESERVE, -1, 0);
    check(got == MAP_FAILED && errno == ENOMEM, "MAP_32BIT: more than there is", "%p, errno %d", got, errno);
#endif
}

/* A child that is traced, with these mappings. */
static char *shared_readonly, *private_readonly;

static void debugger(void)
{
    unsigned long clock_page = 0, image = getauxval(AT_SYSINFO_EHDR);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "[vvar]"))
            clock_page = strtoul(line, NULL, 16);
    if (maps)
        fclose(maps);
    int fd = new_file(0);
    resize(fd, PAGE);
    shared_readonly = map_file(fd, 1, PROT_READ, MAP_SHARED);
    private_readonly = map_file(fd, 1, PROT_READ, MAP_PRIVATE);
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        struct timespec now;
        _exit(clock_gettime(CLOCK_MONOTONIC, &now));
    }
    int status;
    waitpid(child, &status, 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", child);
    int mem = open(path, O_RDWR);
    long word = 0x1122;
    struct iovec local = { &word, sizeof word }, remote = { shared_readonly, sizeof word };
    equal("debugger", "poke of a read-only shared page",
          error_of(ptrace(PTRACE_POKEDATA, child, shared_readonly, 1)), -EIO);
    equal("debugger", "mem, of a read-only shared page",
          error_of(pwrite64(mem, &word, sizeof word, (uintptr_t)shared_readonly)), -EIO);
    equal("debugger", "poke of a read-only private page",
          error_of(ptrace(PTRACE_POKEDATA, child, private_readonly, 1)), 0);
    equal("debugger", "which the file does not see", read_at(shared_readonly), 0);
    equal("debugger", "process_vm_writev of a read-only page",
          error_of(process_vm_writev(child, &local, 1, &remote, 1, 0)), -EFAULT);
    if (clock_page && image) {
        remote.iov_base = (void *)clock_page;
        errno = 0;
        ptrace(PTRACE_PEEKDATA, child, clock_page, 0);
        equal("debugger", "peek of the clock's page", errno, EIO);
        equal("debugger", "poke of the clock's page", error_of(ptrace(PTRACE_POKEDATA, child, clock_page, 1)), -EIO);
        equal("debugger", "mem: read of the clock's page",
              error_of(pread64(mem, &word, sizeof word, clock_page)), -EIO);
        equal("debugger", "mem: write of the clock's page",
              error_of(pwrite64(mem, &word, sizeof word, clock_page)), -EIO);
        equal("debugger", "process_vm_readv of the clock's page",
              error_of(process_vm_readv(child, &local, 1, &remote, 1, 0)), -EFAULT);
        errno = 0;
        long code = ptrace(PTRACE_PEEKDATA, child, image + 1024, 0);
        equal("debugger", "peek of the vDSO", errno, 0);
        equal("debugger", "poke of the vDSO", error_of(ptrace(PTRACE_POKEDATA, child, image + 1024, ~code)), 0);
        equal("debugger", "which nobody else sees", *(long *)(image + 1024) == code, 1);
        ptrace(PTRACE_POKEDATA, child, image + 1024, code);
        equal("debugger", "the clock's page stays read-only",
              error_of(mprotect((void *)clock_page, PAGE, ANY_WRITE)), -EACCES);
    } else {
        skip("debugger: the clock's page", "there is none");
    }
    ptrace(PTRACE_CONT, child, 0, 0);
    waitpid(child, &status, 0);
    equal("debugger", "the clock still runs", status, 0);
    munmap(shared_readonly, PAGE), munmap(private_readonly, PAGE);
    close(fd), close(mem);
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    for (int kind = 0; kind < 2; kind++) {
        int fd = new_file(kind);
        beyond_the_end(kind ? "file, shared" : "memfd, shared", fd, MAP_SHARED);
        beyond_the_end(kind ? "file, private" : "memfd, private", fd, MAP_PRIVATE);
        pieces(kind ? "file, shared" : "memfd, shared", fd, MAP_SHARED);
        pieces(kind ? "file, private" : "memfd, private", fd, MAP_PRIVATE);
        other_process(kind ? "file, shared" : "memfd, shared", fd, MAP_SHARED);
        other_process(kind ? "file, private" : "memfd, private", fd, MAP_PRIVATE);
        if (kind == 0) {
            other_ways(fd);
            race(fd, MAP_SHARED, "race, shared");
            race(fd, MAP_PRIVATE, "race, private");
            race_with_fork(fd);
        }
        close(fd);
    }
    rights();
    seals();
    low_placement();
    debugger();
    return done();
}
