//! The other processors: started one after the other in the order of the firmware's list, and numbered so. The numbers have no
//! gaps; the local APIC ids may.

use core::hint::spin_loop;
use core::sync::atomic::Ordering;

use crate::boot::handover::{HANDOVER, TRAMPOLINE, ap_trampoline, ap_trampoline_end};
use crate::machine::cpu::MAX_CPUS;
use crate::machine::{apic, cpu, time};
use crate::memory::phys_to_virt;
use crate::memory::stack::KernelStack;
use crate::sched::scheduler;

/// Nanoseconds that a processor takes for an INIT (none in an emulator; Intel's 10 ms are for the 1990s).
const INIT_DELAY: u64 = 10_000;
/// How long a processor may take to start, in nanoseconds, before the next one is tried.
const PATIENCE: u64 = 10_000_000;

/// Starts the processors with these local APIC ids, but the one that runs this. Returns when all of them are about to be idle.
pub fn start(cr3: u64, apic_ids: &[u32]) {
    let own = cpu::get(cpu::id()).apic_id();
    let others = || apic_ids.iter().filter(|&&id| id != own);
    let present = 1 + others().count();
    let used = present.min(MAX_CPUS);
    if present > MAX_CPUS {
        log::warn!("{present} processors; only {MAX_CPUS} are used");
    }
    if used == 1 {
        return;
    }
    HANDOVER.cr3.store(cr3, Ordering::Relaxed);
    for stack in &HANDOVER.stacks[..used - 1] {
        let memory = KernelStack::new().expect("memory for the first stacks");
        stack.store(memory.top(), Ordering::Relaxed);
        // It is the CPU's idle stack from here on.
        core::mem::forget(memory);
    }
    let code = &raw const ap_trampoline;
    // SAFETY: the trampoline lies between its two symbols and fits the page, which is below 1 MiB and so never allocated.
    unsafe {
        let len = (&raw const ap_trampoline_end).offset_from(code) as usize;
        phys_to_virt(TRAMPOLINE).copy_from_nonoverlapping(code, len);
    }
    for &apic_id in others().take(used - 1) {
        let before = cpu::count();
        apic::send_init(apic_id);
        time::spin(INIT_DELAY);
        // A processor that has started ignores the second one.
        for _ in 0..2 {
            apic::send_startup(apic_id, TRAMPOLINE);
            wait(PATIENCE, || cpu::count() > before);
        }
    }
    wait(100 * PATIENCE, || cpu::count() == used);
    assert_eq!(cpu::count(), used, "processors that started");
}

/// Waits until `done`, or for `nanoseconds`.
fn wait(nanoseconds: u64, done: impl Fn() -> bool) {
    let deadline = time::now() + nanoseconds;
    while !done() && time::now() < deadline {
        spin_loop();
    }
}

/// Where an application processor enters Rust: on its own stack and the final page tables, interrupts off.
pub extern "C" fn ap_main(ticket: u64) -> ! {
    // SAFETY: tickets are different and 0 is the boot processor; nothing has taken a lock on this processor.
    let cpu = unsafe { cpu::adopt(ticket as usize + 1) };
    apic::init_cpu();
    init_scheduler();
    cpu::set_online(cpu);
    scheduler::idle()
}

/// This CPU becomes one that the scheduler knows: what runs on it now is its idle task.
pub fn init_scheduler() {
    crate::sched::fpu::init_cpu();
    crate::sched::scheduler::init_cpu(crate::task::tree::idle_task().expect("no memory for an idle task"));
}
