//! What becomes of a system call that a signal interrupted.
//!
//! A system call that finds a signal pending returns one of four codes that must not reach user mode. When the signal is
//! delivered, or turns out to be gone, the code becomes EINTR or a restart.

/// The internal result of an interrupted system call: the result register holds `-code`.
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
    /// The call is made again: restore the number, and set the instruction pointer to the system-call instruction.
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

/// Whether a system call's result is an interruption. To be asked during a system call: at an interrupt, the same value in the
/// register means nothing.
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
