/* ioperm and iopl: which I/O ports a task may use, on which CPU, and who else has the right: children and threads from then
 * on, the next program too, and nobody beside. CLI and STI never work. Part of bug 20.
 */
#include "tracer.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/io.h>

/* The port of the power-on self test: nobody minds. */
enum { PORT = 0x80 };

static sigjmp_buf fault;

static void on_fault(int signal)
{
    (void)signal;
    siglongjmp(fault, 1);
}

/* Whether the port may be used. */
static int may(unsigned short port)
{
    if (sigsetjmp(fault, 1))
        return 0;
    asm volatile("outb %%al, %w0" : : "d"(port), "a"(0));
    return 1;
}

static int may_16(unsigned short port)
{
    if (sigsetjmp(fault, 1))
        return 0;
    asm volatile("outw %%ax, %w0" : : "d"(port), "a"(0));
    return 1;
}

/* What CLI does: -1 it faults, 0 nothing, 1 it works. */
static int cli(void)
{
    unsigned long flags;
    if (sigsetjmp(fault, 1))
        return -1;
    asm volatile("cli; pushf; pop %0; sti" : "=r"(flags));
    return !(flags & 0x200);
}

static void run_on(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* What a child may do, as bits: PORT, PORT + 1. */
static int rights(void)
{
    return may(PORT) | may(PORT + 1) << 1;
}

static int takes_its_own(void)
{
    return ioperm(PORT, 1, 0) || ioperm(PORT + 1, 1, 1) ? 64 : rights();
}

static int without_privilege(void)
{
    if (setresuid(1, 1, 1))
        return 64;
    int kept = rights() == 1;
    errno = 0;
    int refused = ioperm(PORT + 1, 1, 1) == -1 && errno == EPERM && iopl(3) == -1 && errno == EPERM;
    return kept && refused && ioperm(PORT, 1, 0) == 0 && rights() == 0 ? 0 : 1;
}

static int with_level_3(void)
{
    if (iopl(3) || !may(PORT + 1) || !may(0xed) || !may_16(PORT))
        return 1;
    unsigned long flags;
    asm volatile("pushf; pop %0" : "=r"(flags));
    if (flags & 0x3000)
        return 2;
    if (cli() == 1)
        return 3;
    if (setresuid(1, 1, 1) || iopl(3))
        return 4;
    /* Back to what ioperm gave. */
    if (iopl(0) || rights() != 1)
        return 5;
    return iopl(3) == -1 && errno == EPERM ? 0 : 6;
}

static void *thread_rights(void *unused)
{
    (void)unused;
    long before = rights();
    ioperm(PORT + 1, 1, 1);
    return (void *)(before | (long)rights() << 8);
}

static int exec_again(void)
{
    char *arguments[] = { "io_ports", "rights", NULL };
    execv("/proc/self/exe", arguments);
    return 65;
}

/* A process without rights that shares the CPU: says after each turn of the other what it may do. */
static void beside(void)
{
    int there[2], back[2];
    char byte;
    if (pipe(there) || pipe(back))
        return;
    run_on(0);
    ioperm(PORT, 1, 0);
    pid_t other = fork();
    if (other == 0) {
        close(there[1]);
        while (read(there[0], &byte, 1) == 1) {
            byte = rights();
            if (write(back[1], &byte, 1) != 1)
                break;
        }
        _exit(0);
    }
    ioperm(PORT, 1, 1);
    int bad = 0, lost = 0;
    for (int round = 0; round < 100; round++) {
        lost += rights() != 1;
        if (write(there[1], "", 1) != 1 || read(back[0], &byte, 1) != 1)
            break;
        bad += byte != 0;
    }
    close(there[1]);
    waitpid(other, NULL, 0);
    check(!bad, "another process on the same CPU has no rights", "%d times of 100", bad);
    check(!lost, "and takes none away", "%d times of 100", lost);
}

static int nothing(void)
{
    return 0;
}

/* NT_386_IOPERM: what a tracer sees of the rights of a child that is stopped. */
static void seen_by_a_tracer(void)
{
    static unsigned char bitmap[8192];
    struct iovec io = { bitmap, sizeof bitmap };
    pid_t child = start_traced(nothing);
    long result = trace(PTRACE_GETREGSET, child, NT_386_IOPERM, (long)&io);
    int wrong = 0;
    for (unsigned n = 0; n < sizeof bitmap; n++)
        wrong += bitmap[n] != (n == PORT / 8 ? 0xfe : 0xff);
    check(!result && io.iov_len == sizeof bitmap && !wrong, "a tracer sees the bitmap", "%ld, %zu bytes, %d wrong", result,
          io.iov_len, wrong);
    result = trace(PTRACE_SETREGSET, child, NT_386_IOPERM, (long)&io);
    check(result == -EOPNOTSUPP, "and cannot change it", "%ld", result);
    finish(child);
    ioperm(PORT, 1, 0);
    child = start_traced(nothing);
    result = trace(PTRACE_GETREGSET, child, NT_386_IOPERM, (long)&io);
    check(result == -ENXIO, "nor see one that is not there", "%ld", result);
    finish(child);
    ioperm(PORT, 1, 1);
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_fault };
    sigaction(SIGSEGV, &action, NULL);
    if (argc > 1 && !strcmp(argv[1], "rights"))
        return rights();
    check(rights() == 0, "no rights at the start", "%d", rights());
    check(cli() == -1, "CLI is a fault", "%d", cli());
    static const struct { unsigned long from, count; } wrong[] = { { 0, 0 }, { 65536, 1 }, { 65535, 2 }, { 1, -1 }, { 0, 65537 } };
    for (unsigned n = 0; n < sizeof wrong / sizeof *wrong; n++)
        check(ioperm(wrong[n].from, wrong[n].count, 1) == -1 && errno == EINVAL, "a bad range", "%#lx, %#lx taken",
              wrong[n].from, wrong[n].count);
    check(iopl(4) == -1 && errno == EINVAL, "a bad level", "taken");
    check(ioperm(PORT, 1, 0) == 0, "giving up what one has not", "%s", strerror(errno));
    if (ioperm(PORT, 1, 1)) {
        skip("ports", "this system lets nobody have them");
        return done();
    }
    check(rights() == 1, "one port", "%d", rights());
    check(!may_16(PORT), "a word needs both ports", "only one was asked for");
    if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
        int bad = 0;
        for (int n = 0; n < 20; n++) {
            run_on(n & 1);
            bad += rights() != 1;
        }
        check(!bad, "on every CPU", "%d times not", bad);
        run_on(0);
    } else
        skip("on every CPU", "one CPU");
    int status = in_child(rights);
    check(exit_code(status) == 1, "a child has them", "%d", exit_code(status));
    status = in_child(takes_its_own);
    check(exit_code(status) == 2 && rights() == 1, "what a child changes is its own", "the child's %d, here %d", exit_code(status), rights());
    status = in_child(exec_again);
    check(exit_code(status) == 1, "the next program has them", "%d", exit_code(status));
    status = in_child(without_privilege);
    check(exit_code(status) == 0, "without privilege one may keep and give up only", "%d", exit_code(status));
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, thread_rights, NULL);
    pthread_join(thread, &result);
    check((long)result == 0x301 && rights() == 1, "a thread begins with them, and changes its own", "%#lx, here %d",
          (long)result, rights());
    status = in_child(with_level_3);
    check(exit_code(status) == 0, "iopl", "step %d", exit_code(status));
    check(rights() == 1, "and here all is as it was", "%d", rights());
    seen_by_a_tracer();
    beside();
    check(ioperm(0, 65536, 1) == 0 && may(0xed) && may_16(PORT), "all ports", "%s", strerror(errno));
    check(ioperm(0, 65536, 0) == 0 && rights() == 0, "none again", "%d", rights());
    return done();
}
