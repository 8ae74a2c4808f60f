//! What a tracer asks about its tracee's signals and system calls.

use linux_raw_sys::ptrace::*;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::ptrace::registers::Stopped;
use crate::ptrace::stop::SYSCALL_STOP;
use crate::signal::{SIGTRAP, SigInfo};
use crate::task::signals::info::SIGINFO_SIZE;
use crate::task::{Task, current, syscall_info};

/// PTRACE_GETSIGINFO: of the signal that the stop is about.
pub fn siginfo(task: &Task) -> Result<SigInfo> {
    task.signals.lock().trap.info.ok_or(Errno::EINVAL)
}

/// PTRACE_SETSIGINFO.
pub fn set_siginfo(task: &Task, info: SigInfo) -> Result<()> {
    let mut signals = task.signals.lock();
    *signals.trap.info.as_mut().ok_or(Errno::EINVAL)? = info;
    Ok(())
}

/// `struct ptrace_peeksiginfo_args`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PeekSiginfoArgs {
    offset: u64,
    flags: u32,
    count: i32,
}

/// PTRACE_PEEKSIGINFO: copies what is queued, and leaves it there.
pub fn peek_siginfo(task: &Task, args: u64, to: u64) -> Result<usize> {
    let args: PeekSiginfoArgs = user::read(args)?;
    if args.flags & !PTRACE_PEEKSIGINFO_SHARED != 0 || args.count < 0 {
        return Err(Errno::EINVAL);
    }
    let shared = args.flags & PTRACE_PEEKSIGINFO_SHARED != 0;
    let mut done = 0;
    while done < args.count as usize {
        let Some(index) = (args.offset as usize).checked_add(done) else {
            break;
        };
        let info = if shared { task.process.signals.lock().queued(index) } else { task.signals.lock().queued(index) };
        let Some(info) = info else { break };
        if let Err(errno) = info.write_for_call(to.wrapping_add((done * SIGINFO_SIZE) as u64)) {
            return if done == 0 { Err(errno) } else { Ok(done) };
        }
        done += 1;
        if current().signal_pending() {
            break;
        }
    }
    Ok(done)
}

/// `struct ptrace_syscall_info`: the head, and what stands behind it.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SyscallInfo {
    op: u8,
    pad: [u8; 3],
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    /// Entry: number and six arguments. Exit: the result, and in the lowest byte of the next word whether it is an error.
    body: [u64; 8],
}

/// Bytes of the head.
const HEAD: usize = 24;

/// PTRACE_GET_SYSCALL_INFO. Returns how much there is, of which at most `size` bytes are written.
pub fn syscall_info(stopped: &mut Stopped<'_>, size: u64, to: u64) -> Result<usize> {
    let (code, message) = {
        let trap = &stopped.task().signals.lock().trap;
        (trap.info.map_or(0, |info| info.code), trap.message)
    };
    let task = stopped.task();
    let regs = stopped.regs();
    let mut info = SyscallInfo {
        arch: syscall_info::arch_of(task),
        instruction_pointer: regs.rip,
        stack_pointer: regs.rsp,
        ..SyscallInfo::default()
    };
    let mut len = HEAD;
    let mut entry = |info: &mut SyscallInfo, op: u32| {
        info.op = op as u8;
        info.body[0] = i64::from(syscall_info::number(regs)) as u64;
        info.body[1..7].copy_from_slice(&syscall_info::args_of(regs, task));
        len = HEAD + 7 * 8;
    };
    const SECCOMP_STOP: i32 = SIGTRAP | (PTRACE_EVENT_SECCOMP as i32) << 8;
    match code {
        SYSCALL_STOP if message == u64::from(PTRACE_EVENTMSG_SYSCALL_ENTRY) => {
            entry(&mut info, PTRACE_SYSCALL_INFO_ENTRY);
        }
        SYSCALL_STOP if message == u64::from(PTRACE_EVENTMSG_SYSCALL_EXIT) => {
            info.op = PTRACE_SYSCALL_INFO_EXIT as u8;
            let error = syscall_info::error_of(regs, task);
            info.body[0] = error.map_or(regs.rax, |error| error as u64);
            info.body[1] = error.is_some().into();
            len = HEAD + 9;
        }
        SECCOMP_STOP => {
            entry(&mut info, PTRACE_SYSCALL_INFO_SECCOMP);
            info.body[7] = message as u32 as u64;
            len += 4;
        }
        _ => {}
    }
    let written = (size as usize).min(len);
    // SAFETY: at most the structure's length.
    unsafe { user::copy_to_user(to, info.as_bytes().as_ptr(), written) }?;
    Ok(len)
}

/// `struct ptrace_rseq_configuration`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RseqConfiguration {
    pointer: u64,
    size: u32,
    signature: u32,
    flags: u32,
    pad: u32,
}

/// PTRACE_GET_RSEQ_CONFIGURATION. Returns the structure's size.
pub fn rseq_configuration(task: &Task, size: u64, to: u64) -> Result<usize> {
    let (pointer, size_of_area, signature) = task.hooks.rseq.registration();
    let configuration = RseqConfiguration { pointer, size: size_of_area, signature, flags: 0, pad: 0 };
    let len = size_of::<RseqConfiguration>();
    // SAFETY: at most the structure's length.
    unsafe { user::copy_to_user(to, configuration.as_bytes().as_ptr(), (size as usize).min(len)) }?;
    Ok(len)
}
