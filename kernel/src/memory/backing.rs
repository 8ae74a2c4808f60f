//! What mappings ask of the files behind them.

use alloc::string::String;
use core::any::Any;

use crate::errno::Result;
use crate::memory::frames::Frame;

/// A file, as an address space sees it.
pub trait Backing: Send + Sync + Any {
    /// The frame that holds page `index` of the data. ENXIO beyond the end (the mapping's access is then a bus error). Called with
    /// the lock of an address space: it may not sleep.
    fn frame(&self, index: u64) -> Result<Frame>;

    /// It is about to be mapped; called with the lock of the address space. With `writes`, what programs write to the mapping
    /// reaches the file; false where such writes are forbidden, now and for good.
    fn prepare_map(&self, writes: bool) -> Result<bool>;

    /// Device and inode number.
    fn identity(&self) -> (u64, u64);

    /// The path from the root, as far as it is known, or another name, as `/proc/PID/maps` shows it.
    fn path(&self) -> String;
}
