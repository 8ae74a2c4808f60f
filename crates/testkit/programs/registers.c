// A system call that does nothing changes nothing but RAX, RCX and R11.
#include "kit.h"

static void call(u64 seed, u64 flags)
{
    patterns(seed);
    nothing_to_write();
    given.rflags |= flags;
    by_syscall();
}

void kit_main(void)
{
    try("registers");
    for (u64 seed = 0; seed < 16; seed++) {
        call(seed, 0);
        compare(BIT(RAX) | BIT(RCX) | BIT(R11));
    }
    end();

    // What the instruction leaves there, what the program had there, or nothing: no address of the kernel's.
    try("rcx_r11");
    call(16, 0);
    if (found.rcx != (u64)after_syscall && found.rcx != given.rcx && found.rcx)
        bad_value("RCX", found.rcx, (u64)after_syscall);
    if ((found.r11 & ~(RF | IOPL)) != given.rflags && found.r11 != given.r11 && found.r11)
        bad_value("R11", found.r11, given.rflags);
    end();

    // The kernel touches neither the red zone nor what is below it.
    try("stack");
    call(17, 0);
    compare_stack();
    end();

    try("flags");
    static const u32 flags[] = {0, CF, PF, AF, ZF, SF, DF, OF, AC, ID, CF | PF | AF | ZF | SF | OF};
    for (u64 i = 0; i < sizeof flags / sizeof *flags; i++) {
        call(i, flags[i]);
        compare_flags();
    }
    end();

    try("privileged_flags");
    call(20, 0);
    if (found.rflags & (IOPL | VM | VIF | VIP))
        bad_value("RFLAGS", found.rflags, given.rflags);
    if (!(found.rflags & IF))
        bad("interrupts are off in user mode");
    end();

    // What the program was started with.
    try("cs_and_ss");
    for (int which = 0; which < 2; which++) {
        if (selector(which) != first_selectors[which])
            bad_value(which ? "SS" : "CS", selector(which), first_selectors[which]);
        if ((selector(which) & 3) != 3)
            bad_value("a selector of user mode", selector(which), selector(which) | 3);
    }
    // It can be used: a load of SS that is not present or null would fault.
    if (!failed())
        asm volatile("movw %%ss, %%ax; movw %%ax, %%ss" : : : "rax");
    end();

    try("data_segments");
    static const char names[][3] = {"CS", "SS", "DS", "ES", "FS", "GS"};
    u16 before[6];
    for (int which = 2; which < 6; which++)
        before[which] = selector(which);
    call(21, 0);
    for (int which = 2; which < 6; which++)
        // An interrupt may make one that is null 0.
        if (selector(which) != before[which] && (before[which] > 3 || selector(which)))
            bad_value(names[which], selector(which), before[which]);
    end();

    // A kernel that takes it over dies at its next IRET.
    try("nested_task_flag");
    call(18, NT);
    compare_flags();
    call(19, NT | AC | ID);
    compare_flags();
    end();
}
