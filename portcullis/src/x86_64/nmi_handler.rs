//! Around the kernel's NMI handler, wherever the NMI hit.

use core::sync::atomic::Ordering::Relaxed;

use super::doors::Doors;
use super::local::CpuLocal;
use super::regs::UserRegs;
use super::watch::Unwatched;
use crate::state::Nmi;

/// Runs the kernel's handler, with the depth raised.
pub(super) fn run<K: Doors>(at: &mut Nmi<'_, UserRegs>) {
    let _unwatched = Unwatched::new();
    let depth = &CpuLocal::this().nmi_depth;
    depth.store(depth.load(Relaxed) + 1, Relaxed);
    K::nmi(at);
    depth.store(depth.load(Relaxed) - 1, Relaxed);
}

/// Lets NMIs in again without leaving: an IRET to the next instruction.
pub(super) fn unblock() {
    // SAFETY: the frame is the current stack, flags and code segment; execution goes on at 2 with everything as it was.
    unsafe {
        core::arch::asm!(
            "mov {old}, rsp",
            "mov {sel:e}, ss",
            "push {sel}",
            "push {old}",
            "pushfq",
            "mov {sel:e}, cs",
            "push {sel}",
            "lea {sel}, [rip + 2f]",
            "push {sel}",
            "iretq",
            "2:",
            old = out(reg) _,
            sel = out(reg) _,
            options(preserves_flags),
        );
    }
}
