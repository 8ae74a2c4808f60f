//! A process: what its threads share. Its relations are kept in the tree ([`tree`](crate::task::tree)); what is asked for often
//! (parent, group, session) is here, too, as an atomic, written under the tree's lock.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::*};

use crate::machine::sync::SpinLock;
use crate::sched::usage::Usage;
use crate::sched::wait::WaitQueue;
use crate::task::limits::Limits;
use crate::task::personality::Personality;
use crate::task::pid::Pid;
use crate::task::pid::namespace::Namespace;
use crate::task::signals::quota::User;
use crate::task::signals::state::ProcessSignals;
use crate::task::timers::Timers;
use crate::task::wait_status::WaitStatus;
use crate::vfs::mount::Location;

/// A thread group.
pub struct Process {
    /// Its id: the TID of its first thread.
    pub pid: Pid,
    /// Where it has further numbers.
    pub pid_namespace: Namespace,
    pub(super) parent: AtomicI32,
    pub(super) pgrp: AtomicI32,
    pub(super) session: AtomicI32,
    /// The device number of its controlling terminal; 0 for none.
    pub terminal: AtomicU32,
    /// A session leader's: the group in the foreground of its terminal when that hung up. It is told when the leader ends.
    pub hung_up: AtomicI32,
    /// Whether it has called exec since it was forked (setpgid on it is refused then).
    pub has_execed: AtomicBool,
    /// Signals pending for the process; the state of a group stop.
    pub signals: SpinLock<ProcessSignals>,
    /// Woken when a child changes state; `wait4` sleeps here.
    pub children_changed: WaitQueue,
    /// Woken when a thread ends, and when a tracer has seen one end; exec waits here until it is alone.
    pub threads_changed: WaitQueue,
    /// Woken when the process can be waited for; who polls its pidfds sleeps here.
    pub ended: WaitQueue,
    /// `GROUP_EXIT | status` once the whole process is ending.
    group_exit: AtomicU32,
    /// The thread that is in exec and waits for the others to end; 0 for none.
    pub exec_thread: AtomicI32,
    /// What it runs, for /proc.
    pub image: SpinLock<Arc<Image>>,
    /// Its first thread, once that has ended, for /proc.
    pub leader: SpinLock<Leader>,
    /// Resource limits.
    pub limits: SpinLock<Limits>,
    /// Used by threads that have ended.
    pub usage: Usage,
    /// Used by children that have been waited for.
    pub children_usage: Usage,
    /// Interval timers and POSIX timers.
    pub timers: Timers,
    /// prctl(PR_SET_DUMPABLE).
    pub dumpable: AtomicBool,
    /// Whether it is a namespace's init, which no signal ends but one from outside, or a fault of its own.
    pub unkillable: AtomicBool,
    /// prctl(PR_SET_CHILD_SUBREAPER).
    pub subreaper: AtomicBool,
    /// User, group and supplementary ids, capabilities.
    pub credentials: SpinLock<crate::task::credentials::Credentials>,
    /// personality(2).
    pub personality: AtomicU32,
    /// [`crate::machine::time::now`] when it was forked.
    pub started: AtomicU64,
}

/// What is still shown of a process's first thread when that has ended.
#[derive(Clone, Copy, Default)]
pub struct Leader {
    /// Its name, NUL-padded.
    pub comm: [u8; 16],
    /// Its nice value.
    pub nice: i32,
}

/// The program a process runs.
#[derive(Default)]
pub struct Image {
    /// The executable. None before the first exec.
    pub executable: Option<Location>,
}

const GROUP_EXIT: u32 = 1 << 31;

impl Process {
    /// Whether its personality has this.
    pub fn has_personality(&self, flag: Personality) -> bool {
        self.personality.load(Relaxed) & flag.bits() != 0
    }

    /// A process that nobody knows yet. `from` is the process that forks it.
    pub fn new(pid: Pid, from: Option<&Process>, pid_namespace: Namespace) -> Arc<Process> {
        let get = |field: fn(&Process) -> Pid| from.map_or(0, field);
        let process = Arc::new(Process {
            pid,
            pid_namespace,
            parent: AtomicI32::new(0),
            pgrp: AtomicI32::new(get(Process::pgrp)),
            session: AtomicI32::new(get(Process::session)),
            terminal: AtomicU32::new(from.map_or(0, |from| from.terminal.load(Relaxed))),
            hung_up: AtomicI32::new(0),
            has_execed: AtomicBool::new(false),
            signals: SpinLock::new(ProcessSignals::new(
                from.map_or_else(|| User::find(0), |from| from.signals.lock().user.clone()),
            )),
            children_changed: WaitQueue::new(),
            threads_changed: WaitQueue::new(),
            ended: WaitQueue::new(),
            group_exit: AtomicU32::new(0),
            exec_thread: AtomicI32::new(0),
            image: SpinLock::new(from.map_or_else(Default::default, |from| from.image.lock().clone())),
            leader: SpinLock::default(),
            limits: SpinLock::new(from.map_or_else(Limits::default, |from| from.limits.lock().clone())),
            usage: Usage::default(),
            children_usage: Usage::default(),
            timers: Timers::default(),
            dumpable: AtomicBool::new(true),
            unkillable: AtomicBool::new(false),
            subreaper: AtomicBool::new(false),
            credentials: SpinLock::new(from.map_or_else(Default::default, |from| from.credentials.lock().clone())),
            personality: AtomicU32::new(from.map_or(0, |from| from.personality.load(Relaxed))),
            started: AtomicU64::new(crate::machine::time::now()),
        });
        if process.limits.lock().bound_cpu() {
            process.timers.arm_cpu();
        }
        process
    }

    /// Parent's PID; 0 for PID 1.
    pub fn ppid(&self) -> Pid {
        self.parent.load(Relaxed)
    }

    /// Process group.
    pub fn pgrp(&self) -> Pid {
        self.pgrp.load(Relaxed)
    }

    /// Session.
    pub fn session(&self) -> Pid {
        self.session.load(Relaxed)
    }

    /// Whether it leads its session.
    pub fn is_session_leader(&self) -> bool {
        self.session() == self.pid
    }

    /// The wait status with which the whole process is ending, if it is.
    pub fn group_exit(&self) -> Option<WaitStatus> {
        let value = self.group_exit.load(SeqCst);
        (value != 0).then_some(WaitStatus::from_bits((value & !GROUP_EXIT) as i32))
    }

    /// Begins the end of the whole process. The first status counts; returns it.
    pub fn begin_group_exit(&self, status: WaitStatus) -> (WaitStatus, bool) {
        let new = GROUP_EXIT | status.bits() as u32;
        match self.group_exit.compare_exchange(0, new, SeqCst, SeqCst) {
            Ok(_) => (status, true),
            Err(old) => (WaitStatus::from_bits((old & !GROUP_EXIT) as i32), false),
        }
    }
}

impl Process {
    /// A resource limit (`RLIMIT_*`): soft and hard.
    #[inline]
    pub fn rlimit(&self, which: u32) -> (u64, u64) {
        let limit = self.limits.lock().0[which as usize];
        (limit.soft, limit.hard)
    }

    /// Makes a soft limit `most` at most.
    pub fn limit_soft(&self, which: u32, most: u64) {
        let limit = &mut self.limits.lock().0[which as usize];
        limit.soft = limit.soft.min(most);
    }
}

#[cfg(test)]
mod tests;
