/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * In front of Linux 7.2's header of this name: what Linux's C calls is declared here and defined by the Rust object, where Linux
 * has the policy itself as inline functions.
 */
#ifdef PORTCULLIS_OFFSETS
#include_next <linux/irq-entry-common.h>
#elif !defined(PORTCULLIS_IRQ_ENTRY_COMMON_H)
#define PORTCULLIS_IRQ_ENTRY_COMMON_H

/* Who includes Linux's header gets these by it. */
#include <linux/context_tracking.h>
#include <linux/hrtimer_rearm.h>
#include <linux/kmsan.h>
#include <linux/rseq_entry.h>
#include <linux/static_call_types.h>
#include <linux/syscalls.h>
#include <linux/tick.h>
#include <linux/unwind_deferred.h>
#include <asm/entry-common.h>

/* What the way in hands to the way out. Only the Rust object reads it. */
typedef struct {
	bool saved;
} irqentry_state_t;

void enter_from_user_mode(struct pt_regs *regs);
void irqentry_enter_from_user_mode(struct pt_regs *regs);
void irqentry_exit_to_user_mode(struct pt_regs *regs);
irqentry_state_t irqentry_enter(struct pt_regs *regs);
void irqentry_exit(struct pt_regs *regs, irqentry_state_t state);
irqentry_state_t irqentry_nmi_enter(struct pt_regs *regs);
void irqentry_nmi_exit(struct pt_regs *regs, irqentry_state_t state);

void arch_do_signal_or_restart(struct pt_regs *regs);

/* Preemption when an interrupt of the kernel is done; kernel/sched/core.c switches it. */
void raw_irqentry_exit_cond_resched(void);
#if !defined(CONFIG_PREEMPT_DYNAMIC)
#define irqentry_exit_cond_resched() raw_irqentry_exit_cond_resched()
#elif defined(CONFIG_HAVE_PREEMPT_DYNAMIC_CALL)
#define irqentry_exit_cond_resched_dynamic_enabled raw_irqentry_exit_cond_resched
#define irqentry_exit_cond_resched_dynamic_disabled NULL
DECLARE_STATIC_CALL(irqentry_exit_cond_resched, raw_irqentry_exit_cond_resched);
#define irqentry_exit_cond_resched() static_call(irqentry_exit_cond_resched)()
#else
DECLARE_STATIC_KEY_TRUE(sk_dynamic_irqentry_exit_cond_resched);
void dynamic_irqentry_exit_cond_resched(void);
#define irqentry_exit_cond_resched() dynamic_irqentry_exit_cond_resched()
#endif

#endif
