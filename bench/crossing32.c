/*
 * The crossings of a 32-bit program, as crossing.c has those of a 64-bit one. Run by that one for the row that only a
 * 32-bit program has, and as the first program of a 32-bit Linux for all of them.
 *
 *     gcc -m32 -O2 -static -nostdlib -ffreestanding -fno-stack-protector -mno-sse -o crossing32 crossing32.c
 */

#include "measure.h"

typedef unsigned long u32;

enum {
	SYS_exit = 1, SYS_write = 4, SYS_getpid = 20, SYS_ptrace = 26, SYS_kill = 37, SYS_getppid = 64, SYS_reboot = 88,
	SYS_munmap = 91, SYS_wait4 = 114, SYS_clone = 120, SYS_uname = 122, SYS_sched_setscheduler = 156, SYS_sched_yield = 158,
	SYS_prctl = 172, SYS_rt_sigaction = 174, SYS_mmap2 = 192, SYS_sched_setaffinity = 241, SYS_exit_group = 252,
	SYS_seccomp = 354, SYS_unknown = 0x7ffe0000,
};

static long syscall5(long nr, u32 a, u32 b, u32 c, u32 d, u32 e)
{
	long ret;
	asm volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
	return ret;
}
#define syscall3(nr, a, b, c) syscall5(nr, (u32)(a), (u32)(b), (u32)(c), 0, 0)

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
	row("int80", per_round(MINIMUM("mov %1, %%eax\n\tint $0x80", "i"(SYS_getppid)), syscall_loop(), ROUNDS));
}

static void measure_unknown(void)
{
	row("unknown-syscall",
	    per_round(MINIMUM("mov %1, %%eax\n\tint $0x80", "i"(SYS_unknown)), syscall_loop(), ROUNDS));
}

/* What AT_SYSINFO names: the vDSO's way in, by SYSENTER, SYSCALL or INT 0x80 as the CPU has it. Less the loop, not the call. */
static void *vsyscall;

static void measure_vdso(void)
{
	if (vsyscall)
		row("vdso32", per_round(MINIMUM("mov %1, %%eax\n\tcall *%2", "i"(SYS_getppid), "m"(vsyscall)),
					syscall_loop(), ROUNDS));
	else
		missing("vdso32", "this kernel gives no AT_SYSINFO");
}

/* ---- signals ---- */

enum { SIGILL = 4, SIGTRAP = 5, SIGSEGV = 11, SA_SIGINFO = 4, SA_RESTORER = 0x04000000 };

struct sigaction {
	void *handler;
	u32 flags;
	void *restorer;
	u64 mask;
};

/* The frame at entry: return address, signal, siginfo, ucontext; EIP is 76 bytes into the ucontext. */
asm("skip_two_bytes:\n\t"
    "mov 12(%esp), %edx\n\t"
    "addl $2, 76(%edx)\n\t"
    "go_on:\n\t"
    "ret\n"
    "restorer:\n\t"
    "mov $173, %eax\n\t"
    "int $0x80\n");
extern char skip_two_bytes[], go_on[], restorer[];

static void handle(u32 signal, void *handler)
{
	struct sigaction action = { handler, SA_SIGINFO | SA_RESTORER, restorer, 0 };
	syscall5(SYS_rt_sigaction, signal, (u32)&action, 0, 8, 0);
}

/* ---- memory ---- */

static void *map(u32 size)
{
	long at;

	/* Six arguments: the sixth in EBP, which a compiler may need itself. */
	asm volatile("push %%ebp\n\txor %%ebp, %%ebp\n\tint $0x80\n\tpop %%ebp"
		     : "=a"(at) : "a"(SYS_mmap2), "b"(0), "c"(size), "d"(PROT_RW), "S"(MAP_PRIVATE_ANONYMOUS), "D"(-1)
		     : "memory");
	return (void *)at;
}

static void unmap(void *range, u32 size)
{
	syscall3(SYS_munmap, range, size, 0);
}

static void measure_kernel_fault(void)
{
	/* EBX counts the rounds and is the first argument too: 1 to ROUNDS are addresses where nothing is. */
	row("kernel-fault", per_round(MINIMUM("mov %1, %%eax\n\tint $0x80", "i"(SYS_uname)), syscall_loop(), ROUNDS));
}

/* ---- the rows of both widths ---- */

#define CALL "int $0x80"
#include "rows.h"

static long start_partner(void)
{
	long tid;

	asm volatile("int $0x80\n\ttest %%eax, %%eax\n\tjnz 1f\n\txor %%ebp, %%ebp\n\tcall partner\n1:"
		     : "=a"(tid)
		     : "a"(SYS_clone), "b"(PARTNER_FLAGS), "c"(partner_stack + sizeof partner_stack), "d"(0), "S"(0), "D"(0)
		     : "memory");
	return tid;
}

/* ---- start ---- */

static const struct {
	const char *name;
	void (*measure)(void);
} rows[] = {
	{ "int80", measure_getppid },
	{ "unknown-syscall", measure_unknown },
	{ "vdso32", measure_vdso },
	{ "seccomp", measure_seccomp },
	{ "ud-signal", measure_ud },
	{ "fault-signal", measure_fault },
	{ "single-step", measure_single_step },
	{ "minor-fault-read", measure_minor_read },
	{ "minor-fault-write", measure_minor_write },
	{ "kernel-fault", measure_kernel_fault },
	{ "yield-switch", measure_yield },
	{ "ptrace-syscall", measure_ptrace },
};

/* Arguments: the rows to measure (none: all). As the first program it ends the machine. */
static __attribute__((noreturn, used)) void begin(u32 *stack)
{
	enum { AT_NULL = 0, AT_SYSINFO = 32, RB_AUTOBOOT = 0x01234567, MAGIC1 = 0xfee1dead, MAGIC2 = 672274793 };
	u32 argc = stack[0];
	char **argv = (char **)(stack + 1);
	u32 *aux = stack + 1 + argc + 1;

	while (*aux++)
		;
	for (; aux[0] != AT_NULL; aux += 2)
		if (aux[0] == AT_SYSINFO)
			vsyscall = (void *)aux[1];
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		int wanted = argc < 2;
		for (u32 a = 1; a < argc; a++)
			wanted |= same(argv[a], rows[i].name);
		if (wanted)
			rows[i].measure();
	}
	if (syscall3(SYS_getpid, 0, 0, 0) == 1) {
		put("{\"done\":true}");
		flush();
		syscall3(SYS_reboot, MAGIC1, MAGIC2, RB_AUTOBOOT);
	}
	for (;;)
		syscall3(SYS_exit_group, 0, 0, 0);
}

asm(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %esp, %eax\n\tand $-16, %esp\n\tsub $12, %esp\n\tpush %eax\n\tcall begin\n");
