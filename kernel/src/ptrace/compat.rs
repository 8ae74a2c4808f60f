//! What a 32-bit tracer calls, and how it sees registers: `struct user32`.

use linux_raw_sys::ptrace::*;

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::ptrace::registers::{CS, DS, ES, FS, GS, SS, Stopped};
use crate::ptrace::regset::Regset;
use crate::ptrace::{debug, regset, request};
use crate::sched::segments;
use crate::task::syscall_info;

pub fn compat(stopped: &mut Stopped<'_>, request: u32, addr: u64, data: u64) -> Result<usize> {
    match request {
        PTRACE_PEEKTEXT | PTRACE_PEEKDATA => {
            let mut word = [0; 4];
            if stopped.task().mm().peek(addr, &mut word) != word.len() {
                return Err(Errno::EIO);
            }
            user::write(data, &u32::from_ne_bytes(word))?;
        }
        PTRACE_POKETEXT | PTRACE_POKEDATA => {
            if stopped.task().mm().poke(addr, &(data as u32).to_ne_bytes()) != 4 {
                return Err(Errno::EIO);
            }
        }
        PTRACE_PEEKUSR => user::write(data, &peek_user(stopped, addr)?)?,
        PTRACE_POKEUSR => poke_user(stopped, addr, data as u32)?,
        PTRACE_GETREGS | PTRACE_GETFPREGS | PTRACE_GETFPXREGS => {
            let bytes = regset::get32(stopped, Regset::of_request(request))?;
            // SAFETY: the vector's own length.
            unsafe { user::copy_to_user(data, bytes.as_ptr(), bytes.len()) }?;
        }
        PTRACE_SETREGS | PTRACE_SETFPREGS | PTRACE_SETFPXREGS => {
            let regset = Regset::of_request(request);
            let bytes = regset::read_from_user(data, regset::size32(regset)?)?;
            regset::set32(stopped, regset, &bytes)?;
        }
        PTRACE_GETREGSET | PTRACE_SETREGSET => {
            let [base, len]: [u32; 2] = user::read(data)?;
            let len = regset::transfer(stopped, request, addr as u32, base.into(), len.into())?;
            user::write(data + 4, &(len as u32))?;
        }
        PTRACE_GETEVENTMSG => {
            let message = stopped.task().signals.lock().trap.message;
            user::write(data, &(message as u32))?;
        }
        // 64-bit tracers' alone.
        PTRACE_ARCH_PRCTL => return Err(Errno::EIO),
        _ => return request::general(stopped, request, addr, data),
    }
    Ok(0)
}

/// Where DR0 is in `struct user32`.
const DEBUG_REGISTERS: u64 = 252;
/// Bytes of `struct user32`.
const USER_AREA: u64 = 284;

fn peek_user(stopped: &mut Stopped<'_>, offset: u64) -> Result<u32> {
    let word = word_of(offset)?;
    Ok(match debug_register(offset) {
        Some(n) => stopped.task().trace.debug.get(n) as u32,
        None => get(stopped, word),
    })
}

fn poke_user(stopped: &mut Stopped<'_>, offset: u64, value: u32) -> Result<()> {
    let word = word_of(offset)?;
    match debug_register(offset) {
        Some(n) => debug::set(stopped.task(), n, value.into()),
        None if word < WORDS => set(stopped, word, value),
        // The rest is there for show.
        None => Ok(()),
    }
}

fn word_of(offset: u64) -> Result<usize> {
    if !offset.is_multiple_of(4) || offset > USER_AREA {
        return Err(Errno::EIO);
    }
    Ok((offset / 4) as usize)
}

fn debug_register(offset: u64) -> Option<usize> {
    let n = offset.checked_sub(DEBUG_REGISTERS)? / 4;
    (n < 8).then_some(n as usize)
}

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
            stopped.regs_mut().orig_rax = wide;
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
