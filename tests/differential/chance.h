/* Random numbers, and the values that registers and arguments get. Each step has numbers of its own, so that the others of
 * a script stay as they are when one is left out. */
#ifndef CHANCE_H
#define CHANCE_H

#include "system.h"

static wide chance_state;

static void seed_chance(wide seed, wide index, wide step)
{
    chance_state = seed * 0x9e3779b97f4a7c15 ^ (index + 1) * 0xbf58476d1ce4e5b9 ^ (step + 1) * 0x94d049bb133111eb;
}

static wide random_number(void)
{
    wide z = chance_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static narrow below(narrow limit) { return (narrow)random_number() % limit; }

/* Whether something happens that does so `percent` times out of a hundred. */
static int chance(narrow percent) { return below(100) < percent; }

#define PICK(array) (array)[below(COUNT(array))]

/* The places: see `map_places`. */
#define DATA 0x10000000ul /* four pages, then one that is not there, one to read, one of no use, one with code */
#define HOLE (DATA + 4 * PAGE)
#define READ_ONLY (DATA + 5 * PAGE)
#define CLOSED (DATA + 6 * PAGE)
#define CODE (DATA + 7 * PAGE)
#define STACK 0x10100000ul
#define STACK_END (STACK + 4 * PAGE)
#define ALTERNATE 0x10200000ul
#define ALTERNATE_SIZE 0x8000ul
#define OWN_STACKS 0x10300000ul
#define OWN_STACK 0x8000ul
#define SHARED_PAGES 0x10400000ul
#ifdef __x86_64__
#define LAST_PAGE 0x7fffffffe000ul /* of user addresses */
#endif

static word near(word place) { return place - 32 + below(64); }

/* Selectors of the segment by whose limit Linux tells the number of the CPU: the reference kernel has none. */
static word no_cpu_segment(word value) { return (value & 0xfffc) == 0x78 ? value ^ 8 : value; }

static word any_value(void)
{
    static const wide odd[] = {
        0, 1, 2, 3, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff, 0x100000000, 0x7fffffffeffe, 0x7fffffffefff,
        0x7ffffffff000, 0x7fffffffffff, 0x800000000000, 0x800000000001, 0xffff7fffffffffff, 0xffff800000000000, 0xffff888000000000,
        0xffffc90000000000, 0xfffffe0000000000, 0xfffffe0000001000, 0xffffffff81000000, 0xffffffffff5ff000, 0xfffffffffffff000,
        -512ull, -513ull, -514ull, -516ull, -4096ull, -1ull, 1ull << 63, 0x7fffffffffffffff,
    };
    static const word places[] = { DATA, DATA, DATA, DATA + PAGE, HOLE, READ_ONLY, CLOSED, CLOSED + PAGE, STACK_END, ALTERNATE, CODE };
    switch (below(8)) {
    case 0:
    case 1: return PICK(odd);
    case 2: return below(256);
    case 3: return random_number();
    case 4: return near(PICK(places));
    case 5: return DATA + below(4 * PAGE / 8) * 8;
    case 6: return -(word)below(64);
    default: return PICK(places) + 64 * below(8);
    }
}

/* Not where the 32-bit vDSO is in each boot, whose addresses are all taken for one. */
static word no_vdso(word value) { return sizeof(word) == 4 && value >> 24 == 0xf7 ? value ^ 0x01000000 : value; }

/* A value for a register. */
static word value(void) { return no_vdso(no_cpu_segment(any_value())); }

/* A pointer: mostly a good one. */
static word pointer(void) { return chance(75) ? DATA + below(256) * 8 : value(); }

#endif
