/* mmap, munmap, mprotect, mremap, madvise, brk and the stack, as far as a program sees them: contents, protection by
 * faults, splits and merges, errors. A fault on a good address is invisible, on a bad one it is SIGSEGV with the address.
 */
#include "check.h"
#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { PAGE = 4096 };

static sigjmp_buf recovery;
static volatile uintptr_t fault_address;
static volatile int fault_code, fault_signal;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    fault_signal = signal;
    fault_code = info->si_code;
    fault_address = (uintptr_t)info->si_addr;
    siglongjmp(recovery, 1);
}

/* The si_code of the fault that the access gives, or 0. */
static int try(volatile unsigned char *at, char access)
{
    if (sigsetjmp(recovery, 1))
        return fault_address == (uintptr_t)at ? fault_code : -1;
    if (access == 'r')
        (void)*at;
    else if (access == 'w')
        *at = 1;
    else
        ((void (*)(void))(uintptr_t)at)();
    return 0;
}

static unsigned char *map(size_t size, int protection)
{
    return mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Which accesses a page allows: bits r = 1, w = 2, x = 4. The page holds RET instructions. */
static int allowed(unsigned char *at)
{
    return (try(at, 'r') == 0) | (try(at, 'w') == 0) << 1 | (try(at, 'x') == 0) << 2;
}

static void protections(void)
{
    static const struct { int protection, allowed; const char *name; } list[] = {
        { PROT_NONE, 0, "PROT_NONE" }, { PROT_READ, 1, "PROT_READ" }, { PROT_READ | PROT_WRITE, 3, "PROT_READ and PROT_WRITE" },
        { PROT_READ | PROT_EXEC, 5, "PROT_READ and PROT_EXEC" }, { PROT_READ | PROT_WRITE | PROT_EXEC, 7, "all" },
        { PROT_WRITE, 3, "PROT_WRITE, which includes reading" },
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        unsigned char *page = map(PAGE, PROT_READ | PROT_WRITE);
        page[0] = 0xc3;
        mprotect(page, PAGE, list[i].protection);
        /* A write of 1 is no RET any more: execution is tried first. */
        int executes = try(page, 'x') == 0, now = allowed(page) & 3;
        check((now | executes << 2) == list[i].allowed, list[i].name, "%d, not %d", now | executes << 2, list[i].allowed);
        munmap(page, PAGE);
    }
    unsigned char *pages = map(3 * PAGE, PROT_READ | PROT_WRITE);
    mprotect(pages + PAGE, PAGE, PROT_READ);
    check(allowed(pages) == 3 && allowed(pages + PAGE) == 1 && allowed(pages + 2 * PAGE) == 3,
          "mprotect of the middle splits", "wrong");
    check(try(pages + PAGE, 'w') == SEGV_ACCERR, "SEGV_ACCERR for protection", "%d", fault_code);
    mprotect(pages, 3 * PAGE, PROT_READ | PROT_WRITE);
    check(allowed(pages + PAGE) == 3, "mprotect of all merges", "wrong");
    munmap(pages + PAGE, PAGE);
    check(try(pages + PAGE, 'r') == SEGV_MAPERR && allowed(pages) == 3 && allowed(pages + 2 * PAGE) == 3,
          "munmap of the middle leaves a hole", "code %d", fault_code);
    int result = mprotect(pages, 3 * PAGE, PROT_READ);
    check(result == -1 && errno == ENOMEM, "mprotect over a hole", "%d, %s", result, strerror(errno));
    check(munmap(pages, 3 * PAGE) == 0, "munmap over a hole", "%s", strerror(errno));
    check(try(pages, 'r') == SEGV_MAPERR, "nothing is left", "code %d", fault_code);
}

static void fixed(void)
{
    unsigned char *pages = map(4 * PAGE, PROT_READ | PROT_WRITE);
    memset(pages, 'a', 4 * PAGE);
    void *middle = mmap(pages + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    check(middle == pages + PAGE && pages[PAGE] == 0 && pages[0] == 'a' && pages[2 * PAGE] == 'a', "MAP_FIXED replaces",
          "%p", middle);
    void *refused = mmap(pages, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    check(refused == MAP_FAILED && errno == EEXIST, "MAP_FIXED_NOREPLACE does not", "%p, %s", refused, strerror(errno));
    unsigned char *hint = mmap(pages, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(hint != MAP_FAILED && (hint < pages || hint >= pages + 4 * PAGE) && pages[0] == 'a',
          "a hint that is taken goes elsewhere", "%p", (void *)hint);
    munmap(hint, PAGE);
    munmap(pages, 4 * PAGE);
    hint = mmap(pages, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(hint == pages, "a hint that is free is taken", "%p, not %p", (void *)hint, (void *)pages);
    munmap(hint, PAGE);
}

static void errors(void)
{
    static const struct { const char *name; uint64_t address, size; int flags, fd; int error; } list[] = {
        { "no length", 0, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, EINVAL },
        { "a misaligned fixed address", 0x10001, PAGE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, EINVAL },
        { "neither shared nor private", 0, PAGE, MAP_ANONYMOUS, -1, EINVAL },
        { "too long", 0, -4096ull, MAP_PRIVATE | MAP_ANONYMOUS, -1, ENOMEM },
        { "longer than user memory", 0, 1ull << 56, MAP_PRIVATE | MAP_ANONYMOUS, -1, ENOMEM },
        { "the kernel's half", 0xffff800000000000, PAGE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, ENOMEM },
        { "non-canonical", 1ull << 60, PAGE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, ENOMEM },
        { "no such descriptor", 0, PAGE, MAP_PRIVATE, 77, EBADF },
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        void *result = mmap((void *)list[i].address, list[i].size, PROT_READ, list[i].flags, list[i].fd, 0);
        check(result == MAP_FAILED && errno == list[i].error, list[i].name, "%p, %s", result, strerror(errno));
    }
    int result = munmap((void *)0x10001, PAGE);
    check(result == -1 && errno == EINVAL, "munmap of a misaligned address", "%d, %s", result, strerror(errno));
    result = munmap((void *)0x10000, 0);
    check(result == -1 && errno == EINVAL, "munmap of nothing", "%d, %s", result, strerror(errno));
    result = munmap((void *)0xffff888000000000, PAGE);
    check(result == -1 && errno == EINVAL, "munmap of the kernel", "%d, %s", result, strerror(errno));
    result = mprotect((void *)0xffff888000000000, PAGE, PROT_READ | PROT_WRITE);
    check(result == -1 && errno == ENOMEM, "mprotect of the kernel", "%d, %s", result, strerror(errno));
    result = mprotect((void *)0x10001, PAGE, PROT_READ);
    check(result == -1 && errno == EINVAL, "mprotect of a misaligned address", "%d, %s", result, strerror(errno));
}

static void files(void)
{
    char text[PAGE + 100];
    memset(text, 'f', sizeof text);
    mkdir("/tmp", 0777);
    int fd = open("/tmp/memory_map", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (!check(fd >= 0 && write(fd, text, sizeof text) == sizeof text, "a file to map", "%s", strerror(errno)))
        return;
    unsigned char *mapped = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    check(mapped != MAP_FAILED && mapped[0] == 'f' && mapped[PAGE + 99] == 'f' && mapped[PAGE + 100] == 0,
          "a private mapping shows the file, and zeroes behind its end", "%p", (void *)mapped);
    if (mapped == MAP_FAILED)
        return;
    mapped[0] = 'p';
    char first = 0;
    check(pread(fd, &first, 1, 0) == 1 && first == 'f', "a private write stays private", "%c", first);
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    sigaction(SIGBUS, &action, NULL);
    int code = try(mapped + 2 * PAGE, 'r');
    check(code == BUS_ADRERR && fault_signal == SIGBUS, "SIGBUS behind the last page of the file", "signal %d, code %d",
          fault_signal, code);
    munmap(mapped, 3 * PAGE);
    mapped = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
    close(fd);
    check(mapped != MAP_FAILED && mapped[0] == 'f', "an offset, after the file is closed", "%p", (void *)mapped);
    if (mapped != MAP_FAILED)
        munmap(mapped, PAGE);
    unlink("/tmp/memory_map");
}

static void moves(void)
{
    unsigned char *pages = map(4 * PAGE, PROT_READ | PROT_WRITE);
    for (int i = 0; i < 4; i++)
        pages[i * PAGE] = 'a' + i;
    unsigned char *smaller = mremap(pages, 4 * PAGE, 2 * PAGE, 0);
    check(smaller == pages && try(pages + 2 * PAGE, 'r') == SEGV_MAPERR && pages[PAGE] == 'b', "mremap shrinks", "%p",
          (void *)smaller);
    void *blocker = mmap(pages + 2 * PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    void *refused = mremap(pages, 2 * PAGE, 8 * PAGE, 0);
    check(blocker == pages + 2 * PAGE && refused == MAP_FAILED && errno == ENOMEM, "mremap in place, where there is no room",
          "%p", refused);
    unsigned char *larger = mremap(pages, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    check(larger != MAP_FAILED && larger != pages && larger[0] == 'a' && larger[PAGE] == 'b' && larger[2 * PAGE] == 0,
          "mremap grows and moves", "%p", (void *)larger);
    check(try(pages, 'r') == SEGV_MAPERR, "the old place is free", "code %d", fault_code);
    larger[63 * PAGE] = 'z';
    unsigned char *target = map(64 * PAGE, PROT_NONE);
    unsigned char *moved = mremap(larger, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    check(moved == target && moved[0] == 'a' && moved[63 * PAGE] == 'z', "MREMAP_FIXED", "%p", (void *)moved);
    refused = mremap((void *)0x10000, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    check(refused == MAP_FAILED && errno == EFAULT, "mremap of nothing", "%p, %s", refused, strerror(errno));
    munmap(moved, 64 * PAGE);
    munmap(blocker, PAGE);
}

static void discards(void)
{
    unsigned char *pages = map(2 * PAGE, PROT_READ | PROT_WRITE);
    memset(pages, 'x', 2 * PAGE);
    check(madvise(pages, PAGE, MADV_DONTNEED) == 0 && pages[0] == 0 && pages[PAGE] == 'x', "MADV_DONTNEED discards", "%d, %s",
          pages[0], strerror(errno));
    munmap(pages, 2 * PAGE);
}

static void breaks(void)
{
    unsigned char *start = sbrk(0);
    check(sbrk(3 * PAGE) == start && sbrk(0) == start + 3 * PAGE, "brk grows", "%p", sbrk(0));
    memset(start, 'b', 3 * PAGE);
    check(brk(start + PAGE) == 0 && sbrk(0) == start + PAGE && start[PAGE - 1] == 'b', "brk shrinks", "%p", sbrk(0));
    unsigned char *boundary = (unsigned char *)(((uintptr_t)start + PAGE + PAGE - 1) & -(uintptr_t)PAGE);
    check(try(boundary, 'r') == SEGV_MAPERR, "nothing is left above it", "code %d", fault_code);
    sbrk(2 * PAGE);
    check(boundary[0] == 0, "what grows again is zero", "%d", boundary[0]);
    uintptr_t before = syscall(SYS_brk, 0), after = syscall(SYS_brk, 0xffff888000000000);
    check(before == after, "brk into the kernel is refused", "%#lx became %#lx", before, after);
    after = syscall(SYS_brk, 4096);
    check(before == after, "brk below its start is refused", "%#lx became %#lx", before, after);
    brk(start);
}

/* The sum of 1 to `depth`, each number kept in a frame of its own. */
static int __attribute__((noinline)) deep(int depth)
{
    volatile int frame[2048];
    frame[0] = depth;
    return depth ? deep(depth - 1) + frame[0] : 0;
}

static void large(void)
{
    int sum = deep(200);
    check(sum == 201 * 100, "the stack grows by 1.6 MB", "%d", sum);
    size_t size = 1ull << 34;
    unsigned char *sparse = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (check(sparse != MAP_FAILED, "16 GiB, sparse", "%s", strerror(errno))) {
        for (size_t at = 0; at < size; at += size / 16)
            sparse[at] = at >> 30;
        int right = 1;
        for (size_t at = 0; at < size; at += size / 16)
            right &= sparse[at] == at >> 30;
        check(right, "sparse pages hold", "they do not");
        munmap(sparse, size);
    }
    /* Many small mappings, every second of them removed. */
    unsigned char *block = map(512 * PAGE, PROT_READ | PROT_WRITE);
    for (int i = 0; i < 512; i++)
        block[i * PAGE] = i;
    for (int i = 1; i < 512; i += 2)
        munmap(block + i * PAGE, PAGE);
    int right = 1;
    for (int i = 0; i < 512; i += 2)
        right &= block[i * PAGE] == (unsigned char)i;
    check(right && try(block + 255 * PAGE, 'r') == SEGV_MAPERR, "256 holes", "wrong");
    munmap(block, 512 * PAGE);
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &action, NULL);
    protections();
    fixed();
    errors();
    files();
    moves();
    discards();
    breaks();
    large();
    return done();
}
