// build: -m32
/* The same for 32-bit programs, and socketcall.
 */
#include "sockets_unix.c"
