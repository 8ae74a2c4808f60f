//! Signal calls with i386's structures and its oldest masks of 32 signals.

use portcullis::x86_64::UserRegs;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::calls::signal::{exchange_action, finish_sigreturn, suspend};
use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::signal::{Action, SigSet, mask};
use crate::task::current;
use crate::work::signal_frame32;

/// `struct sigaction` of `rt_sigaction`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Sigaction {
    handler: u32,
    flags: u32,
    restorer: u32,
    mask: [u32; 2],
}

/// rt_sigaction(2). The handler gets a 32-bit frame, whatever the program is.
pub fn sys_rt_sigaction(signo: u64, new: u64, old: u64, size: u64) -> Result<usize> {
    SigSet::check_size(size)?;
    let new = match new {
        0 => None,
        address => {
            let Sigaction { handler, flags, restorer, mask: [low, high] } = user::read(address)?;
            let mask = SigSet(u64::from(low) | u64::from(high) << 32);
            Some(Action::ia32(handler, flags, restorer, mask))
        }
    };
    let previous = exchange_action(signo, new)?;
    if old != 0 {
        let mask = previous.mask.0;
        let action = Sigaction {
            handler: previous.handler as u32,
            flags: previous.flags().bits() as u32,
            restorer: previous.restorer as u32,
            mask: [mask as u32, (mask >> 32) as u32],
        };
        user::write(old, &action)?;
    }
    Ok(0)
}

/// sigaction(2): handler, mask, flags, restorer.
pub fn sys_sigaction(signo: u64, new: u64, old: u64) -> Result<usize> {
    let new = match new {
        0 => None,
        address => {
            let [handler, mask, flags, restorer]: [u32; 4] = user::read(address)?;
            Some(Action::ia32(handler, flags, restorer, SigSet(mask.into())))
        }
    };
    let previous = exchange_action(signo, new)?;
    if old != 0 {
        let action: [u32; 4] =
            [previous.handler as u32, previous.mask.0 as u32, previous.flags().bits() as u32, previous.restorer as u32];
        user::write(old, &action)?;
    }
    Ok(0)
}

/// signal(2): a handler for one time. Returns the one before.
pub fn sys_signal(signo: u64, handler: u64) -> Result<usize> {
    /// SA_RESETHAND and SA_NODEFER.
    const ONE_SHOT: u32 = 0xc000_0000;
    let new = Action::ia32(handler as u32, ONE_SHOT, 0, SigSet::EMPTY);
    let previous = exchange_action(signo, Some(new))?;
    Ok(previous.handler as usize)
}

/// The low 32 signals.
const LOW: SigSet = SigSet(u32::MAX as u64);

/// sigprocmask(2).
pub fn sys_sigprocmask(how: u64, new: u64, old: u64) -> Result<usize> {
    const SIG_BLOCK: i32 = 0;
    const SIG_UNBLOCK: i32 = 1;
    const SIG_SETMASK: i32 = 2;
    let previous = current().signals.lock().blocked();
    if new != 0 {
        let set = SigSet(user::read::<u32>(new)?.into());
        mask::set_blocked(match how as i32 {
            SIG_BLOCK => previous.union(set),
            SIG_UNBLOCK => previous.without(set),
            SIG_SETMASK => previous.without(LOW).union(set),
            _ => return Err(Errno::EINVAL),
        });
    }
    if old != 0 {
        user::write(old, &(previous.0 as u32))?;
    }
    Ok(0)
}

/// sgetmask(2).
pub fn sys_sgetmask() -> Result<usize> {
    Ok(current().signals.lock().blocked().0 as u32 as usize)
}

/// ssetmask(2): sets the mask of all signals, returns the old one.
pub fn sys_ssetmask(set: u64) -> Result<usize> {
    let previous = sys_sgetmask()?;
    mask::set_blocked(SigSet(set));
    Ok(previous)
}

/// sigsuspend(2): the mask itself is the third argument.
pub fn sys_sigsuspend(set: u64) -> Result<usize> {
    suspend(SigSet(set))
}

/// sigreturn(2).
pub fn sys_sigreturn(regs: &mut UserRegs) -> Result<usize> {
    let result = signal_frame32::restore_frame(regs);
    finish_sigreturn(regs, result)
}

/// rt_sigreturn(2).
pub fn sys_rt_sigreturn(regs: &mut UserRegs) -> Result<usize> {
    let result = signal_frame32::restore_rt_frame(regs);
    finish_sigreturn(regs, result)
}
