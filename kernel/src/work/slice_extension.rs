//! The extension of a time slice (Linux 7.0).
//!
//! A thread in a critical section asks in its [`rseq`](crate::work::rseq) area not to be preempted just now. When its slice ends, an
//! interrupt finds it there, and nothing else is to be done than scheduling, it goes on for [`EXTENSION`] more; the area says so.
//!
//! ```text
//!   request ──► schedule: granted ──► timer armed after the exit loop ──► user mode
//!                                                                          │
//!           a system call (rseq_slice_yield or another) ── scheduled ◄─────┤
//!           the timer, or other work: granted no more ──── scheduled ◄─────┘
//! ```

use core::sync::atomic::Ordering::Relaxed;

use portcullis::Again;
use portcullis::work::{ExitWork, SyscallWork};
use portcullis::x86_64::UserRegs;

use crate::errno::{Errno, Result};
use crate::machine::time::now;
use crate::memory::user;
use crate::sched::scheduler;
use crate::signal;
use crate::signal::{SIGSEGV, SigInfo};
use crate::task::rseq::{TaskSlice, field, flag};
use crate::task::syscall_info::is_event;
use crate::task::{Task, current};

/// How long an extension is, in nanoseconds. The longest that Linux lets be set: its default of 5 us is over before an emulated
/// CPU has come to user mode.
pub const EXTENSION: u64 = 50_000;

/// The system call that ends an extension and does nothing else.
pub const NR_RSEQ_SLICE_YIELD: u32 = 471;

/// `struct rseq_slice_ctrl`, as a word.
const REQUEST: u32 = 0xff;
const GRANTED: u32 = 0xff00;
const GRANTED_ONE: u32 = 0x0100;

/// What becomes of a thread whose slice is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Decision {
    /// It is scheduled, as all are.
    Schedule,
    /// It is scheduled, and its area asks for nothing any more.
    Revoke,
    /// It goes on if its area asks for that.
    Grant,
}

/// An extension is granted once, to a thread that an interrupt has found in user mode (`from_event`), and for which nothing else is
/// to be done.
fn decide(from_event: bool, granted: bool, other_work: bool) -> Decision {
    if !from_event && !granted {
        Decision::Schedule
    } else if granted || other_work {
        Decision::Revoke
    } else {
        Decision::Grant
    }
}

/// Work that goes with an extension: scheduling, and what is done once after the loop.
const NOT_OTHER: ExitWork = ExitWork::from_bits(
    ExitWork::NEED_RESCHED.bits() | ExitWork::NEED_RESCHED_LAZY.bits() | ExitWork::USER_RETURN_NOTIFY.bits(),
);

/// The slice of the current task is over. Whether it goes on all the same; `work` is the exit-work word.
#[inline(always)]
pub fn grant(regs: &UserRegs, work: usize) -> bool {
    let slice = &current().hooks.rseq.slice;
    slice.enabled.load(Relaxed) && decide_and_grant(slice, regs, work)
}

#[cold]
#[inline(never)]
fn decide_and_grant(slice: &TaskSlice, regs: &UserRegs, work: usize) -> bool {
    let other_work = work & !(NOT_OTHER.bits() as usize) != 0;
    let task = current();
    let control = task.hooks.rseq.area.load(Relaxed) + field::SLICE_CTRL;
    let result = match decide(is_event(regs), slice.granted.load(Relaxed), other_work) {
        Decision::Schedule => return false,
        Decision::Revoke => {
            end(task);
            user::write(control, &0u32).map(|()| false)
        }
        Decision::Grant => user::read::<u32>(control).and_then(|word| {
            let asked = word & REQUEST != 0;
            if asked {
                user::write(control, &(word & !(REQUEST | GRANTED) | GRANTED_ONE))?;
            }
            Ok(asked)
        }),
    };
    let granted = result.unwrap_or_else(|_| {
        signal::force_fault(SigInfo::kernel(SIGSEGV));
        false
    });
    if granted {
        slice.expires.store(now() + EXTENSION, Relaxed);
        slice.granted.store(true, Relaxed);
        task.work.take(ExitWork::NEED_RESCHED | ExitWork::NEED_RESCHED_LAZY);
    }
    granted
}

/// The task has no extension any more.
pub fn end(task: &Task) {
    let slice = &task.hooks.rseq.slice;
    slice.granted.store(false, Relaxed);
    slice.timer.cancel(task);
}

/// The exit loop has run. Interrupts are off.
#[inline(always)]
pub fn arm_timer() -> core::result::Result<(), Again> {
    let slice = &current().hooks.rseq.slice;
    if slice.granted.load(Relaxed) { arm_for(slice) } else { Ok(()) }
}

#[cold]
#[inline(never)]
fn arm_for(slice: &TaskSlice) -> core::result::Result<(), Again> {
    let task = current();
    let expires = slice.expires.load(Relaxed);
    if expires <= now() {
        task.raise_for_current(ExitWork::NEED_RESCHED);
        return Err(Again);
    }
    if !slice.timer.is_armed() {
        slice.timer.arm(expires);
        task.work.arm(SyscallWork::RSEQ_SLICE);
    }
    Ok(())
}

/// The hook at a call that is made on an extension: the others have their turn before the call is made.
#[inline(never)]
pub fn syscall_enter_work(number: i64) {
    let task = current();
    let rseq = &task.hooks.rseq;
    task.work.disarm(SyscallWork::RSEQ_SLICE);
    if !rseq.slice.granted.load(Relaxed) {
        return;
    }
    // A thread that was preempted on its way here has lost the extension already.
    let in_time = !task.work.is_raised(ExitWork::RSEQ);
    end(task);
    if in_time {
        rseq.slice.yielded.store(number == i64::from(NR_RSEQ_SLICE_YIELD), Relaxed);
        scheduler::schedule();
    }
    if user::write(rseq.area.load(Relaxed) + field::SLICE_CTRL, &0u32).is_err() {
        signal::force_fault(SigInfo::kernel(SIGSEGV));
    }
}

/// rseq_slice_yield(2): whether the call has ended an extension.
pub fn take_yielded() -> bool {
    current().hooks.rseq.slice.yielded.swap(false, Relaxed)
}

/// Whether the current task can be granted extensions.
pub fn is_enabled() -> bool {
    current().hooks.rseq.slice.enabled.load(Relaxed)
}

/// Lets the current task ask for extensions, or not. Its area says what it may do; an area that says something else is SIGSEGV.
pub fn set_enabled(enable: bool) -> Result<()> {
    let rseq = &current().hooks.rseq;
    let area = rseq.area.load(Relaxed);
    if area == 0 {
        return Err(Errno::ENXIO);
    }
    if !rseq.is_extended() {
        return Err(Errno::ENOTSUPP);
    }
    let enabled = rseq.slice.enabled.load(Relaxed);
    if enable == enabled {
        return Ok(());
    }
    let set = || {
        let flags: u32 = user::read(area + field::FLAGS)?;
        let expected = flag::SLICE_EXT_AVAILABLE | if enabled { flag::SLICE_EXT_ENABLED } else { 0 };
        if flags & expected != expected {
            return Err(Errno::EFAULT);
        }
        let on = if enable { flag::SLICE_EXT_ENABLED } else { 0 };
        user::write(area + field::FLAGS, &(flags & !flag::SLICE_EXT_ENABLED | on))
    };
    if set().is_err() {
        signal::force_fault(SigInfo::kernel(SIGSEGV));
        return Err(Errno::EFAULT);
    }
    rseq.slice.enabled.store(enable, Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests;
