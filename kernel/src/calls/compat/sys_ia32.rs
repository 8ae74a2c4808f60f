//! Calls whose arguments do not come one in a register: i386's first ones had them in memory.

use core::sync::atomic::Ordering::Relaxed;

use crate::calls::fs;
use crate::calls::fs::locks::FlockLayout;
use crate::calls::fs::{poll, sys_lseek};
use crate::calls::memory::sys_mmap;
use crate::calls::net;
use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::memory::width::Width;
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

/// socketcall(2): the calls on sockets, by numbers of their own.
pub fn sys_socketcall(call: u64, args: u64) -> Result<usize> {
    macro_rules! calls {
        ($($number:ident => $($function:ident)::+ ($($argument:ident),*);)*) => {
            match call as u32 {
                $(number::$number => {
                    let [$($argument),*] = read(args)?;
                    $($function)::+($($argument),*)
                })*
                _ => Err(Errno::EINVAL),
            }
        };
    }
    use linux_raw_sys::net as number;
    calls! {
        SYS_SOCKET => net::sys_socket(a, b, c);
        SYS_BIND => net::sys_bind(a, b, c);
        SYS_CONNECT => net::sys_connect(a, b, c);
        SYS_LISTEN => net::sys_listen(a, b);
        SYS_ACCEPT => net::sys_accept(a, b, c);
        SYS_GETSOCKNAME => net::sys_getsockname(a, b, c);
        SYS_GETPEERNAME => net::sys_getpeername(a, b, c);
        SYS_SOCKETPAIR => net::sys_socketpair(a, b, c, d);
        SYS_SEND => net::sys_send(a, b, c, d);
        SYS_RECV => net::sys_recv(a, b, c, d);
        SYS_SENDTO => net::sys_sendto(a, b, c, d, e, f);
        SYS_RECVFROM => net::sys_recvfrom(a, b, c, d, e, f);
        SYS_SHUTDOWN => net::sys_shutdown(a, b);
        SYS_SETSOCKOPT => net::sys_setsockopt(a, b, c, d, e);
        SYS_GETSOCKOPT => net::sys_getsockopt(a, b, c, d, e);
        SYS_SENDMSG => net::sys_sendmsg(a, b, c);
        SYS_RECVMSG => net::sys_recvmsg(a, b, c);
        SYS_ACCEPT4 => net::sys_accept4(a, b, c, d);
        SYS_RECVMMSG => sys_recvmmsg_time32(a, b, c, d, e);
        SYS_SENDMMSG => net::sys_sendmmsg(a, b, c, d);
    }
}

/// recvmmsg(2), whose time is of 32 bits.
pub fn sys_recvmmsg_time32(fd: u64, vector: u64, count: u64, flags: u64, timeout: u64) -> Result<usize> {
    net::recvmmsg(Width::Bits32, fd, vector, count, flags, timeout)
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
