//! seccomp(2) and prctl(PR_SET_SECCOMP). What filters do is [`work::seccomp`](crate::work::seccomp).

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use zerocopy::FromBytes;

use crate::errno::{Errno, Result};
use crate::memory::{Width, frames, user};
use crate::task::credentials::capable;
use crate::task::current;
use crate::task::seccomp::bpf::Instruction;
use crate::task::seccomp::filter::action;
use crate::task::seccomp::{FILTER, STRICT, bpf};
use crate::work::seccomp::attach::flag;
use crate::work::seccomp::{attach, notify};

/// `SECCOMP_SET_MODE_STRICT` and its like.
const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const GET_NOTIF_SIZES: u32 = 3;

/// seccomp(2).
pub fn sys_seccomp(operation: u64, flags: u64, argument: u64) -> Result<usize> {
    let flags = flags as u32;
    match operation as u32 {
        SET_MODE_STRICT if flags == 0 && argument == 0 => attach::set_strict().map(|()| 0),
        SET_MODE_FILTER => set_filter(flags, argument),
        GET_ACTION_AVAIL if flags == 0 => is_available(user::read(argument)?),
        GET_NOTIF_SIZES if flags == 0 => {
            user::write(argument, &notify::SIZES)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// prctl(PR_SET_SECCOMP): the mode and, for filters, the program.
pub fn prctl_set_seccomp(mode: u64, program: u64) -> Result<usize> {
    match u8::try_from(mode) {
        Ok(STRICT) => attach::set_strict().map(|()| 0),
        Ok(FILTER) => set_filter(0, program),
        _ => Err(Errno::EINVAL),
    }
}

fn is_available(action: u32) -> Result<usize> {
    match action {
        action::KILL_PROCESS
        | action::KILL_THREAD
        | action::TRAP
        | action::ERRNO
        | action::USER_NOTIF
        | action::TRACE
        | action::LOG
        | action::ALLOW => Ok(0),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// `struct sock_fprog`.
#[derive(FromBytes)]
#[repr(C)]
struct Program {
    len: u16,
    padding: [u16; 3],
    instructions: u64,
}

/// The same of a 32-bit program.
#[derive(FromBytes)]
#[repr(C)]
struct Program32 {
    len: u16,
    padding: u16,
    instructions: u32,
}

/// Reads a program and checks it.
fn read_program(address: u64) -> Result<Vec<Instruction>> {
    let (len, instructions) = match Width::of_call() {
        Width::Bits64 => {
            let program: Program = user::read(address)?;
            (program.len, program.instructions)
        }
        Width::Bits32 => {
            let program: Program32 = user::read(address)?;
            (program.len, program.instructions.into())
        }
    };
    let len = usize::from(len);
    if len == 0 || len > bpf::MAX_INSTRUCTIONS {
        return Err(Errno::EINVAL);
    }
    // Otherwise a child with more rights would be at the filter's mercy.
    if !current().no_new_privs.load(Relaxed) && !capable::is_admin_here() {
        return Err(Errno::EACCES);
    }
    // No address is none that may not be read.
    if instructions == 0 {
        return Err(Errno::EINVAL);
    }
    frames::require_spare()?;
    let mut raw = alloc::vec![0u64; len];
    // SAFETY: the length of the vector.
    unsafe { user::copy_from_user(raw.as_mut_ptr().cast(), instructions, size_of_val(raw.as_slice())) }?;
    let program: Vec<_> = raw.into_iter().map(Instruction::from_raw).collect();
    if bpf::check(&program) { Ok(program) } else { Err(Errno::EINVAL) }
}

/// Reads a program and attaches a filter with it.
fn set_filter(flags: u32, address: u64) -> Result<usize> {
    let has = |flag| flags & flag != 0;
    // A thread's number and a descriptor could not be told apart.
    let ambiguous = has(flag::TSYNC) && has(flag::NEW_LISTENER) && !has(flag::TSYNC_ESRCH);
    if flags & !flag::ALL != 0 || ambiguous || has(flag::WAIT_KILLABLE_RECV) && !has(flag::NEW_LISTENER) {
        return Err(Errno::EINVAL);
    }
    attach::set_filter(flags, &read_program(address)?)
}
