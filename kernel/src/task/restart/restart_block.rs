//! Setting and resetting the current task's restart block ([`restart`](crate::task::restart)).

use core::sync::atomic::Ordering::Relaxed;

use crate::errno::{Errno, Result};
use crate::memory::width::Width;
use crate::task::current;
use crate::task::restart::RestartBlock;

/// The interrupted call is to be restarted as `function(args)`. Returns the error that says so.
pub fn set_restart_fn(function: fn([u64; 6]) -> Result<usize>, args: [u64; 6]) -> Errno {
    let restart = &current().restart;
    *restart.block.lock() = RestartBlock { function, args, width: Width::of_call() };
    restart.is_left.store(true, Relaxed);
    Errno::ERESTART_RESTARTBLOCK
}

/// The interrupted call is not to be restarted any more.
pub fn reset_restart_fn() {
    let restart = &current().restart;
    // Each signal asks for it, and nearly never is there one.
    if restart.is_left.load(Relaxed) {
        restart.is_left.store(false, Relaxed);
        *restart.block.lock() = RestartBlock::NONE;
    }
}
