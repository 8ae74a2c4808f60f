//! The alternate signal stack.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Result};
use crate::memory::c_long;

/// Set in what `sigaltstack` returns while the stack is in use.
pub const SS_ONSTACK: i32 = 1;
/// There is no alternate stack.
pub const SS_DISABLE: i32 = 2;
/// The stack is given up while a handler runs on it, so that the handler may switch away from it.
pub const SS_AUTODISARM: i32 = 1 << 31;

/// The smallest stack that `sigaltstack` accepts.
pub const MINSIGSTKSZ: u64 = 2048;

/// `stack_t`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AltStack {
    /// Lowest address.
    pub sp: u64,
    /// As the program set them.
    pub flags: i32,
    pad: u32,
    /// Bytes; 0 where there is none.
    pub size: u64,
}

impl AltStack {
    /// One with these fields.
    pub const fn of(sp: u64, flags: i32, size: u64) -> AltStack {
        AltStack { sp, flags, pad: 0, size }
    }

    /// Reads one as wide as the call's: three words, the flags in the lower half of theirs.
    pub fn read(address: u64) -> Result<AltStack> {
        let [sp, flags, size] = c_long::read_unsigned(address)?;
        Ok(AltStack::of(sp, flags as i32, size))
    }

    /// Writes it as wide as the call's.
    pub fn write(&self, address: u64) -> Result<()> {
        c_long::write_unsigned(address, [self.sp, u64::from(self.flags as u32), self.size])
    }

    /// No alternate stack.
    pub const NONE: AltStack = AltStack { sp: 0, flags: SS_DISABLE, pad: 0, size: 0 };

    /// Whether this stack pointer is on the stack. The lowest address is not: a stack that is full down to there has
    /// overflowed. The highest is: an empty stack.
    pub const fn contains(&self, sp: u64) -> bool {
        sp > self.sp && sp - self.sp <= self.size
    }

    /// Whether a task with this stack pointer runs on it. With SS_AUTODISARM it never does, so it may be changed at any
    /// time.
    pub const fn is_in_use(&self, sp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && self.contains(sp)
    }

    /// Whether a handler that wants it shall switch to it.
    pub const fn is_available(&self, sp: u64) -> bool {
        self.size != 0 && !self.is_in_use(sp)
    }

    /// Its end, where a handler's frame begins.
    pub const fn top(&self) -> u64 {
        self.sp.wrapping_add(self.size)
    }

    /// What `sigaltstack` tells a task with this stack pointer.
    pub const fn seen_from(&self, sp: u64) -> AltStack {
        let state = if self.size == 0 {
            SS_DISABLE
        } else if self.is_in_use(sp) {
            SS_ONSTACK
        } else {
            0
        };
        AltStack { sp: self.sp, flags: state | self.flags & SS_AUTODISARM, pad: 0, size: self.size }
    }

    /// What `sigaltstack(new)` makes of it for a task with the stack pointer `sp`.
    pub fn replaced_by(&self, new: AltStack, sp: u64) -> Result<AltStack> {
        if self.is_in_use(sp) {
            return Err(Errno::EPERM);
        }
        let mode = new.flags & !SS_AUTODISARM;
        if !matches!(mode, SS_DISABLE | SS_ONSTACK | 0) {
            return Err(Errno::EINVAL);
        }
        // Before the size is looked at: what is set already is no change, also if it is too small.
        if (new.sp, new.size, new.flags) == (self.sp, self.size, self.flags) {
            return Ok(*self);
        }
        if mode == SS_DISABLE {
            return Ok(AltStack { sp: 0, flags: new.flags, pad: 0, size: 0 });
        }
        if new.size < MINSIGSTKSZ {
            return Err(Errno::ENOMEM);
        }
        Ok(AltStack { pad: 0, ..new })
    }
}

#[cfg(test)]
mod tests;
