//! The extended register state in a signal frame.
//!
//! It lies above the frame proper, 64-byte aligned, in the layout of FXSAVE or XSAVE. With XSAVE, 48 bytes that the CPU
//! leaves alone (offset 464) say how long it is and what it holds, and a second magic word stands behind it: a program
//! that copied only the 512 bytes of FXSAVE somewhere else is recognised by the missing second word.
//!
//! The CPU writes and reads user memory itself here, and faults are fixed up. A state that a program has tampered with is
//! refused by XRSTOR itself, which checks all that it loads (SDM volume 1, 13.8.1: components that are not enabled,
//! compaction, reserved bits of the header and of MXCSR, alignment). Nothing is checked beforehand: another thread could
//! change it in between. The state of a 32-bit frame, which need not be aligned, is loaded from a copy, which is checked.

use alloc::vec::Vec;
use core::arch::asm;
use core::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Result};
use crate::machine::sync;
use crate::memory::{pkeys, user};
use crate::sched::{fpu, fsave};
use crate::task::current;

#[cfg(not(any(test, fuzzing)))]
mod instructions;
// Where user memory is no memory of the process.
#[cfg(any(test, fuzzing))]
use crate::host::fpstate as instructions;

/// Offset of the description in the FXSAVE layout.
const DESCRIPTION: u64 = 464;
/// Marks a description (`FP_XSTATE_MAGIC1`).
const MAGIC1: u32 = 0x4650_5853;
/// Marks the end of the state (`FP_XSTATE_MAGIC2`).
const MAGIC2: u32 = 0x4650_5845;
/// The components that FXSAVE has: x87 and SSE.
const LEGACY_FEATURES: u64 = 3;

/// `struct _fpx_sw_bytes`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Description {
    magic1: u32,
    /// From the start of the state to the end of the second magic word.
    extended_size: u32,
    features: u64,
    /// Without the second magic word.
    size: u32,
    padding: [u32; 7],
}
const _: () = assert!(size_of::<Description>() == 48);

/// The alignment of the state in a frame.
pub const ALIGNMENT: u64 = 64;

/// Bytes that the state takes in a frame.
pub fn frame_size() -> u64 {
    let magic = if fpu::has_xsave() { size_of::<u32>() } else { 0 };
    (fpu::size() + magic) as u64
}

/// Writes the current task's state to its frame at `address`.
pub fn store(address: u64) -> Result<()> {
    store_with(address, 0)
}

/// Writes it with this many bytes in front that belong to it.
fn store_with(address: u64, header_size: u32) -> Result<()> {
    if !user::is_user_range(address, frame_size()) {
        return Err(Errno::EFAULT);
    }
    if !fpu::has_xsave() {
        // SAFETY: checked above.
        return unsafe { instructions::fxsave(address) };
    }
    let header = address + fpu::XSTATE_BV as u64;
    // XSAVE leaves the reserved part of the header as it is, and XRSTOR wants it to be zero.
    user::clear(header, fpu::HEADER_SIZE)?;
    // SAFETY: checked above.
    unsafe { instructions::xsave(address, fpu::features()) }?;
    // What a program writes into the x87 and SSE parts is to be loaded, also where they were in their initial state.
    let present: u64 = user::read(header)?;
    user::write(header, &(present | LEGACY_FEATURES))?;
    let size = fpu::size() as u32;
    let description = Description {
        magic1: MAGIC1,
        extended_size: header_size + size + size_of::<u32>() as u32,
        features: fpu::features(),
        size,
        padding: [0; 7],
    };
    user::write(address + DESCRIPTION, &description)?;
    user::write(address + u64::from(size), &MAGIC2)
}

/// Bytes in front of the state in a 32-bit frame: FSAVE's image, the status word, and a word that says that FXSAVE's image
/// follows.
pub const FSAVE_HEADER: u64 = (fsave::SIZE + 4) as u64;

/// FXSAVE's image of the current task's registers.
#[repr(C, align(16))]
struct Legacy([u8; fpu::LEGACY_SIZE]);

impl Legacy {
    fn save() -> Legacy {
        let mut image = Legacy([0; _]);
        // SAFETY: `Legacy` is aligned.
        unsafe { instructions::fxsave_here(&mut image.0) };
        image
    }
}

/// As [`store`], for a 32-bit frame, [`FSAVE_HEADER`] included.
pub fn store_32(address: u64, cs: u32) -> Result<()> {
    if !user::is_user_range(address, FSAVE_HEADER) {
        return Err(Errno::EFAULT);
    }
    let image = Legacy::save();
    store_with(address + FSAVE_HEADER, FSAVE_HEADER as u32)?;
    let ds: u16;
    // SAFETY: reading a selector has no effect.
    unsafe { asm!("mov {:x}, ds", out(reg) ds, options(nomem, nostack, preserves_flags)) };
    let mut header = [0; FSAVE_HEADER as usize];
    header[..fsave::SIZE].copy_from_slice(&fsave::of(&image.0, cs, ds));
    header[fsave::SIZE..fsave::SIZE + 2].copy_from_slice(&image.0[2..4]);
    user::write(address, &header)
}

/// As [`load`], for a 32-bit frame, which may lie anywhere: what is loaded is a copy, as on Linux. The x87 registers are those of
/// FSAVE's image, which all programs know, unless the header says that they are in their initial state.
pub fn load_32(address: u64) -> Result<()> {
    load_by(try_load_32, address)
}

/// Sixty-four bytes of a state's copy, which XRSTOR wants aligned.
#[derive(Clone, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn try_load_32(address: u64) -> Result<()> {
    let image: [u8; fsave::SIZE] = user::read(address)?;
    let state = address + FSAVE_HEADER;
    let described = if fpu::has_xsave() { described_features(state)? } else { None };
    let size = if described.is_some() { fpu::size() } else { fpu::LEGACY_SIZE };
    let lines = size.div_ceil(size_of::<Line>());
    let mut copy: Vec<Line> = Vec::new();
    copy.try_reserve_exact(lines).map_err(|_| Errno::ENOMEM)?;
    copy.resize(lines, Line([0; _]));
    let bytes = copy.as_mut_slice().as_mut_bytes();
    // SAFETY: the copy is at least this long.
    unsafe { user::copy_from_user(bytes.as_mut_ptr(), state, size) }?;
    // Emulators load bits of MXCSR that a CPU refuses.
    if !fpu::takes_mxcsr(bytes) {
        return Err(Errno::EFAULT);
    }
    fsave::fold(bytes, &image);
    match described {
        Some(described) => {
            // What Linux refuses, of which XRSTOR looks at the first sixteen bytes.
            let (present, reserved) =
                bytes[fpu::XSTATE_BV..fpu::XSTATE_BV + fpu::HEADER_SIZE].split_at_mut(size_of::<u64>());
            let features = u64::read_from_bytes(present).map_err(|_| Errno::EFAULT)?;
            if features & !fpu::features() != 0 || reserved.iter().any(|&byte| byte != 0) {
                return Err(Errno::EFAULT);
            }
            present.copy_from_slice((features & described).as_bytes());
            // All of them, as Linux does where a CPU has no XSAVES: MXCSR is the frame's also where the SSE registers are not.
            // SAFETY: aligned, and as long as an area is.
            unsafe { instructions::xrstor_copy(bytes.as_ptr(), fpu::features()) }
        }
        None => {
            if fpu::has_xsave() {
                initialise(fpu::features() & !LEGACY_FEATURES);
            }
            // SAFETY: aligned, and as long as an image is.
            unsafe { instructions::fxrstor_copy(bytes.as_ptr()) }
        }
    }
}

/// Loads the current task's state from a frame, or the initial state where the frame has none. If it fails, the state is
/// the initial one.
pub fn load(address: u64) -> Result<()> {
    load_by(try_load, address)
}

fn load_by(try_load: fn(u64) -> Result<()>, address: u64) -> Result<()> {
    if address == 0 {
        reset();
        return Ok(());
    }
    let result = try_load(address);
    if result.is_err() {
        reset();
    }
    result
}

fn try_load(address: u64) -> Result<()> {
    if !user::is_user_range(address, frame_size()) {
        return Err(Errno::EFAULT);
    }
    if !fpu::has_xsave() {
        // SAFETY: checked above.
        return unsafe { instructions::fxrstor(address) };
    }
    match described_features(address)? {
        Some(described) => {
            let features = described & fpu::features();
            // The others first: if this succeeds and the next fails, all is reset anyway.
            initialise(fpu::features() & !features);
            // SAFETY: checked above.
            unsafe { instructions::xrstor(address, features) }
        }
        // What is there is an FXSAVE image.
        None => {
            initialise(fpu::features() & !LEGACY_FEATURES);
            // SAFETY: checked above.
            unsafe { instructions::fxrstor(address) }
        }
    }
}

/// The components that the state at `address` says it has. None if it is not, or no longer, an XSAVE state.
fn described_features(address: u64) -> Result<Option<u64>> {
    let description: Description = user::read(address + DESCRIPTION)?;
    let smallest = (fpu::LEGACY_SIZE + fpu::HEADER_SIZE) as u32;
    if description.magic1 != MAGIC1
        || description.size < smallest
        || description.size > fpu::size() as u32
        || description.size > description.extended_size
    {
        return Ok(None);
    }
    let magic2: u32 = user::read(address + u64::from(description.size))?;
    Ok((magic2 == MAGIC2).then_some(description.features))
}

/// An XSAVE area in which every component is in its initial state; FXRSTOR takes it, too.
#[repr(C, align(64))]
struct InitialState {
    control: u16,
    rest: [u8; fpu::MXCSR - 2],
    mxcsr: u32,
    registers: [u8; fpu::LEGACY_SIZE - fpu::MXCSR - 4],
    header: [u8; fpu::HEADER_SIZE],
}
const _: () = assert!(size_of::<InitialState>() == fpu::LEGACY_SIZE + fpu::HEADER_SIZE);

static INITIAL_STATE: InitialState =
    InitialState { control: 0x37f, rest: [0; _], mxcsr: 0x1f80, registers: [0; _], header: [0; _] };

/// Puts the current task's state back to what a program starts with. A handler starts with that, too.
pub fn reset() {
    if fpu::has_xsave() {
        initialise(fpu::features());
        pkeys::set_rights(pkeys::INITIAL_RIGHTS);
    } else {
        // SAFETY: a valid image, aligned.
        unsafe { instructions::fxrstor_here((&raw const INITIAL_STATE).cast()) };
    }
}

/// Puts these components back to their initial state.
fn initialise(features: u64) {
    if features == 0 {
        return;
    }
    // SAFETY: a valid area, aligned, with all components in their initial state, of which XRSTOR reads nothing but the legacy part
    // and the header.
    unsafe { instructions::xrstor_here((&raw const INITIAL_STATE).cast(), features) };
}

/// The parts of the state that tell of floating-point exceptions.
pub struct Exceptions {
    pub x87_control: u32,
    pub x87_status: u32,
    pub mxcsr: u32,
}

/// The current task's, as they are now.
pub fn exceptions() -> Exceptions {
    let area = &current().fpu;
    // A switch in between would save to the same area.
    let _guard = sync::irqs_off();
    // SAFETY: the current task's own area; it begins with the FXSAVE layout.
    unsafe {
        area.save();
        let base = area.as_ptr();
        Exceptions {
            x87_control: base.cast::<u16>().read().into(),
            x87_status: base.add(2).cast::<u16>().read().into(),
            mxcsr: base.add(fpu::MXCSR).cast::<u32>().read(),
        }
    }
}
