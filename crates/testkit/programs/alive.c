// The last program: that it runs shows that the kernel is alive.
#include "kit.h"

void kit_main(void)
{
    try("alive");
    ok();
}
