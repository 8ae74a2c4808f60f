//! prctl, arch_prctl, personality, set_tid_address.

use core::sync::atomic::Ordering::*;

use linux_raw_sys::prctl::*;

use crate::calls::{capabilities, rseq, seccomp};
use crate::errno::{Errno, Result};
use crate::fs::vdso;
use crate::machine::segments;
use crate::memory::address_space::current_mm;
use crate::memory::vma::AreaFlags;
use crate::memory::{USER_END, Width, user};
use crate::sched::switch;
use crate::sched::thread::SwitchWork;
use crate::task::credentials::capabilities::SecureBits;
use crate::task::pid::Pid;
use crate::task::pid::numbers::{meant, seen};
use crate::task::{current, tree, user_dispatch};

/// prctl(2).
pub fn sys_prctl(option: u64, arg2: u64, arg3: u64, arg4: u64, arg5: u64) -> Result<usize> {
    let task = current();
    let process = &task.process;
    match option as u32 {
        PR_SET_NAME => {
            let mut name = [0u8; 16];
            let string = user::read_cstr(arg2, name.len()).or_else(|error| match error {
                // Longer names are cut.
                Errno::ENAMETOOLONG => {
                    // SAFETY: `name` has that many bytes.
                    unsafe { user::copy_from_user(name.as_mut_ptr(), arg2, name.len()) }?;
                    Ok(name.to_vec())
                }
                error => Err(error),
            })?;
            task.set_comm(&string);
            Ok(0)
        }
        PR_GET_NAME => {
            user::write(arg2, &task.comm())?;
            Ok(0)
        }
        PR_SET_PDEATHSIG => {
            if arg2 > 64 {
                return Err(Errno::EINVAL);
            }
            task.parent_death_signal.store(arg2 as i32, Relaxed);
            Ok(0)
        }
        PR_GET_PDEATHSIG => {
            user::write(arg2, &task.parent_death_signal.load(Relaxed))?;
            Ok(0)
        }
        PR_GET_DUMPABLE => Ok(process.dumpable.load(Relaxed).into()),
        PR_SET_DUMPABLE => {
            if arg2 > 1 {
                return Err(Errno::EINVAL);
            }
            process.dumpable.store(arg2 != 0, Relaxed);
            Ok(0)
        }
        PR_SET_NO_NEW_PRIVS => {
            if arg2 != 1 || arg3 | arg4 | arg5 != 0 {
                return Err(Errno::EINVAL);
            }
            task.no_new_privs.store(true, Relaxed);
            Ok(0)
        }
        PR_GET_NO_NEW_PRIVS => {
            if arg2 | arg3 | arg4 | arg5 != 0 {
                return Err(Errno::EINVAL);
            }
            Ok(task.no_new_privs.load(Relaxed).into())
        }
        PR_SET_CHILD_SUBREAPER => {
            process.subreaper.store(arg2 != 0, Relaxed);
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => {
            user::write(arg2, &i32::from(process.subreaper.load(Relaxed)))?;
            Ok(0)
        }
        // There is but one way to count a process's time.
        PR_GET_TIMING => Ok(PR_TIMING_STATISTICAL as usize),
        PR_SET_TIMING if arg2 == u64::from(PR_TIMING_STATISTICAL) => Ok(0),
        // There are no performance counters, of which all are counting or none.
        PR_TASK_PERF_EVENTS_DISABLE | PR_TASK_PERF_EVENTS_ENABLE => Ok(0),
        PR_SET_TIMERSLACK => {
            task.timer_slack.store(if arg2 == 0 { 50_000 } else { arg2 }, Relaxed);
            Ok(0)
        }
        PR_GET_TIMERSLACK => Ok(task.timer_slack.load(Relaxed) as usize),
        // Whoever may trace at all may trace this process: nothing narrower is kept.
        PR_SET_PTRACER => match arg2 {
            0 | u64::MAX => Ok(0),
            pid => tree::find_task(meant(pid as Pid)).map(|_| 0).ok_or(Errno::EINVAL),
        },
        PR_GET_SECCOMP => Ok(task.hooks.seccomp.mode().into()),
        PR_SET_SECCOMP => seccomp::prctl_set_seccomp(arg2, arg3),
        PR_SET_SYSCALL_USER_DISPATCH => {
            let config = user_dispatch::Config { mode: arg2, start: arg3, len: arg4, selector: arg5 };
            task.hooks.syscall_dispatch.set(&config, &task.work).map(|()| 0)
        }
        rseq::PR_RSEQ_SLICE_EXTENSION => rseq::prctl_slice_extension(arg2, arg3, arg4 | arg5),
        PR_CAPBSET_READ => capabilities::bounding(arg2),
        PR_CAPBSET_DROP => capabilities::drop_bounding(arg2),
        PR_GET_SECUREBITS => capabilities::secure_bits(),
        PR_SET_SECUREBITS => capabilities::set_secure_bits(arg2),
        PR_GET_KEEPCAPS => {
            Ok(process.credentials.lock().capabilities.secure_bits.contains(SecureBits::KEEP_CAPS).into())
        }
        PR_SET_KEEPCAPS => capabilities::keep(arg2),
        PR_CAP_AMBIENT => capabilities::ambient(arg2, arg3, arg4 | arg5),
        PR_GET_TSC => {
            let mode = match task.has_switch_work(SwitchWork::NO_TSC) {
                true => PR_TSC_SIGSEGV,
                false => PR_TSC_ENABLE,
            };
            user::write(arg2, &mode)?;
            Ok(0)
        }
        PR_SET_TSC => {
            switch::set_tsc_mode(match arg2 as u32 {
                PR_TSC_ENABLE => true,
                PR_TSC_SIGSEGV => false,
                _ => return Err(Errno::EINVAL),
            });
            Ok(0)
        }
        // Naming anonymous memory is optional; programs do without.
        _ => Err(Errno::EINVAL),
    }
}

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;
const ARCH_GET_CPUID: u64 = 0x1011;
const ARCH_SET_CPUID: u64 = 0x1012;
const ARCH_MAP_VDSO_X32: u64 = 0x2001;
const ARCH_MAP_VDSO_32: u64 = 0x2002;
const ARCH_MAP_VDSO_64: u64 = 0x2003;

/// arch_prctl(2).
pub fn sys_arch_prctl(option: u64, address: u64) -> Result<usize> {
    match option {
        // Any user address, also a bad one; anything else is not a user's to have.
        ARCH_SET_FS | ARCH_SET_GS if address >= USER_END => Err(Errno::EPERM),
        ARCH_SET_FS => {
            segments::set_fs_base_and_selector(address);
            Ok(0)
        }
        ARCH_SET_GS => {
            segments::set_gs_base_and_selector(address);
            Ok(0)
        }
        ARCH_GET_FS => {
            user::write(address, &segments::fs_base())?;
            Ok(0)
        }
        ARCH_GET_GS => {
            user::write(address, &segments::gs_base())?;
            Ok(0)
        }
        // CPUID never faults here.
        ARCH_GET_CPUID => Ok(1),
        ARCH_SET_CPUID => Err(Errno::ENODEV),
        // There is no x32.
        ARCH_MAP_VDSO_X32 => Err(Errno::EINVAL),
        ARCH_MAP_VDSO_32 => map_vdso(Width::Bits32, address),
        ARCH_MAP_VDSO_64 => map_vdso(Width::Bits64, address),
        _ => Err(Errno::EINVAL),
    }
}

/// Maps the vDSO for a process that restores another one. EEXIST if it has one.
fn map_vdso(width: Width, address: u64) -> Result<usize> {
    let mm = current_mm();
    if mm.area(mm.vdso()).is_some_and(|area| area.flags.contains(AreaFlags::VDSO)) {
        return Err(Errno::EEXIST);
    }
    vdso::map(mm, width, address)?;
    Ok(vdso::IMAGE_SIZE as usize)
}

/// "Only asking."
const PERSONALITY_QUERY: u32 = u32::MAX;

/// personality(2): see [`Personality`](crate::task::personality::Personality).
pub fn sys_personality(persona: u64) -> Result<usize> {
    let personality = &current().process.personality;
    let old = personality.load(Relaxed);
    if persona as u32 != PERSONALITY_QUERY {
        personality.store(persona as u32, Relaxed);
    }
    Ok(old as usize)
}

/// set_tid_address(2).
pub fn sys_set_tid_address(address: u64) -> Result<usize> {
    let task = current();
    task.clear_child_tid.store(address, Relaxed);
    Ok(seen(task.tid()) as usize)
}
