//! Reverse mapping: from a file to the address spaces that map it.
//!
//! A file that loses pages (truncation, a punched hole) loses them in every address space at once. That is rare, and
//! mappings come and go all the time, so no file keeps a list of its mappings: the address spaces are registered here,
//! and all of them are searched. Files that were never mapped know that ([`Backing::prepare_map`]) and skip the search.

use alloc::sync::Arc;
use core::ops::Range;
use core::ptr;

use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::address_space::{AddressSpace, for_each_space};
use crate::memory::backing::Backing;
use crate::memory::vma::{Area, Prot, Source};

/// Whether `area` maps `file`; then the index of its first page in it, and whether writes go there.
fn maps(area: &Area, file: &dyn Backing) -> Option<(u64, bool)> {
    match &area.source {
        Source::File { file: mapped, first, shared } if ptr::addr_eq(Arc::as_ptr(mapped), file) => {
            Some((*first, *shared))
        }
        _ => None,
    }
}

/// Takes the pages with the indices `pages` of `file` out of every address space, private copies included. The file does
/// not have these pages any more, so that no fault brings them back.
pub fn unmap_truncated(file: &dyn Backing, pages: Range<u64>) {
    for_each_space(|mm| mm.unmap_file_pages(file, &pages, |_, _| true));
}

/// As [`unmap_truncated`], but private copies stay: only entries that hold the frame that `removed` gives for an index go.
pub fn unmap_punched(file: &dyn Backing, pages: Range<u64>, removed: impl Fn(u64) -> Option<u64>) {
    for_each_space(|mm| {
        mm.unmap_file_pages(file, &pages, |index, frame| removed(index) == Some(frame));
    });
}

/// Whether a mapping exists through which programs write to `file`, or may come to by mprotect(2).
pub fn is_mapped_writable(file: &dyn Backing) -> bool {
    let mut found = false;
    for_each_space(|mm| {
        found |= mm
            .any_area(|area| maps(area, file).is_some_and(|(_, shared)| shared && area.max_prot.contains(Prot::WRITE)));
    });
    found
}

impl AddressSpace {
    /// Takes the frames out of the entries for `pages` of `file` where `gone` says so, given index and frame.
    fn unmap_file_pages(&self, file: &dyn Backing, pages: &Range<u64>, gone: impl Fn(u64, u64) -> bool) {
        let inner = self.inner.lock();
        for area in inner.areas.iter() {
            let Some((first, _)) = maps(area, file) else {
                continue;
            };
            let last = first + (area.end - area.start) / PAGE_SIZE;
            let (from, to) = (first.max(pages.start), last.min(pages.end));
            if from < to {
                let address = |index: u64| area.start + (index - first) * PAGE_SIZE;
                self.tables.clear_if(address(from)..address(to), |addr, frame| gone(area.page_index(addr), frame));
            }
        }
    }

    fn any_area(&self, test: impl FnMut(&Area) -> bool) -> bool {
        self.inner.lock().areas.iter().any(test)
    }
}
