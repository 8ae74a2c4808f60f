//! Exceptions and interrupts: 256 stubs, one door.

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::iret_to_user;
use super::asm::{clac, cld, clear_regs, kernel_table, leave_entry_stack, lfence, pop_regs, push_regs};
use super::cpu;
use super::doors::{Doors, Exception, check_flags};
use super::irq_stack::on_irq_stack;
use super::isolation::user_table;
use super::local::CpuLocal;
use super::nmi_handler;
use super::regs::UserRegs;
use super::sysret::WayOut;
use super::way_out::leave_by_iret;
use crate::state::{Arrived, Interrupted};
use crate::trace::Event;

/// The first vector that is not an exception.
pub const FIRST_INTERRUPT: u8 = 32;

/// The distance between two stubs.
pub(super) const STUB_SIZE: usize = 16;

/// The stubs of all vectors, [`STUB_SIZE`] bytes apart. IDT entries point into this, but for #DB, NMI, #DF and #MC.
///
/// A stub makes all entries alike: an error code, RDI saved, and the vector in EDI.
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
        size = const STUB_SIZE,
        with_error = const Exception::WITH_ERROR_CODE,
        entry = sym entry::<K>,
    )
}

/// Where vector 0's stub is: the function that holds them need not be aligned itself.
pub(super) fn first_stub<K: Doors>() -> u64 {
    (stubs::<K> as *const () as u64).next_multiple_of(STUB_SIZE as u64)
}

/// The door of all exceptions and interrupts.
///
/// ```text
///   in:   EDI the vector, GS, flags and all other registers as they were, interrupts off
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
unsafe extern "C" fn entry<K: Doors>() {
    naked_asm!(
        cld!(),
        clac!(),
        "test byte ptr [rsp + 3 * 8], 3",
        "jz {from_kernel}",
        "swapgs",
        // The SWAPGS is conditional: without the fence the CPU may run ahead with the user's GS.
        lfence!(),
        leave_entry_stack!(frame and stub),
        "jmp {from_user}",
        user_table = const user_table::<K>(),
        thread_stack = const CpuLocal::THREAD_STACK,
        from_kernel = sym from_kernel::<K>,
        from_user = sym from_user::<K>,
    )
}

/// From user mode: as [`entry`], and GS is the kernel's, the stack the thread's. Also where the IST doors go on when
/// they came from user mode.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn from_user<K: Doors>() {
    naked_asm!(
        push_regs!(),
        clear_regs!(),
        "mov esi, edi",
        "mov rdi, rsp",
        "mov rdx, [rsp + {orig_rax}]",
        "mov qword ptr [rsp + {orig_rax}], -1",
        "sub rsp, 8",
        "call {arrived}",
        "add rsp, 8",
        "jmp {leave}",
        orig_rax = const offset_of!(UserRegs, orig_rax),
        arrived = sym arrived::<K>,
        leave = sym leave_by_iret::<K>,
    )
}

/// From the kernel: as [`entry`].
///
/// If the IRET that was to enter user mode faulted, the kernel was hit, but in the user's name: GS is the user's already,
/// and so are all registers, and the page table. That becomes an arrival from user mode, with the frame that IRET could not load.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
unsafe extern "C" fn from_kernel<K: Doors>() {
    naked_asm!(
        lfence!(),
        push_regs!(),
        clear_regs!(),
        "lea rax, [rip + {iret_to_user}]",
        "cmp [rsp + {rip}], rax",
        "je 2f",
        "mov esi, edi",
        "mov rdi, rsp",
        "mov rdx, [rsp + {orig_rax}]",
        "mov qword ptr [rsp + {orig_rax}], -1",
        "sub rsp, 8",
        "call {interrupted}",
        "add rsp, 8",
        pop_regs!(),
        "iretq",
        // The bad IRET.
        "2:",
        "swapgs",
        lfence!(),
        kernel_table!("rax"),
        "mov ebx, edi",
        "mov rdi, rsp",
        ".if {user_table}",
        // Below what is about to be put there.
        "mov rsp, gs:[{thread_stack}]",
        "sub rsp, {size}",
        ".endif",
        "sub rsp, 8",
        "call {move_to_bad_iret}",
        "mov rsp, rax",
        "mov esi, ebx",
        "mov rdi, rsp",
        "mov rdx, [rsp + {orig_rax}]",
        "mov qword ptr [rsp + {orig_rax}], -1",
        "sub rsp, 8",
        "call {arrived}",
        "add rsp, 8",
        "jmp {leave}",
        user_table = const user_table::<K>(),
        thread_stack = const CpuLocal::THREAD_STACK,
        size = const UserRegs::SIZE,
        iret_to_user = sym iret_to_user,
        rip = const offset_of!(UserRegs, rip),
        orig_rax = const offset_of!(UserRegs, orig_rax),
        interrupted = sym interrupted::<K>,
        move_to_bad_iret = sym move_to_bad_iret::<K>,
        arrived = sym arrived::<K>,
        leave = sym leave_by_iret::<K>,
    )
}

/// The IRET at [`iret_to_user`] faulted. Moves the general registers and the error code of that fault, which
/// lie somewhat below, to the frame that IRET could not load: together they are the user's whole registers again, at
/// the top of the thread stack.
///
/// # Safety
/// Called by [`from_kernel`] only: `fault` is what it saved, and its `rsp` points to IRET's frame.
unsafe extern "C" fn move_to_bad_iret<K: Doors>(fault: *mut UserRegs) -> *mut UserRegs {
    let words = offset_of!(UserRegs, rip) / 8;
    if K::PAGE_TABLE_ISOLATION {
        // SAFETY: `fault` and IRET's frame are on the entry stack; nothing is left on the thread stack, and this runs below
        // what is put there.
        unsafe {
            let frame = (*fault).rsp as *const u64;
            let user = (CpuLocal::this().thread_stack as *mut u8).sub(UserRegs::SIZE);
            core::ptr::copy_nonoverlapping(fault.cast::<u64>(), user.cast::<u64>(), words);
            core::ptr::copy_nonoverlapping(frame, user.cast::<u64>().add(words), UserRegs::SIZE / 8 - words);
            return user.cast();
        }
    }
    // SAFETY: IRET's five words are the top of the thread stack, and above `fault`; the regions may overlap.
    unsafe {
        let user = ((*fault).rsp as *mut u8)
            .sub(offset_of!(UserRegs, rip))
            .cast::<UserRegs>();
        core::ptr::copy(fault.cast::<u64>(), user.cast::<u64>(), words);
        user
    }
}

/// The Rust half for what hit user mode.
///
/// # Safety
/// Called by the doors only.
pub(super) unsafe extern "C" fn arrived<K: Doors>(regs: &mut UserRegs, vector: u32, error: u64) -> WayOut {
    // SAFETY: the door has just come in from user mode, interrupts are off, and `regs` are what it saved.
    let mut arrived = unsafe { Arrived::enter_from_user_mode::<K>(regs) };
    check_flags::<K>();
    K::trace(Event::Vector, vector.into());
    let vector = vector as u8;
    let leaving = match vector {
        FIRST_INTERRUPT.. => {
            on_irq_stack(|| K::interrupt(&mut arrived.in_interrupt(), vector));
            arrived.handled()
        }
        Exception::NMI => {
            nmi_handler::run::<K>(&mut arrived.as_nmi());
            // The exit work may switch to another task, which would run with NMIs blocked until its next IRET.
            nmi_handler::unblock();
            arrived.handled()
        }
        Exception::MC => {
            K::machine_check(&mut arrived.as_nmi());
            arrived.handled()
        }
        _ => {
            // Read before interrupts are on, which may bring another fault.
            let exception = Exception {
                vector,
                error,
                address: address(vector),
            };
            let mut at = arrived.irqs_on::<K>();
            K::user_exception(&mut at, exception);
            at.irqs_off::<K>()
        }
    };
    let way = leaving.exit_to_user_mode::<K>().iret();
    K::leaving_by(way);
    way
}

/// The Rust half for what hit the kernel.
///
/// # Safety
/// Called by the doors only.
unsafe extern "C" fn interrupted<K: Doors>(regs: &mut UserRegs, vector: u32, error: u64) {
    // SAFETY: the door has just come in from the kernel, interrupts are off, and `regs` are what it saved.
    let (mut interrupted, saved) = unsafe { Interrupted::enter_from_kernel::<K>(regs) };
    K::trace(Event::Vector, vector.into());
    let vector = vector as u8;
    if vector >= FIRST_INTERRUPT {
        on_irq_stack(|| K::interrupt(&mut interrupted.in_interrupt(), vector));
    } else {
        K::kernel_exception(
            &mut interrupted,
            Exception {
                vector,
                error,
                address: address(vector),
            },
        );
    }
    if !CpuLocal::this().in_irq() {
        interrupted.exit_to_kernel::<K>(saved);
    } else {
        // On the IRQ stack: no other task may run before the outer handler is done.
        interrupted.exit_to_handler::<K>(saved);
    }
}

/// What [`Exception::address`] holds.
#[inline(always)]
fn address(vector: u8) -> u64 {
    match vector {
        Exception::PF => cpu::cr2(),
        Exception::DB => cpu::take_dr6(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86_64::doors::tests::Nothing;

    /// The first bytes of a vector's stub.
    fn stub(vector: usize) -> [u8; 3] {
        let start = first_stub::<Nothing>() as usize;
        // SAFETY: the stubs are 256 times `STUB_SIZE` bytes of readable code.
        unsafe { *((start + vector * STUB_SIZE) as *const [u8; 3]) }
    }

    #[test]
    fn stubs_make_room_for_an_error_code_exactly_where_the_cpu_pushes_none() {
        const PUSH_0: [u8; 2] = [0x6a, 0x00];
        const PUSH_RDI: u8 = 0x57;
        for vector in 0..256 {
            let cpu_pushes = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30].contains(&vector);
            let stub = stub(vector);
            if cpu_pushes {
                assert_eq!(stub[0], PUSH_RDI, "vector {vector}");
            } else {
                assert_eq!(stub, [PUSH_0[0], PUSH_0[1], PUSH_RDI], "vector {vector}");
            }
        }
    }
}
