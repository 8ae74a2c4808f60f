/* The handler of all signals: records what it is entered with, changes it, and goes back.
 *
 * It moves its frame to a place of its own, as one more signal may come to the same stack while it runs code once more. */
#ifndef HANDLER_H
#define HANDLER_H

#include "calls.h"
#include "notes.h"
#include "timers.h"

enum { DEPTHS = 3, SIGNALS_OF_A_STEP = 10, SIGNALS_OF_A_SCRIPT = 300, FPU_LIMIT = 4096 };

static int depth, signals_of_step, signals_of_script;
/* Whether a call has failed with EFAULT in this step: how much of a structure was written then is nobody's business. */
static int data_is_open;
static word own_process;

/* Where a frame is kept: with room for the state of the FPU, which has to be aligned. */
static struct kept {
    byte fpu[FPU_LIMIT] __attribute__((aligned(64)));
    struct frame frame;
#ifndef __x86_64__
    struct old_frame old;
#endif
} kept[DEPTHS + 1];

static int is_in(word address, const char *first, const char *end)
{
    return address >= (word)first && address < (word)end;
}

static int is_harness(word address)
{
    return place(address) != address || (is_in(address, __executable_start, etext) && !is_in(address, __start_pieces, __stop_pieces));
}

static void episode(void);

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
    look_for_virtual_8086(context->g[G_FLAGS]);
    /* An interrupt in 32-bit code may or may not take the upper half of the stack pointer. */
    int is_half = code_selector(context) != FLAT_CODE || is_harness(context->g[G_IP]);
    for (int i = 0; i < GREGS; i++) {
        word g = place(context->g[i]);
#ifndef __x86_64__
        /* A null selector's ring is lost whenever an interrupt comes. */
        if (i <= G_DS && g <= 3)
            g = 0;
#endif
        note(frame_names[i], i == G_SP && is_half ? (narrow)g : g);
    }
#ifndef __x86_64__
    note("old mask", context->old_mask);
    note("cr2", place(context->cr2));
#endif
    note("mask", context->mask);
    look_for_efault(context->g[G_AX]);
}

/* What the kernel tells of the extended state: a magic number, and the size of all of it. */
static const narrow *fpu_software(const byte *fpu) { return (const narrow *)(fpu + FXSAVE + 464); }

static void note_fpu(const byte *fpu)
{
    note("fpu", (word)fpu & 63);
    if (!fpu)
        return;
    if (FXSAVE) {
        const narrow *old = (const narrow *)fpu;
        note_words("old x87 control", fpu, 3);
        note("old x87 code", old[4]);
        /* A null selector's ring is lost whenever an interrupt comes. */
        note("old x87 data", (half)old[6] > 3 ? old[6] : old[6] & -4u);
        note_words("old x87 status", fpu + FXSAVE - 4, 1);
    }
    const wide *words = (const wide *)(fpu + FXSAVE);
    /* The emulator does not write the last opcode, so that there is what was there before. */
    note("fpu control", words[0] & 0xffffffffffff);
    note("mxcsr", words[3]);
    note_words("xmm", words + 20, 32 / sizeof(word));
    note_words("fpu reserved", words + 58, 48 / sizeof(word));
    if (*fpu_software(fpu) == 0x46505853)
        note_words("xsave header", words + 64, 16 / sizeof(word));
}

/* A 32-bit frame has the selectors of data, too. */
static void change_segments(struct context *context)
{
#ifdef __x86_64__
    (void)context;
#else
    for (int i = G_GS; i <= G_DS; i++)
        if (chance(50))
            context->g[i] = selector();
#endif
}

/* A code selector to go on with at an address. SYSCALL in 32-bit code of a 64-bit program ends in Linux at the low half of an
 * address in the 64-bit vDSO. */
static word code_to_go_on(word ip, word wanted)
{
#ifdef __x86_64__
    enum { LONGEST = 24 };
    for (word at = ip; wanted != FLAT_CODE && at < ip + LONGEST && is_in(at, __start_pieces, __stop_pieces); at++)
        if (*(const half *)at == 0x050f)
            return FLAT_CODE;
#else
    (void)ip;
#endif
    return wanted;
}

/* Changes a frame at random. */
static void change(struct context *context, int is_fault)
{
    int compat = 0;
    switch (below(12)) {
    case 0: /* go on, or fault again */ break;
    case 1:
        for (int i = below(4); i >= 0; i--)
            context->g[GENERAL_FIRST + below(GENERAL_COUNT)] = value();
        context->g[G_IP] = code_place(context, &compat);
        set_selectors(context, compat ? OTHER_CODE : FLAT_CODE, FLAT_DATA);
        break;
    case 2:
        context->g[G_FLAGS] = interesting_flags();
        context->g[G_IP] = (word)PLAIN_CODE;
        break;
    case 3:
        set_selectors(context, code_to_go_on(context->g[G_IP], selector()), selector());
        break;
    case 4:
        set_selectors(context, OTHER_CODE, FLAT_DATA);
        context->g[G_IP] = (word)(chance(50) ? OTHER_PLAIN : OTHER_CALL);
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
        if (chance(30))
            change_segments(context);
        context->g[G_IP] = (word)door_return;
        break;
    case 7:
        if (context->fpu) {
            wide *words = (wide *)(context->fpu + FXSAVE);
            static const byte places[] = { 0, 3, 20, 21, 58, 59, 60, 64, 65, 66 };
            int which = PICK(places);
            words[which] = chance(50) ? random_number() : 1ull << below(64);
            say("word of the state", which);
            say("is", words[which]);
            if (chance(10))
                context->fpu = (byte *)value();
            say("state at", (word)context->fpu);
        }
        context->g[G_IP] = (word)door_return;
        break;
    case 8:
        if (!is_old) {
            context->stack = value();
            context->stack_flags = below(4);
            context->stack_size = ALTERNATE_SIZE;
        }
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
    if (is_old && stack_selector(context) & 4)
        set_selectors(context, code_selector(context), FLAT_DATA);
    if (code_selector(context) != FLAT_CODE)
        context->g[G_SP] = (narrow)context->g[G_SP];
}

static void note_info(const byte *info)
{
    for (word i = 0; i < 48 / sizeof(word); i++)
        note("info", place(((const word *)info)[i]));
}

/* What a handler is entered with. */
static void note_entry(int signal, const byte *info, const struct context *context)
{
    shared->crossings += 2;
    shared->signals++;
    if (++signals_of_script > SIGNALS_OF_A_SCRIPT)
        end(77);
    note("signal", signal);
    for (int i = 0; i < REGISTERS; i++)
        note(register_names[i], place(at_handler.r[i]));
    note("handler's flags", at_handler.flags);
    if (info)
        note_info(info);
    note_context(context);
    note_fpu(context->fpu);
}

static void keep_fpu(struct kept *place, struct context *context)
{
    if (!context->fpu)
        return;
    const narrow *software = fpu_software(context->fpu);
    narrow size = *software == 0x46505853 ? software[1] : FXSAVE + 512;
    copy(place->fpu + FPU_MARGIN, context->fpu, size < FPU_LIMIT - FPU_MARGIN ? size : FPU_LIMIT - FPU_MARGIN);
    context->fpu = place->fpu + FPU_MARGIN;
}

/* What the handler does: runs code once more, and changes the frame that it goes back by. */
static void answer(int signal, int is_fault, struct context *context)
{
    word ip = context->g[G_IP];
    if (is_spinning(ip) && signal != SIGTRAP) {
        clean(context);
        return;
    }
    if (is_harness(ip)) {
        /* The way in and the way back may be stepped through; what comes from outside must not take them away. */
        int ours = (ip >= (word)armed && ip <= (word)door_return) || place(ip) != ip;
        int in_run = ip >= (word)run && ip < (word)end_of_run;
        if (is_fault && signal != SIGTRAP && (in_run || place(ip) != ip))
            clean(context);
        else if (!ours)
            context->g[G_FLAGS] &= ~0x100ul;
        return;
    }
    if (++signals_of_step > SIGNALS_OF_A_STEP) {
        clean(context);
        context->mask = 0;
        return;
    }
    if (signal == SIGTRAP && chance(70))
        return;
    if (depth < DEPTHS && chance(15)) {
        word back = door_stack, stack = handler_stack, waiting = shared->is_waiting;
        depth++;
        handler_stack = OWN_STACKS + OWN_STACK * (depth + 1);
        say("nested", depth);
        wide none = 0;
        call4(__NR_rt_sigprocmask, 2, &none, 0, 8);
        shared->crossings++;
        episode();
        depth--;
        door_stack = back;
        handler_stack = stack;
        shared->is_waiting = waiting;
        say("back from nested", depth);
    }
    change(context, is_fault);
    if (logging) {
        say("goes to", context->g[G_IP]);
        say("with selectors", code_selector(context) | (narrow)stack_selector(context) << 16);
        say("with flags", context->g[G_FLAGS]);
        say("with uc_flags", context->flags);
    }
}

/* What a frame has between its fields is not specified. */
static void look_for_frame(word at) { data_is_open |= at >= DATA - sizeof(struct frame) - FPU_LIMIT && at < HOLE; }

/* Nor is what has been written of one that could not be written as a whole, for which there is another signal. */
static void look_for_part(int signal, word stack)
{
    if (signal == SIGSEGV)
        data_is_open |= stack >= DATA && stack < HOLE + sizeof(struct frame) + FPU_LIMIT;
}

#ifdef __x86_64__
/* The stack pointer to go back with: behind the restorer's address, which the handler would have popped. */
__attribute__((used)) static word handle(int signal, const byte *info, const struct context *context)
{
    struct kept *place = &kept[depth];
    note("info address", (word)info);
    note("context address", (word)context);
    note_entry(signal, info, context);
    look_for_frame((word)context);
    look_for_part(signal, context->g[G_SP]);
    if (depth > DEPTHS)
        end(78);
    copy(&place->frame, (const byte *)context - 8, sizeof place->frame);
    keep_fpu(place, &place->frame.context);
    answer(signal, *(const int *)(info + 8) > 0, &place->frame.context);
    return (word)&place->frame.context;
}
#else
/* The stack pointer to go back with: at the restorer's address. */
__attribute__((used)) static word handle(int signal, const byte *info, const struct context *context)
{
    struct kept *place = &kept[depth];
    const struct frame *frame = (const void *)((const byte *)context - __builtin_offsetof(struct frame, context));
    note("signal on the stack", frame->signal);
    note("info address", (word)info);
    note("info address on the stack", (word)frame->info_at);
    note("context address", (word)frame->context_at);
    note_words("code of the frame", frame->code, 2);
    note_entry(signal, info, context);
    look_for_frame((word)context);
    look_for_part(signal, context->g[G_SP]);
    if (depth > DEPTHS)
        end(78);
    copy(&place->frame, frame, sizeof *frame);
    keep_fpu(place, &place->frame.context);
    answer(signal, *(const int *)(info + 8) > 0, &place->frame.context);
    return (word)&place->frame;
}

/* Whether it comes of an exception. Who has no siginfo cannot tell what another process sent. */
static int is_exception(int signal) { return signal == 4 || signal == 5 || signal == 7 || signal == 8 || signal == 11; }

__attribute__((used)) static word handle_old(int signal, const struct old_frame *frame)
{
    struct kept *place = &kept[depth];
    struct context context = { .fpu = frame->fpu, .old_mask = frame->old_mask, .cr2 = frame->cr2,
                               .mask = frame->old_mask | (wide)frame->more_mask << 32 };
    copy(context.g, frame->g, sizeof context.g);
    note("signal on the stack", frame->signal);
    note("frame address", (word)frame);
    note_words("code of the frame", frame->code, 2);
    note_entry(signal, 0, &context);
    look_for_frame((word)frame);
    look_for_part(signal, context.g[G_SP]);
    if (depth > DEPTHS)
        end(78);
    copy(&place->old, frame, sizeof *frame);
    keep_fpu(place, &context);
    answer(signal, is_exception(signal), &context);
    copy(place->old.g, context.g, sizeof context.g);
    place->old.fpu = context.fpu;
    place->old.old_mask = (word)context.mask;
    place->old.more_mask = (word)(context.mask >> 32);
    return (word)&place->old;
}
#endif

#endif
