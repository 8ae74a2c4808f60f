//! The doors of x86-64, and what sets a CPU up for them.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`doors`] | the [table](doors::TABLE) of the doors; [`Doors`]: what a kernel does with what they bring in |
//! | [`syscall64`] | 64-bit SYSCALL, and a task's first way out |
//! | [`syscall32`] | the 32-bit doors: INT 0x80, SYSENTER, SYSCALL from compatibility mode |
//! | [`exception`] | exceptions and interrupts, from user mode and from the kernel |
//! | [`paranoid`] | #DB, #MC and #DF on stacks of their own |
//! | [`nmi`] | NMIs, nested ones included |
//! | [`sysret`] | which way out: SYSRET or IRET |
//! | `way_out` | the last instructions before user mode |
//! | `bad_iret` | the IRET that enters user mode, and what happens if it faults |
//! | `espfix` | the way out to a 16-bit stack |
//! | [`fred`] | both ways by FRED, in the place of all doors, for kernels that want it and CPUs that have it |
//! | `delivery` | whether events are delivered by FRED, and what its frames hold |
//! | [`isolation`] | the user's own page table, for kernels that want one |
//! | [`regs`] | [`UserRegs`] and [`SavedRegs`]: what the doors save, in the order of Linux's `pt_regs` |
//! | [`local`] | [`CpuLocal`]: the library's part of the per-CPU area, at GS:0 |
//! | [`halt`] | the idle loop's halt |
//! | `irq_stack` | handlers on the IRQ stack |
//! | [`extable`] | instructions that may fault, and where to continue |
//! | `alternatives` | instructions that are patched in at boot if the CPU has or needs them, or the kernel asks for them |
//! | `buffers` | whether VERW is needed |
//! | [`segments`] | segment registers, descriptors and I/O ports of the user's choice |
//! | [`tables`], `idt`, [`init`] | GDT, TSS, IDT, MSRs and control registers from one description |
//! | [`cpu`] | the privileged instructions that these need, [`Rflags`] |
//!
//! A door from user mode switches GS and stack, saves a whole [`UserRegs`], clears the registers that the user filled, and calls
//! its Rust half, which returns a [`WayOut`]. The exception is 32-bit SYSCALL without 32-bit doors, which goes back at once.

mod alternatives;
mod asm;
mod bad_iret;
mod buffers;
pub mod cpu;
mod delivery;
pub mod doors;
mod espfix;
pub mod exception;
pub mod extable;
pub mod fred;
pub mod halt;
mod idt;
pub mod init;
mod irq_stack;
pub mod isolation;
pub mod local;
pub mod nmi;
pub mod paranoid;
pub mod regs;
pub mod segments;
pub mod syscall32;
pub mod syscall64;
pub mod sysret;
pub mod tables;
mod way_out;

pub use alternatives::track_user_mode;
pub use asm::{clac_asm, stac_asm};
pub use cpu::Rflags;
pub use doors::{Doors, Exception, Paging};
pub use init::{CpuDescription, init_cpu};
pub use local::{CpuLocal, PerCpuContext};
pub use regs::{SavedRegs, UserRegs};
pub use syscall64::first_way_out;
pub use sysret::WayOut;
pub use tables::Espfix;
pub use way_out::enter_user_mode;

/// Where the doors find things: for tools that read their code.
#[doc(hidden)]
pub mod layout {
    use core::mem::offset_of;

    use super::regs::UserRegs;
    use super::tables::{Espfix, IstStack, NmiStack, Tables};
    use super::{fred, local::CpuLocal, paranoid, tables};

    pub const USER_RSP: usize = CpuLocal::USER_RSP;
    pub const THREAD_STACK: usize = CpuLocal::THREAD_STACK;
    pub const TABLES: usize = CpuLocal::TABLES;
    pub const ENTRY_STACK_TOP: usize = tables::ENTRY_STACK_TOP;
    pub const ESPFIX_FRAME: usize = offset_of!(Tables, espfix) + offset_of!(Espfix, frame);
    pub const ESPFIX_ALIAS: usize = offset_of!(Tables, espfix) + offset_of!(Espfix, alias);
    /// From the top of an IST stack, where the first word above it is.
    pub const FSGSBASE: usize = paranoid::FSGSBASE - paranoid::CPU_LOCAL;
    /// The tops of the stacks of #DF, #DB, #MC and, the working one, of NMI.
    pub const DOUBLE_FAULT_TOP: usize = offset_of!(Tables, double_fault) + offset_of!(IstStack, cpu_local);
    pub const DEBUG_TOP: usize = offset_of!(Tables, debug) + offset_of!(IstStack, cpu_local);
    pub const MACHINE_CHECK_TOP: usize = offset_of!(Tables, machine_check) + offset_of!(IstStack, cpu_local);
    pub const NMI_WORK_TOP: usize = offset_of!(Tables, nmi) + offset_of!(NmiStack, cpu_local);
    pub const NMI_STATE: usize = offset_of!(Tables, nmi) + offset_of!(NmiStack, state);
    pub const NMI_ENTRY_TOP: usize = offset_of!(Tables, nmi) + offset_of!(NmiStack, entry_end);
    pub const REGS_SIZE: usize = UserRegs::SIZE;
    /// From FRED's entry point for user mode, which begins a page.
    pub const FRED_KERNEL_ENTRY: u64 = fred::KERNEL;
    pub const FRED_ERETU: u64 = fred::ERETU;
}
