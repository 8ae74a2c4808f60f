//! User-return notifiers: user mode's value of a register that the kernel uses for something else meanwhile.
//!
//! As a hypervisor does it: a guest's TSC_AUX stays in the CPU after the guest has been left, and user mode's value is
//! put back only when user mode is entered, not at every switch. Here `/dev/hooks` lends the register. What is lent
//! belongs to the CPU: the flag USER_RETURN_NOTIFY is handed on from task to task until one of them leaves the kernel.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use portcullis::work::ExitWork;
use portcullis::x86_64::cpu::{rdmsr, wrmsr};

use crate::errno::{Errno, Result};
use crate::machine::cpu::MAX_CPUS;
use crate::machine::{cpu, sync};
use crate::task::{Task, current};
use crate::work::hooks::SWITCH_USER_RETURN;

/// The register that RDTSCP and RDPID show.
const TSC_AUX: u32 = 0xc000_0103;

/// What a CPU has lent.
struct Lent {
    now: AtomicBool,
    users: AtomicU64,
}

static LENT: [Lent; MAX_CPUS] = [const { Lent { now: AtomicBool::new(false), users: AtomicU64::new(0) } }; MAX_CPUS];

/// How often notifiers ran.
pub static FIRED: AtomicU64 = AtomicU64::new(0);

/// Puts `value` into TSC_AUX until this CPU goes to user mode. ENODEV if the CPU has no such register.
pub fn lend_tsc_aux(value: u32) -> Result<()> {
    const RDTSCP: u32 = 1 << 27;
    let extended = raw_cpuid::cpuid!(0x8000_0001);
    if extended.edx & RDTSCP == 0 {
        return Err(Errno::ENODEV);
    }
    let _irqs = sync::irqs_off();
    let lent = &LENT[cpu::id()];
    // SAFETY: the CPU has the register; nothing in the kernel reads it.
    unsafe {
        if !lent.now.swap(true, Relaxed) {
            lent.users.store(rdmsr(TSC_AUX), Relaxed);
        }
        wrmsr(TSC_AUX, value.into());
    }
    raise(current());
    Ok(())
}

/// Interrupts are off; the task is current, or about to be on this CPU.
fn raise(task: &Task) {
    task.on_switch_out.fetch_or(SWITCH_USER_RETURN, Relaxed);
    task.raise_for_current(ExitWork::USER_RETURN_NOTIFY);
}

fn lower(task: &Task) {
    task.on_switch_out.fetch_and(!SWITCH_USER_RETURN, Relaxed);
    task.work.take(ExitWork::USER_RETURN_NOTIFY);
}

/// The CPU goes over to another task: that one is to put back what is lent. Interrupts are off.
pub fn pass_on(prev: &Task, next: &Task) {
    lower(prev);
    raise(next);
}

/// The hook: once, with interrupts off, before user mode is entered.
pub fn fire() {
    current().on_switch_out.fetch_and(!SWITCH_USER_RETURN, Relaxed);
    FIRED.fetch_add(1, Relaxed);
    let lent = &LENT[cpu::id()];
    if lent.now.swap(false, Relaxed) {
        // SAFETY: the CPU has the register, as it was lent; this is what it held.
        unsafe { wrmsr(TSC_AUX, lent.users.load(Relaxed)) };
    }
}
