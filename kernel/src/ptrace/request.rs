//! ptrace(2).

use linux_raw_sys::ptrace::*;
use portcullis::work::SyscallWork;

use crate::errno::{Errno, Result};
use crate::machine::gate::violation;
use crate::memory::user;
use crate::ptrace::registers::Stopped;
use crate::ptrace::regset::Regset;
use crate::ptrace::{attach, events, regset, step};
use crate::sched::segments::thread_area;
use crate::sched::state::TRACED;
use crate::sched::{scheduler, state};
use crate::signal;
use crate::signal::{SIGKILL, SIGRTMAX, SigInfo, SigSet};
use crate::task::pid::Pid;
use crate::task::pid::numbers::meant;
use crate::task::trace_state::EVENT_STOP;
use crate::task::{Task, current, tree, user_dispatch};

/// Missing among the crate's.
pub const PTRACE_SINGLEBLOCK: u32 = 33;

/// ptrace(2), with a function for the requests that are made of a stopped tracee: [`native`], or [`compat`](super::compat::compat).
pub fn perform(
    request: u64,
    pid: u64,
    addr: u64,
    data: u64,
    of_stopped: fn(&mut Stopped<'_>, u32, u64, u64) -> Result<usize>,
) -> Result<usize> {
    let request = request as u32;
    if request == PTRACE_TRACEME {
        return attach::traceme().map(|()| 0);
    }
    let task = tree::find_task(meant(pid as Pid)).ok_or(Errno::ESRCH)?;
    match request {
        PTRACE_ATTACH => attach::attach(&task, None).map(|()| 0),
        PTRACE_SEIZE if addr != 0 => Err(Errno::EIO),
        PTRACE_SEIZE => attach::attach(&task, Some(data)).map(|()| 0),
        _ if !task.trace.is_traced_by(current()) => Err(Errno::ESRCH),
        PTRACE_KILL => kill(&task),
        PTRACE_INTERRUPT => interrupt(&task),
        _ => with_stopped(&task, request, |stopped| of_stopped(stopped, request, addr, data)),
    }
}

/// Does a request to a tracee of the current task. It must be stopped, and is frozen meanwhile: ESRCH otherwise.
fn with_stopped(task: &Task, request: u32, f: impl FnOnce(&mut Stopped<'_>) -> Result<usize>) -> Result<usize> {
    freeze(task)?;
    // SAFETY: frozen, and only the thread that traces it makes requests. Those that wake it do so in the end.
    let result = unsafe { Stopped::new(task) }.and_then(|mut stopped| f(&mut stopped));
    let resumes = matches!(
        request,
        // LISTEN wakes one whose group stop has ended since.
        PTRACE_DETACH | PTRACE_CONT..=PTRACE_SINGLESTEP | PTRACE_SYSCALL | PTRACE_LISTEN
    ) || matches!(request, PTRACE_SYSEMU..=PTRACE_SINGLEBLOCK);
    if cfg!(debug_assertions) && !resumes && !scheduler::is_asleep(task) {
        violation("a tracee ran while its registers were the tracer's");
    }
    if result.is_err() || request != PTRACE_DETACH {
        unfreeze(task);
    }
    result
}

/// From here on nothing but the current task wakes the tracee.
fn freeze(task: &Task) -> Result<()> {
    {
        let mut signals = task.signals.lock();
        if !signals.trap.stopped || signals.trap.listening || signals.is_killed() {
            return Err(Errno::ESRCH);
        }
        signals.trap.frozen = true;
    }
    // It may still be on its way off its CPU.
    scheduler::wait_until_asleep(task);
    Ok(())
}

/// A SIGKILL that came meanwhile takes effect.
fn unfreeze(task: &Task) {
    let mut signals = task.signals.lock();
    // Not if it went on and has stopped again: then somebody else's freeze is none of ours.
    signals.trap.frozen = false;
    if signals.trap.stopped && signals.is_killed() {
        signals.trap.stopped = false;
        scheduler::wake_state(task, TRACED);
    }
}

/// The requests as a 64-bit program makes them.
pub fn native(stopped: &mut Stopped<'_>, request: u32, addr: u64, data: u64) -> Result<usize> {
    match request {
        PTRACE_PEEKTEXT | PTRACE_PEEKDATA => {
            let mut word = [0; 8];
            if stopped.task().mm().peek(addr, &mut word) != word.len() {
                return Err(Errno::EIO);
            }
            user::write(data, &u64::from_ne_bytes(word))?;
        }
        PTRACE_POKETEXT | PTRACE_POKEDATA => {
            if stopped.task().mm().poke(addr, &data.to_ne_bytes()) != 8 {
                return Err(Errno::EIO);
            }
        }
        PTRACE_PEEKUSR => user::write(data, &stopped.peek_user(addr)?)?,
        PTRACE_POKEUSR => stopped.poke_user(addr, data)?,
        PTRACE_GETREGS | PTRACE_GETFPREGS => {
            let bytes = regset::get64(stopped, Regset::of_request(request))?;
            // SAFETY: the vector's own length.
            unsafe { user::copy_to_user(data, bytes.as_ptr(), bytes.len()) }?;
        }
        PTRACE_SETREGS | PTRACE_SETFPREGS => {
            let regset = Regset::of_request(request);
            let bytes = regset::read_from_user(data, regset::size64(regset)?)?;
            regset::set64(stopped, regset, &bytes)?;
        }
        PTRACE_ARCH_PRCTL => return arch_prctl(stopped, data, addr),
        PTRACE_GETREGSET | PTRACE_SETREGSET => {
            let [base, len]: [u64; 2] = user::read(data)?;
            let len = regset::transfer(stopped, request, addr as u32, base, len)?;
            user::write(data + 8, &len)?;
        }
        PTRACE_GETEVENTMSG => {
            let message = stopped.task().signals.lock().trap.message;
            user::write(data, &message)?;
        }
        _ => return general(stopped, request, addr, data),
    }
    Ok(0)
}

/// The requests that are the same for programs of both widths.
pub(super) fn general(stopped: &mut Stopped<'_>, request: u32, addr: u64, data: u64) -> Result<usize> {
    let task = stopped.task();
    match request {
        PTRACE_CONT
        | PTRACE_SYSCALL
        | PTRACE_SINGLESTEP
        | PTRACE_SINGLEBLOCK
        | PTRACE_SYSEMU
        | PTRACE_SYSEMU_SINGLESTEP => {
            resume(stopped, request, data)?;
        }
        // An old name of it.
        PTRACE_SETOPTIONS | PTRACE_OLDSETOPTIONS => {
            let options = attach::check_options(data)?;
            task.trace.set_options(options);
        }
        PTRACE_GET_THREAD_AREA | PTRACE_SET_THREAD_AREA => {
            let number = u32::try_from(addr).map_err(|_| Errno::EIO)?;
            if request == PTRACE_GET_THREAD_AREA {
                return thread_area::get(task, number, data);
            }
            return thread_area::set_of_other(task, stopped.segments(), number, data);
        }
        PTRACE_DETACH => attach::detach(stopped, data)?,
        PTRACE_GETSIGINFO => events::siginfo(task)?.write_for_call(data)?,
        PTRACE_SETSIGINFO => {
            // The signal number is its first field in both widths.
            let info = SigInfo::read_for_call(user::read(data)?, data)?;
            events::set_siginfo(task, info)?;
        }
        PTRACE_LISTEN => listen(task)?,
        PTRACE_PEEKSIGINFO => return events::peek_siginfo(task, addr, data),
        PTRACE_GETSIGMASK | PTRACE_SETSIGMASK if addr != size_of::<SigSet>() as u64 => {
            return Err(Errno::EINVAL);
        }
        PTRACE_GETSIGMASK => {
            let mask = task.signals.lock().mask_of_tracee();
            user::write(data, &mask)?;
        }
        PTRACE_SETSIGMASK => {
            let mask: SigSet = user::read(data)?;
            task.signals.lock().set_mask_of_tracee(mask);
        }
        PTRACE_GET_SYSCALL_INFO => return events::syscall_info(stopped, addr, data),
        PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG | PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG
            if addr != size_of::<user_dispatch::Config>() as u64 =>
        {
            return Err(Errno::EINVAL);
        }
        PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG => {
            user::write(data, &task.hooks.syscall_dispatch.get(&task.work))?;
        }
        PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG => {
            task.hooks.syscall_dispatch.set(&user::read(data)?, &task.work)?;
        }
        PTRACE_GET_RSEQ_CONFIGURATION => return events::rseq_configuration(task, addr, data),
        _ => return Err(Errno::EIO),
    }
    Ok(0)
}

/// The tracee goes on, with a signal or with none.
fn resume(stopped: &mut Stopped<'_>, request: u32, signo: u64) -> Result<()> {
    if signo > SIGRTMAX as u64 {
        return Err(Errno::EIO);
    }
    let task = stopped.task();
    let arm = |work: SyscallWork, on: bool| {
        if on {
            task.work.arm(work);
        } else {
            task.work.disarm(work);
        }
    };
    arm(SyscallWork::TRACE, request == PTRACE_SYSCALL);
    arm(SyscallWork::EMU, matches!(request, PTRACE_SYSEMU | PTRACE_SYSEMU_SINGLESTEP));
    match request {
        PTRACE_SINGLESTEP | PTRACE_SYSEMU_SINGLESTEP => step::enable(stopped, false),
        PTRACE_SINGLEBLOCK => step::enable(stopped, true),
        _ => step::disable(stopped),
    }
    let mut signals = task.signals.lock();
    signals.trap.code = signo as i32;
    signals.trap.stopped = false;
    signals.trap.frozen = false;
    scheduler::wake_state(task, TRACED);
    Ok(())
}

/// Ends a tracee, stopped or not.
fn kill(task: &Task) -> Result<usize> {
    let process = &current().process;
    let uid = process.credentials.lock().user.real;
    let info = SigInfo::user(SIGKILL, crate::task::signals::info::SI_USER, process.pid, uid);
    // SIGKILL is never refused.
    let _ = signal::send::to_task(task, info);
    Ok(0)
}

/// Stops a seized task, without a signal. One that is stopped already stops again when it goes on.
fn interrupt(task: &Task) -> Result<usize> {
    if !task.trace.is_seized() {
        return Err(Errno::EIO);
    }
    let states = {
        let mut signals = task.signals.lock();
        if !signals.may_trap() {
            return Ok(0);
        }
        signals.trap.stop = true;
        if signals.trap.listening {
            signals.trap.stopped = false;
            TRACED | state::INTERRUPTIBLE
        } else {
            state::INTERRUPTIBLE
        }
    };
    signal::send::raise(task);
    scheduler::wake_state(task, states);
    Ok(0)
}

/// A seized task in a group stop stays there; the tracer is told when the group stop ends.
fn listen(task: &Task) -> Result<()> {
    if !task.trace.is_seized() {
        return Err(Errno::EIO);
    }
    let again = {
        let mut signals = task.signals.lock();
        if signals.trap.info.is_none_or(|info| info.code >> 8 != EVENT_STOP) {
            return Err(Errno::EIO);
        }
        signals.trap.listening = true;
        // It has ended since the stop.
        if signals.trap.notify {
            signals.trap.stopped = false;
        }
        signals.trap.notify
    };
    if again {
        signal::send::raise(task);
        scheduler::wake_state(task, TRACED);
    }
    Ok(())
}

/// PTRACE_ARCH_PRCTL: the arguments are the other way round.
fn arch_prctl(stopped: &mut Stopped<'_>, option: u64, address: u64) -> Result<usize> {
    const ARCH_SET_GS: u64 = 0x1001;
    const ARCH_SET_FS: u64 = 0x1002;
    const ARCH_GET_FS: u64 = 0x1003;
    const ARCH_GET_GS: u64 = 0x1004;
    let segments = stopped.segments();
    match option {
        ARCH_SET_FS | ARCH_SET_GS if address >= crate::memory::USER_END => return Err(Errno::EPERM),
        ARCH_SET_FS => (segments.fs, segments.fs_base) = (0, address),
        ARCH_SET_GS => (segments.gs, segments.gs_base) = (0, address),
        ARCH_GET_FS => user::write(address, &segments.fs_base)?,
        ARCH_GET_GS => user::write(address, &segments.gs_base)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
