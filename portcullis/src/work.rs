//! The two sets of pending-work flags, and raising them from another CPU.
//!
//! A task has two words. **Exit work** must be done before the task goes back to user mode; any CPU may raise it at any
//! time. **Syscall work** must be done at each system call of the task while it is armed.
//!
//! Ordering. [`TaskWork::raise`] sets the flag and *then* reads where the task runs; a CPU that switches to the task
//! announces itself ([`TaskWork::switch_in`]) and *then* reads the flags, at the latest at the last check of the way out.
//! Both are sequentially consistent, so at least one of the two sees the other: either the task sees the flag, or the
//! raiser sees the CPU and owes it an interrupt. That interrupt arrives while the task is in user mode, or is held off
//! until it is, and brings it back in. `tests/loom.rs` checks each interleaving.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Between a write and a read that must not pass each other. Both are SeqCst, which is enough; loom takes SeqCst accesses
/// for acquire and release, so it is told by a fence.
#[inline(always)]
pub(crate) fn loom_fence() {
    #[cfg(loom)]
    loom::sync::atomic::fence(SeqCst);
}

macro_rules! flag_set {
    ($(#[$doc:meta])* $name:ident, $(#[$bits_doc:meta])* $bits:ident {
        $($(#[$flag_doc:meta])* $flag:ident $field:ident = $bit:expr;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$flag_doc])* pub const $flag: $name = $name(1 << $bit);)*

            /// Every flag with its name, for tables and messages.
            pub const NAMED: &'static [(&'static str, $name)] = &[$((stringify!($flag), $name::$flag),)*];
        }

        $(#[$bits_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $bits {
            $($(#[$flag_doc])* pub $field: usize,)*
        }

        impl $bits {
            /// The positions of the library's own flag word.
            pub const DEFAULT: $bits = $bits { $($field: $name::$flag.0 as usize,)* };
        }
    };
}

flag_set! {
    /// A set of exit-work flags.
    ExitWork,
    /// Which bit of the host's word stands for which exit work. Masks; 0 for work that the host does not have.
    ExitWorkBits {
        /// Another task should run.
        NEED_RESCHED need_resched = 0;
        /// Another task should run, at the latest on the way to user mode.
        NEED_RESCHED_LAZY need_resched_lazy = 1;
        /// A signal may have to be delivered.
        SIGPENDING sigpending = 2;
        /// Task work wants to interrupt sleeps, as a signal does.
        NOTIFY_SIGNAL notify_signal = 3;
        /// Task work is queued.
        NOTIFY_RESUME notify_resume = 4;
        /// A user-space probe was hit.
        UPROBE uprobe = 5;
        /// A live patch is to be switched to.
        PATCH_PENDING patch_pending = 6;
        /// Something was left in user-mode state that has to be put back, once, with interrupts off.
        USER_RETURN_NOTIFY user_return_notify = 7;
        /// The task was preempted, migrated or signalled inside a restartable sequence, perhaps.
        RSEQ rseq = 8;
    }
}

impl ExitWorkBits {
    /// Work that the exit loop runs with interrupts on.
    pub const fn in_loop(&self) -> usize {
        self.need_resched
            | self.need_resched_lazy
            | self.sigpending
            | self.notify_signal
            | self.notify_resume
            | self.uprobe
            | self.patch_pending
            | self.rseq
    }

    /// Work that is done before a guest is entered. Not the probes and patches: they need the registers and the stack of
    /// the way to user mode.
    pub const fn before_guest(&self) -> usize {
        self.need_resched
            | self.need_resched_lazy
            | self.sigpending
            | self.notify_signal
            | self.notify_resume
            | self.rseq
    }

    /// All exit work: what the last check tests.
    pub const fn all(&self) -> usize {
        self.in_loop() | self.user_return_notify
    }
}

flag_set! {
    /// A set of syscall-work flags.
    SyscallWork,
    /// Which bit of the host's word stands for which syscall work. Masks; 0 for work that the host does not have.
    SyscallWorkBits {
        /// System calls outside an allowed range become SIGSYS.
        USER_DISPATCH user_dispatch = 0;
        /// A tracer stops the task at entry and exit.
        TRACE trace = 1;
        /// A tracer emulates the system calls.
        EMU emu = 2;
        /// A seccomp filter is attached.
        SECCOMP seccomp = 3;
        /// A trace point is attached.
        TRACEPOINT tracepoint = 4;
        /// Audit records are wanted.
        AUDIT audit = 5;
        /// A debug trap is owed after the system call (single-step).
        EXIT_TRAP exit_trap = 6;
    }
}

impl SyscallWorkBits {
    /// Work before the system call: the one test of the way in.
    pub const fn at_entry(&self) -> usize {
        self.user_dispatch | self.trace | self.emu | self.seccomp | self.tracepoint | self.audit
    }

    /// Work after the system call: the one test before the way out.
    pub const fn at_exit(&self) -> usize {
        self.user_dispatch | self.trace | self.tracepoint | self.audit | self.exit_trap
    }
}

/// A task's pending work, and the CPU it runs on: 16 bytes that the kernel keeps in each task.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct TaskWork {
    exit: AtomicU32,
    syscall: AtomicU32,
    running_on: AtomicU32,
}

/// No CPU.
const NOWHERE: u32 = u32::MAX;

/// The CPU to which [`TaskWork::raise`] owes an inter-processor interrupt.
#[must_use = "the task may be in user mode on this CPU and will not see the flag before the next interrupt"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwedIpi {
    /// The number of the CPU, as given to [`TaskWork::switch_in`].
    pub cpu: u32,
}

impl TaskWork {
    /// No work, running nowhere.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        TaskWork {
            exit: AtomicU32::new(0),
            syscall: AtomicU32::new(0),
            running_on: AtomicU32::new(NOWHERE),
        }
    }

    /// No work, running nowhere.
    #[cfg(loom)]
    pub fn new() -> Self {
        TaskWork {
            exit: AtomicU32::new(0),
            syscall: AtomicU32::new(0),
            running_on: AtomicU32::new(NOWHERE),
        }
    }

    /// Raises exit work. If the task runs on another CPU than `this_cpu` and the flag was not raised already, that CPU
    /// is owed an inter-processor interrupt. May be called anywhere, an NMI handler included.
    pub fn raise(&self, work: ExitWork, this_cpu: u32) -> Option<OwedIpi> {
        let before = self.exit.fetch_or(work.0, SeqCst);
        if before & work.0 == work.0 {
            // Whoever raised it has sent the interrupt, and the flag has not been taken since.
            return None;
        }
        loom_fence();
        match self.running_on.load(SeqCst) {
            NOWHERE => None,
            cpu if cpu == this_cpu => None,
            cpu => Some(OwedIpi { cpu }),
        }
    }

    /// Takes exit work: the flags are down afterwards. Says which of them were up. A hook calls it *before* it looks at
    /// what the flag stands for, so that work raised meanwhile raises the flag again.
    pub fn take(&self, work: ExitWork) -> ExitWork {
        ExitWork(self.exit.fetch_and(!work.0, SeqCst) & work.0)
    }

    /// Whether any of these flags is up.
    pub fn is_raised(&self, work: ExitWork) -> bool {
        self.exit.load(SeqCst) & work.0 != 0
    }

    /// Arms syscall work.
    pub fn arm(&self, work: SyscallWork) {
        self.syscall.fetch_or(work.0, SeqCst);
    }

    /// Disarms syscall work.
    pub fn disarm(&self, work: SyscallWork) {
        self.syscall.fetch_and(!work.0, SeqCst);
    }

    /// The task starts to run on a CPU. Called by the scheduler with interrupts off, before the task's code runs.
    pub fn switch_in(&self, cpu: u32) {
        self.running_on.store(cpu, SeqCst);
        loom_fence();
    }

    /// The task no longer runs. Called by the scheduler with interrupts off.
    pub fn switch_out(&self) {
        self.running_on.store(NOWHERE, SeqCst);
    }

    /// The CPU that the task runs on.
    pub fn running_on(&self) -> Option<u32> {
        match self.running_on.load(SeqCst) {
            NOWHERE => None,
            cpu => Some(cpu),
        }
    }

    /// The exit-work word, read once: what [`Kernel::exit_work`](crate::Kernel::exit_work) returns.
    #[inline(always)]
    pub fn exit_word(&self) -> usize {
        #[cfg(loom)]
        return self.exit.load(SeqCst) as usize;
        // Relaxed is enough on the CPU that runs the task: the store in `switch_in` is a full barrier on x86 (XCHG) and
        // comes before this read; whoever raises a flag after that sees the announcement and sends the interrupt.
        #[cfg(not(loom))]
        return self.exit.load(Relaxed) as usize;
    }

    /// The syscall-work word, read once: what [`Kernel::syscall_work`](crate::Kernel::syscall_work) returns.
    #[inline(always)]
    pub fn syscall_word(&self) -> usize {
        #[cfg(loom)]
        return self.syscall.load(SeqCst) as usize;
        #[cfg(not(loom))]
        return self.syscall.load(Relaxed) as usize;
    }
}

impl Default for TaskWork {
    fn default() -> Self {
        Self::new()
    }
}
