//! The wait status of wait(2): how a child exited, stopped or continued.
//!
//! ```text
//! exited       bits 8–15: the exit code         bits 0–7: 0
//! killed       bit 7: core dumped               bits 0–6: the signal
//! stopped      bits 8 and up: the signal, and the ptrace event above it    bits 0–7: 0x7f
//! continued    0xffff
//! ```

/// A wait status, as `wait4` stores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitStatus(i32);

const SIGNAL: i32 = 0x7f;
const CORE_DUMPED: i32 = 0x80;
const STOPPED: i32 = 0x7f;
const CONTINUED: i32 = 0xffff;

impl WaitStatus {
    /// It called `exit` or `exit_group`. Only the low byte of `code` counts.
    pub const fn exited(code: i32) -> WaitStatus {
        WaitStatus((code & 0xff) << 8)
    }

    /// A signal ended it.
    pub const fn killed(signo: i32) -> WaitStatus {
        WaitStatus(signo)
    }

    /// A signal ended it and dumped core.
    pub const fn core_dumped(signo: i32) -> WaitStatus {
        WaitStatus(signo | CORE_DUMPED)
    }

    /// A signal stopped it, or it stopped for its tracer: then `code` may have a `PTRACE_EVENT_*` above the signal.
    pub const fn stopped(code: i32) -> WaitStatus {
        WaitStatus(code << 8 | STOPPED)
    }

    /// SIGCONT continued it.
    pub const fn continued() -> WaitStatus {
        WaitStatus(CONTINUED)
    }

    /// The status that these bits are.
    pub const fn from_bits(bits: i32) -> WaitStatus {
        WaitStatus(bits)
    }

    /// The number of the ABI.
    pub const fn bits(self) -> i32 {
        self.0
    }

    /// The exit code (WEXITSTATUS), if it exited.
    pub const fn exit_code(self) -> Option<i32> {
        if self.0 & SIGNAL == 0 { Some(self.0 >> 8 & 0xff) } else { None }
    }

    /// The signal that ended it (WTERMSIG), if one did.
    pub const fn term_signal(self) -> Option<i32> {
        match self.0 & SIGNAL {
            0 | STOPPED => None,
            signo => Some(signo),
        }
    }

    /// Whether the signal that ended it dumped core (WCOREDUMP).
    pub const fn has_core(self) -> bool {
        self.term_signal().is_some() && self.0 & CORE_DUMPED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_that_the_macros_of_wait_2_decode() {
        // WEXITSTATUS, WTERMSIG, WCOREDUMP, WSTOPSIG, WIFCONTINUED: bits/waitstatus.h.
        assert_eq!([0, 42, 255, 256 + 7].map(|code| WaitStatus::exited(code).bits()), [0, 0x2a00, 0xff00, 0x700]);
        assert_eq!([9, 64].map(|signo| WaitStatus::killed(signo).bits()), [9, 64]);
        assert_eq!(WaitStatus::core_dumped(11).bits(), 0x8b);
        assert_eq!(WaitStatus::stopped(19).bits(), 0x137f);
        // PTRACE_EVENT_EXEC: status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8).
        assert_eq!(WaitStatus::stopped(5 | 4 << 8).bits() >> 8, 5 | 4 << 8);
        assert_eq!(WaitStatus::continued().bits(), 0xffff);
    }

    #[test]
    fn a_status_is_of_one_kind() {
        let parts = |status: WaitStatus| (status.exit_code(), status.term_signal(), status.has_core());
        assert_eq!(parts(WaitStatus::exited(-1)), (Some(255), None, false));
        assert_eq!(parts(WaitStatus::killed(9)), (None, Some(9), false));
        assert_eq!(parts(WaitStatus::core_dumped(11)), (None, Some(11), true));
        for other in [WaitStatus::stopped(19), WaitStatus::stopped(19 | 128 << 8), WaitStatus::continued()] {
            assert_eq!(parts(other), (None, None, false));
        }
    }
}
