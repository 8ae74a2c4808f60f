//! The texts about mounts: `/proc/PID/mounts` and `mountinfo`, as proc(5) describes them.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::errno::{Errno, Result};
use crate::fs::proc::entry::{Subject, text};
use crate::vfs::inode::{major_minor, path_in_file_system};
use crate::vfs::mount::Mount;

/// Each mount that the process sees: it, and the path of its place from the process's root.
fn seen(subject: &Subject) -> Result<Vec<(Arc<Mount>, Vec<u8>)>> {
    let context = subject.task()?.fs.share().ok_or(Errno::EINVAL)?;
    let root = context.root();
    let place = |mount: &Arc<Mount>| mount.location().path_from(&root);
    Ok(context.mounts().mounts().into_iter().filter_map(|mount| place(&mount).map(|path| (mount, path))).collect())
}

/// Text as a field: what separates fields is in octal.
fn field(text: &[u8]) -> String {
    let mut field = Vec::new();
    for &byte in text {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => field.extend_from_slice(alloc::format!("\\{byte:03o}").as_bytes()),
            _ => field.push(byte),
        }
    }
    String::from_utf8_lossy(&field).into_owned()
}

/// `mounts`.
pub fn table(subject: &Subject) -> Result<Vec<u8>> {
    let mut out = String::new();
    for (mount, place) in seen(subject)? {
        let (source, flags) = (field(&mount.source), mount.flags().shown());
        let _ = writeln!(out, "{source} {} {} {flags} 0 0", field(&place), mount.kind);
    }
    Ok(text(out))
}

/// `mountinfo`.
pub fn information(subject: &Subject) -> Result<Vec<u8>> {
    let mut out = String::new();
    for (mount, place) in seen(subject)? {
        let parent = mount.place().and_then(|place| Some(place.mount?.id)).unwrap_or(mount.id);
        let (major, minor) = major_minor(mount.root.metadata().device);
        let root = field(&path_in_file_system(&*mount.root));
        let (source, flags) = (field(&mount.source), mount.flags().shown());
        // That nothing is written is said of mounts, never of file systems.
        let _ = writeln!(
            out,
            "{} {parent} {major}:{minor} {root} {} {flags} - {} {source} rw",
            mount.id,
            field(&place),
            mount.kind,
        );
    }
    Ok(text(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_separates_fields_is_in_octal() {
        assert_eq!(field(b"/a b\tc\\#"), "/a\\040b\\011c\\134\\043");
    }
}
