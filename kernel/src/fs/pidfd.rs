//! Descriptors of processes.
//!
//! A pidfd names one process for as long as it is open, also when the process's number belongs to another by then.
//! `clone` makes one with CLONE_PIDFD, `waitid` takes one with P_PIDFD.

use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt::Write;

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::sched::wait::PollTable;
use crate::task::current;
use crate::task::pid::numbers;
use crate::task::process::Process;
use crate::task::tree::tree;
use crate::vfs::anonymous::anonymous_file;
use crate::vfs::file::{File, FileOps};

struct PidFd {
    process: Arc<Process>,
}

impl PidFd {
    /// Whether it can be waited for, or has been: its last thread has ended.
    fn has_ended(&self) -> bool {
        match tree().node_of(&self.process) {
            Some(node) => node.zombie.is_some() && node.lingering == 0,
            // One that `clone` is still making has no parent.
            None => self.process.ppid() != 0,
        }
    }
}

impl FileOps for PidFd {
    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        if let Some(table) = table {
            self.process.ended.register(table);
        }
        if self.has_ended() { abi::POLLIN | abi::POLLRDNORM } else { 0 }
    }

    fn describe(&self, _file: &File, out: &mut String) {
        if tree().node_of(&self.process).is_none() {
            out.push_str("Pid:\t-1\nNSpid:\t-1\n");
            return;
        }
        let _ = writeln!(out, "Pid:\t{}", self.process.pid);
        numbers::write_numbers(out, "NSpid", &self.process, self.process.pid, &None);
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// The process of a pidfd; EBADF for any other descriptor.
pub fn process_of(file: &File) -> Result<&Arc<Process>> {
    let ops = file.ops().as_any().and_then(|ops| ops.downcast_ref::<PidFd>());
    Ok(&ops.ok_or(Errno::EBADF)?.process)
}

/// Puts a pidfd of this process at the lowest free descriptor, to be closed by exec.
pub fn install(process: &Arc<Process>, flags: u32) -> Result<u64> {
    let ops = PidFd { process: process.clone() };
    let file = anonymous_file("pidfd", Arc::new(ops), abi::O_RDWR | flags);
    current().files.install(file, true)
}
