//! Files whose text is made when they are read: `/proc` and the status of `/dev/gate`.

use alloc::vec::Vec;

use crate::errno::Result;
use crate::vfs::buffer::Destination;
use crate::vfs::file::{File, FileOps};
use crate::vfs::sleep_lock::SleepLock;

/// The operations of an open generated file. The text is made anew whenever it is read from its beginning, and stays
/// the same while it is read on.
pub struct Generated<F> {
    generate: F,
    text: SleepLock<Vec<u8>>,
}

impl<F: Fn() -> Result<Vec<u8>> + Send + Sync> Generated<F> {
    /// A file with the text that `generate` makes.
    pub const fn new(generate: F) -> Self {
        Generated { generate, text: SleepLock::new(Vec::new()) }
    }
}

impl<F: Fn() -> Result<Vec<u8>> + Send + Sync> FileOps for Generated<F> {
    fn seekable(&self) -> bool {
        true
    }

    fn read(&self, _file: &File, to: &mut Destination, position: &mut u64) -> Result<usize> {
        let mut text = self.text.lock();
        if *position == 0 {
            *text = (self.generate)()?;
        }
        to.put_from(&text, position)
    }
}
