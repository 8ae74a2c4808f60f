//! What a process does on each signal.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::machine::sync::{SpinLock, SpinLockGuard};
use crate::task::signals::set::*;

bitflags! {
    /// The SA_* flags of `sigaction` that this kernel knows. Others read back as zero, so that programs can ask.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ActionFlags: u64 {
        /// No SIGCHLD when a child stops or continues.
        const NOCLDSTOP = 1;
        /// Children leave no zombies.
        const NOCLDWAIT = 2;
        /// The handler takes three arguments.
        const SIGINFO = 4;
        /// Keep tag bits in si_addr (there are none on x86).
        const EXPOSE_TAGBITS = 0x800;
        /// Not of the ABI: a 32-bit call has set the action, so the handler is 32-bit code and gets a 32-bit frame.
        const IA32_ABI = 0x0200_0000;
        /// `restorer` is set. Obligatory on x86-64.
        const RESTORER = 0x0400_0000;
        /// Run on the alternate stack.
        const ONSTACK = 0x0800_0000;
        /// Restart interrupted calls.
        const RESTART = 0x1000_0000;
        /// Do not block the signal while its handler runs.
        const NODEFER = 0x4000_0000;
        /// Back to the default when the handler is entered.
        const RESETHAND = 0x8000_0000;
    }
}

/// `struct sigaction` as the system call has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Action {
    /// The handler's address, or [`SIG_DFL`] or [`SIG_IGN`].
    pub handler: u64,
    flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// What else is blocked while the handler runs.
    pub mask: SigSet,
}

/// The default action.
pub const SIG_DFL: u64 = 0;
/// Nothing happens.
pub const SIG_IGN: u64 = 1;

impl Action {
    /// The default action.
    pub const DEFAULT: Action = Action { handler: SIG_DFL, flags: 0, restorer: 0, mask: SigSet::EMPTY };

    /// The known flags.
    pub const fn flags(&self) -> ActionFlags {
        ActionFlags::from_bits_truncate(self.flags)
    }

    /// One that a 32-bit call sets.
    pub const fn ia32(handler: u32, flags: u32, restorer: u32, mask: SigSet) -> Action {
        Action {
            handler: handler as u64,
            flags: flags as u64 | ActionFlags::IA32_ABI.bits(),
            restorer: restorer as u64,
            mask,
        }
    }

    /// Whether the handler is 32-bit code, and gets a 32-bit frame: by which call it was set (as in Linux).
    pub const fn is_ia32(&self) -> bool {
        self.flags().contains(ActionFlags::IA32_ABI)
    }

    /// As the call that asks for it sees it: without the flag that is not of the ABI.
    pub const fn shown(mut self) -> Action {
        self.flags &= !ActionFlags::IA32_ABI.bits();
        self
    }

    /// As this kernel keeps it: only known flags, nothing in the mask that cannot be blocked.
    pub const fn sanitized(mut self) -> Action {
        self.flags = self.flags().bits();
        self.mask = self.mask.without(SigSet::UNBLOCKABLE);
        self
    }

    /// Whether the signal is thrown away, by SIG_IGN or by default.
    pub const fn ignores(&self, signo: i32) -> bool {
        self.handler == SIG_IGN || self.handler == SIG_DFL && SigSet::IGNORE.contains(signo)
    }

    /// Whether the default action for this signal ends the process.
    pub const fn is_fatal(&self, signo: i32) -> bool {
        self.handler == SIG_DFL && !SigSet::IGNORE.union(SigSet::STOP).contains(signo)
    }
}

/// The 64 actions.
#[derive(Clone)]
pub struct Actions([Action; SIGNALS]);

impl core::ops::Index<i32> for Actions {
    type Output = Action;
    fn index(&self, signo: i32) -> &Action {
        &self.0[signo as usize - 1]
    }
}

impl core::ops::IndexMut<i32> for Actions {
    fn index_mut(&mut self, signo: i32) -> &mut Action {
        &mut self.0[signo as usize - 1]
    }
}

/// The signal actions of a process: shared by its threads, and by other tasks where `clone` was asked to
/// (CLONE_SIGHAND).
pub struct SigHand(SpinLock<Actions>);

impl SigHand {
    /// All actions default.
    pub fn new() -> SigHand {
        SigHand(SpinLock::new(Actions([Action::DEFAULT; SIGNALS])))
    }

    /// A copy: for `fork`, and for `exec` where the actions are shared with another process.
    pub fn fork(&self) -> SigHand {
        SigHand(SpinLock::new(self.lock().clone()))
    }

    /// The actions.
    pub fn lock(&self) -> SpinLockGuard<'_, Actions> {
        self.0.lock()
    }

    /// One action, to look at.
    pub fn get(&self, signo: i32) -> Action {
        self.lock()[signo]
    }

    /// The signals that are ignored, and those that have a handler.
    pub fn sets(&self) -> (SigSet, SigSet) {
        let (mut ignored, mut caught) = (SigSet::EMPTY, SigSet::EMPTY);
        for (signo, action) in (1..).zip(&self.lock().0) {
            match action.handler {
                SIG_DFL => {}
                SIG_IGN => ignored.insert(signo),
                _ => caught.insert(signo),
            }
        }
        (ignored, caught)
    }

    /// For `exec`: the handlers are gone with the memory.
    pub fn reset_for_exec(&self) {
        self.clear_handlers();
    }

    /// Handlers become the default action, what is ignored stays ignored; flags and masks are forgotten.
    pub fn clear_handlers(&self) {
        for action in &mut self.lock().0 {
            *action = Action { handler: if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL }, ..Action::DEFAULT };
        }
    }
}

impl Default for SigHand {
    fn default() -> Self {
        SigHand::new()
    }
}

#[cfg(test)]
mod tests;
