//! process_vm_readv(2) and process_vm_writev(2). The copying is [`ptrace::process_vm`](crate::ptrace::process_vm).

use alloc::vec::Vec;

use crate::errno::{Errno, Result};
use crate::memory::access::Access;
use crate::memory::{Width, c_long};
use crate::ptrace::process_vm::{Vector, transfer};
use crate::task::credentials::access;
use crate::task::pid::Pid;
use crate::task::pid::numbers::meant;
use crate::task::tree;

/// The most vectors of one call.
const MAX_VECTORS: u64 = 1024;

/// Reads an array of `struct iovec`.
fn read_vectors(address: u64, count: u64) -> Result<Vec<Vector>> {
    if count > MAX_VECTORS {
        return Err(Errno::EINVAL);
    }
    let size = 2 * Width::of_call().word() as u64;
    (0..count)
        .map(|n| {
            let [base, len] = c_long::read_unsigned(address.wrapping_add(n * size))?;
            if len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            Ok(Vector { base, len })
        })
        .collect()
}

/// process_vm_readv(2).
pub fn sys_process_vm_readv(pid: u64, local: u64, locals: u64, remote: u64, remotes: u64, flags: u64) -> Result<usize> {
    process_vm(pid, (local, locals), (remote, remotes), flags, Access::Read)
}

/// process_vm_writev(2).
pub fn sys_process_vm_writev(
    pid: u64,
    local: u64,
    locals: u64,
    remote: u64,
    remotes: u64,
    flags: u64,
) -> Result<usize> {
    process_vm(pid, (local, locals), (remote, remotes), flags, Access::Write)
}

fn process_vm(pid: u64, local: (u64, u64), remote: (u64, u64), flags: u64, access: Access) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let local = read_vectors(local.0, local.1)?;
    if local.iter().all(|vector| vector.len == 0) {
        return Ok(0);
    }
    let remote = read_vectors(remote.0, remote.1)?;
    if remote.iter().all(|vector| vector.len == 0) {
        return Ok(0);
    }
    let task = tree::find_task(meant(pid as Pid)).ok_or(Errno::ESRCH)?;
    access::check(&task)?;
    transfer(&task.mm(), &local, &remote, access)
}
