//! Files whose text is made when they are read: `/proc` and the status of `/dev/gate`.

use alloc::vec::Vec;

use crate::errno::Result;
use crate::vfs::buffer::Destination;
use crate::vfs::file::{File, FileOps};
use crate::vfs::sleep_lock::SleepLock;

/// The operations of an open file whose text a function makes (`seq_file` in Linux). A read at position 0 makes the text anew;
/// later reads continue in the same text.
pub struct SeqFile<F> {
    generate: F,
    text: SleepLock<Vec<u8>>,
}

impl<F: Fn() -> Result<Vec<u8>> + Send + Sync> SeqFile<F> {
    /// A file with the text that `generate` makes.
    pub const fn new(generate: F) -> Self {
        SeqFile { generate, text: SleepLock::new(Vec::new()) }
    }
}

impl<F: Fn() -> Result<Vec<u8>> + Send + Sync> FileOps for SeqFile<F> {
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

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

    use super::*;
    use crate::vfs::anonymous::anonymous_file;
    use alloc::sync::Arc;

    #[test]
    fn a_text_stays_the_same_while_it_is_read_on_and_is_new_from_its_beginning() {
        let times = AtomicU8::new(b'a');
        let file = anonymous_file("text", Arc::new(SeqFile::new(move || Ok(vec![times.fetch_add(1, Relaxed); 5]))), 0);
        let read = |len: usize| {
            let mut buffer = vec![0; len];
            let count = file.read(&mut Destination::kernel(&mut buffer)).expect("it can be read");
            buffer.truncate(count);
            buffer
        };
        assert_eq!([read(3), read(3), read(3)], [b"aaa".to_vec(), b"aa".to_vec(), vec![]]);
        assert_eq!(file.seek(0, linux_raw_sys::general::SEEK_SET), Ok(0));
        assert_eq!(read(10), b"bbbbb");
    }
}
