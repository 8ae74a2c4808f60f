//! The system calls on signals.

use core::mem::size_of;

use portcullis::x86_64::UserRegs;
use zerocopy::IntoBytes;

use crate::errno::{Errno, Result};
use crate::machine::time;
use crate::memory::{Width, user};
use crate::sched::scheduler;
use crate::sched::state::{INTERRUPTIBLE, RUNNING};
use crate::signal::take::take_pending;
use crate::signal::{force_fault, kill, mask, permission, send};
use crate::task::clock::Timespec;
use crate::task::pid::Pid;
use crate::task::pid::numbers::{meant, seen};
use crate::task::signals::action::Action;
use crate::task::signals::altstack::AltStack;
use crate::task::signals::info::*;
use crate::task::signals::set::*;
use crate::task::tree::Tree;
use crate::task::{Process, Task, current, tree};
use crate::work::signal_frame64;

/// rt_sigaction(2).
pub fn sys_rt_sigaction(signo: u64, new: u64, old: u64, size: u64) -> Result<usize> {
    SigSet::check_size(size)?;
    let new: Option<Action> = if new == 0 { None } else { Some(user::read(new)?) };
    let previous = exchange_action(signo, new.map(Action::shown))?;
    if old != 0 {
        user::write(old, &previous)?;
    }
    Ok(0)
}

/// Sets an action where there is a new one; returns the old.
pub(crate) fn exchange_action(signo: u64, new: Option<Action>) -> Result<Action> {
    let signo = signo as i32;
    if !is_valid(signo) || new.is_some() && SigSet::UNBLOCKABLE.contains(signo) {
        return Err(Errno::EINVAL);
    }
    let task = current();
    let previous = match new {
        None => task.sighand.get(signo),
        Some(action) => replace_action(task, signo, action.sanitized()),
    };
    Ok(previous.shown())
}

/// Sets an action. If the signal is ignored from now on, it is forgotten where it is pending, blocked or not (POSIX).
fn replace_action(task: &Task, signo: i32, action: Action) -> Action {
    if !action.ignores(signo) {
        return core::mem::replace(&mut task.sighand.lock()[signo], action);
    }
    let tree = tree::tree();
    let mut shared = task.process.signals.lock();
    let previous = core::mem::replace(&mut task.sighand.lock()[signo], action);
    if let Some(node) = tree.node(task.process.pid) {
        send::flush(node, &mut shared, SigSet::of(&[signo]));
    }
    previous
}

/// rt_sigprocmask(2).
pub fn sys_rt_sigprocmask(how: u64, new: u64, old: u64, size: u64) -> Result<usize> {
    const SIG_BLOCK: i32 = 0;
    const SIG_UNBLOCK: i32 = 1;
    const SIG_SETMASK: i32 = 2;
    SigSet::check_size(size)?;
    let previous = current().signals.lock().blocked();
    if new != 0 {
        let set: SigSet = user::read(new)?;
        mask::set_blocked(match how as i32 {
            SIG_BLOCK => previous.union(set),
            SIG_UNBLOCK => previous.without(set),
            SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        });
    }
    if old != 0 {
        user::write(old, &previous)?;
    }
    Ok(0)
}

/// rt_sigpending(2). The one call that takes a shorter set.
pub fn sys_rt_sigpending(address: u64, size: u64) -> Result<usize> {
    if size > size_of::<SigSet>() as u64 {
        return Err(Errno::EINVAL);
    }
    let task = current();
    let pending = {
        let shared = task.process.signals.lock();
        let signals = task.signals.lock();
        shared.pending().union(signals.pending()).intersection(signals.blocked())
    };
    // No bytes go to any address.
    if size != 0 {
        user::write(address, &pending.as_bytes()[..size as usize])?;
    }
    Ok(0)
}

/// sigaltstack(2).
pub fn sys_sigaltstack(new: u64, old: u64, stack_pointer: u64) -> Result<usize> {
    let new = if new == 0 { None } else { Some(AltStack::read(new)?) };
    let seen = {
        let mut signals = current().signals.lock();
        let seen = signals.altstack.seen_from(stack_pointer);
        if let Some(new) = new {
            signals.altstack = signals.altstack.replaced_by(new, stack_pointer)?;
        }
        seen
    };
    if old != 0 {
        seen.write(old)?;
    }
    Ok(0)
}

/// Sleeps until a signal is pending.
fn sleep_until_signal() {
    loop {
        scheduler::set_state(INTERRUPTIBLE);
        // Comes back at once if one is pending already.
        scheduler::schedule();
        if current().signal_pending() {
            break;
        }
    }
    scheduler::set_state(RUNNING);
}

/// pause(2).
pub fn sys_pause() -> Result<usize> {
    sleep_until_signal();
    Err(Errno::ERESTARTNOHAND)
}

/// rt_sigsuspend(2).
pub fn sys_rt_sigsuspend(set: u64, size: u64) -> Result<usize> {
    SigSet::check_size(size)?;
    suspend(user::read(set)?)
}

/// rt_sigsuspend(2) with the set itself.
pub(crate) fn suspend(set: SigSet) -> Result<usize> {
    mask::set_temporary(set);
    sleep_until_signal();
    mask::end_temporary(true);
    Err(Errno::ERESTARTNOHAND)
}

/// rt_sigtimedwait(2).
pub fn sys_rt_sigtimedwait(set: u64, info: u64, timeout: u64, size: u64) -> Result<usize> {
    rt_sigtimedwait(Width::Bits64, set, info, timeout, size)
}

/// rt_sigtimedwait(2) with a `timespec` of this width.
pub fn rt_sigtimedwait(width: Width, set: u64, info: u64, timeout: u64, size: u64) -> Result<usize> {
    SigSet::check_size(size)?;
    let set: SigSet = user::read(set)?;
    let timeout = if timeout == 0 { None } else { Some(Timespec::read(width, timeout)?.to_ns()?) };
    let taken = wait_for(set.without(SigSet::UNBLOCKABLE), timeout)?;
    if info != 0 {
        taken.write_for_call(info)?;
    }
    Ok(taken.signo as usize)
}

/// Takes a signal of `set`; sleeps for at most `timeout` nanoseconds until there is one.
fn wait_for(set: SigSet, timeout: Option<u64>) -> Result<SigInfo> {
    let task = current();
    if let Some(info) = take_pending(set) {
        return Ok(info);
    }
    if timeout == Some(0) {
        return Err(Errno::EAGAIN);
    }
    // While asleep, what is waited for counts as unblocked, so that its arrival wakes this task.
    let blocked = {
        let shared = task.process.signals.lock();
        let mut signals = task.signals.lock();
        let blocked = signals.blocked;
        signals.awaited = blocked;
        signals.blocked = blocked.without(set);
        signals.recalculate(task, &shared);
        blocked
    };
    let deadline = timeout.map_or(crate::sched::wait::FOREVER, |timeout| time::now().saturating_add(timeout));
    let slept = crate::sched::wait::WaitQueue::new().wait_until_timeout(deadline, || None::<()>);
    mask::set_blocked(blocked);
    task.signals.lock().awaited = SigSet::EMPTY;
    match (take_pending(set), slept) {
        (Some(info), _) => Ok(info),
        (None, Err(Errno::ETIMEDOUT)) => Err(Errno::EAGAIN),
        (None, _) => Err(Errno::EINTR),
    }
}

/// kill(2).
pub fn sys_kill(pid: u64, signo: u64) -> Result<usize> {
    let (pid, signo) = (pid as Pid, signo as i32);
    let info = kill::from_caller(signo, SI_USER);
    match pid {
        1.. => to_process(meant(pid), info)?,
        Pid::MIN => return Err(Errno::ESRCH),
        -1 => to_all(info)?,
        0 => to_group(current().process.pgrp(), info)?,
        group => to_group(meant(-group), info)?,
    }
    Ok(0)
}

fn to_process(pid: Pid, info: SigInfo) -> Result<()> {
    // Any thread's number stands for its process.
    let process = tree::find(pid).or_else(|| Some(tree::find_task(pid)?.process.clone())).ok_or(Errno::ESRCH)?;
    kill::to_process(&process, info)
}

/// Sends to a member of a group, if that is permitted.
fn to_member(tree: &Tree, process: &Process, info: SigInfo) -> Result<()> {
    kill::check_number(info.signo)?;
    permission::check(process, &info)?;
    if info.signo == 0 {
        return Ok(());
    }
    send::send(tree, process, None, info)
}

/// Fine if one member could be sent to; otherwise what the last one gave.
fn to_group(group: Pid, info: SigInfo) -> Result<()> {
    let tree = tree::tree();
    tree::note_group_signal();
    let mut sent = false;
    let mut last = Err(Errno::ESRCH);
    for node in tree.nodes().filter(|node| node.process.pgrp() == group) {
        last = to_member(&tree, &node.process, info);
        sent |= last.is_ok();
    }
    if sent { Ok(()) } else { last }
}

/// Everybody but the kernel's reaper and the sender. Those who may not be signalled are passed over, and are no error.
fn to_all(info: SigInfo) -> Result<()> {
    let tree = tree::tree();
    tree::note_group_signal();
    let mut result = Err(Errno::ESRCH);
    for node in tree.nodes().filter(|node| send::is_other(node)) {
        match to_member(&tree, &node.process, info) {
            Err(Errno::EPERM) if result == Err(Errno::ESRCH) => result = Ok(()),
            Err(Errno::EPERM) => {}
            other => result = other,
        }
    }
    result
}

/// tkill(2).
pub fn sys_tkill(tid: u64, signo: u64) -> Result<usize> {
    if tid as Pid <= 0 {
        return Err(Errno::EINVAL);
    }
    to_thread(None, meant(tid as Pid), kill::from_caller(signo as i32, SI_TKILL))
}

/// tgkill(2).
pub fn sys_tgkill(tgid: u64, tid: u64, signo: u64) -> Result<usize> {
    let (tgid, tid) = (tgid as Pid, tid as Pid);
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    to_thread(Some(meant(tgid)), meant(tid), kill::from_caller(signo as i32, SI_TKILL))
}

fn to_thread(tgid: Option<Pid>, tid: Pid, info: SigInfo) -> Result<usize> {
    let Some(task) = tree::find_task(tid) else {
        return to_ended_leader(tgid, tid, info);
    };
    if tgid.is_some_and(|tgid| task.process.pid != tgid) {
        return Err(Errno::ESRCH);
    }
    kill::check_number(info.signo)?;
    permission::check(&task.process, &info)?;
    if info.signo != 0 {
        if info.signo >= SIGRTMIN {
            send::reserve(&task.process, Some(&task), 0);
        }
        send::send(&tree::tree(), &task.process, Some(&task), info)?;
    }
    Ok(0)
}

/// The first thread of a process keeps its number after its end, until the process has been waited for. It may be sent to,
/// and takes nothing; what a signal does to its process when it is sent, it does.
fn to_ended_leader(tgid: Option<Pid>, tid: Pid, info: SigInfo) -> Result<usize> {
    let process = tree::find(tid).filter(|process| tgid.is_none_or(|tgid| process.pid == tgid)).ok_or(Errno::ESRCH)?;
    kill::check_number(info.signo)?;
    permission::check(&process, &info)?;
    if info.signo != 0 {
        send::to_ended_thread(&tree::tree(), &process, info.signo);
    }
    Ok(0)
}

/// A program may make up the information, but not so that it looks like the kernel's or `tkill`'s, except to the calling
/// thread itself, by its number.
fn made_up(signo: u64, info: u64, number: Pid) -> Result<SigInfo> {
    checked(SigInfo::read_for_call(signo as i32, info)?, number)
}

fn checked(info: SigInfo, number: Pid) -> Result<SigInfo> {
    let info = info.with_pid(meant);
    if (info.code >= 0 || info.code == SI_TKILL) && seen(current().tid()) != number {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

/// rt_sigqueueinfo(2).
pub fn sys_rt_sigqueueinfo(pid: u64, signo: u64, info: u64) -> Result<usize> {
    let pid = pid as Pid;
    let info = made_up(signo, info, pid)?;
    to_process(meant(pid), info)?;
    Ok(0)
}

/// rt_tgsigqueueinfo(2).
pub fn sys_rt_tgsigqueueinfo(tgid: u64, tid: u64, signo: u64, info: u64) -> Result<usize> {
    let (tgid, tid) = (tgid as Pid, tid as Pid);
    let info = SigInfo::read_for_call(signo as i32, info)?;
    if tgid <= 0 || tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = checked(info, tid)?;
    to_thread(Some(meant(tgid)), meant(tid), info)
}

/// rt_sigreturn(2).
pub fn sys_rt_sigreturn(regs: &mut UserRegs) -> Result<usize> {
    let result = signal_frame64::restore_frame(regs);
    finish_sigreturn(regs, result)
}

/// What a call that takes a frame back returns: RAX as the frame has it. A frame that is no good, or none, is SIGSEGV. Where the
/// registers could not be read it is still a system call, for a tracer.
pub fn finish_sigreturn(regs: &mut UserRegs, result: Result<()>) -> Result<usize> {
    if result.is_err() {
        force_fault(SigInfo::kernel(SIGSEGV));
        return Ok(0);
    }
    // The dispatcher writes the result to RAX.
    Ok(regs.rax as usize)
}

/// restart_syscall(2): goes on with the call that a signal has interrupted.
pub fn sys_restart_syscall() -> Result<usize> {
    let block = *current().restart.block.lock();
    (block.function)(block.args)
}
