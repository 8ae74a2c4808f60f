//! Register sets: what PTRACE_GETREGSET names by the type of an ELF note, in the layout of the tracee's width.

use alloc::vec;
use alloc::vec::Vec;

use linux_raw_sys::elf_uapi::{NT_386_IOPERM, NT_386_TLS, NT_PRFPREG, NT_PRSTATUS, NT_PRXFPREG, NT_X86_XSTATE};
use linux_raw_sys::ptrace::{
    PTRACE_GETFPREGS, PTRACE_GETFPXREGS, PTRACE_GETREGSET, PTRACE_SETFPREGS, PTRACE_SETFPXREGS,
};
use portcullis::x86_64::segments::IO_PORTS;
use portcullis::x86_64::tables::{TLS_ENTRIES, USER_CS};
use zerocopy::{FromBytes, IntoBytes};

use crate::errno::{Errno, Result};
use crate::machine::descriptor::UserDesc;
use crate::memory::user;
use crate::ptrace::registers::Stopped;
use crate::ptrace::registers32;
use crate::ptrace::{extended, registers};
use crate::sched::fpu;
use crate::sched::segments::thread_area;

/// A register set. The names are those of Linux (`arch/x86/kernel/ptrace.c`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Regset {
    /// NT_PRSTATUS.
    General,
    /// NT_PRFPREG: for 64-bit tracees FXSAVE's image, for 32-bit ones FSAVE's.
    Fp,
    /// NT_PRXFPREG: FXSAVE's image; of 32-bit tracees.
    Xfp,
    /// NT_X86_XSTATE: XSAVE's.
    Xstate,
    /// NT_386_TLS: the descriptors for thread-local storage; of 32-bit tracees.
    Tls,
    /// NT_386_IOPERM: the bitmap of I/O ports.
    Ioperm,
}

impl Regset {
    /// The set of a tracee that an ELF note type (`NT_*`) names. None if there is no such set, or not of this width.
    fn new(note: u32, wide: bool) -> Option<Regset> {
        match note {
            NT_PRSTATUS => Some(Regset::General),
            NT_PRFPREG => Some(Regset::Fp),
            NT_PRXFPREG if !wide => Some(Regset::Xfp),
            NT_386_TLS if !wide => Some(Regset::Tls),
            NT_X86_XSTATE if fpu::has_xsave() => Some(Regset::Xstate),
            NT_386_IOPERM => Some(Regset::Ioperm),
            _ => None,
        }
    }

    /// The set that PTRACE_GETREGS and its like mean.
    pub fn of_request(request: u32) -> Regset {
        match request {
            PTRACE_GETFPREGS | PTRACE_SETFPREGS => Regset::Fp,
            PTRACE_GETFPXREGS | PTRACE_SETFPXREGS => Regset::Xfp,
            _ => Regset::General,
        }
    }

    /// The size of one of its elements: what is transferred is a multiple of it.
    fn element(self, wide: bool) -> usize {
        match self {
            Regset::Xstate => 8,
            Regset::Tls => size_of::<UserDesc>(),
            _ if wide => 8,
            _ => 4,
        }
    }
}

/// Bytes of a set in the 64-bit layout.
pub fn size64(regset: Regset) -> Result<usize> {
    match regset {
        Regset::General => Ok(registers::WORDS * 8),
        Regset::Fp | Regset::Xfp => Ok(fpu::LEGACY_SIZE),
        Regset::Xstate => Ok(fpu::size()),
        Regset::Tls => Ok(size_of::<[UserDesc; TLS_ENTRIES]>()),
        Regset::Ioperm => Ok(IO_PORTS / 8),
    }
}

/// Bytes of a set in the 32-bit layout.
pub fn size32(regset: Regset) -> Result<usize> {
    match regset {
        Regset::General => Ok(registers32::WORDS * 4),
        Regset::Fp => Ok(extended::FSAVE_SIZE),
        regset => size64(regset),
    }
}

/// A set in the 64-bit layout.
pub fn get64(stopped: &mut Stopped<'_>, regset: Regset) -> Result<Vec<u8>> {
    match regset {
        Regset::General => Ok((0..registers::WORDS).flat_map(|word| stopped.get(word).to_ne_bytes()).collect()),
        Regset::Fp | Regset::Xfp => Ok(extended::fxsave(stopped).to_vec()),
        Regset::Xstate => Ok(extended::xsave(stopped)),
        Regset::Tls => Ok(thread_area::all(stopped.task()).as_bytes().to_vec()),
        Regset::Ioperm => stopped.task().ports.bitmap().ok_or(Errno::ENXIO),
    }
}

/// Changes a set, or the first part of it, in the 64-bit layout.
pub fn set64(stopped: &mut Stopped<'_>, regset: Regset, bytes: &[u8]) -> Result<()> {
    match regset {
        Regset::General => {
            for (word, value) in bytes.as_chunks::<8>().0.iter().enumerate() {
                stopped.set(word, u64::from_ne_bytes(*value))?;
            }
            Ok(())
        }
        Regset::Fp | Regset::Xfp => extended::set_fxsave(stopped, bytes, true),
        Regset::Xstate => extended::set_xsave(stopped, bytes),
        Regset::Tls => {
            let entries: Vec<UserDesc> = (bytes.as_chunks::<{ size_of::<UserDesc>() }>().0.iter())
                .filter_map(|entry| UserDesc::read_from_bytes(entry).ok())
                .collect();
            thread_area::set_first(stopped.task(), &entries)
        }
        Regset::Ioperm => Err(Errno::EOPNOTSUPP),
    }
}

/// A set in the 32-bit layout.
pub fn get32(stopped: &mut Stopped<'_>, regset: Regset) -> Result<Vec<u8>> {
    match regset {
        Regset::General => {
            Ok((0..registers32::WORDS).flat_map(|word| registers32::get(stopped, word).to_ne_bytes()).collect())
        }
        Regset::Fp => Ok(extended::fsave(stopped).to_vec()),
        regset => get64(stopped, regset),
    }
}

/// Changes a set, or the first part of it, in the 32-bit layout.
pub fn set32(stopped: &mut Stopped<'_>, regset: Regset, bytes: &[u8]) -> Result<()> {
    match regset {
        Regset::General => {
            for (word, value) in bytes.as_chunks::<4>().0.iter().enumerate() {
                registers32::set(stopped, word, u32::from_ne_bytes(*value))?;
            }
            Ok(())
        }
        Regset::Fp => extended::set_fsave(stopped, bytes),
        Regset::Xfp => extended::set_fxsave(stopped, bytes, false),
        regset => set64(stopped, regset, bytes),
    }
}

/// PTRACE_GETREGSET and PTRACE_SETREGSET. The layout is that of the code that the tracee runs, whoever asks. Returns how
/// much was transferred.
pub fn transfer(stopped: &mut Stopped<'_>, request: u32, note: u32, base: u64, len: u64) -> Result<u64> {
    let wide = stopped.regs().cs() == u64::from(USER_CS);
    let regset = Regset::new(note, wide).ok_or(Errno::EINVAL)?;
    if !len.is_multiple_of(regset.element(wide) as u64) {
        return Err(Errno::EINVAL);
    }
    let size = if wide { size64(regset)? } else { size32(regset)? };
    let len = (size as u64).min(len) as usize;
    if request == PTRACE_GETREGSET {
        let bytes = if wide { get64(stopped, regset)? } else { get32(stopped, regset)? };
        // SAFETY: `len` is at most the vector's.
        unsafe { user::copy_to_user(base, bytes.as_ptr(), len) }?;
    } else {
        let bytes = read_from_user(base, len)?;
        if wide {
            set64(stopped, regset, &bytes)?;
        } else {
            set32(stopped, regset, &bytes)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_sets_are_of_32_bit_tracees_alone() {
        // include/uapi/linux/elf.h; task_user_regset_view in arch/x86/kernel/ptrace.c.
        for (note, wide, narrow) in [
            (1, Some(Regset::General), Some(Regset::General)),
            (2, Some(Regset::Fp), Some(Regset::Fp)),
            (0x46e6_2b7f, None, Some(Regset::Xfp)),
            (0x200, None, Some(Regset::Tls)),
            (0x201, Some(Regset::Ioperm), Some(Regset::Ioperm)),
            (3, None, None),
        ] {
            assert_eq!((Regset::new(note, true), Regset::new(note, false)), (wide, narrow), "{note:#x}");
        }
    }
}
