// An interrupt between two instructions changes nothing at all.
#include "kit.h"

static void prepare(void)
{
}

static void some_flags(void)
{
    static const u32 flags[] = {CF | AF | SF, PF | ZF | OF, AC | ID, CF | PF | AF | ZF | SF | OF | AC | ID};
    static u32 next;
    given.rflags |= flags[next++ % 4];
}

static void look_at_registers(void)
{
    compare(BIT(RCX) | BIT(R11));
}

static void look_at_rcx_and_r11(void)
{
    compare(~(BIT(RCX) | BIT(R11)));
}

static void look_at_selectors(void)
{
    for (int which = 0; which < 2; which++)
        if (selector(which) != first_selectors[which])
            bad_value(which ? "SS" : "CS", selector(which), first_selectors[which]);
}

static void check(const char *name, void (*before)(void), void (*look)(void))
{
    try(name);
    if (!spin(3, before, look))
        skip("no interrupt came");
    else
        end();
}

void kit_main(void)
{
    check("registers", prepare, look_at_registers);
    // What SYSRET cannot give back.
    check("rcx_r11", prepare, look_at_rcx_and_r11);
    check("flags", some_flags, compare_flags);
    check("stack", prepare, compare_stack);
    check("cs_and_ss", prepare, look_at_selectors);
}
