//! The invariants, as they are reported when they do not hold ([`Machine::invariant_broken`](crate::Machine::invariant_broken)).

use core::fmt;

macro_rules! broken {
    ($($name:ident $({ $($field:ident: $type:ty),+ })?: $message:literal $(, $doc:literal)?;)*) => {
        /// An invariant that did not hold. As text it says what happened.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[non_exhaustive]
        pub enum Broken {
            $(#[doc = concat!("\"", $message, "\"")] $(#[doc = concat!("\n\n", $doc)])?
            $name $({ $(#[doc = "See the text."] $field: $type),+ })?,)*
        }

        impl fmt::Display for Broken {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Broken::$name $({ $($field),+ })? => write!(f, $message),)*
                }
            }
        }
    };
}

broken! {
    ArrivedNotFromUser: "entered from user mode in another context than USER";
    LeavingNotFromKernel: "left for user mode in another context than KERNEL";
    IdleFromWrongContext: "the idle loop was entered or left in the wrong context";
    GuestFromWrongContext: "a guest was entered or left in the wrong context";
    InterruptsOn: "interrupts are on, on the way out", "To user mode or to the kernel. They are off afterwards.";
    Returned { hook: &'static str, wrong: Wrong }: "{hook} returned in the wrong state: {wrong:?}", "A hook or a handler.";
    NotTaken { work: &'static str }: "nobody takes the exit work {work}",
        "It was pending after many rounds of the exit loop: its hook, perhaps the default, does not take the flag.";
    RaisedTooLate { hook: &'static str }: "{hook} raised exit work after the last read";
    StateDropped { state: &'static str }: "a {state} was dropped", "Its crossing is unfinished.";
    SwitchNotAnnounced: "tasks were switched without CpuLocal::switch_to",
        "The registers of a crossing are not at the top of this CPU's thread stack.";
    NotifierOutsideKernel: "the die chain was called in another context than KERNEL";
    UserFlagsInKernel: "a flag of the user's is set in the kernel", "TF, DF, NT or AC, after a door from user mode.";
}

/// What was wrong when a hook returned ([`Broken::Returned`]). The library corrects the interrupt flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Wrong {
    /// Interrupts were off and should have been on.
    InterruptsOff,
    /// Interrupts were on and should have been off.
    InterruptsOn,
    /// Preemption was disabled, or a lock was held.
    PreemptionDisabled,
    /// The context was not KERNEL.
    Context,
}
