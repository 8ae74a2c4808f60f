//! `/proc/PID/mem`: the memory of a process as a file, for those who may trace it.

use alloc::sync::Arc;
use alloc::vec;

use crate::errno::{Errno, Result};
use crate::fs::proc::entry::Subject;
use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::address_space::AddressSpace;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};

/// An open `/proc/PID/mem`. It keeps the memory that it was opened for, also beyond an exec.
pub(super) struct Memory(Arc<AddressSpace>);

impl Memory {
    /// Opens it. EACCES unless the current task may look into the subject.
    pub(super) fn open(subject: &Subject) -> Result<Memory> {
        let task = subject.task()?;
        subject.check_access()?;
        Ok(Memory(task.mm()))
    }
}

impl FileOps for Memory {
    fn seekable(&self) -> bool {
        true
    }

    fn read(&self, _file: &File, to: &mut Destination, position: &mut u64) -> Result<usize> {
        let mut chunk = vec![0; PAGE_SIZE as usize];
        while to.remaining() > 0 {
            let len = to.remaining().min(chunk.len());
            let got = self.0.peek(*position, &mut chunk[..len]);
            // What was moved counts; nothing at all is an error.
            if got == 0 {
                return to.finish(Err(Errno::EIO));
            }
            if let Err(error) = to.put(&chunk[..got]) {
                return to.finish(Err(error));
            }
            *position += got as u64;
        }
        to.finish(Ok(()))
    }

    fn write(&self, _file: &File, from: &mut Source, position: &mut u64) -> Result<usize> {
        let mut chunk = vec![0; PAGE_SIZE as usize];
        while from.remaining() > 0 {
            let len = from.remaining().min(chunk.len());
            if let Err(error) = from.take(&mut chunk[..len]) {
                return from.finish(Err(error));
            }
            let put = self.0.poke(*position, &chunk[..len]);
            *position += put as u64;
            if put < len {
                let before = from.done() - len;
                return if before + put > 0 { Ok(before + put) } else { Err(Errno::EIO) };
            }
        }
        from.finish(Ok(()))
    }
}
