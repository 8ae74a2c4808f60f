//! Machine checks: the CPU reports an error of its own (SDM volume 3, chapter 16).
//!
//! It may hit anything, so nothing is locked and nothing is logged here: an error that the CPU can go on from is counted, for
//! `/dev/gate`, and forgotten; any other takes the kernel down.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use portcullis::x86_64::SavedRegs;
use portcullis::x86_64::cpu::{rdmsr, wrmsr};

use crate::machine::panic;

/// IA32_MCG_CAP: the number of banks in the low byte.
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
/// The status of bank 0; a bank has four registers.
const MC0_STATUS: u32 = 0x401;

/// MCG_STATUS: execution may go on where it was interrupted.
const RESTART_IP_VALID: u64 = 1;
/// IA32_MCi_STATUS: the bank has an error.
const VALID: u64 = 1 << 63;
/// The state of the CPU may be wrong.
const CONTEXT_CORRUPT: u64 = 1 << 57;
/// Software has to do something before execution goes on.
const ACTION_REQUIRED: u64 = 1 << 55;

/// Errors that the kernel went on from.
static SURVIVED: AtomicU64 = AtomicU64::new(0);

/// How many errors the kernel went on from.
pub fn survived() -> u64 {
    SURVIVED.load(Relaxed)
}

/// The exception's handler.
pub fn handle(regs: &SavedRegs) {
    // SAFETY: a CPU that raises machine checks has these registers; kernel mode.
    let (may_go_on, banks) = unsafe { (rdmsr(MCG_STATUS) & RESTART_IP_VALID != 0, rdmsr(MCG_CAP) as u8) };
    if !may_go_on {
        panic::die(regs, "machine check");
    }
    for status in (0..u32::from(banks)).map(|bank| MC0_STATUS + 4 * bank) {
        // SAFETY: the CPU has that many banks.
        let error = unsafe { rdmsr(status) };
        if error & VALID == 0 {
            continue;
        }
        if error & (CONTEXT_CORRUPT | ACTION_REQUIRED) != 0 {
            panic::die(regs, format_args!("machine check, status {error:#x}"));
        }
        // SAFETY: as above; zero forgets the error.
        unsafe { wrmsr(status, 0) };
    }
    SURVIVED.fetch_add(1, Relaxed);
    // SAFETY: as above. Until it is zero the next machine check would shut the CPU down.
    unsafe { wrmsr(MCG_STATUS, 0) };
}
