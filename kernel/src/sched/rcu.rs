//! Grace periods: [`synchronize`] waits until every reader that was there is gone.
//!
//! A reader holds preemption off while it uses what it read. So a CPU has no reader of before once it has been in the idle loop,
//! through the scheduler, or hit by an interrupt with preemption on, as it is in user mode. The first the library's context
//! tracking shows. User mode it shows with `user-mode=tracked` on the command line: then a thread that spins there for hours delays no
//! grace period and is not interrupted for one, and each crossing has two locked instructions for it.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use portcullis::context::Snapshot;

use crate::machine::cpu::MAX_CPUS;
use crate::machine::ipi;
use crate::machine::{cpu, sync, time};
use crate::sched::scheduler;

/// How long a CPU may take before it is interrupted.
const PATIENCE_NS: u64 = 1_000_000;

/// How often an interrupt that was sent for a grace period, or another one of its kind, found no reader on the CPU.
static UNREAD: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// In the handler of the rescheduling interrupt: what it hit is no reader if preemption is on.
pub fn interrupted() {
    if sync::preempt_count() == 0 {
        UNREAD[cpu::id()].fetch_add(1, SeqCst);
    }
}

/// What of a CPU shows that it has passed a quiescent state.
#[derive(Clone, Copy)]
struct Before {
    context: Snapshot,
    switches: u64,
    unread: u32,
}

impl Before {
    fn of(n: usize) -> Before {
        Before {
            context: cpu::get(n).local.context().snapshot(),
            switches: scheduler::switches(n),
            unread: UNREAD[n].load(SeqCst),
        }
    }

    fn passed(&self, n: usize) -> bool {
        cpu::get(n).local.context().quiescent_since(self.context)
            || scheduler::switches(n) != self.switches
            || UNREAD[n].load(SeqCst) != self.unread
    }
}

/// Waits until every CPU has been in a quiescent state. May sleep; no lock is held.
pub fn synchronize() {
    let me = cpu::id();
    let mut before: [Option<Before>; MAX_CPUS] = [None; MAX_CPUS];
    for (n, before) in before.iter_mut().enumerate().take(cpu::count()) {
        // The caller is no reader, and if it moves to another CPU it goes through the scheduler.
        if n != me {
            *before = Some(Before::of(n));
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
            let Some(start) = *before else {
                continue;
            };
            if start.passed(n) {
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
