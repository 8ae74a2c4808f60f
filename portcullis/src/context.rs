//! Context tracking: is this CPU in user mode, in the kernel, idle, or in a guest?
//!
//! One atomic word per CPU holds the context and a count of transitions. A grace-period mechanism (RCU, epochs) reads another
//! CPU's word and treats the idle loop and guests as quiescent without disturbing them: no kernel code runs there, so none reads
//! kernel data. User mode counts as quiescent only if the word is *tracked*.
//!
//! Ordering. A transition to or from the idle loop or a guest is an atomic read-modify-write and a full barrier; in a tracked
//! word, one to or from user mode, too. A grace period that sees such a CPU quiescent may assume that what the CPU did in the
//! kernel before is visible, and that what it does in the kernel later sees what the grace period's caller did before.
//!
//! In a word that is not tracked, which is the default, a crossing between user mode and the kernel has no barrier (some
//! twenty cycles each way): a CPU may already read kernel data while its word still says USER. There
//! [`quiescent_since`](ContextWord::quiescent_since) does not trust USER, and a grace period has to interrupt a CPU that stays in
//! user mode: a handler that hit no reader counts that with an atomic read-modify-write, and the grace period waits for the
//! count to change. `tests/loom.rs` checks both.

#[cfg(not(loom))]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
#[cfg(loom)]
use loom::sync::atomic::AtomicU64;

/// Where a CPU is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Context {
    /// In the kernel.
    Kernel = 0,
    /// In the idle loop, waiting.
    Idle = 1,
    /// In a virtual machine's guest mode.
    Guest = 2,
    /// In user mode.
    User = 3,
}

impl Context {
    /// Whether no kernel code can be running in this context.
    pub const fn is_quiescent(self) -> bool {
        !matches!(self, Context::Kernel)
    }
}

/// Where the [`Context`] is: the top two bits, so that the addition of a transition carries out of the word or not, by the
/// context that it finds.
pub(crate) const STATE_SHIFT: u32 = 62;
/// Whether user mode counts as quiescent.
const TRACKED: u64 = 1 << 61;
/// One transition. The count takes centuries to reach the bits above it.
const COUNT: u64 = 1;

/// One CPU's context and the number of its transitions, in one word.
///
/// The top two bits are the [`Context`], the next says whether the word is tracked, the rest counts transitions. To be changed by
/// the CPU itself ([`move_to`](Self::move_to)).
#[derive(Debug)]
#[repr(transparent)]
pub struct ContextWord(AtomicU64);

/// The state in a word that was read.
#[inline(always)]
const fn state(word: u64) -> Context {
    match word >> STATE_SHIFT {
        0 => Context::Kernel,
        1 => Context::Idle,
        2 => Context::Guest,
        _ => Context::User,
    }
}

/// What a transition adds to the word.
pub(crate) const fn delta(from: Context, to: Context) -> u64 {
    ((to as u64).wrapping_sub(from as u64) << STATE_SHIFT).wrapping_add(COUNT)
}

// The doors tell by the carry whether the context was the one that a transition starts from.
const _: () = {
    let contexts = [Context::Kernel, Context::Idle, Context::Guest, Context::User];
    let mut n = 0;
    while n < contexts.len() {
        let word = ((contexts[n] as u64) << STATE_SHIFT) + (TRACKED - 1 - COUNT);
        assert!(carries_out(word, Context::User, Context::Kernel) == matches!(contexts[n], Context::User));
        assert!(carries_out(word, Context::Kernel, Context::User) != matches!(contexts[n], Context::Kernel));
        n += 1;
    }
};

const fn carries_out(word: u64, from: Context, to: Context) -> bool {
    word.overflowing_add(delta(from, to)).1
}

impl ContextWord {
    /// The context KERNEL, in which a CPU starts. Not tracked.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        ContextWord(AtomicU64::new((Context::Kernel as u64) << STATE_SHIFT))
    }

    /// The context KERNEL, in which a CPU starts. Not tracked.
    #[cfg(loom)]
    pub fn new() -> Self {
        ContextWord(AtomicU64::new((Context::Kernel as u64) << STATE_SHIFT))
    }

    /// From now on user mode counts as quiescent.
    ///
    /// # Safety
    /// No transition of this word is under way, and each later one is [`move_to`](Self::move_to) or has its barriers.
    pub unsafe fn track(&self) {
        self.0.fetch_or(TRACKED, SeqCst);
    }

    /// Whether user mode counts as quiescent.
    pub fn is_tracked(&self) -> bool {
        self.0.load(Relaxed) & TRACKED != 0
    }

    /// The context. That of another CPU may have changed by the time the answer is used.
    #[inline(always)]
    pub fn context(&self) -> Context {
        state(self.0.load(SeqCst))
    }

    /// Moves this CPU from one context to another. Returns whether it was in `from`; it is in `to` afterwards either way.
    ///
    /// # Safety
    /// The word is this CPU's, interrupts are off, and the CPU changes its context here: grace periods trust the word.
    #[inline(always)]
    pub unsafe fn move_to(&self, from: Context, to: Context) -> bool {
        let crosses = matches!(from, Context::User) || matches!(to, Context::User);
        let before = if crosses && !self.is_tracked() {
            self.0.fetch_add(delta(from, to), Relaxed)
        } else {
            crate::work::loom_fence();
            let before = self.0.fetch_add(delta(from, to), SeqCst);
            crate::work::loom_fence();
            before
        };
        if state(before) == from {
            return true;
        }
        // SAFETY: the caller's.
        unsafe { self.repair(to) };
        false
    }

    /// A transition to `to` did not start from the context that it assumed: adds what is missing.
    ///
    /// # Safety
    /// As [`move_to`](Self::move_to).
    #[cold]
    #[inline(never)]
    pub(crate) unsafe fn repair(&self, to: Context) {
        self.0.fetch_add((to as u64).wrapping_sub(self.context() as u64) << STATE_SHIFT, SeqCst);
    }

    /// An interrupt, exception or NMI hit kernel code: KERNEL from now on. The context may have been another one, in the idle
    /// loop or, for an NMI, between a door and its transition; [`restore`](Self::restore) restores it.
    ///
    /// # Safety
    /// As [`move_to`](Self::move_to).
    #[inline(always)]
    pub unsafe fn interrupt(&self) -> Context {
        let found = self.context();
        if found != Context::Kernel {
            // SAFETY: the caller's.
            unsafe { self.move_to(found, Context::Kernel) };
        }
        found
    }

    /// Restores the context that [`interrupt`](Self::interrupt) found.
    ///
    /// # Safety
    /// As [`move_to`](Self::move_to).
    #[inline(always)]
    pub unsafe fn restore(&self, found: Context) {
        if found != Context::Kernel {
            // SAFETY: the caller's.
            unsafe { self.move_to(Context::Kernel, found) };
        }
    }

    /// The word at this moment, for [`quiescent_since`](Self::quiescent_since).
    pub fn snapshot(&self) -> Snapshot {
        crate::work::loom_fence();
        Snapshot(self.0.load(SeqCst))
    }

    /// Whether the CPU was in a quiescent context at the snapshot or has been in one since. If the word is not tracked, the
    /// answer may be no although it has been: user mode does not count, nor what has come and gone since the snapshot.
    pub fn quiescent_since(&self, snapshot: Snapshot) -> bool {
        let now = self.0.load(SeqCst);
        let tracked = now & snapshot.0 & TRACKED != 0;
        let quiescent = |word: u64| match state(word) {
            Context::Kernel => false,
            Context::User => tracked,
            Context::Idle | Context::Guest => true,
        };
        quiescent(snapshot.0) || quiescent(now) || tracked && now != snapshot.0
    }
}

impl Default for ContextWord {
    fn default() -> Self {
        Self::new()
    }
}

/// A CPU's context word at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot(u64);

#[cfg(all(test, not(loom)))]
#[path = "../tests/unit/context.rs"]
mod tests;
