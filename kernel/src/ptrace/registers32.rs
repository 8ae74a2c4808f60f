//! The registers as a 32-bit tracer sees them: `struct user_regs_struct32`.

use crate::errno::{Errno, Result};
use crate::ptrace::registers::{CS, DS, ES, FS, GS, ORIG_RAX, SS, Stopped};
use crate::sched::segments;
use crate::task::syscall_info;

/// The words of `struct user_regs_struct32`.
pub const WORDS: usize = 17;

/// A word of the 32-bit registers: ebx, ecx, edx, esi, edi, ebp, eax, ds, es, fs, gs, orig_eax, eip, cs, eflags, esp, ss.
pub fn get(stopped: &mut Stopped<'_>, word: usize) -> u32 {
    let regs = *stopped.regs();
    let segments = *stopped.segments();
    let value = match word {
        0 => regs.rbx,
        1 => regs.rcx,
        2 => regs.rdx,
        3 => regs.rsi,
        4 => regs.rdi,
        5 => regs.rbp,
        6 => regs.rax,
        7 => segments.ds.into(),
        8 => segments.es.into(),
        9 => segments.fs.into(),
        10 => segments.gs.into(),
        11 => regs.orig_rax,
        12 => regs.rip,
        13 => regs.cs(),
        14 => stopped.flags(),
        15 => regs.rsp,
        16 => regs.ss(),
        _ => 0,
    };
    value as u32
}

/// Changes a word of the 32-bit registers. The upper halves become zero.
pub fn set(stopped: &mut Stopped<'_>, word: usize, value: u32) -> Result<()> {
    let wide = u64::from(value);
    let selector = value as u16;
    match word {
        0 => stopped.regs_mut().rbx = wide,
        1 => stopped.regs_mut().rcx = wide,
        2 => stopped.regs_mut().rdx = wide,
        3 => stopped.regs_mut().rsi = wide,
        4 => stopped.regs_mut().rdi = wide,
        5 => stopped.regs_mut().rbp = wide,
        6 => stopped.regs_mut().rax = wide,
        7 => stopped.set_selector(DS, selector)?,
        8 => stopped.set_selector(ES, selector)?,
        // Whoever writes 32 bits has no other way to change the base.
        9 => {
            stopped.set_selector(FS, selector)?;
            stopped.segments().fs_base = segments::base_of(stopped.task(), selector);
        }
        10 => {
            stopped.set_selector(GS, selector)?;
            stopped.segments().gs_base = segments::base_of(stopped.task(), selector);
        }
        11 => {
            stopped.set(ORIG_RAX, wide)?;
            if value != u32::MAX {
                syscall_info::poke(stopped.task());
            }
        }
        12 => stopped.regs_mut().rip = wide,
        13 => stopped.set_selector(CS, selector)?,
        14 => stopped.set_flags(wide),
        15 => stopped.regs_mut().rsp = wide,
        16 => stopped.set_selector(SS, selector)?,
        _ => return Err(Errno::EIO),
    }
    Ok(())
}
