/* The program `futex` with 32 bits: another structure for times, and the same for futex_waitv.
 */
// build: -m32 -pthread
#include "futex.c"
