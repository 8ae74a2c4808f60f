// build: -m32 -pthread
/* The same for 32-bit programs. */
#include "pidfd.c"
