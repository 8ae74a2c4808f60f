// SPDX-License-Identifier: MIT OR GPL-2.0
/* What only the C compiler knows, for the crate: compiled to assembly, and its `->NAME VALUE` lines turned into constants. */

#define COMPILE_OFFSETS
#include PORTCULLIS_VERSION_H
/* Linux's own header where there is one of ours in front of it (7.2). */
#define PORTCULLIS_OFFSETS
#include <linux/entry-common.h>
#include <linux/kbuild.h>
#include <linux/sched.h>
#include <linux/preempt.h>
#include <linux/context_tracking.h>
#include <linux/syscall_user_dispatch.h>
#include <asm/apic.h>
#include <asm/cpufeatures.h>
#include <asm/ptrace.h>
#include <asm/syscall.h>
#include <asm/unistd.h>
#include <asm/vdso.h>

/* What not every version has. */
#ifndef _TIF_NEED_RESCHED_LAZY
#define _TIF_NEED_RESCHED_LAZY 0
#endif
#ifndef _TIF_RSEQ
#define _TIF_RSEQ 0
#endif
#ifndef SYSCALL_WORK_SYSCALL_RSEQ_SLICE
#define SYSCALL_WORK_SYSCALL_RSEQ_SLICE 0
#endif

int main(void)
{
	/* Registers */
	DEFINE(SIZEOF_PT_REGS, sizeof(struct pt_regs));
	DEFINE(PT_REGS_AX, offsetof(struct pt_regs, ax));
	DEFINE(PT_REGS_ORIG_AX, offsetof(struct pt_regs, orig_ax));
	DEFINE(PT_REGS_FLAGS, offsetof(struct pt_regs, flags));
	DEFINE(PT_REGS_SS, offsetof(struct pt_regs, ss));
	DEFINE(USER_DS, __USER_DS);
#ifdef CONFIG_X86_64
	DEFINE(USER_CS, __USER_CS);
	DEFINE(USER32_CS, __USER32_CS);
	DEFINE(TASK_SIZE_4_LEVELS, (1ul << 47) - PAGE_SIZE);
	DEFINE(TASK_SIZE_5_LEVELS, (1ul << 56) - PAGE_SIZE);
#else
	DEFINE(USER32_CS, __USER_CS);
#endif

	/* The task */
	DEFINE(TASK_TI_FLAGS, offsetof(struct task_struct, thread_info.flags));
	DEFINE(TASK_TI_SYSCALL_WORK, offsetof(struct task_struct, thread_info.syscall_work));
	DEFINE(TASK_TI_STATUS, offsetof(struct task_struct, thread_info.status));
	DEFINE(TASK_FLAGS, offsetof(struct task_struct, flags));
	DEFINE(TASK_PF_IDLE, PF_IDLE);
	DEFINE(TASK_MM, offsetof(struct task_struct, mm));
	DEFINE(TASK_DISPATCH_SELECTOR, offsetof(struct task_struct, syscall_dispatch.selector));
	DEFINE(TASK_DISPATCH_OFFSET, offsetof(struct task_struct, syscall_dispatch.offset));
	DEFINE(TASK_DISPATCH_LEN, offsetof(struct task_struct, syscall_dispatch.len));
	DEFINE(TASK_ON_DISPATCH, offsetof(struct task_struct, syscall_dispatch.on_dispatch));
#if defined(CONFIG_RANDOMIZE_KSTACK_OFFSET) && defined(PORTCULLIS_KSTACK_OFFSET_OF_TASK)
	DEFINE(TASK_KSTACK_OFFSET, offsetof(struct task_struct, kstack_offset));
#endif
#ifdef PORTCULLIS_RSEQ_AT_EXIT
#ifdef CONFIG_RSEQ
	DEFINE(TASK_RSEQ_EVENTS, offsetof(struct task_struct, rseq.event.events));
	DEFINE(TASK_RSEQ_USER_IRQ, offsetof(struct task_struct, rseq.event.user_irq));
#endif
#ifdef CONFIG_RSEQ_SLICE_EXTENSION
	DEFINE(TASK_RSEQ_SLICE_GRANTED, offsetof(struct task_struct, rseq.slice.state.granted));
#endif
#endif
#ifdef CONFIG_UNWIND_USER
	DEFINE(TASK_UNWIND_MASK, offsetof(struct task_struct, unwind_info.unwind_mask));
#endif
	DEFINE(MM_VDSO, offsetof(struct mm_struct, context.vdso));
#if defined(CONFIG_X86_32) || defined(CONFIG_IA32_EMULATION)
	DEFINE(VDSO_INT80_LANDING_PAD, offsetof(struct vdso_image, sym_int80_landing_pad));
	DEFINE(IA32_CALLS, IA32_NR_syscalls);
#endif
#ifdef CONFIG_X86_64
	DEFINE(X64_CALLS, NR_syscalls);
#ifdef CONFIG_X86_X32_ABI
	DEFINE(X32_CALLS, X32_NR_syscalls);
	DEFINE(X32_BIT, __X32_SYSCALL_BIT);
#endif
#endif

	/* Exit work */
	DEFINE(TIF_SIGPENDING_BIT, _TIF_SIGPENDING);
	DEFINE(TIF_NOTIFY_SIGNAL_BIT, _TIF_NOTIFY_SIGNAL);
	DEFINE(TIF_NOTIFY_RESUME_BIT, _TIF_NOTIFY_RESUME);
	DEFINE(TIF_UPROBE_BIT, _TIF_UPROBE);
	DEFINE(TIF_NEED_RESCHED_BIT, _TIF_NEED_RESCHED);
	DEFINE(TIF_NEED_RESCHED_LAZY_BIT, _TIF_NEED_RESCHED_LAZY);
	DEFINE(TIF_RSEQ_BIT, _TIF_RSEQ);
#ifdef _TIF_HRTIMER_REARM
	DEFINE(TIF_HRTIMER_REARM_BIT, _TIF_HRTIMER_REARM);
#endif
	DEFINE(TIF_PATCH_PENDING_BIT, _TIF_PATCH_PENDING);
	DEFINE(TIF_USER_RETURN_NOTIFY_BIT, _TIF_USER_RETURN_NOTIFY);
	DEFINE(TIF_IO_BITMAP_BIT, _TIF_IO_BITMAP);
	DEFINE(TIF_NEED_FPU_LOAD_BIT, _TIF_NEED_FPU_LOAD);
	DEFINE(EXIT_WORK_ALL, EXIT_TO_USER_MODE_WORK & ~_TIF_RSEQ);
#ifdef CONFIG_COMPAT
	DEFINE(STATUS_COMPAT, TS_COMPAT);
	DEFINE(STATUS_OF_ONE_CALL, TS_COMPAT | TS_I386_REGS_POKED);
#endif

	/* System-call work */
	DEFINE(WORK_SECCOMP, SYSCALL_WORK_SECCOMP);
	DEFINE(WORK_TRACEPOINT, SYSCALL_WORK_SYSCALL_TRACEPOINT);
	DEFINE(WORK_TRACE, SYSCALL_WORK_SYSCALL_TRACE);
	DEFINE(WORK_EMU, SYSCALL_WORK_SYSCALL_EMU);
	DEFINE(WORK_AUDIT, SYSCALL_WORK_SYSCALL_AUDIT);
	DEFINE(WORK_USER_DISPATCH, SYSCALL_WORK_SYSCALL_USER_DISPATCH);
	DEFINE(WORK_RSEQ_SLICE, SYSCALL_WORK_SYSCALL_RSEQ_SLICE);
	DEFINE(WORK_EXIT_TRAP, SYSCALL_WORK_SYSCALL_EXIT_TRAP);
	DEFINE(WORK_AT_ENTRY, SYSCALL_WORK_ENTER);
	DEFINE(WORK_AT_EXIT, SYSCALL_WORK_EXIT);

	/* The CPU */
	DEFINE(PREEMPT_COUNT_MASK, ~PREEMPT_NEED_RESCHED);
	DEFINE(NMI_COUNT, NMI_OFFSET + HARDIRQ_OFFSET);
	DEFINE(NMI_COUNT_MASK, NMI_MASK);
#ifdef CONFIG_CONTEXT_TRACKING
	DEFINE(CT_STATE, offsetof(struct context_tracking, state));
#endif
#ifdef PORTCULLIS_PCPU_HOT
	DEFINE(PCPU_HOT_CURRENT_TASK, offsetof(struct pcpu_hot, current_task));
	DEFINE(PCPU_HOT_PREEMPT_COUNT, offsetof(struct pcpu_hot, preempt_count));
#endif
#ifdef CONFIG_X86_LOCAL_APIC
	DEFINE(APIC_READ, offsetof(struct apic, read));
	DEFINE(APIC_ISR_OF_VECTOR_80, APIC_ISR + (0x80 / 32) * 0x10);
#endif

	/* Alternatives */
	DEFINE(BUG_DIV0, X86_BUG_DIV0);
	DEFINE(FEATURE_SEP, X86_FEATURE_SEP);
	DEFINE(FEATURE_LA57, X86_FEATURE_LA57);
	DEFINE(FEATURE_XENPV, X86_FEATURE_XENPV);
#ifdef CONFIG_X86_FRED
	DEFINE(FEATURE_FRED, X86_FEATURE_FRED);
#endif
	DEFINE(FEATURE_IBPB_EXIT_TO_USER, X86_FEATURE_IBPB_EXIT_TO_USER);
	return 0;
}
