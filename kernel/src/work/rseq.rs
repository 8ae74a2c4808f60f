//! Restartable sequences (Linux 7.2).
//!
//! A thread registers an area of its memory. The kernel shows it the number of its CPU and its concurrency id there, and when
//! the thread was preempted, moved or signalled in the middle of a sequence that the area names, it goes on at the sequence's
//! abort handler. All of that happens on the way to user mode, as the exit work RSEQ; a switch raises the flag and takes the
//! concurrency id.
//!
//! | the area is | of the original size | longer |
//! | --- | --- | --- |
//! | what it shows is written | after each switch and before each handler | where it has changed |
//! | and must be before that | anything | what the kernel wrote: anything else is SIGSEGV |
//! | before a handler the sequence is looked at | always | if the task came by an interrupt or an exception |
//!
//! After a switch the sequence is looked at only if the task came by an interrupt or an exception: there are no system calls in
//! a sequence.

use core::sync::atomic::Ordering::Relaxed;

use portcullis::Again;
use portcullis::work::ExitWork;
use portcullis::x86_64::UserRegs;
use zerocopy::FromBytes;

use crate::errno::{Errno, Result};
use crate::machine::{cpu, sync};
use crate::memory::address_space::current_mm;
use crate::memory::{tlb, user};
use crate::signal;
use crate::signal::{SIGSEGV, SigInfo};
use crate::task::rseq::{Ids, ORIGINAL_SIZE, TaskRseq, field, flag};
use crate::task::syscall_info::is_event;
use crate::task::{Task, current};
use crate::work::hooks::SWITCH_RSEQ;
use crate::work::slice_extension;

/// The NUMA node.
const NODE: u32 = 0;

/// `struct rseq_cs`: a sequence of instructions.
#[derive(FromBytes)]
#[repr(C)]
struct Sequence {
    /// Version and flags: 0.
    _head: u64,
    start: u64,
    len: u64,
    abort: u64,
}

/// What becomes of a task that its area says to be in a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// It is not.
    Outside,
    /// It goes on at the abort handler, if that has the signature before it.
    Aborted(u64),
    /// The abort handler is not the user's.
    Invalid,
}

impl Sequence {
    fn contains(&self, ip: u64) -> bool {
        ip.wrapping_sub(self.start) < self.len
    }

    fn verdict(&self, ip: u64, memory_end: u64) -> Verdict {
        if !self.contains(ip) {
            Verdict::Outside
        } else if self.abort >= memory_end || self.abort < SIGNATURE_SIZE {
            Verdict::Invalid
        } else {
            Verdict::Aborted(self.abort)
        }
    }
}

/// Of the signature, which is in front of the abort handler.
const SIGNATURE_SIZE: u64 = size_of::<u32>() as u64;

/// Registers an area, which the caller has checked, for the current task. With `extensions` a longer one has extensions of the
/// slice enabled.
pub fn register(area: u64, len: u32, signature: u32, extensions: bool) -> Result<()> {
    let task = current();
    let is_extended = len > ORIGINAL_SIZE;
    let flags = match (is_extended, extensions) {
        (false, _) => 0,
        (true, false) => flag::SLICE_EXT_AVAILABLE,
        (true, true) => flag::SLICE_EXT_AVAILABLE | flag::SLICE_EXT_ENABLED,
    };
    // An area that is used again names what its last user left there: that is no sequence of this thread's.
    user::write(area + field::SEQUENCE, &0u64)?;
    user::write(area + field::FLAGS, &flags)?;
    show(area, Ids::NONE)?;
    if is_extended {
        user::write(area + field::SLICE_CTRL, &0u32)?;
    }
    task.hooks.rseq.set_registration(area, len, signature);
    task.hooks.rseq.slice.enabled.store(flags & flag::SLICE_EXT_ENABLED != 0, Relaxed);
    task.on_switch_out.fetch_or(SWITCH_RSEQ, Relaxed);
    // The area shows the CPU before the call returns.
    task.raise(ExitWork::RSEQ);
    Ok(())
}

/// Unregisters the current task's area, which then shows no CPU.
pub fn unregister() -> Result<()> {
    let task = current();
    let area = task.hooks.rseq.area.load(Relaxed);
    let shown = show(area, Ids::NONE).and_then(|()| user::write(area + field::CPU_ID_START, &0u32));
    if let Err(error) = shown {
        signal::force_fault(SigInfo::kernel(SIGSEGV));
        return Err(error);
    }
    forget(task);
    Ok(())
}

/// The current task has no area any more. In its address space, in which it gives its concurrency id back.
pub fn forget(task: &Task) {
    let _irqs = sync::irqs_off();
    task.on_switch_out.fetch_and(!SWITCH_RSEQ, Relaxed);
    task.hooks.rseq.set_registration(0, 0, 0);
    task.hooks.rseq.slice.enabled.store(false, Relaxed);
    slice_extension::end(task);
    give_concurrency_id_back(task);
}

/// A child with a memory of its own has the area there, too. A thread that shares memory registers its own.
pub fn inherit(parent: &Task, child: &Task) {
    let (from, to) = (&parent.hooks.rseq, &child.hooks.rseq);
    let (area, len, signature) = from.registration();
    if area == 0 {
        return;
    }
    to.set_registration(area, len, signature);
    to.set_shown(from.shown());
    to.slice.enabled.store(from.slice.enabled.load(Relaxed), Relaxed);
    child.on_switch_out.fetch_or(SWITCH_RSEQ, Relaxed);
    child.raise(ExitWork::RSEQ);
}

/// The task gives up its CPU. Interrupts are off, and its address space is the CPU's.
pub fn switched_out(task: &Task) {
    give_concurrency_id_back(task);
    // What the area says is put right on the way to user mode.
    task.hooks.rseq.slice.timer.cancel(task);
    task.raise_for_current(ExitWork::RSEQ);
}

fn give_concurrency_id_back(task: &Task) {
    let id = task.hooks.rseq.concurrency_id.swap(TaskRseq::NO_ID, Relaxed);
    if id != TaskRseq::NO_ID {
        current_mm().concurrency_ids.give_back(id);
    }
}

/// What the area of the current task is to show. Interrupts are off.
fn ids(task: &Task) -> Ids {
    let kept = &task.hooks.rseq.concurrency_id;
    if kept.load(Relaxed) == TaskRseq::NO_ID {
        kept.store(current_mm().concurrency_ids.take(), Relaxed);
    }
    Ids { cpu: cpu::id() as u32, concurrency_id: kept.load(Relaxed) }
}

/// The hook after the exit loop: aborts the sequence that the task was in, and shows it its CPU. Interrupts are off, so what
/// is not mapped is not there: then the loop does the same once more ([`handle_notify_resume`]).
pub fn exit_to_user_mode(regs: &mut UserRegs) -> core::result::Result<(), Again> {
    let task = current();
    if task.hooks.rseq.area.load(Relaxed) == 0 || update(task, regs, ids(task)).is_ok() {
        return Ok(());
    }
    task.hooks.rseq.needs_faults.store(true, Relaxed);
    task.raise(ExitWork::NOTIFY_RESUME);
    Err(Again)
}

/// The loop's part, with interrupts on: what [`exit_to_user_mode`] could not do. An area or sequence that is no good is SIGSEGV.
pub fn handle_notify_resume(regs: &mut UserRegs) {
    let task = current();
    if !task.hooks.rseq.needs_faults.swap(false, Relaxed) {
        return;
    }
    // The task may be moved after this. Then the flag is raised again.
    let ids = {
        let _irqs = sync::irqs_off();
        ids(task)
    };
    if update(task, regs, ids).is_err() {
        signal::force_fault(SigInfo::kernel(SIGSEGV));
    }
}

/// A handler is about to be entered: the registers that its frame will hold are those of the abort handler.
pub fn signal_deliver(regs: &mut UserRegs, signo: i32) {
    let task = current();
    let rseq = &task.hooks.rseq;
    let area = rseq.area.load(Relaxed);
    if area == 0 || rseq.is_extended() && !is_event(regs) {
        return;
    }
    if restart(task, area, regs).is_err() {
        let info = SigInfo::kernel(SIGSEGV);
        // The handler of SIGSEGV would only come here again.
        if signo == SIGSEGV {
            signal::force_fatal(info);
        } else {
            signal::force_fault(info);
        }
    }
    if !rseq.is_extended() {
        task.raise(ExitWork::RSEQ);
    }
}

/// After a switch, or what has to look like one. An area or sequence that is no good is an error.
fn update(task: &Task, regs: &mut UserRegs, ids: Ids) -> Result<()> {
    let rseq = &task.hooks.rseq;
    let area = rseq.area.load(Relaxed);
    let is_extended = rseq.is_extended();
    let is_event = is_event(regs);
    let has_changed = !is_extended || rseq.shown() != ids;
    if has_changed {
        if is_extended && !shows(area, rseq.shown())? {
            return Err(Errno::EINVAL);
        }
        show(area, ids)?;
        rseq.set_shown(ids);
    }
    if is_extended && (has_changed || is_event) {
        // The slice is a new one.
        slice_extension::end(task);
        user::write(area + field::SLICE_CTRL, &0u32)?;
    }
    if is_event { restart(task, area, regs) } else { Ok(()) }
}

/// Writes what the area shows.
fn show(area: u64, ids: Ids) -> Result<()> {
    user::write(area + field::CPU_ID_START, &ids.cpu)?;
    user::write(area + field::CPU_ID, &ids.cpu)?;
    user::write(area + field::NODE_ID, &NODE)?;
    user::write(area + field::MM_CID, &ids.concurrency_id)
}

/// Whether it shows that.
fn shows(area: u64, ids: Ids) -> Result<bool> {
    Ok(user::read::<u32>(area + field::CPU_ID_START)? == ids.cpu
        && user::read::<u32>(area + field::CPU_ID)? == ids.cpu
        && user::read::<u32>(area + field::NODE_ID)? == NODE
        && user::read::<u32>(area + field::MM_CID)? == ids.concurrency_id)
}

/// Aborts the sequence that the task is in. One that it has left is named no more, so that it does not concern the next switch.
fn restart(task: &Task, area: u64, regs: &mut UserRegs) -> Result<()> {
    let Some(sequence) = sequence(area)? else {
        return Ok(());
    };
    let abort = match sequence.verdict(regs.rip, current_mm().width().end()) {
        Verdict::Outside => return user::write(area + field::SEQUENCE, &0u64),
        Verdict::Invalid => return Err(Errno::EINVAL),
        Verdict::Aborted(abort) => abort,
    };
    if user::read::<u32>(abort - SIGNATURE_SIZE)? != task.hooks.rseq.signature.load(Relaxed) {
        return Err(Errno::EINVAL);
    }
    user::write(area + field::SEQUENCE, &0u64)?;
    regs.rip = abort;
    Ok(())
}

/// The sequence that the area names.
fn sequence(area: u64) -> Result<Option<Sequence>> {
    let address: u64 = user::read(area + field::SEQUENCE)?;
    if address == 0 {
        return Ok(None);
    }
    if address >= current_mm().width().end() {
        return Err(Errno::EINVAL);
    }
    user::read(address).map(Some)
}

/// The hook at the end of each system call: inside a sequence none may be made, as its effect cannot be undone. Checked with
/// debug assertions, as Linux does with its own.
#[inline(always)]
pub fn check_syscall(regs: &mut UserRegs) {
    if cfg!(debug_assertions) && current().hooks.rseq.area.load(Relaxed) != 0 {
        check_registered(regs);
    }
}

fn check_registered(regs: &UserRegs) {
    let area = current().hooks.rseq.area.load(Relaxed);
    let inside = match sequence(area) {
        Ok(sequence) => sequence.is_some_and(|sequence| sequence.contains(regs.rip)),
        Err(_) => true,
    };
    if inside {
        signal::force_fault(SigInfo::kernel(SIGSEGV));
    }
}

/// membarrier(2) with RSEQ: no sequence of this process, on this CPU or on all, goes on unaborted after this returns.
pub fn abort_all(cpu: Option<u32>) {
    let task = current();
    let mm = task.mm();
    let concerned: alloc::vec::Vec<_> = {
        let tree = crate::task::tree::tree();
        tree.tasks().filter(|other| cpu.is_none_or(|cpu| other.work.running_on() == Some(cpu))).cloned().collect()
    };
    for other in concerned {
        if core::ptr::eq(&*other.mm(), &*mm) && other.hooks.rseq.area.load(Relaxed) != 0 {
            other.raise(ExitWork::RSEQ);
        }
    }
    // Each of them has been in the kernel after the flag was raised, and does not leave it without looking.
    tlb::barrier(mm.pgd());
}

#[cfg(test)]
mod tests;
