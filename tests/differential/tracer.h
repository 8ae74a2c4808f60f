/* The parent of a script: waits for it, and traces it. It stops for each signal, system call or step, is looked at, and changed at
 * random; each stop has numbers of its own, by the step of the script and the stop's place in it.
 *
 * What the harness does is left alone: there a tracee only goes on. A call that waits gets a signal at its entry, so that it is
 * never a matter of time whether it waits yet. */
#ifndef TRACER_H
#define TRACER_H

#include <asm/ptrace-abi.h>

#include "handler.h"
#include "meeting.h"

enum { PATIENCE = 20, STOPS_OF_A_STEP = 40, TOO_MANY_STOPS = 200, WAITS_OF_A_STEP = 4, EDITS_OF_A_STEP = 12, WALL = 0x40000000, UNTRACED = 2, NO_HANG = 1 };

/* Requests that the header does not have. */
enum { TRACE_ME = 0, PEEK_USER = 3, POKE_USER = 6, CONTINUE = 7, STEP = 9, ATTACH = 16, DETACH = 17, CALLS = 24, SET_OPTIONS = 0x4200,
       EVENT_MESSAGE, GET_INFO, SET_INFO, GET_REGISTER_SET, SET_REGISTER_SET, SEIZE, INTERRUPT, LISTEN, PEEK_INFO, GET_MASK, SET_MASK,
       GET_CALL = 0x420e };

#ifdef __x86_64__
enum { U_R15, U_R14, U_R13, U_R12, U_BP, U_BX, U_R11, U_R10, U_R9, U_R8, U_AX, U_CX, U_DX, U_SI, U_DI, U_ORIG_AX, U_IP, U_CS, U_FLAGS, U_SP, U_SS,
       U_FS_BASE, U_GS_BASE, U_DS, U_ES, U_FS, U_GS, USER_REGISTERS, U_FIRST_SELECTOR = U_DS, U_LAST_SELECTOR = U_GS, DEBUG_REGISTERS = 848 };
static const char *const user_names[] = { "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "orig_ax",
                                          "ip", "cs", "flags", "sp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs" };
#else
enum { U_BX, U_CX, U_DX, U_SI, U_DI, U_BP, U_AX, U_DS, U_ES, U_FS, U_GS, U_ORIG_AX, U_IP, U_CS, U_FLAGS, U_SP, U_SS, USER_REGISTERS,
       U_FIRST_SELECTOR = U_DS, U_LAST_SELECTOR = U_GS, DEBUG_REGISTERS = 252 };
static const char *const user_names[] = { "bx", "cx", "dx", "si", "di", "bp", "ax", "ds", "es", "fs", "gs", "orig_ax", "ip", "cs", "flags", "sp", "ss" };
#endif

static struct {
    long child;
    word script, step, stops, waits, edits;
    int is_seized, is_emulated;
} tracee;

/* Before the first. */
enum { NO_STEP = 99 };

static long trace(word request, word address, const void *data);

/* A request after which the tracee runs: it may do so before this returns. */
static void let_go(word request, word with)
{
    long result = trace(request, 0, (void *)with);
    if (result)
        note("cannot go on", result);
}

static long trace(word request, word address, const void *data) { return call4(__NR_ptrace, request, tracee.child, address, data); }

/* What the last stop was for. */
enum stop { SIGNAL_STOP, CALL_STOP, EVENT_STOP, GROUP_STOP };

enum { GOOD_OPTIONS = 1 | 1 << 7 | 1 << 6 | 1 << 4 }; /* calls are told from signals; seccomp, exit, exec are events */

static word random_options(void)
{
    return chance(80) ? GOOD_OPTIONS | (chance(50) ? 0 : 0x100000) : (word)(random_number() & 0x1ff) & ~0x2eul;
}

static int note_registers(word *registers)
{
    long result = trace(PTRACE_GETREGS, 0, registers);
    if (result)
        note("GETREGS", result);
    look_for_virtual_8086(registers[U_FLAGS]);
    int is_half = (half)registers[U_CS] != FLAT_CODE || is_harness(registers[U_IP]);
    for (int i = 0; i < USER_REGISTERS && !result; i++) {
        /* A null selector's ring is lost whenever an interrupt comes. It is not written back, either. */
        if (i >= U_FIRST_SELECTOR && i <= U_LAST_SELECTOR && registers[i] <= 3)
            registers[i] = 0;
        word r = place(registers[i]);
        /* The harness reads selectors by AX. */
        if (i == U_AX && r <= 3 && is_harness(registers[U_IP]))
            r = 0;
        note(user_names[i], i == U_SP && is_half ? (narrow)r : r);
    }
    return result == 0;
}

/* A breakpoint on the piece of code or a watchpoint on the stack of the pieces: the harness hits neither. */
static void set_breakpoint(void)
{
    word address = chance(70) ? shared->piece : chance(70) ? STACK + 3 * PAGE + below(64) * 8 : value();
    int which = below(4);
    word kind = address == shared->piece ? 0 : below(16);
    note("POKEUSER of a breakpoint", trace(POKE_USER, DEBUG_REGISTERS + which * sizeof(word), (void *)address));
    /* A value of any kind might be hit by the harness. */
    if (address != shared->piece && (address < STACK || address >= STACK_END))
        return;
    word control = (word)(1 + below(3)) << 2 * which | kind << (16 + 4 * which);
    note("POKEUSER of DR7", trace(POKE_USER, DEBUG_REGISTERS + 7 * sizeof(word), (void *)control));
}

static void clear_breakpoints(void)
{
    note("DR7 cleared", trace(POKE_USER, DEBUG_REGISTERS + 7 * sizeof(word), 0));
}

/* Without 16-bit segments Linux tells of a bad SS of the LDT in another way. */
static word of_version(int which, word with) { return is_old && which == U_SS ? with & ~4ul : with; }

static void change_registers(word *registers)
{
    for (int i = below(3); i >= 0; i--) {
        int which = below(USER_REGISTERS);
        word with = value();
        if (which == U_FLAGS)
            with = interesting_flags();
        else if (which == U_AX)
            with = harmless_number();
        else if (which == U_CS || which == U_SS || (which >= U_FIRST_SELECTOR && which <= U_LAST_SELECTOR))
            with = chance(90) ? selector() : value();
        else if (which == U_IP)
            with = (word)PICK(snippets).code;
        else if (which == U_ORIG_AX)
            with = chance(50) ? -1ul : harmless_number();
        with = of_version(which, with);
        registers[which] = with;
        say(user_names[which], with);
        if (which == U_IP)
            registers[U_AX] = harmless_number();
    }
    registers[U_CS] = code_to_go_on(registers[U_IP], registers[U_CS]);
    note("SETREGS", trace(PTRACE_SETREGS, 0, registers));
}

static void poke(word *registers)
{
    int which = below(USER_REGISTERS);
    word with = which == U_CS || which == U_SS || (which >= U_FIRST_SELECTOR && which <= U_LAST_SELECTOR) ? selector() : value();
    if (which == U_AX)
        with = harmless_number();
    if (which == U_ORIG_AX || which == U_IP)
        with = registers[which];
    if (which == U_CS)
        with = code_to_go_on(registers[U_IP], with);
    with = of_version(which, with);
    long result = trace(POKE_USER, which * sizeof(word) + (chance(5) ? below(8) : 0), (void *)with);
    note("POKEUSER", result);
    if (result == 0)
        registers[which] = with;
}

/* What a tracer may ask and do besides. */
static void ask(enum stop stop)
{
    static byte buffer[512];
    static struct {
        byte *at;
        word size;
    } vector;
    static struct {
        wide offset;
        narrow flags;
        int count;
    } peek;
    static wide mask;
    static const word notes_of_elf[] = { 1, 1, 2, 0x202, 0x200, 77 };
    fill(buffer, 0, sizeof buffer);
    switch (below(8)) {
    case 0: note("GETSIGMASK", trace(GET_MASK, chance(90) ? 8 : 4, &mask)); note("its mask", mask); break;
    case 1:
        mask = chance(50) ? 0 : random_number() & (chance(90) ? ~fault_signals() : ~0ull);
        note("SETSIGMASK", trace(SET_MASK, 8, &mask));
        say("to", mask);
        break;
    case 2:
        vector.at = buffer, vector.size = chance(80) ? 27 * 8 : below(300);
        word kind = PICK(notes_of_elf);
        note("GETREGSET", trace(GET_REGISTER_SET, kind, &vector));
        if (kind == 1)
            note("its size", vector.size);
        break;
    case 3:
        note("GET_SYSCALL_INFO", trace(GET_CALL, 80, buffer));
        note_words("call info", buffer, 8 / sizeof(word));
        if (*buffer) {
            ((word *)buffer)[16 / sizeof(word)] = 0;
            for (word i = 0; i < 48 / sizeof(word); i++)
                note("call info", place(((const word *)(buffer + 24))[i]));
        }
        break;
    case 4: {
        static word seen;
        word at = chance(70) ? DEBUG_REGISTERS + below(8) * sizeof(word) : below(950);
        /* Behind the registers there is what is each kernel's own. */
        if (at < DEBUG_REGISTERS || at >= DEBUG_REGISTERS + 8 * sizeof(word))
            at %= USER_REGISTERS * sizeof(word);
        if (at / sizeof(word) == U_SP)
            break;
        say("at", at);
        note("PEEKUSER", trace(PEEK_USER, at, &seen));
        note("peeked", at >= DEBUG_REGISTERS || seen > 3 ? place(seen) : 0);
        break;
    }
    case 5:
        peek.offset = 0, peek.flags = below(2), peek.count = 1;
        note("PEEKSIGINFO", trace(PEEK_INFO, (word)&peek, buffer));
        note_words("queued info", buffer, 3);
        break;
    case 6:
        if (stop != SIGNAL_STOP)
            break;
        note("GETSIGINFO", trace(GET_INFO, 0, buffer));
        ((int *)buffer)[0] = 1 + below(31);
        ((int *)buffer)[2] = -(int)below(5) - 1;
        note("SETSIGINFO", trace(SET_INFO, 0, buffer));
        break;
    default: note("SETOPTIONS", trace(SET_OPTIONS, 0, (void *)random_options())); break;
    }
}

/* Whether an instruction runs in this segment, wherever IP is. */
static int names_code(half selector)
{
    word entry = selector >> 3, is_local = selector & 4;
    if (is_local)
        return entry < 8 && shared->code_entries >> entry & 1;
    return selector == FLAT_CODE || selector == OTHER_CODE;
}

/* How the tracee goes on, with this signal. */
static void go_on(enum stop stop, const word *registers, word signal)
{
    int inside = !is_harness(registers[U_IP]);
    word how = CONTINUE;
    if (shared->is_waiting)
        how = CALLS; /* so that no entry is missed */
    else if (tracee.stops >= STOPS_OF_A_STEP)
        how = CONTINUE;
    else if (inside)
        how = chance(35) ? CALLS : chance(50) ? STEP : chance(20) ? (chance(70) ? PTRACE_SYSEMU : PTRACE_SYSEMU_SINGLESTEP) : CONTINUE;
    else if (stop == SIGNAL_STOP && chance(60))
        how = CALLS;
    /* Where CS names no code Linux takes the bytes at IP for an instruction all the same: one that loads flags makes TF the program's. */
    if ((how == STEP || how == PTRACE_SYSEMU_SINGLESTEP) && !names_code(registers[U_CS]))
        how = CONTINUE;
    if (stop == GROUP_STOP && tracee.is_seized && chance(50)) {
        /* The stop ends before it listens, which it then reports at once. */
        call3(__NR_kill, tracee.child, SIGCONT, 0);
        note("listens", 0);
        let_go(LISTEN, 0);
        return;
    }
    tracee.is_emulated = how == PTRACE_SYSEMU || how == PTRACE_SYSEMU_SINGLESTEP;
    note("goes on by", how);
    say("with signal", signal);
    let_go(how, signal);
}

/* A call that waits is about to be made. */
static void wake_up(word *registers)
{
    if (++tracee.waits > WAITS_OF_A_STEP) {
        registers[U_ORIG_AX] = -1;
        note("call taken away", trace(PTRACE_SETREGS, 0, registers));
        return;
    }
    if (chance(60)) {
        static const byte signals[] = { 10, 12, 14, 17, 18, 20, 23, 28, 34, 50 };
        call3(__NR_kill, tracee.child, PICK(signals), 0);
    }
    call3(__NR_kill, tracee.child, SIGSTOP, 0);
}

/* One stop of a tracee. */
static void look_at_stop(int status)
{
    if (shared->step != tracee.step) {
        tracee.step = shared->step;
        tracee.stops = tracee.waits = tracee.edits = 0;
    }
    tracee.stops++;
    shared->stops++;
    seed_chance(arguments.seed, tracee.script, (wide)(tracee.step + 2) << 20 | tracee.stops << 8);
    shared->crossings += 2;
    int signal = status >> 8 & 0xff, event = status >> 16;
    static byte info[128];
    static word registers[USER_REGISTERS];
    enum stop stop = event ? EVENT_STOP : signal & 0x80 ? CALL_STOP : SIGNAL_STOP;
    note("stop", status);
    long got = trace(GET_INFO, 0, info);
    if (stop == SIGNAL_STOP && got)
        stop = GROUP_STOP;
    if (event == 128 && signal != SIGTRAP)
        stop = GROUP_STOP;
    if (stop == SIGNAL_STOP)
        note_info(info);
    if (!note_registers(registers)) {
        let_go(CONTINUE, 0);
        return;
    }
    int inside = !is_harness(registers[U_IP]);
    int is_meeting = stop == SIGNAL_STOP && signal == SIGSTOP && !inside;
    /* Without TRACESYSGOOD a call looks like a trap. */
    int is_call = stop == CALL_STOP || (stop == SIGNAL_STOP && signal == SIGTRAP && *(int *)(info + 8) == SIGTRAP);
    if (is_call && !inside && tracee.is_emulated) {
        /* A call of the harness is to be made: an instruction of two bytes, once more. */
        registers[U_IP] -= 2;
        registers[U_AX] = registers[U_ORIG_AX];
        registers[U_ORIG_AX] = -1;
        trace(PTRACE_SETREGS, 0, registers);
    }
    int is_from_piece = inside || place(registers[U_IP]) != registers[U_IP]; /* SYSENTER and 32-bit SYSCALL: in the vDSO */
    if (is_call && is_from_piece && shared->is_waiting && is_wait(registers[U_ORIG_AX]) && (int)registers[U_AX] == -38)
        wake_up(registers);
    if (tracee.stops == TOO_MANY_STOPS) {
        /* It goes on by itself, perhaps to one more stop. */
        call3(__NR_kill, tracee.child, SIGKILL, 0);
        return;
    }
    if (is_meeting) {
        if (chance(60))
            clear_breakpoints();
        if (chance(45))
            set_breakpoint();
    }
    if (inside && tracee.edits < EDITS_OF_A_STEP && !shared->is_waiting) {
        tracee.edits++;
        if (chance(20))
            change_registers(registers);
        if (chance(10))
            poke(registers);
    }
    if (chance(20))
        ask(stop);
    if (tracee.is_seized && chance(3))
        note("INTERRUPT", trace(INTERRUPT, 0, 0));
    /* Signals of the harness are its own. */
    word with = stop == SIGNAL_STOP && !is_call ? signal : 0;
    if (is_meeting && chance(85))
        with = 0;
    else if (inside && stop == SIGNAL_STOP && chance(20))
        with = chance(50) ? 0 : (word)(1 + below(64));
    else if (inside && is_call && chance(10))
        with = 1 + below(64);
    /* A short wait may be over before it sees the signal. */
    if (is_call && !shared->is_waiting && is_wait(registers[U_ORIG_AX]))
        with = 0;
    if (with == SIGKILL || (with == SIGSTOP && !is_meeting && chance(50)))
        with = 0;
    /* A step or a breakpoint in the harness; but for those on its way in and back, it has no use for them. */
    if (stop == SIGNAL_STOP && signal == SIGTRAP && (inside ? chance(60) : registers[U_IP] < (word)armed || registers[U_IP] > (word)door_return))
        with = 0;
    if (is_meeting && !shared->is_waiting && chance(4)) {
        clear_breakpoints();
        shared->is_attached = 0;
        note("detached", 0);
        let_go(DETACH, with);
        return;
    }
    go_on(stop, registers, with);
}

/* It has stopped, and has no tracer: it gets one, perhaps, and goes on. */
static void look_at_job_stop(int status)
{
    tracee.stops++;
    shared->stops++;
    seed_chance(arguments.seed, tracee.script, (wide)(shared->step + 2) << 20 | tracee.stops << 8 | 1);
    note("stopped", status);
    if (is_traced && chance(50)) {
        tracee.is_seized = chance(50);
        word options = random_options();
        long result = tracee.is_seized ? trace(SEIZE, 0, (void *)options) : trace(ATTACH, 0, 0);
        note("attach", result);
        shared->is_attached = result == 0;
    }
    if (!shared->is_attached) {
        call3(__NR_kill, tracee.child, SIGCONT, 0);
        return;
    }
    /* It stops once more, for its tracer. */
    int stop = 0;
    note("attached", call4(__NR_wait4, tracee.child, &stop, WALL, 0) == tracee.child);
    call3(__NR_kill, tracee.child, SIGCONT, 0);
    look_at_stop(stop);
}

static void end_tracee(void)
{
    int status = 0;
    call3(__NR_kill, tracee.child, SIGKILL, 0);
    /* It may stop for its tracer once more. */
    while (call4(__NR_wait4, tracee.child, &status, WALL, 0) == tracee.child && (status & 0xff) == 0x7f)
        trace(CONTINUE, 0, 0);
}

/* Waits for a script, and ends it when it takes too long, which no result depends on but one that says so. */
static int wait_for(void)
{
    int status = 0;
    wide set = signal_bit(SIGCHLD);
    for (;;) {
        long got = call4(__NR_wait4, tracee.child, &status, NO_HANG | UNTRACED | WALL, 0);
        if (got == tracee.child && (status & 0xff) == 0x7f) {
            if (shared->is_attached)
                look_at_stop(status);
            else
                look_at_job_stop(status);
            continue;
        }
        if (got == tracee.child)
            return status;
        if (got < 0)
            return -1;
        struct {
            long seconds, nanoseconds;
        } patience = { PATIENCE, 0 };
        if (call4(__NR_rt_sigtimedwait, &set, 0, &patience, 8) == -11) {
            end_tracee();
            return 0xdead;
        }
    }
}

/* A script is about to begin. Whether it asks for its tracer itself. */
static int choose_tracer(word script)
{
    seed_chance(arguments.seed, script, -2);
    is_traced = chance(TRACED);
    int asks = is_traced && chance(40);
    tracee.script = script;
    tracee.step = tracee.stops = tracee.waits = tracee.edits = 0;
    tracee.is_seized = tracee.is_emulated = 0;
    shared->is_attached = asks;
    shared->is_waiting = shared->code_entries = shared->stops = 0;
    shared->step = NO_STEP;
    return asks;
}

#endif
