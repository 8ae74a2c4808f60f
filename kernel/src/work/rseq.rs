//! Restartable sequences (Linux 6.1).
//!
//! A thread registers an area of its memory. The kernel keeps the number of its CPU there, and when the thread was
//! preempted, moved or signalled in the middle of a sequence that the area names, it goes on at the sequence's abort
//! handler. All of that happens on the way to user mode, as the exit work RSEQ; a switch only raises the flag.

use core::sync::atomic::Ordering::Relaxed;

use portcullis::Again;
use portcullis::work::ExitWork;
use portcullis::x86_64::UserRegs;
use zerocopy::FromBytes;

use crate::errno::{Errno, Result};
use crate::machine::cpu;
use crate::memory::address_space::current_mm;
use crate::memory::{tlb, user};
use crate::signal;
use crate::signal::{SIGSEGV, SigInfo};
use crate::task::{Task, current};
use crate::work::hooks::SWITCH_RSEQ;

/// The area's size and alignment, and where its fields are: `struct rseq`.
pub const AREA_SIZE: u64 = 32;
const CPU_ID_START: u64 = 0;
const CPU_ID: u64 = 4;
const SEQUENCE: u64 = 8;
const FLAGS: u64 = 16;
/// `RSEQ_CPU_ID_UNINITIALIZED`.
const NO_CPU: u32 = u32::MAX;

/// `struct rseq_cs`: a sequence of instructions.
#[derive(FromBytes)]
#[repr(C)]
struct Sequence {
    version: u32,
    flags: u32,
    start: u64,
    len: u64,
    abort: u64,
}

impl Sequence {
    fn contains(&self, ip: u64) -> bool {
        ip.wrapping_sub(self.start) < self.len
    }
}

/// What happened since the task left user mode.
const PREEMPTED: u32 = 1;
const SIGNALLED: u32 = 2;

/// Registers an area, which the caller has checked, for the current task.
pub fn register(area: u64, signature: u32) -> Result<()> {
    let task = current();
    let rseq = &task.hooks.rseq;
    // An area that is used again names what its last user left there: that is no sequence of this thread's.
    if user::read::<u64>(area + SEQUENCE)? != 0 {
        user::write(area + SEQUENCE, &0u64)?;
    }
    rseq.signature.store(signature, Relaxed);
    rseq.area.store(area, Relaxed);
    task.on_switch_out.fetch_or(SWITCH_RSEQ, Relaxed);
    // The area shows the CPU before the call returns.
    task.raise(ExitWork::RSEQ);
    Ok(())
}

/// Unregisters the current task's area, which then shows no CPU.
pub fn unregister() -> Result<()> {
    let task = current();
    let area = task.hooks.rseq.area.load(Relaxed);
    user::write(area + CPU_ID_START, &0u32)?;
    user::write(area + CPU_ID, &NO_CPU)?;
    forget(task);
    Ok(())
}

fn forget(task: &Task) {
    task.on_switch_out.fetch_and(!SWITCH_RSEQ, Relaxed);
    task.hooks.rseq.area.store(0, Relaxed);
    task.hooks.rseq.signature.store(0, Relaxed);
    task.hooks.rseq.events.store(0, Relaxed);
}

/// A new program has another memory.
pub fn reset_for_exec(task: &Task) {
    forget(task);
}

/// A child with a memory of its own has the area there, too. A thread that shares memory registers its own.
pub fn inherit(parent: &Task, child: &Task) {
    let (from, to) = (&parent.hooks.rseq, &child.hooks.rseq);
    let area = from.area.load(Relaxed);
    if area == 0 {
        return;
    }
    to.area.store(area, Relaxed);
    to.signature.store(from.signature.load(Relaxed), Relaxed);
    to.events.store(PREEMPTED, Relaxed);
    child.on_switch_out.fetch_or(SWITCH_RSEQ, Relaxed);
    child.raise(ExitWork::RSEQ);
}

/// The task gives up its CPU. Interrupts are off.
pub fn switched_out(task: &Task) {
    task.hooks.rseq.events.fetch_or(PREEMPTED, Relaxed);
    task.raise_for_current(ExitWork::RSEQ);
}

/// The hook after the exit loop: aborts the sequence that the task was in, and shows it its CPU. Interrupts are off, so what
/// is not mapped is not there: then the loop does the same once more ([`handle_notify_resume`]).
pub fn exit_to_user_mode(regs: &mut UserRegs) -> core::result::Result<(), Again> {
    let task = current();
    if task.hooks.rseq.area.load(Relaxed) == 0 || resume(task, regs).is_ok() {
        return Ok(());
    }
    task.hooks.rseq.needs_faults.store(true, Relaxed);
    task.raise(ExitWork::NOTIFY_RESUME);
    Err(Again)
}

/// The loop's part, with interrupts on: what [`exit_to_user_mode`] could not do. An area or sequence that is no good is SIGSEGV.
pub fn handle_notify_resume(regs: &mut UserRegs) {
    let task = current();
    if task.hooks.rseq.needs_faults.swap(false, Relaxed)
        && task.hooks.rseq.area.load(Relaxed) != 0
        && resume(task, regs).is_err()
    {
        signal::force_fault(SigInfo::kernel(SIGSEGV));
    }
}

/// A handler is about to be entered: the registers that its frame will hold are those of the abort handler.
pub fn signal_deliver(regs: &mut UserRegs, signo: i32) {
    let task = current();
    if task.hooks.rseq.area.load(Relaxed) == 0 {
        return;
    }
    task.hooks.rseq.events.fetch_or(SIGNALLED, Relaxed);
    if resume(task, regs).is_err() {
        let info = SigInfo::kernel(SIGSEGV);
        // The handler of SIGSEGV would only come here again.
        if signo == SIGSEGV {
            signal::force_fatal(info);
        } else {
            signal::force_fault(info);
        }
    }
}

/// An area or sequence that is no good is an error.
fn resume(task: &Task, regs: &mut UserRegs) -> Result<()> {
    let area = task.hooks.rseq.area.load(Relaxed);
    if let Some(sequence) = sequence(task, area)? {
        if !sequence.contains(regs.rip) {
            // It has left the sequence: what it names does not concern the next switch.
            user::write(area + SEQUENCE, &0u64)?;
        } else if must_restart(task, area, &sequence)? {
            user::write(area + SEQUENCE, &0u64)?;
            regs.rip = sequence.abort;
        }
    }
    // With interrupts on the task may be moved after this. Then the flag is raised again.
    let cpu = cpu::id() as u32;
    user::write(area + CPU_ID_START, &cpu)?;
    user::write(area + CPU_ID, &cpu)
}

/// The sequence that the area names.
fn sequence(task: &Task, area: u64) -> Result<Option<Sequence>> {
    let address: u64 = user::read(area + SEQUENCE)?;
    if address == 0 {
        return Ok(None);
    }
    let memory_end = current_mm().width().end();
    if address >= memory_end {
        return Err(Errno::EINVAL);
    }
    let sequence: Sequence = user::read(address)?;
    let end = sequence.start.checked_add(sequence.len).ok_or(Errno::EINVAL)?;
    if sequence.start >= memory_end
        || end >= memory_end
        || sequence.abort >= memory_end
        || sequence.version != 0
        || sequence.contains(sequence.abort)
    {
        return Err(Errno::EINVAL);
    }
    let before = sequence.abort.checked_sub(4).ok_or(Errno::EINVAL)?;
    if user::read::<u32>(before)? != task.hooks.rseq.signature.load(Relaxed) {
        return Err(Errno::EINVAL);
    }
    Ok(Some(sequence))
}

/// Whether something has happened that the sequence must not survive. There are no flags any more.
fn must_restart(task: &Task, area: u64, sequence: &Sequence) -> Result<bool> {
    if sequence.flags != 0 || user::read::<u32>(area + FLAGS)? != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(task.hooks.rseq.events.swap(0, Relaxed) != 0)
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
    let task = current();
    let area = task.hooks.rseq.area.load(Relaxed);
    let inside = match sequence(task, area) {
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
            other.hooks.rseq.events.fetch_or(PREEMPTED, Relaxed);
            other.raise(ExitWork::RSEQ);
        }
    }
    // Each of them has been in the kernel after the flag was raised, and does not leave it without looking.
    tlb::barrier(mm.pgd());
}
