//! C's `long` in user memory: as wide as the system call that reads or writes it.
//!
//! Most of what differs between the two system-call tables are structures of longs, so the calls share all else.

use crate::errno::Result;
use crate::memory::user;
use crate::memory::width::Width;

/// Reads `N` longs of this width, sign-extended.
pub fn read_of<const N: usize>(width: Width, address: u64) -> Result<[i64; N]> {
    match width {
        Width::Bits64 => user::read(address),
        Width::Bits32 => Ok(user::read::<[i32; N]>(address)?.map(i64::from)),
    }
}

/// Writes `N` longs of this width; for 32 bits what does not fit is cut.
pub fn write_of<const N: usize>(width: Width, address: u64, longs: [i64; N]) -> Result<()> {
    match width {
        Width::Bits64 => user::write(address, &longs),
        Width::Bits32 => user::write(address, &longs.map(|long| long as i32)),
    }
}

/// Reads `N` longs as wide as the call's.
pub fn read<const N: usize>(address: u64) -> Result<[i64; N]> {
    read_of(Width::of_call(), address)
}

/// Writes `N` longs as wide as the call's.
pub fn write<const N: usize>(address: u64, longs: [i64; N]) -> Result<()> {
    write_of(Width::of_call(), address, longs)
}

/// Reads `N` unsigned longs, or pointers, as wide as the call's.
pub fn read_unsigned<const N: usize>(address: u64) -> Result<[u64; N]> {
    match Width::of_call() {
        Width::Bits64 => user::read(address),
        Width::Bits32 => Ok(user::read::<[u32; N]>(address)?.map(u64::from)),
    }
}

/// Writes `N` unsigned longs, or pointers, as wide as the call's.
pub fn write_unsigned<const N: usize>(address: u64, longs: [u64; N]) -> Result<()> {
    write(address, longs.map(|long| long as i64))
}
