//! What a 32-bit tracer calls, and how it sees registers: `struct user32`.

use linux_raw_sys::ptrace::*;

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::ptrace::registers::Stopped;
use crate::ptrace::registers32::{WORDS, get, set};
use crate::ptrace::regset::Regset;
use crate::ptrace::{debug, regset, request};

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
    match debug_register(offset) {
        Some(n) => Ok(stopped.task().trace.debug.get(n) as u32),
        None => Ok(get(stopped, word_of(offset)?)),
    }
}

fn poke_user(stopped: &mut Stopped<'_>, offset: u64, value: u32) -> Result<()> {
    match debug_register(offset) {
        Some(n) => debug::set(stopped.task(), n, value.into()),
        None => match word_of(offset)? {
            word if word < WORDS => set(stopped, word, value),
            // The rest is there for show.
            _ => Ok(()),
        },
    }
}

fn word_of(offset: u64) -> Result<usize> {
    if !offset.is_multiple_of(4) || offset > USER_AREA {
        return Err(Errno::EIO);
    }
    Ok((offset / 4) as usize)
}

/// An offset up to DR7's names one, whether it is a multiple of four or not, as on Linux.
fn debug_register(offset: u64) -> Option<usize> {
    let from_first = offset.checked_sub(DEBUG_REGISTERS)?;
    (from_first <= 7 * 4).then_some((from_first / 4) as usize)
}
