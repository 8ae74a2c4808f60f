//! Filters: what a program says about a system call, and how several agree.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicUsize, Ordering::*};

use crate::task::seccomp::bpf;
use crate::task::seccomp::bpf::Instruction;
use crate::task::seccomp::data::Data;
use crate::task::seccomp::listener::Listener;
use crate::task::syscall_info::state::{AUDIT_ARCH_I386, AUDIT_ARCH_X86_64};

/// What is to become of a call (`SECCOMP_RET_*`).
#[allow(missing_docs, reason = "the field's names")]
pub mod action {
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    /// The part of a verdict that is the action; the rest is data.
    pub const MASK: u32 = 0xffff_0000;
    /// The data.
    pub const DATA: u32 = 0x0000_ffff;
}

/// Numbers for which a filter's answer is worked out in advance.
const KNOWN_NUMBERS: usize = 512;
const WORD_BITS: usize = u64::BITS as usize;
/// The numbers of one architecture that this filter and all before it allow, whatever the arguments.
type Allowed = [u64; KNOWN_NUMBERS / WORD_BITS];

/// An attached program, and those that were attached before it.
pub struct Filter {
    program: Vec<Instruction>,
    previous: Option<Arc<Filter>>,
    allowed_64: Allowed,
    allowed_32: Allowed,
    /// Log what is not allowed.
    pub log: bool,
    /// Once the listener has a notification, only a fatal signal ends the wait for its answer.
    pub wait_killable: bool,
    /// Where its notifications go.
    pub listener: Listener,
    /// Instructions of this and all before, each filter counted with a little more.
    total: usize,
    /// Tasks whose newest filter this is, and filters that follow it.
    users: AtomicUsize,
}

impl Filter {
    /// The instructions that a chain may have in all, and what each filter costs beside its own.
    const MAX_TOTAL: usize = 32768;
    const OVERHEAD: usize = 4;

    /// A filter to follow `previous`. None if the chain would be too long.
    pub fn new(program: Vec<Instruction>, previous: Option<Arc<Filter>>) -> Option<Filter> {
        // Only those before it are counted with the overhead, as in Linux.
        let before = previous.as_ref().map_or(0, |previous| previous.total);
        if before + program.len() > Self::MAX_TOTAL {
            return None;
        }
        let allowed = |arch: u32, before: fn(&Filter) -> &Allowed| {
            let mut allowed = previous.as_ref().map_or([u64::MAX; _], |filter| *before(filter));
            for number in 0..KNOWN_NUMBERS {
                let bit = 1 << (number % WORD_BITS);
                let word = &mut allowed[number / WORD_BITS];
                if *word & bit != 0 && bpf::run_for_all(&program, number as u32, arch) != Some(action::ALLOW) {
                    *word &= !bit;
                }
            }
            allowed
        };
        Some(Filter {
            allowed_64: allowed(AUDIT_ARCH_X86_64, |filter| &filter.allowed_64),
            allowed_32: allowed(AUDIT_ARCH_I386, |filter| &filter.allowed_32),
            total: before + program.len() + Self::OVERHEAD,
            program,
            previous,
            log: false,
            wait_killable: false,
            listener: Listener::none(),
            users: AtomicUsize::new(0),
        })
    }

    /// Whether every call with this number is allowed: known without running a program.
    #[inline]
    pub fn allows(&self, number: i32, arch: u32) -> bool {
        let allowed = match arch {
            AUDIT_ARCH_X86_64 => &self.allowed_64,
            _ => &self.allowed_32,
        };
        let number = number as u32 as usize;
        allowed.get(number / WORD_BITS).is_some_and(|word| word & 1 << (number % WORD_BITS) != 0)
    }

    /// Runs all programs, the newest first. The most severe action wins; of equals, the newest filter's. Gives the verdict
    /// and the filter that it is from.
    pub fn judge(&self, data: &Data) -> (u32, Option<&Filter>) {
        let words = data.words();
        let severity = |verdict: u32| (verdict & action::MASK) as i32;
        let mut verdict = action::ALLOW;
        let mut from = None;
        for filter in self.chain() {
            let this = bpf::run(&filter.program, &words);
            if severity(this) < severity(verdict) {
                verdict = this;
                from = Some(filter);
            }
        }
        (verdict, from)
    }

    /// This and all before it, the newest first.
    pub fn chain(&self) -> impl Iterator<Item = &Filter> {
        core::iter::successors(Some(self), |filter| filter.previous.as_deref())
    }

    /// The program, for tracers that ask.
    pub fn program(&self) -> &[Instruction] {
        &self.program
    }

    /// The one that was attached before it.
    pub fn previous(&self) -> Option<Arc<Filter>> {
        self.previous.clone()
    }

    /// Whether no task has it any more, so that it will never notify again.
    pub fn is_orphaned(&self) -> bool {
        self.users.load(Acquire) == 0
    }
}

impl Drop for Filter {
    /// One after the other: a chain may be longer than the kernel's stack is deep.
    fn drop(&mut self) {
        let mut next = self.previous.take();
        while let Some(mut filter) = next.and_then(Arc::into_inner) {
            next = filter.previous.take();
        }
    }
}

/// A task's newest filter. As long as one exists, the filter and those before it have a user.
pub struct Attached(Arc<Filter>);

impl Attached {
    /// Makes a new filter a task's newest.
    pub fn new(filter: Arc<Filter>) -> Attached {
        filter.users.store(1, Relaxed);
        if let Some(previous) = &filter.previous {
            previous.users.fetch_add(1, Relaxed);
        }
        Attached(filter)
    }

    /// The filter, to keep without using it.
    pub fn share(&self) -> Arc<Filter> {
        self.0.clone()
    }
}

impl Clone for Attached {
    fn clone(&self) -> Attached {
        self.0.users.fetch_add(1, Relaxed);
        Attached(self.0.clone())
    }
}

impl Deref for Attached {
    type Target = Filter;
    fn deref(&self) -> &Filter {
        &self.0
    }
}

impl Drop for Attached {
    /// Listeners of filters that nobody uses any more are told.
    fn drop(&mut self) {
        for filter in self.0.chain() {
            if filter.users.fetch_sub(1, AcqRel) != 1 {
                break;
            }
            filter.listener.wake();
        }
    }
}

#[cfg(test)]
mod tests;
