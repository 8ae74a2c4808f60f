use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::host;
use crate::memory::layout::USER_END;
use crate::memory::page_table::*;

const READ: Prot = Prot::READ;
const READ_WRITE: Prot = Prot::READ.union(Prot::WRITE);

/// Pages on both sides of where tables of each level end.
const PLACES: [u64; 10] = [
    0x1_0000,
    0x1f_f000,
    0x20_0000,
    0x3fff_f000,
    0x4000_0000,
    0x7f_ffff_f000,
    0x80_0000_0000,
    0x80_0000_1000,
    0x7fff_ffff_d000,
    0x7fff_ffff_e000,
];

fn tables() -> PageTables {
    host::memory();
    PageTables::new().expect("memory")
}

/// A new frame, its reference in the tables and one to watch it by.
fn map(tables: &PageTables, addr: u64, prot: Prot, writable: bool) -> Frame {
    let frame = frames::alloc().expect("memory");
    let entry = tables.lookup_or_create(addr).expect("memory");
    tables.install(entry, leaf(frame.clone().into_raw(), prot, writable));
    frame
}

/// What is mapped where.
fn contents(tables: &PageTables) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    tables.for_each(0..USER_END, |addr, entry| found.push((addr, address(entry.load(Relaxed)))));
    found
}

#[test]
fn a_leaf_says_to_the_processor_what_the_protection_says() {
    let bits = |prot: Prot, writable| leaf(0x5000, prot, writable);
    // SDM volume 3, table 4-20: present 0, writable 1, user 2, execute-disable 63.
    assert_eq!(bits(READ, true) & 0b111, 0b101, "not writable without PROT_WRITE");
    assert_eq!(bits(READ_WRITE, true) & 0b111, 0b111);
    assert_eq!(bits(READ_WRITE, false) & 0b111, 0b101, "not writable while the frame is shared");
    assert_eq!(bits(READ, false) >> 63, 1);
    assert_eq!(bits(READ | Prot::EXEC, false) >> 63, 0);
    assert_eq!(bits(Prot::EXEC, false) & 0b111, 0b101, "x86 has no execute-only pages without keys");
    assert_eq!(bits(READ.with_key(13), false) >> 59 & 0xf, 13);
    let none = bits(Prot::empty(), true);
    assert_eq!((none & 1, address(none)), (0, 0x5000), "PROT_NONE keeps its frame");
    assert_ne!(none, 0);
}

#[test]
fn new_tables_have_the_kernels_half_and_no_other() {
    let tables = tables();
    let (own, kernel) = (Table::at(tables.pgd()), Table::at(vmalloc::kernel_pgd()));
    for index in 0..256 {
        assert_eq!(own.0[index].load(Relaxed), 0);
    }
    // Others may add to the kernel's meanwhile, but for this one, which is the direct map's in the kernel.
    assert_eq!(own.0[273].load(Relaxed), kernel.0[273].load(Relaxed));
    assert_eq!(tables.lookup(PLACES[0]).map(|_| ()), None);
}

#[test]
fn a_lookup_without_tables_skips_and_makes_none() {
    let tables = tables();
    let frame = map(&tables, 0x40_0000, READ, false);
    assert!(tables.lookup(0x40_1000).is_some_and(|entry| entry.load(Relaxed) == 0), "the same table");
    assert!(tables.lookup(0x60_0000).is_none(), "another table");
    assert!(tables.lookup(1 << 39).is_none());
    assert_eq!(contents(&tables), [(0x40_0000, frame.addr())]);
}

#[test]
fn a_child_and_its_parent_share_frames_that_neither_may_write() {
    let (parent, child) = (tables(), tables());
    let frame = map(&parent, 0x40_0000, READ_WRITE, true);
    let read_only = map(&parent, 0x40_1000, READ, false);
    parent.copy_to(&child, 0x40_0000..0x40_2000).expect("memory");
    for tables in [&parent, &child] {
        assert_eq!(contents(tables), [(0x40_0000, frame.addr()), (0x40_1000, read_only.addr())]);
        let entry = tables.lookup(0x40_0000).expect("mapped").load(Relaxed);
        assert!(is_present(entry) && !is_writable(entry));
    }
    drop(parent);
    assert!(!frame.is_unique(), "the child has it");
    drop(child);
    assert!(frame.is_unique() && read_only.is_unique());
}

#[test]
fn protection_takes_the_right_to_write_from_private_pages_and_never_gives_it() {
    let tables = tables();
    let _frame = map(&tables, 0x40_0000, READ_WRITE, true);
    let entry = || tables.lookup(0x40_0000).expect("mapped").load(Relaxed);
    tables.protect(0x40_0000..0x40_1000, READ, false);
    assert!(!is_writable(entry()));
    tables.protect(0x40_0000..0x40_1000, READ_WRITE, false);
    assert!(!is_writable(entry()), "a write fault finds out whether the frame is shared");
    tables.protect(0x40_0000..0x40_1000, READ_WRITE, true);
    assert!(is_writable(entry()), "shared pages need no fault");
    tables.protect(0x40_0000..0x40_1000, Prot::empty(), false);
    assert!(!is_present(entry()) && entry() != 0);
    tables.protect(0x40_0000..0x40_1000, READ.with_key(3), false);
    assert!(is_present(entry()) && entry() >> 59 & 0xf == 3);
}

#[test]
fn the_peak_remembers_what_was_taken_out() {
    let tables = tables();
    for n in 0..5 {
        map(&tables, 0x40_0000 + n * PAGE_SIZE, READ, false);
    }
    assert_eq!(tables.peak(), 5 * PAGE_SIZE);
    tables.clear(0x40_0000..0x40_4000, 0..0x40_4000);
    map(&tables, 0x40_0000, READ, false);
    assert_eq!(tables.peak(), 5 * PAGE_SIZE, "two now, five before");
}

#[test]
fn a_chosen_page_goes_alone() {
    let tables = tables();
    let frames = [0x40_0000, 0x40_1000, 0x40_2000].map(|addr| map(&tables, addr, READ, false));
    tables.clear_if(0x40_0000..0x40_3000, |addr, frame| {
        assert_eq!(frame, frames[((addr - 0x40_0000) / PAGE_SIZE) as usize].addr());
        addr == 0x40_1000
    });
    assert_eq!(contents(&tables), [(0x40_0000, frames[0].addr()), (0x40_2000, frames[2].addr())]);
    assert!(frames[1].is_unique() && !frames[0].is_unique());
}

#[test]
fn cleared_tables_go_where_nothing_else_is_mapped() {
    let tables = tables();
    map(&tables, 0x40_0000, READ, false);
    map(&tables, 0x4000_0000, READ, false);
    // The area ends in the middle of its table; a neighbor that is not present has the rest.
    tables.clear(0x40_0000..0x40_1000, 0..0x50_0000);
    assert!(tables.lookup(0x40_0000).is_some(), "the table may be used by the neighbor");
    tables.clear(0x40_0000..0x40_1000, 0..0x4000_0000);
    assert!(tables.lookup(0x40_0000).is_none());
    assert!(tables.lookup(0x4000_0000).is_some());
    tables.clear(0x4000_0000..0x4000_1000, 0..USER_END);
    let pgd = Table::at(tables.pgd());
    assert_eq!(pgd.0[0].load(Relaxed), 0, "nothing is left of the user's half");
}

/// One change, by the places of [`PLACES`].
#[derive(Clone, Debug)]
enum Change {
    Map(usize, bool),
    Clear(usize, usize),
    Move(usize, usize),
    Fork(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let place = || 0..PLACES.len();
    prop_oneof![
        (place(), any::<bool>()).prop_map(|(at, writable)| Change::Map(at, writable)),
        (place(), place()).prop_map(|(a, b)| Change::Clear(a.min(b), a.max(b))),
        (place(), place()).prop_map(|(from, to)| Change::Move(from, to)),
        (place(), place()).prop_map(|(a, b)| Change::Fork(a.min(b), a.max(b))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The tables are a map from pages to frames, and hold exactly one reference to each that they map.
    #[test]
    fn tables_are_a_map_from_pages_to_frames(changes in vec(change(), 1..40)) {
        let tables = tables();
        let mut model: BTreeMap<u64, (Frame, bool)> = BTreeMap::new();
        let mut gone: Vec<Frame> = Vec::new();
        for change in changes {
            match change {
                Change::Map(at, writable) => {
                    let page = || (map(&tables, PLACES[at], READ_WRITE, writable), writable);
                    model.entry(PLACES[at]).or_insert_with(page);
                }
                Change::Clear(first, last) => {
                    let range = PLACES[first]..PLACES[last] + PAGE_SIZE;
                    let below = model.range(..range.start).next_back().map_or(0, |(&page, _)| page + PAGE_SIZE);
                    let above = model.range(range.end..).next().map_or(USER_END, |(&page, _)| page);
                    tables.clear(range.clone(), below..above);
                    gone.extend(model.extract_if(range, |_, _| true).map(|(_, (frame, _))| frame));
                }
                Change::Move(from, to) => {
                    let (from, to) = (PLACES[from], PLACES[to]);
                    if from != to && !model.contains_key(&to) {
                        prop_assert_eq!(tables.move_to(from..from + PAGE_SIZE, to), Ok(()));
                        if let Some(page) = model.remove(&from) {
                            model.insert(to, page);
                        }
                    }
                }
                Change::Fork(first, last) => {
                    let child = PageTables::new().expect("memory");
                    let range = PLACES[first]..PLACES[last] + PAGE_SIZE;
                    prop_assert_eq!(tables.copy_to(&child, range.clone()), Ok(()));
                    let copied: Vec<_> = model.range(range.clone()).map(|(&page, (frame, _))| (page, frame.addr())).collect();
                    prop_assert_eq!(contents(&child), copied);
                    model.range_mut(range).for_each(|(_, (_, writable))| *writable = false);
                }
            }
            let expected: Vec<_> = model.iter().map(|(&page, (frame, _))| (page, frame.addr())).collect();
            prop_assert_eq!(contents(&tables), expected);
            for (&page, (frame, writable)) in &model {
                let entry = tables.lookup(page).expect("mapped").load(Relaxed);
                prop_assert_eq!(is_writable(entry), *writable);
                prop_assert!(!frame.is_unique());
            }
            prop_assert!(gone.iter().all(Frame::is_unique), "a reference was kept");
        }
        drop(tables);
        prop_assert!(model.values().all(|(frame, _)| frame.is_unique()), "a reference was kept");
    }
}
