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
    /* For the tracer: the piece of code that comes, whether it calls what waits, and which entries of the LDT are code of
     * 4 GiB (bits). From it: whether it is there, and how often the script stopped. */
    word piece, is_waiting, code_entries, is_attached, stops;
    /* How much of the log there is. */
    word logged;
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

/* Where lines go of a script that a tracer looks at: it is not to see the calls that print them. */
#define LOG 0x20000000ul
enum { LOG_SIZE = 0x1000000 };
static int is_log_kept;

/* One write, so that lines of several processes do not mix. */
static void flush_line(void)
{
    put_char('\n');
    if (is_log_kept && shared->logged + line_length < LOG_SIZE) {
        copy((char *)LOG + shared->logged, line, line_length);
        shared->logged += line_length;
    } else {
        call3(__NR_write, output, line, line_length);
    }
    line_length = 0;
}

static void print_log(void)
{
    for (word at = 0; at < shared->logged;) {
        long written = call3(__NR_write, output, LOG + at, shared->logged - at);
        if (written <= 0)
            break;
        at += written;
    }
    shared->logged = 0;
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

/* The emulator has a virtual-8086 mode in long mode, by IRET. Nothing holds behind it: the boot ends. */
static void look_for_virtual_8086(wide flags)
{
    enum { VM = 1 << 17 };
    if (flags & VM)
        restart_machine();
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
