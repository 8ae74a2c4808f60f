//! How tasks begin, change and end: fork, exec, exit, reaping, and what they leave to others (futexes, robust lists).
//!
//! | you want to … | look in |
//! | --- | --- |
//! | make a task | [`fork`]; the first one [`first_program`] |
//! | start a program | [`exec`]; its file [`elf_image`], [`script`]; its stack [`initial_stack`], [`exec_strings`]; its vDSO [`vdso`](crate::fs::vdso) |
//! | end a task, wait for one | [`exit`], [`reap`] |

pub mod clone_flags;
pub mod elf_image;
pub mod exec;
pub mod exec_credentials;
pub mod exec_strings;
pub mod exit;
pub mod first_program;
pub mod fork;
pub mod futex;
pub mod initial_stack;
pub mod reap;
pub mod robust;
pub mod script;
pub mod unshare;

/// Starts PID 1, the kernel's reaper, and PID 2, the first program. Called once, by the boot CPU, when everything is up.
pub fn start_init() {
    reap::start_reaper();
    first_program::start();
}
