//! From the loader's entry point to the first program.
//!
//! [`entry`] (assembly) → `boot_main` here → what the loader says ([`loader`](crate::machine::loader)) → the kernel's page tables
//! ([`boot_tables`](crate::memory::boot_tables)), frames → the firmware's tables, local APIC, clocks → what lower layers call of upper
//! ones ([`callbacks`]) → the scheduler → the other processors ([`smp`], which come in by [`entry`] too) → files → the first program
//! ([`life`]).

use crate::machine::{cpu, time};
use crate::task::personality;
use crate::work::trace_points;
use crate::{fs, life, machine, memory};

mod callbacks;
mod devices;
pub mod entry;
#[cfg(feature = "bench-floor")]
mod floor;
mod handover;
pub mod smp;

pub use crate::machine::loader::{cmdline, initramfs};

/// The boot processor's first Rust: on the boot stack, on `entry`'s page tables, interrupts off.
extern "C" fn boot_main(information: u64, magic: u32) -> ! {
    // SAFETY: the first thing on this processor.
    let cpu = unsafe { cpu::adopt(0) };
    #[cfg(feature = "bench-floor")]
    floor::open();
    // SAFETY: `entry` passes what the loader passed, and `entry`'s page tables map the first GiB.
    unsafe { crate::machine::loader::parse(information, magic) };
    crate::machine::log::init(cmdline("machine-log"));
    assert!(
        !cfg!(feature = "fred") || portcullis::x86_64::fred::is_on(),
        "this kernel is built for FRED, and the CPU has none (CPUID 7.1, EAX, bits 17 and 18)"
    );
    if cmdline("user-mode") == Some("tracked") {
        // SAFETY: this processor's `init_cpu` was called in `adopt`, there is no other one yet, and `entry`'s page tables map the text.
        unsafe { portcullis::x86_64::track_user_mode() };
    }
    // SAFETY: nothing has been allocated.
    let (cr3, tables) = unsafe { crate::memory::boot_tables::init(crate::machine::loader::info()) };
    // The tables in use are the kernel's own now, and only now for certain.
    memory::vmalloc::kernel_pgd();
    let info = crate::machine::loader::info();
    let reserved = memory::boot_tables::reserved(info, tables);
    memory::pgd::init(memory::frames::init(info.ram(), &reserved, memory::pgd::share));
    let firmware = machine::acpi::read(memory::vmalloc::map_firmware);
    crate::machine::apic::init_cpu();
    crate::machine::apic::init_lines();
    time::init(firmware.pm_timer);
    cpu::set_online(cpu);
    callbacks::register();
    crate::sched::timer::init();
    smp::init_scheduler();
    smp::start(cr3, &firmware.apic_ids);
    crate::fs::vdso::init();
    ::log::info!("{} CPUs, {} MiB free", cpu::count(), memory::frames::free_bytes() >> 20);
    devices::register();
    fs::init(initramfs());
    if let Some(level) = cmdline("sysctl.kernel.randomize_va_space") {
        personality::set_randomize_va_space(level.parse().expect("kernel.randomize_va_space is a number"));
    }
    trace_points::start();
    life::start_init();
    crate::sched::scheduler::idle()
}
