//! Process and thread ids.

pub mod choice;
pub mod namespace;
pub mod numbers;
/// A process or thread id.
pub type Pid = i32;

/// The kernel's reaper.
pub const REAPER: Pid = 1;
/// The first program.
pub const FIRST_PROGRAM: Pid = 2;
/// IDs stay below this, as Linux's default `pid_max`.
pub const PID_MAX: Pid = 32768;
/// After a wrap, numbering goes on from here.
pub const PID_RESTART: Pid = 300;
