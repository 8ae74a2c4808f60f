use proptest::prelude::*;

use super::*;

fn nothing(_: usize, _: usize) {}

#[test]
fn a_slice_ends_a_little_early_and_each_at_another_time() {
    let lengths: Vec<u64> = (0..1000).map(|n| slice_from(n * SLICE) - n * SLICE).collect();
    assert!(lengths.iter().all(|&length| length <= SLICE && length > SLICE - 65_536));
    let mut different = lengths.clone();
    different.sort_unstable();
    different.dedup();
    assert!(different.len() > 900, "{}", different.len());
}

proptest! {
    /// Against a plain list: timers run in the order of their deadlines, and who takes one back gets it once.
    #[test]
    fn timers_run_in_the_order_of_their_deadlines(steps in prop::collection::vec((0u8..4, 0u64..50), 1..80)) {
        let mut queue = Queue::new();
        let mut model: Vec<(u64, TimerId)> = Vec::new();
        let mut gone = Vec::new();
        for (what, value) in steps {
            match what {
                0 | 1 => {
                    let first = model.iter().all(|&(deadline, _)| value < deadline);
                    let (id, is_first) = queue.add(value, nothing, (0, 0));
                    prop_assert!(!first || is_first, "the processor would not be armed in time");
                    prop_assert!(model.iter().all(|&(_, other)| other != id) && !gone.contains(&id));
                    model.push((value, id));
                }
                2 => {
                    if let Some(&(_, id)) = model.get(value as usize % model.len().max(1)) {
                        prop_assert!(queue.remove(id));
                        prop_assert!(!queue.remove(id));
                        model.retain(|&(_, other)| other != id);
                        gone.push(id);
                    }
                }
                _ => {
                    let due = queue.take_due(value);
                    let earliest = model.iter().map(|&(deadline, _)| deadline).min().filter(|&deadline| deadline <= value);
                    prop_assert_eq!(due.as_ref().map(|timer| timer.deadline), earliest);
                    if let Some(timer) = due {
                        prop_assert!(!queue.remove(timer.id), "it has run");
                        model.retain(|&(_, other)| other != timer.id);
                    }
                }
            }
        }
    }
}
