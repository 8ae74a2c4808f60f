// build: -m32
/* The vDSO of 32-bit programs: as vdso.c. */
#include "vdso.c"
