// build: -m32
/* The same through the i386 table. */
#include "usage.c"
