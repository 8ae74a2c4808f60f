use proptest::prelude::*;

use crate::task::credentials::user_namespace::*;

fn extent(inside: u32, outside: u32, count: u32) -> Extent {
    Extent { inside, outside, count }
}

fn namespace(parent: Namespace, owner: u32, users: &[Extent]) -> Namespace {
    Some(Arc::new(UserNamespace {
        ino: 1,
        parent,
        owner,
        users: SpinLock::new(users.to_vec()),
        groups: SpinLock::new(Vec::new()),
        setgroups: AtomicBool::new(true),
    }))
}

fn parsed(parent: &Namespace, line: &str) -> Result<(u32, u32, u32)> {
    parse(parent, USER, line).map(|extent| (extent.inside, extent.outside, extent.count))
}

#[test]
fn ids_without_a_place_are_seen_as_nobody_and_cannot_be_meant() {
    let inner = namespace(None, 1000, &[extent(0, 1000, 1), extent(10, 5000, 100)]);
    assert_eq!([1000, 5000, 5099].map(|id| seen(&inner, USER, id)), [0, 10, 109]);
    assert_eq!([0, 999, 1001, 5100].map(|id| seen(&inner, USER, id)), [65534; 4], "overflowuid");
    assert_eq!((meant(&inner, USER, 109), meant(&inner, USER, 110)), (Ok(5099), Err(Errno::EINVAL)));
    assert_eq!((seen(&None, USER, 7), meant(&None, USER, 7)), (7, Ok(7)), "the first namespace");
    assert!(!has(&inner, GROUP, 1000), "groups have a map of their own");
}

#[test]
fn a_line_of_a_map_is_three_numbers_that_do_not_wrap() {
    assert_eq!(parsed(&None, "         0       1000          1"), Ok((0, 1000, 1)));
    assert_eq!(parsed(&None, "0\t0 4294967295"), Ok((0, 0, u32::MAX)));
    for bad in ["", "0 0", "0 0 1 2", "0 0 0", "x 0 1", "0 0 -1", "4294967295 0 1", "0 4294967295 1", "1 0 4294967295"]
    {
        assert_eq!(parsed(&None, bad), Err(Errno::EINVAL), "{bad:?}");
    }
}

#[test]
fn a_map_within_a_map_leads_to_the_first_namespace() {
    let outer = namespace(None, 0, &[extent(0, 100_000, 1000), extent(1000, 300_000, 1000)]);
    assert_eq!(parsed(&outer, "5 10 20"), Ok((5, 100_010, 20)));
    assert_eq!(parsed(&outer, "0 3000 1"), Err(Errno::EPERM), "the parent has no such id");
    assert_eq!(parsed(&outer, "0 990 20"), Err(Errno::EPERM), "neighbors there are none outside");
}

#[test]
fn relations_between_namespaces() {
    let outer = namespace(None, 0, &[]);
    let (inner, other) = (namespace(outer.clone(), 0, &[]), namespace(None, 0, &[]));
    assert!(is_within(&inner, &outer) && is_within(&inner, &inner) && is_within(&inner, &None));
    assert!(!is_within(&outer, &inner) && !is_within(&other, &outer) && !is_within(&None, &outer));
    assert!(is_same(&outer, &outer.clone()) && is_same(&None, &None));
    assert!(!is_same(&outer, &other) && !is_same(&outer, &None));
}

#[test]
fn groups_are_set_only_once_there_is_a_map() {
    assert!(may_set_groups(&None));
    let place = namespace(None, 0, &[]);
    assert!(!may_set_groups(&place));
    let this = place.as_ref().expect("a namespace");
    this.groups.lock().push(extent(0, 0, 1));
    assert!(may_set_groups(&place));
    this.setgroups.store(false, Relaxed);
    assert!(!may_set_groups(&place));
}

proptest! {
    /// What is meant by what is seen is what it was, in one namespace and in one within another.
    #[test]
    fn seen_and_meant_are_inverse(first in 0u32..1000, outside in 0u32..100_000, count in 1u32..1000, id in 0u32..200_000) {
        let outer = namespace(None, 0, &[extent(first, outside, count)]);
        match inside(&outer, USER, id) {
            Some(number) => {
                prop_assert!((outside..outside + count).contains(&id));
                prop_assert_eq!(meant(&outer, USER, number), Ok(id));
            }
            None => prop_assert!(!(outside..outside + count).contains(&id)),
        }
    }

    #[test]
    fn overlaps_are_found_within_and_outside(extents in prop::collection::vec((0u32..20, 0u32..20, 1u32..8), 0..5)) {
        let extents: Vec<_> = extents.into_iter().map(|(a, b, n)| extent(a, b, n)).collect();
        let mut twice = false;
        for side in [|e: &Extent| e.inside, |e: &Extent| e.outside] {
            let mut ids: Vec<u32> = extents.iter().flat_map(|e| side(e)..side(e) + e.count).collect();
            let all = ids.len();
            ids.sort_unstable();
            ids.dedup();
            twice |= ids.len() != all;
        }
        prop_assert_eq!(overlap(&extents), twice);
    }
}
