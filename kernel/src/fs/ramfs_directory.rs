//! The entries of a directory of `ramfs`.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::vfs::inode::Inode;

/// The entries of a directory, by name and in the order of their creation. A position in a listing is an entry's
/// number, so that a program that removes what it lists misses nothing.
#[derive(Default)]
pub struct Directory {
    pub by_name: BTreeMap<Arc<[u8]>, Numbered>,
    pub by_number: BTreeMap<u64, Arc<[u8]>>,
    pub last_number: u64,
    pub subdirectories: u32,
    pub removed: bool,
}

/// An entry with its number.
pub type Numbered = (u64, Arc<dyn Inode>);

/// Positions 0 and 1 are "." and "..".
pub const FIRST_ENTRY: u64 = 2;

impl Directory {
    /// The entry with this name.
    pub fn get(&self, name: &[u8]) -> Option<&Arc<dyn Inode>> {
        self.by_name.get(name).map(|(_, inode)| inode)
    }

    /// Adds or replaces an entry, and returns the replaced one.
    pub fn put(&mut self, name: &[u8], inode: Arc<dyn Inode>) -> Option<Arc<dyn Inode>> {
        self.subdirectories += inode.is_directory() as u32;
        if let Some((_, old)) = self.by_name.get_mut(name) {
            self.subdirectories -= old.is_directory() as u32;
            return Some(core::mem::replace(old, inode));
        }
        let name: Arc<[u8]> = name.into();
        self.last_number = self.last_number.max(FIRST_ENTRY) + 1;
        self.by_number.insert(self.last_number, name.clone());
        self.by_name.insert(name, (self.last_number, inode));
        None
    }

    /// Takes an entry out.
    pub fn take(&mut self, name: &[u8]) -> Option<Arc<dyn Inode>> {
        let (number, inode) = self.by_name.remove(name)?;
        self.by_number.remove(&number);
        self.subdirectories -= inode.is_directory() as u32;
        Some(inode)
    }
}
