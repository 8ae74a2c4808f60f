//! What the paths and flags of a call name.

use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::fs::path::{PATH_MAX, Walk, Walked, start_directory};
use crate::memory::user;
use crate::task::current;
use crate::vfs::mount::Location;

/// The directory descriptor that stands for the working directory, as a register has it.
pub const AT_FDCWD: u64 = abi::AT_FDCWD as i64 as u64;

/// Reads a path. ENOENT for an empty one comes from the walk.
pub fn read_path(address: u64) -> Result<Vec<u8>> {
    user::read_cstr(address, PATH_MAX)
}

/// Where a walk of `path` from `dirfd` starts. The descriptor does not matter for absolute paths.
pub fn walk_from(dirfd: u64, path: &[u8]) -> Result<Walk> {
    let context = &current().fs;
    let start = if path.starts_with(b"/") { context.root() } else { start_directory(dirfd)? };
    Ok(Walk::new(context, start))
}

/// What the path at `address` names.
pub fn find(dirfd: u64, address: u64, follow: bool) -> Result<Location> {
    let path = read_path(address)?;
    walk_from(dirfd, &path)?.object(&path, follow)
}

/// What a call with `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH` among its flags is about.
pub fn find_with_flags(dirfd: u64, address: u64, flags: u32) -> Result<Location> {
    let path = match address {
        // Newer Linux takes no path at all for an empty one.
        0 if flags & abi::AT_EMPTY_PATH != 0 => Vec::new(),
        _ => read_path(address)?,
    };
    if path.is_empty() && flags & abi::AT_EMPTY_PATH != 0 {
        return start_directory(dirfd);
    }
    walk_from(dirfd, &path)?.object(&path, flags & abi::AT_SYMLINK_NOFOLLOW == 0)
}

/// The directory and last component of the path at `address`.
pub fn find_place(dirfd: u64, address: u64) -> Result<Walked> {
    let path = read_path(address)?;
    walk_from(dirfd, &path)?.place(&path)
}

/// EINVAL if `flags` has others than `known`.
pub fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}
