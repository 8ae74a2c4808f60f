//! The numbers of processes and threads as somebody sees them, mostly the current process ([`pid_namespace`](crate::task::pid::namespace)).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::errno::{Errno, Result};
use crate::task::credentials::Credentials;
use crate::task::current;
use crate::task::pid::Pid;
use crate::task::pid::namespace::{NOBODY, Namespace, PidNamespace, chain};
use crate::task::process::Process;

/// A new namespace, nested in the current process's, for children of the current task, which has these credentials. Only an
/// administrator makes one.
pub fn new(credentials: &Credentials) -> Result<Namespace> {
    let parent = &current().process.pid_namespace;
    if !credentials.is_admin() {
        return Err(Errno::EPERM);
    }
    PidNamespace::nested(parent, credentials.namespace.clone())
}

/// The number by which the current process sees an id; 0 if it is not of its namespace.
#[inline]
pub fn seen(id: Pid) -> Pid {
    seen_by(&current().process, id)
}

/// The same for another process.
#[inline]
pub fn seen_by(process: &Process, id: Pid) -> Pid {
    seen_in(&process.pid_namespace, id)
}

/// The number of an id in a namespace; 0 if it is not of it.
#[inline]
pub fn seen_in(namespace: &Namespace, id: Pid) -> Pid {
    match namespace {
        None => id,
        Some(namespace) => namespace.number(id).unwrap_or(0),
    }
}

/// The id that the current process means by a number; one that nobody has if there is none.
#[inline]
pub fn meant(number: Pid) -> Pid {
    meant_in(&current().process.pid_namespace, number)
}

/// The id with this number in a namespace; one that nobody has if there is none.
#[inline]
pub fn meant_in(namespace: &Namespace, number: Pid) -> Pid {
    match namespace {
        None => number,
        Some(namespace) => namespace.id(number).unwrap_or(NOBODY),
    }
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

/// Those of [`numbers`] as a line of a /proc that shows this namespace: from its own on.
pub fn write_numbers(out: &mut String, name: &str, process: &Process, id: Pid, shown: &Namespace) {
    let _ = write!(out, "{name}:");
    for number in numbers(process, id).into_iter().skip(chain(shown).count()) {
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

#[cfg(test)]
mod tests;
