// build: -m32
/* The same for 32-bit programs.
 */
#include "aslr.c"
