//! The control data of a message: `struct cmsghdr` and what follows each.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::{errno, net};
use zerocopy::IntoBytes;

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::memory::width::Width;
use crate::net::credentials::PeerCredentials;
use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::uid_gid::{GROUP, Ids, USER};
use crate::task::credentials::user_namespace;
use crate::task::pid::numbers;
use crate::task::{current, tree};
use crate::vfs::buffer::Source;
use crate::vfs::file::File;

/// The most control data of a message (Linux's `net.core.optmem_max`).
const MAX_LEN: usize = 20_480;
/// The most descriptors of a message.
const MAX_FILES: usize = 253;
/// Bytes of a descriptor.
const FD_LEN: usize = 4;

/// Bytes of a `cmsghdr`.
fn header_len(width: Width) -> usize {
    width.word() + 8
}

/// What a message says in its control data.
#[derive(Default)]
pub struct Control {
    /// SCM_RIGHTS: the files of descriptors.
    pub files: Vec<Arc<File>>,
    /// SCM_CREDENTIALS.
    pub credentials: Option<PeerCredentials>,
}

/// Reads it.
pub fn read(address: u64, len: u64) -> Result<Control> {
    let mut control = Control::default();
    if address == 0 || len == 0 {
        return Ok(control);
    }
    if len > MAX_LEN as u64 {
        return Err(Errno(errno::ENOBUFS as usize));
    }
    let bytes = Source::user(address, len).take_all(MAX_LEN)?;
    let width = Width::of_call();
    let header = header_len(width);
    let mut rest = &bytes[..];
    while rest.len() >= header {
        let word = |at: usize| u32::from_ne_bytes(core::array::from_fn(|n| rest[at + n]));
        let len = match width {
            Width::Bits64 => u64::from(word(0)) | u64::from(word(4)) << 32,
            Width::Bits32 => u64::from(word(0)),
        };
        if len < header as u64 || len > rest.len() as u64 {
            return Err(Errno::EINVAL);
        }
        let len = len as usize;
        if word(width.word()) == net::SOL_SOCKET {
            control.add(word(width.word() + 4), &rest[header..len])?;
        }
        rest = rest.get(len.next_multiple_of(width.word())..).unwrap_or_default();
    }
    Ok(control)
}

impl Control {
    fn add(&mut self, kind: u32, data: &[u8]) -> Result<()> {
        let mut words = data.chunks_exact(FD_LEN).map(|word| u32::from_ne_bytes(core::array::from_fn(|n| word[n])));
        match kind {
            net::SCM_RIGHTS => {
                if self.files.len() + words.len() > MAX_FILES {
                    return Err(Errno::EINVAL);
                }
                for fd in words {
                    self.files.push(current().files.get_any(fd.into())?);
                }
                Ok(())
            }
            net::SCM_CREDENTIALS => match [words.next(), words.next(), words.next()] {
                [Some(pid), Some(uid), Some(gid)] if data.len() == 3 * FD_LEN => {
                    self.credentials = Some(claimed(pid, uid, gid)?);
                    Ok(())
                }
                _ => Err(Errno::EINVAL),
            },
            _ => Err(Errno::EINVAL),
        }
    }
}

/// The credentials that a process says it has. EPERM unless they are its own, or it may claim others.
fn claimed(pid: u32, uid: u32, gid: u32) -> Result<PeerCredentials> {
    let process = &current().process;
    let credentials = process.credentials.lock().clone();
    let namespace = &credentials.namespace;
    let pid = numbers::meant(pid as i32);
    let uid = user_namespace::meant(namespace, USER, uid)?;
    let gid = user_namespace::meant(namespace, GROUP, gid)?;
    let grants = |capability| credentials.grants(namespace, capability);
    let has = |ids: &Ids, id| [ids.real, ids.effective, ids.saved].contains(&id);
    let is_own = (pid == process.pid || grants(Capability::SysAdmin))
        && (has(&credentials.user, uid) || grants(Capability::Setuid))
        && (has(&credentials.group, gid) || grants(Capability::Setgid));
    if !is_own {
        return Err(Errno::EPERM);
    }
    if pid != process.pid && tree::find(pid).is_none() {
        return Err(Errno::ESRCH);
    }
    Ok(PeerCredentials { pid, uid, gid })
}

/// Writes control data, as far as there is room.
pub struct Writer {
    start: u64,
    address: u64,
    room: usize,
    flags: u32,
}

impl Writer {
    /// To the buffer of a message.
    pub fn new(address: u64, len: u64) -> Writer {
        let room = if address == 0 { 0 } else { len.min(i32::MAX as u64) as usize };
        Writer { start: address, address, room, flags: 0 }
    }

    /// MSG_CTRUNC if not all had room.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Bytes that were used.
    pub fn written(&self) -> u64 {
        self.address - self.start
    }

    /// What a message came with.
    pub fn put_all(
        &mut self,
        files: Vec<Arc<File>>,
        credentials: Option<PeerCredentials>,
        close_on_exec: bool,
    ) -> Result<()> {
        if let Some(credentials) = credentials {
            self.put(net::SCM_CREDENTIALS, credentials.seen().as_bytes())?;
        }
        self.put_files(files, close_on_exec)
    }

    fn put_header(&self, len: usize, kind: u32) -> Result<()> {
        let words = [net::SOL_SOCKET, kind];
        match Width::of_call() {
            Width::Bits64 => {
                user::write(self.address, &(len as u64))?;
                user::write(self.address + 8, &words)
            }
            Width::Bits32 => user::write(self.address, &[len as u32, words[0], words[1]]),
        }
    }

    fn advance(&mut self, len: usize) {
        let space = len.next_multiple_of(Width::of_call().word()).min(self.room);
        self.address += space as u64;
        self.room -= space;
    }

    fn put(&mut self, kind: u32, data: &[u8]) -> Result<()> {
        let header = header_len(Width::of_call());
        if self.room < header {
            self.flags |= net::MSG_CTRUNC;
            return Ok(());
        }
        let whole = header + data.len();
        let len = whole.min(self.room);
        if len < whole {
            self.flags |= net::MSG_CTRUNC;
        }
        self.put_header(len, kind)?;
        user::write(self.address + header as u64, &data[..len - header])?;
        self.advance(whole);
        Ok(())
    }

    /// Gives the files descriptors, as many as there is room for. The others are closed.
    fn put_files(&mut self, files: Vec<Arc<File>>, close_on_exec: bool) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let header = header_len(Width::of_call());
        let room = self.room.saturating_sub(header) / FD_LEN;
        let count = files.len();
        let table = &current().files;
        let mut done = 0;
        for file in files.into_iter().take(room) {
            let Ok(fd) = table.install(file, close_on_exec) else { break };
            if user::write(self.address + (header + done * FD_LEN) as u64, &(fd as u32)).is_err() {
                // It fails only if another thread was faster.
                let _ = table.close(fd);
                break;
            }
            done += 1;
        }
        if done < count {
            self.flags |= net::MSG_CTRUNC;
        }
        if done > 0 {
            let len = header + done * FD_LEN;
            self.put_header(len, net::SCM_RIGHTS)?;
            self.advance(len);
        }
        Ok(())
    }
}
