/* Threads as the C library makes them (clone, futex, TLS) and the flags of clone one by one; signals to a thread group.
 */
#include "check.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

static long futex(void *word, int operation, uint32_t value, const struct timespec *timeout, void *second, uint32_t third)
{
    return syscall(SYS_futex, word, operation, value, timeout, second, third);
}

enum { THREADS = 4, ROUNDS = 5000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static long counter, turn;
static __thread long own;

static void *contend(void *number)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        counter++;
        pthread_mutex_unlock(&mutex);
        own += (long)number;
    }
    return (void *)own;
}

static void *take_turns(void *number)
{
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % THREADS != (long)number)
            pthread_cond_wait(&condition, &mutex);
        turn++;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void library(void)
{
    pthread_t threads[THREADS];
    int right = 1;
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, contend, (void *)i);
    for (long i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        right &= result == (void *)(i * ROUNDS);
    }
    check(counter == THREADS * ROUNDS, "a mutex excludes", "%ld", counter);
    check(right && own == 0, "each thread has its own TLS", "it has not");
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, take_turns, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    check(turn == THREADS * 100, "a condition variable wakes", "%ld", turn);
}

/* clone with `flags`, and a stack of its own; the child runs `body`. */
static unsigned char child_stack[65536] __attribute__((aligned(16)));
static volatile int shared_value;
static int some_fd;
static pid_t child_tid, parent_tid;

static pid_t start(int (*body)(void *), unsigned long flags)
{
    return clone(body, child_stack + sizeof child_stack, flags, NULL, &parent_tid, NULL, &child_tid);
}

static int write_value(void *unused)
{
    (void)unused;
    shared_value = 1;
    close(some_fd);
    syscall(SYS_rt_sigaction, SIGUSR1, (void *[4]){ SIG_IGN }, NULL, 8);
    if (chdir("/"))
        return 1;
    return 0;
}

static int store_tid(void *unused)
{
    (void)unused;
    return child_tid != (pid_t)syscall(SYS_gettid);
}

static int wait_a_little(void *unused)
{
    (void)unused;
    usleep(10000);
    return 0;
}

static atomic_int go;

static int thread_body(void *unused)
{
    (void)unused;
    shared_value = syscall(SYS_getpid);
    while (!go)
        ;
    syscall(SYS_exit, 0);
    return 0;
}

static int share(unsigned long flags)
{
    int status;
    struct sigaction now;
    shared_value = 0;
    signal(SIGUSR1, SIG_DFL);
    some_fd = dup(1);
    pid_t child = start(write_value, flags | SIGCHLD);
    waitpid(child, &status, 0);
    int fd_open = fcntl(some_fd, F_GETFD) >= 0;
    if (fd_open)
        close(some_fd);
    sigaction(SIGUSR1, NULL, &now);
    return (status ? 8 : 0) | (shared_value ? 1 : 0) | (fd_open ? 0 : 2) | (now.sa_handler == SIG_IGN ? 4 : 0);
}

static void flags(void)
{
    int status, shared;
    shared = share(0);
    check(shared == 0, "nothing is shared without flags", "%d", shared);
    shared = share(CLONE_VM);
    check(shared == 1, "CLONE_VM shares memory only", "%d", shared);
    shared = share(CLONE_FILES);
    check(shared == 2, "CLONE_FILES shares descriptors only", "%d", shared);
    shared = share(CLONE_VM | CLONE_SIGHAND);
    check(shared == 5, "CLONE_SIGHAND shares handlers", "%d", shared);
    signal(SIGUSR1, SIG_DFL);

    pid_t child = start(store_tid, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD);
    waitpid(child, &status, 0);
    check(status == 0 && parent_tid == child, "CLONE_PARENT_SETTID and CLONE_CHILD_SETTID", "status %#x, %d, %d", status,
          parent_tid, child);

    child_tid = 1;
    child = start(wait_a_little, CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD);
    while (child_tid)
        futex(&child_tid, FUTEX_WAIT, 1, &(struct timespec){ 1, 0 }, NULL, 0);
    check(waitpid(child, &status, 0) == child && status == 0, "CLONE_CHILD_CLEARTID clears and wakes", "%#x", status);

    uint64_t begin = microseconds();
    child = start(wait_a_little, CLONE_VFORK | SIGCHLD);
    check(microseconds() - begin >= 10000, "CLONE_VFORK waits for the child", "it does not");
    waitpid(child, &status, 0);

    go = 0;
    child = start(thread_body, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | CLONE_PARENT_SETTID);
    while (!shared_value || shared_value == 1)
        sched_yield();
    check(shared_value == getpid() && child != getpid(), "CLONE_THREAD: same process, another thread", "%d, %d",
          shared_value, child);
    check(waitpid(child, &status, WNOHANG | __WALL) == -1 && errno == ECHILD, "a thread is no child", "it is");
    check(syscall(SYS_tgkill, getpid(), child, 0) == 0 && syscall(SYS_tgkill, child, child, 0) == -1 && errno == ESRCH,
          "tgkill needs the right group", "%s", strerror(errno));
    go = 1;
    while (child_tid)
        sched_yield();

    static const unsigned long invalid[] = { CLONE_THREAD, CLONE_THREAD | CLONE_SIGHAND, CLONE_SIGHAND, CLONE_FS | CLONE_NEWNS };
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        long result = syscall(SYS_clone, invalid[i] | SIGCHLD, 0, 0, 0, 0);
        if (result == 0)
            _exit(0);
        check(result == -1 && errno == EINVAL, "invalid flags", "%#lx: %ld, %s", invalid[i], result, strerror(errno));
    }
}

static uint32_t words[2];

static void *wait_on(void *word)
{
    return (void *)futex(word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void futexes(void)
{
    pthread_t threads[3];
    void *result;
    struct timespec soon = { 0, 10000000 };
    long code = futex(&words[0], FUTEX_WAIT, 1, NULL, NULL, 0);
    check(code == -1 && errno == EAGAIN, "FUTEX_WAIT for another value", "%ld", code);
    uint64_t begin = microseconds();
    code = futex(&words[0], FUTEX_WAIT, 0, &soon, NULL, 0);
    check(code == -1 && errno == ETIMEDOUT && microseconds() - begin >= 10000, "FUTEX_WAIT times out", "%ld", code);
    check(futex(&words[0], FUTEX_WAKE, 5, NULL, NULL, 0) == 0, "FUTEX_WAKE of nobody", "it woke some");
    code = futex((char *)words + 1, FUTEX_WAIT, 0, NULL, NULL, 0);
    check(code == -1 && errno == EINVAL, "a misaligned futex", "%ld, %s", code, strerror(errno));
    code = futex((void *)0xffff888000000000, FUTEX_WAIT, 0, NULL, NULL, 0);
    check(code == -1 && errno == EFAULT, "a futex in the kernel", "%ld, %s", code, strerror(errno));
    code = futex((void *)4096, FUTEX_WAIT, 0, NULL, NULL, 0);
    check(code == -1 && errno == EFAULT, "a futex that is not mapped", "%ld, %s", code, strerror(errno));
    code = futex(words, 77, 0, NULL, NULL, 0);
    check(code == -1 && errno == ENOSYS, "an unknown operation", "%ld, %s", code, strerror(errno));

    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, wait_on, &words[0]);
    int woken = 0, moved = 0;
    wait_until((woken += futex(&words[0], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0)) >= 1);
    wait_until((moved += futex(&words[0], FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)2, &words[1], 0)) >= 2);
    check(woken == 1 && moved == 2, "wake one, requeue two", "%d, %d", woken, moved);
    check(futex(&words[0], FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0) == 0, "none is left on the first", "some are");
    woken = futex(&words[1], FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    check(woken == 2, "two are on the second", "%d", woken);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], &result);
        check(result == NULL, "FUTEX_WAIT gives 0", "%p", result);
    }
}

static atomic_int handled_by, blocked_threads;

static void note_thread(int signal)
{
    (void)signal;
    handled_by = syscall(SYS_gettid);
}

static void *block_signal(void *unused)
{
    sigset_t set;
    (void)unused;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    blocked_threads++;
    while (!go)
        usleep(500);
    return NULL;
}

static void *accept_signal(void *tid)
{
    *(pid_t *)tid = syscall(SYS_gettid);
    blocked_threads++;
    while (!go)
        ; /* no system call: must be interrupted */
    return NULL;
}

static int exit_group_with_threads(void)
{
    pthread_t thread;
    go = 0;
    pthread_create(&thread, NULL, accept_signal, &child_tid);
    usleep(3000);
    _exit(7);
}

static void *exit_process(void *unused)
{
    (void)unused;
    usleep(2000);
    _exit(8);
}

static __attribute__((noreturn)) int exit_by_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, exit_process, NULL);
    for (;;)
        ;
}

static int leader_leaves(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, exit_process, NULL);
    syscall(SYS_exit, 3);
    return 0;
}

static void *fault(void *unused)
{
    (void)unused;
    usleep(1000);
    *(volatile int *)0 = 0;
    return NULL;
}

static __attribute__((noreturn)) int killed_by_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, fault, NULL);
    for (;;)
        ;
}

static const char *self;

static void *exec_from_thread(void *unused)
{
    char before[16];
    (void)unused;
    snprintf(before, sizeof before, "%d", getpid());
    execl(self, self, "pid", before, NULL);
    return NULL;
}

static __attribute__((noreturn)) int thread_execs(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, exec_from_thread, NULL);
    for (;;)
        ;
}

static void groups(void)
{
    pthread_t threads[2];
    pid_t accepting = 0;
    struct sigaction action = { .sa_handler = note_thread };
    sigset_t set, old;
    sigaction(SIGUSR2, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    go = blocked_threads = 0;
    pthread_sigmask(SIG_BLOCK, &set, &old);
    pthread_create(&threads[0], NULL, block_signal, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_create(&threads[1], NULL, accept_signal, &accepting);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    while (blocked_threads < 2)
        usleep(500);
    kill(getpid(), SIGUSR2);
    wait_until(handled_by);
    check(handled_by == accepting && accepting, "a signal to the process goes to a thread that does not block it",
          "%d, not %d", handled_by, accepting);
    handled_by = 0;
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR2);
    usleep(5000);
    check(handled_by == 0, "a signal to a thread stays there", "%d took it", handled_by);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    check(handled_by == syscall(SYS_gettid), "and is taken when unblocked", "%d", handled_by);
    go = 1;
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);

    int status = in_child(exit_group_with_threads);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 7, "exit_group ends a spinning thread", "status %#x", status);
    status = in_child(exit_by_thread);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 8, "exit_group by another thread", "status %#x", status);
    status = in_child(leader_leaves);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 8, "the leader leaves first", "status %#x", status);
    status = in_child(killed_by_thread);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a fault in a thread kills the process", "status %#x", status);
    status = in_child(thread_execs);
    check(status == 0, "exec in a thread keeps the process id", "status %#x", status);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return atoi(argv[2]) != getpid() || syscall(SYS_gettid) != getpid();
    self = argv[0];
    library();
    flags();
    futexes();
    groups();
    return done();
}
