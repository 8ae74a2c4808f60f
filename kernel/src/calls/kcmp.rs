//! kcmp(2): whether two tasks share something. The order it gives is that of the addresses, mixed with a number that
//! nobody outside knows.

use alloc::sync::Arc;
use core::ptr;

use spin::Once;

use crate::errno::{Errno, Result};
use crate::fs::File;
use crate::task::Task;
use crate::task::credentials::access;
use crate::task::pid::Pid;
use crate::task::pid::numbers::meant;
use crate::task::tree::find_task;

/// What is compared: `KCMP_*`.
const FILE: u32 = 0;
const VM: u32 = 1;
const FILES: u32 = 2;
const FS: u32 = 3;
const SIGHAND: u32 = 4;
const IO: u32 = 5;
const SYSVSEM: u32 = 6;

/// kcmp(2): 0 if they are the same, 1 and 2 for the order otherwise.
pub fn sys_kcmp(first: u64, second: u64, kind: u64, index_1: u64, index_2: u64) -> Result<usize> {
    let task = |tid: u64| find_task(meant(tid as Pid)).ok_or(Errno::ESRCH);
    let (one, other) = (task(first)?, task(second)?);
    access::check(&one)?;
    access::check(&other)?;
    match kind as u32 {
        FILE => {
            let (file_1, file_2) = (file(&one, index_1)?, file(&other, index_2)?);
            Ok(order(address(Some(&file_1)), address(Some(&file_2))))
        }
        VM => Ok(order(address(one.mm.share().as_ref()), address(other.mm.share().as_ref()))),
        FILES => Ok(order(address(one.files.share().as_ref()), address(other.files.share().as_ref()))),
        FS => Ok(order(address(one.fs.share().as_ref()), address(other.fs.share().as_ref()))),
        SIGHAND => Ok(order(address(one.sighand.share().as_ref()), address(other.sighand.share().as_ref()))),
        // Nobody has either.
        IO | SYSVSEM => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn file(task: &Task, fd: u64) -> Result<Arc<File>> {
    task.files.share().ok_or(Errno::EBADF)?.get_any(fd)
}

fn address<T>(shared: Option<&Arc<T>>) -> usize {
    shared.map_or(0, |shared| ptr::from_ref::<T>(shared).addr())
}

fn order(one: usize, other: usize) -> usize {
    // Not the kernel's addresses: an order that is as good, and of no use to an attacker.
    static MIX: Once<usize> = Once::new();
    let mix = *MIX.call_once(|| {
        let mut bytes = [0; size_of::<usize>()];
        crate::task::system_info::fill_random(&mut bytes);
        usize::from_ne_bytes(bytes) | 1
    });
    let mixed = |address: usize| address.wrapping_mul(mix);
    match mixed(one).cmp(&mixed(other)) {
        core::cmp::Ordering::Equal => 0,
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Greater => 2,
    }
}
