//! User namespaces: whose rights count where, and which user and group ids are seen.
//!
//! Who makes a namespace has all capabilities in it, and none in those that it is nested in. Ids are kept as they are in the
//! first namespace; the maps, each written once through `/proc/PID/uid_map` and `gid_map`, say how they look from within.
//! The owners of files and the senders of signals are not translated.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::*};

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::new_ino;
use crate::task::credentials::uid_gid::{GROUP, Kind, USER};

/// What an id without a place in the map is seen as.
pub const OVERFLOW: u32 = 65534;
/// How deep namespaces may be nested.
const MAX_DEPTH: usize = 32;
/// The most lines of a map.
const MAX_EXTENTS: usize = 340;

/// Neighbouring ids: the first as seen from within, the first in the first namespace, how many.
#[derive(Clone, Copy)]
struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

/// A user namespace that is not the first one.
pub struct UserNamespace {
    /// Its number in `/proc/PID/ns`.
    pub ino: u64,
    /// The one that it is nested in; None for the first.
    parent: Option<Arc<UserNamespace>>,
    /// Effective user id of who made it.
    owner: u32,
    users: SpinLock<Vec<Extent>>,
    groups: SpinLock<Vec<Extent>>,
    /// Written to `/proc/PID/setgroups`.
    setgroups: AtomicBool,
}

/// The namespace of a process; None for the first.
pub type Namespace = Option<Arc<UserNamespace>>;

impl UserNamespace {
    fn map(&self, kind: Kind) -> &SpinLock<Vec<Extent>> {
        match kind {
            USER => &self.users,
            GROUP => &self.groups,
        }
    }
}

/// An id as it is seen in a namespace; None if it has no place in its map.
fn inside(namespace: &Namespace, kind: Kind, id: u32) -> Option<u32> {
    let Some(namespace) = namespace else {
        return Some(id);
    };
    let map = namespace.map(kind).lock();
    map.iter().find_map(|extent| {
        let offset = id.checked_sub(extent.outside)?;
        (offset < extent.count).then(|| extent.inside + offset)
    })
}

/// Whether an id has a place in a namespace.
pub fn has(namespace: &Namespace, kind: Kind, id: u32) -> bool {
    inside(namespace, kind, id).is_some()
}

/// An id as it is seen in a namespace.
pub fn seen(namespace: &Namespace, kind: Kind, id: u32) -> u32 {
    inside(namespace, kind, id).unwrap_or(OVERFLOW)
}

/// The id that is meant by a number in a namespace. EINVAL if none is.
pub fn meant(namespace: &Namespace, kind: Kind, number: u32) -> Result<u32> {
    let Some(namespace) = namespace else {
        return Ok(number);
    };
    let map = namespace.map(kind).lock();
    let place = map.iter().find_map(|extent| {
        let offset = number.checked_sub(extent.inside)?;
        (offset < extent.count).then(|| extent.outside + offset)
    });
    place.ok_or(Errno::EINVAL)
}

/// This one and those that it is nested in, but for the first.
fn chain(namespace: &Namespace) -> impl Iterator<Item = &Arc<UserNamespace>> {
    core::iter::successors(namespace.as_ref(), |namespace| namespace.parent.as_ref())
}

/// Whether one namespace is the other, or nested in it.
pub fn is_within(namespace: &Namespace, other: &Namespace) -> bool {
    match other {
        None => true,
        Some(other) => chain(namespace).any(|namespace| Arc::ptr_eq(namespace, other)),
    }
}

/// Whether two namespaces are the same.
pub fn is_same(one: &Namespace, other: &Namespace) -> bool {
    one.as_ref().map(Arc::as_ptr) == other.as_ref().map(Arc::as_ptr)
}

impl UserNamespace {
    /// The one that it is nested in; None for the first.
    pub fn parent(&self) -> &Namespace {
        &self.parent
    }

    /// Effective user id of who made it.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// A new one, made by a user of the namespace that it is nested in. ENOSPC where that is nested too deeply, EPERM for who is
    /// nobody there.
    pub fn nested(parent: &Namespace, user: u32, group: u32) -> Result<Arc<UserNamespace>> {
        if chain(parent).count() == MAX_DEPTH {
            return Err(Errno::ENOSPC);
        }
        // Who is nobody here cannot be the owner.
        if inside(parent, USER, user).is_none() || inside(parent, GROUP, group).is_none() {
            return Err(Errno::EPERM);
        }
        Ok(Arc::new(UserNamespace {
            ino: new_ino(),
            parent: parent.clone(),
            owner: user,
            users: SpinLock::new(Vec::new()),
            groups: SpinLock::new(Vec::new()),
            setgroups: AtomicBool::new(true),
        }))
    }
}

/// Whether the current process may call setgroups: not before there is a map, and not if that was given up.
pub fn may_set_groups(namespace: &Namespace) -> bool {
    namespace.as_ref().is_none_or(|namespace| namespace.setgroups.load(Relaxed) && !namespace.groups.lock().is_empty())
}

/// `/proc/PID/uid_map`, `gid_map`: a line for each extent, as whoever reads it sees the ids.
pub fn show_map(namespace: &Namespace, kind: Kind, reader: Namespace) -> String {
    let line = |inside: u32, outside: u32, count: u32| format!("{inside:>10} {outside:>10} {count:>10}\n");
    match namespace {
        None => line(0, 0, u32::MAX),
        Some(this) => {
            // From within, its own ids are seen as those of its parent.
            let reader = match is_within(&reader, namespace) {
                true => this.parent.clone(),
                false => reader,
            };
            let extents = this.map(kind).lock().clone();
            let shown = |extent: &Extent| {
                let outside = inside(&reader, kind, extent.outside).unwrap_or(u32::MAX);
                line(extent.inside, outside, extent.count)
            };
            extents.iter().map(shown).collect()
        }
    }
}

/// Who writes a map.
pub struct Writer {
    /// Where.
    pub namespace: Namespace,
    /// Effective user id.
    pub user: u32,
    /// Effective group id.
    pub group: u32,
    /// Whether it administers that namespace.
    pub is_admin: bool,
}

/// Writes `/proc/PID/uid_map`, `gid_map`, once: for the process's namespace, by somebody in it or in its parent. Without
/// rights outside one may map one's own id, and groups only after setgroups was given up.
pub fn write_map(namespace: &Namespace, kind: Kind, text: &[u8], writer: &Writer) -> Result<()> {
    let namespace = namespace.as_ref().ok_or(Errno::EPERM)?;
    let parent = &namespace.parent;
    let is_here = |other: &Namespace| other.as_ref().is_some_and(|other| Arc::ptr_eq(other, namespace));
    let from_parent = is_within(parent, &writer.namespace) && is_within(&writer.namespace, parent);
    if !is_here(&writer.namespace) && !from_parent {
        return Err(Errno::EPERM);
    }
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let extents = text.lines().map(|line| parse(parent, kind, line)).collect::<Result<Vec<Extent>>>()?;
    if extents.is_empty() || extents.len() > MAX_EXTENTS || overlap(&extents) {
        return Err(Errno::EINVAL);
    }
    let privileged = from_parent && writer.is_admin;
    let own = match kind {
        USER => writer.user == namespace.owner && writer.user == extents[0].outside,
        GROUP => writer.group == extents[0].outside && !namespace.setgroups.load(Relaxed),
    };
    let only_own = own && extents.len() == 1 && extents[0].count == 1;
    if !(privileged || only_own) {
        return Err(Errno::EPERM);
    }
    let mut map = namespace.map(kind).lock();
    if !map.is_empty() {
        return Err(Errno::EPERM);
    }
    *map = extents;
    Ok(())
}

/// A line of a map, with the ids of the parent namespace.
fn parse(parent: &Namespace, kind: Kind, line: &str) -> Result<Extent> {
    let numbers: Vec<u32> =
        line.split_ascii_whitespace().map(|word| word.parse().map_err(|_| Errno::EINVAL)).collect::<Result<_>>()?;
    let [inside, outside, count] = numbers[..] else {
        return Err(Errno::EINVAL);
    };
    let last = |first: u32| first.checked_add(count).filter(|_| count != 0).ok_or(Errno::EINVAL);
    last(inside)?;
    let end = last(outside)?;
    // Neighbours within must be neighbours outside of all.
    let (first, last) = match (meant(parent, kind, outside), meant(parent, kind, end - 1)) {
        (Ok(first), Ok(last)) => (first, last),
        _ => return Err(Errno::EPERM),
    };
    if last.wrapping_sub(first) != count - 1 {
        return Err(Errno::EPERM);
    }
    Ok(Extent { inside, outside: first, count })
}

fn overlap(extents: &[Extent]) -> bool {
    let meet = |a: (u32, u32), b: (u32, u32)| a.0 < b.0 + b.1 && b.0 < a.0 + a.1;
    extents.iter().enumerate().any(|(n, a)| {
        extents[..n]
            .iter()
            .any(|b| meet((a.inside, a.count), (b.inside, b.count)) || meet((a.outside, a.count), (b.outside, b.count)))
    })
}

/// `/proc/PID/setgroups`.
pub fn show_setgroups(namespace: &Namespace) -> &'static str {
    let allowed = namespace.as_ref().is_none_or(|namespace| namespace.setgroups.load(Relaxed));
    if allowed { "allow\n" } else { "deny\n" }
}

/// Writes `/proc/PID/setgroups`: given up for ever, before groups are mapped.
pub fn write_setgroups(namespace: &Namespace, text: &[u8]) -> Result<()> {
    let namespace = namespace.as_ref().ok_or(Errno::EPERM)?;
    let groups = namespace.groups.lock();
    match text.trim_ascii_end() {
        b"allow" if namespace.setgroups.load(Relaxed) => Ok(()),
        b"deny" if groups.is_empty() || !namespace.setgroups.load(Relaxed) => {
            namespace.setgroups.store(false, Relaxed);
            Ok(())
        }
        b"allow" | b"deny" => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests;
