//! seccomp: system calls that a task has forbidden itself.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | see what a verdict does | here, [`secure_computing`] |
//! | attach a filter, `seccomp(2)`, `prctl` | [`attach`] |
//! | change what filters can express | [`bpf`](crate::task::seccomp::bpf) |
//! | see how several filters agree, and the short cut for allowed calls | [`filter`](crate::task::seccomp::filter) |
//! | let another process decide | [`notify`] |
//! | show filters to a tracer | [`inspect`] |

pub mod attach;
pub mod inspect;
pub mod notify;

use alloc::sync::Arc;
use core::sync::atomic::Ordering::*;

use portcullis::x86_64::UserRegs;
use portcullis::{InKernel, Skip};

use crate::errno::Errno;
use crate::machine::gate::Gate;
use crate::sched::lent::with_state;
use crate::signal;
use crate::signal::{SIGKILL, SIGSYS, SigInfo};
use crate::task::seccomp::data::Data;
use crate::task::seccomp::filter::{Attached, Filter, action};
use crate::task::seccomp::{DISABLED, STRICT, newest};
use crate::task::signals::info::SYS_SECCOMP;
use crate::task::syscall_info::state;
use crate::task::trace_state::Event;
use crate::task::tree::Tree;
use crate::task::wait_status::WaitStatus;
use crate::task::{Task, current, syscall_info};
use crate::work::exit;

/// A new task has its parent's filters. The tree is locked, so that no TSYNC comes in between.
pub fn inherit(tree: &mut Tree, parent: &Task, child: &Task) {
    let mode = parent.hooks.seccomp.mode();
    if mode == DISABLED {
        return;
    }
    let attached = parent.hooks.seccomp.attached(tree).cloned();
    let none = child.hooks.seccomp.replace(tree, attached);
    debug_assert!(none.is_none(), "a new task with a filter");
    child.hooks.seccomp.enable(child, mode);
}

/// The current task ends: its filters have one user less.
pub fn release() {
    let seccomp = &current().hooks.seccomp;
    if seccomp.mode() != DISABLED {
        let old = seccomp.replace(&mut *crate::task::tree::tree(), None);
        drop(old);
    }
}

/// The hook: judges the call in the registers. Runs after the tracer's stop, so that what a tracer made of the call is what
/// is judged. Interrupts on, may sleep, may not come back.
#[inline]
pub fn secure_computing(regs: &mut UserRegs) -> Result<(), Skip> {
    let seccomp = &current().hooks.seccomp;
    let (number, arch) = (syscall_info::number(regs), syscall_info::arch());
    let filter = match seccomp.mode.load(Acquire) {
        DISABLED => return Ok(()),
        STRICT => None,
        _ => match newest(seccomp) {
            Some(filter) if !filter.allows(number, arch) => Some(filter),
            _ => return Ok(()),
        },
    };
    undecided(regs, filter)
}

/// The call is not one that the newest filter allows whatever its arguments are; or there is none, in strict mode.
#[cold]
#[inline(never)]
fn undecided(regs: &mut UserRegs, filter: Option<&Filter>) -> Result<(), Skip> {
    with_state(regs, |at| match filter {
        Some(filter) => judge(filter, at, false),
        None => strict(at),
    })
}

/// Strict mode: read, write, exit and sigreturn; any other call is the thread's last.
fn strict(at: &mut InKernel<'_, Gate>) -> Result<(), Skip> {
    let allowed: [i32; 4] = match syscall_info::arch() {
        state::AUDIT_ARCH_X86_64 => [0, 1, 60, 15],
        _ => [3, 4, 1, 119],
    };
    if !allowed.contains(&syscall_info::number(at.saved())) {
        exit::do_exit(at, WaitStatus::killed(SIGKILL));
    }
    Ok(())
}

/// Runs the filters and does what they say. `traced`: the tracer has been asked already.
fn judge(filter: &Filter, at: &mut InKernel<'_, Gate>, traced: bool) -> Result<(), Skip> {
    let regs = at.saved();
    let data = Data {
        number: syscall_info::number(regs),
        arch: syscall_info::arch(),
        instruction_pointer: regs.rip,
        args: syscall_info::args(regs),
    };
    let (verdict, from) = filter.judge(&data);
    let what = verdict & action::MASK;
    let value = verdict & action::DATA;
    let logged = match what {
        action::ALLOW => return Ok(()),
        action::LOG | action::KILL_PROCESS | action::KILL_THREAD => true,
        _ => from.is_some_and(|filter| filter.log),
    };
    if logged {
        crate::work::audit::seccomp(&data, what);
    }
    match what {
        action::LOG => Ok(()),
        action::ERRNO => {
            const MAX_ERRNO: u32 = 4095;
            at.regs().rax = u64::from(value.min(MAX_ERRNO)).wrapping_neg();
            Err(Skip)
        }
        action::TRAP => {
            syscall_info::roll_back(at.regs());
            signal::force_fault(sigsys(&data, value));
            Err(Skip)
        }
        action::TRACE if traced => Ok(()),
        action::TRACE => trace(at, value),
        action::USER_NOTIF => match from {
            Some(from) => crate::work::seccomp::notify::ask(from, &data, at),
            None => Err(Skip),
        },
        // An action that nobody knows kills, too.
        _ => kill(what, &data, value, at),
    }
}

/// Lets the tracer decide, and judges again what it made of the call.
fn trace(at: &mut InKernel<'_, Gate>, value: u32) -> Result<(), Skip> {
    let task = current();
    if !task.trace.wants(Event::Seccomp) {
        // Without a tracer the call does not exist.
        at.regs().rax = (Errno::ENOSYS.0 as u64).wrapping_neg();
        return Err(Skip);
    }
    crate::ptrace::stop::event(at, Event::Seccomp, value.into());
    // A tracer that was killed, or has killed the task, has not changed what it would have. A number below zero: it has
    // decided that the call is not to be made.
    if crate::task::signals::fatal_pending(task) || syscall_info::number(at.saved()) < 0 {
        return Err(Skip);
    }
    match newest(&task.hooks.seccomp) {
        Some(filter) => judge(filter, at, true),
        None => Ok(()),
    }
}

/// Ends the thread or the process. The last thread ends as the process does: whoever waits sees SIGSYS.
fn kill(what: u32, data: &Data, value: u32, at: &mut InKernel<'_, Gate>) -> Result<(), Skip> {
    let alone = || {
        let mut threads = 0;
        current().process.for_each_thread(|_| threads += 1);
        threads <= 1
    };
    if what == action::KILL_THREAD && !alone() {
        exit::do_exit(at, WaitStatus::killed(SIGSYS));
    }
    syscall_info::roll_back(at.regs());
    crate::signal::send::force_exit(sigsys(data, value));
    Err(Skip)
}

fn sigsys(data: &Data, value: u32) -> SigInfo {
    SigInfo::system_call(SYS_SECCOMP, value as i32, data.instruction_pointer, data.number, data.arch)
}

/// What `attach` needs of a filter that is about to be a task's newest.
fn follow(task: &Task, tree: &mut Tree, filter: Arc<Filter>) -> Option<Attached> {
    task.hooks.seccomp.replace(tree, Some(Attached::new(filter)))
}
