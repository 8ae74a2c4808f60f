//! Around the kernel's NMI handler, wherever the NMI hit.
//!
//! The handler is never entered while it runs. The door's own word ([`nmi`](super::nmi)) sees to that for NMIs that hit the
//! kernel; one that hit user mode is handled on the thread stack, with that word at 0, and an exception's IRET lets another one
//! in all the same. So the handler has a word of its own, [`CpuLocal::nmi_state`](super::CpuLocal).

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::doors::Doors;
use super::local::CpuLocal;
use super::regs::UserRegs;
use super::watch::Unwatched;
use crate::state::Nmi;

/// No NMI is being handled.
const NONE: u32 = 0;
/// One is.
const RUNNING: u32 = 1;
/// One is, and another one came meanwhile.
const AGAIN: u32 = 2;

/// Runs the kernel's handler; if it is running on this CPU already, lets that one run once more instead.
pub(super) fn run<K: Doors>(at: &mut Nmi<'_, UserRegs>) {
    let _unwatched = Unwatched::new();
    once_at_a_time(|| &CpuLocal::this().nmi_state, || K::nmi(at));
}

/// Calls `handler`, and again for what came meanwhile. What comes while it runs finds the state raised and only notes itself.
#[inline(always)]
fn once_at_a_time<'a>(state: impl Fn() -> &'a AtomicU32, mut handler: impl FnMut()) {
    if state().load(Relaxed) != NONE {
        state().store(AGAIN, Relaxed);
        return;
    }
    state().store(RUNNING, Relaxed);
    handler();
    // One instruction ends a run: what comes before it is noted, what comes after it runs the handler itself.
    if state().fetch_sub(1, Relaxed) > RUNNING {
        again(&state, &mut handler);
    }
}

/// The runs after the first.
#[cold]
fn again<'a>(state: &dyn Fn() -> &'a AtomicU32, handler: &mut dyn FnMut()) {
    loop {
        handler();
        if state().fetch_sub(1, Relaxed) <= RUNNING {
            return;
        }
    }
}

/// Lets NMIs in again without leaving: an IRET to the next instruction.
pub(super) fn unblock() {
    // SAFETY: the frame is the current stack, flags and code segment; execution goes on at 2 with everything as it was.
    unsafe {
        core::arch::asm!(
            "mov {old}, rsp",
            "mov {sel:e}, ss",
            "push {sel}",
            "push {old}",
            "pushfq",
            "mov {sel:e}, cs",
            "push {sel}",
            "lea {sel}, [rip + 2f]",
            "push {sel}",
            "iretq",
            "2:",
            old = out(reg) _,
            sel = out(reg) _,
            options(preserves_flags),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of NMIs that come `during` a run of the handler, however many, one more run is made, and none inside another.
    #[test]
    fn what_comes_meanwhile_runs_the_handler_once_more_and_never_inside_itself() {
        for during in [0, 1, 5] {
            let state = AtomicU32::new(NONE);
            let (mut runs, mut inside) = (0, false);
            once_at_a_time(
                || &state,
                || {
                    runs += 1;
                    for _ in 0..if runs == 1 { during } else { 0 } {
                        once_at_a_time(|| &state, || inside = true);
                    }
                },
            );
            assert_eq!((runs, inside), (1 + during.min(1), false), "{during} meanwhile");
            assert_eq!(state.load(Relaxed), NONE);
        }
    }
}
