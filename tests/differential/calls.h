/* Which system calls a script makes, with which arguments. All give the same in each kernel at any time: no clocks, no
 * numbers of other processes, nothing that waits. */
#ifndef CALLS_H
#define CALLS_H

#include "chance.h"
#include "doors.h"

/* What an argument is: any value, a pointer (into the data), a size of a signal set, a signal, a small number, or one of a list. */
enum kind { ANY, POINTER, SET, SIGNAL, SMALL, LIST, OPTION, DESCRIPTOR, OWN, AREA, NOTHING, ZERO, LENGTH };

struct call {
    const char *name;
    short wide, narrow; /* the numbers in both tables; -1: not in this one */
    byte kinds[6];
    const word *list;
    byte length;
};

static const word arch_codes[] = { 0x1001, 0x1002, 0x1003, 0x1004, 0x1011, 0x1000, 0x9999, 0x2001 };
static const word controls[] = { 1, 2, 3, 4, 7, 8, 14, 15, 16, 21, 23, 25, 26, 30, 31, 32, 36, 37, 38, 39, 59, 1000 };
static const word ldt_functions[] = { 0, 1, 2, 0x11, 3 };
static const word how[] = { 0, 1, 2, 3 };
static const word personas[] = { 0xffffffff, 0, 0x8, 0x40000, 0xffffffff };
static const word levels[] = { 0, 3, 1, 4 };
static const word operations[] = { 0, 1, 128, 129, 9, 10, 0x1000 };
static const word whence[] = { 0, 1, 2, 3, 4, 5 };
static const word filters[] = { 0, 1, 2, 3, 9 };
static const word advice[] = { 0, 4, 10, 99 };
static const word protections[] = { 0, 1, 3, 5, 7, 8 };

#define L(list) list, COUNT(list)
static const struct call calls[] = {
    { "getppid", 110, 64, { ANY, ANY, ANY, ANY, ANY, ANY }, 0, 0 },
    { "getuid", 102, 24, { ANY, ANY, ANY, ANY, ANY, ANY }, 0, 0 },
    { "getpid", 39, 20, { ANY, ANY, ANY, ANY, ANY, ANY }, 0, 0 },
    { "gettid", 186, 224, { ANY, ANY, ANY, ANY, ANY, ANY }, 0, 0 },
    { "getpgrp", 111, 65, { ANY, ANY, ANY, ANY, ANY, ANY }, 0, 0 },
    { "umask", 95, 60, { ANY, ANY, ANY, ANY, ANY, ANY }, 0, 0 },
    { "sched_yield", 24, 158, { ANY, ANY, ANY, ANY, ANY, ANY }, 0, 0 },
    { "rt_sigprocmask", 14, 175, { LIST, POINTER, POINTER, SET }, L(how) },
    { "rt_sigprocmask", 14, 175, { ANY, POINTER, POINTER, SET }, 0, 0 },
    { "sigprocmask", -1, 126, { LIST, POINTER, POINTER }, L(how) },
    { "rt_sigpending", 127, 176, { POINTER, SET }, 0, 0 },
    { "sigpending", -1, 73, { POINTER }, 0, 0 },
    { "rt_sigreturn", 15, 173, { ANY, ANY, ANY, ANY, ANY, ANY }, 0, 0 },
    { "sigreturn", -1, 119, { ANY, ANY, ANY, ANY, ANY, ANY }, 0, 0 },
    { "rt_sigaction", 13, 174, { SIGNAL, NOTHING, POINTER, SET }, 0, 0 },
    { "sigaltstack", 131, 186, { POINTER, POINTER }, 0, 0 },
    { "sigaltstack", 131, 186, { NOTHING, POINTER }, 0, 0 },
    { "kill", 62, 37, { ZERO, SIGNAL }, 0, 0 },
    { "kill", 62, 37, { OWN, SIGNAL }, 0, 0 },
    { "tgkill", 234, 270, { OWN, OWN, SIGNAL }, 0, 0 },
    { "tkill", 200, 238, { OWN, SIGNAL }, 0, 0 },
    { "rt_sigqueueinfo", 129, 178, { OWN, SIGNAL, POINTER }, 0, 0 },
    { "rt_tgsigqueueinfo", 297, 335, { OWN, OWN, SIGNAL, POINTER }, 0, 0 },
    { "rt_sigtimedwait", 128, 177, { POINTER, POINTER, AREA, SET }, 0, 0 },
    { "arch_prctl", 158, 384, { LIST, POINTER }, L(arch_codes) },
    { "arch_prctl", 158, 384, { LIST, ANY }, L(arch_codes) },
    { "modify_ldt", 154, 123, { LIST, POINTER, SMALL }, L(ldt_functions) },
    { "set_thread_area", 205, 243, { POINTER }, 0, 0 },
    { "get_thread_area", 211, 244, { POINTER }, 0, 0 },
    { "iopl", 172, 110, { LIST }, L(levels) },
    { "ioperm", 173, 101, { SMALL, SMALL, SMALL }, 0, 0 },
    { "personality", 135, 136, { LIST }, L(personas) },
    { "prctl", 157, 172, { OPTION, SMALL, NOTHING, NOTHING, NOTHING }, L(controls) },
    { "prctl", 157, 172, { OPTION, ANY, ANY, ANY, ANY }, L(controls) },
    { "futex", 202, 240, { POINTER, LIST, SMALL, AREA, POINTER, ANY }, L(operations) },
    { "set_robust_list", 273, 311, { POINTER, SMALL }, 0, 0 },
    { "get_robust_list", 274, 312, { OWN, POINTER, POINTER }, 0, 0 },
    { "close", 3, 6, { ANY }, 0, 0 },
    { "dup", 32, 41, { ANY }, 0, 0 },
    { "read", 0, 3, { DESCRIPTOR, POINTER, SMALL }, 0, 0 },
    { "write", 1, 4, { DESCRIPTOR, POINTER, SMALL }, 0, 0 },
    { "lseek", 8, 19, { DESCRIPTOR, ANY, LIST }, L(whence) },
    { "seccomp", 317, 354, { LIST, NOTHING, POINTER }, L(filters) },
    { "mincore", 27, 218, { POINTER, LENGTH, POINTER }, 0, 0 },
    { "mprotect", 10, 125, { AREA, LENGTH, LIST }, L(protections) },
    { "madvise", 28, 219, { AREA, LENGTH, LIST }, L(advice) },
    { "getresuid", 118, 165, { POINTER, POINTER, POINTER }, 0, 0 },
    { "getpriority", 140, 96, { ZERO, ZERO }, 0, 0 },
    { "getitimer", 36, 105, { SMALL, POINTER }, 0, 0 },
    { "alarm", 37, 27, { ZERO }, 0, 0 },
    { "nanosleep", 35, 162, { AREA, POINTER }, 0, 0 },
    { "poll", 7, 168, { POINTER, ZERO, ZERO }, 0, 0 },
    { "getcwd", 79, 183, { POINTER, SMALL }, 0, 0 },
    { "wait4", 61, 114, { ANY, POINTER, SMALL, POINTER }, 0, 0 },
};

/* A Linux without 16-bit segments, and older than 6.9: an IRET that fails with an SS of the LDT tells its error code, and the
 * 32-bit sigreturn loads null selectors anew, which clears the bases. Before 6.12 rt_sigreturn looks at the stack pointer that it
 * restores, when it restores the alternate stack, and does that last. None of it is tried there. */
static int is_old;

static int is_tried(const struct call *call, long number)
{
    int is_sigreturn = call->wide == 15 || call->narrow == 119;
    int sets_stack = call->wide == 131 && call->kinds[0] == POINTER;
    return number >= 0 && !(is_old && (call->list == ldt_functions || is_sigreturn || sets_stack));
}

static void fill_data(void)
{
    word *words = (word *)DATA;
    for (int i = 0; i < 256; i++)
        words[i] = chance(40) ? 0 : chance(50) ? value() : random_number();
}

static word argument(const struct call *call, enum kind kind, word own)
{
    static const word signals[] = { 0, 1, 4, 5, 7, 8, 10, 10, 11, 12, 17, 18, 23, 28, 31, 33, 34, 40, 63, 64, 65 };
    static const word sizes[] = { 8, 8, 8, 8, 8, 8, 4, 16, 0, -1 };
    /* What would wait gets no other value. */
    if (kind == AREA)
        return chance(50) ? READ_ONLY : CLOSED;
    if (kind == ZERO)
        return 0;
    /* What the list does not have the versions do not agree on. */
    if (kind == OPTION)
        return call->list[below(call->length)];
    /* Signals go to the script alone. */
    if (kind == OWN)
        return own;
    if (kind == LENGTH)
        return below(300);
    if (chance(4))
        return value();
    switch (kind) {
    case POINTER: return pointer();
    case SET: return PICK(sizes);
    case SIGNAL: return PICK(signals);
    case SMALL: return chance(50) ? 16 : below(300);
    case LIST: return call->list[below(call->length)];
    case DESCRIPTOR: return 3 + below(5);
    case NOTHING: return 0;
    default: return value();
    }
}

/* Numbers that there are not: RAX for one. */
static word odd_number(void)
{
    static const wide numbers[] = { 1000, 0x3ff, 0xffffffff, 0xfffffffe, 0xfffffe00, 0xfffffdff, 0xfffffdfc, -1ull, -512ull, -513ull, -514ull, -516ull, 0x80000000,
                                    0x7fffffff, 0x40000000 + 110, 0x40000000 + 600, 0x40000000 - 1, 0x10000006e, 0xdeadbeef0000006e, 1ull << 63 };
    return chance(70) ? PICK(numbers) : 600 + below(1 << 20);
}

/* Puts a call and its arguments into the registers. */
static void choose_call(struct registers *registers, enum door door, word own)
{
    const byte *places = argument_registers[door];
    if (chance(8)) {
        registers->r[AX] = odd_number();
        say("odd number", registers->r[AX]);
        return;
    }
    const struct call *call;
    int number;
    do {
        call = &PICK(calls);
        number = door == SYSCALL ? call->wide : call->narrow;
    } while (!is_tried(call, number));
    registers->r[AX] = number;
    if (chance(5))
        registers->r[AX] |= (word)(random_number() << 32);
    for (int i = 0; i < argument_counts[door]; i++)
        registers->r[places[i]] = argument(call, call->kinds[i], own);
    /* A third mode of PR_SET_SYSCALL_USER_DISPATCH is newer than Linux 6.12. */
    if (call->list == controls && registers->r[places[0]] == 59 && registers->r[places[1]] == 2)
        registers->r[places[1]] = 1;
    /* See `drop_stale_segments`. */
    int changes_segments = call->list == ldt_functions || call->wide == 205 /* set_thread_area */;
    for (int i = 2; changes_segments && i < 4; i++)
        in_segments[i] = 0;
    if (logging) {
        put("  call ");
        put(call->name);
        for (int i = 0; i < argument_counts[door]; i++) {
            put(i ? ", " : " ");
            put_hex(registers->r[places[i]]);
        }
        flush_line();
    }
}

#endif
