/*
 * The rows that programs of both widths measure in the same way. The including file has before it: CALL, the instruction of
 * a system call, with its number in (E|R)AX; the numbers; `syscall3`, `syscall_loop` and process.h; `handle`, which sets a
 * signal's handler, and the handlers `skip_two_bytes` and `go_on`; `map` and `unmap`.
 */

/* ---- work on the way in or out ---- */

enum { PR_SET_NO_NEW_PRIVS = 38, SECCOMP_SET_MODE_FILTER = 1, SECCOMP_RET_ALLOW = 0x7fff0000, SECCOMP_RET_ERRNO = 0x50000 };

/* A filter that forbids one system call and allows the others. It cannot be taken off: its process ends with the row. */
static void measure_seccomp(void)
{
	static const struct {
		unsigned short code;
		unsigned char yes, no;
		unsigned k;
	} program[] = {
		{ 0x20, 0, 0, 0 },			/* load the number */
		{ 0x15, 0, 1, SYS_reboot },		/* is it this one? */
		{ 0x06, 0, 0, SECCOMP_RET_ERRNO | 1 },
		{ 0x06, 0, 0, SECCOMP_RET_ALLOW },
	};
	struct {
		unsigned short length;
		const void *program;
	} filter = { sizeof program / sizeof *program, program };
	long child = fork();

	if (!child) {
		syscall3(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0);
		if (syscall3(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter))
			syscall3(SYS_exit_group, 1, 0, 0);
		row("seccomp", per_round(MINIMUM("mov %1, %%eax\n\t" CALL, "i"(SYS_getppid)), syscall_loop(), ROUNDS));
		syscall3(SYS_exit_group, 0, 0, 0);
	}
	if (child < 0 || wait_for(child))
		missing("seccomp", "this kernel has no seccomp filters");
}

/* ---- signals ---- */

static u64 signal_loop(void)
{
	return MINIMUM("xor %%eax, %%eax", "i"(0));
}

static void measure_ud(void)
{
	handle(SIGILL, skip_two_bytes);
	row("ud-signal", per_round(MINIMUM("xor %%eax, %%eax\n\tud2", "i"(0)), signal_loop(), ROUNDS));
}

/* Address 0 is never mapped; the load is `8b 00`, two bytes. */
static void measure_fault(void)
{
	handle(SIGSEGV, skip_two_bytes);
	row("fault-signal",
	    per_round(MINIMUM("xor %%eax, %%eax\n\tmov (" AX "), %%eax", "i"(0)), signal_loop(), ROUNDS));
}

/*
 * TF set by the program itself: #DB after the NOP and after each of the three instructions that clear TF again, so four
 * signals a round.
 */
static void measure_single_step(void)
{
	handle(SIGTRAP, go_on);
	u64 empty = MINIMUM("pushf\n\torl $0, (" SP ")\n\tpopf\n\tnop\n\tpushf\n\tandl $~0x100, (" SP ")\n\tpopf", "i"(0));
	u64 stepped = MINIMUM("pushf\n\torl $0x100, (" SP ")\n\tpopf\n\tnop\n\tpushf\n\tandl $~0x100, (" SP ")\n\tpopf", "i"(0));
	if (stepped - empty < 4 * ROUNDS)
		missing("single-step", "TF raises no signal");
	else
		row("single-step", per_round(stepped, empty, 4 * ROUNDS));
}

/* ---- memory ---- */

/* A first read needs no memory of its own: a kernel may map one page of zeros. */
static void measure_minor_read(void)
{
	MEASURE_MINOR_FAULTS("minor-fault-read", "cmpb $1, (%0)");
}

/* A first write takes a page and clears it. */
static void measure_minor_write(void)
{
	MEASURE_MINOR_FAULTS("minor-fault-write", "movb $1, (%0)");
}

/* ---- two tasks ---- */

enum {
	CLONE_VM = 0x100, CLONE_FS = 0x200, CLONE_FILES = 0x400, CLONE_SIGHAND = 0x800, CLONE_THREAD = 0x10000,
	PARTNER_FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD,
};

static volatile unsigned partner_turns;
static volatile int partner_stop;
static char partner_stack[4096] __attribute__((aligned(16)));

static __attribute__((noreturn, used)) void partner(void)
{
	while (!partner_stop) {
		partner_turns++;
		syscall3(SYS_sched_yield, 0, 0, 0);
	}
	for (;;)
		syscall3(SYS_exit, 0, 0, 0);
}

/* A thread with PARTNER_FLAGS that runs `partner` on its stack; negative if there is none. */
static long start_partner(void);

/* A batch counts only if the partner ran exactly once per yield: a yield that switches nowhere is cheap, and no row. */
static void measure_yield(void)
{
	unsigned long mask = 1;
	u64 least = ~0ull;

	partner_stop = 0;
	syscall3(SYS_sched_setaffinity, 0, sizeof mask, &mask);
	if (start_partner() < 0) {
		missing("yield-switch", "clone failed");
		return;
	}
	/* A scheduler that is fair lets the older task run for some time first. */
	for (unsigned i = 0; i < 100000 && partner_turns < 64; i++)
		syscall3(SYS_sched_yield, 0, 0, 0);
	u64 empty = MINIMUM("mov %1, %%eax", "i"(SYS_sched_yield));
	for (unsigned batch = 0; batch < BATCHES; batch++) {
		unsigned turns = partner_turns;
		u64 t = TIME_LOOP("mov %1, %%eax\n\t" CALL, "i"(SYS_sched_yield));
		if (partner_turns - turns == ROUNDS && t < least)
			least = t;
	}
	partner_stop = 1;
	for (unsigned i = 0; i < 64; i++)
		syscall3(SYS_sched_yield, 0, 0, 0);
	if (least == ~0ull)
		missing("yield-switch", "the two tasks never alternated");
	else
		row("yield-switch", per_round(least, empty, 2 * ROUNDS));
}
