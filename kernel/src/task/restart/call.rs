//! Leaving, taking and forgetting what an interrupted call goes on with ([`restart`](crate::task::restart)).

use core::sync::atomic::Ordering::Relaxed;

use crate::errno::{Errno, Result};
use crate::memory::width::Width;
use crate::task::current;
use crate::task::restart::RestartBlock;

/// The call under way is interrupted and goes on with `function(args)`. Gives the error that says so.
pub fn restart_by(function: fn([u64; 6]) -> Result<usize>, args: [u64; 6]) -> Errno {
    let restart = &current().restart;
    *restart.block.lock() = RestartBlock { function, args, width: Width::of_call() };
    restart.is_left.store(true, Relaxed);
    Errno::ERESTART_RESTARTBLOCK
}

/// What was interrupted is not to go on any more.
pub fn forget() {
    let restart = &current().restart;
    // Each signal asks for it, and nearly never is there one.
    if restart.is_left.load(Relaxed) {
        restart.is_left.store(false, Relaxed);
        *restart.block.lock() = RestartBlock::NONE;
    }
}

/// restart_syscall(2).
pub fn sys_restart_syscall() -> Result<usize> {
    let block = *current().restart.block.lock();
    (block.function)(block.args)
}
