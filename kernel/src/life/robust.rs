//! Robust futex lists: what happens to the locks of a thread that ends while it holds them.

use core::sync::atomic::{AtomicU64, Ordering::*};

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

use crate::errno::{Errno, Result};
use crate::memory::{Width, c_long, user};
use crate::task::credentials::access;
use crate::task::pid::Pid;
use crate::task::pid::numbers::seen;
use crate::task::{Task, tree};

/// `struct robust_list_head`: three words of the list's width.
struct Head {
    /// First entry; the last points back to the head.
    next: u64,
    /// From an entry to its futex word.
    offset: i64,
    /// An entry that is being put in or taken out.
    pending: u64,
}

impl Head {
    fn read(width: Width, address: u64) -> Result<Head> {
        let [next, offset, pending] = c_long::read_of(width, address)?;
        Ok(Head { next: pointer(width, next), offset, pending: pointer(width, pending) })
    }
}

/// A word as a pointer: not sign-extended.
fn pointer(width: Width, word: i64) -> u64 {
    match width {
        Width::Bits64 => word as u64,
        Width::Bits32 => u64::from(word as u32),
    }
}

/// How many bytes a head of this width has.
pub fn head_size(width: Width) -> u64 {
    3 * width.word() as u64
}

/// A thread's list: where its head is, and how wide its words are (it has one for each width).
pub fn list(task: &Task, width: Width) -> &AtomicU64 {
    match width {
        Width::Bits64 => &task.robust_list,
        Width::Bits32 => &task.robust_list_32,
    }
}

/// A list may be corrupt or circular; this is where Linux gives up, too (ROBUST_LIST_LIMIT).
const LIMIT: usize = 2048;
/// Bit 0 of a pointer marks a priority-inheritance futex.
const PI: u64 = 1;

/// The list of a task that the current one may look at: none if it has ended.
pub fn of_other(tid: Pid, width: Width) -> Result<u64> {
    if let Some(task) = tree::find_task(tid) {
        access::check(&task)?;
        return Ok(list(&task, width).load(Relaxed));
    }
    let process = tree::find(tid).ok_or(Errno::ESRCH)?;
    access::check_process(&process)?;
    Ok(0)
}

/// Marks the locks that the (current) task still holds as ownerless and wakes a waiter of each.
pub fn release(task: &Task) {
    for width in [Width::Bits64, Width::Bits32] {
        let head_address = list(task, width).swap(0, Relaxed);
        if head_address != 0 {
            // A list that cannot be read is the program's own problem.
            let _ = walk(task, width, head_address);
        }
    }
}

fn walk(task: &Task, width: Width, head_address: u64) -> Result<()> {
    let head = Head::read(width, head_address)?;
    let place = |entry: u64| {
        let place = (entry & !PI).wrapping_add_signed(head.offset);
        pointer(width, place as i64)
    };
    let mut entry = head.next;
    for _ in 0..LIMIT {
        if entry & !PI == head_address {
            break;
        }
        // Read on before the lock is given away: whoever takes it may free the entry.
        let next = c_long::read_of(width, entry & !PI).map(|[next]| pointer(width, next));
        if entry & !PI != head.pending & !PI {
            give_up(task, place(entry), entry & PI != 0, false)?;
        }
        entry = next?;
    }
    if head.pending & !PI != 0 {
        give_up(task, place(head.pending), head.pending & PI != 0, true)?;
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
        crate::life::futex::wake(address, 1);
        return Ok(());
    }
    while value & FUTEX_TID_MASK == seen(task.tid()) as u32 {
        let seen = user::atomic_cmpxchg_u32(address, value, value & FUTEX_WAITERS | FUTEX_OWNER_DIED)?;
        if seen == value {
            if !pi && value & FUTEX_WAITERS != 0 {
                crate::life::futex::wake(address, 1);
            }
            break;
        }
        value = seen;
    }
    Ok(())
}
