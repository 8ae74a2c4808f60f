//! Delivery: what happens to pending signals on the way to user mode, and to the system call that one interrupted.

use core::sync::atomic::Ordering::Relaxed;

use linux_raw_sys::general::RLIMIT_CORE;
use portcullis::InKernel;
use portcullis::x86_64::UserRegs;
use portcullis_linux_abi::restart::{self, Delivery, Restart};

use crate::errno::Errno;
use crate::machine::gate::Gate;
use crate::sched::lent::lend;
use crate::signal::take::settle;
use crate::signal::{job, mask, send};
use crate::task::signals::action::{Action, ActionFlags, SIG_DFL, SIG_IGN};
use crate::task::signals::altstack::{AltStack, SS_AUTODISARM};
use crate::task::signals::info::SigInfo;
use crate::task::signals::set::*;
use crate::task::tree;
use crate::task::wait_status::WaitStatus;
use crate::task::{Task, current, syscall_info};
use crate::work::exit;
use crate::work::{rseq, signal_frame32, signal_frame64, task_work, uprobe};

/// Delivers a signal: enters its handler by changing the registers, or does what is its default. If there is none for
/// user mode, an interrupted system call is restarted.
///
/// The library's exit work calls it while SIGPENDING is raised: interrupts on, may sleep, may not come back.
pub fn do_signal_or_restart(at: &mut InKernel<'_, Gate>) {
    task_work::notify_signal();
    match next(at) {
        Some((info, action)) => {
            let restart = action.flags().contains(ActionFlags::RESTART);
            restart_or_fail(at.regs(), Delivery::Handler { restart });
            enter_handler(at, &info, &action);
        }
        None => {
            restart_or_fail(at.regs(), Delivery::None);
            mask::restore_saved();
        }
    }
}

/// Turns the internal result of an interrupted system call into EINTR or into another attempt. Only a system call has a
/// result: at an interrupt RAX is the user's and may hold anything.
fn restart_or_fail(regs: &mut UserRegs, delivery: Delivery) {
    // The number is the low half of the register; the upper half may hold anything, too.
    let in_system_call = regs.orig_rax as i32 != -1;
    if !in_system_call {
        return;
    }
    let task = current();
    let Some(interruption) = syscall_info::error_of(regs, task).and_then(restart::interruption) else {
        return;
    };
    match restart::decide(interruption, delivery) {
        Restart::Eintr => {
            regs.rax = (Errno::EINTR.0 as u64).wrapping_neg();
            return;
        }
        Restart::Again => regs.rax = regs.orig_rax,
        Restart::Block => regs.rax = task.restart.number(),
    }
    regs.rip = regs.rip.wrapping_sub(restart::SYSCALL_INSTRUCTION_LENGTH);
}

/// Takes pending signals until one has a handler. Default actions happen here; some of them do not return.
fn next(at: &mut InKernel<'_, Gate>) -> Option<(SigInfo, Action)> {
    let task = current();
    loop {
        let Taken { mut info, shared, shown } = take(at, task)?;
        if shown {
            match crate::ptrace::stop::signal(at, info, shared) {
                Some(changed) => info = changed,
                None => continue,
            }
        }
        let signo = info.signo;
        let action = {
            let mut actions = task.sighand.lock();
            let action = actions[signo];
            if action.handler > SIG_IGN && action.flags().contains(ActionFlags::RESETHAND) {
                actions[signo].handler = SIG_DFL;
            }
            action
        };
        if action.handler > SIG_IGN {
            return Some((info, action));
        }
        let spared = task.process.unkillable.load(Relaxed) && ![SIGKILL, SIGSTOP].contains(&signo);
        if action.ignores(signo) || spared {
            continue;
        }
        if SigSet::STOP.contains(signo) {
            // In an orphaned group nobody would continue it; SIGSTOP does not ask.
            if signo == SIGSTOP || !tree::is_orphaned(task.process.pgrp()) {
                lend(at, || job::stop(signo));
            }
            continue;
        }
        die(at, task, &info);
    }
}

/// A signal that was taken.
struct Taken {
    info: SigInfo,
    /// It was sent to the process, not to the thread.
    shared: bool,
    /// The tracer is to see it first.
    shown: bool,
}

/// Takes the next signal to deliver; meanwhile stops if another thread has begun a group stop, and dies if the process
/// does.
fn take(at: &mut InKernel<'_, Gate>, task: &Task) -> Option<Taken> {
    loop {
        let mut shared = task.process.signals.lock();
        let mut signals = task.signals.lock();
        let killed = signals.pending.set().contains(SIGKILL) || task.process.group_exit().is_some();
        if killed {
            // Taken: a tracer may still stop the task at its end.
            signals.pending.flush(SigSet::of(&[SIGKILL]));
            drop((signals, shared));
            // If the process is ending already, that status counts.
            exit::do_group_exit(at, WaitStatus::killed(SIGKILL));
        }
        let traced = task.trace.is_traced();
        if signals.stop.pending {
            if !traced {
                drop((signals, shared));
                lend(at, || job::stop(0));
                continue;
            }
            signals.trap.stop = true;
        }
        if signals.trap.is_pending() {
            drop((signals, shared));
            crate::ptrace::stop::jobctl(at);
            continue;
        }
        let blocked = signals.blocked;
        let taken = signals
            .pending
            .take_synchronous(blocked)
            .or_else(|| signals.pending.take(blocked))
            .map(|taken| (taken, false))
            .or_else(|| shared.pending.take(blocked).map(|taken| (taken, true)));
        if taken.is_some_and(|(taken, _)| SigSet::STOP.contains(taken.signo())) {
            signals.stop.dequeued = true;
        }
        signals.recalculate(task, &shared);
        let immutable = signals.immutable;
        drop((signals, shared));
        return taken.map(|(taken, shared)| Taken {
            info: settle(taken),
            shared,
            shown: traced && taken.signo() != SIGKILL && !immutable.contains(taken.signo()),
        });
    }
}

/// The default action of a fatal signal.
fn die(at: &mut InKernel<'_, Gate>, task: &Task, info: &SigInfo) -> ! {
    let signo = info.signo;
    log::debug!("{} ends by signal {signo}, code {}, address {:#x}", task.tid(), info.code, info.addr());
    // No core file is ever written; whoever sets a limit for one is told that this is a signal that makes one.
    let core = SigSet::CORE.contains(signo) && task.process.rlimit(RLIMIT_CORE).0 != 0;
    exit::do_group_exit(at, if core { WaitStatus::core_dumped(signo) } else { WaitStatus::killed(signo) })
}

/// Makes user mode go on in the handler. If its frame cannot be written, the task gets SIGSEGV; if that was the signal,
/// it dies.
fn enter_handler(at: &mut InKernel<'_, Gate>, info: &SigInfo, action: &Action) {
    let task = current();
    let regs = at.regs();
    uprobe::signal_deliver(regs);
    rseq::signal_deliver(regs, info.signo);
    // Before the frame is written: the step is not the program's.
    let stepped = crate::ptrace::step::leave_for_handler(task, regs);
    let saved_mask = {
        let signals = task.signals.lock();
        signals.saved.unwrap_or(signals.blocked)
    };
    let set_up = if action.is_ia32() {
        signal_frame32::set_up(regs, action, info, saved_mask)
    } else {
        signal_frame64::set_up(regs, action, info, saved_mask)
    };
    if let Err(error) = set_up {
        log::debug!("{}: no frame for signal {} at {:#x}: {error:?}", task.tid(), info.signo, regs.rsp);
        let info_segv = SigInfo::kernel(SIGSEGV);
        if info.signo == SIGSEGV {
            send::force_fatal(info_segv);
        } else {
            send::force(info_segv);
        }
        return;
    }
    let blocked = {
        let mut signals = task.signals.lock();
        signals.saved = None;
        if signals.altstack.flags & SS_AUTODISARM != 0 {
            signals.altstack = AltStack::NONE;
        }
        let mut blocked = signals.blocked.union(action.mask);
        if !action.flags().contains(ActionFlags::NODEFER) {
            blocked.insert(info.signo);
        }
        blocked
    };
    mask::set_blocked(blocked);
    if stepped {
        crate::ptrace::step::report_handler(at);
    }
}
