//! The kernel's heap: an area of kernel addresses that grows by frames as it is used, under the `talc` allocator.

use core::alloc::Layout;

use talc::{OomHandler, Span, Talc, Talck};

use crate::machine::direct_map::PAGE_SIZE;
use crate::machine::sync::RawSpin;
use crate::memory::vmalloc;

/// The heap grows by at least so much.
const STEP: u64 = 64 << 10;
/// What the allocator itself needs beside an allocation: its bins, when the heap is made, and tags.
const OVERHEAD: u64 = 8 << 10;

// Tests of the host have the standard library's: this one maps addresses of the kernel's half.
#[cfg_attr(not(any(test, fuzzing)), global_allocator)]
static HEAP: Talck<RawSpin, Grow> = Talc::new(Grow { span: Span::empty(), end: vmalloc::HEAP }).lock();

/// Grows the heap when it is full.
struct Grow {
    /// The heap as the allocator knows it.
    span: Span,
    /// One past the last mapped page.
    end: u64,
}

impl OomHandler for Grow {
    fn handle_oom(talc: &mut Talc<Self>, layout: Layout) -> Result<(), ()> {
        let need = layout.size() as u64 + layout.align() as u64 + OVERHEAD;
        let start = talc.oom_handler.end;
        let end = start + need.next_multiple_of(PAGE_SIZE).max(STEP);
        if end > vmalloc::STACKS {
            return Err(());
        }
        // Pages that were mapped before memory ran out stay, and are found again by the next attempt.
        vmalloc::map(start, end).map_err(|_| ())?;
        talc.oom_handler.end = end;
        let old = talc.oom_handler.span;
        // SAFETY: `vmalloc::HEAP..end` is mapped, never unmapped, and used by nobody else.
        talc.oom_handler.span = unsafe {
            if old.is_empty() {
                talc.claim(Span::new(start as *mut u8, end as *mut u8))?
            } else {
                let base = vmalloc::HEAP as *mut u8;
                talc.extend(old, Span::new(base, end as *mut u8).fit_over(old))
            }
        };
        Ok(())
    }
}
