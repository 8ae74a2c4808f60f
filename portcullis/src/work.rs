//! The lists of pending work, and raising it from another CPU.
//!
//! A task has two words. **Exit work** must be done before the task returns to user mode; any CPU may raise it at any time.
//! **System-call work** is done at each system call of the task while it is armed.
//!
//! Each kind of either is one line in the lists below: its flag, its hook, and when it is due. The masks, the tables of
//! `docs/hooks.md`, the explorer's expectations and the fields of [`ExitWorkBits`] and [`SyscallWorkBits`] follow from that.
//! A new kind compiles when its hook exists ([`ExitHooks`](crate::ExitHooks), [`SyscallHooks`](crate::SyscallHooks)) and
//! [`exit`](crate::exit), [`guest`](crate::guest) or [`syscall`](crate::syscall) name it; the explorer's test
//! `each_bit_alone_reaches_its_hook_and_no_other` fails until they call it.
//!
//! There is no phase for work that runs *exactly once per return with interrupts on*: with interrupts on more work may be
//! raised, and the loop starts again. A hook that takes its flag runs at most once per raise.
//!
//! Ordering. [`WorkFlags::raise`] sets the flag and *then* reads where the task runs; a CPU that switches to the task
//! announces itself ([`WorkFlags::switch_in`]) and *then* reads the flags, at the latest in the last read of the way out.
//! Both are sequentially consistent, so at least one side sees the other: either the task sees the flag, or the raiser sees
//! the CPU and owes it an interrupt, which brings the task back from user mode. `tests/loom.rs` checks the interleavings.

#[cfg(not(loom))]
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{self, Relaxed, SeqCst};
#[cfg(loom)]
use loom::sync::atomic::AtomicU32;

/// Between a write and a read that must not pass each other. SeqCst accesses suffice; loom treats these as acquire and
/// release, so it needs a fence.
#[inline(always)]
pub(crate) fn loom_fence() {
    #[cfg(loom)]
    loom::sync::atomic::fence(SeqCst);
}

/// When a kind of exit work is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// In the exit loop: interrupts on, may sleep.
    Loop,
    /// After the loop, interrupts off; may send the task back into the loop, and is done again after that.
    Repeat,
    /// After both, interrupts off, once per return.
    Once,
}

/// After which crossings a kind of exit work is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// System calls, exceptions and interrupts.
    Both,
    /// System calls only.
    Syscalls,
    /// Exceptions and interrupts only.
    Events,
}

/// A kind of exit work, as declared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ExitKind {
    /// Its flag's name.
    pub name: &'static str,
    /// Its flag.
    pub flag: ExitWork,
    /// What it is.
    pub what: &'static str,
    /// Its hook's name.
    pub hook: &'static str,
    /// When it is done.
    pub phase: Phase,
    /// After which crossings it is done.
    pub ends: Ends,
    /// Whether it is also done before a guest is entered.
    pub guest: bool,
}

/// A kind of system-call work, as declared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SyscallKind {
    /// Its flag's name.
    pub name: &'static str,
    /// Its flag.
    pub flag: SyscallWork,
    /// What it is.
    pub what: &'static str,
    /// Its hook before the system call, if it has one.
    pub entry: Option<&'static str>,
    /// Its hook after the system call, if it has one.
    pub exit: Option<&'static str>,
}

/// A set of flags and its operators.
macro_rules! flag_set {
    ($(#[$doc:meta])* $name:ident { $($flag:ident = $bit:literal: $what:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[repr(transparent)]
        pub struct $name(u32);

        impl $name {
            $(#[doc = $what] pub const $flag: $name = $name({ assert!($bit < 16, "the others are kernels' own"); 1 << $bit });)*

            /// No flag.
            pub const fn empty() -> Self {
                $name(0)
            }

            /// The flags at these bits of [`WorkFlags`]' word: 0 to 15 are the library's, the others a kernel's own.
            pub const fn from_bits(bits: u32) -> Self {
                $name(bits)
            }

            /// Their bits in [`WorkFlags`]' word.
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// Whether it holds no flag.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Whether it holds all flags of `other`.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether it holds a flag of `other`.
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }
        }

        impl core::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                $name(self.0 | other.0)
            }
        }
        impl core::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }
        impl core::ops::BitAnd for $name {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                $name(self.0 & other.0)
            }
        }
        impl core::ops::Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                $name(self.0 & !other.0)
            }
        }
    };
}

macro_rules! exit_work {
    ($($flag:ident $field:ident = $bit:literal, $phase:ident, $ends:ident, $guest:literal, $hook:ident: $what:literal;)*) => {
        flag_set! {
            /// A set of exit-work flags.
            ExitWork { $($flag = $bit: $what,)* }
        }

        impl ExitWork {
            /// Every kind of exit work, as declared.
            pub const KINDS: &'static [ExitKind] = &[$(ExitKind {
                name: stringify!($flag),
                flag: ExitWork::$flag,
                what: $what,
                hook: stringify!($hook),
                phase: Phase::$phase,
                ends: Ends::$ends,
                guest: $guest,
            },)*];
        }

        /// Which bits of the host's word stand for which exit work; 0 for work that the host does not have.
        ///
        /// A host with flags of its own (Linux) names all fields, so that it does not compile when a kind is added here. A
        /// kernel that uses [`WorkFlags`] names what it adds: `ExitWorkBits { own_loop: MINE, ..ExitWorkBits::DEFAULT }`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct ExitWorkBits {
            $(#[doc = $what] pub $field: usize,)*
            /// Work of the kernel's own in the loop: [`arch_exit_to_user_mode_work`](crate::ExitHooks::arch_exit_to_user_mode_work).
            pub own_loop: usize,
            /// Work of the kernel's own, once: [`arch_exit_to_user_mode_once`](crate::ExitHooks::arch_exit_to_user_mode_once).
            pub own_once: usize,
            /// Of the bits above, those not looked at when a system call ends.
            pub not_after_syscalls: usize,
            /// Of the bits above, those not looked at when an exception or interrupt ends.
            pub not_after_events: usize,
        }

        impl ExitWorkBits {
            /// The bits of [`WorkFlags`], and no work of the kernel's own.
            pub const DEFAULT: ExitWorkBits = ExitWorkBits {
                $($field: ExitWork::$flag.0 as usize,)*
                own_loop: 0,
                own_once: 0,
                not_after_syscalls: 0,
                not_after_events: 0,
            };

            /// All work of a phase.
            pub const fn of(&self, phase: Phase) -> usize {
                let own = match phase {
                    Phase::Loop => self.own_loop,
                    Phase::Repeat => 0,
                    Phase::Once => self.own_once,
                };
                own $(| if Phase::$phase as u8 == phase as u8 { self.$field } else { 0 })*
            }

            /// What is looked at when a system call ends, or else when an exception or interrupt does.
            pub const fn due(&self, after_syscall: bool) -> usize {
                let not = if after_syscall { self.not_after_syscalls } else { self.not_after_events };
                let all = self.own_loop | self.own_once $(| match Ends::$ends {
                    Ends::Syscalls if !after_syscall => 0,
                    Ends::Events if after_syscall => 0,
                    _ => self.$field,
                })*;
                all & !not
            }

            /// What is looked at before a guest is entered.
            pub const fn before_guest(&self) -> usize {
                self.own_loop $(| if $guest { self.$field } else { 0 })*
            }

            /// Whether no two fields share a bit.
            pub const fn is_disjoint(&self) -> bool {
                // A bit that two have carries over in the sum.
                let (mut union, mut sum) = (self.own_loop | self.own_once, self.own_loop as u128 + self.own_once as u128);
                $(union |= self.$field; sum += self.$field as u128;)*
                union as u128 == sum
            }

            /// The name of the first kind of work in a word.
            #[cold]
            pub(crate) fn first_name(&self, word: usize) -> &'static str {
                $(if word & self.$field != 0 { return stringify!($flag); })*
                "work of the kernel's own"
            }

            /// The word, one kind at a time.
            #[inline(always)]
            pub(crate) fn pending(&self, word: usize) -> PendingExitWork {
                PendingExitWork {
                    $($field: word & self.$field,)*
                    own_loop: word & self.own_loop,
                    own_once: word & self.own_once,
                }
            }
        }

        /// Each kind's bit, or 0 if it is not pending. To be destructured without `..`, so that a new kind is not forgotten.
        #[allow(dead_code, reason = "no place runs all of it")]
        pub(crate) struct PendingExitWork {
            $(pub $field: usize,)*
            pub own_loop: usize,
            pub own_once: usize,
        }
    };
}

macro_rules! syscall_work {
    ($($flag:ident $field:ident = $bit:literal $(, entry $entry:ident)? $(, exit $exit:ident)?: $what:literal;)*) => {
        flag_set! {
            /// A set of system-call-work flags.
            SyscallWork { $($flag = $bit: $what,)* }
        }

        impl SyscallWork {
            /// Every kind of system-call work, as declared.
            pub const KINDS: &'static [SyscallKind] = &[$(SyscallKind {
                name: stringify!($flag),
                flag: SyscallWork::$flag,
                what: $what,
                entry: syscall_work!(@name $($entry)?),
                exit: syscall_work!(@name $($exit)?),
            },)*];
        }

        /// Which bits of the host's word stand for which system-call work; 0 for work that the host does not have.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct SyscallWorkBits {
            $(#[doc = $what] pub $field: usize,)*
        }

        impl SyscallWorkBits {
            /// The bits of [`WorkFlags`].
            pub const DEFAULT: SyscallWorkBits = SyscallWorkBits { $($field: SyscallWork::$flag.0 as usize,)* };

            /// All work before the system call.
            pub const fn at_entry(&self) -> usize {
                0 $($(| { let _ = stringify!($entry); self.$field })?)*
            }

            /// All work after the system call.
            pub const fn at_exit(&self) -> usize {
                0 $($(| { let _ = stringify!($exit); self.$field })?)*
            }

            /// The word, one kind at a time.
            #[inline(always)]
            pub(crate) fn armed(&self, word: usize) -> ArmedSyscallWork {
                ArmedSyscallWork { $($field: word & self.$field,)* }
            }
        }

        /// Each kind's bit, or 0 if it is not armed. To be destructured as [`PendingExitWork`].
        pub(crate) struct ArmedSyscallWork {
            $(pub $field: usize,)*
        }
    };
    (@name) => { None };
    (@name $hook:ident) => { Some(stringify!($hook)) };
}

// flag, field = bit, phase, after which crossings, before a guest too, hook: what
exit_work! {
    NEED_RESCHED need_resched = 0, Loop, Both, true, schedule: "Another task should run.";
    NEED_RESCHED_LAZY need_resched_lazy = 1, Loop, Both, true, schedule:
        "Another task should run, at the latest on the way to user mode.";
    UPROBE uprobe = 5, Loop, Both, false, uprobe_notify_resume: "A probe in user code was hit.";
    PATCH_PENDING patch_pending = 6, Loop, Both, false, klp_update_patch_state: "The task has to switch to patched kernel code.";
    SIGPENDING sigpending = 2, Loop, Both, true, do_signal_or_restart: "A signal may have to be delivered.";
    NOTIFY_SIGNAL notify_signal = 3, Loop, Both, true, do_signal_or_restart: "Queued task work that interrupts sleeps, as a signal does.";
    NOTIFY_RESUME notify_resume = 4, Loop, Both, true, resume_user_mode_work: "Queued task work.";
    RSEQ rseq = 8, Repeat, Both, false, rseq_exit_to_user_mode_restart:
        "The task may have been preempted, migrated or signaled inside a restartable sequence.";
    USER_RETURN_NOTIFY user_return_notify = 7, Once, Both, false, fire_user_return_notifiers: "User-mode state (MSRs) has to be restored.";
}

// flag, field = bit, hooks: what
syscall_work! {
    USER_DISPATCH user_dispatch = 0, entry syscall_user_dispatch, exit on_user_dispatch:
        "System calls outside an allowed range become SIGSYS.";
    TRACE trace = 1, entry ptrace_report_syscall_entry, exit ptrace_report_syscall_exit: "A tracer stops the task at entry and exit.";
    EMU emu = 2, entry ptrace_report_syscall_entry: "A tracer emulates the system calls.";
    SECCOMP seccomp = 3, entry secure_computing: "A seccomp filter is attached.";
    TRACEPOINT tracepoint = 4, entry trace_sys_enter, exit trace_sys_exit: "A trace point is attached.";
    AUDIT audit = 5, entry audit_syscall_entry, exit audit_syscall_exit: "Audit records are wanted.";
    RSEQ_SLICE rseq_slice = 7, entry rseq_syscall_enter_work:
        "The task runs on an extension of its time slice, which a system call ends.";
    EXIT_TRAP exit_trap = 6, exit ptrace_report_syscall_exit: "A debug trap is owed after the system call (single-step).";
}

/// A task's pending work and the CPU that it runs on: 16 bytes in the kernel's task structure.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct WorkFlags {
    exit: AtomicU32,
    syscall: AtomicU32,
    running_on: AtomicU32,
    /// See [`raised_here`](Self::raised_here).
    raised_here: AtomicU32,
}

/// No CPU.
const NOWHERE: u32 = u32::MAX;

/// For a read by the CPU that runs the task. Relaxed is enough: the store in `switch_in` is a full barrier on x86 (XCHG) and
/// precedes the read; who raises a flag after that sees the announcement and owes the interrupt. loom has no such barrier.
const OWN: Ordering = if cfg!(loom) { SeqCst } else { Relaxed };

/// The inter-processor interrupt, if any, that the caller of [`WorkFlags::raise`] owes a CPU.
#[must_use = "the task may be in user mode on another CPU and will not see the flag before its next interrupt"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwedIpi(Option<u32>);

impl OwedIpi {
    /// Sends it. `send` gets the CPU's number, as given to [`WorkFlags::switch_in`].
    #[inline(always)]
    pub fn send(self, send: impl FnOnce(u32)) {
        if let Some(cpu) = self.0 {
            send(cpu);
        }
    }

    /// The CPU to which it is owed.
    pub fn cpu(self) -> Option<u32> {
        self.0
    }

    /// Asserts that none is owed: the task has not run yet, or is the current one.
    pub fn none_owed(self) {
        debug_assert!(self.0.is_none(), "{self:?}");
    }
}

impl WorkFlags {
    /// Where the word of system-call work is, in bytes.
    #[cfg(all(target_arch = "x86_64", not(loom), not(portcullis_policy_only)))]
    pub(crate) const SYSCALL: usize = core::mem::offset_of!(WorkFlags, syscall);
    /// Where both words are, side by side.
    #[cfg(all(target_arch = "x86_64", not(loom), not(portcullis_policy_only)))]
    pub(crate) const BOTH: usize = {
        let exit = core::mem::offset_of!(WorkFlags, exit);
        assert!(exit.is_multiple_of(8) && Self::SYSCALL == exit + 4);
        exit
    };

    /// No work, running nowhere.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        WorkFlags {
            exit: AtomicU32::new(0),
            syscall: AtomicU32::new(0),
            running_on: AtomicU32::new(NOWHERE),
            raised_here: AtomicU32::new(0),
        }
    }

    /// No work, running nowhere.
    #[cfg(loom)]
    pub fn new() -> Self {
        WorkFlags {
            exit: AtomicU32::new(0),
            syscall: AtomicU32::new(0),
            running_on: AtomicU32::new(NOWHERE),
            raised_here: AtomicU32::new(0),
        }
    }

    /// Raises exit work. If the task runs on another CPU and the flag was not up, that CPU is owed an inter-processor
    /// interrupt. May be called in any context, NMI handlers included.
    ///
    /// `this_cpu` returns the number of the calling CPU, or `None` in the handler of an NMI, or of a #MC or #DB that hit the
    /// kernel: what was hit may be past the last read of its way out, so even this CPU is owed an interrupt
    /// ([`CpuLocal::raising_cpu`](crate::x86_64::CpuLocal::raising_cpu)). It is called after the flag is up: a number read
    /// earlier may be that of a CPU which the caller has left and to which the task has moved.
    pub fn raise(&self, work: ExitWork, this_cpu: impl FnOnce() -> Option<u32>) -> OwedIpi {
        let before = self.exit.fetch_or(work.0, SeqCst);
        if before & work.0 == work.0 {
            // Who raised it owes the interrupt, and the flag has not been taken since.
            return OwedIpi(None);
        }
        loom_fence();
        match self.running_on.load(SeqCst) {
            NOWHERE => OwedIpi(None),
            cpu if Some(cpu) == this_cpu() => {
                if cfg!(debug_assertions) {
                    self.raised_here.fetch_add(1, SeqCst);
                }
                OwedIpi(None)
            }
            cpu => OwedIpi(Some(cpu)),
        }
    }

    /// Clears flags of exit work, and returns which of them were up. A hook calls it *before* it looks at what the flag stands
    /// for, so that work raised meanwhile sets the flag again.
    pub fn take(&self, work: ExitWork) -> ExitWork {
        ExitWork(self.exit.fetch_and(!work.0, SeqCst) & work.0)
    }

    /// Whether any of these flags is up.
    pub fn is_raised(&self, work: ExitWork) -> bool {
        self.exit.load(SeqCst) & work.0 != 0
    }

    /// Arms system-call work.
    pub fn arm(&self, work: SyscallWork) {
        self.syscall.fetch_or(work.0, SeqCst);
    }

    /// Disarms system-call work.
    pub fn disarm(&self, work: SyscallWork) {
        self.syscall.fetch_and(!work.0, SeqCst);
    }

    /// The system-call work that is armed.
    pub fn armed(&self) -> SyscallWork {
        SyscallWork(self.syscall.load(SeqCst))
    }

    /// The task starts to run on a CPU: interrupts off, before the task's code runs.
    /// [`CpuLocal::switch_to`](crate::x86_64::CpuLocal::switch_to) calls it, and [`init_cpu`](crate::x86_64::init_cpu) for a
    /// CPU's first task.
    ///
    /// # Safety
    /// The task does run on that CPU from now on: whoever raises work for it trusts that.
    #[inline(always)]
    #[allow(unsafe_code, reason = "whoever switches tasks vouches for it")]
    pub unsafe fn switch_in(&self, cpu: u32) {
        self.running_on.store(cpu, SeqCst);
        loom_fence();
    }

    /// The task no longer runs: interrupts off. `CpuLocal::switch_to` calls it.
    ///
    /// # Safety
    /// The task does not run from now on.
    #[inline(always)]
    #[allow(unsafe_code, reason = "whoever switches tasks vouches for it")]
    pub unsafe fn switch_out(&self) {
        self.running_on.store(NOWHERE, SeqCst);
    }

    /// The CPU that the task runs on.
    pub fn running_on(&self) -> Option<u32> {
        match self.running_on.load(SeqCst) {
            NOWHERE => None,
            cpu => Some(cpu),
        }
    }

    /// How often the CPU that runs the task raised exit work for it, counted with debug assertions: what
    /// [`Diagnostics::raised_here`](crate::Diagnostics::raised_here) returns.
    pub fn raised_here(&self) -> u32 {
        self.raised_here.load(SeqCst)
    }

    /// The exit-work word, read once: what [`Kernel::exit_work`](crate::Kernel::exit_work) returns.
    #[inline(always)]
    pub fn exit_word(&self) -> usize {
        self.exit.load(OWN) as usize
    }

    /// The system-call-work word, read once: what [`Kernel::syscall_work`](crate::Kernel::syscall_work) returns.
    #[inline(always)]
    pub fn syscall_word(&self) -> usize {
        self.syscall.load(OWN) as usize
    }
}

#[cfg(all(test, not(loom)))]
#[path = "../tests/unit/work.rs"]
mod tests;
