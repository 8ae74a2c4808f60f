/* Copy-on-write after fork: neither side sees the other's writes, whether the user or the kernel writes (read(2),
 * a signal frame, a futex word, a wait status), and shared mappings stay shared.
 */
#include "check.h"
#include <sys/mman.h>

enum { PAGES = 64, SIZE = PAGES * 4096 };

static unsigned char *data, *common;
static int to_child[2], to_parent[2];

/* Turn-taking between parent and child. */
static void tell(int fd)
{
    if (write(fd, "t", 1) != 1)
        _exit(90);
}

static void hear(int fd)
{
    char c;
    if (read(fd, &c, 1) != 1)
        _exit(91);
}

static int all(unsigned char value)
{
    for (int i = 0; i < SIZE; i += 64)
        if (data[i] != value)
            return 0;
    return 1;
}

static void user_writes(void)
{
    int status = -1;
    memset(data, 'a', SIZE);
    common[0] = 0;
    pid_t child = fork();
    if (child == 0) {
        int bad = !all('a');
        memset(data, 'c', SIZE);
        tell(to_parent[1]);
        hear(to_child[0]);
        bad |= !all('c') << 1;
        common[0] = 7;
        _exit(bad);
    }
    hear(to_parent[0]);
    check(all('a'), "the child's writes are not seen", "they are");
    memset(data, 'p', SIZE);
    tell(to_child[1]);
    waitpid(child, &status, 0);
    check(status == 0, "the parent's writes are not seen", "status %#x", status);
    check(all('p') && common[0] == 7, "a shared mapping is shared", "%d", common[0]);
}

/* The kernel writes into pages that are shared copy-on-write. */
static void kernel_writes(void)
{
    int status = -1, tube[2];
    if (pipe(tube))
        _exit(92);
    memset(data, 'a', SIZE);
    pid_t child = fork();
    if (child == 0) {
        unsigned char *across = data + 4096 - 8; /* over a page boundary */
        if (write(tube[1], "0123456789abcdef", 16) != 16 || read(tube[0], across, 16) != 16)
            _exit(1);
        clock_gettime(CLOCK_MONOTONIC, (struct timespec *)(data + 3 * 4096));
        pid_t grandchild = fork();
        if (grandchild == 0)
            _exit(5);
        waitpid(grandchild, (int *)(data + 4 * 4096), 0);
        _exit(memcmp(across, "0123456789abcdef", 16) || *(int *)(data + 4 * 4096) != 0x500);
    }
    waitpid(child, &status, 0);
    check(status == 0 && all('a'), "the kernel's writes for the child are not seen", "status %#x", status);
    close(tube[0]);
    close(tube[1]);
}

static int chain(int depth)
{
    data[depth * 4096] = 'A' + depth;
    if (depth == 12)
        return 0;
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(chain(depth + 1));
    waitpid(child, &status, 0);
    /* What this level wrote is there, what deeper levels wrote is not. */
    for (int i = 0; i < PAGES; i++)
        if (data[i * 4096] != (i <= depth ? 'A' + i : 'z'))
            return 1;
    return status != 0;
}

static void generations(void)
{
    memset(data, 'z', SIZE);
    int result = chain(0);
    check(result == 0, "twelve generations", "%d", result);
}

static volatile int handled;
static void on_signal(int signal) { (void)signal; handled++; }

/* The stack, and the frame of a signal on it. */
static void stack(void)
{
    volatile int local = 1;
    int status = -1;
    signal(SIGUSR1, on_signal);
    pid_t child = fork();
    if (child == 0) {
        local = 2;
        raise(SIGUSR1);
        _exit(local != 2 || handled != 1);
    }
    waitpid(child, &status, 0);
    check(status == 0 && local == 1 && handled == 0, "the stack and a signal's frame", "status %#x, local %d", status,
          local);
}

/* All children write the same pages at once; the page that is left to one owner is not copied for nothing, or wrongly. */
static void many(void)
{
    pid_t children[8];
    int bad = 0;
    memset(data, 'm', SIZE);
    for (int c = 0; c < 8; c++)
        if ((children[c] = fork()) == 0) {
            for (int round = 0; round < 20; round++) {
                memset(data, '0' + c, SIZE);
                if (!all('0' + c))
                    _exit(1);
            }
            _exit(0);
        }
    for (int c = 0; c < 8; c++) {
        int status = -1;
        waitpid(children[c], &status, 0);
        bad += status != 0;
    }
    check(!bad && all('m'), "eight children at once", "%d wrong", bad);
}

/* Protection beats copy-on-write, and the zero page is never written. */
static void zero_page(void)
{
    unsigned char *fresh = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int sum = 0, status = -1;
    for (int i = 0; i < SIZE; i += 4096)
        sum += fresh[i];
    pid_t child = fork();
    if (child == 0) {
        memset(fresh, 1, SIZE);
        _exit(0);
    }
    waitpid(child, &status, 0);
    fresh[0] = 3;
    unsigned char *other = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < SIZE; i++)
        sum += other[i] + (i ? fresh[i] : 0);
    check(sum == 0, "fresh pages are zero, always", "sum %d", sum);
    munmap(fresh, SIZE);
    munmap(other, SIZE);
}

int main(void)
{
    data = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    common = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pipe(to_child) || pipe(to_parent))
        return 99;
    user_writes();
    kernel_writes();
    generations();
    stack();
    many();
    zero_page();
    return done();
}
