use proptest::collection::vec;
use proptest::prelude::*;

use crate::memory::layout::{page_down, page_up};
use crate::memory::vma::*;

/// The first page that may be mapped.
const FIRST: u64 = MMAP_MIN_ADDR / PAGE_SIZE;

fn area(pages: Range<u64>, prot: Prot, flags: AreaFlags, source: Source) -> Area {
    Area {
        start: pages.start * PAGE_SIZE,
        end: pages.end * PAGE_SIZE,
        prot,
        max_prot: Prot::all().rights(),
        flags,
        source,
    }
}

fn anonymous(pages: Range<u64>) -> Area {
    area(pages, Prot::READ, AreaFlags::empty(), Source::Anonymous)
}

fn pages(area: &Area) -> (u64, u64) {
    (area.start / PAGE_SIZE, area.end / PAGE_SIZE)
}

#[test]
fn a_protection_and_its_key_are_independent() {
    let prot = Prot::from_abi(0xffff_ffff);
    assert_eq!(prot, Prot::READ | Prot::WRITE | Prot::EXEC, "PROT_GROWSDOWN and other bits are no rights");
    for key in 0..16 {
        let with = prot.with_key(key);
        assert_eq!((with.key(), with.rights()), (key, prot));
        assert_eq!(with.with_key(0), prot);
    }
}

#[test]
fn neighbors_that_are_alike_become_one_and_others_do_not() {
    let mut set = AreaSet::new();
    set.insert(anonymous(20..22));
    set.insert(anonymous(24..26));
    set.insert(anonymous(22..24));
    assert_eq!(set.iter().map(pages).collect::<Vec<_>>(), [(20, 26)]);
    set.insert(area(26..28, Prot::WRITE, AreaFlags::empty(), Source::Anonymous));
    set.insert(area(28..30, Prot::WRITE, AreaFlags::LOCKED, Source::Anonymous));
    assert_eq!(set.iter().count(), 3, "another protection, other flags");
}

#[test]
fn shared_memory_joins_only_where_its_pages_go_on() {
    let memory = Arc::new(SharedMemory::new());
    let shared = |pages: Range<u64>, first| {
        area(pages, Prot::READ, AreaFlags::empty(), Source::Shared { memory: memory.clone(), first })
    };
    let mut set = AreaSet::new();
    set.insert(shared(20..22, 0));
    set.insert(shared(22..24, 2));
    assert_eq!(set.iter().map(pages).collect::<Vec<_>>(), [(20, 24)]);
    set.insert(shared(24..26, 5));
    assert_eq!(set.iter().count(), 2, "page 4 is missing between");
    let other = Source::Shared { memory: Arc::new(SharedMemory::new()), first: 7 };
    set.insert(area(26..28, Prot::READ, AreaFlags::empty(), other));
    assert_eq!(set.iter().count(), 3, "another object");
}

#[test]
fn a_cut_area_keeps_the_place_of_each_page_in_its_source() {
    let memory = Arc::new(SharedMemory::new());
    let mut set = AreaSet::new();
    set.insert(area(20..30, Prot::READ, AreaFlags::empty(), Source::Shared { memory, first: 100 }));
    let removed = set.remove(23 * PAGE_SIZE..25 * PAGE_SIZE);
    assert_eq!(removed.iter().map(pages).collect::<Vec<_>>(), [(23, 25)]);
    assert_eq!(removed[0].page_index(23 * PAGE_SIZE), 103);
    let above = set.find(25 * PAGE_SIZE).expect("the upper part");
    assert_eq!((pages(above), above.page_index(29 * PAGE_SIZE)), ((25, 30), 109));
}

#[test]
fn what_was_looked_up_last_is_forgotten_by_each_change() {
    let range = 20 * PAGE_SIZE..22 * PAGE_SIZE;
    type Change = fn(&mut AreaSet);
    let changes: [Change; 4] = [
        |set| set.insert(anonymous(40..41)),
        |set| drop(set.remove(21 * PAGE_SIZE..22 * PAGE_SIZE)),
        |set| set.change(20 * PAGE_SIZE..21 * PAGE_SIZE, |area| area.prot = Prot::WRITE),
        |set| set.grow_down(20 * PAGE_SIZE, 19 * PAGE_SIZE),
    ];
    for change in changes {
        let mut set = AreaSet::new();
        set.insert(anonymous(20..22));
        set.remember(range.clone(), Prot::READ);
        assert!(set.recent(21 * PAGE_SIZE).is_some_and(|recent| recent.prot == Prot::READ));
        assert!(set.recent(22 * PAGE_SIZE).is_none(), "one past the end");
        change(&mut set);
        assert!(set.recent(20 * PAGE_SIZE).is_none());
    }
}

#[test]
fn nothing_may_be_mapped_near_below_a_stack_or_outside_user_memory() {
    let mut set = AreaSet::new();
    let gap = STACK_GUARD_GAP / PAGE_SIZE;
    set.insert(area(1000..1010, Prot::READ, AreaFlags::GROWS_DOWN, Source::Anonymous));
    let is_free = |first: u64, last: u64| set.is_free(first * PAGE_SIZE..last * PAGE_SIZE);
    assert!(is_free(1000 - gap - 1, 1000 - gap));
    assert!(!is_free(1000 - gap, 1000 - gap + 1));
    assert!(is_free(1010, 1011), "above it there is no gap");
    assert!(!is_free(1009, 1010));
    assert!(is_free(FIRST, FIRST + 1) && !is_free(FIRST - 1, FIRST));
    assert!(!set.is_free(USER_END - PAGE_SIZE..USER_END + PAGE_SIZE));
    assert!(set.is_free(USER_END - PAGE_SIZE..USER_END));
}

#[test]
fn room_for_two_more_areas_ends_with_the_limit() {
    let mut set = AreaSet::new();
    for n in 0..MAX_AREAS as u64 - 2 {
        set.insert(anonymous(FIRST + 2 * n..FIRST + 2 * n + 1));
    }
    assert_eq!(set.require_room(), Ok(()));
    set.insert(anonymous(10_000_000..10_000_001));
    assert_eq!(set.require_room(), Err(Errno::ENOMEM));
}

#[test]
fn a_debugger_forces_writes_into_private_memory_only() {
    let memory = Arc::new(SharedMemory::new());
    let mut of = area(20..21, Prot::READ, AreaFlags::empty(), Source::Shared { memory, first: 0 });
    assert!(of.is_shared() && !of.may_force_write());
    of.source = Source::Anonymous;
    assert!(!of.is_shared() && of.may_force_write());
    of.max_prot = Prot::READ;
    assert!(!of.may_force_write(), "nor could mprotect allow it");
}

/// One change of the set, by page numbers.
#[derive(Clone, Debug)]
enum Change {
    Map(Range<u64>, u32, bool),
    Unmap(Range<u64>),
    Protect(Range<u64>, u32),
    Flag(Range<u64>),
}

fn range_of_pages() -> impl Strategy<Value = Range<u64>> {
    (FIRST..FIRST + 40, 1u64..12).prop_map(|(start, len)| start..start + len)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (range_of_pages(), 0u32..3, any::<bool>()).prop_map(|(range, prot, shared)| Change::Map(range, prot, shared)),
        range_of_pages().prop_map(Change::Unmap),
        (range_of_pages(), 0u32..3).prop_map(|(range, prot)| Change::Protect(range, prot)),
        range_of_pages().prop_map(Change::Flag),
    ]
}

/// What the model knows of a page: protection, flags, and its place in the shared object if it is in that.
type Page = (Prot, AreaFlags, Option<u64>);

/// The areas that the pages must be in: as few as possible.
fn runs(model: &BTreeMap<u64, Page>) -> Vec<(u64, u64, Page)> {
    let mut runs: Vec<(u64, u64, Page)> = Vec::new();
    for (&page, &(prot, flags, place)) in model {
        match runs.last_mut() {
            Some((start, end, (p, f, first)))
                if *end == page && (*p, *f) == (prot, flags) && first.map(|at| at + page - *start) == place =>
            {
                *end += 1;
            }
            _ => runs.push((page, page + 1, (prot, flags, place))),
        }
    }
    runs
}

proptest! {
    /// A map, an unmap, a protection, a flag: the set is what a table with an entry for each page would be, in as few areas as
    /// possible.
    #[test]
    fn the_set_is_a_table_of_pages(changes in vec(change(), 1..40)) {
        let memory = Arc::new(SharedMemory::new());
        let mut set = AreaSet::new();
        let mut model: BTreeMap<u64, Page> = BTreeMap::new();
        for change in changes {
            let bytes = |range: &Range<u64>| range.start * PAGE_SIZE..range.end * PAGE_SIZE;
            match change {
                Change::Map(range, prot, shared) => {
                    let prot = Prot::from_abi(prot);
                    let removed = set.remove(bytes(&range));
                    let gone: u64 = removed.iter().map(|area| (area.end - area.start) / PAGE_SIZE).sum();
                    prop_assert_eq!(gone, model.range(range.clone()).count() as u64);
                    // As if each page of the object had one address: what is mapped beside each other goes on.
                    let first = range.start;
                    let source = if shared { Source::Shared { memory: memory.clone(), first } } else { Source::Anonymous };
                    set.insert(area(range.clone(), prot, AreaFlags::empty(), source));
                    for page in range {
                        model.insert(page, (prot, AreaFlags::empty(), shared.then_some(page)));
                    }
                }
                Change::Unmap(range) => {
                    set.remove(bytes(&range));
                    model.retain(|page, _| !range.contains(page));
                }
                Change::Protect(range, prot) => {
                    set.change(bytes(&range), |area| area.prot = Prot::from_abi(prot));
                    model.range_mut(range).for_each(|(_, page)| page.0 = Prot::from_abi(prot));
                }
                Change::Flag(range) => {
                    set.change(bytes(&range), |area| area.flags.insert(AreaFlags::DONT_FORK));
                    model.range_mut(range).for_each(|(_, page)| page.1.insert(AreaFlags::DONT_FORK));
                }
            }
            let found: Vec<_> = set.iter().map(|area| {
                let place = area.is_shared().then(|| area.page_index(area.start));
                (area.start / PAGE_SIZE, area.end / PAGE_SIZE, (area.prot, area.flags, place))
            }).collect();
            prop_assert_eq!(found, runs(&model));
        }
    }

    /// Questions about addresses and ranges have the answers of a table of pages.
    #[test]
    fn lookups_agree_with_a_table_of_pages(mapped in vec(range_of_pages(), 0..8), asked in range_of_pages()) {
        let mut set = AreaSet::new();
        let mut model = BTreeMap::new();
        for range in mapped {
            set.remove(range.start * PAGE_SIZE..range.end * PAGE_SIZE);
            // A protection for each, so that they stay apart.
            let prot = Prot::READ.with_key((range.start % 16) as u32);
            set.insert(area(range.clone(), prot, AreaFlags::empty(), Source::Anonymous));
            model.extend(range.map(|page| (page, ())));
        }
        let has = |page: u64| model.contains_key(&page);
        let bytes = asked.start * PAGE_SIZE..asked.end * PAGE_SIZE;
        for page in FIRST..FIRST + 60 {
            let address = page * PAGE_SIZE + 5;
            prop_assert_eq!(set.find(address).is_some(), has(page));
            let next = model.range(page..).next().map(|(&page, ())| page);
            prop_assert_eq!(set.find_from(address).map(|area| area.start.max(page * PAGE_SIZE) / PAGE_SIZE), next);
        }
        prop_assert_eq!(set.covers(bytes.clone()), asked.clone().all(has));
        let touched: u64 = set.touching(bytes.clone())
            .map(|area| (area.end.min(bytes.end) - area.start.max(bytes.start)) / PAGE_SIZE).sum();
        prop_assert_eq!(touched, asked.clone().filter(|&page| has(page)).count() as u64);
        if !asked.clone().any(has) {
            let unused = set.unused_around(bytes);
            let below = model.range(..asked.start).next_back().map_or(0, |(&page, ())| page + 1);
            let above = model.range(asked.end..).next().map_or(USER_END / PAGE_SIZE, |(&page, ())| page);
            prop_assert_eq!((unused.start / PAGE_SIZE, unused.end / PAGE_SIZE), (below, above));
        }
    }

    /// Mapping at the highest gap, again and again with removals between, finds the highest gap that there is, although the
    /// search remembers where it need not look.
    #[test]
    fn the_highest_gap_is_found_whatever_was_searched_before(
        steps in vec((1u64..8, any::<bool>(), 0usize..30, any::<bool>()), 1..60)
    ) {
        let limit = (FIRST + 700) * PAGE_SIZE;
        let gap = STACK_GUARD_GAP / PAGE_SIZE;
        let mut set = AreaSet::new();
        let mut taken: Vec<(Range<u64>, bool)> = Vec::new();
        for (len, removes, index, stack) in steps {
            if removes && !taken.is_empty() {
                let (range, _) = taken.swap_remove(index % taken.len());
                set.remove(range.start * PAGE_SIZE..range.end * PAGE_SIZE);
                continue;
            }
            let free = |start: u64| taken.iter().all(|(range, stack)| {
                let guarded = if *stack { range.start.saturating_sub(gap) } else { range.start };
                start + len <= guarded || range.end <= start
            });
            let expected = (FIRST..=FIRST + 700 - len).rev().find(|&start| free(start));
            let found = set.gap_below(len * PAGE_SIZE, limit).map(|start| start / PAGE_SIZE);
            prop_assert_eq!(found, expected);
            if let Some(start) = found {
                // A key for each, so that they stay apart.
                let prot = Prot::READ.with_key((taken.len() % 16) as u32);
                let flags = if stack { AreaFlags::GROWS_DOWN } else { AreaFlags::empty() };
                set.insert(area(start..start + len, prot, flags, Source::Anonymous));
                taken.push((start..start + len, stack));
            }
        }
    }

    /// The lowest gap, as 32-bit mappings look for it, is the lowest.
    #[test]
    fn the_lowest_gap_is_the_lowest(mapped in vec(range_of_pages(), 0..8), len in 1u64..12, within in range_of_pages()) {
        let mut set = AreaSet::new();
        let mut model = BTreeMap::new();
        for range in mapped {
            set.remove(range.start * PAGE_SIZE..range.end * PAGE_SIZE);
            set.insert(anonymous(range.clone()));
            model.extend(range.map(|page| (page, ())));
        }
        let last = (within.end + 1).saturating_sub(len);
        let expected = (within.start..last).find(|&start| model.range(start..start + len).next().is_none());
        let found = set.gap_above(len * PAGE_SIZE, within.start * PAGE_SIZE..within.end * PAGE_SIZE);
        prop_assert_eq!(found.map(|start| start / PAGE_SIZE), expected);
    }
}
