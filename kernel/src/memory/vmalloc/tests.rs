use super::*;
use crate::host;
use crate::memory::{frames, page_table};

#[test]
fn mapped_pages_are_distinct_frames_of_zeros_and_stay() {
    host::memory();
    // Boot's part: the PDPT of the heap's 512 GiB.
    let top = Table::at(kernel_pgd()).entry(3, HEAP);
    if top.load(Ordering::Relaxed) == 0 {
        let pdpt = frames::alloc_zeroed().expect("memory").into_raw();
        top.store(pdpt | table::KERNEL_TABLE.bits(), Ordering::Relaxed);
    }
    let entry = |addr: u64| {
        let mut table = Table::at(kernel_pgd());
        for level in [3, 2, 1] {
            table = Table::at(table::address(table.entry(level, addr).load(Ordering::Relaxed)));
        }
        table.entry(0, addr).load(Ordering::Relaxed)
    };
    let pages = [HEAP, HEAP + PAGE_SIZE, HEAP + 2 * PAGE_SIZE];
    map(HEAP, HEAP + 2 * PAGE_SIZE).expect("memory");
    let first = pages.map(entry);
    assert_ne!(table::address(first[0]), table::address(first[1]));
    assert_eq!(first[2], 0, "one past the end");
    for leaf in &first[..2] {
        assert!(page_table::is_present(*leaf) && page_table::is_writable(*leaf));
        assert_ne!(leaf & Flags::NO_EXECUTE.bits(), 0, "data is not code");
        assert_eq!(leaf & Flags::USER_ACCESSIBLE.bits(), 0, "the kernel's alone");
    }
    // A call that is repeated keeps what is there.
    map(HEAP, HEAP + 3 * PAGE_SIZE).expect("memory");
    let second = pages.map(entry);
    assert_eq!(second[..2], first[..2]);
    assert_ne!(second[2], 0);
}
