/* Bug 8: MOV SS puts a debug exception off until the next instruction is done. If that enters the kernel, the exception hits the
 * kernel's first instruction, before it has its own GS and stack. Here MOV SS reads watched memory, and SYSCALL, INT3, INT 0x80,
 * UD2 or a fault comes next. The program must go on as if nothing had been, and the kernel must not mind. Where the exception hits
 * the kernel nobody is told of it; the emulator raises it right after MOV SS, and never reaches the kernel with it.
 */
#include "gate.h"
#include "registers.h"
#include "tracer.h"

__attribute__((used)) static uint64_t selector = 0x2b;

#define DOOR(name, text) SNIPPET(name, "int3\nmov selector(%rip), %ss\n" text "\nnop\nint3")
DOOR(to_syscall, "syscall");
DOOR(to_int3, "int3");
DOOR(to_int80, "int $0x80");
DOOR(to_ud2, "ud2");
DOOR(to_fault, "mov %al, 8");
DOOR(to_nop, "nop");

enum { ROUNDS = 5, GETPID_32 = 20 };
#define DR(n) offsetof(struct user, u_debugreg[n])

static const void *snippet;

static int run_snippet(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        randomize(&in);
        in.rflags = FLAGS_DEFAULT;
        in.rax = snippet == to_int80 ? GETPID_32 : SYS_getpid;
        run(snippet);
    }
    return 42;
}

/* Follows the child from stop to stop. `signal` is what the door gives, or 0. */
static const char *follow(pid_t child, const unsigned char *code, const unsigned char *end, int door_signal)
{
    static char text[96];
    int doors = 0, watches = 0, marks = 0, status;
    while (WIFSTOPPED(status = go(PTRACE_CONT, child, 0))) {
        int signal = WSTOPSIG(status);
        siginfo_t info = { 0 };
        trace(PTRACE_GETSIGINFO, child, 0, (long)&info);
        struct user_regs_struct regs = registers_of(child);
        int at_mark = signal == SIGTRAP && (regs.rip == (uint64_t)code + 1 || regs.rip == (uint64_t)end);
        if (signal == SIGTRAP && peek_user(child, DR(6)) & 1) {
            watches++;
            trace(PTRACE_POKEUSER, child, DR(6), 0);
        } else if (at_mark) {
            marks++;
            if (regs.rip == (uint64_t)code + 1) {
                trace(PTRACE_POKEUSER, child, DR(0), (unsigned long)&selector);
                if (trace(PTRACE_POKEUSER, child, DR(7), 1 | 3 << 16 | 3 << 18)) /* reads and writes of four bytes */
                    return "no watchpoint";
            }
        } else if (signal == door_signal) {
            doors++;
            /* On to the NOP behind it: INT3 has passed already. */
            if (signal != SIGTRAP)
                trace(PTRACE_POKEUSER, child, REGISTER(rip), (unsigned long)end - 2);
        } else {
            snprintf(text, sizeof text, "signal %d, code %d, at %+ld", signal, info.si_code, (long)(regs.rip - (uint64_t)code));
            return text;
        }
    }
    int told = watches == ROUNDS || (watches == 0 && code != to_nop && !emulated());
    if (status == EXIT(42) && marks == 2 * ROUNDS && doors == (door_signal ? ROUNDS : 0) && told)
        return NULL;
    snprintf(text, sizeof text, "status %#x after %d marks, %d signals of the door, %d watched accesses", status, marks, doors,
             watches);
    return text;
}

int main(void)
{
    static const struct { const char *name; const unsigned char *code, *end; int signal; } doors[] = {
        { "no door", to_nop, to_nop_end, 0 },          { "SYSCALL", to_syscall, to_syscall_end, 0 },
        { "INT3", to_int3, to_int3_end, SIGTRAP },     { "INT 0x80", to_int80, to_int80_end, 0 },
        { "UD2", to_ud2, to_ud2_end, SIGILL },         { "a page fault", to_fault, to_fault_end, SIGSEGV },
    };
    for (unsigned i = 0; i < sizeof doors / sizeof *doors; i++) {
        char name[64];
        snippet = doors[i].code;
        pid_t child = start_traced(run_snippet);
        const char *wrong = follow(child, doors[i].code, doors[i].end, doors[i].signal);
        snprintf(name, sizeof name, "a watched MOV SS, then %s", doors[i].name);
        check(!wrong, name, "%s", wrong);
        finish(child);
    }
    if (gate_status("violations") >= 0)
        check(gate_status("violations") == 0, "no invariant was broken", "%ld", gate_status("violations"));
    return done();
}
