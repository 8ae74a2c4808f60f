/* What a script has seen: each observable is folded into a hash, and printed where one script is looked at.
 *
 * `note` is an observable. `say` is for the reader only: what a step is about to do. */
#ifndef NOTES_H
#define NOTES_H

#include "system.h"

/* Shared by all processes of a script. */
struct shared {
    wide hash;
    word crossings, signals, step;
};

/* Of the worker: one page for each. */
static volatile struct shared *shared;
static int logging;
/* Where lines go. */
static int output = 1;

static char line[512];
static int line_length;

static void put_char(char c)
{
    if (line_length < (int)sizeof line)
        line[line_length++] = c;
}

static void put(const char *text)
{
    while (*text)
        put_char(*text++);
}

static void put_hex(wide value)
{
    int shift = 60;
    while (shift && !(value >> shift & 15))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        put_char("0123456789abcdef"[value >> shift & 15]);
}

static void put_decimal(word value)
{
    if (value >= 10)
        put_decimal(value / 10);
    put_char('0' + value % 10);
}

/* One write, so that lines of several processes do not mix. */
static void flush_line(void)
{
    put_char('\n');
    call3(__NR_write, output, line, line_length);
    line_length = 0;
}

static void say(const char *what, wide value)
{
    if (!logging)
        return;
    put("  ");
    put(what);
    put(" ");
    put_hex(value);
    flush_line();
}

static void note(const char *what, wide value)
{
    wide hash = shared->hash ^ value;
    hash *= 0x9e3779b97f4a7c15;
    shared->hash = hash ^ hash >> 29;
    if (logging) {
        put("| ");
        put(what);
        put(" ");
        put_hex(value);
        flush_line();
    }
}

static void note_words(const char *what, const void *at, int count)
{
    const word *words = at;
    for (int i = 0; i < count; i++) {
        if (!logging || words[i])
            note(what, words[i] ^ (wide)i << 56);
    }
}

#endif
