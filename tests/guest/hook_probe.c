/* uprobe_notify_resume: a probe in a program's text is counted each time it is hit, and the program does not notice it,
 * whether the instruction is a simple one or has to be run in its place; in a child as in the parent.
 */
#include "hooks.h"
#include <link.h>

long probed(long value);
extern const char probed_push[], probed_middle[], probed_load[], probed_return[];
asm(".pushsection .text\n"
    "probed:\n"
    "probed_push: push %rbp\n"
    "mov %rdi, %rbp\n"
    "probed_middle: lea 7(%rbp,%rbp), %rax\n"
    "probed_load: add constant(%rip), %rax\n"
    "pop %rbp\n"
    "probed_return: ret\n"
    "constant: .quad 1000\n"
    ".popsection\n");

static volatile sig_atomic_t traps, alarms;

static void on_signal(int signal)
{
    if (signal == SIGTRAP)
        traps++;
    else
        alarms++;
}

static long offset_of(const char *address)
{
    extern const ElfW(Ehdr) __ehdr_start;
    const ElfW(Phdr) *header = (const void *)((const char *)&__ehdr_start + __ehdr_start.e_phoff);
    for (int n = 0; n < __ehdr_start.e_phnum; n++, header++) {
        uintptr_t base = header->p_vaddr;
        if (header->p_type == PT_LOAD && (uintptr_t)address - base < header->p_filesz)
            return (uintptr_t)address - base + header->p_offset;
    }
    return -1;
}

static int calls(int count)
{
    int right = 0;
    for (int n = 0; n < count; n++)
        right += probed(n) == 2 * n + 1007;
    return right;
}

static int in_a_child(void)
{
    return calls(10);
}

static void hit(const char *name, const char *at, const char *path)
{
    char text[96];
    long before = hooks_status("probe_hits");
    traps = 0;
    if (!check(control("/dev/hooks", "probe %s %ld", path, offset_of(at)), name, "it is refused"))
        return;
    int right = calls(50);
    long hits = hooks_status("probe_hits") - before;
    snprintf(text, sizeof text, "%s: the program does not notice", name);
    check(right == 50 && traps == 0, text, "%d of 50 calls gave the right result; %d traps", right, (int)traps);
    snprintf(text, sizeof text, "%s: each hit is counted", name);
    check(hits == 50, text, "%ld of 50", hits);
    int status = in_child(in_a_child);
    hits = hooks_status("probe_hits") - before;
    snprintf(text, sizeof text, "%s: a child's, too", name);
    check(WIFEXITED(status) && WEXITSTATUS(status) == 10 && hits == 60, text, "status %#x, %ld of 60 hits", status, hits);
    control("/dev/hooks", "unprobe");
    before = hooks_status("probe_hits");
    right = calls(5);
    snprintf(text, sizeof text, "%s: taken out", name);
    check(right == 5 && hooks_status("probe_hits") == before, text, "%d of 5, %ld hits", right,
          hooks_status("probe_hits") - before);
}

/* Probes come and go while another process runs the instructions and makes children. */
static void races(const char *path)
{
    static const char *const names[] = { "a probe that goes when it is hit: a push", "the same, stepped" };
    const char *at[] = { probed_push, probed_middle };
    for (int n = 0; n < 2; n++) {
        int status = 0, rounds = 0;
        pid_t child = fork();
        if (child == 0) {
            for (int turn = 0;; turn++) {
                if (calls(20) != 20)
                    _exit(1);
                if (turn % 16 == 0 && in_child(in_a_child) != 10 << 8)
                    _exit(2);
            }
        }
        pid_t ended = 0;
        for (; rounds < 300 && ended == 0; rounds++) {
            control("/dev/hooks", "probe %s %ld", path, offset_of(at[n]));
            for (volatile int wait = 0; wait < rounds % 50 * 20; wait++)
                ;
            control("/dev/hooks", "unprobe");
            ended = waitpid(child, &status, WNOHANG);
        }
        check(ended == 0, names[n], "after %d rounds it ended with %#x", rounds, status);
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
    }
}

int main(void)
{
    char path[256] = "";
    if (!has_hooks("probes"))
        return done();
    if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        return 1;
    signal(SIGTRAP, on_signal);
    signal(SIGALRM, on_signal);
    hit("a push", probed_push, path);
    hit("an instruction that is stepped", probed_middle, path);
    hit("one that needs its place", probed_load, path);
    hit("a return", probed_return, path);

    /* Signals between the hit and the step. */
    control("/dev/hooks", "probe %s %ld", path, offset_of(probed_middle));
    ualarm(500, 500);
    int right = 0, rounds = 0;
    while (alarms < 50 && rounds < 1000000)
        rounds++, right += calls(1);
    ualarm(0, 0);
    check(right == rounds && traps == 0, "signals meanwhile", "%d of %d, %d traps", right, rounds, (int)traps);
    check(hooks_status("probe_hits") >= rounds, "no hit is lost", "%ld of %d", hooks_status("probe_hits"), rounds);
    control("/dev/hooks", "unprobe");

    /* An INT3 of the program's own is its own affair, in both forms. */
    asm volatile("int3");
    asm volatile("int $3");
    check(traps == 2, "the program's own breakpoints", "%d traps", (int)traps);
    races(path);
    check_violations("Uprobe");
    return done();
}
