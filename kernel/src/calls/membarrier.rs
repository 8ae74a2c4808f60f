//! membarrier(2), as of Linux 6.1: memory barriers on the CPUs that other threads run on.

use core::sync::atomic::Ordering::SeqCst;

use crate::errno::{Errno, Result};
use crate::memory::address_space::current_mm;
use crate::memory::tlb;
use crate::work::rseq;

/// Commands: one bit each, so that QUERY (0) can name them.
const GLOBAL: u32 = 1 << 0;
const GLOBAL_EXPEDITED: u32 = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: u32 = 1 << 2;
const PRIVATE_EXPEDITED: u32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
/// The threads go on with no instruction that they fetched before.
const PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 5;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 6;
/// The threads' restartable sequences are aborted.
const PRIVATE_EXPEDITED_RSEQ: u32 = 1 << 7;
const REGISTER_PRIVATE_EXPEDITED_RSEQ: u32 = 1 << 8;
/// All of them.
const COMMANDS: u32 = (1 << 9) - 1;
/// Only threads on the given CPU.
const FLAG_CPU: u32 = 1;

/// EPERM unless the process has registered for the command: the next bit.
fn require_registration(command: u32) -> Result<()> {
    if current_mm().membarrier.load(SeqCst) & command << 1 != 0 { Ok(()) } else { Err(Errno::EPERM) }
}

/// membarrier(2).
pub fn sys_membarrier(command: u64, flags: u64, cpu: u64) -> Result<usize> {
    let (command, flags) = (command as u32, flags as u32);
    if flags != 0 && (command, flags) != (PRIVATE_EXPEDITED_RSEQ, FLAG_CPU) {
        return Err(Errno::EINVAL);
    }
    let mm = current_mm();
    match command {
        0 => return Ok(COMMANDS as usize),
        // The CPUs of processes that have registered would do for the second.
        GLOBAL | GLOBAL_EXPEDITED => tlb::barrier_everywhere(),
        PRIVATE_EXPEDITED => {
            require_registration(command)?;
            tlb::barrier(mm.pgd());
        }
        PRIVATE_EXPEDITED_SYNC_CORE => {
            require_registration(command)?;
            tlb::sync_core(mm.pgd());
        }
        PRIVATE_EXPEDITED_RSEQ => {
            require_registration(command)?;
            // A negative number is that of no CPU, and means all.
            let cpu = (flags == FLAG_CPU).then_some(cpu as u32);
            rseq::abort_all(cpu.filter(|&cpu| cpu as i32 >= 0));
        }
        REGISTER_GLOBAL_EXPEDITED
        | REGISTER_PRIVATE_EXPEDITED
        | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
        | REGISTER_PRIVATE_EXPEDITED_RSEQ => {
            mm.membarrier.fetch_or(command, SeqCst);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
