//! The other processors: started one after the other in the order of their APIC identities, and numbered so.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;

use crate::boot::entry;
use crate::boot::entry::ApHandover;
use crate::machine::cpu::MAX_CPUS;
use crate::machine::{apic, cpu, time};
use crate::memory::phys_to_virt;
use crate::memory::stack::KernelStack;
use crate::sched::scheduler;

/// What `entry` reads on each application processor.
pub static HANDOVER: ApHandover =
    ApHandover { cr3: AtomicU64::new(0), ticket: AtomicU64::new(0), stacks: [const { AtomicU64::new(0) }; MAX_CPUS] };

/// Nanoseconds that a processor takes for an INIT (none in an emulator; Intel's 10 ms are for the 1990s).
const INIT_DELAY: u64 = 10_000;
/// How long a processor may take to start, in nanoseconds, before the next one is tried.
const PATIENCE: u64 = 10_000_000;
const LAST_APIC_ID: u32 = 255;

/// How many processors the machine has, from QEMU's fw_cfg (docs/specs/fw_cfg.rst); 1 where there is none.
fn processors() -> usize {
    const SIGNATURE: u16 = 0;
    const NB_CPUS: u16 = 5;
    let read = |item: u16| -> [u8; 4] {
        // SAFETY: fw_cfg's selector and data ports; on another machine nobody listens.
        unsafe {
            Port::<u16>::new(0x510).write(item);
            core::array::from_fn(|_| Port::<u8>::new(0x511).read())
        }
    };
    if read(SIGNATURE) != *b"QEMU" {
        return 1;
    }
    let [low, high, ..] = read(NB_CPUS);
    usize::from(u16::from_le_bytes([low, high]))
}

/// Starts the other processors. Returns when all of them are about to be idle.
pub fn start(cr3: u64) {
    let present = processors();
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
    let code = &raw const entry::ap_trampoline;
    // SAFETY: the trampoline lies between its two symbols and fits the page, which is below 1 MiB and so never allocated.
    unsafe {
        let len = (&raw const entry::ap_trampoline_end).offset_from(code) as usize;
        phys_to_virt(entry::TRAMPOLINE).copy_from_nonoverlapping(code, len);
    }
    // Which identities there are is not known, only how many. One that does not exist costs the patience.
    for apic_id in (0..LAST_APIC_ID).filter(|id| *id != cpu::get(cpu::id()).apic_id()) {
        let before = cpu::count();
        if before == used {
            break;
        }
        apic::send_init(apic_id);
        time::spin(INIT_DELAY);
        // A processor that has started ignores the second one.
        for _ in 0..2 {
            apic::send_startup(apic_id, entry::TRAMPOLINE);
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
    super::init_scheduler();
    cpu::set_online(cpu);
    scheduler::idle()
}
