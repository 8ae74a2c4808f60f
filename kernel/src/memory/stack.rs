//! Kernel stacks with guard pages.
//!
//! The area is divided into slots of twice the stack's size; the lower half of a slot is never mapped, so that an
//! overflow faults instead of reaching another stack. Freed stacks keep their frames and are used again.

use portcullis::x86_64::fred::thread_stack_top;

use crate::errno::{Errno, Result};
use crate::machine::direct_map::PAGE_SIZE;
use crate::machine::gate::Gate;
use crate::machine::sync::SpinLock;
use crate::memory::{frames, vmalloc};

/// Usable bytes of a kernel stack.
pub const STACK_SIZE: u64 = 16 << 10;
const SLOT: u64 = 2 * STACK_SIZE;
const MAX_SLOTS: u64 = 1 << 20;

struct Stacks {
    /// Top of the first free stack, 0 at the end of the list. The link is in the stack's lowest word.
    free: u64,
    /// Slots that were ever used.
    used: u64,
}

static STACKS: SpinLock<Stacks> = SpinLock::new(Stacks { free: 0, used: 0 });

/// A kernel stack of one task (or of a CPU's interrupts).
#[derive(Debug)]
pub struct KernelStack {
    top: u64,
}

fn link(top: u64) -> *mut u64 {
    (top - STACK_SIZE) as *mut u64
}

impl KernelStack {
    /// A stack with arbitrary contents. ENOMEM when memory runs short.
    pub fn new() -> Result<KernelStack> {
        let mut stacks = STACKS.lock();
        if stacks.free != 0 {
            let top = stacks.free;
            // SAFETY: `drop` stored the link there, and nobody uses a free stack.
            stacks.free = unsafe { link(top).read() };
            return Ok(KernelStack { top });
        }
        frames::require_spare()?;
        if stacks.used == MAX_SLOTS {
            return Err(Errno::ENOMEM);
        }
        let top = vmalloc::STACKS + (stacks.used + 1) * SLOT;
        vmalloc::map(top - STACK_SIZE, top)?;
        stacks.used += 1;
        Ok(KernelStack { top })
    }

    /// Where a task's registers end, or an interrupt's stack begins: one past the highest byte that may be used.
    pub fn top(&self) -> u64 {
        thread_stack_top::<Gate>(self.top)
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        let mut stacks = STACKS.lock();
        // SAFETY: the owner gives the stack up, so no CPU runs on it.
        unsafe { link(self.top).write(stacks.free) };
        stacks.free = self.top;
    }
}

/// True for an address below a kernel stack: a fault there is a stack overflow.
pub fn is_guard(addr: u64) -> bool {
    (vmalloc::STACKS..vmalloc::STACKS + MAX_SLOTS * SLOT).contains(&addr)
        && (addr - vmalloc::STACKS) % SLOT < SLOT - STACK_SIZE
}

const _: () = assert!(STACK_SIZE.is_multiple_of(PAGE_SIZE));
