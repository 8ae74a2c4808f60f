//! A system call, from arrival to the way out: the work before it, the call, the work after it.

use crate::kernel::{Gate, Skip, returned};
use crate::machine::{InterruptFlag, Registers};
use crate::state::{Arrived, Crossing, InKernel, InSyscall, Leaving, Settled, Syscall, Syscall32};
use crate::trace::Event;
use crate::work::ArmedSyscallWork;

impl<'r, K: Gate> Arrived<'r, K, Syscall> {
    /// Makes the system call in the registers, and does armed system-call work before and after it.
    #[inline(always)]
    pub fn syscall(self) -> Leaving<'r, K, Syscall> {
        self.into_kernel().syscall_with(Event::SyscallEnter, K::syscall).finish()
    }

    /// The same and the exit work, with one test for both kinds of work: [`InSyscall::exit_to_user_mode_prepare`].
    #[inline(always)]
    pub fn syscall_and_exit_work(self) -> Settled<'r, K, Syscall> {
        self.into_kernel().syscall_with(Event::SyscallEnter, K::syscall).exit_to_user_mode_prepare()
    }
}

impl<'r, K: Gate> Arrived<'r, K, Syscall32> {
    /// Makes the 32-bit system call in the registers, as [`syscall`](Arrived::syscall).
    #[inline(always)]
    pub fn syscall_32(self) -> Leaving<'r, K, Syscall32> {
        K::compat_call(true);
        self.into_kernel().make_32()
    }

    /// The same for a door that must first fetch an argument with interrupts on. `Err` if `fetch` returns false: it has put a
    /// result into the registers, and neither the call nor system-call work is done.
    #[inline(always)]
    pub fn syscall_32_after(
        self,
        fetch: impl FnOnce(&mut InKernel<'_, K>) -> bool,
    ) -> Result<Leaving<'r, K, Syscall32>, Leaving<'r, K, Syscall32>> {
        K::compat_call(true);
        let mut at = self.into_kernel();
        if at.hook("user_word", fetch) { Ok(at.make_32()) } else { Err(at.into_leaving()) }
    }
}

impl<'r, K: Gate> InKernel<'r, K, Syscall32> {
    #[inline(always)]
    fn make_32(self) -> Leaving<'r, K, Syscall32> {
        self.syscall_with(Event::Syscall32Enter, |at, number| K::syscall_32(at, number as u32)).finish()
    }
}

impl<'r, K: Gate, C: Crossing> InKernel<'r, K, C> {
    /// The work before, the call unless that work skips it, the work after.
    #[inline(always)]
    fn syscall_with(mut self, event: Event, call: impl FnOnce(&mut InSyscall<'_, K>, i64)) -> InSyscall<'r, K, C> {
        let mut skip = false;
        if K::any_syscall_work() {
            let at;
            (at, skip) = syscall_entry_work_by_value::<K>(InKernel::new(self.into_regs()));
            self = InKernel::new(at.into_regs());
        }
        let mut at = InSyscall::new(self);
        if !skip {
            let number = at.saved().syscall_number();
            K::trace(event, number as u64);
            at.lend(|at| call(at, number));
            K::trace(Event::SyscallExit, at.saved().syscall_result() as u64);
            returned::<K>("syscall", true);
        }
        at
    }
}

impl<'r, K: Gate, C: Crossing> InSyscall<'r, K, C> {
    /// The system call is done: does the work after it and turns interrupts off.
    #[inline(always)]
    pub fn finish(self) -> Leaving<'r, K, C> {
        let mut at = self.into_inner();
        at.hook("rseq_syscall", K::rseq_syscall);
        Self::finish_work(at)
    }

    /// The same as [`finish`](Self::finish) and [`Leaving::exit_to_user_mode_prepare`], with one test for both kinds of work
    /// ([`Kernel::any_work`](crate::Kernel::any_work)).
    #[inline(always)]
    pub fn exit_to_user_mode_prepare(self) -> Settled<'r, K, C> {
        let mut at = self.into_inner();
        at.hook("rseq_syscall", K::rseq_syscall);
        at.into_leaving().settle_if_idle().unwrap_or_else(pending_after_syscall)
    }

    #[inline(always)]
    fn finish_work(mut at: InKernel<'r, K, C>) -> Leaving<'r, K, C> {
        if K::syscall_work() & K::SYSCALL_WORK.at_exit() != 0 {
            let done = syscall_exit_work_by_value::<K>(InKernel::new(at.into_regs()));
            at = InKernel::new(done.into_regs());
        }
        at.into_leaving()
    }
}

/// Some work is pending at the end of a system call, or may be.
#[cold]
#[inline(never)]
#[allow(unsafe_code, reason = "turns interrupts on again")]
fn pending_after_syscall<K: Gate, C: Crossing>(mut leaving: Leaving<'_, K, C>) -> Settled<'_, K, C> {
    if K::syscall_work() & K::SYSCALL_WORK.at_exit() != 0 {
        // SAFETY: back in the ordinary kernel code that the state came from.
        unsafe { K::Irqs::on() };
        leaving = InSyscall::finish_work(InKernel::new(leaving.into_regs()));
    }
    leaving.exit_to_user_mode_prepare()
}

/// [`syscall_entry_work`] by value: a lent state would have to be in memory.
#[cold]
#[inline(never)]
fn syscall_entry_work_by_value<K: Gate>(mut at: InKernel<'_, K>) -> (InKernel<'_, K>, bool) {
    let skip = at.lend(syscall_entry_work::<K>).is_err();
    (at, skip)
}

/// [`syscall_exit_work`] by value.
#[cold]
#[inline(never)]
fn syscall_exit_work_by_value<K: Gate>(mut at: InKernel<'_, K>) -> InKernel<'_, K> {
    at.lend(syscall_exit_work::<K>);
    at
}

/// Something is armed: user dispatch, slice extension, ptrace, seccomp, trace point, audit, in this order. After a tracer's stop, which may arm and
/// disarm, the word is read again. The number is in the registers, so the filters see what the tracer has made of it.
fn syscall_entry_work<K: Gate>(at: &mut InKernel<'_, K>) -> Result<(), Skip> {
    let mut word = K::syscall_work();
    let ArmedSyscallWork {
        user_dispatch,
        rseq_slice,
        trace,
        emu,
        // Below.
        seccomp: _,
        tracepoint: _,
        audit: _,
        // After the call.
        exit_trap: _,
    } = K::SYSCALL_WORK.armed(word);

    // First: a dispatched call is not of the kernel's ABI, and is hidden from the others.
    if user_dispatch != 0 && at.hook("syscall_user_dispatch", K::syscall_user_dispatch) {
        return Err(Skip);
    }
    if rseq_slice != 0 {
        let number = at.saved().syscall_number();
        at.hook("rseq_syscall_enter_work", |at| K::rseq_syscall_enter_work(at, number));
    }
    if trace | emu != 0 {
        at.hook("ptrace_report_syscall_entry", K::ptrace_report_syscall_entry)?;
        if emu != 0 {
            return Err(Skip);
        }
        word = K::syscall_work();
    }
    // The other kinds are above.
    let ArmedSyscallWork { seccomp, tracepoint, audit, .. } = K::SYSCALL_WORK.armed(word);
    // After ptrace, so that the filters judge what the tracer made of the call.
    if seccomp != 0 {
        at.hook("secure_computing", K::secure_computing)?;
    }
    if tracepoint != 0 {
        let number = at.saved().syscall_number();
        at.hook("trace_sys_enter", |at| K::trace_sys_enter(at, number));
    }
    if audit != 0 {
        let number = at.saved().syscall_number();
        at.hook("audit_syscall_entry", |at| K::audit_syscall_entry(at, number));
    }
    Ok(())
}

/// Something is armed: user dispatch, audit, trace point, ptrace with single-step, in this order. `rseq_syscall` has run.
fn syscall_exit_work<K: Gate>(at: &mut InKernel<'_, K>) {
    let ArmedSyscallWork {
        user_dispatch,
        trace,
        emu,
        tracepoint,
        audit,
        exit_trap,
        // Before the call.
        rseq_slice: _,
        seccomp: _,
    } = K::SYSCALL_WORK.armed(K::syscall_work());

    if user_dispatch != 0 && at.hook("on_user_dispatch", K::on_user_dispatch) {
        return;
    }
    if audit != 0 {
        at.hook("audit_syscall_exit", K::audit_syscall_exit);
    }
    if tracepoint != 0 {
        at.hook("trace_sys_exit", K::trace_sys_exit);
    }
    // An emulated call was not made, so there is no step over it to report.
    let step = exit_trap != 0 && emu == 0;
    if step || trace != 0 {
        at.hook("ptrace_report_syscall_exit", |at| K::ptrace_report_syscall_exit(at, step));
    }
}
