//! A tracee's stops.

use crate::task::signals::info::SigInfo;

/// A tracee's stops: what it shall stop for, and the one it is in. Under the lock of the task's signals.
#[derive(Default)]
pub struct Trap {
    /// It shall stop for its tracer: PTRACE_INTERRUPT, or its part in a group stop.
    pub(crate) stop: bool,
    /// The state of the group stop has changed: a seized task reports that.
    pub(crate) notify: bool,
    /// It is on its way from a group stop to its tracer's; PTRACE_ATTACH waits for that.
    pub(crate) trapping: bool,
    /// It is stopped for its tracer.
    pub(crate) stopped: bool,
    /// PTRACE_LISTEN: it stays in its group stop, and does not count as stopped for the tracer.
    pub(crate) listening: bool,
    /// A request is under way: only its end lets the task go on.
    pub(crate) frozen: bool,
    /// What is reported, until a wait has taken it; then what the tracer goes on with.
    pub(crate) code: i32,
    /// `PTRACE_GETEVENTMSG`.
    pub(crate) message: u64,
    /// The information of the stop's signal, where it has one.
    pub(crate) info: Option<SigInfo>,
}

impl Trap {
    /// Whether it is to stop before it goes on.
    pub(crate) fn is_pending(&self) -> bool {
        self.stop || self.notify
    }
}
