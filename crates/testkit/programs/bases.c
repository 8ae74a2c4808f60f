// FS and GS bases that a program writes by instructions of its own (FSGSBASE). Without them this program ends at its first check.
#include "kit.h"

static const u64 bases[] = {0, 0x1234, 0x7fffffffefff, 0xffff800000000000, KERNEL_ADDRESS, 0xffffffffffffffff};
#define BASES (sizeof bases / sizeof *bases)
static u64 fs, gs;

static void load(u64 seed)
{
    fs = bases[seed % BASES];
    gs = bases[(seed + 1) % BASES];
    asm volatile("wrfsbase %0; wrgsbase %1" : : "r"(fs), "r"(gs));
}

static void look(void)
{
    u64 now;
    asm volatile("rdfsbase %0" : "=r"(now));
    if (now != fs)
        bad_value("the FS base", now, fs);
    asm volatile("rdgsbase %0" : "=r"(now));
    if (now != gs)
        bad_value("the GS base", now, gs);
}

static void prepare(void)
{
    static u64 seed;
    load(++seed);
}

void kit_main(void)
{
    try("open");
    asm volatile("rdfsbase %0" : "=r"(fs));
    ok();

    try("syscall");
    for (u64 seed = 0; seed < BASES; seed++) {
        load(seed);
        patterns(seed);
        nothing_to_write();
        by_syscall();
        look();
    }
    end();

    try("page_fault");
    static u8 pages[2 * BASES][4096] __attribute__((aligned(4096)));
    for (u64 seed = 0; seed < BASES; seed++) {
        load(seed);
        patterns(seed);
        given.rsi = (u64)pages[2 * seed];
        by_touch();
        look();
    }
    end();

    try("interrupt");
    if (!spin(BASES, prepare, look))
        skip("no interrupt came");
    else
        end();
}
