//! FSAVE's image of the x87 registers, which 32-bit programs know, made from FXSAVE's and folded back into it.

use crate::sched::fpu;

/// Bytes of `struct user_i387_ia32_struct`: seven words and eight registers.
pub const SIZE: usize = 108;
/// Where FXSAVE has the registers, 16 bytes each.
const ST: usize = 32;

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].try_into().map_or(0, u64::from_ne_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The image. In 64-bit mode the CPU tells the last instruction and its operand by offsets only; `cs` and `ds` are those
/// of now. The upper half of the word that holds `ds` is all ones, as in Linux.
pub fn of(fxsave: &[u8; fpu::LEGACY_SIZE], cs: u32, ds: u16) -> [u8; SIZE] {
    let half = |at: usize| u32::from(u16::from_ne_bytes([fxsave[at], fxsave[at + 1]]));
    let (control, status) = (half(0), half(2));
    let environment = [
        control | 0xffff_0000,
        status | 0xffff_0000,
        full_tags(fxsave, status),
        word(fxsave, 8) as u32,
        cs,
        word(fxsave, 16) as u32,
        u32::from(ds) | 0xffff_0000,
    ];
    let mut image = [0; SIZE];
    for (n, value) in environment.into_iter().enumerate() {
        put(&mut image, 4 * n, &value.to_ne_bytes());
    }
    for n in 0..8 {
        put(&mut image, 28 + 10 * n, &fxsave[ST + 16 * n..ST + 16 * n + 10]);
    }
    image
}

/// Two bits for each physical register: valid, zero, special, empty (SDM volume 1, 8.1.7).
fn full_tags(fxsave: &[u8; fpu::LEGACY_SIZE], status: u32) -> u32 {
    const VALID: u32 = 0;
    const ZERO: u32 = 1;
    const SPECIAL: u32 = 2;
    const EMPTY: u32 = 3;
    let top = status >> 11 & 7;
    (0..8).fold(0xffff_0000, |tags, n: u32| {
        let register = ST + 16 * (n.wrapping_sub(top) & 7) as usize;
        let mantissa = word(fxsave, register);
        let exponent = word(fxsave, register + 8) as u16 & 0x7fff;
        let tag = if fxsave[4] & 1 << n == 0 {
            EMPTY
        } else if exponent == 0x7fff {
            SPECIAL
        } else if exponent == 0 {
            if mantissa == 0 { ZERO } else { SPECIAL }
        } else if mantissa >> 63 != 0 {
            VALID
        } else {
            SPECIAL
        };
        tags | tag << (2 * n)
    })
}

/// Replaces the x87 registers of an FXSAVE image (or of what begins with one) by those of FSAVE's.
pub fn fold(fxsave: &mut [u8], image: &[u8; SIZE]) {
    let field = |n: usize| word(image, 4 * n) as u32;
    let (control, status, tags) = (field(0), field(1), field(2));
    let abridged = (0..8).fold(0u8, |abridged, n| abridged | u8::from(tags >> (2 * n) & 3 != 3) << n);
    put(fxsave, 0, &(control as u16).to_ne_bytes());
    put(fxsave, 2, &(status as u16).to_ne_bytes());
    put(fxsave, 4, &[abridged, 0]);
    put(fxsave, 6, &((field(4) >> 16) as u16).to_ne_bytes());
    put(fxsave, 8, &u64::from(field(3)).to_ne_bytes());
    put(fxsave, 16, &u64::from(field(5)).to_ne_bytes());
    for n in 0..8 {
        put(fxsave, ST + 16 * n, &image[28 + 10 * n..38 + 10 * n]);
    }
}

#[cfg(test)]
mod tests;
