// build: -no-pie
/* Whose table a call is of, as a tracer sees it where that is not the door's to say: the new program's after an exec of the
 * other width, the parent's at a child's first stop, the interrupted call's when a sleep goes on after a tracer has had
 * the task make other calls.
 */
#include "tracer.h"
#include <fcntl.h>
#include <elf.h>
#include <sys/mman.h>

enum { X86_64 = 0xc000003e, I386 = 0x40000003 };
enum { ENTRY = 1, EXIT_OF = 2 };

struct info { uint8_t op, pad[3]; uint32_t arch; uint64_t ip, sp, body[8]; };

static struct info info_of(pid_t pid)
{
    struct info info = { 0 };
    trace(0x420e, pid, sizeof info, (long)&info);
    return info;
}

/* On to the next stop of a system call; whether it is `op` of call `number` of `arch`. */
static int next_is(pid_t pid, int op, unsigned arch, long number, const char *name)
{
    int status = go(PTRACE_SYSCALL, pid, 0);
    struct info info = info_of(pid);
    long got = peek_user(pid, REGISTER(orig_rax));
    return check(status == STOP(SYSGOOD) && info.op == op && info.arch == arch && got == number &&
                     (op != ENTRY || (long)info.body[0] == number),
                 name, "status %#x, op %d, arch %#x, number %ld, %lld", status, info.op, info.arch, got,
                 (long long)info.body[0]);
}

/* An ELF file of one width whose text is `code`, behind it the path that `code` may use. */
enum { BASE = 0x10000, CODE = 128, PATH = 192 };
static char path_32[40], path_64[40];

static void make_program(int wide, const void *code, size_t size, char *path, const char *inside)
{
    unsigned char image[256] = { 0x7f, 'E', 'L', 'F', wide ? 2 : 1, 1, 1 };
    if (wide) {
        Elf64_Ehdr *head = (void *)image;
        Elf64_Phdr *load = (void *)(image + sizeof *head);
        head->e_type = ET_EXEC, head->e_machine = EM_X86_64, head->e_version = 1, head->e_entry = BASE + CODE;
        head->e_phoff = sizeof *head, head->e_ehsize = sizeof *head, head->e_phentsize = sizeof *load, head->e_phnum = 1;
        *load = (Elf64_Phdr){ PT_LOAD, PF_R | PF_X, 0, BASE, BASE, sizeof image, sizeof image, 4096 };
    } else {
        Elf32_Ehdr *head = (void *)image;
        Elf32_Phdr *load = (void *)(image + sizeof *head);
        head->e_type = ET_EXEC, head->e_machine = EM_386, head->e_version = 1, head->e_entry = BASE + CODE;
        head->e_phoff = sizeof *head, head->e_ehsize = sizeof *head, head->e_phentsize = sizeof *load, head->e_phnum = 1;
        *load = (Elf32_Phdr){ PT_LOAD, 0, BASE, BASE, sizeof image, sizeof image, PF_R | PF_X, 4096 };
    }
    memcpy(image + CODE, code, size);
    if (inside)
        strcpy((char *)image + PATH, inside);
    int fd = syscall(SYS_memfd_create, "program", 0);
    if (fd < 0 || write(fd, image, sizeof image) != sizeof image)
        _exit(98);
    snprintf(path, 40, "/proc/self/fd/%d", fd);
}

static const char *program;

static int run_program(void)
{
    execl(program, program, (char *)NULL);
    return 96;
}

static void exec_across_widths(void)
{
    /* mov $60, %eax; xor %edi, %edi; syscall */
    static const unsigned char ends[] = { 0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05 };
    /* mov $11, %eax; mov $PATH, %ebx; xor %ecx, %ecx; xor %edx, %edx; int $0x80; ud2 */
    static const unsigned char execs[] = { 0xb8, 11, 0, 0, 0, 0xbb, PATH, BASE >> 8 & 0xff, BASE >> 16, 0,
                                           0x31, 0xc9, 0x31, 0xd2, 0xcd, 0x80, 0x0f, 0x0b };
    make_program(1, ends, sizeof ends, path_64, NULL);
    make_program(0, execs, sizeof execs, path_32, path_64);
    program = path_32;
    pid_t child = start_traced(run_program);
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
    next_is(child, ENTRY, X86_64, SYS_execve, "a 64-bit exec begins");
    int status = go(PTRACE_SYSCALL, child, 0);
    struct info info = info_of(child);
    long number = peek_user(child, REGISTER(orig_rax));
    check(status == EVENT(PTRACE_EVENT_EXEC) && info.arch == I386 && number == 11, "its event is a 32-bit program's",
          "status %#x, arch %#x, number %ld", status, info.arch, number);
    next_is(child, EXIT_OF, I386, 11, "it ends as a 32-bit exec");
    next_is(child, ENTRY, I386, 11, "a 32-bit exec begins");
    status = go(PTRACE_SYSCALL, child, 0);
    info = info_of(child);
    number = peek_user(child, REGISTER(orig_rax));
    check(status == EVENT(PTRACE_EVENT_EXEC) && info.arch == X86_64 && number == SYS_execve,
          "its event is a 64-bit program's", "status %#x, arch %#x, number %ld", status, info.arch, number);
    next_is(child, EXIT_OF, X86_64, SYS_execve, "it ends as a 64-bit exec");
    next_is(child, ENTRY, X86_64, SYS_exit, "the next call is a 64-bit one");
    finish(child);
}

static long call_32(long number, long b, long c)
{
    long result;
    asm volatile("int $0x80" : "=a"(result) : "0"(number), "b"(b), "c"(c) : "memory", "cc", "r8", "r9", "r10", "r11");
    return result;
}

enum { FORK_32 = 2, NANOSLEEP_32 = 162, VFORK_32 = 190, CLONE_32 = 120 };
static long fork_number;

static int forks(void)
{
    if (call_32(fork_number, SIGCHLD, 0) == 0)
        syscall(SYS_getppid);
    _exit(0);
}

static void child_of_a_32_bit_call(void)
{
    static const struct { int number; const char *name; } calls[] = {
        { FORK_32, "fork" }, { VFORK_32, "vfork" }, { CLONE_32, "clone" },
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char name[80];
        fork_number = calls[i].number;
        pid_t parent = start_traced(forks);
        trace(PTRACE_SETOPTIONS, parent, 0,
              PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL);
        int status = go(PTRACE_CONT, parent, 0);
        unsigned long child = 0;
        trace(PTRACE_GETEVENTMSG, parent, 0, (long)&child);
        struct info info = info_of(parent);
        int parent_right = status >> 16 && info.arch == I386;
        status = next_status(child);
        info = info_of(child);
        long number = peek_user(child, REGISTER(orig_rax)), result = peek_user(child, REGISTER(rax));
        snprintf(name, sizeof name, "the first stop of the child of a 32-bit %s", calls[i].name);
        check(parent_right && status == STOP(SIGSTOP) && info.arch == I386 && number == fork_number && result == 0, name,
              "parent %d, status %#x, arch %#x, number %ld, result %ld", parent_right, status, info.arch, number, result);
        snprintf(name, sizeof name, "the first call of the child of a 32-bit %s", calls[i].name);
        next_is(child, ENTRY, X86_64, SYS_getppid, name);
        kill(child, SIGKILL);
        kill(parent, SIGKILL);
        while (next_status(-1) != -1)
            ;
    }
}

static const struct { int seconds, nanoseconds; } nap_32 = { 1000, 0 };
static const struct timespec nap = { 1000, 0 };

static int sleeps_32(void)
{
    return call_32(NANOSLEEP_32, (long)&nap_32, 0) != -EINTR;
}

static int sleeps_64(void)
{
    return syscall(SYS_nanosleep, &nap, NULL) != -1 || errno != EINTR;
}

/* Makes two calls of each table, and traps. */
void other_calls(void);
asm(".pushsection .text\n"
    "other_calls: mov $39, %eax\n syscall\n mov $20, %eax\n int $0x80\n"
    "mov $20, %eax\n int $0x80\n mov $39, %eax\n syscall\n int3\n"
    ".popsection\n");

static void on_signal(int signal)
{
    (void)signal;
}

static void wait_asleep(pid_t pid)
{
    char path[40], state = 0, line[200];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    while (state != 'S') {
        int fd = open(path, O_RDONLY);
        ssize_t length = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
        line[length < 0 ? 0 : length] = 0;
        close(fd);
        char *end = strrchr(line, ')');
        state = end ? end[2] : 'X';
        usleep(1000);
    }
}

/* The sleep of one table goes on although calls of the other were made since it was interrupted, and once more. */
static void restart_after_other_calls(int (*sleeps)(void), unsigned arch, long number, const char *name)
{
    signal(SIGUSR2, on_signal);
    pid_t child = start_traced(sleeps);
    trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    trace(PTRACE_CONT, child, 0, 0);
    for (int round = 0; round < 2; round++) {
        wait_asleep(child);
        kill(child, SIGUSR1);
        int status = next_status(child);
        struct user_regs_struct saved = registers_of(child), other = saved;
        check(status == STOP(SIGUSR1) && (int)saved.rax == -516, name, "status %#x, result %d", status, (int)saved.rax);
        other.rip = (unsigned long)other_calls;
        other.rsp = (saved.rsp - 1024) & ~15ul;
        other.orig_rax = -1;
        set_registers(child, other);
        status = go(PTRACE_CONT, child, 0);
        check(status == STOP(SIGTRAP), name, "other calls: status %#x", status);
        set_registers(child, saved);
        next_is(child, ENTRY, arch, number, name);
        trace(PTRACE_CONT, child, 0, 0);
    }
    wait_asleep(child);
    kill(child, SIGUSR2);
    next_status(child);
    int status = go(PTRACE_CONT, child, SIGUSR2);
    check(status == EXIT(0), name, "at a handler: status %#x", status);
}

int main(void)
{
    exec_across_widths();
    child_of_a_32_bit_call();
    restart_after_other_calls(sleeps_32, I386, 0, "a 32-bit sleep goes on after other calls");
    restart_after_other_calls(sleeps_64, X86_64, SYS_restart_syscall, "a 64-bit sleep goes on after other calls");
    return done();
}
