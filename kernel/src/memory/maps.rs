//! The text of `/proc/PID/maps`.

use alloc::string::String;
use core::fmt::{self, Write};

use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::address_space::AddressSpace;
use crate::memory::vma::{Area, AreaFlags, Prot, Source};
use crate::memory::width::Width;

/// The page of the vsyscalls, which nothing maps (`calls::vsyscall`).
const VSYSCALL: &str = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]";
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
            writeln!(out, "{}", VSYSCALL)?;
        }
        Ok(())
    }
}

fn write_area(area: &Area, out: &mut dyn Write) -> fmt::Result {
    let permission = |prot, letter| if area.prot.contains(prot) { letter } else { '-' };
    let (offset, device, ino) = match &area.source {
        Source::Anonymous => (0, 0, 0),
        Source::Shared { first, .. } => (*first * PAGE_SIZE, 1, 0),
        Source::File { file, first, .. } => {
            let (device, ino) = file.identity();
            (*first * PAGE_SIZE, device, ino)
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
        Source::File { file, .. } => file.path(),
        Source::Shared { .. } => "/dev/zero (deleted)".into(),
        Source::Anonymous if area.flags.contains(AreaFlags::STACK) => "[stack]".into(),
        Source::Anonymous if area.flags.contains(AreaFlags::HEAP) => "[heap]".into(),
        Source::Anonymous => String::new(),
    };
    if name.is_empty() { writeln!(out, "{line}") } else { writeln!(out, "{line:width$}{name}", width = NAME_COLUMN) }
}

#[cfg(test)]
mod tests;
