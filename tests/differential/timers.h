/* Timers, whose signals hit a loop of one instruction: so it does not matter when they come. */
#ifndef TIMERS_H
#define TIMERS_H

#include "calls.h"
#include "notes.h"

enum { SIGALRM = 14, SIGVTALRM = 26, SIGPROF = 27, SOON = 1000 /* microseconds */, MONOTONIC = 1 };

#ifdef __x86_64__
enum { LONG = 8, SETITIMER = 38, TIMER_SETTIME = 223 };
WIDE(spin, "syscall; spin_of_syscall: jmp spin_of_syscall")
COMPAT(c_spin, "int $0x80; spin_of_int80: jmp spin_of_int80")
#define SPIN_CODE s_spin
#define SPIN_DOOR SYSCALL
#else
enum { LONG = 4, SETITIMER = 104, TIMER_SETTIME = 260 };
NARROW(spin, "int $0x80; spin_of_int80: jmp spin_of_int80")
WIDE(w_spin, "syscall; spin_of_syscall: jmp spin_of_syscall")
#define SPIN_CODE s_spin
#define SPIN_DOOR INT80
#endif
extern const char spin_of_syscall[], spin_of_int80[];

static int is_spinning(word ip) { return ip == (word)spin_of_syscall || ip == (word)spin_of_int80; }

static const struct snippet spin = { "spin", SPIN_CODE, SPIN_DOOR, 0 };

/* Registers for `spin`: the call that sets a timer. */
static void choose_timer(struct registers *registers)
{
    static struct {
        word interval[2], value[2];
    } setting;
    static narrow event[16];
    static int timer;
    const byte *places = argument_registers[SPIN_DOOR];
    setting.interval[0] = setting.interval[1] = setting.value[0] = 0;
    setting.value[1] = SOON;
    word r[4] = { below(3), (word)&setting, 0, 0 };
    registers->r[AX] = SETITIMER;
    if (chance(50)) {
        /* struct sigevent: the value, the signal, how. */
        word number = value();
        copy(event, &number, sizeof number);
        event[sizeof(word) / 4] = chance(50) ? SIGALRM : 34 + below(30);
        event[sizeof(word) / 4 + 1] = 0;
        long made = call3(__NR_timer_create, MONOTONIC, event, &timer);
        note("timer_create", made);
        if (made == 0) {
            setting.value[1] = SOON * 1000;
            registers->r[AX] = TIMER_SETTIME;
            r[0] = timer, r[1] = 0, r[2] = (word)&setting;
        }
    }
    for (int i = 0; i < 4; i++)
        registers->r[places[i]] = r[i];
    /* Single steps would come until the timer does. */
    registers->flags &= ~0x100ul;
    say("timer", registers->r[AX]);
    wide none = 0;
    call4(__NR_rt_sigprocmask, 2, &none, 0, 8);
}

#endif
