//! How an interrupted call goes on: restart_syscall(2).
//!
//! A call whose arguments do not say how much of it is done (a relative timeout, for example) leaves a block that does.
//! The block belongs to the table of the call that left it: whatever calls a tracer lets the task make meanwhile, it is
//! restarted with that table's number.

pub mod restart_block;
use core::sync::atomic::AtomicBool;

use linux_raw_sys::general::__NR_restart_syscall;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::width::Width;

/// `__NR_restart_syscall` of the 32-bit table.
const NUMBER_32: u64 = 0;

/// How an interrupted call goes on: `function(args)` is called by `restart_syscall`.
#[derive(Clone, Copy)]
pub struct RestartBlock {
    /// What goes on.
    pub function: fn([u64; 6]) -> Result<usize>,
    /// With these.
    pub args: [u64; 6],
    /// Whose call it is (Linux: `arch_data`).
    pub width: Width,
}

impl RestartBlock {
    /// No call to restart: `restart_syscall` fails with EINTR.
    pub const NONE: RestartBlock = RestartBlock { function: |_| Err(Errno::EINTR), args: [0; 6], width: Width::Bits64 };

    /// The number of `restart_syscall` in the table of the call.
    fn number(&self) -> u64 {
        match self.width {
            Width::Bits64 => __NR_restart_syscall.into(),
            Width::Bits32 => NUMBER_32,
        }
    }
}

/// What a task keeps of its interrupted call.
pub struct State {
    pub block: SpinLock<RestartBlock>,
    /// Whether that is any but [`RestartBlock::NONE`].
    pub is_left: AtomicBool,
}

impl State {
    /// Nothing was interrupted.
    pub const fn new() -> State {
        State { block: SpinLock::new(RestartBlock::NONE), is_left: AtomicBool::new(false) }
    }

    /// The number of `restart_syscall` in the table of the interrupted call.
    pub fn number(&self) -> u64 {
        self.block.lock().number()
    }
}
