//! An allocator, for the crates that allocate their tables.

use spin::Mutex;
use talc::{ClaimOnOom, Span, Talc, Talck};

#[global_allocator]
static ALLOCATOR: Talck<Mutex<()>, ClaimOnOom> = {
    static mut HEAP: [u8; 65536] = [0; 65536];
    // SAFETY: the heap is this allocator's alone.
    Talc::new(unsafe { ClaimOnOom::new(Span::from_array(&raw mut HEAP)) }).lock()
};
