//! What a small x86-64 kernel needs before its first line and is not its gate. A kernel may use it and leave it: nothing of the
//! library `portcullis-gate` depends on it, and it does not depend on the library.
//!
//! | you want to … | look in … |
//! | --- | --- |
//! | boot by PVH, `qemu-system-x86_64 -M microvm -kernel` or `-M q35` | [`entry!`]; `boot.s`, `portcullis-boot.ld` |
//! | map memory for user mode | [`memory`] |
//! | print to the first serial port | [`print!`], [`console`] |
//! | have a timer, acknowledge and send interrupts | [`lapic`] |
//! | start the other CPUs | [`smp`] |
//! | end QEMU | [`exit`] |
//!
//! The image is linked into the top 2 GiB by the script of this crate. Two files beside the kernel's sources ask for that:
//!
//! ```toml
//! # .cargo/config.toml
//! [build]
//! target = "x86_64-unknown-none"
//!
//! [target.x86_64-unknown-none]
//! rustflags = [
//!   "-C", "linker=ld", "-C", "linker-flavor=ld",
//!   "-C", "relocation-model=static", "-C", "code-model=kernel",
//!   "-C", "link-arg=-Tportcullis-boot.ld", "-C", "link-arg=--no-pie",
//!   "-C", "link-arg=-z", "-C", "link-arg=max-page-size=4096",
//! ]
//! ```
//!
//! ```toml
//! # Cargo.toml: the target has no unwinding.
//! [profile.dev]
//! panic = "abort"
//! [profile.release]
//! panic = "abort"
//! ```
//!
//! and the smallest kernel is
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//!
//! portcullis_boot::entry!(start);
//!
//! fn start() -> ! {
//!     portcullis_boot::println!("hello");
//!     portcullis_boot::exit(portcullis_boot::SUCCESS)
//! }
//!
//! portcullis_boot::panic_handler!();
//! ```

#![no_std]

pub mod console;
pub mod lapic;
pub mod memory;
pub mod smp;

use core::arch::global_asm;
use core::mem::offset_of;

use x86_64::instructions::port::Port;

use memory::KERNEL_BASE;
use smp::{HANDOVER, Handover, secondary};

global_asm!(
    include_str!("boot.s"),
    base = const KERNEL_BASE as i64,
    handover = sym HANDOVER,
    ticket = const offset_of!(Handover, ticket),
    count = const offset_of!(Handover, count),
    stacks = const offset_of!(Handover, stacks),
    stack_size = const offset_of!(Handover, stack_size),
    secondary = sym secondary,
    options(att_syntax)
);

/// Names the kernel's first function, `fn() -> !`. It is called once, on the boot CPU: 64-bit mode, interrupts off, on a stack of
/// 16 KiB, with the serial port and the local APIC set up and the old interrupt controllers masked.
#[macro_export]
macro_rules! entry {
    ($start:path) => {
        const _: () = {
            #[unsafe(export_name = "portcullis_boot_start")]
            extern "C" fn from_boot_assembly() -> ! {
                let start: fn() -> ! = $start;
                $crate::begin(start)
            }
        };
    };
}

/// Makes a panic print what happened, and end QEMU with the exit status of [`FAILURE`].
#[macro_export]
macro_rules! panic_handler {
    () => {
        #[panic_handler]
        fn panic(info: &::core::panic::PanicInfo) -> ! {
            $crate::println!("kernel: {info}");
            $crate::exit($crate::FAILURE)
        }
    };
}

/// Sets the devices up and calls `start`. For [`entry!`].
#[doc(hidden)]
pub fn begin(start: fn() -> !) -> ! {
    // SAFETY: the interrupt masks of both 8259s. Where there are none, nobody listens.
    unsafe {
        Port::<u8>::new(0x21).write(0xff);
        Port::<u8>::new(0xa1).write(0xff);
    }
    console::init();
    smp::init(0);
    start()
}

/// For [`exit`]: all is well. QEMU's exit status is 33.
pub const SUCCESS: u8 = 0x10;
/// For [`exit`]: something went wrong. QEMU's exit status is 35.
pub const FAILURE: u8 = 0x11;

/// Ends QEMU with the exit status `2 * code + 1`, by the device `-device isa-debug-exit,iobase=0xf4,iosize=4`. On a machine without it
/// the CPU stops here.
pub fn exit(code: u8) -> ! {
    // SAFETY: ends QEMU; where there is no such device, nobody listens.
    unsafe { Port::<u8>::new(0xf4).write(code) };
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
