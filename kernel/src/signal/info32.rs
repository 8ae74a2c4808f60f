//! `siginfo_t` as 32-bit programs know it (Linux: `compat_siginfo_t`).
//!
//! ```text
//!   +0   signo, errno, code      no padding after them
//!   +12  by kind:  pid, uid, value      timer id, overrun, value      pid, uid, status, user and system time
//!                  address              band, fd                      address, system call, architecture
//!                  address, least bit   address, 4 bytes, bounds      address, 4 bytes, key
//! ```

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::Result;
use crate::memory::user;
use crate::memory::width::Width;
use crate::task::signals::info::*;
use crate::task::signals::set::*;

/// `siginfo_t` of 32-bit programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigInfo32 {
    signo: i32,
    errno: i32,
    code: i32,
    /// The union.
    fields: [u32; 29],
}

const _: () = assert!(size_of::<SigInfo32>() == SIGINFO_SIZE);

/// What the union holds (Linux: `enum siginfo_layout`).
pub(super) enum Layout {
    Kill,
    Timer,
    Queued,
    Fault,
    Child,
    Poll,
    System,
}

impl Layout {
    /// By signal and code, as `siginfo_layout` has it. A code that a signal does not have says nothing about its union.
    pub(super) fn of(signo: i32, code: i32) -> Layout {
        const SI_SIGIO: i32 = -5;
        /// The highest code of SIGPOLL, which any signal may have that announces input (F_SETSIG).
        const POLL_HUP: i32 = 6;
        match code {
            SI_TIMER => Layout::Timer,
            SI_SIGIO => Layout::Poll,
            ..SI_USER => Layout::Queued,
            SI_USER | SI_KERNEL.. => Layout::Kill,
            _ => match signo {
                SIGILL | SIGFPE | SIGSEGV | SIGBUS | SIGTRAP if code <= highest_code(signo) => Layout::Fault,
                SIGCHLD if code <= highest_code(signo) => Layout::Child,
                SIGSYS if code <= highest_code(signo) => Layout::System,
                _ if code <= POLL_HUP => Layout::Poll,
                _ => Layout::Kill,
            },
        }
    }
}

/// What the siginfo of a fault has behind the address (Linux 6.12: the layouts `SIL_FAULT_…`).
enum Detail {
    None,
    /// BUS_MCEERR_AR, BUS_MCEERR_AO: the least significant bit of the address that counts.
    LeastBit,
    /// SEGV_BNDERR: the lower and the upper bound.
    Bounds,
    /// SEGV_PKUERR.
    Key,
    /// TRAP_PERF: data, type and flags.
    PerfEvent,
}

impl Detail {
    fn of(signo: i32, code: i32) -> Detail {
        match (signo, code) {
            (SIGBUS, 4 | 5) => Detail::LeastBit,
            (SIGSEGV, 3) => Detail::Bounds,
            (SIGSEGV, 4) => Detail::Key,
            (SIGTRAP, 6) => Detail::PerfEvent,
            _ => Detail::None,
        }
    }
}

/// The halves of a word.
const fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// The word with these halves.
const fn word(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl From<&SigInfo> for SigInfo32 {
    fn from(info: &SigInfo) -> Self {
        let [first, second, third, fourth] = info.words();
        let [low, high] = halves(first);
        let used = match Layout::of(info.signo, info.code) {
            Layout::Kill => [low, high, 0, 0, 0],
            Layout::Timer | Layout::Queued => [low, high, second as u32, 0, 0],
            // Addresses and bands are pointer-wide.
            Layout::Fault => match Detail::of(info.signo, info.code) {
                Detail::None => [low, 0, 0, 0, 0],
                Detail::LeastBit => [low, u32::from(second as u16), 0, 0, 0],
                Detail::Bounds => [low, 0, third as u32, fourth as u32, 0],
                Detail::Key => [low, 0, third as u32, 0, 0],
                Detail::PerfEvent => [low, second as u32, third as u32, (third >> 32) as u32, 0],
            },
            Layout::Poll => [low, second as u32, 0, 0, 0],
            Layout::Child => [low, high, second as u32, third as u32, fourth as u32],
            Layout::System => [low, second as u32, (second >> 32) as u32, 0, 0],
        };
        let mut fields = [0; 29];
        fields[..used.len()].copy_from_slice(&used);
        SigInfo32 { signo: info.signo, errno: info.errno, code: info.code, fields }
    }
}

impl From<&SigInfo32> for SigInfo {
    fn from(info: &SigInfo32) -> Self {
        let [a, b, c, d, e, ..] = info.fields;
        let fields = match Layout::of(info.signo, info.code) {
            Layout::Kill => [word(a, b), 0, 0, 0],
            Layout::Timer | Layout::Queued => [word(a, b), c.into(), 0, 0],
            Layout::Fault => match Detail::of(info.signo, info.code) {
                Detail::None => [a.into(), 0, 0, 0],
                Detail::LeastBit => [a.into(), (b as u16).into(), 0, 0],
                Detail::Bounds => [a.into(), 0, c.into(), d.into()],
                Detail::Key => [a.into(), 0, c.into(), 0],
                Detail::PerfEvent => [a.into(), b.into(), word(c, d), 0],
            },
            Layout::Poll => [a.into(), b.into(), 0, 0],
            Layout::Child => [word(a, b), c.into(), d.into(), e.into()],
            Layout::System => [a.into(), word(b, c), 0, 0],
        };
        SigInfo::from_words(info.signo, info.errno, info.code, fields)
    }
}

impl SigInfo {
    /// Writes a whole `siginfo_t` of the call's width.
    pub fn write_for_call(&self, address: u64) -> Result<()> {
        match Width::of_call() {
            Width::Bits64 => self.write_to_user(address),
            Width::Bits32 => user::write(address, &SigInfo32::from(self)),
        }
    }

    /// Reads a `siginfo_t` of the call's width that a program made up.
    pub fn read_for_call(signo: i32, address: u64) -> Result<SigInfo> {
        match Width::of_call() {
            Width::Bits64 => SigInfo::read_from_user(signo, address),
            Width::Bits32 => {
                let info = SigInfo32 { signo, ..user::read(address)? };
                // Of a kind that this kernel does not know, Linux cuts off here what it refuses in a 64-bit call.
                Ok(SigInfo::from(&info))
            }
        }
    }
}

#[cfg(test)]
mod tests;
