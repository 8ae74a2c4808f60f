//! Register sets: what PTRACE_GETREGSET names by the type of an ELF note, in the layout of the tracee's width.

use alloc::vec;
use alloc::vec::Vec;

use linux_raw_sys::ptrace::{PTRACE_GETFPREGS, PTRACE_GETREGSET, PTRACE_SETFPREGS};
use portcullis::x86_64::segments::IO_PORTS;
use portcullis::x86_64::tables::{TLS_ENTRIES, USER_CS};
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::{Errno, Result};
use crate::machine::descriptor::UserDesc;
use crate::memory::user;
use crate::ptrace::registers::Stopped;
use crate::ptrace::{compat, extended, registers};
use crate::sched::fpu;
use crate::sched::segments::thread_area;

/// A register set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// NT_PRSTATUS.
    General,
    /// NT_PRFPREG: for 64-bit tracees FXSAVE's image, for 32-bit ones FSAVE's.
    Float,
    /// NT_PRXFPREG: FXSAVE's image; of 32-bit tracees.
    Extended,
    /// NT_X86_XSTATE: XSAVE's.
    Xstate,
    /// NT_386_TLS: the descriptors for thread-local storage; of 32-bit tracees.
    Tls,
    /// NT_386_IOPERM: the bitmap of I/O ports.
    Ports,
}

impl Kind {
    fn from_note(note: u32, wide: bool) -> Result<Kind> {
        match note {
            1 => Ok(Kind::General),
            2 => Ok(Kind::Float),
            0x46e6_2b7f if !wide => Ok(Kind::Extended),
            0x200 if !wide => Ok(Kind::Tls),
            0x202 if fpu::has_xsave() => Ok(Kind::Xstate),
            0x201 => Ok(Kind::Ports),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The size of one of its elements: what is transferred is a multiple of it.
    fn element(self, wide: bool) -> usize {
        match self {
            Kind::Xstate => 8,
            Kind::Tls => size_of::<UserDesc>(),
            _ if wide => 8,
            _ => 4,
        }
    }
}

/// The set that an old request means.
pub fn kind_of(request: u32) -> Kind {
    match request {
        PTRACE_GETFPREGS | PTRACE_SETFPREGS => Kind::Float,
        _ => Kind::General,
    }
}

/// Bytes of a set in the 64-bit layout.
pub fn size64(kind: Kind) -> Result<usize> {
    match kind {
        Kind::General => Ok(registers::WORDS * 8),
        Kind::Float | Kind::Extended => Ok(fpu::LEGACY_SIZE),
        Kind::Xstate => Ok(fpu::size()),
        Kind::Tls => Ok(size_of::<[UserDesc; TLS_ENTRIES]>()),
        Kind::Ports => Ok(IO_PORTS / 8),
    }
}

/// Bytes of a set in the 32-bit layout.
pub fn size32(kind: Kind) -> Result<usize> {
    match kind {
        Kind::General => Ok(compat::WORDS * 4),
        Kind::Float => Ok(extended::FSAVE_SIZE),
        kind => size64(kind),
    }
}

/// A set in the 64-bit layout.
pub fn get64(stopped: &mut Stopped<'_>, kind: Kind) -> Result<Vec<u8>> {
    match kind {
        Kind::General => Ok((0..registers::WORDS).flat_map(|word| stopped.get(word).to_ne_bytes()).collect()),
        Kind::Float | Kind::Extended => Ok(extended::fxsave(stopped).to_vec()),
        Kind::Xstate => Ok(extended::xsave(stopped)),
        Kind::Tls => Ok(thread_area::all(stopped.task()).as_bytes().to_vec()),
        Kind::Ports => stopped.task().ports.bitmap().ok_or(Errno::ENXIO),
    }
}

/// Changes a set, or the first part of it, in the 64-bit layout.
pub fn set64(stopped: &mut Stopped<'_>, kind: Kind, bytes: &[u8]) -> Result<()> {
    match kind {
        Kind::General => {
            for (word, value) in bytes.as_chunks::<8>().0.iter().enumerate() {
                stopped.set(word, u64::from_ne_bytes(*value))?;
            }
            Ok(())
        }
        Kind::Float | Kind::Extended => extended::set_fxsave(stopped, bytes, true),
        Kind::Xstate => extended::set_xsave(stopped, bytes),
        Kind::Tls => {
            let entries: Vec<UserDesc> = (bytes.as_chunks::<{ size_of::<UserDesc>() }>().0.iter())
                .filter_map(|entry| UserDesc::read_from_bytes(entry).ok())
                .collect();
            thread_area::set_first(stopped.task(), &entries)
        }
        Kind::Ports => Err(Errno::EOPNOTSUPP),
    }
}

/// A set in the 32-bit layout.
pub fn get32(stopped: &mut Stopped<'_>, kind: Kind) -> Result<Vec<u8>> {
    match kind {
        Kind::General => Ok((0..compat::WORDS).flat_map(|word| compat::get(stopped, word).to_ne_bytes()).collect()),
        Kind::Float => Ok(extended::fsave(stopped).to_vec()),
        kind => get64(stopped, kind),
    }
}

/// Changes a set, or the first part of it, in the 32-bit layout.
pub fn set32(stopped: &mut Stopped<'_>, kind: Kind, bytes: &[u8]) -> Result<()> {
    match kind {
        Kind::General => {
            for (word, value) in bytes.as_chunks::<4>().0.iter().enumerate() {
                compat::set(stopped, word, u32::from_ne_bytes(*value))?;
            }
            Ok(())
        }
        Kind::Float => extended::set_fsave(stopped, bytes),
        Kind::Extended => extended::set_fxsave(stopped, bytes, false),
        kind => set64(stopped, kind, bytes),
    }
}

/// PTRACE_GETREGSET and PTRACE_SETREGSET. The layout is that of the code that the tracee runs, whoever asks. Returns how
/// much was transferred.
pub fn transfer(stopped: &mut Stopped<'_>, request: u32, note: u32, base: u64, len: u64) -> Result<u64> {
    let wide = stopped.regs().cs() == u64::from(USER_CS);
    let kind = Kind::from_note(note, wide)?;
    if !len.is_multiple_of(kind.element(wide) as u64) {
        return Err(Errno::EINVAL);
    }
    let size = if wide { size64(kind)? } else { size32(kind)? };
    let len = (size as u64).min(len) as usize;
    if request == PTRACE_GETREGSET {
        let bytes = if wide { get64(stopped, kind)? } else { get32(stopped, kind)? };
        // SAFETY: `len` is at most the vector's.
        unsafe { user::copy_to_user(base, bytes.as_ptr(), len) }?;
    } else {
        let bytes = read_from_user(base, len)?;
        if wide {
            set64(stopped, kind, &bytes)?;
        } else {
            set32(stopped, kind, &bytes)?;
        }
    }
    Ok(len as u64)
}

/// `len` bytes, which is bounded by a set's size.
pub fn read_from_user(address: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    // SAFETY: the vector's own length.
    unsafe { user::copy_from_user(bytes.as_mut_ptr(), address, len) }?;
    Ok(bytes)
}
