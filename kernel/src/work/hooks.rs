//! The states in which the gate's hooks are called, and how their consumers are run.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use portcullis::machine::{InterruptFlag, Tracking};
use portcullis::work::{ExitWork, SyscallWork};
use portcullis::x86_64::{PerCpuContext, Rflags};

use crate::errno::{Errno, Result};
use crate::machine::sync;
use crate::task::current;
use crate::task::pid::Pid;
use crate::task::tree::tree;

/// [`Thread::on_switch_out`](crate::sched::thread::Thread::on_switch_out): a restartable sequence may have to be aborted.
pub const SWITCH_RSEQ: u32 = 1;
/// [`Thread::on_switch_out`](crate::sched::thread::Thread::on_switch_out): user-return notifiers wait on this CPU.
pub const SWITCH_USER_RETURN: u32 = 2;

/// The hooks that have a consumer, as tests name them.
#[derive(Clone, Copy, Debug)]
pub enum Hook {
    UserDispatch,
    Ptrace,
    Seccomp,
    Tracepoint,
    Audit,
    Signal,
    Rseq,
    SliceExtension,
    Uprobe,
    Patch,
    QueuedWork,
    UserReturn,
    Vdso,
}

impl Hook {
    /// Each of them, in the order of their numbers.
    pub const ALL: [Hook; 13] = [
        Hook::UserDispatch,
        Hook::Ptrace,
        Hook::Seccomp,
        Hook::Tracepoint,
        Hook::Audit,
        Hook::Signal,
        Hook::Rseq,
        Hook::SliceExtension,
        Hook::Uprobe,
        Hook::Patch,
        Hook::QueuedWork,
        Hook::UserReturn,
        Hook::Vdso,
    ];

    /// How often it was called in a state in which it must not be, or for no reason.
    pub fn violations(self) -> u64 {
        VIOLATIONS[self as usize].load(Relaxed)
    }

    #[cold]
    pub fn violation(self, what: &str) {
        VIOLATIONS[self as usize].fetch_add(1, Relaxed);
        log::error!("the hook {self:?} is called {what}");
    }

    /// The state in which it must be called. Checked with debug assertions.
    #[inline(always)]
    fn expect(self, interrupts_on: bool) {
        let as_expected =
            || Rflags::is_on() == interrupts_on && PerCpuContext::in_kernel() && sync::preempt_count() == 0;
        if cfg!(debug_assertions) && !as_expected() {
            self.violation("in the wrong state");
        }
    }
}

static VIOLATIONS: [AtomicU64; Hook::ALL.len()] = [const { AtomicU64::new(0) }; Hook::ALL.len()];

/// Runs the consumer of exit work: interrupts on, may sleep. The flag is taken before the consumer looks at what it stands
/// for, so that work that is raised meanwhile raises it again.
pub fn exit_work(hook: Hook, flag: ExitWork, consumer: impl FnOnce()) {
    as_task(hook, || {
        if current().work.take(flag).is_empty() {
            hook.violation("without its flag");
        }
        consumer();
    });
}

/// Runs the consumer of exit work that is due after the loop: interrupts off, no page faults.
pub fn settled_work<T>(hook: Hook, flag: ExitWork, consumer: impl FnOnce() -> T) -> T {
    hook.expect(false);
    if current().work.take(flag).is_empty() {
        hook.violation("without its flag");
    }
    consumer()
}

/// Runs the consumer of syscall work: interrupts on, may sleep.
/// A consumer of any size is `#[inline(never)]`: what the gate saves and reserves for one is not to cost the others.
pub fn syscall_work<T>(hook: Hook, consumer: impl FnOnce() -> T) -> T {
    as_task(hook, consumer)
}

/// Runs a consumer that works as the task: interrupts on, may sleep.
pub fn as_task<T>(hook: Hook, consumer: impl FnOnce() -> T) -> T {
    hook.expect(true);
    consumer()
}

/// Arms or disarms syscall work of one task, or of all. Tasks pass AUDIT and TRACEPOINT on to their children.
pub fn set_armed(which: Option<Pid>, work: SyscallWork, on: bool) -> Result<()> {
    let tree = tree();
    let mut found = false;
    for task in tree.tasks().filter(|task| which.is_none_or(|tid| task.tid() == tid)) {
        found = true;
        if on {
            task.work.arm(work);
        } else {
            task.work.disarm(work);
        }
    }
    if found { Ok(()) } else { Err(Errno::ESRCH) }
}
