// The extended state that every x86-64 processor has: XMM registers, MXCSR, x87. A kernel that gives programs none of it ends
// this program at its first check.
#include "kit.h"

static u8 put_in[16][16] __attribute__((aligned(16))), got[16][16] __attribute__((aligned(16)));
static u32 mxcsr_found;
static u16 control_found;

#define EACH(OP)                                                                                                             \
    OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11) OP(12) OP(13) OP(14) OP(15)
#define LOAD(n) asm volatile("movaps %0, %%xmm" #n : : "m"(put_in[n]));
#define STORE(n) asm volatile("movaps %%xmm" #n ", %0" : "=m"(got[n]));

static void load(u8 seed)
{
    // All exceptions masked, another rounding.
    u32 mxcsr = 0x3f80;
    u16 control = 0x0f7f;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++)
            put_in[i][j] = seed + 16 * i + j;
    EACH(LOAD)
    asm volatile("ldmxcsr %0; fldcw %1" : : "m"(mxcsr), "m"(control));
}

static void store(void)
{
    EACH(STORE)
    asm volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr_found), "=m"(control_found));
}

static void look(void)
{
    store();
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++)
            if (put_in[i][j] != got[i][j])
                bad_value("a byte of an XMM register", got[i][j], put_in[i][j]);
    if (mxcsr_found != 0x3f80)
        bad_value("MXCSR", mxcsr_found, 0x3f80);
    if (control_found != 0x0f7f)
        bad_value("the x87 control word", control_found, 0x0f7f);
}

static void prepare(void)
{
    static u8 seed;
    load(++seed);
}

void kit_main(void)
{
    try("open");
    load(0);
    ok();

    try("syscall");
    for (u8 seed = 1; seed < 8; seed++) {
        load(seed);
        patterns(seed);
        nothing_to_write();
        by_syscall();
        look();
    }
    end();

    try("page_fault");
    static u8 pages[16][4096] __attribute__((aligned(4096)));
    for (u8 seed = 0; seed < 8; seed++) {
        load(seed);
        patterns(seed);
        given.rsi = (u64)pages[2 * seed];
        by_touch();
        look();
    }
    end();

    try("interrupt");
    if (!spin(3, prepare, look))
        skip("no interrupt came");
    else
        end();
}
