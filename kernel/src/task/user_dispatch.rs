//! Which of a task's system calls are turned into SIGSYS: what prctl(PR_SET_SYSCALL_USER_DISPATCH) or its tracer has set.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use linux_raw_sys::prctl::{PR_SYS_DISPATCH_EXCLUSIVE_ON, PR_SYS_DISPATCH_INCLUSIVE_ON, PR_SYS_DISPATCH_OFF};
use portcullis::work::{SyscallWork, WorkFlags};
use portcullis_linux_abi::user_dispatch::AllowedRange;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Result};
use crate::memory::user;

/// What a task keeps. The task itself touches this, and its tracer while it is stopped.
#[derive(Default)]
pub struct UserDispatch {
    /// The range from which calls are made as ever.
    start: AtomicU64,
    len: AtomicU64,
    /// The address of the byte that turns the dispatch on and off; 0 where it is always on.
    pub selector: AtomicU64,
    /// The call under way was turned into a signal.
    pub dispatched: AtomicBool,
}

impl UserDispatch {
    /// The addresses from which calls are let through whatever the selector says.
    pub fn allowed(&self) -> AllowedRange {
        AllowedRange { start: self.start.load(Relaxed) as usize, length: self.len.load(Relaxed) as usize }
    }

    /// Sets it for the current task, or for one that is stopped for the current one. `work` is that task's.
    pub fn set(&self, config: &Config, work: &WorkFlags) -> Result<()> {
        let allowed = config.allowed()?;
        let range = allowed.unwrap_or_default();
        self.start.store(range.start as u64, Relaxed);
        self.len.store(range.length as u64, Relaxed);
        self.selector.store(config.selector, Relaxed);
        self.dispatched.store(false, Relaxed);
        if allowed.is_some() {
            work.arm(SyscallWork::USER_DISPATCH);
        } else {
            work.disarm(SyscallWork::USER_DISPATCH);
        }
        Ok(())
    }

    /// What is set, as a tracer is told it. A range that was inverted is not inverted back.
    pub fn get(&self, work: &WorkFlags) -> Config {
        let is_on = work.armed().contains(SyscallWork::USER_DISPATCH);
        Config {
            mode: if is_on { PR_SYS_DISPATCH_EXCLUSIVE_ON } else { PR_SYS_DISPATCH_OFF }.into(),
            selector: self.selector.load(Relaxed),
            start: self.start.load(Relaxed),
            len: self.len.load(Relaxed),
        }
    }
}

/// What is asked for: `struct ptrace_sud_config`, and the arguments of prctl.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    pub mode: u64,
    pub selector: u64,
    /// The range from which calls are made as ever, or with `PR_SYS_DISPATCH_INCLUSIVE_ON` from which they are dispatched.
    pub start: u64,
    pub len: u64,
}

impl Config {
    /// Whether dispatch is on, and from where calls are let through. The errors are those of Linux 7.2.
    fn allowed(&self) -> Result<Option<AllowedRange>> {
        let range = AllowedRange { start: self.start as usize, length: self.len as usize };
        let allowed = match u32::try_from(self.mode) {
            Ok(PR_SYS_DISPATCH_OFF) if self.start | self.len | self.selector == 0 => return Ok(None),
            Ok(PR_SYS_DISPATCH_EXCLUSIVE_ON) if range.is_valid() => range,
            Ok(PR_SYS_DISPATCH_INCLUSIVE_ON) => range.inverted().ok_or(Errno::EINVAL)?,
            _ => return Err(Errno::EINVAL),
        };
        if self.selector != 0 && !user::is_user_range(self.selector, 1) {
            return Err(Errno::EFAULT);
        }
        Ok(Some(allowed))
    }
}

#[cfg(test)]
mod tests;
