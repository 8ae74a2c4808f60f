/* Bug 14: the XSAVE header and MXCSR in a signal frame are trusted. Each byte of the header, each bit of XSTATE_BV,
 * XCOMP_BV and MXCSR, and the words that describe the area are mutated, and the pointer to it forged. The return either
 * is refused with SIGSEGV or takes effect as the area says; the kernel lives on, and never are the registers of another
 * task left in place: one that shares the CPU fills its own with a known byte.
 */
#include "extended_state.h"
#include <sched.h>

#define SECRET 0xa5

/* A signal to itself; the registers as they are after it. */
SNIPPET(signal_then_store, "syscall\nstored_from: " STORE_STATE("state_out"));
SNIPPET(load_secret, LOAD_STATE("state_in") "mov $24, %eax; syscall"); /* sched_yield */
extern const unsigned char stored_from[];

static void (*mutate)(uint8_t *area, ucontext_t *context);
static size_t position;
static uint8_t pattern;
static unsigned shift; /* of the area, by a pointer moved a little */
static struct extended_state sent; /* the area as it was returned to */
static int refused, leaked;

static int has_secret(const uint8_t *bytes, size_t size)
{
    int length = 0;
    for (size_t i = 0; i < size; i++)
        if ((length = bytes[i] == SECRET ? length + 1 : 0) == 8)
            return 1;
    return 0;
}

static void on_frame(int signal, siginfo_t *info, ucontext_t *context)
{
    uint8_t *area = (uint8_t *)context->uc_mcontext.fpregs;
    (void)info;
    if (signal == SIGSEGV) { /* refused: what is in the registers now is in this frame */
        uint32_t size = *(uint32_t *)(area + 464) == 0x46505853 ? *(uint32_t *)(area + 480) : 512;
        refused = 1;
        leaked |= has_secret(area + ST, size - ST);
        context->uc_mcontext.gregs[REG_RIP] = (greg_t)stored_from;
        return;
    }
    for (int i = 0; i < 2; i++)
        sched_yield(); /* lets the other task put its secret into the registers */
    for (int i = XMM; i < LEGACY_END; i++)
        area[i] = i;
    mutate(area, context);
    memcpy(sent.bytes, area + shift, 1024);
}

/* One return from a mutated frame. */
static void attempt(void)
{
    refused = 0;
    randomize(&in);
    in.rax = SYS_kill;
    in.rdi = getpid();
    in.rsi = SIGUSR1;
    caught.count = 0;
    run(signal_then_store);
    uint32_t mxcsr = 0x1f80;
    asm volatile("ldmxcsr %0; fninit" : : "m"(mxcsr));
    leaked |= has_secret(state_out.bytes + ST, sizeof state_out - ST);
}

/* The XMM registers are the frame's, or initial. */
static int plausible(void)
{
    static const uint8_t zero[LEGACY_END - XMM];
    return !memcmp(state_out.bytes + XMM, sent.bytes + XMM, sizeof zero) ||
           !memcmp(state_out.bytes + XMM, zero, sizeof zero);
}

static void flip_byte(uint8_t *area, ucontext_t *context)
{
    (void)context;
    area[position] ^= pattern;
}

static void sweep(const char *name, size_t from, size_t to, int bitwise)
{
    int odd = 0, count = 0, accepted = 0;
    leaked = 0;
    mutate = flip_byte;
    for (position = from; position < to; position++)
        for (int bit = 0; bit < (bitwise ? 8 : 2); bit++) {
            pattern = bitwise ? 1 << bit : bit ? 0xff : 1;
            attempt();
            odd += !refused && !plausible();
            accepted += !refused;
            count++;
        }
    check(!odd && !leaked, name, "%d of %d returns, %d accepted, gave registers that the frame does not hold%s", odd,
          count, accepted, leaked ? "; another task's registers were seen" : "");
}

static void mxcsr_bits(void)
{
    mutate = flip_byte;
    for (int bit = 0; bit < 32; bit++) {
        char name[32];
        position = MXCSR + bit / 8;
        pattern = 1 << bit % 8;
        snprintf(name, sizeof name, "MXCSR bit %d", bit);
        leaked = 0;
        attempt();
        uint32_t now = *(uint32_t *)(state_out.bytes + MXCSR), mask = *(uint32_t *)(state_out.bytes + MXCSR + 4);
        uint32_t want = 0x1f80 ^ 1u << bit;
        if ((mask ? mask : 0xffbf) >> bit & 1)
            check(!refused && now == want && !leaked, name, "refused %d, MXCSR %#x, leaked %d", refused, now, leaked);
        else /* the emulator's XRSTOR does not look at reserved bits; software may refuse them nevertheless */
            check((refused || (emulated() && plausible())) && !leaked, name, "accepted, MXCSR %#x, leaked %d", now,
                  leaked);
    }
}

static uint64_t pointer;

static void forge_pointer(uint8_t *area, ucontext_t *context)
{
    (void)area;
    context->uc_mcontext.fpregs = (void *)pointer;
}

static void move_pointer(uint8_t *area, ucontext_t *context)
{
    context->uc_mcontext.fpregs = (void *)(area + shift);
}

static void pointers(void)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    const uint64_t bad[] = { 64, 4096, (uint64_t)page + 4096, (uint64_t)page + 4096 - 64, 0x7fffffffffc0,
                             0x800000000000, 0xffff888000000000, 0xffffffffffffffc0 };
    mutate = forge_pointer;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char name[48];
        pointer = bad[i];
        leaked = 0;
        attempt();
        snprintf(name, sizeof name, "pointer to the area %d of %d", (int)i + 1, (int)(sizeof bad / sizeof *bad));
        check(refused && !leaked, name, "%#lx: refused %d, leaked %d", pointer, refused, leaked);
    }
    pointer = 0;
    leaked = 0;
    attempt();
    static const uint8_t zero[LEGACY_END - XMM];
    check(!refused && !leaked && !memcmp(state_out.bytes + XMM, zero, sizeof zero), "no area: the initial state",
          "refused %d, leaked %d", refused, leaked);
    mutate = move_pointer;
    for (shift = 1; shift < 64; shift *= 2) {
        leaked = 0;
        attempt();
        check((refused || plausible()) && !leaked, "misaligned area", "by %u: leaked %d", shift, leaked);
    }
}

static void unmutated(uint8_t *area, ucontext_t *context)
{
    (void)area, (void)context;
}

int main(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    detect_extended_state();

    pid_t other = fork();
    if (other == 0) {
        random_state_pattern(&state_in);
        memset(state_in.bytes + XMM, SECRET, LEGACY_END - XMM);
        for (int i = 0; i < 8; i++)
            memset(state_in.bytes + ST + 16 * i, SECRET, 8);
        for (int component = 2; component < 8; component++) {
            unsigned offset, size;
            component_place(component, &offset, &size);
            if (state_components >> component & 1)
                memset(state_in.bytes + offset, SECRET, size);
        }
        randomize(&in);
        for (;;)
            run(load_secret);
    }

    catch_signal(SIGUSR1, 0);
    catch_signal(SIGSEGV, 0);
    on_signal = on_frame;
    mutate = unmutated;
    attempt();
    check(!refused && !memcmp(state_out.bytes + XMM, sent.bytes + XMM, LEGACY_END - XMM),
          "an edit of the frame takes effect", "refused %d", refused);
    if (state_components) {
        sweep("bits of XSTATE_BV", XSTATE_BV, XCOMP_BV, 1);
        sweep("bits of XCOMP_BV", XCOMP_BV, XCOMP_BV + 8, 1);
        sweep("bytes of the header", XSTATE_BV, HEADER_END, 0);
        sweep("bits of the area's description", 464, 512, 1);
    } else {
        skip("XSAVE header", "the processor has no XSAVE");
    }
    sweep("bytes of the x87 part", 0, MXCSR, 0);
    mxcsr_bits();
    pointers();
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    return done();
}
