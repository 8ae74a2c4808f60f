//! What programs may choose of segmentation: descriptors, and the selectors that name them.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`code`] | the code segment and the instruction that a task stands at |
//! | [`descriptor`] | `struct user_desc`, and the descriptors that it makes |
//! | [`ldt`] | modify_ldt: a table for each address space |
//! | [`ports`] | iopl and ioperm: the bitmap of I/O ports |
//! | [`tls`] | set_thread_area and get_thread_area: three entries of the GDT for each task |
//!
//! What is loaded at a switch, and in which order, is in [`task::switch`](crate::sched::switch); the library's part is
//! [`portcullis::x86_64::segments`].

pub mod code;
pub mod descriptor;
pub mod ldt;
pub mod ports;
pub mod tls;

use crate::task::{Task, current};

/// Set in a selector of the LDT.
const LOCAL: u16 = 4;

/// The base that a selector stands for in a task that is stopped; 0 for one that names none of its descriptors.
pub fn base_of(task: &Task, selector: u16) -> u64 {
    crate::sched::segments::descriptor::base(descriptor_of(task, selector))
}

/// The descriptor that a selector names in a task that is current or stopped: one of its own, else 0.
pub fn descriptor_of(task: &Task, selector: u16) -> u64 {
    let number = selector >> 3;
    if selector & LOCAL != 0 {
        task.mm().ldt().descriptor(number)
    } else {
        crate::sched::segments::tls::descriptor_of(task, number)
    }
}

/// Takes from the current task what exec does not keep.
pub fn reset_for_exec() {
    current().tls.clear(current());
}
