use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::host;

fn pool() -> Pool {
    Pool { head: 0, fresh: [const { 0..0 }; MAX_RANGES], first_fresh: 0, free: 0, kernel_reserve: 0 }
}

/// All that a pool gives.
fn drain(pool: &mut Pool) -> Vec<u64> {
    std::iter::from_fn(|| pool.pop(0)).collect()
}

#[test]
fn reserved_parts_and_partial_pages_are_never_handed_out() {
    let mut pool = pool();
    // The first page, which would be the null frame, and the ends that are no whole pages.
    pool.add(0..0x4800, &[]);
    pool.add(0x10_0800..0x11_0000, &[0x10_2000..0x10_2001, 0x10_8000..0x10_f000]);
    let free = pool.free;
    let found = drain(&mut pool);
    let expected: Vec<u64> = (0x1000..0x4000)
        .chain(0x10_1000..0x10_2000)
        .chain(0x10_3000..0x10_8000)
        .chain(0x10_f000..0x11_0000)
        .step_by(1)
        .filter(|addr| addr % PAGE_SIZE == 0)
        .collect();
    assert_eq!(found, expected);
    assert_eq!((free, pool.free), (expected.len(), 0));
}

#[test]
fn what_is_kept_stays() {
    let mut pool = pool();
    pool.add(0x1000..0x5000, &[]);
    assert_eq!(pool.pop(4), None);
    assert_eq!(pool.pop(3), Some(0x1000));
    assert_eq!(pool.pop(3), None);
    assert_eq!(drain(&mut pool).len(), 3);
}

#[test]
fn memory_set_aside_is_aligned_to_pairs_and_gone() {
    let mut pool = pool();
    pool.add(0x1000..0x10_0000, &[]);
    let aside = pool.set_aside(4 * PAGE_SIZE);
    assert_eq!(aside.end - aside.start, 4 * PAGE_SIZE);
    assert!(aside.start.is_multiple_of(2 * PAGE_SIZE));
    let free = pool.free;
    let left = drain(&mut pool);
    assert_eq!(left.len(), free);
    assert!(left.iter().all(|addr| !aside.contains(addr)));
    assert_eq!(pool.set_aside(0), 0..0);
}

#[test]
fn a_frame_is_free_again_with_its_last_reference() {
    host::memory();
    let frame = alloc().expect("memory");
    assert!(frame.is_unique());
    let other = frame.clone();
    assert!(!frame.is_unique());
    assert_eq!(other.addr(), frame.addr());
    let raw = other.into_raw();
    assert!(!frame.is_unique(), "the address counts");
    // SAFETY: `into_raw` gave it just now.
    drop(unsafe { Frame::from_raw(raw) });
    assert!(frame.is_unique());
    drop(share_raw(frame.addr()));
    assert!(frame.is_unique());
}

#[test]
fn contents_are_zeros_or_a_copy_and_frames_are_apart() {
    host::memory();
    let bytes = |frame: &Frame| {
        // SAFETY: a whole frame that this test alone has.
        unsafe { std::slice::from_raw_parts_mut(frame.as_ptr(), PAGE_SIZE as usize) }
    };
    let (first, second) = (alloc().expect("memory"), alloc().expect("memory"));
    bytes(&first).fill(0xa5);
    bytes(&second).fill(0x5a);
    assert!(bytes(&first).iter().all(|&byte| byte == 0xa5));
    second.copy_from(&first);
    assert_eq!(bytes(&first), bytes(&second));
    drop((first, second));
    let zeroed = alloc_zeroed().expect("memory");
    assert!(bytes(&zeroed).iter().all(|&byte| byte == 0), "also where it was used before");
    // SAFETY: the frame of zeros is never written.
    let zeros = unsafe { std::slice::from_raw_parts(phys_to_virt(zero_frame()), PAGE_SIZE as usize) };
    assert!(zeros.iter().all(|&byte| byte == 0));
}

#[test]
fn more_than_there_is_cannot_be_required() {
    host::memory();
    assert_eq!(require(total_bytes()), Err(Errno::ENOMEM), "some of it is the kernel's reserve");
    assert_eq!(require(1), Ok(()));
    assert_eq!(require_spare(), Ok(()));
    assert!(free_bytes() <= total_bytes());
}

proptest! {
    /// Whatever is taken and given back, no frame is handed out twice, and the count of free ones is right.
    #[test]
    fn no_frame_is_handed_out_twice(steps in vec((any::<bool>(), any::<prop::sample::Index>()), 1..200)) {
        host::memory();
        // Frames of the host's memory, since those that are free hold the list; taken from the pool that everybody uses.
        let owned: Vec<Frame> = (0..16).map(|_| alloc().expect("memory")).collect();
        let mut pool = pool();
        owned.iter().for_each(|frame| pool.push(frame.addr()));
        let mut taken = BTreeSet::new();
        for (takes, index) in steps {
            if takes || taken.is_empty() {
                match pool.pop(0) {
                    Some(addr) => prop_assert!(taken.insert(addr), "{addr:#x} is in use"),
                    None => prop_assert_eq!(taken.len(), 16),
                }
            } else {
                let addr = *index.get(&taken.iter().copied().collect::<Vec<_>>());
                taken.remove(&addr);
                pool.push(addr);
            }
            prop_assert_eq!(pool.free, 16 - taken.len());
        }
    }
}
