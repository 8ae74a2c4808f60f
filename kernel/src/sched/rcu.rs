//! Grace periods: [`synchronize`] waits until every reader that was there is gone.
//!
//! A reader holds preemption off while it uses what it read. So a CPU has no reader of before once it has been in user
//! mode, in the idle loop, or through the scheduler. The first two the library's context tracking shows without
//! disturbing the CPU: a thread that spins in user mode for hours delays no grace period and is not interrupted for one.

use portcullis::context::Snapshot;

use crate::machine::cpu::MAX_CPUS;
use crate::machine::ipi;
use crate::machine::{cpu, time};
use crate::sched::scheduler;

/// How long a CPU may stay in the kernel before it is asked to reschedule.
const PATIENCE_NS: u64 = 1_000_000;

/// Waits until every CPU has been in a quiescent state. May sleep; no lock is held.
pub fn synchronize() {
    let me = cpu::id();
    let mut before: [Option<(Snapshot, u64)>; MAX_CPUS] = [None; MAX_CPUS];
    for (n, before) in before.iter_mut().enumerate().take(cpu::count()) {
        // The caller is no reader, and if it moves to another CPU it goes through the scheduler.
        if n != me {
            *before = Some((cpu::get(n).local.context().snapshot(), scheduler::switches(n)));
        }
    }
    let mut asked_at = time::now() + PATIENCE_NS;
    loop {
        let ask = time::now() >= asked_at;
        if ask {
            asked_at += PATIENCE_NS;
        }
        let mut waiting = false;
        for (n, before) in before.iter_mut().enumerate() {
            let Some((snapshot, switches)) = *before else {
                continue;
            };
            if cpu::get(n).local.context().quiescent_since(snapshot) || scheduler::switches(n) != switches {
                *before = None;
            } else {
                waiting = true;
                if ask {
                    ipi::send_reschedule(n);
                }
            }
        }
        if !waiting {
            return;
        }
        scheduler::yield_now();
    }
}
