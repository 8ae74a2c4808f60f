//! PID namespaces: who has which number, and for whom.
//!
//! The kernel itself knows every task, process, group and session by its id in the first namespace; that is what [`Pid`]
//! means everywhere. Tasks of a further namespace have another number there, and in each that it is nested in. System
//! calls translate where they take a number ([`meant`](crate::task::pid::numbers::meant)) and where they give one
//! ([`seen`](crate::task::pid::numbers::seen)). A `/proc` shows the namespace of who has mounted it.
//!
//! A namespace is made by `unshare` or `clone`; the first process in it is its init. Init takes over orphans, no signal of
//! its own namespace kills it, and all others end with it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::new_ino;
use crate::sched::wait::WaitQueue;
use crate::task::credentials::user_namespace;
use crate::task::pid::{PID_MAX, PID_RESTART, Pid};

/// An id that nobody has.
pub const NOBODY: Pid = -1;
/// The number of a namespace's init in it.
pub const INIT: Pid = 1;
/// How deep namespaces may be nested.
const MAX_DEPTH: usize = 32;

/// A PID namespace that is not the first one.
pub struct PidNamespace {
    /// Its number in `/proc/PID/ns`.
    pub ino: u64,
    /// The one that it is nested in; None for the first.
    parent: Option<Arc<PidNamespace>>,
    /// The user namespace that it was made in: whose administrators choose numbers here.
    owner: user_namespace::Namespace,
    numbers: SpinLock<Numbers>,
    /// Woken when a process of it is gone.
    pub changed: WaitQueue,
}

struct Numbers {
    /// By number in this namespace.
    pids: BTreeMap<Pid, Pid>,
    last: Pid,
    /// Init has ended: nobody comes any more.
    ended: bool,
}

/// The namespace of a process; None for the first.
pub type Namespace = Option<Arc<PidNamespace>>;

/// This one and those that it is nested in, but for the first.
pub fn chain(namespace: &Namespace) -> impl Iterator<Item = &Arc<PidNamespace>> {
    core::iter::successors(namespace.as_ref(), |namespace| namespace.parent.as_ref())
}

impl PidNamespace {
    /// A new one.
    pub fn nested(parent: &Namespace, owner: user_namespace::Namespace) -> Result<Namespace> {
        if chain(parent).count() == MAX_DEPTH {
            return Err(Errno::ENOSPC);
        }
        Ok(Some(Arc::new(PidNamespace {
            ino: new_ino(),
            parent: parent.clone(),
            owner,
            numbers: SpinLock::new(Numbers { pids: BTreeMap::new(), last: 0, ended: false }),
            changed: WaitQueue::new(),
        })))
    }

    /// Nobody enters it any more.
    pub fn close(&self) {
        self.numbers.lock().ended = true;
    }

    /// The user namespace whose administrators choose numbers here.
    pub fn owner(&self) -> &user_namespace::Namespace {
        &self.owner
    }

    /// The number of an id here.
    pub fn number(&self, id: Pid) -> Option<Pid> {
        let numbers = self.numbers.lock();
        let found = numbers.pids.iter().find(|(_, other)| **other == id);
        found.map(|(number, _)| *number)
    }

    /// The id of a number here.
    pub fn id(&self, number: Pid) -> Option<Pid> {
        self.numbers.lock().pids.get(&number).copied()
    }

    /// Its init, unless that is ending.
    pub fn init(&self) -> Option<Pid> {
        let numbers = self.numbers.lock();
        numbers.pids.get(&INIT).copied().filter(|_| !numbers.ended)
    }

    /// Gives an id the chosen number, or the next.
    pub fn add(&self, id: Pid, chosen: Option<Pid>, is_taken: impl Fn(Pid) -> bool) -> Result<()> {
        let mut numbers = self.numbers.lock();
        if numbers.ended {
            return Err(Errno::ENOMEM);
        }
        // Groups and sessions that have outlived their leaders, and have ended.
        numbers.pids.retain(|_, id| is_taken(*id));
        if let Some(number) = chosen {
            if numbers.pids.contains_key(&number) {
                return Err(Errno::EEXIST);
            }
            numbers.pids.insert(number, id);
            return Ok(());
        }
        let next = |last: Pid| {
            if last + 1 >= PID_MAX { PID_RESTART } else { last + 1 }
        };
        let mut number = next(numbers.last);
        while numbers.pids.contains_key(&number) {
            number = next(number);
            if number == numbers.last {
                return Err(Errno::EAGAIN);
            }
        }
        numbers.last = number;
        numbers.pids.insert(number, id);
        Ok(())
    }

    /// Takes an id out.
    pub fn remove(&self, id: Pid) {
        self.numbers.lock().pids.retain(|_, other| *other != id);
    }
}

/// Whether two namespaces are the same.
pub fn is_same(one: &Namespace, other: &Namespace) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

/// A process of this namespace, or one of its threads, has left the tree. Its number is free, unless it is still `taken`: a group or a
/// session is called so.
pub fn left(namespace: &Namespace, id: Pid, taken: bool) {
    for namespace in chain(namespace) {
        if !taken {
            namespace.remove(id);
        }
        namespace.changed.wake_all();
    }
}

#[cfg(test)]
mod tests;
