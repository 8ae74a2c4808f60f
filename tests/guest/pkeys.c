// build: -pthread
/* Memory protection keys, where the CPU has them: allocation, what they forbid to the program and to system calls made for
 * it, PKRU across fork, threads, switches, signals and exec, memory that may only be executed.
 */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <ucontext.h>

#define INITIAL 0x55555554u
#ifndef SEGV_PKUERR
#define SEGV_PKUERR 4
#endif

static unsigned rdpkru(void)
{
    unsigned value, rest;
    __asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(value), "=d"(rest) : "c"(0));
    return value;
}

static void wrpkru(unsigned value)
{
    __asm__ volatile(".byte 0x0f, 0x01, 0xef" : : "a"(value), "c"(0), "d"(0) : "memory");
}

static long alloc_key(unsigned long flags, unsigned long rights)
{
    return syscall(SYS_pkey_alloc, flags, rights);
}

static long free_key(int key)
{
    return syscall(SYS_pkey_free, key);
}

static long protect(void *addr, size_t len, int prot, int key)
{
    return syscall(SYS_pkey_mprotect, addr, len, prot, key);
}

static void *pages(size_t len, int prot)
{
    void *start = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        _exit(99);
    return start;
}

static sigjmp_buf back;
static volatile struct { int code, key; void *addr; unsigned long error; unsigned pkru; } fault;

static void on_fault(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    ucontext_t *user = context;
    fault.code = info->si_code;
    fault.addr = info->si_addr;
    fault.key = info->si_pkey;
    fault.error = user->uc_mcontext.gregs[REG_ERR];
    fault.pkru = rdpkru();
    siglongjmp(back, 1);
}

/* 0: it went well; else si_code. PKRU is as it was before. */
static int try(volatile char *addr, int writes)
{
    unsigned pkru = rdpkru();
    fault.code = 0;
    if (!sigsetjmp(back, 1)) {
        if (writes)
            *addr = 1;
        else
            (void)*addr;
        return 0;
    }
    wrpkru(pkru);
    return fault.code;
}

static void without_keys(void)
{
    long result = alloc_key(0, 0);
    check(result == -1 && (errno == ENOSPC || errno == EINVAL), "without keys there is none to be had", "%ld: %s", result,
          strerror(errno));
    char *page = pages(4096, PROT_READ);
    check(protect(page, 4096, PROT_READ, -1) == 0, "pkey_mprotect without a key", "%s", strerror(errno));
    check(fails_with(protect(page, 4096, PROT_READ, 1), EINVAL), "with one", "%s", strerror(errno));
    check(fails_with(free_key(1), EINVAL), "pkey_free", "%s", strerror(errno));
}

static void allocation(void)
{
    int keys[16], count = 0;
    check(fails_with(alloc_key(1, 0), EINVAL), "pkey_alloc: flags", "%s", strerror(errno));
    check(fails_with(alloc_key(0, 4), EINVAL), "pkey_alloc: rights", "%s", strerror(errno));
    while (count < 16 && (keys[count] = alloc_key(0, 0)) > 0)
        count++;
    check(count == 15 && errno == ENOSPC, "fifteen keys", "%d: %s", count, strerror(errno));
    check(free_key(keys[3]) == 0 && fails_with(free_key(keys[3]), EINVAL), "a key is freed once", "%s", strerror(errno));
    check(alloc_key(0, 3) == keys[3], "and is the next", "not");
    check((rdpkru() >> (2 * keys[3]) & 3) == 3, "with these rights", "%#x", rdpkru());
    for (int n = 0; n < count; n++)
        free_key(keys[n]);
    check(fails_with(free_key(16), EINVAL) && fails_with(free_key(-1), EINVAL), "keys that there are not", "%s", strerror(errno));
    wrpkru(INITIAL);
}

static void access_rights(void)
{
    char *page = pages(8192, PROT_READ | PROT_WRITE);
    int key = alloc_key(0, 0);
    *page = 7;
    check(protect(page, 8192, PROT_READ | PROT_WRITE, key) == 0, "pkey_mprotect", "%s", strerror(errno));
    check(try(page, 0) == 0 && try(page, 1) == 0, "with all rights", "%d", fault.code);
    wrpkru(rdpkru() | 2u << (2 * key));
    check(try(page, 0) == 0, "what may not be written may be read", "%d", fault.code);
    check(try(page, 1) == SEGV_PKUERR && fault.key == key && fault.addr == page && fault.error == 0x27,
          "a write that the key forbids", "code %d key %d error %#lx", fault.code, fault.key, fault.error);
    check(fault.pkru == INITIAL, "the handler starts with the initial rights", "%#x", fault.pkru);
    wrpkru((rdpkru() & ~(3u << (2 * key))) | 1u << (2 * key));
    check(try(page, 0) == SEGV_PKUERR && fault.key == key && fault.error == 0x25, "a read that the key forbids",
          "code %d key %d error %#lx", fault.code, fault.key, fault.error);
    check(try(page + 4096, 0) == SEGV_PKUERR && fault.key == key && !(fault.error & 1), "of a page that is not there yet",
          "code %d key %d error %#lx", fault.code, fault.key, fault.error);

    /* System calls access memory as the program. */
    int ends[2];
    if (pipe(ends) || write(ends[1], "abcd", 4) != 4)
        _exit(99);
    check(fails_with(write(ends[1], page, 1), EFAULT), "a system call that reads there", "%s", strerror(errno));
    check(fails_with(read(ends[0], page, 1), EFAULT), "a system call that writes there", "%s", strerror(errno));
    check(fails_with(write(ends[1], page + 4096, 1), EFAULT), "where no page is yet", "%s", strerror(errno));
    char byte = 0;
    struct iovec local = { &byte, 1 }, remote = { page, 1 };
    check(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 && byte == 1, "process_vm_readv of that page", "%s",
          strerror(errno));
    check(fails_with(process_vm_readv(getpid(), &remote, 1, &local, 1, 0), EFAULT), "and into it", "%s", strerror(errno));
    wrpkru(rdpkru() & ~(3u << (2 * key)));
    check(write(ends[1], page, 1) == 1, "with rights again", "%s", strerror(errno));
    close(ends[0]), close(ends[1]);

    wrpkru(rdpkru() | 1u << (2 * key));
    mprotect(page, 4096, PROT_READ);
    check(try(page, 0) == SEGV_PKUERR, "mprotect keeps the key", "%d", fault.code);
    check(protect(page, 4096, PROT_READ | PROT_WRITE, 0) == 0 && try(page, 0) == 0 && try(page, 1) == 0, "key 0", "%d", fault.code);
    check(fails_with(protect(page, 4096, PROT_READ, key == 15 ? 14 : 15), EINVAL), "a key that was not allocated", "%s",
          strerror(errno));
    check(fails_with(protect(page, 4096, PROT_READ, 16), EINVAL) && fails_with(protect(page, 4096, PROT_READ, -2), EINVAL),
          "keys 16 and -2", "%s", strerror(errno));
    free_key(key);
    check(try(page + 4096, 0) == SEGV_PKUERR, "a freed key still counts", "%d", fault.code);
    munmap(page, 8192);
    wrpkru(INITIAL);
}

static volatile unsigned in_thread, wanted;

static void *thread(void *argument)
{
    in_thread = rdpkru();
    wrpkru(0x55555550);
    for (int n = 0; n < 1000; n++) {
        sched_yield();
        if (rdpkru() != 0x55555550)
            return argument;
    }
    return NULL;
}

static int in_child_process(void)
{
    return rdpkru() == wanted ? 0 : 1;
}

static void switches(void)
{
    pthread_t other;
    void *result;
    wanted = 0x55555544;
    wrpkru(wanted);
    check(in_child(in_child_process) == 0, "fork inherits PKRU", "not");
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    int kept = 1;
    pthread_create(&other, NULL, thread, (void *)1);
    for (int n = 0; n < 1000; n++) {
        sched_yield();
        kept &= rdpkru() == wanted;
    }
    pthread_join(other, &result);
    check(in_thread == wanted, "a thread inherits PKRU", "%#x", in_thread);
    check(kept && !result, "each has its own", "%d, %p", kept, result);
    wrpkru(INITIAL);
}

static volatile unsigned in_handler, in_frame;

static void on_signal(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)info;
    in_handler = rdpkru();
    ucontext_t *user = context;
    unsigned a, offset, c, d;
    __cpuid_count(0xd, 9, a, offset, c, d);
    unsigned *saved = (unsigned *)((char *)user->uc_mcontext.fpregs + offset);
    in_frame = *saved;
    if (signo == SIGUSR2)
        *saved = 0x55555500;
    wrpkru(0);
}

static void signals(void)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    wrpkru(0x55555550);
    raise(SIGUSR1);
    check(in_handler == INITIAL, "a handler starts with the initial PKRU", "%#x", in_handler);
    check(in_frame == 0x55555550, "the frame has the old one", "%#x", in_frame);
    check(rdpkru() == 0x55555550, "which comes back", "%#x", rdpkru());
    raise(SIGUSR2);
    check(rdpkru() == 0x55555500, "a handler may change it", "%#x", rdpkru());
    wrpkru(INITIAL);
}

static void execute_only(void)
{
    static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
    unsigned char *page = pages(4096, PROT_READ | PROT_WRITE);
    memcpy(page, code, sizeof code);
    check(mprotect(page, 4096, PROT_EXEC) == 0 && ((int (*)(void))page)() == 42, "memory that may only be executed runs", "not");
    check(try((char *)page, 0) == SEGV_PKUERR, "and is not read", "%d", fault.code);
    check(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0 && try((char *)page, 0) == 0 && ((int (*)(void))page)() == 42,
          "until mprotect allows it", "%d", fault.code);
    munmap(page, 4096);
    page = pages(4096, PROT_EXEC);
    check(try((char *)page, 0) == SEGV_PKUERR, "mmap makes such memory, too", "%d", fault.code);
    munmap(page, 4096);
}

int main(int argc, char **argv)
{
    unsigned a, b, c, d;
    if (argc > 1)
        return rdpkru() == INITIAL ? 0 : 1;
    __cpuid_count(7, 0, a, b, c, d);
    if (!(c & 1u << 4)) {
        without_keys();
        return done();
    }
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &action, NULL);
    check(rdpkru() == INITIAL, "PKRU of a new program", "%#x", rdpkru());
    allocation();
    access_rights();
    switches();
    signals();
    execute_only();
    wrpkru(0x55555500);
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", argv[0], "child", NULL);
        _exit(99);
    }
    waitpid(pid, &status, 0);
    check(status == 0, "exec resets PKRU", "%#x", status);
    return done();
}
