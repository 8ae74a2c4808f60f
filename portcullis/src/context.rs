//! Context tracking: is this CPU in user mode, in the kernel, idle, or in a guest?
//!
//! One atomic word per CPU holds the state and a counter of transitions. A grace-period mechanism (RCU, epochs) reads
//! another CPU's word and treats user mode, the idle loop and guests as quiescent without disturbing them: no code of
//! the kernel runs there, so no reader of kernel data does.
//!
//! Ordering. A transition is one atomic read-modify-write and a full barrier. A grace period that sees a CPU quiescent
//! may therefore assume that everything the CPU did in the kernel before is visible, and that what it does in the kernel
//! later sees what the grace period's caller did before.

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
/// Bits 0 and 1 are the [`Context`]; the rest counts transitions and wraps. Only the CPU itself changes it.
#[derive(Debug)]
#[repr(transparent)]
pub struct ContextWord(AtomicU32);

/// What a transition adds to the word: the change of state, and one to the counter.
///
/// For an architecture module that makes the transition in one instruction.
#[inline(always)]
pub const fn transition(from: Context, to: Context) -> u32 {
    COUNT.wrapping_add(to as u32).wrapping_sub(from as u32)
}

/// The state in a word that was read.
#[inline(always)]
pub const fn state(word: u32) -> Context {
    match word & STATE {
        0 => Context::Kernel,
        1 => Context::Idle,
        2 => Context::User,
        _ => Context::Guest,
    }
}

/// What an interrupt or NMI found, to put back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found(Context);

impl Found {
    /// The context that was hit.
    pub const fn context(self) -> Context {
        self.0
    }
}

impl ContextWord {
    /// In the kernel: a CPU starts there.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        ContextWord(AtomicU32::new(Context::Kernel as u32))
    }

    /// In the kernel: a CPU starts there.
    #[cfg(loom)]
    pub fn new() -> Self {
        ContextWord(AtomicU32::new(Context::Kernel as u32))
    }

    /// Where the CPU is. Another CPU may be elsewhere by the time the answer is used.
    pub fn context(&self) -> Context {
        state(self.0.load(SeqCst))
    }

    /// Moves this CPU from one context to another. Says whether it was where it had to be; it is in `to` afterwards
    /// in either case.
    ///
    /// Interrupts are off.
    #[inline(always)]
    pub fn move_to(&self, from: Context, to: Context) -> bool {
        crate::work::loom_fence();
        let before = self.0.fetch_add(transition(from, to), SeqCst);
        crate::work::loom_fence();
        if before & STATE == from as u32 {
            return true;
        }
        self.repair(to);
        false
    }

    /// The transition was made from the wrong state: put the right one in.
    #[cold]
    fn repair(&self, to: Context) {
        let now = self.0.load(SeqCst);
        self.0
            .store((now & !STATE).wrapping_add(COUNT) | to as u32, SeqCst);
    }

    /// An interrupt, exception or NMI hit this CPU while it was in the kernel's code: KERNEL from now on.
    ///
    /// It may have hit in the idle loop, or, if it is an NMI, between a door and the transition; either way the context
    /// it found is put back by [`restore`](Self::restore).
    #[inline(always)]
    pub fn interrupt(&self) -> Found {
        let found = self.context();
        if found != Context::Kernel {
            self.move_to(found, Context::Kernel);
        }
        Found(found)
    }

    /// Puts back what [`interrupt`](Self::interrupt) found.
    #[inline(always)]
    pub fn restore(&self, found: Found) {
        if found.0 != Context::Kernel {
            self.move_to(Context::Kernel, found.0);
        }
    }

    /// The word now, for [`quiescent_since`](Self::quiescent_since).
    pub fn snapshot(&self) -> Snapshot {
        crate::work::loom_fence();
        Snapshot(self.0.load(SeqCst))
    }

    /// Whether the CPU was in a quiescent context at the snapshot or has been in one since.
    pub fn quiescent_since(&self, snapshot: Snapshot) -> bool {
        state(snapshot.0).is_quiescent() || self.0.load(SeqCst) != snapshot.0
    }
}

impl Default for ContextWord {
    fn default() -> Self {
        Self::new()
    }
}

/// A CPU's context word at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Snapshot(u32);
