//! The kinds of file systems that can be mounted.

use alloc::sync::Arc;

use crate::errno::{Errno, Result};
use crate::fs::ramfs::RamInode;
use crate::fs::{proc, pty, root};
use crate::task::pid::namespace::Namespace;
use crate::vfs::inode::{AttributeChange, Inode};

/// The root of a file system of this kind, and the kind's name. `options` are those of mount(2); a `proc`
/// shows `namespace`. ENODEV for a kind that is not known, EINVAL
/// for an option that is not.
pub fn make(kind: &[u8], options: &[u8], namespace: Namespace) -> Result<(Arc<dyn Inode>, &'static str)> {
    Ok(match kind {
        b"tmpfs" => (memory(options)?, "tmpfs"),
        b"ramfs" => (memory(options)?, "ramfs"),
        b"proc" => (proc::root(namespace), "proc"),
        b"sysfs" => (proc::sysfs_root(), "sysfs"),
        b"devpts" => (pty::root(), "devpts"),
        b"devtmpfs" => (root::mounts().root().lookup(b"dev")?, "devtmpfs"),
        _ => return Err(Errno::ENODEV),
    })
}

/// The number after `=`.
fn number(value: Option<&[u8]>, radix: u32) -> Result<u32> {
    let digits = value.and_then(|value| core::str::from_utf8(value).ok()).ok_or(Errno::EINVAL)?;
    u32::from_str_radix(digits, radix).map_err(|_| Errno::EINVAL)
}

/// An empty file system in memory. Its root belongs to root and has the permissions 1777, unless the options say otherwise.
fn memory(options: &[u8]) -> Result<Arc<dyn Inode>> {
    let mut change = AttributeChange { permissions: Some(0o1777), ..Default::default() };
    for option in options.split(|&byte| byte == b',').filter(|option| !option.is_empty()) {
        let mut words = option.splitn(2, |&byte| byte == b'=');
        let (name, value) = (words.next().unwrap_or_default(), words.next());
        match name {
            b"mode" => change.permissions = Some(number(value, 8)? & 0o7777),
            b"uid" => change.uid = Some(number(value, 10)?),
            b"gid" => change.gid = Some(number(value, 10)?),
            // There is no limit but the memory.
            b"size" | b"nr_blocks" | b"nr_inodes" | b"huge" | b"mpol" if value.is_some() => (),
            _ => return Err(Errno::EINVAL),
        }
    }
    let root = RamInode::new_root(crate::vfs::inode::new_device());
    root.set_attributes(&change)?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use linux_raw_sys::general as abi;

    use super::*;

    #[test]
    fn options_say_whose_the_root_is() {
        let made = |options: &str| make(b"tmpfs", options.as_bytes(), None).map(|(root, _)| root.metadata());
        let seen = |options| made(options).map(|metadata| (metadata.mode, metadata.uid, metadata.gid));
        let directory = |permissions| abi::S_IFDIR | permissions;
        assert_eq!(seen(""), Ok((directory(0o1777), 0, 0)));
        assert_eq!(seen("mode=0755,size=64k,uid=5,gid=7"), Ok((directory(0o755), 5, 7)));
        for wrong in ["mode=9", "mode", "uid=-1", "colour=red", "size"] {
            assert_eq!(seen(wrong), Err(Errno::EINVAL), "{wrong}");
        }
        assert_eq!(make(b"ext4", b"", None).err(), Some(Errno::ENODEV));
        let devices = [made("").map(|one| one.device), made("").map(|other| other.device)];
        assert!(devices[0] != devices[1] && devices[0].is_ok(), "each is a file system of its own");
    }
}
