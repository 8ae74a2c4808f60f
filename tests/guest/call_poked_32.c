// build: -m32
/* A 32-bit tracer that writes the number of a 64-bit call writes no more than 32 bits of its result either: what is in there
 * then is a restart code, but no longer than until the tracee is back in user mode. A later call's result is all of the
 * register: 0xfffffe00 is a good offset.
 */
#include "check.h"
#include <sys/mman.h>
#include <sys/ptrace.h>

enum { SYSGOOD = SIGTRAP | 0x80, EAX = 6 * 4, ORIG_EAX = 11 * 4 };
enum { GETPID_64 = 39, LSEEK_64 = 8, GETPPID_64 = 110 };

/* Runs in the 64-bit code segment. */
static const unsigned char code[] = {
    0xb8, GETPID_64, 0, 0, 0, 0x0f, 0x05,                    /* mov $39, %eax; syscall */
    0xb8, LSEEK_64, 0, 0, 0, 0xbf, 3, 0, 0, 0,               /* mov $8, %eax; mov $3, %edi */
    0xbe, 0, 0xfe, 0xff, 0xff, 0x31, 0xd2, 0x0f, 0x05,       /* mov $0xfffffe00, %esi; xor %edx, %edx; syscall */
    0xb8, GETPPID_64, 0, 0, 0, 0x0f, 0x05,                   /* mov $110, %eax; syscall */
    0xb8, GETPPID_64, 0, 0, 0, 0x0f, 0x05,                   /* again */
    0xcc, 0xeb, 0xfe,
};

static struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) target;

static void run_64(void)
{
    FILE *file = tmpfile();
    if (!file || dup2(fileno(file), 3) != 3)
        _exit(97);
    unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof code);
    target.offset = (uint32_t)(uintptr_t)page, target.selector = 0x33;
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    asm volatile("ljmp *%0" : : "m"(target) : "memory");
    _exit(96);
}

static pid_t child;

static int next(int signal)
{
    int status = -1;
    ptrace(PTRACE_SYSCALL, child, 0, signal);
    waitpid(child, &status, 0);
    return status;
}

static long word(long offset)
{
    errno = 0;
    return ptrace(PTRACE_PEEKUSER, child, offset, 0);
}

static int is_stop(int status, int code)
{
    return WIFSTOPPED(status) && WSTOPSIG(status) == code;
}

/* A signal comes at the end of the call that the tracee is stopped in. Gives the number of the call that follows. */
static long signalled(const char *name)
{
    kill(child, SIGUSR1);
    int status = next(0);
    check(is_stop(status, SIGUSR1), name, "status %#x", status);
    next(0);
    return word(ORIG_EAX);
}

int main(void)
{
    child = fork();
    if (child == 0)
        run_64();
    int status = -1;
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    for (int calls = 0; calls < 20 && !(is_stop(status, SYSGOOD) && word(ORIG_EAX) == GETPID_64); calls++)
        status = next(0);
    if (!check(is_stop(status, SYSGOOD), "the tracee calls from 64-bit code", "status %#x", status))
        return done();
    /* Up to DR7 an offset need not be a multiple of four; behind it there is one word more. */
    const struct { int at, error; } places[] = { { 252, 0 }, { 253, 0 }, { 279, 0 }, { 280, 0 }, { 281, EIO }, { 284, 0 }, { 285, EIO }, { 288, EIO }, { 251, EIO }, { 2, EIO } };
    for (size_t n = 0; n < sizeof places / sizeof *places; n++) {
        long value = word(places[n].at);
        check(errno == places[n].error, "PEEKUSER near the debug registers", "at %d: %ld, %s", places[n].at, value, strerror(errno));
    }
    ptrace(PTRACE_POKEUSER, child, ORIG_EAX, GETPID_64);
    next(0);
    check(word(EAX) == child, "the call whose number was written", "%ld", word(EAX));
    next(0);
    check(word(ORIG_EAX) == LSEEK_64, "the next call", "%ld", word(ORIG_EAX));
    next(0);
    check((uint32_t)word(EAX) == 0xfffffe00, "its result", "%#lx", word(EAX));
    long number = signalled("a signal at its end");
    check(number == GETPPID_64, "it is not made again", "number %ld", number);
    next(0);
    ptrace(PTRACE_POKEUSER, child, EAX, -512);
    ptrace(PTRACE_POKEUSER, child, ORIG_EAX, GETPID_64);
    number = signalled("a signal at the end of the call with a restart code");
    check(number == GETPID_64, "that call is made again", "number %ld", number);
    next(0);
    ptrace(PTRACE_POKEUSER, child, EAX, -512);
    ptrace(PTRACE_POKEUSER, child, ORIG_EAX, -1);
    number = signalled("a signal at the end of no call");
    check(number == GETPPID_64, "nothing is made again", "number %ld", number);
    kill(child, SIGKILL);
    return done();
}
