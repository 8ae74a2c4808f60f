/* A program that takes all the memory there is gets ENOMEM, or is killed; the kernel and the others live on. Runs in the
 * reference kernel only: elsewhere it would hurt.
 */
#include "check.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { PAGE = 4096, MANY = 1 << 20 };

/* By pages. */
static int touch_everything(void)
{
    for (;;) {
        char *at = mmap(NULL, MANY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            return errno;
        memset(at, 1, MANY);
    }
}

/* By the tables for pages that are far from each other; the pages themselves are the one of zeros. */
static int scatter(void)
{
    for (uintptr_t at = 1ul << 32; at < 1ul << 46; at += 2 << 20) {
        char *page = mmap((void *)at, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (page == MAP_FAILED)
            return errno;
        (void)*(volatile char *)page;
    }
    return 0;
}

/* By the kernel's own records: areas that cannot be joined. */
static int fragment(void)
{
    for (int i = 0;; i++)
        if (mmap(NULL, PAGE, i & 1 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
            return errno;
}

/* By what the kernel writes on the program's behalf. */
static int read_everything(void)
{
    int zeros = open("/dev/zero", O_RDONLY);
    for (;;) {
        char *at = mmap(NULL, MANY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            return errno;
        if (read(zeros, at, MANY) != MANY)
            return errno == EFAULT ? ENOMEM : errno;
    }
}

/* By a file. */
static int fill_file(void)
{
    static char data[MANY];
    int fd = memfd_create("all", 0);
    for (;;)
        if (write(fd, data, MANY) < 0)
            return errno == ENOSPC ? ENOMEM : errno;
}

/* By processes, of which each copies a little. */
static int breed(void)
{
    static char data[64 * PAGE];
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            memset(data, 1, sizeof data);
            for (;;)
                pause();
        }
        if (child < 0)
            return errno == EAGAIN ? ENOMEM : errno;
        if (waitpid(-1, NULL, WNOHANG) > 0)
            return ENOMEM;
    }
}

static void survives(int (*body)(void), const char *name)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        _exit(body());
    }
    waitpid(child, &status, 0);
    /* What it left behind. */
    while (!kill(-child, SIGKILL))
        usleep(1000);
    check((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || (WIFEXITED(status) && WEXITSTATUS(status) == ENOMEM),
          name, "status %#x", status);
}

static int modest(void)
{
    size_t size = 4 << 20;
    char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED || memset(at, 1, size) != at;
}

int main(void)
{
    if (access("/dev/gate", F_OK)) {
        skip("memory exhaustion", "not in the reference kernel");
        return done();
    }
    survives(touch_everything, "pages");
    survives(scatter, "page tables");
    survives(fragment, "areas");
    survives(read_everything, "read(2)");
    survives(fill_file, "a file");
    survives(breed, "processes");
    int status = in_child(modest);
    check(status == 0, "all of it came back", "status %#x", status);
    return done();
}
