//! From the PVH entry point to the first program.
//!
//! `entry` (assembly) → `boot_main` here → `pvh` (what the loader says) → `paging` (the kernel's page tables) →
//! `memory` → `apic`, `time` → `smp` (the other processors, which come in by `entry` too) → `fs`, `task`.

use core::fmt::Write;

use x86_64::instructions::{interrupts, port::Port};

use crate::machine::{cpu, time};
use crate::work::trace_points;
use crate::{fs, memory, task};

pub mod entry;
#[cfg(feature = "bench-floor")]
mod floor;
pub mod paging;
pub mod pvh;
pub mod smp;

pub use pvh::{cmdline, initramfs};

/// The boot processor's first Rust: on the boot stack, on `entry`'s page tables, interrupts off.
extern "C" fn boot_main(start_info: u64) -> ! {
    // SAFETY: the first thing on this processor.
    let cpu = unsafe { cpu::adopt(0) };
    #[cfg(feature = "bench-floor")]
    floor::open();
    // SAFETY: `entry` passes what the loader passed, and `entry`'s page tables map the first GiB.
    unsafe { pvh::parse(start_info) };
    crate::machine::log::init(cmdline("machine-log"));
    // SAFETY: nothing has been allocated.
    let (cr3, tables) = unsafe { paging::init(pvh::info()) };
    memory::frames::init(pvh::info().ram(), &paging::reserved(pvh::info(), tables));
    crate::machine::apic::init_cpu();
    crate::machine::apic::init_lines();
    time::init();
    cpu::set_online(cpu);
    crate::sched::scheduler::init_cpu();
    smp::start(cr3);
    crate::life::vdso::init();
    ::log::info!("{} CPUs, {} MiB free", cpu::count(), memory::frames::free_bytes() >> 20);
    fs::init(initramfs());
    trace_points::start();
    task::start_init();
    crate::sched::scheduler::idle()
}

/// This processor's local APIC identity.
pub fn apic_id() -> u32 {
    let cpuid = raw_cpuid::CpuId::new();
    cpuid.get_feature_info().map_or(0, |info| u32::from(info.initial_local_apic_id()))
}

/// What QEMU's isa-debug-exit makes 33 of.
const EXIT_ORDERLY: u32 = 0x10;
/// What QEMU's isa-debug-exit makes 35 of.
const EXIT_PANIC: u32 = 0x11;

/// The first program has ended with `exit_code`: says so on the log port and turns the machine off.
pub fn shutdown(exit_code: i32) -> ! {
    interrupts::disable();
    let mut port = crate::machine::log::close();
    trace_points::tell(&mut port);
    let _ = writeln!(port, "exit: {exit_code}");
    power_off(EXIT_ORDERLY)
}

/// The machine cannot run anything, for a reason that the log tells: turns it off, as failed.
pub fn give_up() -> ! {
    interrupts::disable();
    power_off(EXIT_PANIC)
}

/// The end of a panic: the marker line, and the machine off.
pub fn shutdown_after_panic() -> ! {
    let _ = writeln!(crate::machine::log::DebugPort, "panic");
    power_off(EXIT_PANIC)
}

fn power_off(code: u32) -> ! {
    // SAFETY: isa-debug-exit ends QEMU; on a machine without it nobody listens.
    unsafe { Port::<u32>::new(0xf4).write(code) };
    // Without that device: a triple fault, which resets the machine (QEMU with -no-reboot ends).
    let no_vectors = x86_64::structures::DescriptorTablePointer { limit: 0, base: x86_64::VirtAddr::zero() };
    // SAFETY: nothing runs on this processor after this.
    unsafe {
        x86_64::instructions::tables::lidt(&no_vectors);
        core::arch::asm!("ud2", options(noreturn));
    }
}
