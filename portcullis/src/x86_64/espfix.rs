//! The way out to a 16-bit stack segment.
//!
//! IRET to a 16-bit SS loads SP and leaves bits 16 to 31 of RSP as they were in the kernel (SDM volume 3, 22.31.1): half of the
//! thread stack's address leaks, and the user's own half is lost (CVE-2014-8134). So for a stack segment of the LDT IRET's
//! frame is copied to a few bytes that are mapped at 65536 addresses, one for each value of those bits, and IRET runs on the
//! one that has the user's. GDT entries cannot be 16-bit ([`load_tls`](super::segments::load_tls)).
//!
//! ```text
//!   alias | user's RSP & 0xffff_0000
//!     rax     +0     popped
//!     rip     +8     ← rsp at IRET
//!     cs      +16
//!     rflags  +24
//!     rsp     +32
//!     ss      +40
//! ```
//!
//! The aliases are read-only, or the frame of a fault of this IRET would overwrite IRET's own. What happens instead:
//! [`bad_iret`](super::bad_iret).

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::{align_next, iret_on_entry_stack, user_table, verw};
use super::bad_iret::iret_to_user;
use super::doors::Doors;
use super::isolation;
use super::local::CpuLocal;
use super::tables::{ENTRY_STACK_TOP, Espfix, Tables};

/// Where this CPU's [`Espfix`] is.
const FRAME: usize = offset_of!(Tables, espfix) + offset_of!(Espfix, frame);
const ALIAS: usize = offset_of!(Tables, espfix) + offset_of!(Espfix, alias);

/// Enters user mode with a stack segment of the LDT. Jumped to by [`leave_by_iret`](super::way_out), with the general
/// registers restored, the kernel's GS, and RSP at IRET's frame on top of the thread stack.
///
/// Copies the frame by RAX to the alias's writable page, or takes the ordinary way if the kernel has no aliases.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn leave_to_ldt_stack<K: Doors>() {
    naked_asm!(
        "push rdi",
        "mov rdi, gs:[{tables}]",
        "mov rdi, [rdi + {frame}]",
        "test rdi, rdi",
        "jz 2f",
        "mov [rdi], rax",
        "mov rax, [rsp + 1 * 8]; mov [rdi + 1 * 8], rax", // rip
        "mov rax, [rsp + 2 * 8]; mov [rdi + 2 * 8], rax", // cs
        "mov rax, [rsp + 3 * 8]; mov [rdi + 3 * 8], rax", // rflags
        "mov rax, [rsp + 5 * 8]; mov [rdi + 5 * 8], rax", // ss
        "mov rax, [rsp + 4 * 8]; mov [rdi + 4 * 8], rax", // rsp
        "and eax, 0xffff0000",
        "mov rdi, gs:[{tables}]",
        "or rax, [rdi + {alias}]",
        "pop rdi",
        "swapgs",
        "mov rsp, rax",
        user_table!("rax"),
        "pop rax",
        verw!(),
        "jmp {iret}",
        "2: pop rdi",
        iret_on_entry_stack!(),
        "swapgs",
        verw!(),
        "jmp {iret}",
        align_next!(),
        tables = const CpuLocal::TABLES, frame = const FRAME, alias = const ALIAS,
        user_table = const isolation::user_table::<K>(), entry_stack = const ENTRY_STACK_TOP,
        iret = sym iret_to_user,
    )
}
