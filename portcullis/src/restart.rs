//! What becomes of a system call that a signal interrupted.
//!
//! A system call that finds a signal pending returns one of four codes that user mode never sees. When the signal is
//! delivered, or when it turns out that there is none to deliver, the code is turned into EINTR or into a restart.

/// The internal result of an interrupted system call: `-code` in the result register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i64)]
pub enum Interruption {
    /// ERESTARTSYS: restart if the handler was installed with SA_RESTART.
    Sys = 512,
    /// ERESTARTNOINTR: restart always.
    NoIntr = 513,
    /// ERESTARTNOHAND: restart only if no handler runs.
    NoHand = 514,
    /// ERESTART_RESTARTBLOCK: as [`NoHand`](Self::NoHand), through `restart_syscall`.
    RestartBlock = 516,
}

/// What to do to the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// The result is EINTR.
    Eintr,
    /// Put the number back and the instruction pointer on the system-call instruction.
    Again,
    /// The same, with the number of `restart_syscall`.
    Block,
}

/// The signal that is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// None: no handler runs.
    None,
    /// To a handler; `restart` is its SA_RESTART flag.
    Handler {
        /// SA_RESTART.
        restart: bool,
    },
}

/// The length of SYSCALL, SYSENTER and INT 0x80: how far the instruction pointer goes back.
pub const SYSCALL_INSTRUCTION_LENGTH: u64 = 2;

/// Whether a system call's result is an interruption. Only to be asked while a system call is under way: the same value
/// in a register at an interrupt means nothing.
pub const fn interruption(result: i64) -> Option<Interruption> {
    match result {
        -512 => Some(Interruption::Sys),
        -513 => Some(Interruption::NoIntr),
        -514 => Some(Interruption::NoHand),
        -516 => Some(Interruption::RestartBlock),
        _ => None,
    }
}

/// What an interrupted system call becomes (Linux 6.1, `handle_signal` and `arch_do_signal_or_restart`).
pub const fn decide(interruption: Interruption, delivery: Delivery) -> Restart {
    match (interruption, delivery) {
        (Interruption::RestartBlock, Delivery::None) => Restart::Block,
        (_, Delivery::None) | (Interruption::NoIntr, _) => Restart::Again,
        (Interruption::Sys, Delivery::Handler { restart: true }) => Restart::Again,
        (_, Delivery::Handler { .. }) => Restart::Eintr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interruption_and_delivery() {
        use {Delivery::*, Interruption::*};
        let plain = Handler { restart: false };
        let restarting = Handler { restart: true };
        for (interruption, none, handler, sa_restart) in [
            (Sys, Restart::Again, Restart::Eintr, Restart::Again),
            (NoIntr, Restart::Again, Restart::Again, Restart::Again),
            (NoHand, Restart::Again, Restart::Eintr, Restart::Eintr),
            (RestartBlock, Restart::Block, Restart::Eintr, Restart::Eintr),
        ] {
            assert_eq!(decide(interruption, None), none);
            assert_eq!(decide(interruption, plain), handler);
            assert_eq!(decide(interruption, restarting), sa_restart);
        }
    }

    #[test]
    fn only_the_four_codes_interrupt() {
        let codes: [i64; 4] = [512, 513, 514, 516];
        for value in -600..600 {
            assert_eq!(
                interruption(value).is_some(),
                value < 0 && codes.contains(&-value),
                "{value}"
            );
        }
    }
}
