/* SIGKILL comes while a tracer is busy with its tracee's registers: they hold still until the request is done, and then
 * the tracee dies.
 *
 * Catalogue row 16. The kernel under test checks for itself that the tracee sleeps (/dev/gate counts if it does not).
 */
#include "gate.h"
#include "tracer.h"
#include <sys/mman.h>

enum { ROUNDS = 60 };

static int sleep_long(void)
{
    for (;;)
        pause();
    return 0;
}

int main(void)
{
    static unsigned char state[8192] __attribute__((aligned(64)));
    volatile pid_t *victim = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    long violations = gate_status("violations");
    pid_t killer = fork();
    if (!killer)
        for (unsigned n = 1;; n = n * 69069 + 1) {
            pid_t pid;
            while (!(pid = *victim))
                ;
            for (volatile unsigned i = n >> 20; i; i--)
                ;
            kill(pid, SIGKILL);
            /* Unless there is another one by now. */
            __sync_bool_compare_and_swap(victim, pid, 0);
        }
    int wrong = 0, died = 0, last = 0;
    for (int round = 0; round < ROUNDS; round++) {
        pid_t child = start_traced(sleep_long);
        struct user_regs_struct regs = registers_of(child);
        struct iovec io = { state, sizeof state };
        *victim = child;
        long result = 0;
        for (int i = 0; i < 1000000; i++) {
            regs.r15 = i;
            if ((result = set_registers(child, regs)))
                break;
            io.iov_len = sizeof state;
            if ((result = trace(PTRACE_GETREGSET, child, NT_X86_XSTATE, (long)&io)) && result != -EINVAL)
                break;
            if (!result && (result = trace(PTRACE_SETREGSET, child, NT_X86_XSTATE, (long)&io)))
                break;
        }
        wrong += result != -ESRCH;
        last = next_status(child);
        died += WIFSIGNALED(last) && WTERMSIG(last) == SIGKILL;
    }
    kill(killer, SIGKILL);
    next_status(killer);
    check(!wrong, "a request finds the tracee stopped, or nobody", "%d of %d", wrong, ROUNDS);
    check(died == ROUNDS, "SIGKILL is not lost", "%d of %d died, last %#x", died, ROUNDS, last);
    if (violations < 0)
        skip("the tracee sleeps while a request is under way", "no /dev/gate");
    else
        check(gate_status("violations") == violations, "the tracee sleeps while a request is under way", "%ld times not",
              gate_status("violations") - violations);
    return done();
}
