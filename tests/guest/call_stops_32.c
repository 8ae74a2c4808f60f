// build: -m32
/* The same from 32-bit code: INT 0x80, SYSENTER and SYSCALL. */
#include "call_stops.c"
