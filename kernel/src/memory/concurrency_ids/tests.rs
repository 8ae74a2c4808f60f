use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

proptest! {
    /// Each step switches a CPU to a thread or away from it.
    #[test]
    fn those_that_run_have_the_lowest_that_were_free(steps in prop::collection::vec(0..MAX_CPUS, 0..100)) {
        let ids = ConcurrencyIds::default();
        let mut on_cpu: Vec<Option<u32>> = [None; MAX_CPUS].to_vec();
        for cpu in steps {
            let taken: BTreeSet<u32> = on_cpu.iter().flatten().copied().collect();
            prop_assert_eq!(taken.len(), on_cpu.iter().flatten().count(), "two have the same");
            on_cpu[cpu] = match on_cpu[cpu] {
                Some(id) => {
                    ids.give_back(id);
                    None
                }
                None => {
                    let id = ids.take();
                    prop_assert_eq!((0..).find(|id| !taken.contains(id)), Some(id));
                    Some(id)
                }
            };
        }
    }
}

#[test]
fn threads_at_once_never_have_the_same() {
    extern crate std;
    let ids = ConcurrencyIds::default();
    let owners = [const { AtomicU32::new(0) }; MAX_CPUS];
    std::thread::scope(|scope| {
        for thread in 1..=3 {
            let (ids, owners) = (&ids, &owners);
            scope.spawn(move || {
                for _ in 0..10_000 {
                    let id = ids.take();
                    assert!(id < 3);
                    assert_eq!(owners[id as usize].swap(thread, Relaxed), 0);
                    assert_eq!(owners[id as usize].swap(0, Relaxed), thread);
                    ids.give_back(id);
                }
            });
        }
    });
}
