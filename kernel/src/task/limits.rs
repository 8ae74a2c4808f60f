//! Resource limits.

use linux_raw_sys::general::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::errno::Result;
use crate::memory::c_long;
use crate::memory::width::Width;
use crate::vfs::fd::MAX_DESCRIPTORS;

/// `struct rlimit`: the limit, and how far it may be raised. `u64::MAX` is none.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Limit {
    /// What counts.
    pub soft: u64,
    /// What it may be raised to.
    pub hard: u64,
}

impl Limit {
    /// As wide as the call's, in which all ones stand for no limit, too.
    pub fn read(address: u64) -> Result<Limit> {
        let [soft, hard] = c_long::read_unsigned(address)?.map(|limit| match Width::of_call() {
            Width::Bits32 if limit == NONE_32 => u64::MAX,
            _ => limit,
        });
        Ok(Limit { soft, hard })
    }

    /// What a 32-bit program cannot say is no limit.
    pub fn write(self, address: u64) -> Result<()> {
        let limits = [self.soft, self.hard].map(|limit| match Width::of_call() {
            Width::Bits32 => limit.min(NONE_32),
            Width::Bits64 => limit,
        });
        c_long::write_unsigned(address, limits)
    }
}

/// "No limit" in the 32-bit structure.
const NONE_32: u64 = u32::MAX as u64;

/// How many limits there are.
pub const COUNT: usize = 16;
const NONE: Limit = Limit { soft: u64::MAX, hard: u64::MAX };

/// All limits of a process.
#[derive(Clone)]
pub struct Limits(pub [Limit; COUNT]);

impl Default for Limits {
    /// As Linux starts its first process.
    fn default() -> Self {
        let mut limits = [NONE; COUNT];
        let mut set = |which: u32, soft, hard| limits[which as usize] = Limit { soft, hard };
        set(RLIMIT_STACK, 8 << 20, u64::MAX);
        set(RLIMIT_CORE, 0, u64::MAX);
        set(RLIMIT_NOFILE, 1024, MAX_DESCRIPTORS);
        set(RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
        set(RLIMIT_NPROC, 4096, 4096);
        set(RLIMIT_SIGPENDING, 4096, 4096);
        set(RLIMIT_MSGQUEUE, 819_200, 819_200);
        set(RLIMIT_NICE, 0, 0);
        set(RLIMIT_RTPRIO, 0, 0);
        Limits(limits)
    }
}

impl Limits {
    /// Whether they bound CPU time.
    pub fn bound_cpu(&self) -> bool {
        self.0[RLIMIT_CPU as usize].soft != u64::MAX
    }

    /// The signal that is due if more CPU seconds were used than RLIMIT_CPU allows. SIGXCPU comes once per second.
    pub fn cpu_exceeded(&mut self, used: u64) -> Option<u32> {
        if !self.bound_cpu() {
            return None;
        }
        let limit = &mut self.0[RLIMIT_CPU as usize];
        if used >= limit.hard {
            Some(SIGKILL)
        } else if used >= limit.soft {
            limit.soft += 1;
            Some(SIGXCPU)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
