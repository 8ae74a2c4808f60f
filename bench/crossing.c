/*
 * The cost of each crossing between user mode and the kernel, in instructions.
 *
 * Run under `qemu -accel tcg -icount shift=0,sleep=off` every executed instruction advances the time-stamp counter by
 * one, so two RDTSC give an exact, reproducible count. The same binary runs as the first program of the reference
 * kernel and of a stock Linux, and prints one JSON object per row to standard output.
 *
 * Each row is the minimum over batches (an interrupt only ever adds), less the same loop without the crossing.
 * Freestanding: no libc start-up, no vDSO, nothing between the loop and the instruction that is measured.
 *
 *     gcc -O2 -static -nostdlib -ffreestanding -fno-stack-protector -mno-sse -mno-red-zone -o crossing crossing.c
 */

#include "measure.h"

typedef long i64;

enum {
	SYS_read = 0, SYS_write = 1, SYS_open = 2, SYS_mmap = 9, SYS_munmap = 11, SYS_rt_sigaction = 13, SYS_sched_yield = 24,
	SYS_getpid = 39, SYS_clone = 56, SYS_execve = 59, SYS_exit = 60, SYS_wait4 = 61, SYS_kill = 62, SYS_uname = 63,
	SYS_ptrace = 101, SYS_getppid = 110, SYS_sched_setscheduler = 144, SYS_prctl = 157, SYS_reboot = 169,
	SYS_sched_setaffinity = 203,
	SYS_exit_group = 231, SYS_finit_module = 313, SYS_seccomp = 317,
	SYS_getppid_32 = 64,
	SYS_unknown = 0x7ffe0000,
	/* Answered by a kernel with the feature `bench-floor`, in a door before its SYSCALL door (kernel/src/boot/floor.rs). */
	SYS_floor = 0x7fff0000,
};

enum { SIGILL = 4, SIGTRAP = 5, SIGSEGV = 11, EFAULT = 14 };

static inline i64 syscall6(i64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	register u64 r10 asm("r10") = d, r8 asm("r8") = e, r9 asm("r9") = f;
	i64 ret;
	asm volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return ret;
}
#define syscall3(nr, a, b, c) syscall6(nr, (u64)(a), (u64)(b), (u64)(c), 0, 0, 0)

static long write_out(const char *text, unsigned long length)
{
	return syscall3(SYS_write, 1, text, length);
}

#include "process.h"

static u64 syscall_loop(void)
{
	return MINIMUM("mov %1, %%eax", "i"(SYS_getppid));
}

static void measure_getppid(void)
{
	row("getppid", per_round(MINIMUM("mov %1, %%eax\n\tsyscall", "i"(SYS_getppid)), syscall_loop(), ROUNDS));
}

static void measure_unknown(void)
{
	row("unknown-syscall",
	    per_round(MINIMUM("mov %1, %%eax\n\tsyscall", "i"(SYS_unknown)), syscall_loop(), ROUNDS));
}

static void measure_floor(void)
{
	if (syscall3(SYS_floor, 0, 0, 0) == SYS_floor)
		row("floor", per_round(MINIMUM("mov %1, %%eax\n\tsyscall", "i"(SYS_floor)), syscall_loop(), ROUNDS));
	else
		missing("floor", "this kernel has no door that does nothing");
}

/* ---- signals ---- */

enum { SA_SIGINFO = 4, SA_RESTORER = 0x04000000, UCONTEXT_RIP = 168 };

struct sigaction {
	void *handler;
	u64 flags;
	void *restorer;
	u64 mask;
};

/* Steps over the instruction that faulted (each is two bytes long) and returns by rt_sigreturn: four instructions. */
asm("skip_two_bytes:\n\t"
    "addq $2, 168(%rdx)\n\t"
    "ret\n"
    "go_on:\n\t"
    "ret\n"
    "restorer:\n\t"
    "mov $15, %eax\n\t"
    "syscall\n");
extern char skip_two_bytes[], go_on[], restorer[];
_Static_assert(UCONTEXT_RIP == 168, "the handler names the offset of RIP in the ucontext");

static void handle(u64 signal, void *handler)
{
	struct sigaction action = { handler, SA_SIGINFO | SA_RESTORER, restorer, 0 };
	syscall6(SYS_rt_sigaction, signal, (u64)&action, 0, 8, 0, 0);
}

/* ---- the 32-bit doors ---- */

/* A kernel without the door sends SIGSEGV; `int $0x80` is two bytes, and RAX stays what it was. */
static void measure_int80(void)
{
	i64 answer;

	handle(SIGSEGV, skip_two_bytes);
	asm volatile("int $0x80" : "=a"(answer) : "a"(SYS_getppid_32) : "r8", "r9", "r10", "r11", "memory");
	if (answer == SYS_getppid_32)
		missing("int80", "this kernel has no INT 0x80");
	else
		row("int80", per_round(MINIMUM("mov %1, %%eax\n\tint $0x80", "i"(SYS_getppid_32)), syscall_loop(), ROUNDS));
}

/* What only a 32-bit program can do is another program's, which prints its rows itself. */
static void measure_vdso32(void)
{
	static char *argv[] = { "/crossing32", "vdso32", 0 };
	i64 child = fork();

	if (!child) {
		syscall3(SYS_execve, argv[0], argv, argv + 2);
		syscall3(SYS_exit_group, 1, 0, 0);
	}
	if (child < 0 || wait_for(child))
		missing("vdso32", "this kernel runs no 32-bit programs");
}

/* ---- memory ---- */

static void *map(u64 size)
{
	return (void *)syscall6(SYS_mmap, 0, size, PROT_RW, MAP_PRIVATE_ANONYMOUS, -1, 0);
}

static void unmap(void *range, u64 size)
{
	syscall3(SYS_munmap, range, size, 0);
}

/* The kernel's own access to an address that user mode gave it, and nothing is there: EFAULT. */
static void measure_kernel_fault(void)
{
	if (syscall3(SYS_uname, 0, 0, 0) != -EFAULT)
		missing("kernel-fault", "uname(NULL) is not EFAULT");
	else
		row("kernel-fault",
		    per_round(MINIMUM("xor %%edi, %%edi\n\tmov %1, %%eax\n\tsyscall", "i"(SYS_uname)),
			      MINIMUM("xor %%edi, %%edi\n\tmov %1, %%eax", "i"(SYS_uname)), ROUNDS));
}

/* ---- interrupts: a gap in a loop that does nothing but read the counter ---- */

enum { GAPS = 33, PATIENCE = 400000000 };

struct gap {
	u64 at, extra;
};

/*
 * Spins until one iteration takes longer than the others: an interrupt was taken between two RDTSC of this loop, and
 * `extra` is what it executed. Gives up after `patience` instructions.
 */
static int next_gap(struct gap *gap, u64 patience)
{
	static u64 usual;
	u64 before = rdtsc(), now, begin = before;
	if (!usual) {
		usual = ~0ull;
		for (unsigned i = 0; i < 64; i++) {
			now = rdtsc();
			if (now - before < usual)
				usual = now - before;
			before = now;
		}
	}
	for (;;) {
		now = rdtsc();
		if (now - before > usual + 40) {
			gap->at = before;
			gap->extra = now - before - usual;
			return 1;
		}
		if (now - begin > patience)
			return 0;
		before = now;
	}
}

static u64 tick_period;

/* A row of which every sample was taken singly: the median and the number of samples tell how steady it is. */
static void row_sampled(const char *name, u64 *samples, unsigned n)
{
	for (unsigned i = 1; i < n; i++)
		for (unsigned j = i; j && samples[j - 1] > samples[j]; j--) {
			u64 t = samples[j];
			samples[j] = samples[j - 1];
			samples[j - 1] = t;
		}
	put("{\"row\":\"");
	put(name);
	put("\",\"instructions\":");
	put_number(samples[0]);
	put(",\"median\":");
	put_number(samples[n / 2]);
	put(",\"samples\":");
	put_number(n);
	put("}");
	flush();
}

static void measure_timer(void)
{
	u64 extra[GAPS];
	struct gap gap, last;
	unsigned n = 0;

	tick_period = ~0ull;
	next_gap(&last, PATIENCE);
	while (n < GAPS && next_gap(&gap, PATIENCE)) {
		extra[n++] = gap.extra;
		if (gap.at - last.at < tick_period)
			tick_period = gap.at - last.at;
		last = gap;
	}
	if (n == GAPS)
		row_sampled("timer-user", extra, n);
	else
		missing("timer-user", "too few interrupts seen");
}

/*
 * NMIs come from outside, at any time, while the timer goes on ticking. A gap within 1/32 of a period around the time
 * of the next tick may be the tick; any other is an NMI. Following each tick to the next tolerates a timer that drifts.
 */
static void measure_nmi(void)
{
	u64 extra[GAPS], slack;
	struct gap gap, tick;
	unsigned n = 0;

	if (!tick_period)
		measure_timer();
	slack = tick_period / 32;
	if (!next_gap(&tick, PATIENCE)) {
		missing("nmi-user", "no timer to tell NMIs from");
		return;
	}
	put("{\"ready\":\"nmi\"}");
	flush();
	/* That write took time, and may have hidden ticks. Nobody is sending NMIs yet: the host takes its time. */
	next_gap(&tick, PATIENCE);
	u64 begin = tick.at;
	while (n < GAPS && tick.at - begin < 20ul * PATIENCE) {
		if (!next_gap(&gap, PATIENCE))
			break;
		u64 since = gap.at - tick.at;
		if (since + slack > tick_period)
			tick = gap;
		else if (since > slack)
			extra[n++] = gap.extra;
	}
	if (n == GAPS)
		row_sampled("nmi-user", extra, n);
	else
		missing("nmi-user", "too few NMIs seen");
}

/* ---- the rows of both widths ---- */

#define CALL "syscall"
#include "rows.h"

static long start_partner(void)
{
	long tid;

	asm volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\tcall partner\n1:"
		     : "=a"(tid)
		     : "a"(SYS_clone), "D"(PARTNER_FLAGS), "S"(partner_stack + sizeof partner_stack), "d"(0)
		     : "rcx", "r11", "memory");
	return tid;
}

/* ---- what the library keeps, as the reference kernel's test device tells it: lines `key value` ---- */

static void report_status(void)
{
	static char text[4096];
	i64 fd = syscall3(SYS_open, "/dev/gate", 0, 0);
	i64 n = fd < 0 ? 0 : syscall6(SYS_read, fd, (u64)text, sizeof text - 1, 0, 0, 0);

	for (char *p = text; n > 0 && p < text + n;) {
		put("{\"status\":\"");
		while (*p && *p != ' ' && *p != '\n' && len < 100)
			line[len++] = *p++;
		put("\",\"value\":\"");
		while (*p == ' ')
			p++;
		while (*p && *p != '\n' && len < 200)
			line[len++] = *p++;
		put("\"}");
		flush();
		while (*p && *p++ != '\n')
			;
		if (!*p)
			break;
	}
}

/* ---- start ---- */

static const struct {
	const char *name;
	void (*measure)(void);
} rows[] = {
	{ "getppid", measure_getppid },
	{ "unknown-syscall", measure_unknown },
	{ "floor", measure_floor },
	{ "int80", measure_int80 },
	{ "vdso32", measure_vdso32 },
	{ "seccomp", measure_seccomp },
	{ "ud-signal", measure_ud },
	{ "fault-signal", measure_fault },
	{ "single-step", measure_single_step },
	{ "minor-fault-read", measure_minor_read },
	{ "minor-fault-write", measure_minor_write },
	{ "kernel-fault", measure_kernel_fault },
	{ "yield-switch", measure_yield },
	{ "ptrace-syscall", measure_ptrace },
	{ "timer-user", measure_timer },
	{ "nmi-user", measure_nmi },
};

/* Arguments: the rows to measure (none: all), or `loop ROW` to make that crossing for ever, for a profiler. */
static __attribute__((noreturn, used)) void begin(u64 *stack)
{
	enum { O_RDONLY = 0, RB_AUTOBOOT = 0x01234567, MAGIC1 = 0xfee1dead, MAGIC2 = 672274793 };
	u64 argc = stack[0];
	char **argv = (char **)(stack + 1);

	/* Stock Linux calls an NMI that nobody claims an error and prints it; this module claims it (see nmi_claim.c). */
	i64 module = syscall3(SYS_open, "/nmi_claim.ko", O_RDONLY, 0);
	if (module >= 0)
		syscall3(SYS_finit_module, module, "", 0);

	int loop = argc > 2 && same(argv[1], "loop");
	report_status();
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		int wanted = argc < 2;
		for (u64 a = 1; a < argc; a++)
			wanted |= same(argv[a], rows[i].name);
		if (!wanted)
			continue;
		if (loop) {
			put("{\"ready\":\"loop\"}");
			flush();
			quiet = 1;
		}
		do
			rows[i].measure();
		while (loop);
	}
	put("{\"done\":true}");
	flush();
	/* As the first program of Linux there is nothing to return to; with -no-reboot this ends the emulator. */
	syscall3(SYS_reboot, MAGIC1, MAGIC2, RB_AUTOBOOT);
	for (;;)
		syscall3(SYS_exit_group, 0, 0, 0);
}

asm(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
