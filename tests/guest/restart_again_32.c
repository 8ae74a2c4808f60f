// build: -m32
/* The same through the i386 table: its restart_syscall has another number, its times are 32 bits wide. */
#include "restart_again.c"
