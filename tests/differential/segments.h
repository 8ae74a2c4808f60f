/* Segments of the program's own: the LDT, thread-local storage, the bases of FS and GS. */
#ifndef SEGMENTS_H
#define SEGMENTS_H

#include "calls.h"
#include "notes.h"

#ifdef __x86_64__
enum { SET_THREAD_AREA = 243, FIRST_TLS = 12 };

/* 64-bit programs have no such call: it is one of the 32-bit table. */
static long set_thread_area(const struct user_desc *segment)
{
    long result = SET_THREAD_AREA;
    asm volatile("int $0x80" : "+a"(result) : "b"(segment) : "memory", "r8", "r9", "r10", "r11");
    return result;
}

static void set_bases(void)
{
    word base = chance(50) ? DATA : value();
    note("arch_prctl", call3(__NR_arch_prctl, chance(50) ? 0x1002 : 0x1001, base, 0));
}

static void note_bases(void)
{
    static word bases[2];
    call3(__NR_arch_prctl, 0x1003, &bases[0], 0);
    call3(__NR_arch_prctl, 0x1004, &bases[1], 0);
    shared->crossings += 2;
    note("FS base", bases[0]);
    note("GS base", bases[1]);
}
#else
enum { FIRST_TLS = 12 };

static long set_thread_area(const struct user_desc *segment) { return call3(__NR_set_thread_area, segment, 0, 0); }
static void set_bases(void) {}
static void note_bases(void) {}
#endif

static struct user_desc random_segment(void)
{
    struct user_desc segment = { .base_addr = chance(50) ? 0 : value(), .limit = chance(50) ? 0xfffff : value(),
                                 .seg_32bit = is_old || chance(85), .contents = below(4), .read_exec_only = below(2),
                                 .limit_in_pages = chance(70), .seg_not_present = chance(15), .useable = below(2) };
#ifdef __x86_64__
    segment.lm = chance(5);
#endif
    return segment;
}

static void set_segment(void)
{
    struct user_desc segment = random_segment();
    segment.entry_number = below(6);
    long result = call3(__NR_modify_ldt, chance(90) ? 0x11 : 1, &segment, sizeof segment);
    note("modify_ldt", result);
    if (result == 0) {
        int is_large = segment.limit_in_pages && segment.limit == 0xfffff;
        int is_code = (segment.contents & 2) && !segment.seg_not_present && is_large;
        word entry = 1u << segment.entry_number;
        shared->code_entries = is_code ? shared->code_entries | entry : shared->code_entries & ~entry;
    }
}

static void set_tls(void)
{
    /* Below 4 GiB, where the 32-bit call finds it. */
    static struct user_desc segment;
    segment = random_segment();
    segment.entry_number = chance(15) ? -1u : chance(90) ? FIRST_TLS + below(3) : value();
    note("set_thread_area", set_thread_area(&segment));
    note("its entry", segment.entry_number);
}

/* A selector whose segment changes stays in FS or GS until a switch of tasks loads it anew, which is a matter of time. */
static void drop_stale_segments(void)
{
    narrow fs, gs;
    asm volatile("mov %%fs, %0; mov %%gs, %1" : "=r"(fs), "=r"(gs));
    if (fs > 3)
        asm volatile("mov %0, %%fs" : : "r"(0));
    if (gs > 3)
        asm volatile("mov %0, %%gs" : : "r"(0));
}

/* Before a piece of code. */
static void choose_segments(void)
{
    if (chance(25))
        set_bases();
    if (chance(20))
        set_segment();
    if (chance(15))
        set_tls();
    drop_stale_segments();
}

#endif
