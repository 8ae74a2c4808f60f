//! Pseudo-terminals: a terminal for a program, and the other end of it, the master, for another: what one prints the other reads, and what
//! the other writes is typed. The terminals are in `/dev/pts`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::{general as abi, ioctl};
use spin::Once;

use crate::errno::{Errno, Result};
use crate::fs::tty::{self, INPUT_CHUNK, Master, OUTPUT_CHUNK, Port, Tty};
use crate::fs::tty_control::{End, control};
use crate::fs::tty_file::open_tty;
use crate::machine::sync::SpinLock;
use crate::memory::user;
use crate::sched::wait::PollTable;
use crate::task::current;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{DirectoryOps, File, FileOps};
use crate::vfs::inode::{AttributeChange, DirectoryEntry, EntrySink, Inode, Metadata, device_number};
use crate::vfs::sleep_lock::SleepLock;

/// The major number of the terminals.
const MAJOR: u32 = 136;

/// The device number of `ptmx`, which makes one.
pub const PTMX: u64 = device_number(5, 2);

/// How many there may be, as in Linux.
const LIMIT: u32 = 4096;

/// The device number of the file system.
const DEVICE: u64 = device_number(0, 14);

/// The group `tty`, whose the terminals are.
const TTY_GROUP: u32 = 5;

/// The pseudo-terminals whose master is open, by index.
static OPEN: SpinLock<BTreeMap<u32, Arc<Pty>>> = SpinLock::new(BTreeMap::new());

struct Pty {
    index: u32,
    tty: Arc<Tty>,
    metadata: SpinLock<Metadata>,
}

/// Opens `ptmx`: makes a pseudo-terminal, of which this is the master.
pub fn open_master(inode: Arc<dyn Inode>, flags: u32) -> Result<Arc<File>> {
    let owner = current().process.credentials.lock().user.file_system;
    let pty = {
        let mut open = OPEN.lock();
        let index = (0..LIMIT).find(|index| !open.contains_key(index)).ok_or(Errno::ENOSPC)?;
        let number = device_number(MAJOR, index);
        let mut metadata = Metadata::new(DEVICE, u64::from(index) + FIRST_INODE, abi::S_IFCHR | 0o620);
        (metadata.rdev, metadata.uid, metadata.gid) = (number, owner, TTY_GROUP);
        let tty = Arc::new(Tty::new(number, Port::Master(Master::new())));
        let pty = Arc::new(Pty { index, tty, metadata: SpinLock::new(metadata) });
        open.insert(index, pty.clone());
        pty
    };
    tty::enter(&pty.tty);
    Ok(File::new(inode, Arc::new(MasterOps { pty, writer: SleepLock::new(()) }), flags))
}

/// Opens the terminal with the minor number `index`.
pub fn open_slave(inode: Arc<dyn Inode>, index: u32, flags: u32) -> Result<Arc<File>> {
    let pty = OPEN.lock().get(&index).cloned().ok_or(Errno::EIO)?;
    pty.open(inode, flags)
}

impl Pty {
    fn open(&self, inode: Arc<dyn Inode>, flags: u32) -> Result<Arc<File>> {
        if self.tty.state.lock().master().is_none_or(|master| master.is_locked) {
            return Err(Errno::EIO);
        }
        Ok(open_tty(inode, flags, &self.tty))
    }
}

/// The operations of an open master.
struct MasterOps {
    pty: Arc<Pty>,
    /// One writer at a time finds room and fills it.
    writer: SleepLock<()>,
}

impl Drop for MasterOps {
    fn drop(&mut self) {
        let closed = OPEN.lock().remove(&self.pty.index);
        self.pty.tty.hang_up();
        tty::leave(&self.pty.tty);
        drop(closed);
    }
}

impl MasterOps {
    fn read_into(&self, file: &File, to: &mut Destination) -> Result<()> {
        let tty = &self.pty.tty;
        let mut chunk = [0; INPUT_CHUNK];
        loop {
            let (taken, is_left) = {
                let mut state = tty.state.lock();
                let master = state.master().ok_or(Errno::EIO)?;
                let len = master.output.len().min(to.remaining()).min(INPUT_CHUNK);
                chunk.iter_mut().zip(master.output.drain(..len)).for_each(|(to, byte)| *to = byte);
                (len, master.was_left)
            };
            if taken > 0 {
                tty.writable.wake_all();
                to.put(&chunk[..taken])?;
            }
            if to.remaining() == 0 || taken == 0 && to.done() > 0 {
                return Ok(());
            }
            if taken > 0 {
                continue;
            }
            if is_left {
                return Err(Errno::EIO);
            }
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            tty.master.wait_until(|| {
                let mut state = tty.state.lock();
                let ready = state.master().is_none_or(|master| !master.output.is_empty() || master.was_left);
                ready.then_some(())
            })?;
        }
    }

    fn write_from(&self, file: &File, from: &mut Source) -> Result<()> {
        let tty = &self.pty.tty;
        let mut chunk = [0; OUTPUT_CHUNK];
        while from.remaining() > 0 {
            let has_room = || (tty.state.lock().line.room() > 0).then_some(());
            if has_room().is_none() {
                if file.is_nonblocking() {
                    return Err(Errno::EAGAIN);
                }
                tty.master.wait_until(has_room)?;
            }
            // Others that write wait until what there is room for is typed.
            let _writer = self.writer.lock();
            let len = from.remaining().min(OUTPUT_CHUNK).min(tty.state.lock().line.room());
            from.take(&mut chunk[..len])?;
            let (foreground, signals) = {
                let mut state = tty.state.lock();
                let signals = chunk[..len].iter().fold(0, |signals, &byte| signals | state.type_byte(byte));
                (state.foreground, signals)
            };
            tty.after_input(foreground, signals);
        }
        Ok(())
    }

    fn lock_slave(&self, argument: u64) -> Result<()> {
        let is_locked = user::read::<i32>(argument)? != 0;
        if let Some(master) = self.pty.tty.state.lock().master() {
            master.is_locked = is_locked;
        }
        Ok(())
    }

    /// A descriptor of the terminal, without its name.
    fn open_peer(&self, flags: u32) -> Result<usize> {
        let node: Arc<dyn Inode> = Arc::new(Node { pty: Some(self.pty.clone()) });
        let file = open_tty(node, flags, &self.pty.tty);
        Ok(current().files.install(file, flags & abi::O_CLOEXEC != 0)? as usize)
    }
}

impl FileOps for MasterOps {
    fn read(&self, file: &File, to: &mut Destination, _position: &mut u64) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let result = self.read_into(file, to);
        to.finish(result)
    }

    fn write(&self, file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let result = self.write_from(file, from);
        from.finish(result)
    }

    fn poll(&self, _file: &File, table: Option<&PollTable>) -> u32 {
        let tty = &self.pty.tty;
        if let Some(table) = table {
            tty.master.register(table);
        }
        let mut state = tty.state.lock();
        let has_room = state.line.room() > 0;
        let (has_output, is_left) =
            state.master().map_or((false, true), |master| (!master.output.is_empty(), master.was_left));
        let mut events = 0;
        for (holds, event) in [
            (has_output, abi::POLLIN | abi::POLLRDNORM),
            (has_room, abi::POLLOUT | abi::POLLWRNORM),
            (is_left, abi::POLLHUP),
        ] {
            events |= if holds { event } else { 0 };
        }
        events
    }

    fn ioctl(&self, _file: &File, request: u32, argument: u64) -> Result<usize> {
        match request {
            ioctl::TIOCGPTN => user::write(argument, &self.pty.index)?,
            ioctl::TIOCSPTLCK => self.lock_slave(argument)?,
            ioctl::TIOCGPTLCK => {
                let is_locked = self.pty.tty.state.lock().master().is_some_and(|master| master.is_locked);
                user::write(argument, &u32::from(is_locked))?;
            }
            ioctl::TIOCGPTPEER => return self.open_peer(argument as u32),
            ioctl::FIONREAD => {
                let count = self.pty.tty.state.lock().master().map_or(0, |master| master.output.len());
                user::write(argument, &(count as u32))?;
            }
            _ => return control(&self.pty.tty, End::Master, request, argument),
        }
        Ok(0)
    }

    fn describe(&self, _file: &File, out: &mut String) {
        out.push_str(&format!("tty-index:\t{}\n", self.pty.index));
    }
}

static DIRECTORY: Once<Arc<Directory>> = Once::new();

/// Inode numbers: of the directory, and of the first terminal.
const ROOT_INODE: u64 = 1;
const PTMX_INODE: u64 = 2;
const FIRST_INODE: u64 = 3;

/// The directory of all pseudo-terminals.
struct Directory {
    metadata: Metadata,
}

/// `/dev/pts`: the same wherever it is mounted.
pub fn root() -> Arc<dyn Inode> {
    let make = || {
        let mut metadata = Metadata::new(DEVICE, ROOT_INODE, abi::S_IFDIR | 0o755);
        metadata.links = 2;
        Arc::new(Directory { metadata })
    };
    DIRECTORY.call_once(make).clone()
}

impl Inode for Directory {
    fn metadata(&self) -> Metadata {
        self.metadata
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<File>> {
        Ok(File::new(self, Arc::new(DirectoryOps), flags))
    }

    fn file_system(&self) -> u32 {
        abi::DEVPTS_SUPER_MAGIC
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if name == b"ptmx" {
            return Ok(Arc::new(Node { pty: None }));
        }
        let found = OPEN.lock().values().find(|pty| format!("{}", pty.index).as_bytes() == name).cloned();
        Ok(Arc::new(Node { pty: Some(found.ok_or(Errno::ENOENT)?) }))
    }

    fn readdir(&self, position: u64, sink: &mut EntrySink) -> Result<()> {
        let (directory, device) = (abi::S_IFDIR, abi::S_IFCHR);
        let mut entries: Vec<(String, u64, u32)> = Vec::new();
        entries.push((String::from("."), ROOT_INODE, directory));
        entries.push((String::from(".."), ROOT_INODE, directory));
        entries.push((String::from("ptmx"), PTMX_INODE, device));
        entries.extend(OPEN.lock().keys().map(|&index| (format!("{index}"), u64::from(index) + FIRST_INODE, device)));
        for (at, (name, ino, file_type)) in (0..).zip(entries).filter(|&(at, _)| at >= position) {
            if !sink(DirectoryEntry { name: name.as_bytes(), ino, file_type, next: at + 1 }) {
                break;
            }
        }
        Ok(())
    }
}

/// A terminal's node, or that of `ptmx`.
struct Node {
    pty: Option<Arc<Pty>>,
}

impl Inode for Node {
    fn metadata(&self) -> Metadata {
        match &self.pty {
            Some(pty) => *pty.metadata.lock(),
            None => {
                let mut metadata = Metadata::new(DEVICE, PTMX_INODE, abi::S_IFCHR | 0o666);
                metadata.rdev = PTMX;
                metadata
            }
        }
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<File>> {
        match self.pty.clone() {
            Some(pty) => pty.open(self, flags),
            None => open_master(self, flags),
        }
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        if let Some(pty) = &self.pty {
            pty.metadata.lock().apply(change);
        }
        Ok(())
    }

    fn truncate(&self, _size: u64) -> Result<()> {
        Ok(())
    }

    fn file_system(&self) -> u32 {
        abi::DEVPTS_SUPER_MAGIC
    }

    fn is_made_anew(&self) -> bool {
        true
    }

    fn parent(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        let directory = DIRECTORY.get()?.clone();
        let name = self.pty.as_ref().map_or_else(|| String::from("ptmx"), |pty| format!("{}", pty.index));
        Some((directory, name.into_bytes()))
    }
}
