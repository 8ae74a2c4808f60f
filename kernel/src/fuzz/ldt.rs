//! Descriptors: calls of modify_ldt(2), and what a tracer puts into a thread's entries of the GDT. Each is a byte that says which,
//! and a `struct user_desc`.

use zerocopy::{FromBytes, IntoBytes};

use crate::calls::ldt::sys_modify_ldt;
use crate::fuzz::input::Input;
use crate::host::process;
use crate::machine::descriptor::UserDesc;
use crate::machine::segments::Segments;
use crate::memory::address_space::current_mm;
use crate::memory::{Width, user};
use crate::sched::segments::thread_area;

/// Where the segment is for the call, and where there is room for a table.
const SEGMENT: u64 = process::MEMORY;
const TABLE: u64 = process::MEMORY + 0x100;
const TABLE_SIZE: u64 = process::MEMORY_SIZE - 0x100;
/// How many bytes behind the table are read with it.
const BEHIND: u64 = 128;
const MAX_STEPS: usize = 32;

pub fn run(bytes: &[u8]) {
    process::run(Width::Bits64, |task| {
        let mut input = Input::new(bytes);
        let mut segments = Segments::default();
        for _ in 0..MAX_STEPS {
            if input.is_empty() {
                break;
            }
            let step = input.u8();
            let segment: [u8; 16] = input.array();
            user::write(SEGMENT, &segment).expect("mapped");
            match step & 3 {
                0 | 1 => write(if step & 1 == 0 { 1 } else { 0x11 }, &segment, step),
                2 => {
                    let number = 12 + u32::from(step >> 2 & 3);
                    let set = thread_area::set_of_other(task, &mut segments, number, SEGMENT);
                    if set.is_ok() {
                        shown_as_set(
                            task.tls.entry(number).expect("set").load(std::sync::atomic::Ordering::Relaxed),
                            number,
                        );
                    }
                }
                _ => {
                    let entries: Vec<UserDesc> =
                        (0..step >> 2 & 3).map(|_| UserDesc::read_from_bytes(&segment).expect("16 bytes")).collect();
                    let _ = thread_area::set_first(task, &entries);
                }
            }
            read_back();
            for entry in task.tls.entries() {
                check(entry);
                // 16-bit segments, code and what is not present are for the LDT.
                const DEFAULT_32: u64 = 1 << 54;
                assert!(entry == 0 || entry & (PRESENT | DEFAULT_32 | CODE) == PRESENT | DEFAULT_32, "{entry:#x}");
            }
        }
    });
}

const PRESENT: u64 = 1 << 47;
const CODE: u64 = 1 << 43;

/// One call that writes. What it refuses changes nothing.
fn write(function: u64, segment: &[u8; 16], step: u8) {
    let before = entries();
    let size = if step & 0x80 == 0 { 16 } else { u64::from(step) };
    let result = sys_modify_ldt(function, SEGMENT, size).expect("errors are numbers");
    let after = entries();
    let number = u32::from_le_bytes([segment[0], segment[1], segment[2], segment[3]]) as usize;
    if result != 0 {
        assert!(result > usize::MAX >> 33, "a negative int: {result:#x}");
        assert_eq!(before, after, "a call that fails");
        return;
    }
    assert_eq!((after.len(), size), (before.len().max(number + 1), 16));
    for (at, entry) in after.iter().enumerate().filter(|(at, _)| *at != number) {
        assert_eq!(*entry, before.get(at).copied().unwrap_or(0), "the others stay");
    }
    shown_as_set(after[number], number as u32);
}

fn entries() -> Vec<u64> {
    current_mm().ldt().entries().map_or(Vec::new(), |table| table.0.clone())
}

/// What user programs may have: nothing, or a segment of code or data, of ring 3, not of long mode, that the CPU need not write to.
/// Conforming code, which would be entered with the caller's ring, only where it is not present.
fn check(entry: u64) {
    const ACCESSED: u64 = 1 << 40;
    const CONFORMING: u64 = 1 << 42;
    const CODE_OR_DATA: u64 = 1 << 44;
    const RING_3: u64 = 3 << 45;
    const LONG: u64 = 1 << 53;
    let kind = ACCESSED | CODE_OR_DATA | RING_3;
    assert!(entry == 0 || entry & (kind | LONG) == kind, "{entry:#x}");
    assert!(entry & (PRESENT | CODE | CONFORMING) != PRESENT | CODE | CONFORMING, "{entry:#x}");
}

/// A segment that is shown makes the same descriptor again.
fn shown_as_set(entry: u64, number: u32) {
    let shown = UserDesc::of(entry, number);
    assert_eq!(shown.entry_number, number);
    if entry != 0 {
        assert_eq!(shown.descriptor(), entry, "{shown:?}");
    }
}

/// All entries are what a program may have, and modify_ldt shows them.
fn read_back() {
    let entries = entries();
    entries.iter().copied().for_each(check);
    let size = TABLE_SIZE.min(entries.len() as u64 * 8 + BEHIND);
    let read = sys_modify_ldt(0, TABLE, size).expect("errors are numbers");
    let expected = if entries.is_empty() { 0 } else { size as usize };
    assert_eq!(read, expected);
    let mut shown = vec![0u64; read / 8];
    let len = shown.as_bytes().len();
    // SAFETY: the vector's own bytes.
    unsafe { user::copy_from_user(shown.as_mut_bytes().as_mut_ptr(), TABLE, len) }.expect("mapped");
    let (had, rest) = shown.split_at(entries.len().min(shown.len()));
    assert_eq!(had, &entries[..had.len()]);
    assert!(rest.iter().all(|&entry| entry == 0), "zeros behind the table");
}
