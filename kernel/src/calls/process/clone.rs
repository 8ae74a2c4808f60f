//! fork(2), vfork(2), clone(2), unshare(2). How a child is made is [`life::fork`](crate::life::fork).

use portcullis::InKernel;

use crate::errno::Result;
use crate::life::clone_flags::CloneFlags;
use crate::life::fork::{Clone, clone};
use crate::life::unshare::unshare;
use crate::machine::gate::Gate;
use crate::task::exit_signal::ExitSignal;

/// fork(2).
pub fn sys_fork(at: &mut InKernel<'_, Gate>) -> Result<usize> {
    clone(at, Clone { exit_signal: ExitSignal::CHILD, ..Clone::default() })
}

/// vfork(2).
pub fn sys_vfork(at: &mut InKernel<'_, Gate>) -> Result<usize> {
    let flags = CloneFlags::VFORK | CloneFlags::VM;
    clone(at, Clone { flags, exit_signal: ExitSignal::CHILD, ..Clone::default() })
}

/// clone(2). The two tables have the arguments in different orders.
pub fn sys_clone(
    at: &mut InKernel<'_, Gate>,
    flags: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
) -> Result<usize> {
    let (flags, exit_signal) = CloneFlags::from_clone(flags);
    clone(
        at,
        Clone {
            flags,
            exit_signal: ExitSignal::from_clone(exit_signal),
            stack,
            parent_tid,
            child_tid,
            tls,
            pidfd: parent_tid,
            ..Clone::default()
        },
    )
}

/// unshare(2).
pub fn sys_unshare(flags: u64) -> Result<usize> {
    unshare(CloneFlags::from_bits_retain(flags))?;
    Ok(0)
}
