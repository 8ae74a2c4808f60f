//! Memory of an address space that is not the current one.
//!
//! A debugger may do what the program may not ([`AddressSpace::peek`], [`AddressSpace::poke`]): read what has no
//! permissions, and write to read-only pages of its own (a breakpoint in the code). Such a page becomes a private copy first,
//! and stays read-only for the program.

use core::mem::ManuallyDrop;
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

use crate::errno::{Errno, Result};
use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::access::Access;
use crate::memory::address_space::AddressSpace;
use crate::memory::frames::Frame;
use crate::memory::layout::USER_END;
use crate::memory::vma::AreaFlags;
use crate::memory::{frames, page_table, table};

impl AddressSpace {
    /// Reads as a debugger does. Returns how many bytes could be read.
    pub fn peek(&self, addr: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buffer.len() {
            let at = addr.wrapping_add(done as u64);
            let Ok(frame) = self.forced_page(at, Access::Read) else {
                break;
            };
            done += copy_from(&frame, at, &mut buffer[done..]);
        }
        done
    }

    /// Writes as a debugger does. Returns how many bytes could be written.
    pub fn poke(&self, addr: u64, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let at = addr.wrapping_add(done as u64);
            let Ok(frame) = self.forced_page(at, Access::Write) else {
                break;
            };
            done += copy_to(&frame, at, &bytes[done..]);
        }
        done
    }

    /// Reads what the program could read. EFAULT if that is not all.
    pub fn copy_out(&self, addr: u64, buffer: &mut [u8]) -> Result<()> {
        if self.read(addr, buffer) == buffer.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Writes what the program could write. EFAULT if that is not all; a part may have been written.
    pub fn copy_in(&self, addr: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = addr.wrapping_add(done as u64);
            done += copy_to(&self.page(at, Access::Write)?, at, &bytes[done..]);
        }
        Ok(())
    }

    /// The frame behind `addr`, made present first, whatever the program may do there. For a write to private memory it is
    /// this address space's alone.
    fn forced_page(&self, addr: u64, access: Access) -> Result<Frame> {
        if addr >= USER_END {
            return Err(Errno::EFAULT);
        }
        loop {
            let inner = self.inner.lock();
            let area = inner.areas.find(addr);
            if area.is_some_and(|area| area.flags.contains(AreaFlags::IO)) {
                return Err(Errno::EFAULT);
            }
            if let Some(entry) = self.tables.lookup(addr)
                && let Some(area) = area
            {
                let entry = entry.load(Relaxed);
                let own = || {
                    let address = table::address(entry);
                    // SAFETY: the entry's reference, which stays with the entry.
                    let frame = ManuallyDrop::new(unsafe { Frame::from_raw(address) });
                    area.may_force_write() && address != frames::zero_frame() && frame.is_unique()
                };
                if entry != 0 && (access != Access::Write || page_table::is_writable(entry) || own()) {
                    return Ok(frames::share_raw(table::address(entry)));
                }
            }
            drop(inner);
            self.fault_forced(addr, access).map_err(|_| Errno::EFAULT)?;
        }
    }
}

/// Copies from the frame at the offset of `at`. Returns how much fits.
fn copy_from(frame: &Frame, at: u64, buffer: &mut [u8]) -> usize {
    let offset = (at % PAGE_SIZE) as usize;
    let len = buffer.len().min(PAGE_SIZE as usize - offset);
    // SAFETY: within the frame, which the reference keeps; within the buffer, which is not user memory.
    unsafe { ptr::copy_nonoverlapping(frame.as_ptr().add(offset), buffer.as_mut_ptr(), len) };
    len
}

/// Copies to the frame at the offset of `at`. Returns how much fits.
fn copy_to(frame: &Frame, at: u64, bytes: &[u8]) -> usize {
    let offset = (at % PAGE_SIZE) as usize;
    let len = bytes.len().min(PAGE_SIZE as usize - offset);
    // SAFETY: as above.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), frame.as_ptr().add(offset), len) };
    len
}
