//! A system call, from arrival to the way out: entry work, the call, exit work, each exactly once.

use crate::host::{InterruptFlag, Registers, Tracking};
use crate::kernel::{Broken, Kernel, Skip};
use crate::state::{Arrived, InKernel, InSyscall, Leaving};
use crate::trace::Event;

impl<'r, R> Arrived<'r, R> {
    /// Makes the system call in the registers and runs its entry and exit work.
    ///
    /// Where nothing is armed the work is one test before the call and one after it.
    #[inline(always)]
    pub fn syscall<K: Kernel<Regs = R>>(self) -> Leaving<'r, R> {
        self.irqs_on::<K>()
            .with_syscall_work::<K>(Event::SyscallEnter, K::syscall)
    }

    /// Makes the 32-bit system call in the registers, as [`syscall`](Self::syscall). The way out is
    /// [`exit_to_user_mode_32`](Leaving::exit_to_user_mode_32).
    #[inline(always)]
    pub fn syscall_32<K: Kernel<Regs = R>>(self) -> Leaving<'r, R> {
        self.syscall_32_begins::<K>().syscall_32::<K>()
    }

    /// The first part of [`syscall_32`](Self::syscall_32), for a door that has to fetch an argument first.
    #[inline(always)]
    pub fn syscall_32_begins<K: Kernel<Regs = R>>(self) -> InKernel<'r, R> {
        K::compat_call(true);
        self.irqs_on::<K>()
    }
}

impl<'r, R> InKernel<'r, R> {
    /// The second part of [`Arrived::syscall_32`].
    #[inline(always)]
    pub fn syscall_32<K: Kernel<Regs = R>>(self) -> Leaving<'r, R> {
        self.with_syscall_work::<K>(Event::Syscall32Enter, |at, number| {
            K::syscall_32(at, number as u32)
        })
    }

    /// A new task's first way out is that of the system call that made it.
    #[inline(always)]
    pub fn in_syscall(self) -> InSyscall<'r, R> {
        InSyscall::new(self)
    }

    /// Entry work, the call unless that work decided against it, exit work.
    #[inline(always)]
    fn with_syscall_work<K: Kernel<Regs = R>>(
        mut self,
        event: Event,
        call: impl FnOnce(&mut InSyscall<'_, R>, i64),
    ) -> Leaving<'r, R> {
        let mut skip = false;
        if K::syscall_work() & K::SYSCALL_WORK.at_entry() != 0 {
            (self, skip) = syscall_entry_work_or_skip::<K>(self);
        }
        let mut at = InSyscall::new(self);
        if !skip {
            let number = number::<K>(&at);
            K::trace(event, number as u64);
            call(&mut at, number);
            K::trace(Event::SyscallExit, 0);
        }
        at.finish::<K>()
    }
}

impl<'r, R> InSyscall<'r, R> {
    /// The system call is done: runs its exit work and turns interrupts off. The one way out of a system call.
    #[inline(always)]
    pub fn finish<K: Kernel<Regs = R>>(self) -> Leaving<'r, R> {
        let mut at = self.into_inner();
        if K::CHECKS && !(K::Irqs::is_on() && K::Context::in_kernel()) {
            K::invariant_broken(Broken::SyscallLeftWrongState);
            // The exit work may sleep.
            K::Irqs::on();
        }
        K::rseq_syscall(&mut at);
        if K::syscall_work() & K::SYSCALL_WORK.at_exit() != 0 {
            at = syscall_exit_work_and_back::<K>(at);
        }
        at.irqs_off::<K>()
    }
}

#[inline(always)]
fn number<K: Kernel>(at: &InKernel<'_, K::Regs>) -> i64 {
    at.saved().syscall_number()
}

/// [`syscall_entry_work`], by value: a state that is only lent would have to be in memory.
#[cold]
#[inline(never)]
fn syscall_entry_work_or_skip<K: Kernel>(mut at: InKernel<'_, K::Regs>) -> (InKernel<'_, K::Regs>, bool) {
    let skip = syscall_entry_work::<K>(&mut at).is_err();
    (at, skip)
}

/// [`syscall_exit_work`], by value.
#[cold]
#[inline(never)]
fn syscall_exit_work_and_back<K: Kernel>(mut at: InKernel<'_, K::Regs>) -> InKernel<'_, K::Regs> {
    syscall_exit_work::<K>(&mut at);
    at
}

/// Something is armed: user dispatch, ptrace, seccomp, trace point, audit, in this order.
///
/// The word is read again after the tracer's stop, which may arm and disarm; the number is read from the registers by
/// whoever looks at it, so what a tracer changes is what the filters see.
fn syscall_entry_work<K: Kernel>(at: &mut InKernel<'_, K::Regs>) -> Result<(), Skip> {
    let bits = &K::SYSCALL_WORK;
    let mut work = K::syscall_work();

    // First, because a dispatched call is none of the kernel's ABI: nobody else may see it.
    if work & bits.user_dispatch != 0 && K::syscall_user_dispatch(at) {
        return Err(Skip);
    }
    if work & (bits.trace | bits.emu) != 0 {
        K::ptrace_report_syscall_entry(at)?;
        if work & bits.emu != 0 {
            return Err(Skip);
        }
        work = K::syscall_work();
    }
    // After ptrace, so that the filters judge what the tracer made of the call.
    if work & bits.seccomp != 0 {
        K::secure_computing(at)?;
    }
    if work & bits.tracepoint != 0 {
        let number = number::<K>(at);
        K::trace_sys_enter(at, number);
    }
    if work & bits.audit != 0 {
        let number = number::<K>(at);
        K::audit_syscall_entry(at, number);
    }
    Ok(())
}

/// Something is armed: audit, trace point, ptrace and single-step, in this order.
fn syscall_exit_work<K: Kernel>(at: &mut InKernel<'_, K::Regs>) {
    let bits = &K::SYSCALL_WORK;
    let work = K::syscall_work();

    if work & bits.user_dispatch != 0 && K::on_user_dispatch(at) {
        return;
    }
    if work & bits.audit != 0 {
        K::audit_syscall_exit(at);
    }
    if work & bits.tracepoint != 0 {
        K::trace_sys_exit(at);
    }
    // An emulated call was not made, so there is no step over it to report.
    let step = work & bits.exit_trap != 0 && work & bits.emu == 0;
    if step || work & bits.trace != 0 {
        K::ptrace_report_syscall_exit(at, step);
    }
}
