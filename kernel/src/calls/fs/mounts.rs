//! Mounts: `mount`, `umount2`, `pivot_root`. Nothing propagates: a mount that is made shared stays private, which the call says.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as abi;

use crate::calls::fs::lookup::{AT_FDCWD, check_flags, find};
use crate::errno::{Errno, Result};
use crate::fs::file_systems;
use crate::fs::path::PATH_MAX;
use crate::memory::user;
use crate::task::credentials::capable;
use crate::task::credentials::user_namespace::UserNamespace;
use crate::task::{current, tree};
use crate::vfs::mount::{Location, Mount, MountFlags, MountNamespace};

/// The most bytes of options.
const MAX_OPTIONS: usize = 4096;

/// The mounts that the current task sees. EPERM unless it may change them.
fn own_mounts() -> Result<Arc<MountNamespace>> {
    let mounts = current().fs.mounts();
    let owner = mounts.owner().clone().and_then(|owner| owner.downcast::<UserNamespace>().ok());
    if capable::is_admin_of(&owner) { Ok(mounts) } else { Err(Errno::EPERM) }
}

fn read_text(address: u64, len: usize) -> Result<Vec<u8>> {
    if address == 0 { Ok(Vec::new()) } else { user::read_cstr(address, len) }
}

/// Changes what a mount forbids, as `MS_REMOUNT` does.
fn change(at: &Location, flags: u32) -> Result<()> {
    let mount = at.mount.as_ref().filter(|_| at.is_mount_root()).ok_or(Errno::EINVAL)?;
    let mut new = MountFlags::from_call(flags);
    if flags & (abi::MS_NOATIME | abi::MS_NODIRATIME | abi::MS_RELATIME | abi::MS_STRICTATIME) == 0 {
        let kept = MountFlags::NO_ATIME | MountFlags::NO_DIRECTORY_ATIME | MountFlags::RELATIVE_ATIME;
        new = (new - kept) | (mount.flags() & kept);
    }
    mount.set_flags(new)
}

/// `MS_SHARED` and its kin. All mounts are private, so what asks for that is done.
fn set_propagation(at: &Location, flags: u32) -> Result<()> {
    let kinds = abi::MS_SHARED | abi::MS_PRIVATE | abi::MS_SLAVE | abi::MS_UNBINDABLE;
    let kind = flags & !(abi::MS_REC | abi::MS_SILENT);
    if kind & !kinds != 0 || !kind.is_power_of_two() || !at.is_mount_root() {
        return Err(Errno::EINVAL);
    }
    match kind {
        abi::MS_PRIVATE | abi::MS_SLAVE => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// ENOTDIR unless both are directories, or neither.
fn check_kinds(what: &Location, over: &Location) -> Result<()> {
    if what.is_directory() == over.is_directory() { Ok(()) } else { Err(Errno::ENOTDIR) }
}

/// `mount`.
pub fn sys_mount(source: u64, target: u64, kind: u64, flags: u64, options: u64) -> Result<usize> {
    let kind = read_text(kind, PATH_MAX)?;
    let source_text = read_text(source, PATH_MAX)?;
    let options = read_text(options, MAX_OPTIONS)?;
    let at = find(AT_FDCWD, target, true)?;
    let mut flags = flags as u32;
    if flags & abi::MS_MGC_MSK == abi::MS_MGC_VAL {
        flags &= !abi::MS_MGC_MSK;
    }
    let mounts = own_mounts()?;
    let has = |flag| flags & flag != 0;
    if has(abi::MS_REMOUNT) {
        change(&at, flags)?;
    } else if has(abi::MS_BIND) {
        let what = find(AT_FDCWD, source, true)?;
        check_kinds(&what, &at)?;
        mounts.attach(mounts.bind(&what, has(abi::MS_REC))?, &at.uncovered())?;
    } else if has(abi::MS_SHARED | abi::MS_PRIVATE | abi::MS_SLAVE | abi::MS_UNBINDABLE) {
        set_propagation(&at, flags)?;
    } else if has(abi::MS_MOVE) {
        let what = find(AT_FDCWD, source, true)?;
        check_kinds(&what, &at)?;
        mounts.relocate(&what, &at.uncovered())?;
    } else {
        let (root, kind) = file_systems::make(&kind, &options, current().process.pid_namespace.clone())?;
        let mount =
            Mount::new(root, kind, if source == 0 { b"none" } else { &source_text }, MountFlags::from_call(flags));
        check_kinds(&mount.location(), &at)?;
        mounts.attach(alloc::vec![mount], &at.uncovered())?;
    }
    Ok(0)
}

/// `umount2`. There is no device that could hang: MNT_FORCE does nothing.
pub fn sys_umount2(target: u64, flags: u64) -> Result<usize> {
    let flags = flags as u32;
    check_flags(flags, abi::MNT_FORCE | abi::MNT_DETACH | abi::MNT_EXPIRE | abi::UMOUNT_NOFOLLOW)?;
    if flags & abi::MNT_EXPIRE != 0 {
        // No mount notes how long it has not been used.
        return Err(Errno::EINVAL);
    }
    let at = find(AT_FDCWD, target, flags & abi::UMOUNT_NOFOLLOW == 0)?;
    own_mounts()?.detach(at, flags & abi::MNT_DETACH != 0)?;
    Ok(0)
}

/// `pivot_root`. All tasks that were at the old root are at the new one.
pub fn sys_pivot_root(new: u64, put_old: u64) -> Result<usize> {
    let mounts = own_mounts()?;
    let (new, put_old) = (find(AT_FDCWD, new, true)?, find(AT_FDCWD, put_old, true)?);
    if !new.is_directory() || !put_old.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let root = current().fs.root();
    mounts.pivot(&root, &new, &put_old.uncovered())?;
    for process in tree::all() {
        for task in process.threads() {
            if let Some(context) = task.fs.share() {
                context.follow(&root, &new);
            }
        }
    }
    Ok(0)
}
