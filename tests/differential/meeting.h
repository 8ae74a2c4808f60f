/* Where a script stops for its parent, so that it is traced, or goes on, from a place which both know. */
#ifndef MEETING_H
#define MEETING_H

#include "handler.h"

enum { TRACED = 35, STOPPED = 3 }; /* scripts, and pieces of code in the others, out of a hundred */

/* Whether the script has a tracer, which starts with it. */
static int is_traced;

/* Calls that wait, if no signal comes. A tracer sends one. */
static const struct {
    const char *name;
    short wide, narrow;
    word arguments[6];
} waits[] = {
    { "pause", 34, 29, { 0 } },
    { "nanosleep", 35, 162, { DATA + 3 * PAGE, DATA + 3 * PAGE + 64 } },
    { "clock_nanosleep", 230, 267, { 1, 0, DATA + 3 * PAGE, DATA + 3 * PAGE + 64 } },
    { "rt_sigsuspend", 130, 179, { DATA + 2 * PAGE, 8 } },
    { "futex", 202, 240, { DATA + 2 * PAGE, 0, 0, 0 } },
    { "poll", 7, 168, { 0, 0, -1ul } },
    { "poll for long", 7, 168, { 0, 0, 100000 } },
    { "rt_sigtimedwait", 128, 177, { DATA + 2 * PAGE, 0, 0, 8 } },
};

static int is_wait(word number)
{
    enum { RESTART_WIDE = 219, RESTART_NARROW = 0 };
    if (number == RESTART_WIDE || number == RESTART_NARROW)
        return 1;
    for (word i = 0; i < COUNT(waits); i++)
        if (number == (word)waits[i].wide || number == (word)waits[i].narrow)
            return 1;
    return 0;
}

/* Puts a call that waits into the registers. */
static void choose_wait(struct registers *registers, enum door door)
{
    int which = below(COUNT(waits));
    const byte *places = argument_registers[door];
    /* Times of a thousand seconds, a set of no signals. */
    fill((void *)(DATA + 2 * PAGE), 0, 64);
    *(volatile narrow *)(DATA + 3 * PAGE) = 1000;
    fill((void *)(DATA + 3 * PAGE + 4), 0, 124);
    for (int i = 0; i < argument_counts[door]; i++)
        registers->r[places[i]] = waits[which].arguments[i];
    registers->r[AX] = door == SYSCALL ? waits[which].wide : waits[which].narrow;
    if (logging) {
        put("  wait ");
        put(waits[which].name);
        flush_line();
    }
}

/* Before a piece of code, of which no line is printed any more: its calls are for the tracer to see. */
static void meet(struct registers *registers, word piece, int waits)
{
    int was_waiting = shared->is_waiting;
    if (!is_traced && !chance(STOPPED))
        return;
    shared->piece = piece;
    shared->is_waiting = was_waiting | waits;
    shared->crossings += 2;
    call3(__NR_kill, own_process, SIGSTOP, 0);
    /* Nobody would wake it. */
    if (waits && !shared->is_attached)
        registers->r[AX] = harmless_number();
}

#endif
