//! How an interrupted call goes on: restart_syscall(2).
//!
//! A call whose arguments do not say how much of it is done (a relative timeout, for example) leaves a block that does.
//! The block belongs to the table of the call that left it: whatever calls a tracer lets the task make meanwhile, it is
//! restarted with that table's number.

use linux_raw_sys::general::__NR_restart_syscall;

use super::current;
use crate::errno::{Errno, Result};
use crate::memory::Width;

/// `__NR_restart_syscall` of the 32-bit table.
const NUMBER_32: u64 = 0;

/// How an interrupted call goes on: `function(args)` is called by `restart_syscall`.
#[derive(Clone, Copy)]
pub struct RestartBlock {
    function: fn([u64; 6]) -> Result<usize>,
    args: [u64; 6],
    /// Whose call it is (Linux: `arch_data`).
    width: Width,
}

impl RestartBlock {
    /// No call to restart: `restart_syscall` fails with EINTR.
    pub const NONE: RestartBlock = RestartBlock {
        function: |_| Err(Errno::EINTR),
        args: [0; 6],
        width: Width::Bits64,
    };

    /// The number of `restart_syscall` in the table of the call.
    pub fn number(&self) -> u64 {
        match self.width {
            Width::Bits64 => __NR_restart_syscall.into(),
            Width::Bits32 => NUMBER_32,
        }
    }
}

/// The call under way is interrupted and goes on with `function(args)`. Gives the error that says so.
pub fn restart_by(function: fn([u64; 6]) -> Result<usize>, args: [u64; 6]) -> Errno {
    *current().restart.lock() = RestartBlock {
        function,
        args,
        width: Width::of_call(),
    };
    Errno::ERESTART_RESTARTBLOCK
}

/// What was interrupted is not to go on any more.
pub fn forget() {
    *current().restart.lock() = RestartBlock::NONE;
}

/// restart_syscall(2).
pub fn sys_restart_syscall() -> Result<usize> {
    let block = *current().restart.lock();
    (block.function)(block.args)
}
