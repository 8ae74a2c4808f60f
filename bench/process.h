/*
 * Processes, and what one does to another: for the measuring programs of both widths. The including file has the system
 * calls: their numbers `SYS_…`, and `syscall3(number, a, b, c)`, whose other arguments are 0.
 */

enum { SIGKILL = 9, SIGCHLD = 17, SIGSTOP = 19 };

/* A process of its own, for what cannot be undone. */
static long fork(void)
{
	return syscall3(SYS_clone, SIGCHLD, 0, 0);
}

static int wait_for(long child)
{
	int status = -1;

	syscall3(SYS_wait4, child, &status, 0);
	return status;
}

/*
 * One stop: the tracee is let go on, runs to its next entry or exit, and its tracer, which sleeps by then, is told.
 *
 * Linux would let a waking tracee run at once as often as it needs to get its share of the CPU, and its tracer would then
 * find it stopped already and not sleep at all: a path shorter by 1600 instructions, taken the more often the faster the
 * tracee is. Tasks of SCHED_BATCH do not preempt each other when they wake up. A kernel without policies ignores it.
 */
static void measure_ptrace(void)
{
	enum { PTRACE_TRACEME = 0, PTRACE_SYSCALL = 24, STOPPED = 0x7f, SCHED_OTHER = 0, SCHED_BATCH = 3 };
	unsigned long mask = 1;
	int priority = 0;
	u64 least = ~0ull;
	long child;

	syscall3(SYS_sched_setaffinity, 0, sizeof mask, &mask);
	syscall3(SYS_sched_setscheduler, 0, SCHED_BATCH, &priority);
	child = fork();
	if (!child) {
		if (syscall3(SYS_ptrace, PTRACE_TRACEME, 0, 0))
			syscall3(SYS_exit_group, 1, 0, 0);
		syscall3(SYS_kill, syscall3(SYS_getpid, 0, 0, 0), SIGSTOP, 0);
		for (;;)
			syscall3(SYS_getppid, 0, 0, 0);
	}
	if (child < 0 || (wait_for(child) & 0xff) != STOPPED) {
		missing("ptrace-syscall", "this kernel has no ptrace");
		return;
	}
	for (unsigned batch = 0; batch < BATCHES; batch++) {
		u64 start = rdtsc(), took;
		for (unsigned stop = 0; stop < ROUNDS; stop++) {
			syscall3(SYS_ptrace, PTRACE_SYSCALL, child, 0);
			wait_for(child);
		}
		took = rdtsc() - start;
		if (took < least)
			least = took;
	}
	syscall3(SYS_kill, child, SIGKILL, 0);
	wait_for(child);
	syscall3(SYS_sched_setscheduler, 0, SCHED_OTHER, &priority);
	row("ptrace-syscall", per_round(least, 0, ROUNDS));
}
