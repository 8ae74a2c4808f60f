//! What programs may choose of segmentation: descriptors, and the selectors that name them.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`code`] | the code segment and the instruction that a thread stands at |
//! | [`descriptor`] | `struct user_desc`, and the descriptors that it makes |
//! | [`ldt`](crate::memory::ldt) | modify_ldt: a table for each address space |
//! | [`port_rights`], [`ports`] | iopl and ioperm: the bitmap of I/O ports |
//! | [`thread_area`], [`tls`] | set_thread_area and get_thread_area: three entries of the GDT for each thread |
//!
//! What is loaded at a switch, and in which order, is in [`switch`](crate::sched::switch); the library's part is
//! [`portcullis::x86_64::segments`].

pub mod code;
pub mod port_rights;
pub mod ports;
pub mod thread_area;
pub mod tls;

use crate::machine::descriptor;
use crate::machine::descriptor::LOCAL;
use crate::sched::thread::Thread;

/// The base that a selector stands for in a thread that is stopped; 0 for one that names none of its descriptors.
pub fn base_of(thread: &Thread, selector: u16) -> u64 {
    descriptor::base(descriptor_of(thread, selector))
}

/// The descriptor that a selector names in a thread that is current or stopped: one of its own, else 0.
pub fn descriptor_of(thread: &Thread, selector: u16) -> u64 {
    let number = selector >> 3;
    if selector & LOCAL != 0 {
        thread.mm().ldt().descriptor(number)
    } else {
        thread_area::descriptor_of(thread, number)
    }
}

/// Takes from the current thread what exec does not keep.
pub fn reset_for_exec() {
    thread_area::clear();
}
