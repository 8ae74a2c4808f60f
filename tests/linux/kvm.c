/* A guest of KVM, in Linux with an AMD CPU: a signal ends KVM_RUN, other tasks get the CPU while the guest spins, and what the
 * host's user mode finds in a register that the guest had is its own. The first two are the work before a guest is entered,
 * the third is a user-return notifier. Run it on one CPU: there a task that is not rescheduled stops all others.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MSR_TSC_AUX = 0xc0000103, GUESTS_AUX = 0x5a5a, CODE = 0x1000, RESULT = 0x1800, SIGNALS = 20 };

/* Real mode: RDTSCP, then its third result to RESULT, then an endless loop. */
static const uint8_t guest_code[] = { 0x0f, 0x01, 0xf9, 0x66, 0x89, 0x0e, 0x00, 0x18, 0xeb, 0xfe };

static void must(int good, const char *what)
{
	if (!good) {
		printf("%s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static uint32_t own_aux(void)
{
	uint32_t aux;

	__asm__ volatile("rdtscp" : "=c"(aux) : : "eax", "edx");
	return aux;
}

/* Runs the guest until a signal comes. All are blocked but in KVM_RUN, so that none can come too early and be lost. */
static void run(int cpu, struct kvm_run *state, const sigset_t *signals)
{
	state->exit_reason = 0;
	must(ioctl(cpu, KVM_RUN, 0) < 0 && errno == EINTR, "KVM_RUN, to be interrupted");
	must(state->exit_reason == KVM_EXIT_INTR, "the reason of its end");
	must(sigwaitinfo(signals, NULL) > 0, "the signal");
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR);
	must(kvm >= 0, "/dev/kvm");
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	must(vm >= 0, "KVM_CREATE_VM");
	uint8_t *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(memory != MAP_FAILED, "mmap");
	memcpy(memory, guest_code, sizeof guest_code);
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = CODE, .memory_size = 4096, .userspace_addr = (uintptr_t)memory,
	};
	must(!ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	must(cpu >= 0, "KVM_CREATE_VCPU");
	struct kvm_run *state = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	must(state != MAP_FAILED, "mmap of the CPU's state");

	/* RDTSCP is there for the guest only if its CPUID says so. */
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + 256 * sizeof cpuid->entries[0]);
	must(cpuid != NULL, "calloc");
	cpuid->nent = 256;
	must(!ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) && !ioctl(cpu, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry aux;
	} msrs = { .head.nmsrs = 1, .aux = { .index = MSR_TSC_AUX, .data = GUESTS_AUX } };
	must(ioctl(cpu, KVM_SET_MSRS, &msrs) == 1, "KVM_SET_MSRS");
	struct kvm_sregs segments;
	must(!ioctl(cpu, KVM_GET_SREGS, &segments), "KVM_GET_SREGS");
	segments.cs.base = segments.cs.selector = 0;
	must(!ioctl(cpu, KVM_SET_SREGS, &segments), "KVM_SET_SREGS");
	struct kvm_regs registers = { .rip = CODE, .rflags = 2 };
	must(!ioctl(cpu, KVM_SET_REGS, &registers), "KVM_SET_REGS");

	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGALRM);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	/* In KVM_RUN none is: a mask of eight bytes, all of them 0. */
	struct {
		struct kvm_signal_mask head;
		uint64_t none;
	} mask = { .head.len = sizeof mask.none };
	must(!ioctl(cpu, KVM_SET_SIGNAL_MASK, &mask), "KVM_SET_SIGNAL_MASK");

	uint32_t before = own_aux();
	struct itimerval every = { { 0, 10000 }, { 0, 10000 } }, never = { { 0, 0 }, { 0, 0 } };
	setitimer(ITIMER_REAL, &every, NULL);
	uint32_t seen = 0;
	for (int i = 0; i < SIGNALS || seen != GUESTS_AUX; i++) {
		run(cpu, state, &signals);
		must(own_aux() == before, "the host's own TSC_AUX");
		memcpy(&seen, memory + RESULT - CODE, sizeof seen);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	printf("signals end KVM_RUN\nregisters are the host's again\n");

	/* No timer now: only the scheduler can give this process the CPU, and its signal ends the guest. */
	pid_t other = fork();
	must(other >= 0, "fork");
	if (!other) {
		for (volatile long i = 0; i < 50000000; i++)
			;
		kill(getppid(), SIGUSR1);
		_exit(7);
	}
	run(cpu, state, &signals);
	int status;
	must(waitpid(other, &status, 0) == other && WIFEXITED(status) && WEXITSTATUS(status) == 7, "the other process");
	printf("other tasks run while the guest spins\n");
	return 0;
}
