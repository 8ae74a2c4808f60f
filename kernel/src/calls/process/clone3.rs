//! clone3(2): the arguments of `clone` in a structure that may grow.

use alloc::vec::Vec;

use portcullis::InKernel;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::errno::{Errno, Result};
use crate::life::clone_flags::CloneFlags;
use crate::life::fork;
use crate::life::fork::Clone;
use crate::machine::gate::Gate;
use crate::memory::{USER_END, user};
use crate::task::exit_signal::ExitSignal;
use crate::task::pid::Pid;

/// `struct clone_args`.
#[derive(Default, FromBytes, IntoBytes)]
#[repr(C)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// The sizes of the structure's first version, and of the one that has `cgroup`.
const FIRST_VERSION: usize = 64;
const WITH_CGROUP: usize = 88;
const _: () = assert!(size_of::<CloneArgs>() == WITH_CGROUP);
/// The most that a program may say the structure has.
const MAX_SIZE: usize = 4096;
/// How many PID namespaces can be around one.
const MAX_LEVELS: u64 = 32;

/// clone3(2): `struct clone_args` is the same in both tables.
pub fn sys_clone3(at: &mut InKernel<'_, Gate>, address: u64, size: u64) -> Result<usize> {
    let size = size as usize;
    let args = read(address, size)?;
    let chosen = chosen_pids(&args)?;
    if args.exit_signal > 64 {
        return Err(Errno::EINVAL);
    }
    let flags = CloneFlags::from_bits_retain(args.flags);
    let into_cgroup = flags.contains(CloneFlags::INTO_CGROUP);
    if into_cgroup && (args.cgroup > i32::MAX as u64 || size < WITH_CGROUP) {
        return Err(Errno::EINVAL);
    }
    let pids = chosen.map(user::read::<Pid>).collect::<Result<Vec<Pid>>>()?;
    let shares_parent = flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT);
    // `fork::clone` refuses those flags that have a name but are not supported.
    if !CloneFlags::all().difference(CloneFlags::DETACHED).contains(flags)
        || flags.contains(CloneFlags::SIGHAND | CloneFlags::CLEAR_SIGHAND)
        || shares_parent && args.exit_signal != 0
    {
        return Err(Errno::EINVAL);
    }
    let stack = stack_top(&args)?;
    let clone = Clone {
        flags: flags.difference(CloneFlags::INTO_CGROUP),
        exit_signal: ExitSignal::from_clone(args.exit_signal as u8),
        stack,
        parent_tid: args.parent_tid,
        child_tid: args.child_tid,
        tls: args.tls,
        pidfd: args.pidfd,
        pids,
        // There are no control groups, so no descriptor is one's.
        into_cgroup,
    };
    fork::clone(at, clone)
}

/// Reads the structure. What a shorter one leaves out is zero; what a longer one adds must be.
fn read(address: u64, size: usize) -> Result<CloneArgs> {
    if size > MAX_SIZE {
        return Err(Errno::E2BIG);
    }
    if size < FIRST_VERSION {
        return Err(Errno::EINVAL);
    }
    let mut args = CloneArgs::new_zeroed();
    let known = size.min(size_of::<CloneArgs>());
    for offset in known..size {
        if user::read::<u8>(address.wrapping_add(offset as u64))? != 0 {
            return Err(Errno::E2BIG);
        }
    }
    // SAFETY: `args` has room for `known` bytes, and any bytes are a value of it.
    unsafe { user::copy_from_user(args.as_mut_bytes().as_mut_ptr(), address, known) }?;
    Ok(args)
}

/// Where the numbers are that the child is to have (`set_tid`).
fn chosen_pids(args: &CloneArgs) -> Result<impl Iterator<Item = u64> + use<>> {
    if args.set_tid_size > MAX_LEVELS || (args.set_tid == 0) != (args.set_tid_size == 0) {
        return Err(Errno::EINVAL);
    }
    let first = args.set_tid;
    Ok((0..args.set_tid_size).map(move |index| first.wrapping_add(index * size_of::<Pid>() as u64)))
}

/// The end of the child's stack, where it starts; 0 for the parent's.
fn stack_top(args: &CloneArgs) -> Result<u64> {
    let end = args.stack.checked_add(args.stack_size).ok_or(Errno::EINVAL)?;
    if (args.stack == 0) != (args.stack_size == 0) || end > USER_END {
        return Err(Errno::EINVAL);
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_has_both_its_ends_or_none() {
        // kernel/fork.c, clone3_stack_valid.
        let top = |stack, stack_size| stack_top(&CloneArgs { stack, stack_size, ..CloneArgs::default() });
        assert_eq!((top(0, 0), top(0x1000, 0x2000)), (Ok(0), Ok(0x3000)));
        for (stack, size) in [(0x1000, 0), (0, 0x1000), (u64::MAX, 2), (USER_END - 0x1000, 0x1001)] {
            assert_eq!(top(stack, size), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn numbers_are_chosen_for_as_many_namespaces_as_there_can_be() {
        let chosen = |set_tid, set_tid_size| {
            let args = CloneArgs { set_tid, set_tid_size, ..CloneArgs::default() };
            chosen_pids(&args).map(|places| places.collect::<Vec<_>>())
        };
        assert_eq!((chosen(0, 0), chosen(0x1000, 2)), (Ok(vec![]), Ok(vec![0x1000, 0x1004])));
        assert_eq!(chosen(0x1000, 32).map(|places| places.len()), Ok(32));
        for (place, count) in [(0x1000, 0), (0, 1), (0x1000, 33)] {
            assert_eq!(chosen(place, count), Err(Errno::EINVAL));
        }
    }
}
