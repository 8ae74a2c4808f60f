//! PID namespaces: who has which number, and for whom.
//!
//! The kernel itself knows every task, process, group and session by its id in the first namespace; that is what [`Pid`]
//! means everywhere. Tasks of a further namespace have another number there, and in each that it is nested in. System
//! calls translate where they take a number ([`meant`]) and where they give one ([`seen`]). `/proc` is the first
//! namespace's, as long as nobody can mount another.
//!
//! A namespace is made by `unshare` or `clone`; the first process in it is its init. Init takes over orphans, no signal of
//! its own namespace kills it, and all others end with it.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::sched::wait::WaitQueue;
use crate::task::credentials::Credentials;
use crate::task::process::{PID_MAX, PID_RESTART, Pid, Process, Tree};
use crate::task::{Task, capabilities, current, user_namespace};

/// An id that nobody has.
const NOBODY: Pid = -1;
/// The number of a namespace's init in it.
const INIT: Pid = 1;
/// How deep namespaces may be nested.
const MAX_DEPTH: usize = 32;

/// A PID namespace that is not the first one.
pub struct PidNamespace {
    /// The one that it is nested in; None for the first.
    parent: Option<Arc<PidNamespace>>,
    /// The user namespace that it was made in: whose administrators choose numbers here.
    owner: user_namespace::Namespace,
    numbers: SpinLock<Numbers>,
    /// Woken when a process of it is gone.
    pub changed: WaitQueue,
}

struct Numbers {
    /// Ids by number.
    ids: BTreeMap<Pid, Pid>,
    last: Pid,
    /// Init has ended: nobody comes any more.
    ended: bool,
}

/// The namespace of a process; None for the first.
pub type Namespace = Option<Arc<PidNamespace>>;

/// This one and those that it is nested in, but for the first.
fn chain(namespace: &Namespace) -> impl Iterator<Item = &Arc<PidNamespace>> {
    core::iter::successors(namespace.as_ref(), |namespace| namespace.parent.as_ref())
}

/// A new namespace, nested in the current process's, for children of the current task, which has these credentials. Only an
/// administrator makes one.
pub fn new(credentials: &Credentials) -> Result<Namespace> {
    let parent = &current().process.pid_namespace;
    if !credentials.is_admin() {
        return Err(Errno::EPERM);
    }
    if chain(parent).count() == MAX_DEPTH {
        return Err(Errno::ENOSPC);
    }
    Ok(Some(Arc::new(PidNamespace {
        parent: parent.clone(),
        owner: credentials.namespace.clone(),
        numbers: SpinLock::new(Numbers { ids: BTreeMap::new(), last: 0, ended: false }),
        changed: WaitQueue::new(),
    })))
}

/// The number by which the current process sees an id; 0 if it is not of its namespace.
#[inline]
pub fn seen(id: Pid) -> Pid {
    seen_by(&current().process, id)
}

/// The same for another process.
#[inline]
pub fn seen_by(process: &Process, id: Pid) -> Pid {
    match &process.pid_namespace {
        None => id,
        Some(namespace) => namespace.number(id).unwrap_or(0),
    }
}

/// The id that the current process means by a number; one that nobody has if there is none.
#[inline]
pub fn meant(number: Pid) -> Pid {
    match &current().process.pid_namespace {
        None => number,
        Some(namespace) => namespace.id(number).unwrap_or(NOBODY),
    }
}

impl PidNamespace {
    fn number(&self, id: Pid) -> Option<Pid> {
        let numbers = self.numbers.lock();
        let found = numbers.ids.iter().find(|(_, other)| **other == id);
        found.map(|(number, _)| *number)
    }

    fn id(&self, number: Pid) -> Option<Pid> {
        self.numbers.lock().ids.get(&number).copied()
    }

    /// Its init, unless that is ending.
    pub fn init(&self) -> Option<Pid> {
        let numbers = self.numbers.lock();
        numbers.ids.get(&INIT).copied().filter(|_| !numbers.ended)
    }

    /// Gives an id the chosen number, or the next.
    fn add(&self, tree: &Tree, id: Pid, chosen: Option<Pid>) -> Result<()> {
        let mut numbers = self.numbers.lock();
        if numbers.ended {
            return Err(Errno::ENOMEM);
        }
        // Groups and sessions that have outlived their leaders, and have ended.
        numbers.ids.retain(|_, id| tree.is_taken(*id));
        if let Some(number) = chosen {
            if numbers.ids.contains_key(&number) {
                return Err(Errno::EEXIST);
            }
            numbers.ids.insert(number, id);
            return Ok(());
        }
        let next = |last: Pid| {
            if last + 1 >= PID_MAX { PID_RESTART } else { last + 1 }
        };
        let mut number = next(numbers.last);
        while numbers.ids.contains_key(&number) {
            number = next(number);
            if number == numbers.last {
                return Err(Errno::EAGAIN);
            }
        }
        numbers.last = number;
        numbers.ids.insert(number, id);
        Ok(())
    }

    fn remove(&self, id: Pid) {
        self.numbers.lock().ids.retain(|_, other| *other != id);
    }
}

/// Checks the numbers that are chosen for a task of a namespace, its own first: EINVAL for too many, for numbers that there
/// are not, and for others than the init's before there is one; EPERM without the rights there; EEXIST. Gives the last if
/// it is the first namespace's, and so the id.
pub fn check_chosen(tree: &Tree, namespace: &Namespace, chosen: &[Pid]) -> Result<Option<Pid>> {
    let mut around = chain(namespace);
    if chosen.len() > chain(namespace).count() + 1 {
        return Err(Errno::EINVAL);
    }
    for &number in chosen {
        let namespace = around.next();
        if !(1..PID_MAX).contains(&number)
            || number != INIT && namespace.is_some_and(|namespace| namespace.id(INIT).is_none())
        {
            return Err(Errno::EINVAL);
        }
        if !capabilities::may_choose_pids(&namespace.and_then(|namespace| namespace.owner.clone())) {
            return Err(Errno::EPERM);
        }
        let taken = match namespace {
            Some(namespace) => namespace.id(number).is_some_and(|id| tree.is_taken(id)),
            None => tree.is_taken(number),
        };
        if taken {
            return Err(Errno::EEXIST);
        }
        if namespace.is_none() {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// The numbers of a process, of a thread of it, of its group or session: in the first namespace, then in those that the
/// process is nested in, its own last. 0 where it has none.
fn numbers(process: &Process, id: Pid) -> Vec<Pid> {
    let mut numbers: Vec<Pid> =
        chain(&process.pid_namespace).map(|namespace| namespace.number(id).unwrap_or(0)).collect();
    numbers.push(id);
    numbers.reverse();
    numbers
}

/// Those of [`numbers`] as a line of /proc.
pub fn write_numbers(out: &mut String, name: &str, process: &Process, id: Pid) {
    let _ = write!(out, "{name}:");
    for number in numbers(process, id) {
        let _ = write!(out, "\t{number}");
    }
    out.push('\n');
}

/// Whether the current process sees another one: it is of its namespace, or of one nested in it.
pub fn is_visible(process: &Process) -> bool {
    match &current().process.pid_namespace {
        None => true,
        Some(namespace) => is_in(process, namespace),
    }
}

/// Whether a process is of this namespace, or of one nested in it.
pub fn is_in(process: &Process, namespace: &Arc<PidNamespace>) -> bool {
    chain(&process.pid_namespace).any(|other| Arc::ptr_eq(other, namespace))
}

/// Whether two namespaces are the same.
pub fn is_same(one: &Namespace, other: &Namespace) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

/// Gives a task that is about to enter the tree its numbers: those chosen, the innermost namespace's first, then any. The
/// tree is locked.
pub fn enter(tree: &Tree, task: &Task, chosen: &[Pid]) -> Result<()> {
    let process = &task.process;
    let id = task.tid();
    for (level, namespace) in chain(&process.pid_namespace).enumerate() {
        if let Err(error) = namespace.add(tree, id, chosen.get(level).copied()) {
            left(tree, process, id);
            return Err(error);
        }
    }
    if let Some(namespace) = &process.pid_namespace
        && namespace.init() == Some(process.pid)
    {
        process.unkillable.store(true, Relaxed);
    }
    Ok(())
}

/// A process or one of its threads has left the tree, which is locked. Its number is free, unless a group or a session is
/// called so.
pub fn left(tree: &Tree, process: &Process, id: Pid) {
    for namespace in chain(&process.pid_namespace) {
        if !tree.is_taken(id) {
            namespace.remove(id);
        }
        namespace.changed.wake_all();
    }
}

/// A process's last thread has ended: if it is its namespace's init, nobody enters the namespace any more. Its children
/// are given away after this, and [`end`] follows.
pub fn close(process: &Process) -> Option<&Arc<PidNamespace>> {
    let namespace = process.pid_namespace.as_ref()?;
    if namespace.init() != Some(process.pid) {
        return None;
    }
    namespace.numbers.lock().ended = true;
    Some(namespace)
}
