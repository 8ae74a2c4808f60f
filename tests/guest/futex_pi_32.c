/* The program `futex_pi` with 32 bits: a robust list and times of another width.
 */
// build: -m32 -pthread
#include "futex_pi.c"
