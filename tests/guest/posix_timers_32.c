// build: -m32 -pthread
/* The same with the structures of 32-bit programs. */
#include "posix_timers.c"
