// build: -m32
/* Frames of 32-bit handlers, with and without siginfo: what a handler starts with, what it finds, what it may change, and
 * what becomes of forged ones. Bugs 14 (extended state), 20 (flags), 22 (forged frames), 28 (DF), 30 (sigreturn outside a
 * handler), 35 (registers).
 */
#include "check.h"
#include <sys/mman.h>
#include <sys/ucontext.h>

/* `struct sigcontext` as the kernel has it. */
struct context {
    uint16_t gs, gsh, fs, fsh, es, esh, ds, dsh;
    uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax, trapno, err, eip;
    uint16_t cs, csh;
    uint32_t eflags, esp_at_signal;
    uint16_t ss, ssh;
    uint32_t fpstate, oldmask, cr2;
};

struct registers { uint32_t eax, ebx, ecx, edx, esi, edi, ebp, esp, eflags; };
static const char *const names[] = { "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "eflags" };

__attribute__((used)) static struct registers in, out;
__attribute__((used)) static uint32_t saved_esp;
/* What a handler was entered with. */
__attribute__((used)) static struct { uint32_t eax, edx, ecx, esp, eflags; uint16_t ds, es, cs, ss; } entered;

asm(".pushsection .text\n"
    "run:\n"
    "push %ebx; push %ebp; push %esi; push %edi; pushf\n"
    "mov %esp, saved_esp\n"
    "mov in+0, %eax; mov in+4, %ebx; mov in+8, %ecx; mov in+12, %edx; mov in+16, %esi; mov in+20, %edi; mov in+24, %ebp\n"
    "push in+32; popf\n"
    "mov in+28, %esp\n"
    "fault_here: ud2\n"
    "mov %eax, out+0; mov %ebx, out+4; mov %ecx, out+8; mov %edx, out+12; mov %esi, out+16; mov %edi, out+20\n"
    "mov %ebp, out+24; mov %esp, out+28\n"
    "mov saved_esp, %esp\n"
    "pushf; pop out+32\n"
    "popf; pop %edi; pop %esi; pop %ebp; pop %ebx\n"
    "ret\n"
    /* The handlers: record, then C with the arguments that are on the stack. */
    "old_entry:\n"
    "mov %eax, entered; mov %edx, entered+4; mov %ecx, entered+8; mov %esp, entered+12\n"
    "pushf; pop entered+16; mov %ds, entered+20; mov %es, entered+22; mov %cs, entered+24; mov %ss, entered+26\n"
    "cld\n"
    "jmp old_handler\n"
    "rt_entry:\n"
    "mov %eax, entered; mov %edx, entered+4; mov %ecx, entered+8; mov %esp, entered+12\n"
    "pushf; pop entered+16; mov %ds, entered+20; mov %es, entered+22; mov %cs, entered+24; mov %ss, entered+26\n"
    "cld\n"
    "jmp rt_handler\n"
    "old_restorer: pop %eax; mov $119, %eax; int $0x80\n"
    "rt_restorer: mov $173, %eax; int $0x80\n"
    ".popsection\n");
void run(void);
extern const char fault_here[], old_entry[], rt_entry[], old_restorer[], rt_restorer[];

/* What the last handler found. */
static struct context found;
static struct { int signal, count; uint32_t info_address, context_address, flags, link; siginfo_t info;
                stack_t stack; uint64_t mask; uint32_t extra; } frame;
/* Changes the context. */
static void (*change)(struct context *context);

__attribute__((used)) static void old_handler(int signal, struct context context)
{
    found = context;
    frame.count++;
    frame.signal = signal;
    struct context *in_frame = &context;
    asm("" : "+r"(in_frame));
    frame.extra = *(uint32_t *)((char *)in_frame + 88 + 624);
    in_frame->eip += 2;
    if (change)
        change(in_frame);
    asm volatile("" : : : "memory");
}

__attribute__((used)) static void rt_handler(int signal, siginfo_t *info, void *context)
{
    uint32_t *words = context;
    struct context *in_frame = (struct context *)(words + 5);
    found = *in_frame;
    frame.count++;
    frame.signal = signal;
    frame.info = *info;
    frame.info_address = (uintptr_t)info;
    frame.context_address = (uintptr_t)context;
    frame.flags = words[0];
    frame.link = words[1];
    memcpy(&frame.stack, words + 2, sizeof frame.stack);
    memcpy(&frame.mask, in_frame + 1, 8);
    in_frame->eip += 2;
    if (change)
        change(in_frame);
}

static void handle(int signal, int rt, uint32_t flags)
{
    struct { const void *handler; uint32_t flags; const void *restorer; uint64_t mask; } action =
        { rt ? rt_entry : old_entry, flags | 0x04000000 | (rt ? SA_SIGINFO : 0), rt ? rt_restorer : old_restorer,
          0 };
    if (syscall(SYS_rt_sigaction, signal, &action, NULL, 8))
        _exit(98);
}

static unsigned char stack[16384] __attribute__((aligned(64)));
static unsigned char signal_stack[65536] __attribute__((aligned(64)));

static uint32_t random_state = 1;
static uint32_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    return random_state ^= random_state << 5;
}

static void randomize(void)
{
    for (unsigned n = 0; n < sizeof in / 4; n++)
        ((uint32_t *)&in)[n] = random_number();
    in.esp = (uintptr_t)stack + 8192 + (random_number() & 63);
    in.eflags = 0x202 | (in.eflags & 0x8d5) | (random_number() & 0x400); /* arithmetic flags and DF */
}

static const char *difference(const struct registers *a, const struct registers *b)
{
    static char text[64];
    for (unsigned n = 0; n < sizeof *a / 4; n++)
        if (((uint32_t *)a)[n] != ((uint32_t *)b)[n]) {
            snprintf(text, sizeof text, "%s is %#x, not %#x", names[n], ((uint32_t *)b)[n], ((uint32_t *)a)[n]);
            return text;
        }
    return NULL;
}

static uint16_t segment(int which)
{
    uint16_t ds, es, fs, gs;
    asm volatile("mov %%ds, %0; mov %%es, %1; mov %%fs, %2; mov %%gs, %3" : "=r"(ds), "=r"(es), "=r"(fs), "=r"(gs));
    return (uint16_t[]){ ds, es, fs, gs }[which];
}

static void registers(int rt)
{
    const char *wrong = NULL, *kind = rt ? "with siginfo" : "without";
    char name[80];
    change = NULL;
    handle(SIGILL, rt, 0);
    int begin = 0;
    for (int round = 0; round < 100 && !wrong; round++) {
        randomize();
        run();
        struct registers want = in;
        wrong = difference(&want, &out);
        want = (struct registers){ found.eax, found.ebx, found.ecx, found.edx, found.esi, found.edi, found.ebp, found.esp,
                                   found.eflags & ~0x10000 };
        if (!wrong)
            wrong = difference(&in, &want);
        begin += entered.eax != SIGILL || (entered.eflags & 0x400) || entered.ds != 0x2b || entered.es != 0x2b ||
                 entered.cs != 0x23 || entered.ss != 0x2b || (entered.esp + 4) % 16 ||
                 entered.edx != (rt ? frame.info_address : 0) || entered.ecx != (rt ? frame.context_address : 0);
    }
    snprintf(name, sizeof name, "registers, handler %s", kind);
    check(!wrong, name, "%s", wrong);
    snprintf(name, sizeof name, "what a handler %s starts with", kind);
    check(!begin, name, "eax %#x edx %#x ecx %#x esp %#x eflags %#x ds %#x es %#x cs %#x ss %#x", entered.eax, entered.edx,
          entered.ecx, entered.esp, entered.eflags, entered.ds, entered.es, entered.cs, entered.ss);
    snprintf(name, sizeof name, "the frame, handler %s", kind);
    check(frame.signal == SIGILL && found.trapno == 6 && found.err == 0 && found.eip == (uintptr_t)fault_here &&
              found.cs == 0x23 && found.ss == 0x2b && found.ds == segment(0) && found.es == segment(1) &&
              found.fs == segment(2) && found.gs == segment(3) && found.esp_at_signal == in.esp && found.oldmask == 0x800,
          name, "signal %d trapno %u err %u eip %#x cs %#x ss %#x gs %#x mask %#x", frame.signal, found.trapno, found.err,
          found.eip, found.cs, found.ss, found.gs, found.oldmask);
    if (rt)
        check(frame.info.si_signo == SIGILL && frame.info.si_code == ILL_ILLOPN &&
                  (uintptr_t)frame.info.si_addr == (uintptr_t)fault_here && frame.mask == (1ull << 63 | 0x800) && frame.link == 0,
              "siginfo and mask", "signal %d code %d address %p mask %#llx", frame.info.si_signo, frame.info.si_code,
              frame.info.si_addr, (unsigned long long)frame.mask);
    else
        check(frame.extra == 0x80000000, "the upper half of the mask", "%#x", frame.extra);
}

static void change_registers(struct context *context)
{
    context->eax = 0x11111111;
    context->ebx = 0x22222222;
    context->ecx = 0x33333333;
    context->edx = 0x44444444;
    context->esi = 0x55555555;
    context->edi = 0x66666666;
    context->ebp = 0x77777777;
    context->esp -= 16;
    context->eflags = ~0x100u & ~0x40000u; /* all but TF and AC */
}

static void changed(int rt)
{
    handle(SIGILL, rt, 0);
    change = change_registers;
    randomize();
    in.eflags = 0x202;
    run();
    struct registers want = { 0x11111111, 0x22222222, 0x33333333, 0x44444444, 0x55555555, 0x66666666, 0x77777777, in.esp - 16,
                              0xed7 };
    const char *wrong = difference(&want, &out);
    check(!wrong, "what a handler changes, flags forged", "%s", wrong);
    change = NULL;
}

static uint16_t wanted[4];
static void change_segments(struct context *context)
{
    context->ds = wanted[0];
    context->es = wanted[1];
    context->fs = wanted[2];
}

static void segments(int rt)
{
    handle(SIGILL, rt, 0);
    change = change_segments;
    randomize();
    in.eflags = 0x202;
    uint16_t gs = segment(3);
    static const uint16_t list[][2] = { { 0x2b, 0x2b }, { 0x28, 0x2b }, { 0x23, 0x23 }, { 0x10, 0 }, { 0xfff8, 0 }, { 0x40, 0 } };
    for (unsigned n = 0; n < sizeof list / sizeof *list; n++) {
        memcpy(wanted, (uint16_t[]){ 0x2b, 0x2b, list[n][0] }, 6);
        run();
        check(segment(2) == list[n][1] && segment(3) == gs && segment(0) == 0x2b, "a selector put into FS", "%#x became %#x",
              list[n][0], segment(2));
    }
    asm volatile("mov %0, %%fs" : : "r"(0));
    change = NULL;
}

static uint16_t forged_cs, forged_ss;
static void forge(struct context *context)
{
    context->cs = forged_cs;
    context->ss = forged_ss;
}

static void forged(int rt)
{
    static const struct { const char *name; uint16_t cs, ss; int signal; } cases[] = {
        { "the kernel's CS", 0x10, 0x2b, SIGSEGV }, { "no CS", 0, 0x2b, SIGSEGV }, { "the kernel's SS", 0x23, 0x18, SIGSEGV },
        { "no SS", 0x23, 0, SIGSEGV }, { "an SS that is code", 0x23, 0x23, SIGSEGV }, { "CS of the LDT", 0x27, 0x2b, SIGSEGV },
        { "CS of the GDT's end", 0xfffb, 0x2b, SIGSEGV },
    };
    for (unsigned n = 0; n < sizeof cases / sizeof *cases; n++) {
        handle(SIGILL, rt, 0);
        forged_cs = cases[n].cs;
        forged_ss = cases[n].ss;
        change = forge;
        randomize();
        in.eflags = 0x202;
        pid_t child = fork();
        if (child == 0) {
            run();
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        check(WIFSIGNALED(status) && WTERMSIG(status) == cases[n].signal, cases[n].name, "status %#x", status);
    }
    change = NULL;
}

static void x87(int rt)
{
    handle(SIGILL, rt, 0);
    change = NULL;
    randomize();
    in.eflags = 0x202;
    double pi = 3.25, e = 2.5, back[2] = { 0, 0 };
    uint32_t before[4] = { 1, 2, 3, 4 }, after[4];
    asm volatile("fninit; fldl %0; fldl %1; movups %2, %%xmm3" : : "m"(pi), "m"(e), "m"(before));
    run();
    asm volatile("fstpl %0; fstpl %1; movups %%xmm3, %2" : "=m"(back[0]), "=m"(back[1]), "=m"(after));
    check(back[0] == e && back[1] == pi && !memcmp(before, after, 16), "x87 and SSE registers across a signal", "%f %f", back[0],
          back[1]);
    uint32_t *fpstate = (uint32_t *)(uintptr_t)found.fpstate;
    check((found.fpstate + 112) % 64 == 0 && (fpstate[0] & 0xffff) == 0x37f && (fpstate[2] & 0xffff) == 0x0fff &&
              fpstate[4] == 0x23 && fpstate[6] == 0xffff002b && fpstate[27] >> 16 == 0,
          "FSAVE's image", "at %#x: control %#x status %#x tags %#x CS %#x DS %#x", found.fpstate, fpstate[0], fpstate[1], fpstate[2],
          fpstate[4], fpstate[6]);
}

static void change_x87(struct context *context)
{
    unsigned char *fpstate = (unsigned char *)(uintptr_t)context->fpstate;
    /* ST0 of FSAVE's image becomes 1.0; XMM3 of FXSAVE's 7. */
    memcpy(fpstate + 28, "\0\0\0\0\0\0\0\x80\xff\x3f", 10);
    memset(fpstate + 112 + 160 + 3 * 16, 7, 16);
}

static void bad_mxcsr(struct context *context)
{
    *(uint32_t *)(uintptr_t)(context->fpstate + 112 + 24) = 0xffffffff;
}

static void bad_pointer(struct context *context)
{
    context->fpstate = 0xfffff000;
}

/* FSAVE's image and the XSAVE area in front of the last page: `distance` bytes off where the kernel puts them. */
static unsigned char *moved;
static unsigned distance;

static void move_state(struct context *context)
{
    unsigned char *from = (unsigned char *)(uintptr_t)context->fpstate;
    change_x87(context);
    uint32_t size = 112 + *(uint32_t *)(from + 112 + 464 + 16) + 4;
    memcpy(moved + distance, from, size);
    context->fpstate = (uint32_t)(uintptr_t)(moved + distance);
}

/* The same without what says that it is more than FXSAVE's image. */
static void move_legacy_state(struct context *context)
{
    move_state(context);
    memset(moved + distance + 112 + 464, 0, 48);
}

static void reserved_header(struct context *context) { *(unsigned char *)(uintptr_t)(context->fpstate + 112 + 512 + 40) = 1; }

/* The state need not be aligned: what is loaded is a copy. */
static void unaligned_state(void)
{
    enum { SIZE = 32768 };
    static const unsigned distances[] = { 0, 1, 4, 8, 16, 24, 40 };
    void (*const ways[])(struct context *) = { move_state, move_legacy_state };
    moved = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int way = 0; way < 2; way++) {
        change = ways[way];
        for (unsigned n = 0; n < sizeof distances / sizeof *distances; n++) {
            distance = distances[n];
            double two = 2.0, back = 0;
            unsigned char after[16], sevens[16];
            memset(sevens, 7, 16);
            asm volatile("fninit; fldl %0" : : "m"(two));
            run();
            asm volatile("fstpl %0; movups %%xmm3, %1" : "=m"(back), "=m"(after));
            check(back == 1.0 && !memcmp(after, sevens, 16), way ? "FXSAVE's image anywhere" : "the state anywhere", "off by %u: %f", distance, back);
        }
    }
    change = NULL;
    munmap(moved, SIZE);
}

static void change_state(int rt)
{
    handle(SIGILL, rt, 0);
    change = change_x87;
    randomize();
    in.eflags = 0x202;
    double two = 2.0, back;
    unsigned char after[16], sevens[16];
    memset(sevens, 7, 16);
    asm volatile("fninit; fldl %0" : : "m"(two));
    run();
    asm volatile("fstpl %0; movups %%xmm3, %1" : "=m"(back), "=m"(after));
    check(back == 1.0 && !memcmp(after, sevens, 16), "x87 and SSE registers that a handler changes", "%f", back);
    const struct { void (*how)(struct context *); const char *name; } bad[] = {
        { bad_mxcsr, "a bad MXCSR" }, { bad_pointer, "a bad fpstate pointer" }, { reserved_header, "a reserved byte of the header" } };
    for (size_t n = 0; n < sizeof bad / sizeof *bad; n++) {
        pid_t child = fork();
        if (child == 0) {
            change = bad[n].how;
            run();
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, bad[n].name, "status %#x", status);
    }
    unaligned_state();
}

static void altstack(int rt)
{
    stack_t alternate = { .ss_sp = signal_stack, .ss_size = sizeof signal_stack }, now;
    sigaltstack(&alternate, NULL);
    handle(SIGILL, rt, SA_ONSTACK);
    change = NULL;
    randomize();
    run();
    uint32_t low = (uintptr_t)signal_stack;
    check(entered.esp > low && entered.esp < low + sizeof signal_stack, "the alternate stack", "%#x", entered.esp);
    const char *wrong = difference(&in, &out);
    check(!wrong, "and back", "%s", wrong);
    sigaltstack(NULL, &now);
    check(now.ss_sp == signal_stack && now.ss_size == sizeof signal_stack && now.ss_flags == 0, "it is as it was", "flags %#x",
          now.ss_flags);
}

/* A frame of random words, and both calls: whatever comes of it is a signal. */
static int random_frame(void)
{
    uint32_t *sp = (uint32_t *)(stack + 4096);
    for (unsigned n = 0; n < 1024; n++)
        sp[n] = random_number() % 4 ? random_number() : random_number() % 0x100;
    if (random_number() % 2)
        sp[random_number() % 64] = (uintptr_t)stack;
    int call = random_number() % 2 ? 119 : 173;
    alarm(1);
    asm volatile("mov %0, %%esp; int $0x80; ud2" : : "r"(sp), "a"(call));
    return 0;
}

static void random_frames(void)
{
    int bad = 0, status = 0;
    for (int n = 0; n < 100 && !bad; n++) {
        random_number();
        status = in_child(random_frame);
        bad = !WIFSIGNALED(status);
    }
    check(!bad, "random frames", "status %#x", status);
}

static int cold(void)
{
    asm volatile("mov $0, %%esp; int $0x80" : : "a"(119));
    return 0;
}

static int cold_rt(void)
{
    asm volatile("mov $16, %%esp; int $0x80" : : "a"(173));
    return 0;
}

int main(void)
{
    uint64_t blocked = 1ull << 63 | 1ull << (SIGUSR2 - 1);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, 8);
    for (int rt = 0; rt < 2; rt++) {
        registers(rt);
        changed(rt);
        segments(rt);
        forged(rt);
        x87(rt);
        change_state(rt);
        altstack(rt);
    }
    int status = in_child(cold);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "sigreturn without a frame", "status %#x", status);
    status = in_child(cold_rt);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "rt_sigreturn without a frame", "status %#x", status);
    random_frames();
    return done();
}
