//! The text of `/proc/PID/maps`.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::address_space::AddressSpace;
use crate::memory::vma::{Area, AreaFlags, Prot, Source};
use crate::memory::width::Width;
use crate::vfs::inode::Inode;
use crate::work::vsyscall;

/// The column in which names begin.
const NAME_COLUMN: usize = 73;

impl AddressSpace {
    /// Writes a line per area, as Linux does in `/proc/PID/maps`.
    pub fn maps(&self, out: &mut dyn Write) -> fmt::Result {
        // A snapshot: names are looked up without the lock.
        for area in self.areas() {
            write_area(&area, out)?;
        }
        if self.width() == Width::Bits64 {
            writeln!(out, "{}", vsyscall::MAPS_LINE)?;
        }
        Ok(())
    }
}

fn write_area(area: &Area, out: &mut dyn Write) -> fmt::Result {
    let permission = |prot, letter| if area.prot.contains(prot) { letter } else { '-' };
    let (offset, device, ino) = match &area.source {
        Source::Anonymous => (0, 0, 0),
        Source::Shared { first, .. } => (*first * PAGE_SIZE, 1, 0),
        Source::File { inode, first, .. } => {
            let metadata = inode.metadata();
            (*first * PAGE_SIZE, metadata.device, metadata.ino)
        }
    };
    let mut line = String::new();
    write!(
        line,
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
        area.start,
        area.end,
        permission(Prot::READ, 'r'),
        permission(Prot::WRITE, 'w'),
        permission(Prot::EXEC, 'x'),
        if area.is_shared() { 's' } else { 'p' },
        offset,
        device >> 8 & 0xfff,
        device & 0xff,
        ino,
    )?;
    let name = match &area.source {
        Source::File { inode, .. } => path(inode),
        Source::Shared { .. } => "/dev/zero (deleted)".into(),
        Source::Anonymous if area.flags.contains(AreaFlags::STACK) => "[stack]".into(),
        Source::Anonymous if area.flags.contains(AreaFlags::HEAP) => "[heap]".into(),
        Source::Anonymous => String::new(),
    };
    if name.is_empty() { writeln!(out, "{line}") } else { writeln!(out, "{line:width$}{name}", width = NAME_COLUMN) }
}

/// The path of a file from the root, as far as it is known.
fn path(inode: &Arc<dyn Inode>) -> String {
    let mut names = Vec::new();
    let mut at = inode.clone();
    while let Some((parent, name)) = at.parent() {
        if Arc::ptr_eq(&parent, &at) {
            break;
        }
        names.push(name);
        at = parent;
    }
    if names.is_empty() {
        return inode.label().map_or(String::new(), |label| String::from_utf8_lossy(&label).into_owned());
    }
    let mut path = String::new();
    for name in names.iter().rev() {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(name));
    }
    if inode.is_unlinked() {
        path.push_str(" (deleted)");
    }
    path
}
