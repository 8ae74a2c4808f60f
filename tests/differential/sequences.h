/* Restartable sequences: an area, and descriptors that may hold the piece of code which runs next. */
#ifndef SEQUENCES_H
#define SEQUENCES_H

#include "calls.h"
#include "doors.h"
#include "notes.h"

#define SEQUENCE_AREA 0x10500000ul
enum { SIGNATURE = 0x53053053, AREA_SIZE = 32, UNREGISTER = 1 };

struct area {
    narrow cpu_start, cpu;
    wide sequence;
    narrow flags, node, concurrency, reserved;
};

struct descriptor {
    narrow version, flags;
    wide start, length, abort;
} __attribute__((aligned(32)));

/* Where an aborted sequence goes on, behind the signature. */
asm(".pushsection pieces, \"ax\"\n.long " STRING(0x53053053) "\nsequence_abort: jmp door_return\n.popsection");
extern const char sequence_abort[];

#define THE_AREA ((volatile struct area *)SEQUENCE_AREA)
#define THE_DESCRIPTOR ((volatile struct descriptor *)(SEQUENCE_AREA + 64))

static int has_area;

static void register_area(void)
{
    if (!chance(35))
        return;
    long result = call4(__NR_rseq, SEQUENCE_AREA, AREA_SIZE, 0, SIGNATURE);
    note("rseq", result);
    has_area = result == 0;
}

/* Before a piece of code: it may be a sequence. Says so. */
static int choose_sequence(word piece)
{
    if (!has_area || !chance(35))
        return 0;
    /* What versions of Linux look at in different ways is 0, or good: flags, where the descriptor and the abort handler are, an end
     * that wraps. */
    static const byte lengths[] = { 0, 1, 2, 4, 30, 40 };
    THE_DESCRIPTOR->start = chance(80) ? piece : piece - below(32);
    THE_DESCRIPTOR->length = PICK(lengths);
    THE_DESCRIPTOR->abort = (word)sequence_abort;
    if (THE_DESCRIPTOR->abort - THE_DESCRIPTOR->start < THE_DESCRIPTOR->length)
        THE_DESCRIPTOR->length = 0;
    say("sequence from", THE_DESCRIPTOR->start);
    say("sequence length", THE_DESCRIPTOR->length);
    return 1;
}

/* Runs a piece of code as a sequence. A switch of tasks ends one, too, which is a matter of time: it runs again then, as programs do. */
static void run_sequence(void)
{
    enum { ATTEMPTS = 4, DATA_SIZE = 256 * sizeof(word) };
    static byte data[DATA_SIZE];
    word signals = shared->signals, stops = shared->stops;
    copy(data, (void *)DATA, DATA_SIZE);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        /* From here on nothing calls the kernel. */
        THE_AREA->sequence = (word)THE_DESCRIPTOR;
        run();
        if (THE_AREA->sequence || shared->signals != signals || shared->stops != stops)
            return;
        if (attempt + 1 < ATTEMPTS)
            copy((void *)DATA, data, DATA_SIZE);
    }
}

/* Behind it. That it was left is noticed no later than at a signal. */
static void note_sequence(int had_signal)
{
    if (!has_area)
        return;
    if (had_signal)
        note("sequence", THE_AREA->sequence);
    THE_AREA->sequence = 0;
    if (chance(3)) {
        note("rseq ends", call4(__NR_rseq, SEQUENCE_AREA, AREA_SIZE, UNREGISTER, SIGNATURE));
        has_area = 0;
    }
}

#endif
