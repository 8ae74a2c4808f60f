/* Memory as a program sees it: what is mapped where, what each access to it gives, what a child shares, and what the
 * kernel's own accesses on the program's behalf may do. All of it holds on Linux as well.
 */
#include "check.h"
#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { PAGE = 4096, READ = 0, WRITE = 1, EXECUTE = 2 };
enum { MAPERR = SIGSEGV << 8 | SEGV_MAPERR, ACCERR = SIGSEGV << 8 | SEGV_ACCERR, ADRERR = SIGBUS << 8 | BUS_ADRERR };

static sigjmp_buf after_fault;
static volatile uintptr_t fault_address;

static void on_fault(int signo, siginfo_t *info, void *context)
{
    (void)context;
    fault_address = (uintptr_t)info->si_addr;
    siglongjmp(after_fault, signo << 8 | info->si_code);
}

/* What the access gives: 0, or signal << 8 | si_code. */
static int probe(volatile void *at, int access)
{
    int fault = sigsetjmp(after_fault, 1);
    if (fault)
        return fault_address == (uintptr_t)at ? fault : -1;
    if (access == READ)
        (void)*(volatile char *)at;
    else if (access == WRITE)
        *(volatile char *)at = 1;
    else
        ((void (*)(void))at)();
    return 0;
}

static void expect(const char *name, volatile void *at, int access, int want)
{
    int got = probe(at, access);
    check(got == want, name, "got %#x, not %#x", got, want);
}

static char *map(size_t pages, int prot, int flags)
{
    char *at = mmap(NULL, pages * PAGE, prot, flags | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static char *fresh(size_t pages)
{
    return map(pages, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

static void failure(const char *name, long result, int error)
{
    int got = errno;
    check(result == -1 && got == error, name, "result %ld, errno %d, not %d", result, got, error);
}

static void accesses(void)
{
    char *at = fresh(4);
    check(at[0] == 0 && at[3 * PAGE + 4095] == 0, "new memory is zero", "it is not");
    at[PAGE] = 7;
    expect("write", at, WRITE, 0);
    expect("execute data", at, EXECUTE, ACCERR);
    mprotect(at + PAGE, PAGE, PROT_NONE);
    expect("read of PROT_NONE", at + PAGE, READ, ACCERR);
    expect("write of PROT_NONE", at + PAGE, WRITE, ACCERR);
    mprotect(at + PAGE, PAGE, PROT_READ);
    check(at[PAGE] == 7, "data outlives PROT_NONE", "it is %d", at[PAGE]);
    expect("write of PROT_READ", at + PAGE, WRITE, ACCERR);
    mprotect(at + PAGE, PAGE, PROT_READ | PROT_WRITE);
    expect("write again", at + PAGE, WRITE, 0);
    at[2 * PAGE] = (char)0xc3; /* ret */
    mprotect(at + 2 * PAGE, PAGE, PROT_READ | PROT_EXEC);
    expect("execute code", at + 2 * PAGE, EXECUTE, 0);
    munmap(at + PAGE, PAGE);
    expect("read of the hole", at + PAGE, READ, MAPERR);
    expect("below the hole", at, WRITE, 0);
    expect("above the hole", at + 3 * PAGE, WRITE, 0);
    munmap(at, 4 * PAGE);
    expect("after munmap", at + 3 * PAGE, READ, MAPERR);
    expect("null pointer", NULL, READ, MAPERR);
    expect("kernel address", (void *)0xffffffff80000000, READ, MAPERR);
    expect("last page of the user's half", (void *)0x7ffffffff000, READ, MAPERR);
}

static void placement(void)
{
    char *at = fresh(8);
    at[PAGE] = 1;
    char *fixed = mmap(at + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check(fixed == at + PAGE && at[PAGE] == 0, "MAP_FIXED replaces", "at %p, contents %d", fixed, at[PAGE]);
    failure("MAP_FIXED_NOREPLACE over a mapping",
            (long)mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    failure("MAP_FIXED at an odd address",
            (long)mmap(at + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
    failure("no length", (long)mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    failure("neither shared nor private", (long)mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
    failure("huge length", (long)mmap(NULL, 1ul << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    failure("overflowing length", (long)mmap(NULL, -1ul, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    failure("bad descriptor", (long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 999, 0), EBADF);
    failure("munmap of an odd address", munmap(at + 1, PAGE), EINVAL);
    failure("munmap of nothing", munmap(at, 0), EINVAL);
    munmap(at, 8 * PAGE);
    char *hint = mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(hint == at, "a free hint is taken", "%p, not %p", hint, at);
    char *other = mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(other != at && other != MAP_FAILED, "a hint in use is not", "%p", other);
    munmap(hint, PAGE);
    munmap(other, PAGE);
    char *low = map(1, PROT_READ, MAP_PRIVATE | MAP_32BIT);
    check((uintptr_t)low < 1ul << 31 && low, "MAP_32BIT", "%p", low);
    munmap(low, PAGE);
}

static void protection(void)
{
    char *at = fresh(6);
    munmap(at + 3 * PAGE, PAGE);
    failure("mprotect over a hole", mprotect(at, 6 * PAGE, PROT_READ), ENOMEM);
    expect("changed before the hole", at + 2 * PAGE, WRITE, ACCERR);
    expect("unchanged behind the hole", at + 4 * PAGE, WRITE, 0);
    failure("mprotect of an odd address", mprotect(at + 1, PAGE, PROT_READ), EINVAL);
    failure("mprotect of unknown bits", mprotect(at, PAGE, 0x100), EINVAL);
    check(mprotect(at + 1 * PAGE, 0, PROT_NONE) == 0, "mprotect of nothing", "errno %d", errno);
    munmap(at, 6 * PAGE);

    int fd = memfd_create("protection", 0);
    check(ftruncate(fd, PAGE) == 0, "ftruncate", "errno %d", errno);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int reader = open(path, O_RDONLY);
    if (reader < 0) {
        skip("shared mapping of a read-only file", "no %s", path);
    } else {
        failure("writable shared mapping of a read-only file",
                (long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader, 0), EACCES);
        char *shared = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, reader, 0);
        failure("mprotect of a read-only file's shared mapping", mprotect(shared, PAGE, PROT_READ | PROT_WRITE), EACCES);
        munmap(shared, PAGE);
        char *private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, reader, 0);
        check(private != MAP_FAILED, "private mapping of a read-only file", "errno %d", errno);
        munmap(private, PAGE);
        close(reader);
    }
    close(fd);
}

/* Lines of /proc/self/maps in a range, to see that areas are split and joined. */
static int areas(char *start, char *end)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps)
        return -1;
    char line[512];
    int count = 0;
    unsigned long from, to;
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &from, &to) == 2)
            count += from < (uintptr_t)end && to > (uintptr_t)start;
    fclose(maps);
    return count;
}

static void areas_split_and_join(void)
{
    /* With a page that cannot join on either side. */
    char *at = map(10, PROT_NONE, MAP_SHARED) + PAGE;
    mmap(at, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    int before = areas(at, at + 8 * PAGE);
    if (before < 0) {
        skip("areas split and join", "no /proc/self/maps");
        return;
    }
    mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ);
    int split = areas(at, at + 8 * PAGE);
    mprotect(at + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE);
    int joined = areas(at, at + 8 * PAGE);
    munmap(at + 4 * PAGE, PAGE);
    int holed = areas(at, at + 8 * PAGE);
    check(before == 1 && split == 3 && joined == 1 && holed == 2, "areas split and join", "%d %d %d %d", before, split,
          joined, holed);
    munmap(at - PAGE, 10 * PAGE);
}

static void remapping(void)
{
    char *at = fresh(8);
    munmap(at + 4 * PAGE, 4 * PAGE);
    for (int i = 0; i < 4; i++)
        at[i * PAGE] = i + 1;
    char *grown = mremap(at, 4 * PAGE, 6 * PAGE, 0);
    check(grown == at && at[3 * PAGE] == 4 && at[5 * PAGE] == 0, "mremap grows in place", "%p, errno %d", grown, errno);
    char *block = mmap(at + 6 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    failure("mremap without room", (long)mremap(at, 6 * PAGE, 9 * PAGE, 0), ENOMEM);
    char *moved = mremap(at, 6 * PAGE, 9 * PAGE, MREMAP_MAYMOVE);
    int same = moved != MAP_FAILED && moved != at;
    for (int i = 0; same && i < 4; i++)
        same = moved[i * PAGE] == i + 1;
    check(same, "mremap moves", "%p, errno %d", moved, errno);
    expect("nothing is left behind", at, READ, MAPERR);
    check(mremap(moved, 9 * PAGE, 2 * PAGE, 0) == moved, "mremap shrinks", "errno %d", errno);
    expect("the rest is gone", moved + 2 * PAGE, READ, MAPERR);
    char *target = fresh(2);
    char *fixed = mremap(moved, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    check(fixed == target && target[PAGE] == 2, "mremap to a fixed address", "%p, errno %d", fixed, errno);
    failure("mremap of nothing mapped", (long)mremap(at, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
    munmap(block, PAGE);
    munmap(target, 2 * PAGE);
}

static void advice(void)
{
    char *at = fresh(4);
    memset(at, 5, 4 * PAGE);
    check(madvise(at + PAGE, PAGE, MADV_DONTNEED) == 0 && at[PAGE] == 0 && at[0] == 5 && at[2 * PAGE] == 5,
          "MADV_DONTNEED", "%d %d %d", at[0], at[PAGE], at[2 * PAGE]);
    madvise(at + 2 * PAGE, PAGE, MADV_DONTFORK);
    madvise(at + 3 * PAGE, PAGE, MADV_WIPEONFORK);
    pid_t child = fork();
    if (child == 0)
        _exit(!(probe(at + 2 * PAGE, READ) == MAPERR && at[3 * PAGE] == 0 && at[0] == 5));
    int status = -1;
    waitpid(child, &status, 0);
    check(status == 0, "MADV_DONTFORK and MADV_WIPEONFORK", "status %#x", status);
    failure("unknown advice", madvise(at, PAGE, 9999), EINVAL);
    unsigned char resident[4] = { 9, 9, 9, 9 };
    char *untouched = fresh(4);
    untouched[2 * PAGE] = 1;
    check(mincore(untouched, 4 * PAGE, resident) == 0 && !(resident[0] & 1) && (resident[2] & 1), "mincore",
          "%d %d %d %d, errno %d", resident[0], resident[1], resident[2], resident[3], errno);
    munmap(at + PAGE, PAGE);
    failure("msync over a hole", msync(at, 4 * PAGE, MS_SYNC), ENOMEM);
    failure("MADV_DONTNEED over a hole", madvise(at, 4 * PAGE, MADV_DONTNEED), ENOMEM);
    munmap(at, 4 * PAGE);
    munmap(untouched, 4 * PAGE);
}

/* Each generation writes its own page and must see the ancestors' data unchanged. */
static int generations(volatile char *private, volatile char *shared, int depth)
{
    if (depth == 0)
        return 0;
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        int wrong = private[0] != depth + 1 || private[depth * PAGE] != 0;
        private[0] = depth;
        private[depth * PAGE] = depth;
        shared[depth] = depth;
        _exit(wrong || generations(private, shared, depth - 1) || private[0] != depth);
    }
    waitpid(child, &status, 0);
    return status;
}

static void copy_on_write(void)
{
    volatile char *private = fresh(16), *shared = map(1, PROT_READ | PROT_WRITE, MAP_SHARED);
    private[0] = 9;
    int status = generations(private, shared, 8), all = 1;
    for (int i = 1; i <= 8; i++)
        all &= shared[i] == i && private[i * PAGE] == 0;
    check(status == 0 && private[0] == 9, "writes after fork stay private", "status %#x, %d", status, private[0]);
    check(all, "shared memory reaches all relatives", "it does not");

    /* The kernel's writes break the sharing, too. */
    int pipes[2];
    char *buffer = fresh(2);
    memset(buffer, 1, 2 * PAGE);
    if (pipe(pipes) || write(pipes[1], "new", 3) != 3)
        check(0, "pipe", "errno %d", errno);
    pid_t child = fork();
    if (child == 0)
        _exit(!(read(pipes[0], buffer + PAGE - 1, 3) == 3 && !memcmp(buffer + PAGE - 1, "new", 3)));
    waitpid(child, &status, 0);
    check(status == 0 && buffer[PAGE - 1] == 1 && buffer[PAGE] == 1, "read(2) into a shared page copies it",
          "status %#x, %d %d", status, buffer[PAGE - 1], buffer[PAGE]);
    char *zeros = fresh(1);
    char seen = zeros[0]; /* now it may be a page that all share */
    check(seen == 0 && write(pipes[1], "x", 1) == 1 && read(pipes[0], zeros, 1) == 1 && zeros[0] == 'x' &&
              fresh(1)[0] == 0,
          "read(2) into a page of zeros", "%d", zeros[0]);
    close(pipes[0]);
    close(pipes[1]);
}

static void kernel_accesses(void)
{
    char *at = fresh(3);
    int pipes[2];
    if (pipe(pipes))
        check(0, "pipe", "errno %d", errno);
    munmap(at + PAGE, PAGE);
    mprotect(at + 2 * PAGE, PAGE, PROT_READ);
    failure("write(2) from nowhere", write(pipes[1], at + PAGE, 10), EFAULT);
    failure("write(2) from the kernel", write(pipes[1], (void *)0xffffffff80100000, 10), EFAULT);
    failure("write(2) across the end", write(pipes[1], (void *)0x7fffffffeff8, 1ul << 47), EFAULT);
    check(write(pipes[1], at + 2 * PAGE, 10) == 10, "write(2) from a read-only page", "errno %d", errno);
    failure("read(2) into a read-only page", read(pipes[0], at + 2 * PAGE, 5), EFAULT);
    failure("pipe(2) into nowhere", pipe((int *)(at + PAGE)), EFAULT);
    failure("path at the end of a page, unterminated", open(memset(at + PAGE - 9, 'a', 9), O_RDONLY), EFAULT);
    strcpy(at + PAGE - 4, "/no");
    failure("path that ends with the page", open(at + PAGE - 4, O_RDONLY), ENOENT);
    close(pipes[0]);
    close(pipes[1]);
    munmap(at, 3 * PAGE);
}

static void heap(void)
{
    char *start = sbrk(0), *end = start + 64 * PAGE;
    check(brk(end) == 0 && sbrk(0) == end, "brk grows", "errno %d", errno);
    memset(start, 3, 64 * PAGE);
    check(brk(start) == 0, "brk shrinks", "errno %d", errno);
    expect("beyond the break", (char *)(((uintptr_t)start + PAGE - 1) & ~4095ul) + PAGE, READ, MAPERR);
    check(brk(end) == 0, "brk grows again", "errno %d", errno);
    check(end[-1] == 0, "with zeros", "%d", end[-1]);
    brk(start);
    failure("brk far too high", brk((void *)(1ul << 46)), ENOMEM);
}

static int recurse(int depth)
{
    volatile char frame[PAGE];
    frame[0] = depth;
    return depth ? recurse(depth - 1) + frame[0] : 0;
}

static int deep_stack(void)
{
    return recurse(1500) == -1;
}

static int endless_stack(void)
{
    signal(SIGSEGV, SIG_DFL);
    return recurse(1 << 30);
}

static void stack(void)
{
    int status = in_child(deep_stack);
    check(status == 0, "the stack grows", "status %#x", status);
    status = in_child(endless_stack);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "up to its limit", "status %#x", status);
    char *at = map(4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_GROWSDOWN);
    check(at != NULL, "MAP_GROWSDOWN", "errno %d", errno);
    munmap(at, 4 * PAGE);
}

static void files(void)
{
    int fd = memfd_create("files", 0);
    char text[2 * PAGE];
    memset(text, 'a', sizeof text);
    if (write(fd, text, PAGE + 100) != PAGE + 100)
        check(0, "write", "errno %d", errno);
    char *shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *private = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    check(private[0] == 'a' && private[PAGE + 100] == 0, "contents, and zeros to the end of the page", "%d %d",
          private[0], private[PAGE + 100]);
    shared[1] = 'b';
    check(pread(fd, text, 2, 0) == 2 && text[1] == 'b' && private[1] == 'b', "a shared write reaches the file", "%c %c",
          text[1], private[1]);
    private[2] = 'c';
    shared[3] = 'd';
    check(pread(fd, text, 4, 0) == 4 && text[2] == 'a' && private[3] == 'a', "a private one does not", "%c %c", text[2],
          private[3]);
    expect("read beyond the end of the file", shared + 2 * PAGE, READ, ADRERR);
    expect("private write there", private + 3 * PAGE, WRITE, ADRERR);
    failure("read(2) to there", pread(fd, shared + 2 * PAGE, 1, 0), EFAULT);
    char *second = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
    check(second[99] == 'a' && second[100] == 0, "mapping at an offset", "%d %d", second[99], second[100]);
    failure("odd offset", (long)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 5), EINVAL);
    close(fd);
    check(shared[1] == 'b', "the mapping outlives the descriptor", "%d", shared[1]);
    munmap(shared, 4 * PAGE);
    munmap(private, 4 * PAGE);
    munmap(second, PAGE);
}

int main(void)
{
    static char alternate[1 << 16];
    stack_t on = { .ss_sp = alternate, .ss_size = sizeof alternate };
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigaltstack(&on, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    accesses();
    placement();
    protection();
    areas_split_and_join();
    remapping();
    advice();
    copy_on_write();
    kernel_accesses();
    heap();
    stack();
    files();
    return done();
}
