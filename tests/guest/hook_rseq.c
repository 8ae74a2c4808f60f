/* rseq_exit_to_user_mode_restart, rseq_syscall: a restartable sequence that is preempted or hit by a signal goes on at its abort
 * handler; the area shows the CPU; a bad area or sequence is one SIGSEGV, whose handler does not bring it again (bug 38). This is
 * of areas of the original size; `rseq_extended` is of longer ones.
 */
#include "hooks.h"
#include <linux/rseq.h>
#include "rseq.h"
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/ucontext.h>

static struct rseq *own;
static volatile int *flag; /* shared with the child that preempts */
static volatile sig_atomic_t handled, handled_at_abort;

/* A system call inside. */
SEQUENCE(calling, "mov $39, %eax; syscall");

static struct sequence sequence, calling;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    ucontext_t *frame = context;
    handled++;
    handled_at_abort += frame->uc_mcontext.gregs[REG_RIP] == (greg_t)sequence_abort;
    (void)signal, (void)info;
}

static void registration(void)
{
    static char memory[96] __attribute__((aligned(32)));
    check(rseq(memory + 8, 32, 0, SIGNATURE) < 0 && errno == EINVAL, "an area that is not aligned", "errno %d", errno);
    check(rseq(memory, 31, 0, SIGNATURE) < 0 && errno == EINVAL, "an area that is too short", "errno %d", errno);
    check(rseq(memory, 32, 4, SIGNATURE) < 0 && errno == EINVAL, "unknown flags", "errno %d", errno);
    check(rseq((void *)-4096, 32, 0, SIGNATURE) < 0 && errno == EFAULT, "an area that is not the user's", "errno %d", errno);
    check(rseq(own, 32, 1, SIGNATURE) < 0 && errno == EINVAL, "nothing to unregister", "errno %d", errno);
    check(rseq(own, 32, 0, SIGNATURE) == 0, "registered", "errno %d", errno);
    check(rseq(own, 32, 0, SIGNATURE) < 0 && errno == EBUSY, "twice", "errno %d", errno);
    check(rseq(memory, 32, 0, SIGNATURE) < 0 && errno == EINVAL, "another area", "errno %d", errno);
    check(rseq(own, 32, 0, 1) < 0 && errno == EPERM, "another signature", "errno %d", errno);
    check(rseq(own, 32, 1, 1) < 0 && errno == EPERM, "unregistered with another signature", "errno %d", errno);
}

/* struct ptrace_rseq_configuration */
struct configuration { uint64_t pointer; uint32_t size, signature, flags, pad; };

static struct configuration configuration_of(int (*body)(void))
{
    struct configuration configuration = { 0 };
    int status;
    pid_t child = fork();
    if (child == 0) {
        int failed = body();
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        _exit(failed || raise(SIGSTOP));
    }
    waitpid(child, &status, 0);
    if (ptrace(0x420f, child, (void *)sizeof configuration, &configuration) != sizeof configuration)
        configuration.pad = 1;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return configuration;
}

static int nothing(void)
{
    return 0;
}

static int unregister(void)
{
    return rseq(own, 32, 1, SIGNATURE);
}

/* Each in a child that has an area already, as this process has. */
static int rubbish(void)
{
    unregister();
    own->rseq_cs = 0x123456789;
    own->flags = 0;
    if (rseq(own, 32, 0, SIGNATURE) || own->rseq_cs)
        return 1;
    kill(getpid(), SIGALRM);
    sched_yield();
    return own->cpu_id == (unsigned)-1;
}

static int bad_areas(void)
{
    unregister();
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + 4096, 4096);
    mprotect(pages, 4096, PROT_NONE);
    int failed = 0;
    for (int i = 0; i < 3; i++) {
        void *area = i == 0 ? NULL : i == 1 ? pages : pages + 4096;
        if (rseq(area, 32, 0, SIGNATURE) == 0 || errno != EFAULT)
            failed |= 1 << i;
    }
    mprotect(pages, 4096, PROT_READ | PROT_WRITE);
    *(uint64_t *)(pages + 8) = 1;
    mprotect(pages, 4096, PROT_READ);
    if (rseq(pages, 32, 0, SIGNATURE) == 0 || errno != EFAULT)
        failed |= 8;
    return failed;
}

/* Not a thread of the C library's, which would register an area itself. */
static int shares_memory(void *result)
{
    *(int *)result = rseq(own, 32, 1, SIGNATURE) < 0 && errno == EINVAL ? 1 : 2;
    return 0;
}

static int again(char **arguments)
{
    return rseq(own, 32, 1, SIGNATURE) < 0 && errno == EINVAL && arguments[1][0] == 'x';
}

static int execs(void)
{
    execl("/proc/self/exe", "hook_rseq", "x", (char *)NULL);
    return 99;
}

static void registered_before(void)
{
    int status = in_child(rubbish);
    check(status == 0, "an area that names what its last user left there", "status %#x", status);
    status = in_child(bad_areas);
    check(status == 0, "areas that cannot be read, or not cleared", "status %#x", status);
    struct configuration now = configuration_of(nothing), gone = configuration_of(unregister);
    check(now.pointer == (uintptr_t)own && now.size == 32 && now.signature == SIGNATURE && !now.flags && !now.pad,
          "what a tracer is told", "%#llx, %u bytes, %#x", (unsigned long long)now.pointer, now.size, now.signature);
    check(!gone.pointer && !gone.signature && !gone.pad, "and after it was unregistered", "%#llx, %u bytes, %#x",
          (unsigned long long)gone.pointer, gone.size, gone.signature);
    check(rseq(own, 64, 1, SIGNATURE) < 0 && errno == EINVAL, "unregistered with another length", "errno %d", errno);
    check(rseq(own, 32, 3, SIGNATURE) < 0 && errno == EINVAL, "unregistered with unknown flags", "errno %d", errno);
    check(rseq((char *)own + 32, 32, 1, SIGNATURE) < 0 && errno == EINVAL, "unregistered elsewhere", "errno %d", errno);
    static char child_stack[65536] __attribute__((aligned(16)));
    int result = 0;
    pid_t child = clone(shares_memory, child_stack + sizeof child_stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &result);
    waitpid(child, NULL, 0);
    check(result == 1, "a child that shares the memory has none", "%d", result);
    status = in_child(execs);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 1, "a new program has none", "status %#x", status);
}

static void shows_the_cpu(void)
{
    int cpus = sysconf(_SC_NPROCESSORS_ONLN), right = 0;
    for (int round = 0; round < 10 * cpus; round++) {
        pin(round % cpus);
        right += (int)own->cpu_id == round % cpus && own->cpu_id_start == own->cpu_id;
    }
    check(right == 10 * cpus, "the area shows the CPU", "%d of %d times", right, 10 * cpus);
    pin(0);
}

/* Programs have fields of their own there, and see by them that they were switched (Linux's selftest `legacy_check`). */
static void always_written(void)
{
    own->cpu_id_start = 77;
    usleep(1000);
    unsigned after_switch = own->cpu_id_start;
    own->cpu_id_start = 77;
    raise(SIGALRM);
    check(after_switch == 0 && own->cpu_id_start == 0, "the CPU is written after each switch and signal", "%u, %u", after_switch,
          own->cpu_id_start);
    handled = 0;
}

/* Whether the parent's area names a sequence. */
static int parent_in_sequence(void)
{
    uint64_t named = 0;
    struct iovec here = { &named, sizeof named }, there = { &own->rseq_cs, sizeof named };
    return process_vm_readv(getppid(), &here, 1, &there, 1, 0) == sizeof named && named;
}

static void preempted(void)
{
    int aborted = 0;
    for (int round = 0; round < 5; round++) {
        *flag = 0;
        pid_t child = fork();
        if (child == 0) {
            /* On one CPU: when this runs, the parent does not. It may have been preempted before it began, or have been
             * preempted and gone on already. */
            while (!*flag && !parent_in_sequence())
                sched_yield();
            *flag = 1;
            _exit(0);
        }
        aborted += run_sequence(own, flag, &sequence);
        *flag = 1;
        waitpid(child, NULL, 0);
    }
    check(aborted == 5, "preemption aborts", "%d of 5 sequences", aborted);
    check(own->rseq_cs == 0, "an aborted sequence is named no more", "%#llx", (unsigned long long)own->rseq_cs);
}

static void signalled(void)
{
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    sigaction(SIGALRM, &action, NULL);
    *flag = 0;
    int aborted = 0, runs = 0;
    ualarm(20000, 0);
    while (!handled && runs < 10000) /* something else may preempt it first */
        runs++, aborted += run_sequence(own, flag, &sequence);
    check(aborted == runs && handled == 1 && handled_at_abort == 1, "a signal aborts before its handler runs",
          "%d of %d, %d handlers, %d from the abort handler", aborted, runs, (int)handled, (int)handled_at_abort);
}

/* A handler for SIGSEGV that blocks nothing, on a stack that others see. Delivering the signal fails again and again; it
 * must not be tried more than once.
 */
enum { STACK = 256 * 1024 };
static char *stack;
static volatile int *segv;

static void on_segv(int signal)
{
    ++*segv;
    _exit(signal);
}

static void catch_segv(void)
{
    struct sigaction action = { .sa_handler = on_segv, .sa_flags = SA_NODEFER | SA_ONSTACK };
    stack_t alternate = { .ss_sp = stack, .ss_size = STACK };
    sigaltstack(&alternate, NULL);
    sigaction(SIGSEGV, &action, NULL);
}

static void dies_once(const char *name, int (*body)(void))
{
    memset(stack, 0, STACK);
    *segv = 0;
    int status = in_child(body), untouched = 0;
    while (untouched < STACK && stack[untouched] == 0)
        untouched++;
    /* One frame, with room for any extended state that the emulator has. */
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && *segv == 0 && STACK - untouched < 16 * 1024, name,
          "status %#x, %d handlers, %d bytes of frames", status, *segv, STACK - untouched);
}

static int unmapped_area(void)
{
    catch_segv();
    rseq(own, 32, 1, SIGNATURE);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    rseq(page, 32, 0, SIGNATURE);
    munmap(page, 4096);
    kill(getpid(), SIGALRM);
    return 0;
}

static int bad_signature(void)
{
    catch_segv();
    static struct sequence bad;
    bad = sequence;
    bad.abort++;
    *flag = 0;
    pid_t parent = getpid();
    if (fork() == 0) {
        /* On the same CPU: preempts the parent again and again. */
        while (getppid() == parent)
            sched_yield();
        _exit(0);
    }
    run_sequence(own, flag, &bad); /* Linux 7.2 looks at the signature where it would abort */
    return 0;
}

static int call_inside(void)
{
    return run_calling(own, &calling);
}

static int inherited(void)
{
    return own->cpu_id == 0 && rseq(own, 32, 0, SIGNATURE) < 0 && errno == EBUSY;
}

int main(int count, char **arguments)
{
    void *pages = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    flag = pages;
    segv = (int *)pages + 16;
    stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    own = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sequence = (struct sequence) { .start = (uint64_t)sequence_start, .length = sequence_end - sequence_start,
                                   .abort = (uint64_t)sequence_abort };
    calling = (struct sequence) { .start = (uint64_t)calling_start, .length = calling_end - calling_start + 1,
                                  .abort = (uint64_t)calling_abort };
    unregister_the_librarys();
    if (count > 1)
        return again(arguments);
    if (rseq(own, 32, 1, SIGNATURE) < 0 && errno == ENOSYS) {
        skip("restartable sequences", "the kernel has none");
        return done();
    }
    registration();
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    sigaction(SIGALRM, &action, NULL);
    registered_before();
    shows_the_cpu();
    always_written();
    preempted();
    signalled();
    int status = in_child(inherited);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 1, "a child has the area, too", "status %#x", status);
    dies_once("an area that is gone", unmapped_area);
    dies_once("an abort handler without the signature", bad_signature);
    status = in_child(call_inside);
    if (access("/dev/hooks", F_OK))
        skip("a system call inside a sequence", "Linux checks it only when built for debugging");
    else
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a system call inside a sequence", "status %#x", status);
    check(rseq(own, 32, 1, SIGNATURE) == 0 && own->cpu_id == (unsigned)-1, "unregistered", "CPU %d", (int)own->cpu_id);
    check_violations("Rseq");
    return done();
}
