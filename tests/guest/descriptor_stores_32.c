// build: -m32
#include "descriptor_stores.c"
