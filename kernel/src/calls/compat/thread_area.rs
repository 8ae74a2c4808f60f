//! set_thread_area(2) and get_thread_area(2). The entries are [`segments::thread_area`](crate::sched::segments::thread_area).

use crate::errno::Result;
use crate::machine::descriptor::UserDesc;
use crate::memory::user;
use crate::sched::segments::thread_area;
use crate::sched::thread::current;

/// Asks for any free entry.
const ANY: u32 = u32::MAX;

/// set_thread_area(2).
pub fn sys_set_thread_area(address: u64) -> Result<usize> {
    let segment: UserDesc = user::read(address)?;
    thread_area::check(&segment)?;
    let mut number = segment.entry_number;
    if number == ANY {
        number = thread_area::free_entry()?;
        user::write(address, &number)?;
    }
    thread_area::set_current(number, &segment)?;
    Ok(0)
}

/// get_thread_area(2).
pub fn sys_get_thread_area(address: u64) -> Result<usize> {
    let number: u32 = user::read(address)?;
    thread_area::get(current(), number, address)
}
