//! Robust futex lists: what happens to the locks of a thread that ends while it holds them.

use core::sync::atomic::Ordering::*;

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::process::{self, Pid};
use super::{Task, current, futex};
use crate::errno::{Errno, Result};
use crate::memory::user;

/// `struct robust_list_head`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Head {
    /// First entry; the last points back to the head.
    next: u64,
    /// From an entry to its futex word.
    offset: u64,
    /// An entry that is being put in or taken out.
    pending: u64,
}

/// A list may be corrupt or circular; this is where Linux gives up, too (ROBUST_LIST_LIMIT).
const LIMIT: usize = 2048;
/// Bit 0 of a pointer marks a priority-inheritance futex.
const PI: u64 = 1;

/// set_robust_list(2).
pub fn sys_set_robust_list(head: u64, len: u64) -> Result<usize> {
    if len as usize != size_of::<Head>() {
        return Err(Errno::EINVAL);
    }
    current().robust_list.store(head, Relaxed);
    Ok(0)
}

/// get_robust_list(2).
pub fn sys_get_robust_list(tid: u64, head: u64, len: u64) -> Result<usize> {
    let address = match tid as Pid {
        0 => current().robust_list.load(Relaxed),
        tid => process::find_task(tid)
            .ok_or(Errno::ESRCH)?
            .robust_list
            .load(Relaxed),
    };
    user::write(len, &(size_of::<Head>() as u64))?;
    user::write(head, &address)?;
    Ok(0)
}

/// Marks the locks that the (current) task still holds as ownerless and wakes a waiter of each.
pub(super) fn release(task: &Task) {
    let head_address = task.robust_list.swap(0, Relaxed);
    if head_address != 0 {
        // A list that cannot be read is the program's own problem.
        let _ = walk(task, head_address);
    }
}

fn walk(task: &Task, head_address: u64) -> Result<()> {
    let head: Head = user::read(head_address)?;
    let mut entry = head.next;
    for _ in 0..LIMIT {
        if entry & !PI == head_address {
            break;
        }
        // Read on before the lock is given away: whoever takes it may free the entry.
        let next = user::read::<u64>(entry & !PI);
        if entry & !PI != head.pending & !PI {
            give_up(
                task,
                (entry & !PI).wrapping_add(head.offset),
                entry & PI != 0,
                false,
            )?;
        }
        entry = next?;
    }
    if head.pending != 0 {
        give_up(
            task,
            (head.pending & !PI).wrapping_add(head.offset),
            head.pending & PI != 0,
            true,
        )?;
    }
    Ok(())
}

/// Marks one lock word, if this task owns it.
fn give_up(task: &Task, address: u64, pi: bool, pending: bool) -> Result<()> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let mut value = user::load_u32(address)?;
    // Unlocked already, but perhaps before the waiter was woken.
    if pending && !pi && value & FUTEX_TID_MASK == 0 {
        futex::wake(address, 1);
        return Ok(());
    }
    while value & FUTEX_TID_MASK == task.tid() as u32 {
        let seen = user::atomic_cmpxchg_u32(address, value, value & FUTEX_WAITERS | FUTEX_OWNER_DIED)?;
        if seen == value {
            if !pi && value & FUTEX_WAITERS != 0 {
                futex::wake(address, 1);
            }
            break;
        }
        value = seen;
    }
    Ok(())
}
