/* What getrusage, wait4, times and /proc tell of time, memory and events: of a process, its threads, the children that it has
 * waited for and theirs, of one that has ended, and of the machine. Compared with each other, never with a clock on the wall.
 */
#include "check.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <pthread.h>

enum { MEBIBYTE = 1 << 20, BURN_MS = 60 };

static long cpu_ms(clockid_t clock)
{
    struct timespec used;
    clock_gettime(clock, &used);
    return used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

static void burn(long milliseconds)
{
    long end = cpu_ms(CLOCK_THREAD_CPUTIME_ID) + milliseconds;
    while (cpu_ms(CLOCK_THREAD_CPUTIME_ID) < end)
        ;
}

static long used_ms(const struct rusage *usage)
{
    return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000 +
           (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1000;
}

static struct rusage usage_of(int who)
{
    struct rusage usage = { 0 };
    if (getrusage(who, &usage))
        usage.ru_maxrss = -1;
    return usage;
}

static char *touch(size_t size)
{
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t at = 0; at < size; at += 4096)
        memory[at] = 1;
    return memory;
}

/* A child whose own child uses time and memory, and is waited for. */
static int has_a_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        burn(2 * BURN_MS);
        touch(16 * MEBIBYTE);
        _exit(0);
    }
    burn(BURN_MS);
    return waitpid(child, NULL, 0) != child;
}

static void grandchildren(void)
{
    struct rusage before = usage_of(RUSAGE_CHILDREN), usage = { 0 };
    struct tms start, end;
    times(&start);
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(has_a_child());
    wait4(child, &status, 0, &usage);
    struct rusage after = usage_of(RUSAGE_CHILDREN);
    times(&end);
    long children = used_ms(&after) - used_ms(&before);
    long ticks = end.tms_cutime + end.tms_cstime - start.tms_cutime - start.tms_cstime;
    check(status == 0 && used_ms(&usage) >= 3 * BURN_MS - 2, "wait4 tells of a child's children, too", "%ld ms",
          used_ms(&usage));
    check(children >= 3 * BURN_MS - 2 && children >= used_ms(&usage) - 2 && children <= used_ms(&usage) + 2,
          "RUSAGE_CHILDREN has grown by that", "%ld ms", children);
    check(ticks * 10 >= 3 * BURN_MS - 30, "and what times tells", "%ld ticks", ticks);
    check(usage.ru_maxrss >= 16 * 1024 && after.ru_maxrss >= usage.ru_maxrss, "the most memory of any of them",
          "%ld KiB, %ld KiB", usage.ru_maxrss, after.ru_maxrss);
    check(usage.ru_minflt >= 4096 && after.ru_minflt - before.ru_minflt >= 4096, "their page faults", "%ld, %ld",
          usage.ru_minflt, after.ru_minflt - before.ru_minflt);
    check(usage.ru_nvcsw >= 1, "their waits", "%ld", usage.ru_nvcsw);
}

static int waits_for_nobody(void)
{
    if (fork() == 0)
        _exit(0);
    struct rusage children = usage_of(RUSAGE_CHILDREN);
    return used_ms(&children) != 0 || children.ru_maxrss != 0 || children.ru_minflt != 0;
}

static void memory(void)
{
    struct rusage before = usage_of(RUSAGE_SELF);
    char *large = touch(32 * MEBIBYTE);
    struct rusage with = usage_of(RUSAGE_SELF), thread = usage_of(RUSAGE_THREAD);
    munmap(large, 32 * MEBIBYTE);
    large = touch(8 * MEBIBYTE);
    madvise(large, 8 * MEBIBYTE, MADV_DONTNEED);
    munmap(large, 8 * MEBIBYTE);
    struct rusage after = usage_of(RUSAGE_SELF);
    check(with.ru_maxrss >= 32 * 1024 && with.ru_maxrss < 64 * 1024 && thread.ru_maxrss >= 32 * 1024, "the most memory so far",
          "%ld KiB, of the thread %ld", with.ru_maxrss, thread.ru_maxrss);
    check(after.ru_maxrss >= with.ru_maxrss && after.ru_maxrss < with.ru_maxrss + 1024, "it stays when the memory is gone",
          "%ld KiB, then %ld", with.ru_maxrss, after.ru_maxrss);
    check(after.ru_minflt - before.ru_minflt >= 40 * 256, "a fault for each page", "%ld", after.ru_minflt - before.ru_minflt);
    int status = in_child(waits_for_nobody);
    check(status == 0, "a new process has no children that it has waited for", "status %#x", status);
}

static void *burns(void *result)
{
    burn(BURN_MS);
    *(struct rusage *)result = usage_of(RUSAGE_THREAD);
    return NULL;
}

static void threads(void)
{
    pthread_t thread;
    struct rusage other = { 0 }, before = usage_of(RUSAGE_SELF), own = usage_of(RUSAGE_THREAD);
    pthread_create(&thread, NULL, burns, &other);
    pthread_join(thread, NULL);
    struct rusage after = usage_of(RUSAGE_SELF), still = usage_of(RUSAGE_THREAD);
    check(used_ms(&other) >= BURN_MS - 2, "a thread's time", "%ld ms", used_ms(&other));
    check(used_ms(&after) - used_ms(&before) >= BURN_MS - 2, "is its process's, also when it has ended", "%ld ms",
          used_ms(&after) - used_ms(&before));
    check(used_ms(&still) - used_ms(&own) < BURN_MS, "and no other thread's", "%ld ms", used_ms(&still) - used_ms(&own));
}

static void switches(void)
{
    int there[2], back[2];
    char byte = 0;
    if (pipe(there) || pipe(back))
        _exit(99);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 20; i++)
            if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1)
                _exit(1);
        _exit(0);
    }
    struct rusage before = usage_of(RUSAGE_THREAD), usage = { 0 };
    int status = -1;
    for (int i = 0; i < 20; i++)
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            _exit(98);
    struct rusage after = usage_of(RUSAGE_THREAD);
    wait4(child, &status, 0, &usage);
    check(after.ru_nvcsw - before.ru_nvcsw >= 1 && usage.ru_nvcsw >= 1, "waits are voluntary switches", "%ld, %ld",
          after.ru_nvcsw - before.ru_nvcsw, usage.ru_nvcsw);
}

static void stopped(void)
{
    struct rusage usage = { 0 };
    siginfo_t info = { 0 };
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        burn(BURN_MS);
        raise(SIGSTOP);
        burn(BURN_MS);
        _exit(0);
    }
    wait4(child, &status, WUNTRACED, &usage);
    check(WIFSTOPPED(status) && used_ms(&usage) >= BURN_MS - 2 && usage.ru_maxrss > 0, "a stopped child's", "%ld ms, %ld KiB",
          used_ms(&usage), usage.ru_maxrss);
    kill(child, SIGCONT);
    int result = syscall(SYS_waitid, P_PID, child, &info, WEXITED | WNOWAIT, &usage);
    struct rusage children = usage_of(RUSAGE_CHILDREN);
    check(!result && used_ms(&usage) >= 2 * BURN_MS - 4, "waitid tells, too", "%d, %ld ms", result, used_ms(&usage));
    wait4(child, &status, 0, &usage);
    struct rusage then = usage_of(RUSAGE_CHILDREN);
    check(used_ms(&then) - used_ms(&children) >= 2 * BURN_MS - 4, "counted once it is waited for, not before", "%ld ms",
          used_ms(&then) - used_ms(&children));
}

/* Field `number`, counted from 1, of a process's stat. */
static long field(pid_t pid, int number, char *name)
{
    char path[40], line[600];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(line, 1, sizeof line - 1, file) : 0;
    line[length] = 0;
    if (file)
        fclose(file);
    char *open = strchr(line, '('), *close = strrchr(line, ')');
    if (!open || !close)
        return -999;
    snprintf(name, 20, "%.*s", (int)(close - open - 1), open + 1);
    char *word = strtok(close + 1, " ");
    for (int at = 3; word && at < number; at++)
        word = strtok(NULL, " ");
    return !word ? -998 : number == 3 ? word[0] : atol(word);
}

static void zombie(void)
{
    char name[20];
    siginfo_t info;
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_NAME, "ended");
        setpriority(PRIO_PROCESS, 0, 5);
        has_a_child();
        touch(MEBIBYTE);
        _exit(7);
    }
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    long state = field(child, 3, name);
    check(state == 'Z' && !strcmp(name, "ended"), "a zombie, and its name", "%c, %s", (int)state, name);
    long times = field(child, 14, name) + field(child, 15, name);
    long of_children = field(child, 16, name) + field(child, 17, name);
    check(times * 10 >= BURN_MS - 20 && of_children * 10 >= 2 * BURN_MS - 20, "its times and its children's", "%ld, %ld", times,
          of_children);
    long faults = field(child, 10, name), faults_of_children = field(child, 11, name);
    check(faults >= 256 && faults_of_children >= 4096, "its page faults and its children's", "%ld, %ld", faults,
          faults_of_children);
    check(field(child, 18, name) == 25 && field(child, 19, name) == 5, "its priority", "%ld, %ld", field(child, 18, name),
          field(child, 19, name));
    check(field(child, 20, name) == 1 && field(child, 23, name) == 0 && field(child, 24, name) == 0,
          "one thread, and no memory", "%ld, %ld, %ld", field(child, 20, name), field(child, 23, name), field(child, 24, name));
    check(field(child, 4, name) == getpid() && field(child, 5, name) == getpgrp(), "its parent and group", "%ld, %ld",
          field(child, 4, name), field(child, 5, name));
    check(field(child, 38, name) == SIGCHLD && field(child, 52, name) == 7 << 8, "its end", "signal %ld, status %ld",
          field(child, 38, name), field(child, 52, name));
    waitpid(child, NULL, 0);
}

/* User mode, the kernel and idle, of all CPUs, in ticks; and idle as /proc/uptime has it, in hundredths of a second. */
static void read_machine(long times[4])
{
    char line[128] = "";
    int fd = open("/proc/stat", O_RDONLY);
    read(fd, line, sizeof line - 1);
    close(fd);
    if (sscanf(line, "cpu %ld %*d %ld %ld", &times[0], &times[1], &times[2]) != 3)
        times[0] = -1;
    memset(line, 0, sizeof line);
    fd = open("/proc/uptime", O_RDONLY);
    read(fd, line, sizeof line - 1);
    close(fd);
    long seconds, hundredths;
    times[3] = sscanf(line, "%*d.%*d %ld.%ld", &seconds, &hundredths) == 2 ? seconds * 100 + hundredths : -1;
}

static void machine(void)
{
    static const char *const what[] = { "user", "system", "idle", "idle in /proc/uptime" };
    long first[4], before[4], now[4];
    int fell = 0;
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 8; i++) {
            pid_t burner = fork();
            if (burner == 0) {
                burn(BURN_MS / 2);
                _exit(0);
            }
            usleep(2000);
            waitpid(burner, NULL, 0);
        }
        _exit(0);
    }
    read_machine(first);
    memcpy(before, first, sizeof before);
    while (waitpid(child, NULL, WNOHANG) == 0) {
        read_machine(now);
        for (int i = 0; i < 4; i++)
            if (now[i] < before[i] || now[i] < 0) {
                if (!fell++)
                    printf("  %s: %ld after %ld\n", what[i], now[i], before[i]);
            }
        memcpy(before, now, sizeof before);
    }
    check(fell == 0, "the machine's times never fall", "%d times", fell);
    long busy = before[0] + before[1] - first[0] - first[1];
    check(busy >= 8 * BURN_MS / 2 / 10 / 2, "what ended processes have used counts", "%ld", busy);
}

/* A limit of CPU time that comes when the process has run without one for a while, and is inherited from then on. */
static void limit(void)
{
    int *of_child = mmap(NULL, sizeof *of_child, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit one_second = { 1, RLIM_INFINITY };
        burn(20);
        setrlimit(RLIMIT_CPU, &one_second);
        pid_t child = fork();
        if (child == 0) {
            burn(3000);
            _exit(0);
        }
        waitpid(child, of_child, 0);
        burn(3000);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    check(WIFSIGNALED(*of_child) && WTERMSIG(*of_child) == SIGXCPU, "RLIMIT_CPU, inherited", "%#x", *of_child);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU, "RLIMIT_CPU, set late", "%#x", status);
    munmap(of_child, sizeof *of_child);
}

static int unknown(void)
{
    struct rusage usage;
    return getrusage(2, &usage) == 0 || errno != EINVAL || getrusage(-3, &usage) == 0 || errno != EINVAL ||
           syscall(SYS_getrusage, RUSAGE_SELF, 1) == 0 || errno != EFAULT;
}

int main(void)
{
    grandchildren();
    memory();
    threads();
    switches();
    stopped();
    zombie();
    machine();
    limit();
    check(unknown() == 0, "what is no kind of usage, and no memory", "errno %d", errno);
    return done();
}
