//! Exceptions and interrupts: 256 stubs, one door.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::{align_next, clac, cld, clear_regs, kernel_table, leave_entry_stack, lfence, pop_regs, push_regs};
use super::bad_iret::{iret_to_user, move_to_bad_iret};
use super::delivery;
use super::doors::{Doors, Exception, check_flags};
use super::irq_stack::on_irq_stack;
use super::isolation::user_table;
use super::local::CpuLocal;
use super::regs::{SavedRegs, UserRegs};
use super::sysret::WayOut;
use super::way_out::leave_by_iret;
use super::{cpu, nmi};
use crate::kernel::returned_anywhere;
use crate::state::{Arrived, Event, InInterrupt, Interrupted, NmiContext};
use crate::trace;

/// The first vector that is not an exception.
pub const FIRST_INTERRUPT: u8 = 32;

/// The distance between two stubs.
pub(super) const STUB_SIZE: usize = 16;

/// A stub for each vector, [`STUB_SIZE`] bytes apart. The IDT entries of the vectors with `Entry::Stub` in
/// [`TABLE`](super::doors::TABLE) point here: not those of #DB, NMI, #DF, #MC and, with `IA32_EMULATION`, INT 0x80.
///
/// A stub makes all entries alike: an error code, RDI saved, the vector in EDI.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
unsafe extern "C" fn stubs<K: Doors>() {
    naked_asm!(
        ".balign {size}",
        ".set portcullis_vector, 0",
        ".rept 256",
        ".balign {size}",
        ".if portcullis_vector >= 32 || (({with_error} >> (portcullis_vector & 31)) & 1) == 0",
        ".byte 0x6a, 0x00", // push 0
        ".endif",
        "push rdi",
        ".byte 0xbf", // mov edi, imm32
        ".long portcullis_vector",
        "jmp {entry}",
        ".set portcullis_vector, portcullis_vector + 1",
        ".endr",
        align_next!(),
        size = const STUB_SIZE,
        with_error = const Exception::WITH_ERROR_CODE,
        entry = sym stub_entry::<K>,
    )
}

/// Where vector 0's stub is: the function itself need not be aligned.
pub(super) fn first_stub<K: Doors>() -> u64 {
    (stubs::<K> as *const () as u64).next_multiple_of(STUB_SIZE as u64)
}

/// The door of the stubs.
///
/// ```text
///   in:   EDI the vector; GS, flags and all other registers as they were, interrupts off
///
///   from user mode: top of the thread stack (RSP0), with page-table isolation of the entry stack; from the kernel: the
///   stack that was hit, aligned
///     ss      +48
///     rsp     +40
///     rflags  +32
///     cs      +24
///     rip     +16
///     error   +8     becomes orig_rax
///     rdi     +0     ← rsp
/// ```
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
unsafe extern "C" fn stub_entry<K: Doors>() {
    naked_asm!(
        cld!(),
        clac!(),
        "test byte ptr [rsp + 3 * 8], 3",
        "jz {from_kernel}",
        "swapgs",
        lfence!(),
        leave_entry_stack!(frame and stub),
        "jmp {from_user}",
        align_next!(),
        user_table = const user_table::<K>(), thread_stack = const CpuLocal::THREAD_STACK,
        from_kernel = sym from_kernel::<K>,
        from_user = sym from_user::<K>,
    )
}

/// Calls a Rust half with the registers, the vector and the error code, in whose place `orig_rax` then says: no system call.
macro_rules! call_with_vector {
    ($vector:literal, $function:literal) => {
        concat!(
            "mov esi, ",
            $vector,
            "
            mov rdi, rsp
            mov rdx, [rsp + {orig_rax}]
            mov qword ptr [rsp + {orig_rax}], -1
            ",
            $crate::x86_64::asm::call!($function),
        )
    };
}

/// From user mode: as [`stub_entry`], with the kernel's GS, on the thread stack. The doors of #DB, NMI and #MC continue here if they
/// hit user mode.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn from_user<K: Doors>() {
    naked_asm!(
        push_regs!(),
        clear_regs!(),
        call_with_vector!("edi", "{arrived}"),
        "jmp {leave}",
        align_next!(),
        orig_rax = const offset_of!(UserRegs, orig_rax),
        arrived = sym arrived::<K>,
        leave = sym leave_by_iret::<K>,
    )
}

/// From the kernel: as [`stub_entry`]. A fault of the IRET that was to enter user mode becomes an arrival from user mode
/// ([`bad_iret`](super::bad_iret)).
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
unsafe extern "C" fn from_kernel<K: Doors>() {
    naked_asm!(
        lfence!(),
        push_regs!(),
        clear_regs!(),
        // Was it the IRET that enters user mode?
        "lea rax, [rip + {iret_to_user}]",
        "cmp [rsp + {rip}], rax",
        "je 2f",
        call_with_vector!("edi", "{interrupted}"),
        pop_regs!(),
        "iretq",
        // It was: GS and the page table are the user's.
        "2:",
        "swapgs",
        lfence!(),
        kernel_table!("rax"),
        "mov ebx, edi",
        "mov rdi, rsp",
        ".if {user_table}",
        // Off the entry stack, to below where the registers go.
        "mov rsp, gs:[{thread_stack}]",
        "sub rsp, {size}",
        ".endif",
        "sub rsp, 8",
        "call {move_to_bad_iret}",
        "mov rsp, rax",
        call_with_vector!("ebx", "{arrived}"),
        "jmp {leave}",
        align_next!(),
        user_table = const user_table::<K>(), thread_stack = const CpuLocal::THREAD_STACK,
        size = const UserRegs::SIZE,
        iret_to_user = sym iret_to_user,
        rip = const offset_of!(UserRegs, rip), orig_rax = const offset_of!(UserRegs, orig_rax),
        interrupted = sym interrupted::<K>,
        move_to_bad_iret = sym move_to_bad_iret::<K>,
        arrived = sym arrived::<K>,
        leave = sym leave_by_iret::<K>,
    )
}

/// The Rust half for what hit user mode.
///
/// # Safety
/// Called by the doors only.
pub(super) unsafe extern "C" fn arrived<K: Doors>(regs: &mut UserRegs, vector: u32, error: u64) -> WayOut {
    // SAFETY: the door has just come in from user mode, interrupts are off, and `regs` are what it saved.
    let mut arrived: Arrived<'_, K, Event> = unsafe { Arrived::enter_from_user_mode(regs) };
    check_flags::<K>();
    K::trace(trace::Event::Vector, vector.into());
    let vector = vector as u8;
    let leaving = match vector {
        FIRST_INTERRUPT.. => {
            on_irq_stack(|| interrupt::<K>(saved(&mut arrived), vector));
            arrived.handled()
        }
        Exception::NMI => {
            nmi::run::<K>(saved(&mut arrived));
            // Exit work may switch to another task, which would run with NMIs blocked until its next IRET.
            if delivery::is_on_for::<K>() {
                delivery::unblock_nmis();
            } else {
                nmi::unblock();
            }
            arrived.handled()
        }
        Exception::MC => {
            let mut at = NmiContext::new(saved(&mut arrived));
            at.handle("machine_check", K::machine_check);
            at.suspend();
            arrived.handled()
        }
        _ => {
            // CR2 and DR6 are read before interrupts are on: another exception may overwrite them.
            let exception = if delivery::is_on_for::<K>() {
                // SAFETY: FRED has delivered it.
                unsafe { delivery::report(vector, error, arrived.saved().as_saved()) }
            } else {
                report(vector, error)
            };
            let mut at = arrived.irqs_on();
            at.hook("user_exception", |at| K::user_exception(at, exception));
            at.irqs_off()
        }
    };
    leaving.exit_to_user_mode_prepare().iret()
}

/// The registers for a handler that also runs when the kernel was hit.
#[inline(always)]
fn saved<'a, K: Doors>(arrived: &'a mut Arrived<'_, K, Event>) -> &'a mut SavedRegs {
    // SAFETY: the handler's state gives write access by an unsafe function that says what may be written.
    unsafe { arrived.regs().as_saved_mut() }
}

/// Calls the kernel's handler of a device interrupt.
#[inline(always)]
fn interrupt<K: Doors>(regs: &mut SavedRegs, vector: u8) {
    let mut at = InInterrupt::new(regs);
    at.lend(|at| K::interrupt(at, vector));
    at.suspend();
    returned_anywhere::<K>("interrupt", false);
}

/// The Rust half for what hit the kernel.
///
/// # Safety
/// Called by the doors only.
pub(super) unsafe extern "C" fn interrupted<K: Doors>(regs: &mut SavedRegs, vector: u32, error: u64) {
    // SAFETY: the door has just come in from the kernel, interrupts are off, and `regs` are what it saved.
    let (mut interrupted, found) = unsafe { Interrupted::<K>::enter_from_kernel(regs) };
    K::trace(trace::Event::Vector, vector.into());
    let vector = vector as u8;
    if vector >= FIRST_INTERRUPT {
        // SAFETY: the handler's state gives write access by an unsafe function that says what may be written.
        on_irq_stack(|| interrupt::<K>(unsafe { interrupted.regs_mut() }, vector));
    } else {
        let exception = if delivery::is_on_for::<K>() {
            // SAFETY: FRED has delivered it.
            unsafe { delivery::report(vector, error, interrupted.saved()) }
        } else {
            report(vector, error)
        };
        interrupted.lend(|at| K::kernel_exception(at, exception));
        returned_anywhere::<K>("kernel_exception", false);
    }
    if !CpuLocal::this().in_irq() {
        interrupted.exit_to_kernel(found);
    } else {
        // It hit a handler on the IRQ stack: no other task may run before that is done.
        interrupted.exit_to_handler(found);
    }
}

/// The exception that has just come in.
#[inline(always)]
fn report(vector: u8, error: u64) -> Exception {
    let cause = match vector {
        Exception::PF => cpu::cr2(),
        Exception::DB => cpu::take_dr6(),
        _ => 0,
    };
    Exception { vector, error, cause }
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/exception.rs"]
mod tests;
