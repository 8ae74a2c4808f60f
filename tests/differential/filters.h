/* Seccomp filters: each lets the harness alone, and asks at random about what the pieces of code call. */
#ifndef FILTERS_H
#define FILTERS_H

#include "calls.h"
#include "notes.h"

enum { LOAD_WORD = BPF_LD | BPF_W | BPF_ABS, RETURN = BPF_RET | BPF_K, FILTER_LENGTH = 24, NO_NEW_PRIVS = 38 };

static word action(void)
{
    static const narrow actions[] = { SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_ERRNO, SECCOMP_RET_TRAP, SECCOMP_RET_TRAP,
                                      SECCOMP_RET_TRACE, SECCOMP_RET_USER_NOTIF, SECCOMP_RET_LOG, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_KILL_PROCESS, 0x12340000 };
    narrow chosen = chance(80) ? actions[below(6)] : PICK(actions);
    return chosen | (chance(50) ? below(200) : (half)random_number());
}

/* One instruction of the body, of which `left` come behind it. */
static struct sock_filter instruction(int left)
{
    static const half jumps[] = { BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET };
    static const half arithmetic[] = { BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_AND, BPF_OR, BPF_LSH, BPF_RSH, BPF_NEG, BPF_XOR };
    static const half moves[] = { BPF_MISC | BPF_TAX, BPF_MISC | BPF_TXA, BPF_LDX | BPF_IMM, BPF_LD | BPF_IMM, BPF_ST, BPF_LD | BPF_MEM };
    switch (below(6)) {
    case 0:
    case 1: return (struct sock_filter){ LOAD_WORD, 0, 0, 4 * below(16) };
    case 2: return (struct sock_filter){ BPF_ALU | PICK(arithmetic) | (chance(30) ? BPF_X : BPF_K), 0, 0, 1 + below(31) };
    case 3: {
        half move = PICK(moves);
        /* A word of the filter's memory has to be written before it is read. */
        return (struct sock_filter){ move == (BPF_LD | BPF_MEM) ? BPF_ST : move, 0, 0, below(16) };
    }
    case 4: return (struct sock_filter){ RETURN, 0, 0, action() };
    default:
        return (struct sock_filter){ BPF_JMP | PICK(jumps) | (chance(20) ? BPF_X : BPF_K), below(left), below(left),
                                     chance(60) ? (word)PICK(calls).narrow : value() };
    }
}

/* Whether one is in force. */
static int has_filter;

/* A filter that applies to calls of the pieces alone: the instruction pointer is behind the number and the architecture. */
static void set_filter(void)
{
    static struct sock_filter filter[FILTER_LENGTH + 8];
    static struct {
        half length;
        struct sock_filter *filter;
    } program;
    int at = 0, length = 1 + below(FILTER_LENGTH);
    filter[at++] = (struct sock_filter){ LOAD_WORD, 0, 0, 8 };
    filter[at++] = (struct sock_filter){ BPF_JMP | BPF_JGE | BPF_K, 1, 0, (word)__start_pieces };
    filter[at++] = (struct sock_filter){ RETURN, 0, 0, SECCOMP_RET_ALLOW };
    filter[at++] = (struct sock_filter){ BPF_JMP | BPF_JGE | BPF_K, 0, 1, (word)__stop_pieces };
    filter[at++] = (struct sock_filter){ RETURN, 0, 0, SECCOMP_RET_ALLOW };
    filter[at++] = (struct sock_filter){ LOAD_WORD, 0, 0, 4 * below(16) };
    for (int left = length; left > 0; left--)
        filter[at++] = instruction(left);
    filter[at++] = (struct sock_filter){ RETURN, 0, 0, action() };
    if (chance(5))
        filter[6 + below(length)].code = random_number();
    program.length = at;
    program.filter = filter;
    if (chance(50))
        note("no new privileges", call5(__NR_prctl, NO_NEW_PRIVS, 1, 0, 0, 0));
    long set = call3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, chance(20) ? SECCOMP_FILTER_FLAG_LOG : 0, &program);
    note("filter", set);
    has_filter |= set == 0;
    shared->crossings++;
    if (chance(10))
        note("mode", call5(__NR_prctl, 21, 0, 0, 0, 0));
}

#endif
