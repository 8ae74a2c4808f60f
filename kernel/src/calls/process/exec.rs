//! execve(2) and execveat(2). How a program replaces another is [`life::exec`](crate::life::exec).

use linux_raw_sys::general::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW};
use portcullis::InKernel;

use crate::errno::{Errno, Result};
use crate::fs::path::{PATH_MAX, Walk, start_directory};
use crate::life::exec::{Executable, Request, exec};
use crate::life::exec_strings::{Strings, room_for_bytes};
use crate::life::initial_stack::StackStrings;
use crate::machine::gate::Gate;
use crate::memory::user;
use crate::task::current;

/// execve(2).
pub fn sys_execve(at: &mut InKernel<'_, Gate>, path: u64, argv: u64, envp: u64) -> Result<usize> {
    execveat(at, ExecArgs { dirfd: AT_FDCWD as u64, path, argv, envp, flags: 0 })
}

/// execveat(2).
pub fn sys_execveat(
    at: &mut InKernel<'_, Gate>,
    dirfd: u64,
    path: u64,
    argv: u64,
    envp: u64,
    flags: u64,
) -> Result<usize> {
    execveat(at, ExecArgs { dirfd, path, argv, envp, flags: flags as u32 })
}

/// The arguments of execveat(2). `path`, `argv` and `envp` are addresses in user memory.
struct ExecArgs {
    dirfd: u64,
    path: u64,
    argv: u64,
    envp: u64,
    flags: u32,
}

fn execveat(at: &mut InKernel<'_, Gate>, args: ExecArgs) -> Result<usize> {
    let ExecArgs { dirfd, flags, .. } = args;
    let path = user::read_cstr(args.path, PATH_MAX)?;
    if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    let mut argv = Strings::from_user(args.argv)?;
    let envp = Strings::from_user(args.envp)?;
    if argv.count == 0 {
        // A program may rely on having a name.
        argv.push(b"");
    }
    let is_absolute = path.first() == Some(&b'/');
    // Named by a descriptor, the program is found again under /dev/fd.
    let by_descriptor = dirfd as i32 != AT_FDCWD && !is_absolute;
    let name = match by_descriptor {
        true if path.is_empty() => alloc::format!("/dev/fd/{}", dirfd as i32).into_bytes(),
        true => [alloc::format!("/dev/fd/{}/", dirfd as i32).as_bytes(), &path].concat(),
        false => path.clone(),
    };
    let strings = StackStrings { name, argv, envp };
    let room = room_for_bytes(strings.argv.count + strings.envp.count)?;
    if strings.bytes() > room {
        return Err(Errno::E2BIG);
    }
    if flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let context = &current().fs;
    let start = if is_absolute { context.root() } else { start_directory(dirfd)? };
    let inode = if path.is_empty() {
        start
    } else {
        Walk::new(context, start).object(&path, flags & AT_SYMLINK_NOFOLLOW == 0)?
    };
    let request = Request {
        file: Executable::open(inode)?,
        strings,
        room,
        is_lost: by_descriptor && current().files.close_on_exec(dirfd)?,
    };
    exec(at, request)?;
    Ok(0)
}
