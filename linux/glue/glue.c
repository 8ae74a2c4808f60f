// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What of Linux is only there as macro or inline function, for the crate to call. Nothing here decides anything; what is on
 * a fast path is not here but in the crate, as inline assembly.
 */

#include PORTCULLIS_VERSION_H

#include <linux/audit.h>
#include <linux/context_tracking.h>
#include <linux/entry-common.h>
#include <linux/export.h>
#include <linux/ftrace_irq.h>
#include <linux/highmem.h>
#ifdef CONFIG_KVM_XFER_TO_GUEST_WORK
#include <linux/entry-kvm.h>
#include <linux/kvm_host.h>
#endif
#ifdef CONFIG_VIRT_XFER_TO_GUEST_WORK
#include <linux/entry-virt.h>
#endif
#include <linux/livepatch.h>
#include <linux/resume_user_mode.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/static_call.h>
#include <linux/syscalls.h>
#include <linux/tick.h>
#include <asm/apic.h>
#include <asm/io_bitmap.h>
#include <asm/nospec-branch.h>
#include <asm/syscall.h>

#define CREATE_TRACE_POINTS
#include <trace/events/syscalls.h>

#ifdef CONFIG_KMSAN
#error "Portcullis does not tell KMSAN about the registers at entry"
#endif

/* ---- exit work ---- */

void portcullis_resume_user_mode_work(struct pt_regs *regs);
void portcullis_resume_user_mode_work(struct pt_regs *regs)
{
	resume_user_mode_work(regs);
}

void portcullis_tss_update_io_bitmap(void);
void portcullis_tss_update_io_bitmap(void)
{
	tss_update_io_bitmap();
}

#ifdef CONFIG_NO_HZ_FULL
void portcullis_tick_nohz_user_enter_prepare(void);
void portcullis_tick_nohz_user_enter_prepare(void)
{
	tick_nohz_user_enter_prepare();
}
#endif

#ifdef CONFIG_LIVEPATCH
void portcullis_klp_update_patch_state(void);
void portcullis_klp_update_patch_state(void)
{
	klp_update_patch_state(current);
}
#endif

void portcullis_ibpb_exit_to_user(void);
void portcullis_ibpb_exit_to_user(void)
{
	if (this_cpu_read(x86_ibpb_exit_to_user)) {
		indirect_branch_prediction_barrier();
		this_cpu_write(x86_ibpb_exit_to_user, false);
	}
}

/* ---- system-call work ---- */

int portcullis_ptrace_report_syscall_entry(struct pt_regs *regs);
int portcullis_ptrace_report_syscall_entry(struct pt_regs *regs)
{
	return ptrace_report_syscall_entry(regs);
}

void portcullis_ptrace_report_syscall_exit(struct pt_regs *regs, int step);
void portcullis_ptrace_report_syscall_exit(struct pt_regs *regs, int step)
{
	ptrace_report_syscall_exit(regs, step);
}

void portcullis_trace_sys_enter(struct pt_regs *regs, long nr);
void portcullis_trace_sys_enter(struct pt_regs *regs, long nr)
{
	trace_sys_enter(regs, nr);
}

void portcullis_trace_sys_exit(struct pt_regs *regs);
void portcullis_trace_sys_exit(struct pt_regs *regs)
{
	trace_sys_exit(regs, syscall_get_return_value(current, regs));
}

void portcullis_audit_syscall_entry(struct pt_regs *regs, long nr);
void portcullis_audit_syscall_entry(struct pt_regs *regs, long nr)
{
	unsigned long args[6];

	syscall_get_arguments(current, regs, args);
	audit_syscall_entry(nr, args[0], args[1], args[2], args[3]);
}

void portcullis_audit_syscall_exit(struct pt_regs *regs);
void portcullis_audit_syscall_exit(struct pt_regs *regs)
{
	audit_syscall_exit(regs);
}

#ifdef PORTCULLIS_NI_SYSCALL
SYSCALL_DEFINE0(ni_syscall)
{
	return -ENOSYS;
}
#endif

/* ---- syscall user dispatch ---- */

bool portcullis_is_vdso_sigreturn(struct pt_regs *regs);
bool portcullis_is_vdso_sigreturn(struct pt_regs *regs)
{
	return arch_syscall_is_vdso_sigreturn(regs);
}

void portcullis_force_exit_sig(bool segv);
void portcullis_force_exit_sig(bool segv)
{
	force_exit_sig(segv ? SIGSEGV : SIGSYS);
}

/* Rolls the call back and raises SIGSYS. */
void portcullis_user_dispatch(struct pt_regs *regs);
void portcullis_user_dispatch(struct pt_regs *regs)
{
	struct kernel_siginfo info;

	syscall_rollback(current, regs);
	clear_siginfo(&info);
	info.si_signo = SIGSYS;
	info.si_code = SYS_USER_DISPATCH;
	info.si_arch = syscall_get_arch(current);
	info.si_syscall = syscall_get_nr(current, regs);
	info.si_call_addr = (void __user *)KSTK_EIP(current);
	force_sig_info(&info);
}

bool portcullis_selector_ok(const char __user *selector);
bool portcullis_selector_ok(const char __user *selector)
{
	return access_ok(untagged_addr(selector), sizeof(*selector));
}

void portcullis_arm_user_dispatch(struct task_struct *task, bool on);
void portcullis_arm_user_dispatch(struct task_struct *task, bool on)
{
	if (on)
		set_task_syscall_work(task, SYSCALL_USER_DISPATCH);
	else
		clear_task_syscall_work(task, SYSCALL_USER_DISPATCH);
}

bool portcullis_copy_to_user(void __user *to, const void *from, size_t size);
bool portcullis_copy_to_user(void __user *to, const void *from, size_t size)
{
	return !copy_to_user(to, from, size);
}

bool portcullis_copy_from_user(void *to, const void __user *from, size_t size);
bool portcullis_copy_from_user(void *to, const void __user *from, size_t size)
{
	return !copy_from_user(to, from, size);
}

/* ---- 32-bit system calls ---- */

#ifdef CONFIG_IA32_EMULATION
PORTCULLIS_IA32_ENABLED

#ifdef CONFIG_XEN_PV
/* Whether the local APIC is a real one: Xen's has nothing to read. */
bool portcullis_has_apic(void);
bool portcullis_has_apic(void)
{
	return !cpu_feature_enabled(X86_FEATURE_XENPV);
}
#endif

void portcullis_external_int80(void);
void portcullis_external_int80(void)
{
	panic("Interrupt 0x80 came from outside, or from the kernel\n");
}
#endif

/* ---- preemption ---- */

#ifdef CONFIG_PREEMPT_DYNAMIC
#if defined(CONFIG_HAVE_PREEMPT_DYNAMIC_CALL)
DEFINE_STATIC_CALL(irqentry_exit_cond_resched, raw_irqentry_exit_cond_resched);
#elif defined(CONFIG_HAVE_PREEMPT_DYNAMIC_KEY)
DEFINE_STATIC_KEY_TRUE(sk_dynamic_irqentry_exit_cond_resched);
#endif
#endif

/* ---- guests ---- */

#ifdef CONFIG_KVM_XFER_TO_GUEST_WORK
void portcullis_kvm_handle_signal_exit(struct kvm_vcpu *vcpu);
void portcullis_kvm_handle_signal_exit(struct kvm_vcpu *vcpu)
{
	kvm_handle_signal_exit(vcpu);
}
#endif

#if defined(CONFIG_KVM_XFER_TO_GUEST_WORK) || defined(CONFIG_VIRT_XFER_TO_GUEST_WORK)
EXPORT_SYMBOL_GPL(xfer_to_guest_mode_handle_work);

struct pt_regs *portcullis_user_regs(void);
struct pt_regs *portcullis_user_regs(void)
{
	return task_pt_regs(current);
}
#endif

/* ---- the interrupt flag, where a hypervisor has it ---- */

#ifdef CONFIG_PARAVIRT_XXL
noinstr void portcullis_irq_enable(void);
noinstr void portcullis_irq_enable(void)
{
	arch_local_irq_enable();
}

noinstr void portcullis_irq_disable(void);
noinstr void portcullis_irq_disable(void)
{
	arch_local_irq_disable();
}
#endif

/* ---- NMIs ---- */

#ifdef CONFIG_TRACE_IRQFLAGS
noinstr bool portcullis_lockdep_hardirqs_enabled(void);
noinstr bool portcullis_lockdep_hardirqs_enabled(void)
{
	return lockdep_hardirqs_enabled();
}
#endif

#if defined(CONFIG_HWLAT_TRACER) || defined(CONFIG_OSNOISE_TRACER)
void portcullis_ftrace_nmi(bool enter);
void portcullis_ftrace_nmi(bool enter)
{
	if (enter)
		ftrace_nmi_enter();
	else
		ftrace_nmi_exit();
}
#endif

#if defined(CONFIG_TRACE_IRQFLAGS) || defined(CONFIG_LOCKDEP)
noinstr void portcullis_lockdep_nmi_off(void);
noinstr void portcullis_lockdep_nmi_off(void)
{
	lockdep_off();
}

noinstr void portcullis_lockdep_nmi_on(void);
noinstr void portcullis_lockdep_nmi_on(void)
{
	lockdep_on();
}

noinstr void portcullis_lockdep_hardirq_enter(void);
noinstr void portcullis_lockdep_hardirq_enter(void)
{
	lockdep_hardirq_enter();
}

noinstr void portcullis_lockdep_hardirq_exit(void);
noinstr void portcullis_lockdep_hardirq_exit(void)
{
	lockdep_hardirq_exit();
}
#endif

/* ---- checks ---- */

noinstr void portcullis_bug(void);
noinstr void portcullis_bug(void)
{
	BUG();
}

#ifdef CONFIG_DEBUG_ENTRY
noinstr void portcullis_arch_enter_from_user_mode(struct pt_regs *regs);
noinstr void portcullis_arch_enter_from_user_mode(struct pt_regs *regs)
{
	arch_enter_from_user_mode(regs);
}
#endif

#ifdef CONFIG_PROVE_LOCKING
/* What lockdep_assert_irqs_disabled() looks at. */
noinstr bool portcullis_lockdep_irqs_on(void);
noinstr bool portcullis_lockdep_irqs_on(void)
{
	return __lockdep_enabled && this_cpu_read(hardirqs_enabled);
}
#endif

void portcullis_check_before_user_mode(void);
void portcullis_check_before_user_mode(void)
{
	portcullis_check_address_limit();
	kmap_assert_nomap();
	lockdep_sys_exit();
}

void portcullis_check_preemption_point(void);
void portcullis_check_preemption_point(void)
{
	rcu_irq_exit_check_preempt();
	if (IS_ENABLED(CONFIG_DEBUG_ENTRY))
		WARN_ON_ONCE(!on_thread_stack());
}

noinstr void portcullis_invariant_broken(const char *text, const char *name, size_t length);
noinstr void portcullis_invariant_broken(const char *text, const char *name, size_t length)
{
	instrumentation_begin();
	WARN_ONCE(1, "portcullis: %s %.*s\n", text, (int)length, name);
	instrumentation_end();
}

/* ---- FRED ---- */

#ifdef CONFIG_X86_FRED
void portcullis_fred_update_rsp0(void);
void portcullis_fred_update_rsp0(void)
{
	fred_update_rsp0();
}
#endif

/* ---- rseq in the way to user mode, and what else is new in 7.2 ---- */

#ifdef PORTCULLIS_RSEQ_AT_EXIT
void portcullis_reschedule(unsigned long work);
void portcullis_reschedule(unsigned long work)
{
	if (!rseq_grant_slice_extension(work, PORTCULLIS_SLICE_DENIED_BY))
		schedule();
}

void portcullis_do_signal_or_restart(struct pt_regs *regs);
void portcullis_do_signal_or_restart(struct pt_regs *regs)
{
	futex_fixup_robust_unlock(regs);
	arch_do_signal_or_restart(regs);
}

#ifdef CONFIG_RSEQ
bool portcullis_rseq_restart(struct pt_regs *regs);
bool portcullis_rseq_restart(struct pt_regs *regs)
{
	if (!__rseq_exit_to_user_mode_restart(regs)) {
		clear_tif_rseq();
		return false;
	}
	current->rseq.event.slowpath = true;
	set_tsk_thread_flag(current, TIF_NOTIFY_RESUME);
	return true;
}
#endif

#ifdef CONFIG_HRTIMER_REARM_DEFERRED
void portcullis_rearm_timer(void);
void portcullis_rearm_timer(void)
{
	hrtimer_rearm_deferred();
}
#endif

#ifdef CONFIG_UNWIND_USER
void portcullis_unwind_reset_info(void);
void portcullis_unwind_reset_info(void)
{
	unwind_reset_info();
}
#endif
#endif
