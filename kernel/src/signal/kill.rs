//! Sending in the name of the current program: what comes with the signal, and whether it may be sent.

use crate::errno::{Errno, Result};
use crate::signal::{permission, send};
use crate::task::current;
use crate::task::process::Process;
use crate::task::signals::info::SigInfo;
use crate::task::signals::set::{SIGRTMIN, is_valid};
use crate::task::tree;

/// The signal number of a sending call: 0 only asks whether it could be sent.
pub fn check_number(signo: i32) -> Result<()> {
    if signo == 0 || is_valid(signo) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// What comes with a signal that the caller sends.
pub fn from_caller(signo: i32, code: i32) -> SigInfo {
    let process = &current().process;
    let uid = process.credentials.lock().user.real;
    SigInfo::user(signo, code, process.pid, uid)
}

/// Sends to a process as `kill` does.
pub fn to_process(process: &Process, info: SigInfo) -> Result<()> {
    check_number(info.signo)?;
    permission::check(process, &info)?;
    if info.signo == 0 {
        return Ok(());
    }
    if info.signo >= SIGRTMIN {
        send::reserve(process, None, 0);
    }
    send::send(&tree::tree(), process, None, info)
}
