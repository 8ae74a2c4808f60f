//! ptrace(2), with the requests that are about filters.

use linux_raw_sys::ptrace::{PTRACE_SECCOMP_GET_FILTER, PTRACE_SECCOMP_GET_METADATA};

use crate::errno::Result;
use crate::ptrace::compat::compat;
use crate::ptrace::registers::Stopped;
use crate::ptrace::request::{native, perform};
use crate::work::seccomp::inspect;

/// ptrace(2).
pub fn sys_ptrace(request: u64, pid: u64, addr: u64, data: u64) -> Result<usize> {
    perform(request, pid, addr, data, |stopped, request, addr, data| {
        of_filters(stopped, request, addr, data).unwrap_or_else(|| native(stopped, request, addr, data))
    })
}

/// ptrace(2) of a 32-bit program.
pub fn sys_ptrace_32(request: u64, pid: u64, addr: u64, data: u64) -> Result<usize> {
    perform(request, pid, addr, data, |stopped, request, addr, data| {
        of_filters(stopped, request, addr, data).unwrap_or_else(|| compat(stopped, request, addr, data))
    })
}

#[inline]
fn of_filters(stopped: &Stopped<'_>, request: u32, addr: u64, data: u64) -> Option<Result<usize>> {
    match request {
        PTRACE_SECCOMP_GET_FILTER => Some(inspect::get_filter(stopped.task(), addr, data)),
        PTRACE_SECCOMP_GET_METADATA => Some(inspect::get_metadata(stopped.task(), addr, data)),
        _ => None,
    }
}
