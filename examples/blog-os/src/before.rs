//! The kernel before: exceptions and interrupts by the `x86_64` crate's tables, no user mode.
#![no_std]
#![no_main]
#![feature(abi_x86_interrupt)]

mod devices;
mod interrupts;
mod serial;

use bootloader_api::{BootInfo, BootloaderConfig, entry_point};

static CONFIG: BootloaderConfig = BootloaderConfig::new_default();
entry_point!(kernel_main, config = &CONFIG);

fn kernel_main(_: &'static mut BootInfo) -> ! {
    println!("kernel: hello");
    interrupts::init();
    devices::init();
    x86_64::instructions::interrupts::int3();
    devices::wait_for_ticks(3);
    devices::exit(0x10)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    println!("kernel: {info}");
    devices::exit(0x11)
}
