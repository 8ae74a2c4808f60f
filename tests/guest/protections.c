/* What protects the kernel from user memory and user code is on, on every CPU: WP, SMEP, SMAP, UMIP and NX where the
 * processor has them. What user code can see of it is tried (UMIP, NX); the rest is read from /dev/gate, since with the
 * guard out nothing else shows it until the day the kernel follows a wrong pointer.
 */
#include "gate.h"
#include "registers.h"
#include <sched.h>

SNIPPET(store_gdt, "sgdt (%rdi)");
SNIPPET(store_idt, "sidt (%rdi)");
SNIPPET(store_ldt, "sldt %eax");
SNIPPET(store_task, "str %eax");
SNIPPET(store_status, "smsw %rax");

enum { CR0_WP = 1 << 16, CR0_AM = 1 << 18, CR4_UMIP = 1 << 11, CR4_FSGSBASE = 1 << 16, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21,
       EFER_NXE = 1 << 11 };

/* The instruction faults, or gives what Linux gives in its place. */
static void hidden(const char *name, const void *snippet, uint64_t instead)
{
    uint64_t memory[2] __attribute__((aligned(16))) = { 0 }, value;
    caught.count = 0;
    randomize(&in);
    in.rax = 0;
    in.rdi = (uint64_t)memory + 6; /* the limit is at 6, the base at 8 */
    run(snippet);
    value = memory[1] ? memory[1] : out.rax;
    check((caught.count == 1 && caught.signal == SIGSEGV) || value == instead, name, "it gives %#lx", value);
}

static void descriptor_tables(void)
{
    unsigned a, b, c = 0, d;
    __cpuid_count(7, 0, a, b, c, d);
    if (!(c >> 2 & 1)) {
        skip("UMIP", "the processor has none");
        return;
    }
    resume_at = store_gdt_end;
    hidden("SGDT tells nothing", store_gdt, 0xfffffffffffe0000);
    resume_at = store_idt_end;
    hidden("SIDT tells nothing", store_idt, 0xffffffffffff0000);
    resume_at = store_ldt_end;
    hidden("SLDT tells nothing", store_ldt, 0);
    resume_at = store_task_end;
    hidden("STR tells nothing", store_task, 0x40);
    resume_at = store_status_end;
    hidden("SMSW tells nothing", store_status, 0x80050033);
    resume_at = NULL;
}

static void control_registers(void)
{
    unsigned a, b = 0, c = 0, d = 0, extended;
    if (gate_status("cr4") < 0) {
        skip("control registers", "no /dev/gate that shows them");
        return;
    }
    __cpuid_count(7, 0, a, b, c, d);
    __cpuid(0x80000001, a, extended, extended, d);
    long wanted4 = (b >> 7 & 1 ? CR4_SMEP : 0) | (b >> 20 & 1 ? CR4_SMAP : 0) | (b & 1 ? CR4_FSGSBASE : 0) |
                   (c >> 2 & 1 ? CR4_UMIP : 0);
    long wanted0 = CR0_WP | CR0_AM, wanted_efer = d >> 20 & 1 ? EFER_NXE : 0;
    int cpus = sysconf(_SC_NPROCESSORS_ONLN);
    for (int cpu = 0; cpu < cpus; cpu++) {
        char name[48];
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
        long cr0 = gate_status("cr0"), cr4 = gate_status("cr4"), efer = gate_status("efer");
        snprintf(name, sizeof name, "control registers of CPU %d", cpu);
        check((cr0 & wanted0) == wanted0 && (cr4 & wanted4) == wanted4 && (efer & wanted_efer) == wanted_efer, name,
              "CR0 %#lx, CR4 %#lx, EFER %#lx lack %#lx, %#lx, %#lx", cr0, cr4, efer, wanted0 & ~cr0, wanted4 & ~cr4,
              wanted_efer & ~efer);
    }
}

/* A far call and its return. Where SMAP is on, an emulator writes and reads the stack as the supervisor, and is refused: that
 * has to end by a signal, not in a fault for ever. */
static int calls_far(void)
{
    static struct __attribute__((packed)) { uint32_t offset; uint16_t selector; } target;
    uint64_t address;
    signal(SIGSEGV, SIG_DFL);
    asm volatile("lea 1f(%%rip), %0\n mov %%cs, %1" : "=r"(address), "=m"(target.selector));
    target.offset = address;
    /* The red zone is the compiler's. */
    asm volatile("lea -256(%%rsp), %%rsp\n lcall *%0\n lea 256(%%rsp), %%rsp\n jmp 2f\n 1: lretl\n 2:" : : "m"(target) : "memory");
    return 0;
}

static void far_calls(void)
{
    int status = in_child(calls_far);
    int refused = emulated() && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
    check(status == 0 || refused, "a far call ends", "status %#x", status);
}

int main(void)
{
    far_calls();
    catch_signal(SIGSEGV, 0);
    catch_signal(SIGILL, 0);
    descriptor_tables();
    control_registers();
    return done();
}
