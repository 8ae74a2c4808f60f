//! What crosses the boundary, as it is reported to the kernel ([`Diagnostics::trace`](crate::Diagnostics::trace)). The package
//! `portcullis-trace` has a ring to keep it in.

macro_rules! events {
    ($($event:ident $name:literal: $what:literal;)*) => {
        /// What happened, and what the record's value says of it; 0 if nothing is said.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        #[non_exhaustive]
        pub enum Event {
            $(#[doc = $what] $event,)*
        }

        impl Event {
            /// All events, in the order of their numbers.
            pub const ALL: [Event; [$($name),*].len()] = [$(Event::$event),*];

            /// Its name in tables and files.
            pub const fn name(self) -> &'static str {
                [$($name),*][self as usize]
            }
        }
    };
}

// A trace holds the events by number: new ones go to the end.
events! {
    FromUser "from_user": "A door was entered from user mode.";
    ToUser "to_user": "User mode is about to be entered. Value: 0 by IRET or unknown, 1 by SYSRET, 2 by SYSRET to 32-bit code.";
    SyscallEnter "sys_enter": "A 64-bit system call begins. Value: its number.";
    Syscall32Enter "sys_enter_32": "A 32-bit system call begins. Value: its number.";
    SyscallExit "sys_exit": "A system call was made. Value: its result.";
    Vector "vector": "What crossed is an exception or interrupt. Value: its vector.";
    ExitWork "exit_work": "A round of the exit loop begins. Value: the exit-work word.";
    ExitWorkDone "exit_work_done": "The round is done.";
    FromKernel "from_kernel": "An interrupt or exception hit the kernel.";
    ToKernel "to_kernel": "Its handling is done.";
    NmiEnter "nmi_enter": "An NMI, machine check or debug exception hit the kernel.";
    NmiExit "nmi_exit": "Its handling is done.";
    Switch "switch": "The CPU is about to switch to another task. Value: that task's number.";
    Probe "probe": "A probe in user code was hit. Value: its address.";
}
