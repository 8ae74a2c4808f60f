// One instruction that a program may not execute, or that goes wrong. The program ends, or, where SURVIVES says that it may, goes
// on; the kernel lives.
#include "kit.h"

void fatal_case(void);

void kit_main(void)
{
    try("dies");
    fatal_case();
#ifdef SURVIVES
    ok();
#else
    bad("user mode went on");
#endif
}

asm(".text; fatal_case:\n" CASE "\n ret");
