use super::*;

fn record(value: u64) -> Record {
    Record { time: value * 10, event: Event::Switch, task: 7, value }
}

#[test]
fn the_newest_are_kept_in_order() {
    let ring = Ring::<4>::new();
    assert_eq!(ring.since(0).count(), 0);
    for value in 1..=6 {
        ring.push(record(value));
    }
    let all: Vec<_> = ring.since(0).collect();
    assert_eq!(all, [3, 4, 5, 6].map(|value| (value, record(value))));
    assert_eq!(ring.since(6).count(), 1);
    assert_eq!((ring.get(2), ring.get(0), ring.get(7)), (None, None, None));
}

/// An NMI hits the writer of a record and writes so many that the ring comes round to it.
#[test]
fn a_record_is_whole_although_the_ring_came_round_while_it_was_written() {
    for nested in 0..13 {
        let ring = Ring::<4>::new();
        for value in 1..=5 {
            ring.push(record(value));
        }
        let (slot, number) = ring.begin().expect("nobody writes");
        for value in 0..nested {
            ring.push(record(7 + value));
            assert!(ring.since(0).all(|(number, found)| found == record(number)), "{nested} nested");
        }
        // The first one's fields are stored one by one.
        slot.time.store(0, Relaxed);
        assert!(ring.since(0).all(|(number, found)| found == record(number)), "{nested} nested");
        slot.finish(number, record(number));
        assert!(ring.since(0).all(|(number, found)| found == record(number)), "{nested} nested");
        // Later ones have all slots again.
        for value in 0..4 {
            ring.push(record(7 + nested + value));
        }
        assert_eq!(ring.since(0).count(), 4, "{nested} nested");
    }
}

#[test]
fn every_event_has_its_place_and_a_name_of_its_own() {
    for (place, event) in Event::ALL.into_iter().enumerate() {
        assert_eq!(event as usize, place);
        let same = Event::ALL.iter().filter(|other| other.name() == event.name());
        assert_eq!(same.count(), 1);
    }
}

#[test]
fn a_reader_never_sees_a_torn_record() {
    let ring = Ring::<2>::new();
    std::thread::scope(|scope| {
        scope.spawn(|| (1..20_000).for_each(|value| ring.push(record(value))));
        for _ in 0..20_000 {
            for (number, found) in ring.since(0) {
                assert_eq!(found, record(number));
            }
        }
    });
}
