//! Which socket has which name.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use linux_raw_sys::{errno, general as abi};

use crate::errno::{Errno, Result};
use crate::fs::path::Walk;
use crate::machine::sync::SpinLock;
use crate::memory::frames;
use crate::net::unix::name::{Key, Name};
use crate::net::unix::socket::{Kind, UnixSocket};
use crate::task::current;
use crate::vfs::inode::Inode;

/// Those that are bound.
static SOCKETS: SpinLock<BTreeMap<Key, Weak<UnixSocket>>> = SpinLock::new(BTreeMap::new());

/// So many names are there for those who do not choose one: five hexadecimal digits.
const OWN_NAMES: u32 = 1 << 20;

fn walk(path: &[u8]) -> Walk {
    let context = &current().fs;
    let start = if path.starts_with(b"/") { context.root() } else { context.cwd() };
    Walk::new(context, start)
}

fn key_of(inode: &dyn Inode) -> Key {
    let metadata = inode.metadata();
    Key::Inode(metadata.device, metadata.ino)
}

/// Makes a socket in the file system.
fn make_inode(path: &[u8]) -> Result<Key> {
    let in_use = Errno(errno::EADDRINUSE as usize);
    let place = walk(path).place(path)?;
    let name = place.name(in_use)?;
    if place.trailing_slash {
        return Err(if place.directory.lookup(name).is_ok() { in_use } else { Errno::ENOENT });
    }
    place.directory.check_writable()?;
    let mode = abi::S_IFSOCK | 0o777 & !current().fs.umask();
    match place.directory.create(name, mode, 0) {
        Ok(inode) => Ok(key_of(&*inode)),
        Err(Errno::EEXIST) => Err(in_use),
        Err(error) => Err(error),
    }
}

fn add(key: Key, name: Name, socket: &UnixSocket) -> Result<()> {
    let mut sockets = SOCKETS.lock();
    if sockets.contains_key(&key) {
        return Err(Errno(errno::EADDRINUSE as usize));
    }
    sockets.insert(key.clone(), socket.this.clone());
    drop(sockets);
    let mut state = socket.state.lock();
    state.name = Some(Arc::new(name));
    state.key = Some(key);
    Ok(())
}

/// Gives a socket this name. EINVAL if it has one, EADDRINUSE if another has it.
pub fn bind(socket: &UnixSocket, name: Name) -> Result<()> {
    frames::require_spare()?;
    let _binding = socket.binding.lock();
    if socket.state.lock().name.is_some() {
        return Err(Errno::EINVAL);
    }
    let key = match &name {
        Name::Path(path) => make_inode(path)?,
        Name::Abstract(name) => Key::Abstract(socket.kind as u32, name.clone()),
    };
    add(key, name, socket)
}

/// Gives a socket an abstract name that no other has, unless it has one.
pub fn bind_to_any(socket: &UnixSocket) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    frames::require_spare()?;
    let _binding = socket.binding.lock();
    if socket.state.lock().name.is_some() {
        return Ok(());
    }
    for _ in 0..OWN_NAMES {
        let number = NEXT.fetch_add(1, Relaxed) % OWN_NAMES;
        let name = alloc::format!("{number:05x}").into_bytes();
        if add(Key::Abstract(socket.kind as u32, name.clone()), Name::Abstract(name), socket).is_ok() {
            return Ok(());
        }
    }
    Err(Errno::ENOSPC)
}

/// The socket of that name, which has to be of this kind: EPROTOTYPE. ECONNREFUSED if there is none, or no longer.
pub fn find(name: &Name, kind: Kind) -> Result<Arc<UnixSocket>> {
    let key = match name {
        Name::Path(path) => {
            let inode = walk(path).object(path, true)?;
            if inode.file_type() != abi::S_IFSOCK {
                return Err(Errno(errno::ECONNREFUSED as usize));
            }
            key_of(&**inode)
        }
        Name::Abstract(name) => Key::Abstract(kind as u32, name.clone()),
    };
    let socket = SOCKETS.lock().get(&key).and_then(Weak::upgrade).ok_or(Errno(errno::ECONNREFUSED as usize))?;
    if socket.kind != kind {
        return Err(Errno(errno::EPROTOTYPE as usize));
    }
    Ok(socket)
}

/// Forgets a socket that is closed.
pub fn forget(socket: &UnixSocket) {
    let key = socket.state.lock().key.take();
    if let Some(key) = key {
        SOCKETS.lock().remove(&key);
    }
}
