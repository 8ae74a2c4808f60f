/* The program `robust_list` with 32 bits: lists of another width.
 */
// build: -m32 -pthread
#include "robust_list.c"
