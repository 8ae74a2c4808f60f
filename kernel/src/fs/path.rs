//! From names to objects: walking paths, and what a task's paths start from.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::vfs::context::FsContext;
use crate::vfs::inode::path_in_file_system;
use crate::vfs::mount::Location;

/// The longest path, with its NUL.
pub const PATH_MAX: usize = 4096;
/// The longest component.
const NAME_MAX: usize = 255;
/// Symbolic links that one walk may follow.
const MAX_LINKS: u32 = 40;

/// The last component of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Last {
    /// An ordinary name.
    Name(Vec<u8>),
    /// Nothing but slashes: the root directory.
    Root,
    /// ".": the directory itself.
    Here,
    /// "..".
    Up,
}

/// Where a walk ended.
pub struct Walked {
    /// The directory that has, or would have, the last component.
    pub directory: Location,
    /// The last component.
    pub last: Last,
    /// The path ended in a slash: it must name a directory.
    pub trailing_slash: bool,
    /// What the path names, and what is mounted over it; None if there is no such entry, or if it was not asked for.
    pub inode: Option<Location>,
}

impl Walked {
    /// The last component as a name; `otherwise` where it is none.
    pub fn name(&self, otherwise: Errno) -> Result<&[u8]> {
        match &self.last {
            Last::Name(name) => Ok(name),
            _ => Err(otherwise),
        }
    }
}

/// Where a walk must not go (`openat2`'s `RESOLVE_*`).
#[derive(Clone, Copy, Default)]
pub struct Rules {
    /// No symbolic links at all.
    pub no_symlinks: bool,
    /// No `/proc/PID/fd`-style links.
    pub no_magic_links: bool,
    /// Not out of the starting directory.
    pub beneath: bool,
    /// No mount points crossed.
    pub one_file_system: bool,
}

/// What a walk is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// The object; ENOENT if there is none.
    Object,
    /// The object, or the place where it is to be created.
    ObjectOrPlace,
    /// The place only: the last component is not looked up.
    Place,
}

/// One resolution of a path: its root, its rules, and the links it may still follow.
pub struct Walk {
    root: Location,
    start: Location,
    rules: Rules,
    links_left: u32,
}

impl Walk {
    /// A walk that begins at `start`, or at the task's root for absolute paths.
    pub fn new(context: &FsContext, start: Location) -> Self {
        Walk { root: context.root(), start, rules: Rules::default(), links_left: MAX_LINKS }
    }

    /// A walk under `rules`; with `in_root`, the start is also the root.
    pub fn restricted(context: &FsContext, start: Location, rules: Rules, in_root: bool) -> Self {
        let root = if in_root { start.clone() } else { context.root() };
        Walk { root, start, rules, links_left: MAX_LINKS }
    }

    /// What `path` names. A symbolic link at its end is followed if `follow` or a trailing slash says so.
    pub fn object(&mut self, path: &[u8], follow: bool) -> Result<Location> {
        self.walk(path, Goal::Object, follow)?.inode.ok_or(Errno::ENOENT)
    }

    /// What `path` names, or where it would be created.
    pub fn object_or_place(&mut self, path: &[u8], follow: bool) -> Result<Walked> {
        self.walk(path, Goal::ObjectOrPlace, follow)
    }

    /// The directory and last component of `path`, for calls that change the directory.
    pub fn place(&mut self, path: &[u8]) -> Result<Walked> {
        self.walk(path, Goal::Place, false)
    }

    /// The walk itself. A loop, not a recursion, because links may nest deeper than the kernel stack would bear.
    fn walk(&mut self, path: &[u8], goal: Goal, follow: bool) -> Result<Walked> {
        let mut rest = Cow::Borrowed(path);
        let mut directory = self.beginning(&rest, self.start.clone())?;
        let mut at = 0;
        loop {
            at += rest[at..].iter().take_while(|&&byte| byte == b'/').count();
            let len = rest[at..].iter().take_while(|&&byte| byte != b'/').count();
            let end = at + len;
            let is_last = rest[end..].iter().all(|&byte| byte == b'/');
            let trailing_slash = end < rest.len();
            if !directory.is_directory() {
                return Err(Errno::ENOTDIR);
            }
            let last = match &rest[at..end] {
                b"" => Last::Root,
                b"." => Last::Here,
                b".." => Last::Up,
                name if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
                name => Last::Name(name.into()),
            };
            let inode = match &last {
                Last::Root | Last::Here => directory.clone(),
                Last::Up => self.check_mount(&directory, self.up(&directory)?)?,
                Last::Name(_) if is_last && goal == Goal::Place => {
                    return Ok(Walked { directory, last, trailing_slash, inode: None });
                }
                Last::Name(name) => match directory.lookup(name) {
                    Err(Errno::ENOENT) if is_last && goal == Goal::ObjectOrPlace => {
                        return Ok(Walked { directory, last, trailing_slash, inode: None });
                    }
                    found => self.check_mount(&directory, directory.with(found?).uncovered())?,
                },
            };
            let mut next = inode;
            if next.is_symlink() && (!is_last || follow || trailing_slash) {
                match self.link_target(&next)? {
                    Target::Object(object) => next = object,
                    Target::Path(mut target) => {
                        directory = self.beginning(&target, directory)?;
                        target.extend_from_slice(&rest[end..]);
                        rest = Cow::Owned(target);
                        at = 0;
                        continue;
                    }
                }
            }
            if is_last {
                if trailing_slash && !next.is_directory() {
                    return Err(Errno::ENOTDIR);
                }
                return Ok(Walked { directory, last, trailing_slash, inode: Some(next) });
            }
            directory = next;
            at = end;
        }
    }

    /// Where the walk of `path` begins: at the root if it is absolute, else at `relative_to`.
    fn beginning(&self, path: &[u8], relative_to: Location) -> Result<Location> {
        match path.first() {
            None => Err(Errno::ENOENT),
            Some(b'/') if self.rules.beneath => Err(Errno::EXDEV),
            Some(b'/') => Ok(self.root.clone()),
            Some(_) => Ok(relative_to),
        }
    }

    fn check_mount(&self, from: &Location, to: Location) -> Result<Location> {
        if self.rules.one_file_system && !to.is_by_mount_of(from) { Err(Errno::EXDEV) } else { Ok(to) }
    }

    /// Counts one link and reads it.
    fn link_target(&mut self, link: &Location) -> Result<Target> {
        if self.rules.no_symlinks || self.links_left == 0 {
            return Err(Errno::ELOOP);
        }
        self.links_left -= 1;
        match link.jump() {
            Some(_) if self.rules.no_magic_links => Err(Errno::ELOOP),
            Some(location) => Ok(Target::Object(location?)),
            None => Ok(Target::Path(link.readlink()?)),
        }
    }

    fn up(&self, directory: &Location) -> Result<Location> {
        if self.rules.beneath && directory.is(&self.start) {
            return Err(Errno::EXDEV);
        }
        directory.up(&self.root)
    }
}

enum Target {
    Object(Location),
    Path(Vec<u8>),
}

/// The name of an object that `/proc` shows: its path as the current task sees it, marked if it was removed, or its label.
pub fn shown_path(location: &Location) -> Vec<u8> {
    if let Some(label) = location.label() {
        return label;
    }
    let root = crate::task::current().fs.root();
    let mut path = location.path_from(&root).unwrap_or_else(|| path_in_file_system(&*location.inode));
    if location.is_unlinked() {
        path.extend_from_slice(b" (deleted)");
    }
    path
}

/// The directory that a `*at` call starts from.
pub fn start_directory(dirfd: u64) -> Result<Location> {
    let task = crate::task::current();
    if dirfd as i32 == abi::AT_FDCWD {
        return Ok(task.fs.cwd());
    }
    Ok(task.files.get_any(dirfd)?.location())
}

#[cfg(test)]
mod tests;
