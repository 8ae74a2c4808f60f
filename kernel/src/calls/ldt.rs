//! modify_ldt(2).

use crate::errno::{Errno, Result};
use crate::machine::descriptor::{Contents, UserDesc};
use crate::memory::address_space::current_mm;
use crate::memory::ldt::{ENTRY, MAX_ENTRIES};
use crate::memory::user;

/// Bytes of zeros that the default table is said to have.
const DEFAULT_TABLE: usize = 128;

/// modify_ldt(2): 0 reads, 1 and 17 write, 2 reads the default table. The result is an `int`: the upper half of an error is
/// zero, so that 64-bit programs that go by the sign of all 64 bits do not notice it.
pub fn sys_modify_ldt(function: u64, address: u64, bytes: u64) -> Result<usize> {
    let bytes = bytes as usize;
    let result = match function as i32 {
        0 => read(address, bytes),
        1 => write(address, bytes, Form::Old),
        2 => read_default(address, bytes),
        0x11 => write(address, bytes, Form::New),
        _ => Err(Errno::ENOSYS),
    };
    Ok(match result {
        Ok(value) => value,
        Err(Errno(number)) => (number as u32).wrapping_neg() as usize,
    })
}

/// Which meaning a segment description has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Without present and useable bits; "no base and no limit" is empty.
    Old,
    New,
}

fn read(address: u64, bytes: usize) -> Result<usize> {
    let Some(table) = current_mm().ldt().entries() else {
        return Ok(0);
    };
    let bytes = bytes.min(MAX_ENTRIES * ENTRY);
    let filled = bytes.min(table.0.len() * ENTRY);
    // SAFETY: the table has that many bytes.
    unsafe { user::copy_to_user(address, table.0.as_ptr().cast(), filled) }?;
    user::clear(address + filled as u64, bytes - filled)?;
    Ok(bytes)
}

fn read_default(address: u64, bytes: usize) -> Result<usize> {
    let bytes = bytes.min(DEFAULT_TABLE);
    user::clear(address, bytes)?;
    Ok(bytes)
}

fn write(address: u64, bytes: usize, form: Form) -> Result<usize> {
    if bytes != size_of::<UserDesc>() {
        return Err(Errno::EINVAL);
    }
    let segment: UserDesc = user::read(address)?;
    let number = segment.entry_number as usize;
    let conforming = segment.contents() == Contents::Conforming;
    if number >= MAX_ENTRIES || conforming && (form == Form::Old || segment.is_present()) {
        return Err(Errno::EINVAL);
    }
    let entry = if segment.is_empty() || form == Form::Old && segment.has_no_extent() {
        0
    } else {
        match form {
            Form::Old => UserDesc::without_useable(segment.descriptor()),
            Form::New => segment.descriptor(),
        }
    };
    current_mm().set_ldt_entry(number, entry)?;
    Ok(0)
}
