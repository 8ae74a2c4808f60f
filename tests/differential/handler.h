/* The handler of all signals: records what it is entered with, changes it, and goes back.
 *
 * It moves its frame to a place of its own, as one more signal may come to the same stack while it runs code once more. */
#ifndef HANDLER_H
#define HANDLER_H

#include "calls.h"
#include "notes.h"

enum { DEPTHS = 3, SIGNALS_OF_A_STEP = 10, SIGNALS_OF_A_SCRIPT = 300, FPU_LIMIT = 4096 };

static int depth, signals_of_step, signals_of_script;
/* Whether a call has failed with EFAULT in this step: how much of a structure was written then is nobody's business. */
static int data_is_open;
static word own_process;

/* Where a frame is kept: with room for the state of the FPU, which has to be aligned. */
static struct {
    byte fpu[FPU_LIMIT] __attribute__((aligned(64)));
    struct frame frame;
} kept[DEPTHS + 1];

static int is_in(word address, const char *first, const char *end)
{
    return address >= (word)first && address < (word)end;
}

static int is_harness(word address)
{
    return is_in(address, __executable_start, etext) && !is_in(address, __start_pieces, __stop_pieces);
}

static void episode(int is_nested);

static word interesting_flags(void)
{
    static const narrow flags[] = { 0, 0x100, 0x400, 0x4000, 0x40000, 0x200000, 0x10000, 0x8d5, 0x3000, 0x20000, 0x80000, 0x100000, 0x200, 0x40100 };
    word result = 0x202;
    for (int i = below(3); i >= 0; i--)
        result ^= PICK(flags);
    return result;
}

static half selector(void)
{
    static const half selectors[] = { 0, 0, 1, 3, 0x23, 0x2b, 0x2b, 0x2b, 0x33, 0x63, 0x6b, 0x73, 7, 0xf, 0x17, 0x1f, 0x27, 0x10, 0x18, 4 };
    return chance(95) ? PICK(selectors) : no_cpu_segment(random_number());
}

/* For a piece of code that is gone to with the registers of another: what it may find makes processes, or waits. */
static word harmless_number(void)
{
    static const wide numbers[] = { 24, 110, 1000, -1ull, 0xfffffe00, 0x40000000 + 600, 600, 80000 };
    return PICK(numbers);
}

static word code_place(struct context *context, int *compat)
{
    const struct snippet *snippet = &PICK(snippets);
    *compat = snippet->compat;
    context->g[G_AX] = snippet->door ? harmless_number() : context->g[G_AX];
    return chance(90) ? (word)snippet->code : value();
}

static void clean(struct context *context)
{
    context->g[G_IP] = (word)door_return;
    context->g[G_FLAGS] = 0x202;
    set_selectors(context, FLAT_CODE, FLAT_DATA);
}

static void look_for_efault(word result) { data_is_open |= (int)result == -14; }

static void note_context(const struct context *context)
{
    note("uc_flags", context->flags);
    note("uc_link", context->link);
    note("uc_stack", context->stack);
    note("uc_stack.flags", (narrow)context->stack_flags);
    note("uc_stack.size", context->stack_size);
    static const char *const names[] = { "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "di", "si", "bp", "bx", "dx", "ax", "cx", "sp", "ip",
                                         "flags", "selectors", "error", "trap", "oldmask", "cr2" };
    /* An interrupt in 32-bit code may or may not take the upper half of the stack pointer. */
    int is_half = code_selector(context) != FLAT_CODE || is_harness(context->g[G_IP]);
    for (int i = 0; i < GREGS; i++)
        note(names[i], i == G_SP && is_half ? (narrow)context->g[i] : context->g[i]);
    note("mask", context->mask);
    look_for_efault(context->g[G_AX]);
}

static void note_fpu(const byte *fpu)
{
    note("fpu", (word)fpu & 63);
    if (!fpu)
        return;
    const word *words = (const word *)fpu;
    /* The emulator does not write the last opcode, so that there is what was there before. */
    note("fpu control", words[0] & 0xffffffffffff);
    note("mxcsr", words[3]);
    note_words("xmm", words + 20, 4);
    note_words("fpu reserved", words + 58, 6);
    if ((narrow)words[58] == 0x46505853)
        note_words("xsave header", words + 64, 2);
}

/* Changes a frame at random. */
static void change(struct context *context, int is_fault)
{
    int compat = 0;
    switch (below(12)) {
    case 0: /* go on, or fault again */ break;
    case 1:
        for (int i = below(4); i >= 0; i--)
            context->g[below(G_IP)] = value();
        context->g[G_IP] = code_place(context, &compat);
        set_selectors(context, compat ? FLAT_CODE_32 : FLAT_CODE, FLAT_DATA);
        break;
    case 2:
        context->g[G_FLAGS] = interesting_flags();
        context->g[G_IP] = (word)s_nops;
        break;
    case 3:
        set_selectors(context, selector(), selector());
        break;
    case 4:
        set_selectors(context, FLAT_CODE_32, FLAT_DATA);
        context->g[G_IP] = (word)(chance(50) ? s_c_nops : s_c_int80);
        context->g[G_AX] = harmless_number();
        context->g[G_FLAGS] = interesting_flags();
        break;
    case 5:
        context->flags = below(8);
        set_selectors(context, chance(50) ? FLAT_CODE : selector(), selector());
        context->g[G_IP] = (word)door_return;
        break;
    case 6:
        context->mask = chance(50) ? 0 : random_number();
        context->g[G_IP] = (word)door_return;
        break;
    case 7:
        if (context->fpu) {
            word *words = (word *)context->fpu;
            static const byte places[] = { 0, 3, 20, 21, 58, 59, 60, 64, 65, 66 };
            words[PICK(places)] = chance(50) ? random_number() : 1ul << below(64);
            if (chance(10))
                context->fpu = (byte *)value();
        }
        context->g[G_IP] = (word)door_return;
        break;
    case 8:
        context->stack = value();
        context->stack_flags = below(4);
        context->stack_size = ALTERNATE_SIZE;
        context->g[G_IP] = (word)door_return;
        break;
    case 9:
        context->g[G_IP] = value();
        break;
    default:
        clean(context);
        break;
    }
    if (is_fault && chance(70))
        clean(context);
    if (is_old && context->g[G_SELECTORS] >> 50 & 1)
        set_selectors(context, code_selector(context), FLAT_DATA);
    if (code_selector(context) != FLAT_CODE)
        context->g[G_SP] = (narrow)context->g[G_SP];
}

__attribute__((used)) static struct context *handle(int signal, const byte *info, struct context *context)
{
    struct registers entered = at_handler;
    shared->crossings += 2;
    shared->signals++;
    if (++signals_of_script > SIGNALS_OF_A_SCRIPT)
        end(77);
    note("signal", signal);
    for (int i = 0; i < REGISTERS; i++)
        note(register_names[i], entered.r[i]);
    note("handler's flags", entered.flags);
    note("info address", (word)info);
    note("context address", (word)context);
    note_words("info", info, 6);
    note_context(context);
    note_fpu(context->fpu);
    /* What a frame has between its fields is not specified. */
    data_is_open |= (word)context >= DATA - sizeof(struct frame) - FPU_LIMIT && (word)context < HOLE;

    if (depth > DEPTHS)
        end(78);
    struct frame *frame = &kept[depth].frame;
    copy(frame, (const byte *)context - 8, sizeof *frame);
    context = &frame->context;
    if (context->fpu) {
        const word *words = (const word *)context->fpu;
        narrow size = (narrow)words[58] == 0x46505853 ? words[58] >> 32 : 512;
        copy(kept[depth].fpu, context->fpu, size < FPU_LIMIT ? size : FPU_LIMIT);
        context->fpu = kept[depth].fpu;
    }
    int code = *(const int *)(info + 8);
    int is_fault = code > 0;
    word ip = context->g[G_IP];
    if (is_harness(ip)) {
        /* The way in and the way back may be stepped through; what comes from outside must not take them away. */
        int ours = ip >= (word)armed && ip <= (word)door_return;
        if (is_fault && signal != SIGTRAP)
            clean(context);
        else if (!ours)
            context->g[G_FLAGS] &= ~0x100ul;
        return context;
    }
    if (++signals_of_step > SIGNALS_OF_A_STEP) {
        clean(context);
        context->mask = 0;
        return context;
    }
    if (signal == SIGTRAP && chance(70))
        return context;
    if (depth < DEPTHS && chance(15)) {
        word back = door_stack, stack = handler_stack;
        depth++;
        handler_stack = OWN_STACKS + OWN_STACK * (depth + 1);
        say("nested", depth);
        word none = 0;
        call4(__NR_rt_sigprocmask, 2, &none, 0, 8);
        shared->crossings++;
        episode(1);
        depth--;
        door_stack = back;
        handler_stack = stack;
        say("back from nested", depth);
    }
    change(context, is_fault);
    if (logging) {
        say("goes to", context->g[G_IP]);
        say("with selectors", context->g[G_SELECTORS]);
        say("with flags", context->g[G_FLAGS]);
        say("with uc_flags", context->flags);
    }
    return context;
}

#endif
