// build: -m32
/* As every_instruction.c, for the doors of 32-bit code: the crossing of a door begins at the code that enters by it. */
#include "crossing.h"
#include "registers32.h"

static void cross(const char *name, const void *door, long rounds)
{
    const char *wrong = NULL;
    long round;
    for (round = 0; round < rounds && !finish && !wrong; round++) {
        randomize();
        wrong = call(door, SYS_getpid, getpid(), 0);
    }
    check(!wrong, name, "round %ld: %s", round, wrong);
}

int main(int argc, char **argv)
{
    const struct { const char *name; const void *door; int exists; } doors[] = {
        { "int80", by_int80, 1 },
        { "sysenter", by_sysenter, has_sysenter() },
        { "syscall", by_syscall, has_syscall(gate_status("violations") >= 0) },
    };
    for (unsigned i = 0; i < sizeof doors / sizeof *doors; i++) {
        if (argc > 1 && strcmp(argv[1], doors[i].name))
            continue;
        if (doors[i].exists)
            cross(doors[i].name, doors[i].door, argc > 1 ? UNTIL_FINISH : ROUNDS);
        else
            skip(doors[i].name, NO_FAST_DOOR);
    }
    if (argc > 1)
        report_injections(0);
    check_invariants();
    return done();
}
