//! How a hook ends the current thread or its process. What that takes is in [`life::exit`](crate::life::exit), which is registered at
//! boot: it lies above the hooks, which it calls in turn.

use portcullis::InKernel;
use spin::Once;

use crate::machine::gate::Gate;
use crate::task::wait_status::WaitStatus;

type Exit = fn(&mut InKernel<'_, Gate>, WaitStatus) -> !;

static EXITS: Once<(Exit, Exit)> = Once::new();

/// Sets how a thread ends, and how a process does. At boot, once.
pub fn register(thread: Exit, process: Exit) {
    EXITS.call_once(|| (thread, process));
}

fn exits() -> (Exit, Exit) {
    *EXITS.get().expect("registered before the first task runs")
}

/// Ends the current thread.
pub fn do_exit(at: &mut InKernel<'_, Gate>, status: WaitStatus) -> ! {
    exits().0(at, status)
}

/// Ends the current process.
pub fn do_group_exit(at: &mut InKernel<'_, Gate>, status: WaitStatus) -> ! {
    exits().1(at, status)
}
