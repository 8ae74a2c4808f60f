//! Files.
//!
//! What all files have in common is in [`vfs`](crate::vfs). A descriptor refers to an open file, that to an inode, which a name leads to
//! ([`path`]). All files live in memory.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | change how names are walked | [`path`] |
//! | change directories, links, regular files | [`ramfs`], [`ramfs_file`] |
//! | add a device | [`devices`] |
//! | add a kind of file system | [`file_systems`] |
//! | change terminals | [`mod@line`] (editing, echo: pure), [`tty`] (job control), [`tty_file`] (waiting), `tty_control` (ioctl), [`serial`] |
//! | change pseudo-terminals | [`pty`] |
//! | add a file to `/proc` or `/sys` | [`proc`] |
//! | change a system call | [`calls`](crate::calls::fs) |
//!
//! **Locks.** [`sleep_lock`](crate::vfs::sleep_lock)s are held while user memory is touched: the position of a file, one writer of a file, one
//! reader and one writer of a pipe; in that order. Spin locks never are. `ramfs::NAMESPACE` → one directory → one
//! inode's attributes or place. The terminal's lock is taken in interrupts and takes no other.

pub mod devices;
pub mod epoll;
pub mod eventfd;
pub mod file_systems;
pub mod initramfs;
pub mod line;
pub mod path;
pub mod pidfd;
pub mod pipe;
pub mod proc;
pub mod pty;
pub mod ramfs;
pub mod ramfs_directory;
pub mod ramfs_file;
pub mod root;
pub mod seq_file;
pub mod serial;
pub mod termios;
pub mod timerfd;
pub mod tty;
mod tty_control;
pub mod tty_file;
pub mod vdso;

use alloc::sync::Arc;

use linux_raw_sys::general as abi;

use crate::errno::Errno;
use crate::memory::user;
use crate::task::current;

pub use crate::fs::root::root;
pub use crate::vfs::context::FsContext;
pub use crate::vfs::fd::FdTable;
pub use crate::vfs::file::File;
pub use crate::vfs::inode::Inode;
use crate::vfs::mount::{Mount, MountFlags, MountNamespace};

/// Sets up files: the root directory with what is in `cpio`, `/dev`, `/proc`, and the serial ports.
pub fn init(cpio: &[u8]) {
    let root = ramfs::RamInode::new_root(ramfs::DEVICE);
    let mounts = root::set(MountNamespace::new(Mount::new(root.clone(), "tmpfs", b"tmpfs", MountFlags::DEFAULT), None));
    match initramfs::unpack(cpio, &root) {
        Ok(()) => (),
        Err(Errno::ENOMEM) => {
            crate::machine::log::tell_fmt(format_args!(
                "the initramfs ({} MiB, and once more as much unpacked) is too large for the memory: give the machine more \
                 (./x run --memory)",
                cpio.len() >> 20
            ));
            crate::machine::power::give_up();
        }
        // What could be unpacked is there; whether it is enough will show.
        Err(error) => log::error!("the initramfs is damaged: {error:?}"),
    }
    make_standard_files(&root).expect("no memory for /dev");
    mount_standard_file_systems(mounts).expect("these mounts are the first");
    let size = terminal_size(crate::machine::loader::cmdline("winsize"));
    tty::init(size);
    if has_error_stream() {
        devices::init_errors();
    }
    if reads_stream() {
        // Whoever opens /dev/stdout gets the bytes through unchanged, too.
        tty::disable_output_processing();
    }
    if reads_stream() || size.is_some() {
        devices::init_stream();
    }
    // The host waits for a sign of life.
    crate::machine::log::tell("console: ready");
}

/// The rows and columns of `24x80`.
fn terminal_size(text: Option<&str>) -> Option<(u16, u16)> {
    let (rows, columns) = text?.split_once('x')?;
    Some((rows.parse().ok()?, columns.parse().ok()?))
}

fn make_standard_files(root: &Arc<ramfs::RamInode>) -> crate::errno::Result<()> {
    for (path, mode) in [("dev", 0o755), ("proc", 0o555), ("sys", 0o555), ("tmp", 0o1777), ("dev/shm", 0o1777)] {
        let directory = initramfs::make_directories(root, path.as_bytes())?;
        let permissions = Some(mode);
        directory.set_attributes(&crate::vfs::inode::AttributeChange { permissions, ..Default::default() })?;
    }
    let dev = initramfs::make_directories(root, b"dev")?;
    for (name, permissions, number) in devices::nodes() {
        // The archive may have brought it.
        let _ = dev.unlink(name.as_bytes());
        dev.create(name.as_bytes(), abi::S_IFCHR | permissions, number)?;
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        if dev.lookup(name.as_bytes()).is_err() {
            dev.symlink(name.as_bytes(), target.as_bytes())?;
        }
    }
    // What the archive has there stays.
    if dev.lookup(b"pts").is_err() {
        dev.create(b"pts", abi::S_IFDIR | 0o755, 0)?;
    }
    Ok(())
}

/// Mounts what there is besides the root: `/proc`, `/sys` and `/dev/pts`.
fn mount_standard_file_systems(mounts: &MountNamespace) -> crate::errno::Result<()> {
    for (kind, path) in [("proc", "proc"), ("sysfs", "sys"), ("devpts", "dev/pts")] {
        let over =
            path.split('/').try_fold(mounts.root(), |at, name| at.lookup(name.as_bytes()).map(|to| at.with(to)))?;
        // If the archive put files there, its maker wants to see them.
        if !over.is_directory() || over.has_entries() {
            continue;
        }
        let (root, kind) = file_systems::make(kind.as_bytes(), b"", None)?;
        mounts.attach(alloc::vec![Mount::new(root, kind, kind.as_bytes(), MountFlags::DEFAULT)], &over)?;
    }
    Ok(())
}

/// The first program reads a byte stream and not the terminal.
fn reads_stream() -> bool {
    crate::machine::loader::cmdline("stdin") == Some("stream")
}

/// The first program's standard error has a port of its own.
fn has_error_stream() -> bool {
    crate::machine::loader::cmdline("stderr") == Some("stream")
}

/// The first program's standard input, output and error.
pub fn console_stdio() -> [Arc<File>; 3] {
    let console =
        root().lookup(b"dev").and_then(|dev| dev.lookup(b"console")).expect("/dev/console was made at the start");
    let errors = has_error_stream().then(|| {
        let inode: Arc<dyn Inode> = Arc::new(devices::ErrorInode);
        File::new(inode, Arc::new(devices::ErrorOps), abi::O_WRONLY)
    });
    if !reads_stream() {
        let file = tty_file::new_file(console, abi::O_RDWR);
        return [file.clone(), file.clone(), errors.unwrap_or(file)];
    }
    let inode: Arc<dyn Inode> = Arc::new(devices::StreamInode);
    let input = File::new(inode, Arc::new(devices::StreamOps), abi::O_RDONLY);
    let output = File::new(console, Arc::new(devices::RawConsole), abi::O_WRONLY);
    [input, output.clone(), errors.unwrap_or(output)]
}

/// Installs two files and tells the user their descriptors; none of them if anything fails.
pub fn install_pair(
    first: Arc<File>,
    second: Arc<File>,
    close_on_exec: bool,
    address: u64,
) -> crate::errno::Result<usize> {
    let files = &current().files;
    let first = files.install(first, close_on_exec)?;
    // Closing what was just installed fails only if another thread was faster.
    let close = |fd| {
        let _ = files.close(fd);
    };
    let second = files.install(second, close_on_exec).inspect_err(|_| close(first))?;
    user::write(address, &[first as u32, second as u32]).inspect_err(|_| {
        close(first);
        close(second);
    })?;
    Ok(0)
}
