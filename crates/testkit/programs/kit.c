#include "kit.h"

static char line[512];
static u64 length;
static int bad_since_try;
static int bad_in_all, checks;
static const char *name;

static void put(const char *text)
{
    while (*text && length < sizeof line - 1)
        line[length++] = *text++;
}

static void put_hex(u64 value)
{
    put("0x");
    int shift = 60;
    while (shift > 0 && !(value >> shift))
        shift -= 4;
    for (; shift >= 0; shift -= 4) {
        char digit[2] = {"0123456789abcdef"[value >> shift & 15], 0};
        put(digit);
    }
}

static void flush(void)
{
    put("\n");
    kit_write(1, line, length);
    length = 0;
}

static void say(const char *word, const char *about)
{
    put(word);
    put(about);
    flush();
}

void kit_start(void)
{
    say("program ", program_name);
    kit_main();
    char digits[] = {'0' + checks / 10 % 10, '0' + checks % 10, 0};
    say("done ", digits);
    kit_exit(bad_in_all != 0);
}

void try(const char *check)
{
    name = check;
    bad_since_try = 0;
    checks++;
    say("try ", name);
}

void ok(void)
{
    say("ok ", name);
}

void skip(const char *reason)
{
    put("skip ");
    put(name);
    say(": ", reason);
}

static int first_bad(void)
{
    bad_in_all = 1;
    if (bad_since_try++)
        return 0;
    put("not ok ");
    put(name);
    put(": ");
    return 1;
}

void bad(const char *what)
{
    if (first_bad())
        say(what, "");
}

void bad_value(const char *what, u64 is, u64 expected)
{
    if (!first_bad())
        return;
    put(what);
    put(" is ");
    put_hex(is);
    put(" and not ");
    put_hex(expected);
    flush();
}

int failed(void)
{
    return bad_since_try != 0;
}

void end(void)
{
    if (!bad_since_try)
        ok();
}

// Above and below the stack pointer.
static u64 watched[128] __attribute__((aligned(16)));

void patterns(u64 seed)
{
    u64 *registers = &given.rax;
    for (int i = 0; i < REGISTERS; i++)
        registers[i] = (seed + i + 1) * 0x0101010101010101;
    for (u64 i = 0; i < sizeof watched / 8; i++)
        watched[i] = seed * 0x1001 + i;
    given.rsp = (u64)&watched[64];
    given.rflags = IF | 2;
}

void compare(u64 but)
{
    static const char names[REGISTERS][4] = {"RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP",
                                             "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};
    const u64 *before = &given.rax, *after = &found.rax;
    for (int i = 0; i < REGISTERS; i++)
        if (before[i] != after[i] && !(but & BIT(i)))
            bad_value(names[i], after[i], before[i]);
}

void compare_flags(void)
{
    // IF and bit 1 are what they are; RF is never seen.
    u64 all = CF | PF | AF | ZF | SF | TF | DF | OF | NT | AC | ID;
    if ((found.rflags & all) != (given.rflags & all))
        bad_value("RFLAGS", found.rflags, given.rflags);
}

void compare_stack(void)
{
    u64 seed = watched[0] / 0x1001;
    for (u64 i = 0; i < sizeof watched / 8; i++)
        if (watched[i] != seed * 0x1001 + i)
            bad_value("a word at the user's stack", watched[i], seed * 0x1001 + i);
}

void nothing_to_write(void)
{
    given.rax = WRITE_NUMBER;
    given.rdi = 1;
    given.rsi = (u64)line;
    given.rdx = 0;
}

u16 selector(int which)
{
    u16 value = 0;
    switch (which) {
    case 0: asm volatile("movw %%cs, %0" : "=m"(value)); break;
    case 1: asm volatile("movw %%ss, %0" : "=m"(value)); break;
    case 2: asm volatile("movw %%ds, %0" : "=m"(value)); break;
    case 3: asm volatile("movw %%es, %0" : "=m"(value)); break;
    case 4: asm volatile("movw %%fs, %0" : "=m"(value)); break;
    case 5: asm volatile("movw %%gs, %0" : "=m"(value)); break;
    }
    return value;
}

int spin(int hits, void (*prepare)(void), void (*look)(void))
{
    // Two thirds of a second on an emulator where nothing interrupts.
    enum { PASSES = 10000 };
    u16 ds = selector(2);
    int hit = 0;
    for (int pass = 0; pass < PASSES && hit < hits && !failed(); pass++) {
        patterns(pass);
        prepare();
        by_spin();
        hit += spin_ds != 3;
        // Even if it was not noticed: SYSRET leaves a null selector as it is.
        look();
    }
    asm volatile("movw %0, %%ds" : : "m"(ds));
    return hit || failed();
}
