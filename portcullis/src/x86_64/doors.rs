//! What a kernel does with the exceptions and interrupts that the doors bring in.

use crate::kernel::{Broken, Kernel};
use crate::state::{InInterrupt, InKernel, Interrupted, Nmi};

use super::cpu;
use super::regs::{UserRegs, flags};
use super::sysret::WayOut;

/// An exception, as the CPU reported it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    /// The vector, 0 to 31 (SDM volume 3, table 6-1).
    pub vector: u8,
    /// The error code, 0 for exceptions that have none.
    pub error: u64,
    /// For #PF the address that was accessed (CR2), for #DB why it came (DR6, with the bits inverted that read as 1
    /// when nothing happened), otherwise 0.
    pub address: u64,
}

#[allow(missing_docs, reason = "the vectors by their names")]
impl Exception {
    pub const DE: u8 = 0;
    pub const DB: u8 = 1;
    pub const NMI: u8 = 2;
    pub const BP: u8 = 3;
    pub const OF: u8 = 4;
    pub const BR: u8 = 5;
    pub const UD: u8 = 6;
    pub const NM: u8 = 7;
    pub const DF: u8 = 8;
    pub const TS: u8 = 10;
    pub const NP: u8 = 11;
    pub const SS: u8 = 12;
    pub const GP: u8 = 13;
    pub const PF: u8 = 14;
    pub const MF: u8 = 16;
    pub const AC: u8 = 17;
    pub const MC: u8 = 18;
    pub const XM: u8 = 19;
    pub const VE: u8 = 20;
    pub const CP: u8 = 21;
    pub const HV: u8 = 28;
    pub const VC: u8 = 29;
    pub const SX: u8 = 30;

    /// The vectors whose exceptions push an error code (SDM volume 3, table 6-1; APM volume 2, 8.2 for 29 and 30).
    pub const WITH_ERROR_CODE: u32 = 1 << Self::DF
        | 1 << Self::TS
        | 1 << Self::NP
        | 1 << Self::SS
        | 1 << Self::GP
        | 1 << Self::PF
        | 1 << Self::AC
        | 1 << Self::CP
        | 1 << Self::VC
        | 1 << Self::SX;
}

/// A kernel behind the x86-64 doors.
pub trait Doors: Kernel<Regs = UserRegs> {
    /// The width of the user's half of the address space: 47, or 56 for a kernel that uses 5-level paging.
    const USER_ADDRESS_BITS: u32 = 47;

    /// Whether the 32-bit doors are open ([`compat`](super::compat)): INT 0x80, SYSENTER, and SYSCALL from compatibility
    /// mode. Where they are closed, the first two are faults and the third fails with -ENOSYS.
    const IA32_EMULATION: bool = false;

    /// Whether user mode runs on a page table of its own, which maps next to nothing of the kernel, so that no CPU can be made
    /// to tell user mode what the kernel's memory holds (CVE-2017-5754, "Meltdown"). Where it is off, nothing of it is in the
    /// doors. What the kernel owes where it is on: [`isolation`](super::isolation).
    const PAGE_TABLE_ISOLATION: bool = false;

    /// Where the current program goes on after SYSENTER and 32-bit SYSCALL: behind the INT 0x80 of its vDSO
    /// (`int80_landing_pad`), or 0 if it has none, which is no good place to go. Interrupts off. Below 4 GiB.
    #[inline(always)]
    fn int80_landing_pad() -> u64 {
        0
    }

    /// Reads the word at `address` in user memory; none if that cannot be. Interrupts on, may sleep.
    fn user_word(_at: &mut InKernel<'_, UserRegs>, _address: u32) -> Option<u32> {
        None
    }

    /// An exception in user mode. Interrupts on, may sleep; whatever signal it raises is delivered on the way out.
    ///
    /// A fault of the IRET that was to enter user mode comes here too, with the registers that it was to load.
    fn user_exception(at: &mut InKernel<'_, UserRegs>, exception: Exception);

    /// An exception in the kernel: a page fault on user memory, an instruction in the exception table, or a bug. Interrupts
    /// off, on the stack that was hit.
    fn kernel_exception(at: &mut Interrupted<'_, UserRegs>, exception: Exception);

    /// A device interrupt or inter-processor interrupt, vectors 32 to 255. Interrupts off, IRQ stack. The handler
    /// acknowledges it.
    fn interrupt(at: &mut InInterrupt<'_, UserRegs>, vector: u8);

    /// Which way out was chosen, each time: for tests and tracing. Interrupts off, context USER: nothing but this CPU's own
    /// memory may be touched.
    #[inline(always)]
    fn leaving_by(_way: WayOut) {}

    /// A debug exception in the kernel, on its own stack. The default lets a single step that came in by a door go:
    /// TF is cleared and the kernel goes on. The CPU has cleared DEBUGCTL.BTF: a kernel that lets user mode step from branch to branch
    /// sets it again.
    fn kernel_debug(at: &mut Nmi<'_, UserRegs>, _why: u64) {
        at.regs().rflags &= !flags::TF;
    }

    /// A machine check. If it hit user mode, on the thread stack; otherwise on its own. A handler that goes on clears
    /// MCG_STATUS as the last thing that it does: until then another machine check shuts the CPU down (SDM volume 3, 16.3.1.2),
    /// so that the handler is never entered while it runs.
    fn machine_check(at: &mut Nmi<'_, UserRegs>);

    /// A double fault, on its own stack: an exception could not be delivered, mostly because the kernel stack is used
    /// up. `address` is CR2. There is no way back.
    fn double_fault(regs: &UserRegs, address: u64) -> !;
}

/// What the doors' Rust halves check first, with debug assertions: no flag of the user's steers the kernel. AC does so
/// with SMAP only; without it nothing clears it at exceptions, and nothing needs to.
#[inline(always)]
pub(super) fn check_flags<K: Kernel>() {
    if cfg!(debug_assertions) {
        let now = cpu::rflags();
        let steered = now & (flags::TF | flags::DF | flags::NT) != 0;
        if steered || (now & flags::AC != 0 && cpu::smap_is_on()) {
            K::invariant_broken(Broken::UserFlagsInKernel);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::state::InSyscall;
    use crate::x86_64::{PerCpuContext, Rflags};

    /// A kernel that does nothing, for tests of the doors' code.
    pub struct Nothing;

    impl Kernel for Nothing {
        type Regs = UserRegs;
        type Irqs = Rflags;
        type Context = PerCpuContext;
        fn exit_work() -> usize {
            0
        }
        fn syscall_work() -> usize {
            0
        }
        fn syscall(_: &mut InSyscall<'_, UserRegs>, _: i64) {}
        fn preempt_count() -> usize {
            0
        }
    }

    impl Doors for Nothing {
        fn user_exception(_: &mut InKernel<'_, UserRegs>, _: Exception) {}
        fn kernel_exception(_: &mut Interrupted<'_, UserRegs>, _: Exception) {}
        fn interrupt(_: &mut InInterrupt<'_, UserRegs>, _: u8) {}
        fn machine_check(_: &mut Nmi<'_, UserRegs>) {}
        fn double_fault(_: &UserRegs, _: u64) -> ! {
            unreachable!()
        }
    }
}
