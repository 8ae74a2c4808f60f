use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const FILE: usize = 1;

fn lock(owner: usize, exclusive: bool, start: u64, end: u64) -> Lock {
    Lock { inode: FILE, owner: Owner::Process(owner), whole_file: false, exclusive, start, end, pid: owner as i32 }
}

/// A list as [`try_lock`] keeps it, without the others' locks.
fn take(locks: &mut Vec<Lock>, lock: &Lock) -> bool {
    let free = !locks.iter().any(|other| lock.conflicts(other));
    if free {
        clear(locks, lock);
        locks.push(*lock);
    }
    free
}

#[test]
fn only_writers_and_only_others_conflict() {
    let (read, write) = (lock(1, false, 0, 10), lock(2, true, 5, 15));
    assert!(read.conflicts(&write) && write.conflicts(&read));
    assert!(!read.conflicts(&lock(2, false, 0, 10)), "two readers");
    assert!(!write.conflicts(&lock(2, true, 0, 10)), "a process and itself");
    assert!(!write.conflicts(&lock(1, true, 0, 5)) && !write.conflicts(&lock(1, true, 15, 20)), "neighbors");
    assert!(!write.conflicts(&Lock { inode: 2, ..read }), "another file");
    assert!(!write.conflicts(&Lock { whole_file: true, ..read }), "flock and fcntl do not see each other");
    assert!(write.conflicts(&Lock { owner: Owner::OpenFile(2), ..read }), "an open file is no process");
}

#[test]
fn unlocking_the_middle_leaves_two_parts() {
    let mut locks = vec![lock(1, true, 0, u64::MAX)];
    clear(&mut locks, &lock(1, false, 10, 20));
    let mut parts: Vec<_> = locks.iter().map(|lock| (lock.start, lock.end)).collect();
    parts.sort_unstable();
    assert_eq!(parts, [(0, 10), (20, u64::MAX)]);
    assert!(locks.iter().all(|lock| lock.exclusive), "they stay what they were");
}

#[test]
fn a_lock_replaces_what_its_owner_had_there() {
    let mut locks = Vec::new();
    assert!(take(&mut locks, &lock(1, true, 0, 10)));
    assert!(take(&mut locks, &lock(1, false, 0, 10)), "a write lock becomes a read lock");
    assert!(take(&mut locks, &lock(2, false, 0, 10)));
    assert!(!take(&mut locks, &lock(1, true, 0, 10)), "another reads");
    assert_eq!(locks.len(), 2);
}

proptest! {
    /// Each byte has the readers or the one writer that a table of bytes has.
    #[test]
    fn locks_are_a_table_of_bytes(steps in vec((0usize..3, 0u8..3, 0u64..24, 1u64..12), 1..60)) {
        const BYTES: usize = 40;
        let mut locks = Vec::new();
        // For each byte and owner: nothing, reads, writes.
        let mut model = [[0u8; 3]; BYTES];
        for (owner, kind, start, len) in steps {
            let range = start as usize..(start + len) as usize;
            if kind == 0 {
                clear(&mut locks, &lock(owner, false, start, start + len));
            } else {
                let free = model[range.clone()].iter().all(|byte| {
                    (0..3).all(|other| other == owner || byte[other] == 0 || byte[other] == 1 && kind == 1)
                });
                prop_assert_eq!(take(&mut locks, &lock(owner, kind == 2, start, start + len)), free);
                if !free {
                    continue;
                }
            }
            model[range].iter_mut().for_each(|byte| byte[owner] = kind);
            for (at, byte) in model.iter().enumerate() {
                for (owner, &kind) in byte.iter().enumerate() {
                    let found: Vec<_> = locks.iter()
                        .filter(|lock| lock.owner == Owner::Process(owner) && (lock.start..lock.end).contains(&(at as u64)))
                        .map(|lock| 1 + u8::from(lock.exclusive))
                        .collect();
                    prop_assert_eq!(&found[..], if kind == 0 { &[][..] } else { std::slice::from_ref(&kind) });
                }
            }
        }
    }
}
