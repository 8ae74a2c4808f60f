//! pidfd_open(2), pidfd_getfd(2), pidfd_send_signal(2). The descriptor itself is [`fs::pidfd`](crate::fs::pidfd).

use linux_raw_sys::general as abi;

use crate::errno::{Errno, Result};
use crate::fs::pidfd::{install, process_of};
use crate::fs::proc;
use crate::memory::user;
use crate::signal::kill;
use crate::task::credentials::access;
use crate::task::pid::numbers::meant;
use crate::task::pid::{Pid, numbers};
use crate::task::process::Process;
use crate::task::signals::info;
use crate::task::signals::info::SigInfo;
use crate::task::tree::tree;
use crate::task::{current, tree};

/// pidfd_open(2): by the number of a process, also of one that has ended and not been waited for. Threads have none.
pub fn sys_pidfd_open(pid: u64, flags: u64) -> Result<usize> {
    let (pid, flags) = (pid as Pid, flags as u32);
    if flags & !abi::O_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let id = meant(pid);
    let process = {
        let tree = tree();
        match tree.node(id) {
            Some(node) => node.process.clone(),
            None if tree.is_taken(id) => return Err(Errno::EINVAL),
            None => return Err(Errno::ESRCH),
        }
    };
    Ok(install(&process, flags)? as usize)
}

/// pidfd_getfd(2): a descriptor of another process becomes one of ours, for the same open file.
pub fn sys_pidfd_getfd(pidfd: u64, fd: u64, flags: u64) -> Result<usize> {
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let files = &current().files;
    let pidfd = files.get(pidfd)?;
    let process = process_of(&pidfd)?;
    let leader = {
        let tree = tree();
        tree.node_of(process).ok_or(Errno::ESRCH)?;
        tree.task(process.pid).cloned()
    };
    // A leader that has ended has no files.
    let leader = leader.ok_or(Errno::EBADF)?;
    access::check(&leader)?;
    let file = leader.files.share().ok_or(Errno::EBADF)?.get_any(fd)?;
    Ok(files.install(file, true)? as usize)
}

/// pidfd_send_signal(2). The directory of a process in `/proc` serves as well.
pub fn sys_pidfd_send_signal(pidfd: u64, signo: u64, info: u64, flags: u64) -> Result<usize> {
    let signo = signo as i32;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let file = current().files.get(pidfd)?;
    let process = match process_of(&file) {
        Ok(process) => Some(process.clone()),
        Err(_) => tree::find(proc::process_of(&**file.inode()).ok_or(Errno::EBADF)?),
    };
    let process = process.ok_or(Errno::ESRCH)?;
    if !numbers::is_visible(&process) {
        return Err(Errno::EINVAL);
    }
    let info = match info {
        0 => kill::from_caller(signo, info::SI_USER),
        address => made_up(signo, address, &process)?,
    };
    if tree().node_of(&process).is_none() {
        return Err(Errno::ESRCH);
    }
    kill::to_process(&process, info)?;
    Ok(0)
}

/// The information that the caller has made up: for this very signal, and for others not such that it looks like the
/// kernel's or `tkill`'s.
fn made_up(signo: i32, address: u64, process: &Process) -> Result<SigInfo> {
    let written: i32 = user::read(address)?;
    let info = SigInfo::read_for_call(written, address)?;
    if written != signo {
        return Err(Errno::EINVAL);
    }
    if (info.code >= 0 || info.code == info::SI_TKILL) && current().tid() != process.pid {
        return Err(Errno::EPERM);
    }
    Ok(info.with_pid(meant))
}
