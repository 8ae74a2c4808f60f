//! The kernel after: the doors are the library's, and there is user mode.
#![no_std]
#![no_main]

mod devices;
mod doors;
mod memory;
mod serial;
mod user;

use bootloader_api::config::Mapping;
use bootloader_api::{BootInfo, BootloaderConfig, entry_point};
use memory::BootInfoFrameAllocator;
use x86_64::VirtAddr;

static CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::Dynamic);
    config.mappings.dynamic_range_start = Some(0xffff_8000_0000_0000);
    config
};
entry_point!(kernel_main, config = &CONFIG);

fn kernel_main(info: &'static mut BootInfo) -> ! {
    println!("kernel: hello");
    doors::init();
    devices::init();
    x86_64::instructions::interrupts::int3();
    devices::wait_for_ticks(3);

    let offset = VirtAddr::new(info.physical_memory_offset.into_option().expect("CONFIG asks for it"));
    // SAFETY: the bootloader has mapped all memory there, and uses no frame that it calls usable. Once.
    let (mut tables, mut frames) = unsafe { (memory::init(offset), BootInfoFrameAllocator::new(&info.memory_regions)) };
    user::map(&mut tables, &mut frames);
    user::enter()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    println!("kernel: {info}");
    devices::exit(0x11)
}
