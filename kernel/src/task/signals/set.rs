//! Signal numbers and sets of them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Result};

macro_rules! signals {
    ($($name:ident = $number:literal,)*) => {
        $(#[allow(missing_docs, dead_code, reason = "the ABI's numbers by their names")] pub const $name: i32 = $number;)*
    };
}

signals! {
    SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGILL = 4, SIGTRAP = 5, SIGABRT = 6, SIGBUS = 7, SIGFPE = 8, SIGKILL = 9,
    SIGUSR1 = 10, SIGSEGV = 11, SIGUSR2 = 12, SIGPIPE = 13, SIGALRM = 14, SIGTERM = 15, SIGSTKFLT = 16, SIGCHLD = 17,
    SIGCONT = 18, SIGSTOP = 19, SIGTSTP = 20, SIGTTIN = 21, SIGTTOU = 22, SIGURG = 23, SIGXCPU = 24, SIGXFSZ = 25,
    SIGVTALRM = 26, SIGPROF = 27, SIGWINCH = 28, SIGIO = 29, SIGPWR = 30, SIGSYS = 31,
}

/// The first real-time signal. From here on, signals queue.
pub const SIGRTMIN: i32 = 32;
/// The last signal.
pub const SIGRTMAX: i32 = 64;
/// How many signals there are.
pub const SIGNALS: usize = 64;

/// A set of signals; bit n - 1 stands for signal n, as in the ABI.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct SigSet(pub u64);

impl SigSet {
    /// Every call that takes a set says how long it is. EINVAL if that is wrong.
    pub fn check_size(size: u64) -> Result<()> {
        if size == size_of::<SigSet>() as u64 { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// No signal.
    pub const EMPTY: SigSet = SigSet(0);
    /// What no one can block, catch or ignore.
    pub const UNBLOCKABLE: SigSet = SigSet::of(&[SIGKILL, SIGSTOP]);
    /// What an instruction causes: delivered before anything else, so that the frame shows that instruction.
    pub const SYNCHRONOUS: SigSet = SigSet::of(&[SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS]);
    /// Default action: stop.
    pub const STOP: SigSet = SigSet::of(&[SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU]);
    /// Default action: nothing (SIGCONT continues when it is sent, not when it is delivered).
    pub const IGNORE: SigSet = SigSet::of(&[SIGCONT, SIGCHLD, SIGWINCH, SIGURG]);
    /// Default action: terminate and dump core.
    pub const CORE: SigSet =
        SigSet::of(&[SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS, SIGXCPU, SIGXFSZ]);

    /// The set of these signals.
    pub const fn of(signals: &[i32]) -> SigSet {
        let mut set = 0;
        let mut i = 0;
        while i < signals.len() {
            set |= SigSet::bit(signals[i]);
            i += 1;
        }
        SigSet(set)
    }

    const fn bit(signo: i32) -> u64 {
        1 << (signo - 1)
    }

    /// Whether the signal is in the set. `signo` is 1 to 64.
    pub const fn contains(self, signo: i32) -> bool {
        self.0 & SigSet::bit(signo) != 0
    }

    /// Adds a signal.
    pub const fn insert(&mut self, signo: i32) {
        self.0 |= SigSet::bit(signo);
    }

    /// Takes a signal out.
    pub const fn remove(&mut self, signo: i32) {
        self.0 &= !SigSet::bit(signo);
    }

    /// What is in either.
    pub const fn union(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }

    /// What is in both.
    pub const fn intersection(self, other: SigSet) -> SigSet {
        SigSet(self.0 & other.0)
    }

    /// What is in this set and not in the other.
    pub const fn without(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The signal to deliver next: the lowest synchronous one, else the lowest.
    pub const fn next(self) -> Option<i32> {
        let urgent = self.0 & SigSet::SYNCHRONOUS.0;
        let candidates = if urgent != 0 { urgent } else { self.0 };
        if candidates == 0 { None } else { Some(candidates.trailing_zeros() as i32 + 1) }
    }
}

/// Whether this is a signal number.
pub const fn is_valid(signo: i32) -> bool {
    1 <= signo && signo <= SIGRTMAX
}

#[cfg(test)]
mod tests;
