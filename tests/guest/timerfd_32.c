// build: -m32 -pthread
/* The same for 32-bit programs, and the calls with 64-bit times. */
#include "timerfd.c"
