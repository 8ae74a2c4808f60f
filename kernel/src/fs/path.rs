//! From names to objects: walking paths, and what a task's paths start from.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::fs::root::root;
use crate::vfs::context::FsContext;
use crate::vfs::inode::{Inode, same};

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
    pub directory: Arc<dyn Inode>,
    /// The last component.
    pub last: Last,
    /// The path ended in a slash: it must name a directory.
    pub trailing_slash: bool,
    /// What the path names; None if there is no such entry, or if it was not asked for.
    pub inode: Option<Arc<dyn Inode>>,
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
    root: Arc<dyn Inode>,
    start: Arc<dyn Inode>,
    rules: Rules,
    links_left: u32,
}

impl Walk {
    /// A walk that begins at `start`, or at the task's root for absolute paths.
    pub fn new(context: &FsContext, start: Arc<dyn Inode>) -> Self {
        Walk { root: context.root(), start, rules: Rules::default(), links_left: MAX_LINKS }
    }

    /// A walk under `rules`; with `in_root`, the start is also the root.
    pub fn restricted(context: &FsContext, start: Arc<dyn Inode>, rules: Rules, in_root: bool) -> Self {
        let root = if in_root { start.clone() } else { context.root() };
        Walk { root, start, rules, links_left: MAX_LINKS }
    }

    /// What `path` names. A symbolic link at its end is followed if `follow` or a trailing slash says so.
    pub fn object(&mut self, path: &[u8], follow: bool) -> Result<Arc<dyn Inode>> {
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
                Last::Up => self.up(&directory)?,
                Last::Name(_) if is_last && goal == Goal::Place => {
                    return Ok(Walked { directory, last, trailing_slash, inode: None });
                }
                Last::Name(name) => match directory.lookup(name) {
                    Err(Errno::ENOENT) if is_last && goal == Goal::ObjectOrPlace => {
                        return Ok(Walked { directory, last, trailing_slash, inode: None });
                    }
                    found => self.check_mount(&directory, found?)?,
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
    fn beginning(&self, path: &[u8], relative_to: Arc<dyn Inode>) -> Result<Arc<dyn Inode>> {
        match path.first() {
            None => Err(Errno::ENOENT),
            Some(b'/') if self.rules.beneath => Err(Errno::EXDEV),
            Some(b'/') => Ok(self.root.clone()),
            Some(_) => Ok(relative_to),
        }
    }

    fn check_mount(&self, directory: &Arc<dyn Inode>, inode: Arc<dyn Inode>) -> Result<Arc<dyn Inode>> {
        if self.rules.one_file_system && inode.metadata().device != directory.metadata().device {
            return Err(Errno::EXDEV);
        }
        Ok(inode)
    }

    /// Counts one link and reads it.
    fn link_target(&mut self, link: &Arc<dyn Inode>) -> Result<Target> {
        if self.rules.no_symlinks || self.links_left == 0 {
            return Err(Errno::ELOOP);
        }
        self.links_left -= 1;
        match link.jump() {
            Some(_) if self.rules.no_magic_links => Err(Errno::ELOOP),
            Some(inode) => Ok(Target::Object(inode?)),
            None => Ok(Target::Path(link.readlink()?)),
        }
    }

    fn up(&self, directory: &Arc<dyn Inode>) -> Result<Arc<dyn Inode>> {
        if self.rules.beneath && same(directory, &self.start) {
            return Err(Errno::EXDEV);
        }
        if same(directory, &self.root) {
            return Ok(directory.clone());
        }
        Ok(directory.parent().map_or_else(|| directory.clone(), |(parent, _)| parent))
    }
}

enum Target {
    Object(Arc<dyn Inode>),
    Path(Vec<u8>),
}

/// The path of `inode` as seen from `root`, for `getcwd` and `/proc`. None if it has no name below `root`.
pub fn path_of(inode: &Arc<dyn Inode>, root: &Arc<dyn Inode>) -> Option<Vec<u8>> {
    let mut names = Vec::new();
    let mut current = inode.clone();
    while !same(&current, root) {
        let (parent, name) = current.parent()?;
        names.push(name);
        current = parent;
    }
    if names.is_empty() {
        return Some(b"/".to_vec());
    }
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    Some(path)
}

/// The name of `inode` that `/proc` shows: its path, marked if it was removed, or its label.
pub fn shown_path(inode: &Arc<dyn Inode>) -> Vec<u8> {
    if let Some(label) = inode.label() {
        return label;
    }
    let mut path = path_of(inode, &root()).unwrap_or_else(|| b"/".to_vec());
    if inode.is_unlinked() {
        path.extend_from_slice(b" (deleted)");
    }
    path
}

/// The directory that a `*at` call starts from.
pub fn start_directory(dirfd: u64) -> Result<Arc<dyn Inode>> {
    let task = crate::task::current();
    if dirfd as i32 == abi::AT_FDCWD {
        return Ok(task.fs.cwd());
    }
    Ok(task.files.get_any(dirfd)?.inode().clone())
}

#[cfg(test)]
mod tests;
