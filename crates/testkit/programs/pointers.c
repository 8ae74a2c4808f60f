// Pointers that a kernel must not follow: write() refuses them and shows nothing of what is there.
#include "kit.h"

static const u64 addresses[] = {
    0, 1, 0x7fffffffe000, 0x7fffffffffff, 0x800000000000, 0x800000001000, 0x7fffffffffffffff, 0xffff7fffffffffff,
    0xffff800000000000, KERNEL_ADDRESS, 0xffffffffffe00000, 0xffffffffffffff00, 0xfffffffffffffff8, 0xffffffffffffffff,
};

static void refuses(u64 start, u64 size)
{
    long result = kit_write(1, (const void *)start, size);
    if (result >= 0 || result < -4095)
        bad_value("the result for a bad pointer", result, -14);
}

void kit_main(void)
{
    try("bad_pointers");
    for (u64 i = 0; i < sizeof addresses / sizeof *addresses; i++)
        refuses(addresses[i], 16);
    end();

    try("bad_lengths");
    static const u64 sizes[] = {4096, 1ul << 47, 1ul << 62, 1ul << 63, -4096ul, -1ul};
    for (u64 i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        refuses(KERNEL_ADDRESS, sizes[i]);
        refuses(8, sizes[i]);
    }
    end();
}
