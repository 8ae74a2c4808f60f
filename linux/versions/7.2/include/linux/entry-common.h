/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* In front of Linux 7.2's header of this name: see irq-entry-common.h beside it. */
#ifdef PORTCULLIS_OFFSETS
#include_next <linux/entry-common.h>
#elif !defined(PORTCULLIS_ENTRY_COMMON_H)
#define PORTCULLIS_ENTRY_COMMON_H

/* Who includes Linux's header gets these by it. */
#include <linux/audit.h>
#include <linux/irq-entry-common.h>
#include <linux/livepatch.h>
#include <linux/ptrace.h>
#include <linux/resume_user_mode.h>
#include <linux/seccomp.h>
#include <linux/sched.h>
#include <asm/entry-common.h>
#include <asm/syscall.h>

void syscall_exit_to_user_mode(struct pt_regs *regs);

/* In syscall_64.c and syscall_32.c: what is `__visible` is read and not emitted; the Rust object has it. */
#ifdef PORTCULLIS_ELSEWHERE
/* First what they include after this, where the word has its own meaning. */
#include <linux/kprobes.h>
#include <linux/uaccess.h>
#include <asm/apic.h>
#include <asm/traps.h>
#undef __visible
#define __visible extern inline __attribute__((gnu_inline))
#endif

/* For Linux's bodies of the system-call functions, of which none is emitted (kbuild/x86-entry.mk) but one that nobody calls. */
long syscall_enter_from_user_mode(struct pt_regs *regs, long number)
	__compiletime_error("the Rust object makes system calls");
static __always_inline long syscall_enter_from_user_mode_work(struct pt_regs *regs, long number)
{
	BUG();
}

#endif
