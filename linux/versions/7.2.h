// SPDX-License-Identifier: MIT OR GPL-2.0
/* What the glue calls otherwise in Linux 7.2. */

#define PORTCULLIS_RSEQ_AT_EXIT

#define portcullis_check_address_limit() do { } while (0)

/* In Linux's syscall_32.c, which stays for its tables. */
#define PORTCULLIS_IA32_ENABLED

#include <linux/futex.h>
#include <linux/hrtimer_rearm.h>
#include <linux/rseq_entry.h>
#include <linux/unwind_deferred.h>

/* The work of the exit loop other than rescheduling: whoever has some gets no extension of the time slice. */
#ifdef CONFIG_PREEMPT_RT
#define PORTCULLIS_RESCHEDULED_LATER _TIF_NEED_RESCHED_LAZY
#else
#define PORTCULLIS_RESCHEDULED_LATER (_TIF_NEED_RESCHED | _TIF_NEED_RESCHED_LAZY)
#endif
#ifndef _TIF_PATCH_PENDING
#define _TIF_PATCH_PENDING 0
#endif
#define PORTCULLIS_SLICE_DENIED_BY \
	((_TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL | _TIF_NOTIFY_RESUME | _TIF_UPROBE | _TIF_PATCH_PENDING | _TIF_RSEQ | \
	  _TIF_NEED_RESCHED | _TIF_NEED_RESCHED_LAZY) & ~PORTCULLIS_RESCHEDULED_LATER)
