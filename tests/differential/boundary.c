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
#include "doors.h"
#include "calls.h"
#include "handler.h"
#include "segments.h"
#include "sequences.h"
#include "filters.h"
#include "timers.h"
#include "meeting.h"

enum { STEPS = 24 };

static struct {
    word seed, first, count, batch, workers, mask, old, log;
} arguments;
static word job;

#include "tracer.h"

static void map_places(void)
{
    map(DATA, 4 * PAGE, READ | WRITE, PRIVATE);
    map(READ_ONLY, PAGE, READ, PRIVATE);
    map(CLOSED, PAGE, 0, PRIVATE);
    map(CODE, PAGE, READ | WRITE | EXECUTE, PRIVATE);
    map(STACK, 4 * PAGE, READ | WRITE, PRIVATE);
    map(ALTERNATE, ALTERNATE_SIZE, READ | WRITE, PRIVATE);
    map(SEQUENCE_AREA, PAGE, READ | WRITE, PRIVATE);
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

enum { SIGINFO = 4, RESTORER = 0x04000000 };

static void set_handler(int signal, word flags, wide mask)
{
    struct {
        const void *handler;
        word flags;
        const void *restorer;
        wide mask;
    } action = { signal_entry, SIGINFO | RESTORER | flags, signal_restorer, mask };
#ifndef __x86_64__
    /* The frame of old, and the vDSO's way back. */
    if (chance(40)) {
        action.handler = signal_entry_old;
        action.restorer = signal_restorer_old;
        action.flags &= ~SIGINFO;
    }
    if (chance(20))
        action.flags &= ~RESTORER;
#endif
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
        set_handler(signal, flags, chance(60) ? 0 : chance(50) ? ~0ull : random_number());
    }
}

/* The piece of code that comes: a system call in half of the cases. */
static struct snippet choose_piece(void)
{
    struct snippet snippet = chance(55) ? snippets[below(CALLING)] : PICK(snippets);
    if (chance(6)) {
        word n = below(256);
        snippet = (struct snippet){ "int N", s_int_n + n * INT_N_LENGTH, n == 0x80 ? INT80 : NONE, 0 };
        say("int", n);
    } else if (!is_traced && chance(3) && !has_filter) {
        /* A filter may refuse the timer, for which the loop would wait for ever. */
        snippet = spin;
    }
    if (logging) {
        put("  code ");
        put(snippet.name);
        flush_line();
    }
    return snippet;
}

static void choose_registers(const struct snippet *snippet)
{
    for (int i = 0; i < REGISTERS; i++)
        in.r[i] = value();
    in.r[SP] = chance(75) ? STACK + 3 * PAGE + below(64) * 8 : value();
    in.flags = 0x202 | (random_number() & 0x8d5);
    if (chance(30))
        in.flags = interesting_flags() & ~0x20000ul;
    for (int i = 0; i < 2; i++)
        in_segments[i] = chance(70) ? FLAT_DATA : selector();
    for (int i = 2; i < 4; i++)
        in_segments[i] = chance(70) ? KEEP : selector();
    in_entry = (word)snippet->code;
    in_launch = (word)launch_near;
    in_far.offset = in_entry;
    in_far.selector = snippet->compat ? OTHER_CODE : FLAT_CODE;
    if (chance(3))
        in_far.selector = code_to_go_on(in_entry, selector());
    if (snippet->compat || chance(3))
        in_launch = (word)launch_far;
    /* 32-bit code loses the upper half at the next interrupt. */
    if (in_launch == (word)launch_far)
        in.r[SP] = (narrow)in.r[SP];
}

/* One piece of code, with all registers chosen. */
static void episode(void)
{
    struct snippet snippet = choose_piece();
    word signals = shared->signals;
    choose_registers(&snippet);
    int waits = snippet.door && is_traced && chance(12);
    if (snippet.code == spin.code)
        choose_timer(&in);
    else if (waits)
        choose_wait(&in, snippet.door);
    else if (snippet.door)
        choose_call(&in, snippet.door, own_process);
    for (int i = 0; i < REGISTERS; i++)
        say(register_names[i], in.r[i]);
    say("flags", in.flags);
    say("far selector", in_far.selector);
    word back = door_stack;
    meet(&in, (word)snippet.code, waits);
    /* Behind the stop, at which Linux before 7.2 sees that it is not in the sequence. With CONFIG_DEBUG_RSEQ a call in one is SIGSEGV. */
    if (!snippet.door && choose_sequence((word)snippet.code))
        run_sequence();
    else
        run();
    door_stack = back;
    shared->is_waiting = 0;
    shared->crossings++;
    for (int i = 0; i < REGISTERS; i++)
        note(register_names[i], i == SP ? (narrow)out.r[i] : place(out.r[i]));
    note("flags", out.flags);
    /* A null selector's ring is lost whenever an interrupt comes. */
    for (int i = 0; i < 5; i++)
        note("segment", out_segments[i] > 3 ? out_segments[i] : 0);
    note_sequence(shared->signals != signals);
    look_for_efault(out.r[AX]);
    if (!data_is_open)
        note_words("data", (void *)DATA, 256);
    /* How long a call had still to wait. */
    if (waits)
        fill((void *)(DATA + 2 * PAGE), 0, 2 * PAGE);
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
    wide mask = chance(40) ? 0 : chance(50) ? ~0ull : random_number();
    /* Faults that are blocked end the script. */
    if (chance(90))
        mask &= ~fault_signals();
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
    choose_segments();
    if (chance(4))
        set_filter();
    set_mask();
    if (chance(15))
        queue_signals();
    episode();
    note_bases();
    wide pending = 0, mask = 0;
    call4(__NR_rt_sigprocmask, 0, 0, &mask, 8);
    call3(__NR_rt_sigpending, &pending, 8, 0);
    shared->crossings += 2;
    note("mask", mask);
    note("pending", pending);
}

static void script(word index, int asks_for_tracer)
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
    register_area();
    if (asks_for_tracer)
        call3(__NR_ptrace, TRACE_ME, 0, 0);
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

static void worker(word number)
{
    wide set = ~0ull;
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
            int asks = choose_tracer(index);
            is_log_kept = is_traced && logging;
            tracee.child = fork_as(1000 + number * 100);
            if (tracee.child == 0) {
                wide none = 0;
                call4(__NR_rt_sigprocmask, 2, &none, 0, 8);
                script(index, asks);
            }
            note("status", wait_for());
            print_log();
            while (call4(__NR_wait4, -1, 0, 0x40000000, 0) > 0)
                ;
        }
        is_log_kept = 0;
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

#ifndef __x86_64__
static word first_stack;
#endif

/* Where the kernel put the first stack differs: this one is at the same place everywhere. */
__attribute__((used)) static void map_main(word *stack)
{
    map(STACK_OF_MAIN - 0x20000, 0x20000, READ | WRITE, PRIVATE);
#ifdef __x86_64__
    (void)stack;
#else
    enum { AT_SYSINFO = 32, AT_SYSINFO_EHDR = 33, VDSO_SIZE = 2 * PAGE };
    word *p = stack + 1 + *stack + 1;
    while (*p++)
        ;
    for (; *p; p += 2) {
        if (*p == AT_SYSINFO)
            vdso_door = p[1];
        if (*p == AT_SYSINFO_EHDR)
            vdso_first = p[1];
    }
    vdso_end = vdso_first + VDSO_SIZE;
    first_stack = (word)stack & -(word)PAGE;
#endif
}

#ifndef __x86_64__
/* The first stack lies where random pointers go, and elsewhere in each boot. */
static void unmap_first_stack(void)
{
    enum { GROWN = 0x40000 };
    const word end = 0xffffe000;
    call3(__NR_munmap, first_stack - GROWN, end - (first_stack - GROWN), 0);
}
#endif

__attribute__((used, noreturn)) static void first(void)
{
#ifndef __x86_64__
    unmap_first_stack();
#endif
    int is_init = call3(__NR_getpid, 0, 0, 0) == 1;
    /* A tracer may make a script call kill(-1). Linux spares its init; the reference kernel's first program is none. */
    wide set = ~0ull;
    call4(__NR_rt_sigprocmask, 0, &set, 0, 8);
    map(SHARED_PAGES, 64 * PAGE, READ | WRITE, SHARED);
    map(LOG, LOG_SIZE, READ | WRITE, SHARED);
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
        restart_machine();
    end(0);
}
