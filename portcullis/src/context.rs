//! Context tracking: is this CPU in user mode, in the kernel, idle, or in a guest?
//!
//! One atomic word per CPU holds the context and a count of transitions. A grace-period mechanism (RCU, epochs) reads another
//! CPU's word and treats user mode, the idle loop and guests as quiescent without disturbing them: no kernel code runs
//! there, so none reads kernel data.
//!
//! Ordering. A transition is an atomic read-modify-write and a full barrier. A grace period that sees a CPU quiescent may
//! assume that what the CPU did in the kernel before is visible, and that what it does in the kernel later sees what the
//! grace period's caller did before.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Where a CPU is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Context {
    /// In the kernel.
    Kernel = 0,
    /// In the idle loop, waiting.
    Idle = 1,
    /// In user mode.
    User = 2,
    /// In a virtual machine's guest mode.
    Guest = 3,
}

impl Context {
    /// Whether no kernel code can be running in this context.
    pub const fn is_quiescent(self) -> bool {
        !matches!(self, Context::Kernel)
    }
}

/// The bits of the word that hold the [`Context`]; the counter is above them.
const STATE: u32 = 3;
/// One transition.
const COUNT: u32 = STATE + 1;

/// One CPU's context and the number of its transitions, in one word.
///
/// Bits 0 and 1 are the [`Context`]; the rest counts transitions and wraps. To be changed by the CPU itself
/// ([`move_to`](Self::move_to)).
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct ContextWord(AtomicU32);

/// The state in a word that was read.
#[inline(always)]
pub(crate) const fn state(word: u32) -> Context {
    match word & STATE {
        0 => Context::Kernel,
        1 => Context::Idle,
        2 => Context::User,
        _ => Context::Guest,
    }
}

/// One transition: the models and the doors run this code, and differ in `add`. That adds to this CPU's word in one atomic
/// step and returns what it was before: an atomic here, an instruction with a segment prefix in [`x86_64`](crate::x86_64).
///
/// Returns whether the context was `from`. It is `to` afterwards either way.
#[inline(always)]
pub(crate) fn transition(add: impl Fn(u32) -> u32, from: Context, to: Context) -> bool {
    let before = state(add(COUNT.wrapping_add(to as u32).wrapping_sub(from as u32)));
    if before as u32 == from as u32 {
        return true;
    }
    repair(add, from, before);
    false
}

/// The transition assumed the context `from`, and it was `before`: adds the difference.
#[cold]
#[inline(never)]
fn repair(add: impl Fn(u32) -> u32, from: Context, before: Context) {
    add((from as u32).wrapping_sub(before as u32));
}

impl ContextWord {
    /// The context KERNEL, in which a CPU starts.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        ContextWord(AtomicU32::new(Context::Kernel as u32))
    }

    /// The context. That of another CPU may have changed by the time the answer is used.
    pub fn context(&self) -> Context {
        state(self.0.load(SeqCst))
    }

    /// Moves this CPU from one context to another. Returns whether it was in `from`; it is in `to` afterwards either way.
    ///
    /// # Safety
    /// The word is this CPU's, interrupts are off, and the CPU changes its context here: grace periods trust the word.
    #[inline(always)]
    pub unsafe fn move_to(&self, from: Context, to: Context) -> bool {
        let add = |delta| {
            crate::work::loom_fence();
            let before = self.0.fetch_add(delta, SeqCst);
            crate::work::loom_fence();
            before
        };
        transition(add, from, to)
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

    /// Whether the CPU was in a quiescent context at the snapshot or has been in one since.
    pub fn quiescent_since(&self, snapshot: Snapshot) -> bool {
        state(snapshot.0).is_quiescent() || self.0.load(SeqCst) != snapshot.0
    }
}

/// A CPU's context word at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot(u32);
