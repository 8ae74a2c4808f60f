//! A ring of boundary events per CPU: what crossed, when, and what work ran.
//!
//! The policy and the doors tell the kernel of each event ([`Kernel::trace`](crate::Kernel::trace)), which compiles to nothing
//! unless the kernel wants to know.
//!
//! The ring is the kernel's to place, one per CPU. Writing takes no lock and may happen anywhere, NMIs included: a
//! writer takes a slot by one addition and marks it whole when it has filled it. A reader on any CPU sees whole records
//! or none. Old records are overwritten, but for one that is being written: who is interrupted there for so long that the ring
//! comes round finds its slot as it was, and the newer record is not kept.

use core::sync::atomic::{AtomicU64, Ordering::*, fence};

/// What happened, and what the record's value says of it; 0 where nothing is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
#[non_exhaustive]
pub enum Event {
    /// User mode was left by a door.
    FromUser = 0,
    /// User mode is about to be entered.
    ToUser = 1,
    /// A 64-bit system call begins; its number.
    SyscallEnter = 2,
    /// A 32-bit system call begins; its number.
    Syscall32Enter = 3,
    /// A system call is made; its result, where the kernel gives one.
    SyscallExit = 4,
    /// What crossed is an exception or interrupt; its vector.
    Vector = 5,
    /// A round of the exit loop begins; the exit-work word.
    ExitWork = 6,
    /// The exit loop's round is done.
    ExitWorkDone = 7,
    /// An interrupt or exception hit the kernel.
    FromKernel = 8,
    /// It is done.
    ToKernel = 9,
    /// An NMI, a machine check or a debug exception hit the kernel.
    NmiEnter = 10,
    /// It is done.
    NmiExit = 11,
    /// The CPU is about to go over to another task; that one's number.
    Switch = 12,
    /// A probe in user code was hit; its address.
    Probe = 13,
}

impl Event {
    /// All of them, in the order of their numbers.
    pub const ALL: [Event; 14] = [
        Event::FromUser,
        Event::ToUser,
        Event::SyscallEnter,
        Event::Syscall32Enter,
        Event::SyscallExit,
        Event::Vector,
        Event::ExitWork,
        Event::ExitWorkDone,
        Event::FromKernel,
        Event::ToKernel,
        Event::NmiEnter,
        Event::NmiExit,
        Event::Switch,
        Event::Probe,
    ];

    /// Its name in tables and files.
    pub const fn name(self) -> &'static str {
        match self {
            Event::FromUser => "from_user",
            Event::ToUser => "to_user",
            Event::SyscallEnter => "sys_enter",
            Event::Syscall32Enter => "sys_enter_32",
            Event::SyscallExit => "sys_exit",
            Event::Vector => "vector",
            Event::ExitWork => "exit_work",
            Event::ExitWorkDone => "exit_work_done",
            Event::FromKernel => "from_kernel",
            Event::ToKernel => "to_kernel",
            Event::NmiEnter => "nmi_enter",
            Event::NmiExit => "nmi_exit",
            Event::Switch => "switch",
            Event::Probe => "probe",
        }
    }
}

/// One event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The kernel's clock.
    pub time: u64,
    /// What happened.
    pub event: Event,
    /// The task that it happened to, by the kernel's number.
    pub task: u32,
    /// What the event says.
    pub value: u64,
}

/// One CPU's records, the newest `N`.
#[derive(Debug)]
pub struct Ring<const N: usize> {
    /// How many records were ever begun.
    begun: AtomicU64,
    slots: [Slot; N],
}

#[derive(Debug)]
struct Slot {
    /// The number of the record that is in it, from 1; 0 before the first, [`UNFINISHED`] while it is being written.
    number: AtomicU64,
    time: AtomicU64,
    /// Event and task.
    what: AtomicU64,
    value: AtomicU64,
}

/// No record has this number.
const UNFINISHED: u64 = u64::MAX;

impl<const N: usize> Ring<N> {
    /// Empty.
    pub const fn new() -> Self {
        Ring {
            begun: AtomicU64::new(0),
            slots: [const {
                Slot {
                    number: AtomicU64::new(0),
                    time: AtomicU64::new(0),
                    what: AtomicU64::new(0),
                    value: AtomicU64::new(0),
                }
            }; N],
        }
    }

    /// Adds a record. Only on the CPU that the ring belongs to; from any context.
    #[inline]
    pub fn push(&self, record: Record) {
        if let Some((slot, number)) = self.begin() {
            slot.finish(number, record);
        }
    }

    /// Takes the next slot, unless it is being written: by whoever was interrupted here, and goes on when we are done.
    #[inline(always)]
    fn begin(&self) -> Option<(&Slot, u64)> {
        let number = self.begun.fetch_add(1, Relaxed) + 1;
        let slot = self.slots.get(number as usize % N.max(1))?;
        if slot.number.load(Relaxed) == UNFINISHED {
            return None;
        }
        slot.number.store(UNFINISHED, Relaxed);
        // A reader that sees a part of what follows sees the slot unfinished.
        fence(Release);
        Some((slot, number))
    }

    /// How many records were ever added.
    pub fn count(&self) -> u64 {
        self.begun.load(Acquire)
    }

    /// The record with this number, from 1: None if it is not there any more, or not yet.
    pub fn get(&self, number: u64) -> Option<Record> {
        let slot = self.slots.get(number as usize % N.max(1))?;
        if number == 0 || slot.number.load(Acquire) != number {
            return None;
        }
        let (time, what) = (slot.time.load(Relaxed), slot.what.load(Relaxed));
        let value = slot.value.load(Relaxed);
        fence(Acquire);
        if slot.number.load(Relaxed) != number {
            return None;
        }
        Some(Record {
            time,
            event: *Event::ALL.get((what >> 32) as usize)?,
            task: what as u32,
            value,
        })
    }

    /// The records that are there, the oldest first, from `first` on.
    pub fn since(&self, first: u64) -> impl Iterator<Item = (u64, Record)> {
        let end = self.count();
        let start = first.max(1).max((end + 1).saturating_sub(N as u64));
        (start..=end).filter_map(|number| Some((number, self.get(number)?)))
    }
}

impl Slot {
    #[inline(always)]
    fn finish(&self, number: u64, record: Record) {
        self.time.store(record.time, Relaxed);
        let what = (record.event as u64) << 32 | u64::from(record.task);
        self.what.store(what, Relaxed);
        self.value.store(record.value, Relaxed);
        self.number.store(number, Release);
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn record(value: u64) -> Record {
        Record {
            time: value * 10,
            event: Event::Switch,
            task: 7,
            value,
        }
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
                assert!(
                    ring.since(0).all(|(number, found)| found == record(number)),
                    "{nested} nested"
                );
            }
            // The first one's fields are stored one by one.
            slot.time.store(0, Relaxed);
            assert!(
                ring.since(0).all(|(number, found)| found == record(number)),
                "{nested} nested"
            );
            slot.finish(number, record(number));
            assert!(
                ring.since(0).all(|(number, found)| found == record(number)),
                "{nested} nested"
            );
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
}
