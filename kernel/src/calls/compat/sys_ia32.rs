//! Calls whose arguments do not come one in a register: i386's first ones had them in memory.

use core::sync::atomic::Ordering::Relaxed;

use crate::calls::fs;
use crate::calls::fs::locks::FlockLayout;
use crate::calls::fs::{poll, sys_lseek};
use crate::calls::memory::sys_mmap;
use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::sched::clock_watchers;
use crate::task::current;

/// Reads `N` arguments.
fn read<const N: usize>(address: u64) -> Result<[u64; N]> {
    Ok(user::read::<[u32; N]>(address)?.map(u64::from))
}

/// mmap(2).
pub fn sys_old_mmap(args: u64) -> Result<usize> {
    let [address, len, prot, flags, fd, offset] = read(args)?;
    sys_mmap(address, len, prot, flags, fd, offset)
}

/// select(2).
pub fn sys_old_select(args: u64) -> Result<usize> {
    let [count, reading, writing, except, timeout] = read(args)?;
    poll::sys_select(count, reading, writing, except, timeout)
}

/// socketcall(2): the calls that there are.
pub fn sys_socketcall(call: u64, args: u64) -> Result<usize> {
    const SYS_SOCKETPAIR: u64 = 8;
    const SYS_SHUTDOWN: u64 = 13;
    match call {
        SYS_SOCKETPAIR => {
            let [domain, kind, protocol, pair] = read(args)?;
            fs::sys_socketpair(domain, kind, protocol, pair)
        }
        SYS_SHUTDOWN => {
            let [fd, how] = read(args)?;
            fs::sys_shutdown(fd, how)
        }
        1..=20 => Err(Errno::ENOSYS),
        _ => Err(Errno::EINVAL),
    }
}

/// _llseek(2): the offset in two registers, and the result in memory.
pub fn sys_llseek(fd: u64, high: u64, low: u64, result: u64, whence: u64) -> Result<usize> {
    let position = sys_lseek(fd, low | high << 32, whence)?;
    user::write(result, &(position as u64))?;
    Ok(0)
}

/// fcntl(2) and fcntl64(2): there are commands for `struct flock`, and others for `struct flock64`.
pub fn sys_fcntl64(fd: u64, command: u64, argument: u64) -> Result<usize> {
    match lock64(command) {
        Some(command) => fs::fcntl(fd, command, argument, FlockLayout::Long),
        None => fs::fcntl(fd, command, argument, FlockLayout::Short),
    }
}

/// The command of the 64-bit table that one about a `struct flock64` stands for.
fn lock64(command: u64) -> Option<u64> {
    use linux_raw_sys::general as abi;
    const F_GETLK64: u32 = 12;
    const F_SETLK64: u32 = 13;
    const F_SETLKW64: u32 = 14;
    let command = match command as u32 {
        F_GETLK64 => abi::F_GETLK,
        F_SETLK64 => abi::F_SETLK,
        F_SETLKW64 => abi::F_SETLKW,
        open_file @ (abi::F_OFD_GETLK | abi::F_OFD_SETLK | abi::F_OFD_SETLKW) => open_file,
        _ => return None,
    };
    Some(command.into())
}

/// nice(2).
pub fn sys_nice(increment: u64) -> Result<usize> {
    let nice = &current().policy.nice;
    let changed = nice.load(Relaxed).saturating_add(increment as i32);
    nice.store(changed.clamp(-20, 19), Relaxed);
    Ok(0)
}

/// stime(2): the time of day in seconds.
pub fn sys_stime(address: u64) -> Result<usize> {
    let seconds: i32 = user::read(address)?;
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    clock_watchers::set_realtime(seconds * 1_000_000_000);
    Ok(0)
}

/// arch_prctl(2): there are no segment bases to set; what is left is about CPUID, which never faults.
pub fn sys_arch_prctl(option: u64) -> Result<usize> {
    const ARCH_GET_CPUID: u64 = 0x1011;
    const ARCH_SET_CPUID: u64 = 0x1012;
    match option {
        ARCH_GET_CPUID => Ok(1),
        ARCH_SET_CPUID => Err(Errno::ENODEV),
        _ => Err(Errno::EINVAL),
    }
}
