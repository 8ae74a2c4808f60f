/* The same as memory_files.c in a 32-bit program. */
// build: -m32
#include "memory_files.c"
