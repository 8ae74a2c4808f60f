//! Memory that several address spaces map as one: MAP_SHARED | MAP_ANONYMOUS.

use alloc::collections::BTreeMap;

use crate::errno::Result;
use crate::machine::sync::SpinLock;
use crate::memory::frames::Frame;
use crate::memory::{frames, new_ino};

/// Pages that come into being, filled with zeros, when they are first touched, and go with the last mapping.
pub struct SharedMemory {
    pages: SpinLock<BTreeMap<u64, Frame>>,
    number: u64,
}

impl SharedMemory {
    /// Memory with no pages yet.
    pub fn new() -> SharedMemory {
        SharedMemory { pages: SpinLock::new(BTreeMap::new()), number: new_ino() }
    }

    /// Its number: no other memory and no file has it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The frame of page `index`.
    pub fn page(&self, index: u64) -> Result<Frame> {
        let mut pages = self.pages.lock();
        if let Some(frame) = pages.get(&index) {
            return Ok(frame.clone());
        }
        let frame = frames::alloc_zeroed()?;
        pages.insert(index, frame.clone());
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host;

    #[test]
    fn a_page_comes_with_its_first_touch_and_is_the_same_for_everybody() {
        host::memory();
        let memory = SharedMemory::new();
        let [first, again, other] = [7, 7, 8].map(|index| memory.page(index).expect("memory"));
        assert_eq!(first.addr(), again.addr());
        assert_ne!(first.addr(), other.addr());
        // SAFETY: a whole frame, which the reference keeps.
        assert_eq!(unsafe { first.as_ptr().read() }, 0);
        drop((again, memory));
        assert!(first.is_unique(), "the pages go with the memory");
        assert_ne!(SharedMemory::new().number(), SharedMemory::new().number());
    }
}
