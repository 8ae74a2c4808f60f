/* The doors of the width that this is compiled for. */
#ifdef __x86_64__
#include "doors64.h"
#else
#include "doors32.h"
#endif
