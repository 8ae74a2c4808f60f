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
pub mod doors;
mod espfix;
pub mod exception;
pub mod extable;
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
