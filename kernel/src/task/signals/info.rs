//! What comes with a signal: `siginfo_t`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::task::pid::Pid;
use crate::task::signals::set::*;
use crate::task::wait_status::WaitStatus;

/// Sent by `kill`.
pub const SI_USER: i32 = 0;
/// Sent by the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// A POSIX timer ran out.
pub const SI_TIMER: i32 = -2;
/// Sent by `tkill` or `tgkill`.
pub const SI_TKILL: i32 = -6;
/// The lowest code of the ABI's own, and the odd one below it.
const SI_DETHREAD: i32 = -7;
const SI_ASYNCNL: i32 = -60;

#[allow(missing_docs)]
mod codes {
    pub const ILL_ILLOPN: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const FPE_FLTDIV: i32 = 3;
    pub const FPE_FLTOVF: i32 = 4;
    pub const FPE_FLTUND: i32 = 5;
    pub const FPE_FLTRES: i32 = 6;
    pub const FPE_FLTINV: i32 = 7;
    pub const BUS_ADRALN: i32 = 1;
    pub const TRAP_BRKPT: i32 = 1;
    pub const TRAP_TRACE: i32 = 2;
    pub const TRAP_HWBKPT: i32 = 4;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
    pub const CLD_DUMPED: i32 = 3;
    pub const CLD_TRAPPED: i32 = 4;
    pub const CLD_STOPPED: i32 = 5;
    pub const CLD_CONTINUED: i32 = 6;
    pub const SYS_SECCOMP: i32 = 1;
    pub const SYS_USER_DISPATCH: i32 = 2;
}
pub use codes::*;

/// The part of `siginfo_t` that carries information: its first 48 bytes. The other 80 are zero in user memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigInfo {
    /// The signal, 1 to 64.
    pub signo: i32,
    /// Nearly always 0.
    pub errno: i32,
    /// Where it comes from and what kind the rest is.
    pub code: i32,
    pad: u32,
    /// The union, as four words; the constructors know its layouts.
    fields: [u64; 4],
}

/// The size of `siginfo_t` in user memory.
pub const SIGINFO_SIZE: usize = 128;
const _: () = assert!(size_of::<SigInfo>() == 48);

/// Two 32-bit members of the union side by side, the first at the lower address.
pub const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl SigInfo {
    pub const fn new(signo: i32, code: i32, fields: [u64; 4]) -> SigInfo {
        SigInfo { signo, errno: 0, code, pad: 0, fields }
    }

    /// From the kernel, with nothing to add.
    pub const fn kernel(signo: i32) -> SigInfo {
        SigInfo::new(signo, SI_KERNEL, [0; 4])
    }

    /// What a signal has whose information was lost, because the queue was full.
    pub const fn lost(signo: i32) -> SigInfo {
        SigInfo::new(signo, SI_USER, [0; 4])
    }

    /// From a process: `kill` ([`SI_USER`]) or `tkill` ([`SI_TKILL`]).
    pub const fn user(signo: i32, code: i32, pid: i32, uid: u32) -> SigInfo {
        SigInfo::new(signo, code, [pair(pid as u32, uid), 0, 0, 0])
    }

    /// From a POSIX timer.
    pub const fn timer(signo: i32, id: i32, overrun: i32, value: u64) -> SigInfo {
        SigInfo::new(signo, SI_TIMER, [pair(id as u32, overrun as u32), value, 0, 0])
    }

    /// A fault of an instruction; `addr` is what it touched, or the instruction itself.
    pub const fn fault(signo: i32, code: i32, addr: u64) -> SigInfo {
        SigInfo::new(signo, code, [addr, 0, 0, 0])
    }

    /// With the protection key that forbids the access (`si_pkey`).
    pub const fn with_key(mut self, key: u32) -> SigInfo {
        self.fields[2] = key as u64;
        self
    }

    /// SIGSYS for a system call that is not made: who forbids it ([`SYS_SECCOMP`], [`SYS_USER_DISPATCH`]) and what they add,
    /// the address after the instruction, the number, `AUDIT_ARCH_*`.
    pub const fn system_call(code: i32, errno: i32, address: u64, number: i32, arch: u32) -> SigInfo {
        SigInfo { errno, ..SigInfo::new(SIGSYS, code, [address, pair(number as u32, arch), 0, 0]) }
    }

    /// `si_code` and `si_status` of an end with this wait status.
    pub const fn end(status: WaitStatus) -> (i32, i32) {
        match (status.exit_code(), status.term_signal()) {
            (Some(code), _) => (CLD_EXITED, code),
            (None, Some(signo)) if status.has_core() => (CLD_DUMPED, signo),
            (None, Some(signo)) => (CLD_KILLED, signo),
            (None, None) => panic!("the status of a process that has not ended"),
        }
    }

    /// With another process id, where it is from a process or about a child.
    pub fn with_pid(mut self, change: impl FnOnce(Pid) -> Pid) -> SigInfo {
        let about_child = self.signo == SIGCHLD && (CLD_EXITED..=CLD_CONTINUED).contains(&self.code);
        if about_child || matches!(self.code, SI_USER | SI_TKILL) {
            let (pid, uid) = (self.fields[0] as Pid, (self.fields[0] >> 32) as u32);
            self.fields[0] = pair(change(pid) as u32, uid);
        }
        self
    }

    /// The timer's number, where this comes from a POSIX timer.
    pub const fn timer_id(&self) -> Option<i32> {
        if self.code == SI_TIMER { Some(self.fields[0] as i32) } else { None }
    }

    /// How often a POSIX timer ran out again before this was delivered.
    pub const fn overrun(&self) -> i32 {
        (self.fields[0] >> 32) as i32
    }

    /// Counts one more expiry of a POSIX timer.
    pub fn count_overrun(&mut self) {
        *self = self.with_overrun(self.overrun().saturating_add(1));
    }

    /// With another number of expiries of a POSIX timer.
    pub fn with_overrun(mut self, overrun: i32) -> SigInfo {
        self.fields[0] = pair(self.fields[0] as u32, overrun as u32);
        self
    }

    /// One with this union.
    pub const fn from_words(signo: i32, errno: i32, code: i32, fields: [u64; 4]) -> SigInfo {
        SigInfo { signo, errno, code, pad: 0, fields }
    }

    /// The union, as four words.
    pub const fn words(&self) -> [u64; 4] {
        self.fields
    }

    /// The address of a fault.
    pub const fn addr(&self) -> u64 {
        self.fields[0]
    }

    /// Whether an instruction of the task itself caused it (as far as the code tells).
    pub const fn is_synchronous(&self) -> bool {
        self.code > SI_USER && SigSet::SYNCHRONOUS.contains(self.signo)
    }

    /// Writes a whole `siginfo_t`.
    pub fn write_to_user(&self, address: u64) -> Result<()> {
        user::write(address, self)?;
        user::clear(address + size_of::<SigInfo>() as u64, SIGINFO_SIZE - size_of::<SigInfo>())
    }

    /// Reads a `siginfo_t` that a program made up for `sigqueue`. The signal number is the argument's, not the
    /// structure's. A kind that this kernel does not know must not use more of the structure than this kernel keeps.
    pub fn read_from_user(signo: i32, address: u64) -> Result<SigInfo> {
        let mut info: SigInfo = user::read(address)?;
        info.signo = signo;
        if !info.has_known_layout() {
            let rest: [u64; 10] = user::read(address + size_of::<SigInfo>() as u64)?;
            if rest != [0; 10] {
                return Err(Errno::E2BIG);
            }
        }
        Ok(info)
    }

    fn has_known_layout(&self) -> bool {
        if self.code == SI_KERNEL {
            return true;
        }
        if self.code <= SI_USER {
            return self.code >= SI_DETHREAD || self.code == SI_ASYNCNL;
        }
        self.code <= highest_code(self.signo)
    }
}

/// The highest code of the kernel's that a signal has, below [`SI_KERNEL`].
pub const fn highest_code(signo: i32) -> i32 {
    match signo {
        SIGILL => 11,
        SIGFPE => 15,
        SIGSEGV => 9,
        SIGBUS => 5,
        SIGSYS => 2,
        // SIGTRAP, SIGCHLD, SIGIO, and the codes of poll for all others.
        _ => 6,
    }
}

#[cfg(test)]
mod tests;
