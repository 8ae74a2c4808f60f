//! From events to crossings: what a task did from when it left user mode until it was back there, with every moment that was recorded.

use std::collections::BTreeMap;

use portcullis::trace::Event;
use portcullis_trace::Record;

use super::record::Recording;
use super::spans::{exit_work, system_call_32, system_call_64, system_call_result, vector};

/// By which kind of door a crossing came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SYSCALL from 64-bit code.
    Syscall,
    /// A 32-bit system call.
    Syscall32,
    /// An exception.
    Exception,
    /// An interrupt.
    Interrupt,
    /// Nothing says: a child's first way out, a system call that was skipped.
    Other,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Syscall, Kind::Syscall32, Kind::Exception, Kind::Interrupt, Kind::Other];

    /// What it is called, and which page of docs/ tells of it.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Kind::Syscall => ("system call", "system-call.md"),
            Kind::Syscall32 => ("32-bit system call", "compat.md"),
            Kind::Exception => ("exception", "exception.md"),
            Kind::Interrupt => ("interrupt", "exception.md"),
            Kind::Other => ("other", "doors.md"),
        }
    }
}

/// One crossing.
#[derive(Debug, PartialEq)]
pub struct Crossing {
    /// The task.
    pub task: u32,
    /// The CPU that it began on.
    pub cpu: usize,
    /// How it came in.
    pub kind: Kind,
    /// Which call, exception or interrupt it was.
    pub name: String,
    /// From when to when, in nanoseconds.
    pub time: (u64, u64),
    /// The result of a call.
    pub result: String,
    /// How it went out; none if it was not over when the recording was.
    pub way_out: Option<&'static str>,
    /// The moments: when, in which state of the library, what happened.
    pub moments: Vec<(u64, &'static str, String)>,
}

/// All crossings, in the order in which they begin.
pub fn of(recording: &Recording) -> Vec<Crossing> {
    let mut open: BTreeMap<u32, Crossing> = BTreeMap::new();
    let mut crossings = Vec::new();
    let last = recording.records.last().map_or(0, |(_, record)| record.time);
    for (cpu, record) in &recording.records {
        if record.event == Event::FromUser {
            let begun = Crossing {
                task: record.task,
                cpu: *cpu,
                kind: Kind::Other,
                name: "crossing".to_owned(),
                time: (record.time, last),
                result: String::new(),
                way_out: None,
                moments: vec![(record.time, "Arrived", "the door was entered".to_owned())],
            };
            crossings.extend(open.insert(record.task, begun));
        } else if let Some(crossing) = open.get_mut(&record.task) {
            crossing.goes_on(recording, record);
            if record.event == Event::ToUser {
                crossings.extend(open.remove(&record.task));
            }
        }
    }
    crossings.extend(open.into_values());
    crossings.sort_by_key(|crossing| crossing.time.0);
    crossings
}

impl Crossing {
    /// One more moment of it.
    fn goes_on(&mut self, recording: &Recording, record: &Record) {
        // A vector comes right after what it is the reason of.
        let is_nested = self.moments.last().is_some_and(|moment| moment.1 == "Interrupted");
        let (state, what) = match record.event {
            Event::SyscallEnter => {
                (self.kind, self.name) = (Kind::Syscall, system_call_64(record.value));
                ("InSyscall", format!("{} begins", self.name))
            }
            Event::Syscall32Enter => {
                (self.kind, self.name) = (Kind::Syscall32, system_call_32(record.value));
                ("InSyscall", format!("{} begins", self.name))
            }
            Event::SyscallExit => {
                self.result = system_call_result(record.value);
                ("InSyscall", format!("{} = {}", self.name, self.result))
            }
            Event::Vector if is_nested => ("Interrupted", vector(record.value)),
            Event::Vector => {
                self.kind = if record.value < 32 { Kind::Exception } else { Kind::Interrupt };
                self.name = vector(record.value);
                ("InKernel", self.name.clone())
            }
            Event::ExitWork => ("Leaving", format!("a round of exit work: {}", exit_work(record.value))),
            Event::ExitWorkDone => ("Leaving", "the round is done".to_owned()),
            Event::FromKernel => ("Interrupted", "the kernel is hit".to_owned()),
            Event::ToKernel => ("back", "its handling is done".to_owned()),
            Event::NmiEnter => ("NmiContext", "an NMI, #MC or #DB hits the kernel".to_owned()),
            Event::NmiExit => ("NmiContext", "its handling is done".to_owned()),
            Event::Switch => ("away", format!("the CPU goes to {}", recording.task(record.value as u32))),
            Event::Probe => ("InKernel", format!("a probe at {:#x}", record.value)),
            Event::ToUser => {
                self.time.1 = record.time;
                let way_out = match record.value {
                    1 => "SYSRET",
                    2 => "SYSRET to 32-bit code",
                    _ => "IRET",
                };
                self.way_out = Some(way_out);
                ("Cleared", format!("user mode by {way_out}"))
            }
            _ => return,
        };
        self.moments.push((record.time, state, what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_has_its_door_its_moments_and_its_way_out() {
        use Event::*;
        let work = u64::from(portcullis::work::ExitWork::SIGPENDING.bits());
        let events = [
            // Its beginning was not recorded.
            (2, SyscallExit, 0),
            (2, ToUser, 1),
            (2, FromUser, 0),
            (2, SyscallEnter, 39),
            (2, FromKernel, 0),
            (2, Vector, 0xec),
            (2, ToKernel, 0),
            (2, SyscallExit, 2),
            (2, ToUser, 1),
            (2, FromUser, 0),
            (2, Vector, 14),
            (2, ExitWork, work),
            (2, ExitWorkDone, 0),
            (2, ToUser, 0),
            (2, FromUser, 0),
        ];
        let crossings = of(&Recording::of(&events));
        let shown: Vec<_> = crossings
            .iter()
            .map(|one| (one.kind, one.name.as_str(), one.result.as_str(), one.time, one.way_out))
            .collect();
        assert_eq!(
            shown,
            [
                (Kind::Syscall, "getpid", "0x2", (2, 8), Some("SYSRET")),
                (Kind::Exception, "exception #PF", "", (9, 13), Some("IRET")),
                (Kind::Other, "crossing", "", (14, 14), None),
            ]
        );
        let states: Vec<&str> = crossings[0].moments.iter().map(|moment| moment.1).collect();
        assert_eq!(states, ["Arrived", "InSyscall", "Interrupted", "Interrupted", "back", "InSyscall", "Cleared"]);
        assert_eq!(crossings[1].moments[2].2, "a round of exit work: SIGPENDING");
    }
}
