/* Pieces of code that cross the boundary, the way into them with all registers chosen, and the way back, by which all are recorded;
 * for the width that this is compiled for. */
#ifndef DOORS_H
#define DOORS_H

#include "system.h"

#ifdef __x86_64__
enum { AX, BX, CX, DX, SI, DI, BP, SP, R8, R9, R10, R11, R12, R13, R14, R15, REGISTERS };

static const char *const register_names[] = { "ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
                                              "r15", "flags" };
#else
enum { AX, BX, CX, DX, SI, DI, BP, SP, REGISTERS };

static const char *const register_names[] = { "ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "flags" };
#endif

struct registers {
    word r[REGISTERS], flags;
};

/* `in`: what `run` loads; `out`: what came back; `at_handler`: what a handler was entered with. */
__attribute__((used)) static struct registers in, out, at_handler;
/* Selectors: ds, es, fs, gs. `KEEP` leaves fs and gs alone. */
enum { KEEP = 0x10000 };
__attribute__((used)) static narrow in_segments[4], out_segments[5];
/* Where to go, and how: `launch_near`, or `launch_far` with a selector. */
__attribute__((used)) static word in_launch, in_entry, door_stack, handler_stack;
__attribute__((used)) static struct { narrow offset; half selector; } in_far;

extern void run(void);
extern const char armed[], end_of_run[], launch_near[], launch_far[], door_return[], signal_entry[], signal_restorer[];
extern const char __executable_start[], etext[], __start_pieces[], __stop_pieces[];

/* How the code asks for a system call: which table, which registers. */
enum door { NONE, SYSCALL, INT80 };

struct snippet {
    const char *name, *code;
    enum door door;
    int compat; /* code of the other width */
};

#ifdef __x86_64__
#include "doors64.h"
#else
#include "doors32.h"
#endif

#endif
