/* Random programs at the boundary: the same in any kernel, which must show them the same.
 *
 * /boundary.jobs has lines of SEED FIRST COUNT BATCH WORKERS MASK OLD LOG, numbers in decimal. For each batch of scripts a line
 * `= JOB FIRST HASH CROSSINGS SIGNALS` comes; with LOG, each step and each observable. MASK says which steps of a script are left
 * out. It is the first program, which gives its children the numbers that it wants.
 */
#define STACK_OF_MAIN 0x10600000
#include "system.h"
#include "notes.h"
#include "chance.h"
#include "doors64.h"
#include "calls.h"
#include "handler.h"

enum { STEPS = 24, PATIENCE = 20 };

static struct {
    word seed, first, count, batch, workers, mask, old, log;
} arguments;
static word job;

static void map_places(void)
{
    map(DATA, 4 * PAGE, READ | WRITE, PRIVATE);
    map(READ_ONLY, PAGE, READ, PRIVATE);
    map(CLOSED, PAGE, 0, PRIVATE);
    map(CODE, PAGE, READ | WRITE | EXECUTE, PRIVATE);
    map(STACK, 4 * PAGE, READ | WRITE, PRIVATE);
    map(ALTERNATE, ALTERNATE_SIZE, READ | WRITE, PRIVATE);
    map(OWN_STACKS, OWN_STACK * (DEPTHS + 2), READ | WRITE, PRIVATE);
#ifdef __x86_64__
    map(LAST_PAGE, PAGE, READ | WRITE | EXECUTE, PRIVATE);
    fill((void *)LAST_PAGE, 0x90, PAGE);
    *(half *)(LAST_PAGE + PAGE - 2) = 0x050f; /* SYSCALL */
#endif
    fill((void *)CODE, 0xcc, PAGE);
}

static void set_alternate_stack(void)
{
    struct {
        word at;
        int flags;
        word size;
    } stack = { ALTERNATE, 0, ALTERNATE_SIZE };
    note("sigaltstack", call3(__NR_sigaltstack, &stack, 0, 0));
}

static void set_handler(int signal, word flags, word mask)
{
    struct {
        const void *handler;
        word flags;
        const void *restorer;
        word mask;
    } action = { signal_entry, 4 | 0x04000000 | flags, signal_restorer, mask };
    call4(__NR_rt_sigaction, signal, &action, 0, 8);
}

enum { ON_STACK = 0x08000000, RESTART = 0x10000000, NO_DEFER = 0x40000000 };
#define RESET_HAND 0x80000000ul

static void set_handlers(void)
{
    for (int signal = 1; signal < 65; signal++) {
        if (signal == SIGKILL || signal == SIGSTOP)
            continue;
        word flags = ON_STACK | (chance(50) ? RESTART : 0) | (chance(60) ? NO_DEFER : 0);
        if (chance(1))
            flags ^= chance(50) ? RESET_HAND : ON_STACK;
        set_handler(signal, flags, chance(60) ? 0 : chance(50) ? ~0ul : random_number());
    }
}

/* One piece of code, with all registers chosen. */
static void episode(int is_nested)
{
    const struct snippet *snippet = chance(55) ? &snippets[below(CALLING)] : &PICK(snippets);
    struct snippet interrupt = { "int N", 0, NONE, 0 };
    if (chance(6)) {
        word n = below(256);
        interrupt.code = s_int_n + n * INT_N_LENGTH;
        interrupt.door = n == 0x80 ? INT80 : NONE;
        say("int", n);
        snippet = &interrupt;
    }
    if (logging) {
        put("  code ");
        put(snippet->name);
        flush_line();
    }
    for (int i = 0; i < REGISTERS; i++)
        in.r[i] = value();
    in.r[SP] = chance(75) ? STACK + 3 * PAGE + below(64) * 8 : value();
    in.flags = 0x202 | (random_number() & 0x8d5);
    if (chance(30))
        in.flags = interesting_flags() & ~0x20000ul;
    if (snippet->door)
        choose_call(&in, snippet->door, own_process);
    for (int i = 0; i < 2; i++)
        in_segments[i] = chance(70) ? FLAT_DATA : selector();
    for (int i = 2; i < 4; i++)
        in_segments[i] = chance(70) ? KEEP : selector();
    in_entry = (word)snippet->code;
    in_launch = (word)launch_near;
    in_far.offset = in_entry;
    in_far.selector = snippet->compat ? FLAT_CODE_32 : FLAT_CODE;
    if (chance(3))
        in_far.selector = selector();
    if (snippet->compat || chance(3))
        in_launch = (word)launch_far;
    /* 32-bit code loses the upper half at the next interrupt. */
    if (in_launch == (word)launch_far)
        in.r[SP] = (narrow)in.r[SP];
    for (int i = 0; i < REGISTERS; i++)
        say(register_names[i], in.r[i]);
    say("flags", in.flags);
    say("far selector", in_far.selector);
    word back = door_stack;
    run();
    door_stack = back;
    shared->crossings++;
    for (int i = 0; i < REGISTERS; i++)
        note(register_names[i], i == SP ? (narrow)out.r[i] : out.r[i]);
    note("flags", out.flags);
    /* A null selector's ring is lost whenever an interrupt comes. */
    for (int i = 0; i < 5; i++)
        note("segment", out_segments[i] > 3 ? out_segments[i] : 0);
    look_for_efault(out.r[AX]);
    if (!data_is_open)
        note_words("data", (void *)DATA, 256);
    (void)is_nested;
}

static void set_bases(void)
{
    word base = chance(50) ? DATA : value();
    note("arch_prctl", call3(__NR_arch_prctl, chance(50) ? 0x1002 : 0x1001, base, 0));
}

static void set_segment(void)
{
    struct user_desc segment = { .entry_number = below(6), .base_addr = chance(50) ? 0 : value(), .limit = chance(50) ? 0xfffff : value(),
                                 .seg_32bit = 1, .contents = below(4), .read_exec_only = below(2), .limit_in_pages = chance(70),
                                 .seg_not_present = chance(15), .useable = below(2) };
    note("modify_ldt", call3(__NR_modify_ldt, chance(90) ? 0x11 : 1, &segment, sizeof segment));
}

static void queue_signals(void)
{
    for (int i = below(4); i >= 0; i--) {
        byte info[128];
        fill(info, 0, sizeof info);
        *(int *)(info + 8) = -(int)below(8) - 1;
        *(word *)(info + 16) = value();
        *(word *)(info + 24) = value();
        int signal = 1 + below(64);
        if (signal == SIGKILL || signal == SIGSTOP || signal == 20 || signal == 21 || signal == 22)
            continue;
        note("queued", call3(__NR_rt_sigqueueinfo, own_process, signal, info));
        shared->crossings++;
    }
}

static void set_mask(void)
{
    word mask = chance(40) ? 0 : chance(50) ? ~0ul : random_number();
    /* Faults that are blocked end the script. */
    if (chance(90))
        mask &= ~(word)(1 << (SIGTRAP - 1) | 1 << (SIGSEGV - 1) | 1 << 3 | 1 << 6 | 1 << 7 | 1ul << 30);
    call4(__NR_rt_sigprocmask, 2, &mask, 0, 8);
    shared->crossings++;
}

static void step(word index, int number)
{
    seed_chance(arguments.seed, index, number);
    signals_of_step = data_is_open = 0;
    shared->step = number;
    say("step", number);
    set_alternate_stack();
    fill_data();
    shared->crossings++;
    if (chance(25))
        set_bases();
    if (chance(20))
        set_segment();
    set_mask();
    if (chance(15))
        queue_signals();
    episode(0);
    call3(__NR_arch_prctl, 0x1003, &out.r[0], 0);
    call3(__NR_arch_prctl, 0x1004, &out.r[1], 0);
    shared->crossings += 2;
    note("FS base", out.r[0]);
    note("GS base", out.r[1]);
    word pending = 0, mask = 0;
    call4(__NR_rt_sigprocmask, 0, 0, &mask, 8);
    call3(__NR_rt_sigpending, &pending, 8, 0);
    shared->crossings += 2;
    note("mask", mask);
    note("pending", pending);
}

static void script(word index)
{
    own_process = call3(__NR_getpid, 0, 0, 0);
    call3(__NR_setpgid, 0, 0, 0);
    /* No terminal, which is each kernel's own: the log goes where no call finds it. */
    enum { FAR_DESCRIPTOR = 900 };
    output = call3(__NR_dup2, 1, FAR_DESCRIPTOR, 0);
    for (int i = 0; i < 3; i++)
        call3(__NR_close, i, 0, 0);
    map_places();
    depth = 0;
    handler_stack = OWN_STACKS + OWN_STACK;
    seed_chance(arguments.seed, index, -1);
    set_handlers();
    for (int i = 0; i < STEPS; i++)
        if (!(arguments.mask >> i & 1))
            step(index, i);
    end(0);
}

/* A child with a chosen number; where that cannot be had, any. */
static long fork_as(int number)
{
    struct {
        wide flags, pidfd, child, parent, signal, stack, stack_size, tls, numbers, count, cgroup;
    } clone = { .signal = SIGCHLD, .numbers = (word)&number, .count = 1 };
    long child = call3(__NR_clone3, &clone, 88, 0);
    if (child == -1 || child == -22 || child == -38) /* EPERM, EINVAL, ENOSYS: a host's kernel, to try a script */
        child = call3(__NR_fork, 0, 0, 0);
    return child;
}

/* Waits for a script, and ends it when it takes too long, which no result depends on but one that says so. */
static int wait_for(long child)
{
    int status = 0;
    word set = 1ul << (SIGCHLD - 1);
    for (;;) {
        long got = call4(__NR_wait4, child, &status, 3 /* WNOHANG | WUNTRACED */, 0);
        if (got == child && (status & 0xff) == 0x7f) {
            note("stopped", status);
            call3(__NR_kill, child, SIGCONT, 0);
            continue;
        }
        if (got == child)
            return status;
        if (got < 0)
            return -1;
        struct {
            long seconds, nanoseconds;
        } patience = { PATIENCE, 0 };
        if (call4(__NR_rt_sigtimedwait, &set, 0, &patience, 8) == -11) {
            call3(__NR_kill, child, SIGKILL, 0);
            call4(__NR_wait4, child, &status, 0, 0);
            return 0xdead;
        }
    }
}

static void worker(word number)
{
    word set = ~0ul;
    shared = (void *)(SHARED_PAGES + number * PAGE);
    for (word first = arguments.first; first < arguments.first + arguments.count; first += arguments.batch) {
        word batch = first / arguments.batch, end_of_batch = first + arguments.batch;
        if (batch % arguments.workers != number)
            continue;
        shared->hash = 0;
        shared->crossings = 0;
        shared->signals = 0;
        for (word index = first; index < end_of_batch && index < arguments.first + arguments.count; index++) {
            if (logging)
                say("script", index);
            call4(__NR_rt_sigprocmask, 0, &set, 0, 8);
            long child = fork_as(1000 + number * 100);
            if (child == 0) {
                word none = 0;
                call4(__NR_rt_sigprocmask, 2, &none, 0, 8);
                script(index);
            }
            note("status", wait_for(child));
            while (call4(__NR_wait4, -1, 0, 0x40000000, 0) > 0)
                ;
        }
        put("= ");
        put_decimal(job);
        put(" ");
        put_decimal(first);
        put(" ");
        put_hex(shared->hash);
        put(" ");
        put_decimal(shared->crossings);
        put(" ");
        put_decimal(shared->signals);
        flush_line();
    }
    end(0);
}

static word read_number(const char **text)
{
    word number = 0;
    while (**text == ' ')
        ++*text;
    while (**text >= '0' && **text <= '9')
        number = number * 10 + (*(*text)++ - '0');
    return number;
}

static const char *read_jobs(void)
{
    static char text[65536];
    long file = call3(__NR_open, "/boundary.jobs", 0, 0);
    if (file < 0)
        file = call3(__NR_open, "boundary.jobs", 0, 0);
    long size = call3(__NR_read, file, text, sizeof text - 1);
    if (size <= 0)
        end(91);
    call3(__NR_close, file, 0, 0);
    return text;
}

/* Where the kernel put the first stack differs: this one is at the same place everywhere. */
__attribute__((used)) static void map_main(void) { map(STACK_OF_MAIN - 0x20000, 0x20000, READ | WRITE, PRIVATE); }

__attribute__((used, noreturn)) static void first(void)
{
    int is_init = call3(__NR_getpid, 0, 0, 0) == 1;
    map(SHARED_PAGES, 64 * PAGE, READ | WRITE, SHARED);
    if (is_init && call3(__NR_fcntl, 1, 1, 0) < 0) {
        /* Linux, whose archive has no console. */
        call3(__NR_mknod, "/console", 020600, 5 << 8 | 1);
        for (int i = 0; i < 3; i++)
            call3(__NR_open, "/console", 2, 0);
    }
    const char *rest = read_jobs();
    for (job = 0; *rest >= '0'; job++) {
        for (word i = 0; i < sizeof arguments / sizeof(word); i++)
            ((word *)&arguments)[i] = read_number(&rest);
        rest++; /* the end of the line */
        is_old = arguments.old;
        logging = arguments.log;
        for (word number = 0; number < arguments.workers; number++)
            if (fork_as(500 + number) == 0)
                worker(number);
        while (call4(__NR_wait4, -1, 0, 0x40000000, 0) != -ECHILD)
            ;
    }
    put("done");
    flush_line();
    if (is_init)
        call4(__NR_reboot, 0xfee1dead, 672274793, 0x01234567, 0);
    end(0);
}
