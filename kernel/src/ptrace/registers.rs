//! The general registers of a stopped tracee, as tracers see them: `struct user_regs_struct`, and the "user area" around
//! it that PTRACE_PEEKUSER and POKEUSER index.
//!
//! Whatever a tracer writes, the tracee stays in ring 3 and does not get flags that steer the kernel. A bad RIP, CS or SS
//! faults at the IRET and becomes the tracee's signal.

use core::mem::{offset_of, size_of};
use core::ptr::NonNull;

use portcullis::x86_64::regs::flags;
use portcullis::x86_64::tables::USER_DS;
use portcullis::x86_64::{SavedRegs, UserRegs};

use crate::errno::{Errno, Result};
use crate::machine::segments::Segments;
use crate::memory::USER_END;
use crate::ptrace::debug;
use crate::sched::lent;
use crate::task::{Task, syscall_info};

/// The words of `struct user_regs_struct`: those of [`UserRegs`], and these.
const FS_BASE: usize = UserRegs::SIZE / 8;
const GS_BASE: usize = FS_BASE + 1;
pub(super) const DS: usize = FS_BASE + 2;
pub(super) const ES: usize = FS_BASE + 3;
pub(super) const FS: usize = FS_BASE + 4;
pub(super) const GS: usize = FS_BASE + 5;
/// How many words it has.
pub const WORDS: usize = FS_BASE + 6;
pub(super) const CS: usize = offset_of!(SavedRegs, cs) / 8;
pub(super) const SS: usize = offset_of!(SavedRegs, ss) / 8;
const RFLAGS: usize = offset_of!(SavedRegs, rflags) / 8;
pub(super) const ORIG_RAX: usize = offset_of!(SavedRegs, orig_rax) / 8;

/// Where DR0 is in the user area (`struct user`, 6.1).
const DEBUG_REGISTERS: u64 = 848;
/// Bytes of the user area.
const USER_AREA: u64 = 928;

/// The flags that a tracer may change.
const CHANGEABLE: u64 = UserRegs::FLAGS & !flags::ID;

/// A tracee that is stopped for the current task, and frozen: its registers are the tracer's to look at.
pub struct Stopped<'a> {
    task: &'a Task,
    /// What it lends.
    regs: NonNull<UserRegs>,
}

impl<'a> Stopped<'a> {
    /// ESRCH for a task that does not lend its registers.
    ///
    /// # Safety
    /// `task` is asleep, and nothing but the current task wakes it. Once that has, only [`Self::task`] is called.
    pub unsafe fn new(task: &'a Task) -> Result<Self> {
        let regs = lent::of(task).ok_or(Errno::ESRCH)?;
        Ok(Stopped { task, regs })
    }

    /// The tracee.
    pub fn task(&self) -> &'a Task {
        self.task
    }

    /// The registers that its door saved, which it lends while it is stopped.
    pub fn regs(&self) -> &UserRegs {
        // SAFETY: `new`'s caller keeps it asleep, so it does without them, and the tracer has one `Stopped`.
        unsafe { self.regs.as_ref() }
    }

    /// The same, to write.
    pub fn regs_mut(&mut self) -> &mut UserRegs {
        // SAFETY: as for `regs`.
        unsafe { self.regs.as_mut() }
    }

    /// Its segment registers, as the switch saved them.
    pub fn segments(&mut self) -> &mut Segments {
        // SAFETY: the switch has saved them, and does not load them before the current task wakes the tracee, after which this is
        // not called. Nobody else looks at those of a task that is asleep.
        unsafe { &mut *self.task.saved_segments() }
    }

    /// A word of `struct user_regs_struct`.
    #[inline]
    pub fn get(&mut self, word: usize) -> u64 {
        match word {
            FS_BASE => self.segments().fs_base,
            GS_BASE => self.segments().gs_base,
            DS => self.segments().ds.into(),
            ES => self.segments().es.into(),
            FS => self.segments().fs.into(),
            GS => self.segments().gs.into(),
            RFLAGS => self.flags(),
            CS | SS => u64::from(self.word(word) as u16),
            _ => self.word(word),
        }
    }

    /// Changes a word of `struct user_regs_struct`.
    pub fn set(&mut self, word: usize, value: u64) -> Result<()> {
        match word {
            FS_BASE | GS_BASE => {
                if value >= USER_END {
                    return Err(Errno::EIO);
                }
                let segments = self.segments();
                let base = if word == FS_BASE { &mut segments.fs_base } else { &mut segments.gs_base };
                *base = value;
            }
            CS | SS | DS | ES | FS | GS => self.set_selector(word, value as u16)?,
            RFLAGS => self.set_flags(value),
            _ => {
                if word == ORIG_RAX {
                    syscall_info::keep_origin(self.task, self.regs());
                }
                *self.word_mut(word) = value;
            }
        }
        Ok(())
    }

    fn word(&mut self, word: usize) -> u64 {
        *self.word_mut(word)
    }

    fn word_mut(&mut self, word: usize) -> &mut u64 {
        assert!(word < FS_BASE);
        // SAFETY: as for `regs`; `UserRegs` is this many words and nothing else.
        unsafe { &mut *self.regs.as_ptr().cast::<u64>().add(word) }
    }

    /// RFLAGS without the TF that is the tracer's.
    pub fn flags(&self) -> u64 {
        let hidden = if self.task.trace.step.is_forced() { flags::TF } else { 0 };
        self.regs().rflags() & !hidden
    }

    /// Changes what a tracer may change of RFLAGS. A TF that it writes is the program's from now on; one that stepping needs
    /// stays.
    pub fn set_flags(&mut self, value: u64) {
        let mut value = value;
        if value & flags::TF != 0 {
            self.task.trace.step.not_forced();
        } else if self.task.trace.step.is_forced() {
            value |= flags::TF;
        }
        let regs = self.regs_mut();
        regs.set_rflags(regs.rflags() & !CHANGEABLE | value & CHANGEABLE);
    }

    /// Any selector of ring 3, also one that names nothing: that is found out when it is loaded. CS and SS are not null.
    pub fn set_selector(&mut self, word: usize, selector: u16) -> Result<()> {
        if selector != 0 && selector & 3 != 3 {
            return Err(Errno::EIO);
        }
        if matches!(word, CS | SS) && selector == 0 {
            return Err(Errno::EIO);
        }
        match word {
            CS => self.regs_mut().set_cs(selector),
            SS => self.regs_mut().set_ss(selector),
            DS => self.segments().ds = selector,
            ES => self.segments().es = selector,
            FS => self.segments().fs = selector,
            _ => self.segments().gs = selector,
        }
        Ok(())
    }

    /// PTRACE_PEEKUSER.
    pub fn peek_user(&mut self, offset: u64) -> Result<u64> {
        Ok(match place(offset)? {
            Place::Register(word) => self.get(word),
            Place::Debug(n) => self.task.trace.debug.get(n),
            Place::Nothing => 0,
        })
    }

    /// PTRACE_POKEUSER.
    pub fn poke_user(&mut self, offset: u64, value: u64) -> Result<()> {
        match place(offset)? {
            Place::Register(word) => self.set(word, value),
            Place::Debug(n) => debug::set(self.task, n, value),
            Place::Nothing => Err(Errno::EIO),
        }
    }
}

/// What is at an offset of the user area.
enum Place {
    Register(usize),
    Debug(usize),
    Nothing,
}

fn place(offset: u64) -> Result<Place> {
    if !offset.is_multiple_of(8) || offset >= USER_AREA {
        return Err(Errno::EIO);
    }
    let word = (offset / 8) as usize;
    let debug = (DEBUG_REGISTERS / 8) as usize;
    Ok(match word {
        0..WORDS => Place::Register(word),
        _ if (debug..debug + 8).contains(&word) => Place::Debug(word - debug),
        _ => Place::Nothing,
    })
}

const _: () = assert!(size_of::<UserRegs>() == FS_BASE * 8 && USER_DS == 0x2b);
