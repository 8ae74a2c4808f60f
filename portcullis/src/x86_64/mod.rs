//! The doors of x86-64, and what sets a CPU up for them.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`regs`] | [`UserRegs`]: what every door saves, in Linux's `pt_regs` order |
//! | [`local`] | [`CpuLocal`]: the library's part of the per-CPU area, at GS:0 |
//! | [`doors`] | [`Doors`]: what a kernel does with exceptions and interrupts |
//! | [`syscall`] | 64-bit SYSCALL |
//! | [`compat`] | the 32-bit doors: INT 0x80, SYSENTER, SYSCALL from compatibility mode |
//! | [`exception`] | exceptions and interrupts, from user mode and from the kernel, through one table |
//! | [`paranoid`] | #DB, #MC and #DF on stacks of their own |
//! | [`nmi`] | NMIs, nested ones too |
//! | [`sysret`] | which way out: SYSRET or IRET |
//! | [`way_out`] | the last instructions before user mode |
//! | [`espfix`] | the way out to a 16-bit stack |
//! | [`isolation`] | the user's own page table, for kernels that want one |
//! | [`first`] | a task's first way out, after fork or at the start |
//! | [`user_context`] | the doors for kernels that are written as `loop { match user.run() { … } }` |
//! | [`halt`] | the idle loop's halt |
//! | [`irq_stack`] | handlers on the IRQ stack |
//! | [`extable`] | instructions that may fault, and where to go on |
//! | [`alternatives`] | instructions that are patched in at boot where the CPU has them |
//! | [`buffers`] | whether VERW is needed |
//! | [`segments`] | segment registers with selectors of the user's choice, and the tables these may name |
//! | [`tables`], [`idt`], [`init`] | GDT, TSS, IDT, MSRs and control registers from one description |
//! | [`cpu`] | the few privileged instructions that these need |
//!
//! Every door saves a whole [`UserRegs`], switches GS and stack, clears the registers that the user filled, and calls
//! its Rust half, which returns a [`WayOut`]. Only [`Cleared`](crate::Cleared) makes one.

mod asm;

pub mod alternatives;
pub mod buffers;
pub mod compat;
pub mod cpu;
pub mod doors;
pub mod espfix;
pub mod exception;
pub mod extable;
pub mod first;
pub mod halt;
pub mod host;
pub mod idt;
pub mod init;
pub mod irq_stack;
pub mod isolation;
pub mod local;
pub mod nmi;
mod nmi_handler;
pub mod paranoid;
pub mod regs;
pub mod segments;
pub mod syscall;
pub mod sysret;
pub mod tables;
pub mod user_context;
mod watch;
pub mod way_out;

pub use asm::{clac_asm, stac_asm};
pub use doors::{Doors, Exception};
pub use first::first_way_out;
pub use host::{PerCpuContext, Rflags};
pub use init::{CpuDescription, init_cpu};
pub use local::CpuLocal;
pub use regs::UserRegs;
pub use sysret::WayOut;
pub use tables::Espfix;
pub use user_context::{UserContext, UserLoop};
