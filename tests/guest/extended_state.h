/* x87, SSE, AVX and AVX-512 registers as one area, loaded and stored inside a snippet (see registers.h), where no
 * compiler code can touch them. By XSAVE, or by FXSAVE where the processor has no XSAVE.
 */
#ifndef EXTENDED_STATE_H
#define EXTENDED_STATE_H

#include "registers.h"

struct extended_state { uint8_t bytes[4096] __attribute__((aligned(64))); };

enum { MXCSR = 24, ST = 32, XMM = 160, LEGACY_END = 416, XSTATE_BV = 512, XCOMP_BV = 520, HEADER_END = 576 };

/* What the snippet loads and what it stored; the components, 0 where there is no XSAVE. */
__attribute__((used)) static struct extended_state state_in, state_out;
__attribute__((used)) static uint32_t state_components;

/* Both clobber RAX, RDX and the flags. */
#define TRANSFER(xsave, fxsave, area) \
    "mov state_components(%rip), %eax; xor %edx, %edx; test %eax, %eax; jz 8f\n" \
    xsave " " area "(%rip); jmp 9f\n" \
    "8:" fxsave " " area "(%rip)\n" \
    "9:\n"
#define LOAD_STATE(area) TRANSFER("xrstor64", "fxrstor64", area)
#define STORE_STATE(area) TRANSFER("xsave64", "fxsave64", area)

/* Offset and size of an extended component (2 = AVX, 5..7 = AVX-512). */
static void component_place(int component, unsigned *offset, unsigned *size)
{
    unsigned c, d;
    __cpuid_count(13, component, *size, *offset, c, d);
}

static void detect_extended_state(void)
{
    unsigned a, b, c, d;
    __cpuid(1, a, b, c, d);
    if (!(c >> 27 & 1)) /* OSXSAVE */
        return;
    asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    state_components = a & 0xe7; /* not MPX, PKRU, AMX */
}

/* A valid state that is different in each register, from the random numbers. */
__attribute__((unused)) static void random_state_pattern(struct extended_state *state)
{
    memset(state, 0, sizeof *state);
    *(uint16_t *)state->bytes = 0x37f;
    state->bytes[4] = 0xff; /* all x87 registers in use */
    *(uint32_t *)(state->bytes + MXCSR) = 0x1f80 | (random_number() & 0x6000);
    for (int i = 0; i < 8; i++) {
        *(uint64_t *)(state->bytes + ST + 16 * i) = random_number() | 1ull << 63;
        *(uint16_t *)(state->bytes + ST + 16 * i + 8) = 0x3fff;
    }
    for (int i = XMM; i < LEGACY_END; i += 8)
        *(uint64_t *)(state->bytes + i) = random_number();
    *(uint64_t *)(state->bytes + XSTATE_BV) = state_components;
    for (int component = 2; component < 8; component++) {
        unsigned offset, size;
        if (!(state_components >> component & 1))
            continue;
        component_place(component, &offset, &size);
        for (unsigned i = 0; i < size; i += 8)
            *(uint64_t *)(state->bytes + offset + i) = random_number();
    }
}

/* Where the registers differ, as text, or NULL. */
__attribute__((unused))
static const char *state_difference(const struct extended_state *want, const struct extended_state *got)
{
    const uint8_t *a = want->bytes, *b = got->bytes;
    if (memcmp(a, b, 2) || a[4] != b[4])
        return "the x87 control or tag word differs";
    if (memcmp(a + MXCSR, b + MXCSR, 4))
        return "MXCSR differs";
    for (int i = 0; i < 8; i++)
        if (memcmp(a + ST + 16 * i, b + ST + 16 * i, 10))
            return "an x87 register differs";
    if (memcmp(a + XMM, b + XMM, LEGACY_END - XMM))
        return "an XMM register differs";
    for (int component = 2; component < 8; component++) {
        unsigned offset, size;
        if (!(state_components >> component & 1))
            continue;
        component_place(component, &offset, &size);
        if (memcmp(a + offset, b + offset, size))
            return component == 2 ? "a YMM register differs" : "an AVX-512 register differs";
    }
    return NULL;
}

#endif
