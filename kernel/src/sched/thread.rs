//! A thread: what the scheduler, the switch and the wait queues know of what runs.
//!
//! A layer above embeds it in what it keeps beside it ([`Owner`]); here it is the scheduler's state, a stack, registers and an
//! address space.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use bitflags::bitflags;
use portcullis::InKernel;
use portcullis::work::{ExitWork, WorkFlags};
use portcullis::x86_64::{CpuLocal, UserRegs};

use crate::errno::Result;
use crate::machine::gate::Gate;
use crate::machine::ipi;
use crate::machine::segments::Segments;
use crate::machine::{cpu, sync};
use crate::memory::address_space::{AddressSpace, kernel_mm};
use crate::memory::stack::KernelStack;
use crate::sched::fpu::FpuArea;
use crate::sched::policy::Policy;
use crate::sched::segments::ports::Ports;
use crate::sched::segments::tls::Tls;
use crate::sched::slot::Own;
use crate::sched::state::NEW;
use crate::sched::usage::Usage;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Neither on a CPU nor in the queue.
    Asleep,
    Queued,
    OnCpu,
}

/// What the scheduler keeps in each thread. Guarded by the run-queue lock.
pub struct Entry(pub(super) UnsafeCell<Inner>);

pub(super) struct Inner {
    pub(super) stack_pointer: u64,
    pub(super) place: Place,
    pub(super) next: *const Thread,
    /// How far behind its share it was when it was last compared, when that was, and what CPU time it had had.
    pub(super) lag: i64,
    pub(super) seen: u64,
    pub(super) used: u64,
}

impl Entry {
    fn new() -> Self {
        Entry(UnsafeCell::new(Inner {
            stack_pointer: 0,
            place: Place::Asleep,
            next: ptr::null(),
            lag: 0,
            seen: 0,
            used: 0,
        }))
    }
}

bitflags! {
    /// What a switch has to do beside the usual, if one of the two threads needs it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct SwitchWork: u32 {
        /// It has debug registers armed.
        const DEBUG_REGISTERS = 1;
        /// Its single steps go from branch to branch.
        const BLOCK_STEP = 2;
        /// It has descriptors for thread-local storage.
        const TLS = 4;
        /// It may use I/O ports.
        const PORTS = 8;
        /// It may not read the time-stamp counter.
        const NO_TSC = 16;
    }
}

/// Where a thread's registers are while it lends them; null otherwise. Written by the thread alone. The run-queue lock orders this
/// for all others: the thread takes it to go to sleep, and they take it to see that it is asleep.
#[derive(Default)]
pub struct Lent(pub(super) AtomicPtr<UserRegs>);

/// What can run.
#[repr(C)]
pub struct Thread {
    /// Work pending for it. First, so that the doors find it at the address of what it is part of.
    pub work: WorkFlags,
    /// What the scheduler keeps of it (guarded by the run-queue lock).
    pub(super) sched: Entry,
    /// `state::RUNNING`, `INTERRUPTIBLE`, …
    pub state: AtomicU32,
    /// Timers that are to wake it and have not done so ([`Timeout`](crate::sched::wait::Timeout)).
    pub(super) timeouts: AtomicU32,
    /// What it is part of: a pointer to the [`Owner`], of which the scheduler has a reference. Null until it is started.
    pub(super) owner: AtomicPtr<()>,
    /// Gives that reference back.
    pub(super) release: unsafe fn(*const ()),
    /// Where the kernel runs for it.
    pub stack: KernelStack,
    pub(super) segments: UnsafeCell<Segments>,
    /// What a switch to or from it has to do beside the usual.
    pub(super) switch_work: AtomicU32,
    /// What layers above want done when it is switched out: bits of theirs; any makes the switch call
    /// [`Callbacks::switched_out`](crate::sched::callbacks::Callbacks::switched_out).
    pub on_switch_out: AtomicU32,
    /// Which I/O ports it may use.
    pub ports: Ports,
    /// Its descriptors for thread-local storage.
    pub tls: Tls,
    /// The extended register state while it is not running.
    pub fpu: FpuArea,
    /// Its address space; the kernel's own for one that never enters user mode.
    pub mm: Own<AddressSpace>,
    /// Its user registers while it waits.
    pub(super) lent: Lent,
    /// CPUs that it may run on.
    pub affinity: AtomicU64,
    /// CPU time and events.
    pub usage: Usage,
    /// Nice value and scheduling class.
    pub policy: Policy,
    /// What it runs before (or instead of) user mode.
    pub start: Option<Start>,
}

// SAFETY: `sched` is guarded by the run-queue lock; `segments` is touched only by the thread itself and by the context switch that
// takes it off or puts it on a CPU; everything else is Sync on its own.
unsafe impl Sync for Thread {}
// SAFETY: as above.
unsafe impl Send for Thread {}

/// What a thread runs in the kernel before it goes to user mode, with the registers that it goes there with.
pub type Start = fn(&mut InKernel<'_, Gate>);

/// What has a thread: it lives in an [`Arc`], of which the scheduler holds one reference from [`start`](super::scheduler::start)
/// until the thread has ended and its stack is left.
///
/// # Safety
/// The type is `repr(C)`, and its first field is a [`Thread`] made by [`Thread::new`] for this type.
pub unsafe trait Owner: Send + Sync + 'static {}

impl Thread {
    /// One that is not yet runnable, to be the first field of a `T`. It enters user mode with these registers.
    pub fn new<T: Owner>(mm: Arc<AddressSpace>, regs: UserRegs, start: Option<Start>) -> Result<Thread> {
        let stack = KernelStack::new()?;
        let thread = Thread {
            work: WorkFlags::new(),
            sched: Entry::new(),
            state: AtomicU32::new(NEW),
            timeouts: AtomicU32::new(0),
            owner: AtomicPtr::new(ptr::null_mut()),
            release: release::<T>,
            stack,
            segments: UnsafeCell::new(Segments::default()),
            switch_work: AtomicU32::new(0),
            on_switch_out: AtomicU32::new(0),
            ports: Ports::default(),
            tls: Tls::default(),
            fpu: FpuArea::new(),
            mm: Own::new(Some(mm)),
            lent: Lent::default(),
            affinity: AtomicU64::new(u64::MAX),
            usage: Usage::default(),
            policy: Policy::default(),
            start,
        };
        // SAFETY: the top of a fresh stack, big enough and aligned for it. The thread has not run, so no door has the registers.
        unsafe { thread.regs().write(regs) };
        Ok(thread)
    }

    /// Its address space; the kernel's own (with no user mappings) for one that has exited.
    pub fn mm(&self) -> Arc<AddressSpace> {
        self.mm.share().unwrap_or_else(kernel_mm)
    }

    /// Raises exit work, and sends the CPU that it runs on the interrupt it is owed. From any context.
    pub fn raise(&self, work: ExitWork) {
        let owed = self.work.raise(work, CpuLocal::raising_cpu);
        owed.send(|cpu| ipi::send_reschedule(cpu as usize));
    }

    /// Raises exit work of what this CPU runs, or of one that has not run yet: nobody is owed an interrupt.
    pub fn raise_for_current(&self, work: ExitWork) {
        self.work.raise(work, CpuLocal::raising_cpu).none_owed();
    }

    /// Whether a signal (or another reason to leave an interruptible sleep) is pending.
    #[inline]
    pub fn signal_pending(&self) -> bool {
        self.work.is_raised(ExitWork::SIGPENDING | ExitWork::NOTIFY_SIGNAL)
    }

    /// Whether switches to and from it have this to do.
    pub fn has_switch_work(&self, work: SwitchWork) -> bool {
        self.switch_work.load(Relaxed) & work.bits() != 0
    }

    /// Says whether switches to and from it have this to do. It is current, or not running.
    pub fn set_switch_work(&self, work: SwitchWork, on: bool) {
        if on {
            self.switch_work.fetch_or(work.bits(), Relaxed);
        } else {
            self.switch_work.fetch_and(!work.bits(), Relaxed);
        }
    }

    /// Its segment registers, as the switch saved them: to be looked at while it is off its CPU and stays so.
    pub(crate) fn saved_segments(&self) -> *mut Segments {
        self.segments.get()
    }

    /// Where its user registers are, which the doors save at the top of its stack.
    pub fn regs(&self) -> *mut UserRegs {
        (self.stack.top() - UserRegs::SIZE as u64) as *mut UserRegs
    }

    /// What it is part of, as the scheduler's reference points to it. Null before it is started.
    pub fn owner(&self) -> *const () {
        self.owner.load(Relaxed)
    }
}

/// Gives a reference of the scheduler's back.
///
/// # Safety
/// `owner` is one to a `T` that `scheduler::start` has taken.
unsafe fn release<T: Owner>(owner: *const ()) {
    // SAFETY: the caller's.
    drop(unsafe { Arc::from_raw(owner.cast::<T>()) });
}

/// The thread that this CPU runs. The reference is valid as long as the caller runs, which is what "current" means.
#[inline(always)]
pub fn current() -> &'static Thread {
    // SAFETY: what the CPU runs starts with a thread (`Owner`), and the scheduler's reference keeps it.
    unsafe { &*cpu::current().cast::<Thread>() }
}

/// Replaces the current thread's address space and switches to it. Returns the old one, to be dropped with interrupts on.
pub fn replace_mm(mm: Arc<AddressSpace>) -> Option<Arc<AddressSpace>> {
    // A preemption between the two steps would compare against the wrong space at the next switch.
    let _guard = sync::irqs_off();
    mm.activate();
    current().mm.replace(Some(mm))
}
