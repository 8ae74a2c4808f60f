//! Whether events are delivered by FRED, and what its frames hold: for the doors that both ways of delivery have in common. The entry
//! points are in [`fred`](super::fred).

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::cpu::{msr, wrmsr};
use super::doors::{Doors, Exception};
use super::regs::SavedRegs;
use super::tables::{KERNEL_CS, KERNEL_DS};

/// Between the registers and the end of the CPU's frame: the event data, and a word that is not used.
const ABOVE_REGS: u64 = 16;

/// The CPU aligns its frames to this.
const ALIGNMENT: u64 = 64;

/// Whether this kernel's CPUs deliver events by FRED. By its name it is known to [`enter_user_mode`](super::enter_user_mode).
#[unsafe(export_name = "portcullis_fred_is_on")]
pub(super) static ON: AtomicBool = AtomicBool::new(false);

/// Whether events are delivered by FRED: after the first [`init_cpu`](super::init_cpu) of a kernel with [`Doors::FRED`], on CPUs that
/// have it.
pub fn is_on() -> bool {
    ON.load(Relaxed)
}

/// The same, false at compile time in other kernels.
#[inline(always)]
pub(super) fn is_on_for<K: Doors>() -> bool {
    K::FRED && is_on()
}

/// The highest top of a thread stack in memory that ends at `end`, a multiple of 16: what [`init_cpu`](super::init_cpu) and
/// [`CpuLocal::switch_to`](super::CpuLocal::switch_to) take. With [`Doors::FRED`] the CPU puts two more words above the registers.
#[inline(always)]
pub const fn thread_stack_top<K: Doors>(end: u64) -> u64 {
    if K::FRED { (end & !(ALIGNMENT - 1)) - ABOVE_REGS } else { end }
}

/// The event data of the frame of which `regs` are part.
///
/// # Safety
/// The CPU has pushed them by FRED.
#[inline(always)]
pub(super) unsafe fn event_data(regs: *const SavedRegs) -> u64 {
    // SAFETY: the caller's.
    unsafe { regs.add(1).cast::<u64>().read() }
}

/// The exception that came in with `regs`.
///
/// # Safety
/// As [`event_data`].
pub(super) unsafe fn report(vector: u8, error: u64, regs: *const SavedRegs) -> Exception {
    let cause = match vector {
        // SAFETY: the caller's.
        Exception::PF | Exception::DB => unsafe { event_data(regs) },
        _ => 0,
    };
    Exception { vector, error, cause }
}

/// Unblocks NMIs: an ERETS to the next instruction.
pub(super) fn unblock_nmis() {
    /// In SS: NMIs are unblocked.
    const NMI: u64 = 1 << 18;
    // SAFETY: the frame holds the current stack, flags and segments, and stack level 0, on which an NMI from user mode is; execution
    // continues at 2 with them.
    unsafe {
        asm!(
            "mov {old}, rsp",
            "and rsp, -64",
            "push 0; push 0",
            "push {ss}; push {old}; pushfq; push {cs}",
            "lea {old}, [rip + 2f]; push {old}",
            "push 0",
            "erets",
            "2:",
            old = out(reg) _,
            ss = in(reg) u64::from(KERNEL_DS) | NMI,
            cs = const KERNEL_CS,
            options(preserves_flags),
        );
    }
}

/// Where the CPU finds the stack of the next event from user mode.
///
/// # Safety
/// FRED is on, or about to be; the thread stack ends there.
#[inline(always)]
pub(super) unsafe fn set_thread_stack(top: u64) {
    debug_assert!((top + ABOVE_REGS).is_multiple_of(ALIGNMENT), "see `fred::thread_stack_top`");
    // SAFETY: the caller's.
    unsafe { wrmsr(msr::FRED_RSP0, top + ABOVE_REGS) };
}
