//! From events to spans of time: what of a task's crossing lies between which two events, and its name.

use std::collections::BTreeMap;

use portcullis::trace::Event;
use portcullis::work::ExitWork;
use portcullis::x86_64::Exception;
use portcullis_trace::Record;
use syscalls::{x86, x86_64};

use super::record::Recording;

/// Something that took time, of one task. Spans of a task lie in each other or apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The task.
    pub task: u32,
    /// On which CPU it began.
    pub cpu: usize,
    /// What it was.
    pub name: String,
    /// From when to when, in nanoseconds. What had not ended ends with the recording.
    pub time: (u64, u64),
    /// In how many others it lies.
    pub depth: usize,
    /// How it came out, where there is something to say.
    pub result: String,
}

/// What crosses, until its reason is known.
const UNNAMED: &str = "crossing";

/// A span that has begun.
struct Open {
    begun_by: Event,
    span: Span,
}

/// All spans, in the order in which they begin.
pub fn of(recording: &Recording) -> Vec<Span> {
    let mut open: BTreeMap<u32, Vec<Open>> = BTreeMap::new();
    let mut spans = Vec::new();
    for (cpu, record) in &recording.records {
        let stack = open.entry(record.task).or_default();
        let mut end = |stack: &mut Vec<Open>, result: String| {
            if let Some(mut ended) = stack.pop() {
                ended.span.time.1 = record.time;
                ended.span.result = result;
                spans.push(ended.span);
            }
        };
        // A task that was away is back with whatever happens to it next.
        if stack.last().is_some_and(|last| last.begun_by == Event::Switch) {
            end(stack, String::new());
        }
        if record.event == Event::Vector {
            // The reason comes right after what it is the reason of.
            if let Some(last) = stack.last_mut() {
                last.span.name = last.span.name.replace(UNNAMED, &vector(record.value));
            }
        } else if let Some(begin) = begun_by(record.event) {
            // What began before the recording did has no beginning.
            if stack.iter().any(|open| open.begun_by == begin) {
                while stack.last().is_some_and(|last| last.begun_by != begin) {
                    end(stack, String::new());
                }
                end(stack, result(record));
            }
        } else if let Some(name) = name(recording, record) {
            let span = Span {
                task: record.task,
                cpu: *cpu,
                name,
                time: (record.time, record.time),
                depth: stack.len(),
                result: String::new(),
            };
            stack.push(Open { begun_by: record.event, span });
            if record.event == Event::Probe {
                end(stack, String::new());
            }
        }
        // A crossing that is a system call is called that.
        if let [.., outer, inner] = stack.as_mut_slice()
            && outer.begun_by == Event::FromUser
            && matches!(record.event, Event::SyscallEnter | Event::Syscall32Enter)
        {
            outer.span.name = format!("system call {}", inner.span.name);
        }
    }
    let last = recording.records.last().map_or(0, |(_, record)| record.time);
    for mut left in open.into_values().flatten() {
        left.span.time.1 = last;
        spans.push(left.span);
    }
    spans.sort_by_key(|span| (span.time.0, span.depth));
    spans
}

/// What began the span that this event ends.
fn begun_by(event: Event) -> Option<Event> {
    Some(match event {
        Event::ToUser => Event::FromUser,
        Event::SyscallExit => Event::SyscallEnter,
        Event::ExitWorkDone => Event::ExitWork,
        Event::ToKernel => Event::FromKernel,
        Event::NmiExit => Event::NmiEnter,
        _ => return None,
    })
}

/// The name of the span that this event begins.
fn name(recording: &Recording, record: &Record) -> Option<String> {
    Some(match record.event {
        Event::FromUser => UNNAMED.to_owned(),
        Event::SyscallEnter => system_call_64(record.value),
        Event::Syscall32Enter => system_call_32(record.value) + " (32-bit)",
        Event::ExitWork => format!("exit work: {}", exit_work(record.value)),
        Event::FromKernel => format!("{UNNAMED} in the kernel"),
        Event::NmiEnter => "NMI, #DB or #MC in the kernel".to_owned(),
        Event::Switch => format!("away; the CPU goes to {}", recording.task(record.value as u32)),
        Event::Probe => format!("probe at {:#x}", record.value),
        _ => return None,
    })
}

/// A call of the 64-bit table, by its number.
pub fn system_call_64(number: u64) -> String {
    system_call(number, |number| x86_64::Sysno::new(number).map(|call| call.name()))
}

/// A call of the 32-bit table, by its number.
pub fn system_call_32(number: u64) -> String {
    system_call(number, |number| x86::Sysno::new(number).map(|call| call.name()))
}

fn system_call(number: u64, name: impl Fn(usize) -> Option<&'static str>) -> String {
    name(number as usize).map_or_else(|| format!("number {}", number as i64), str::to_owned)
}

/// The kinds of exit work in a word.
pub fn exit_work(word: u64) -> String {
    let names: Vec<&str> =
        ExitWork::KINDS.iter().filter(|kind| word & u64::from(kind.flag.bits()) != 0).map(|kind| kind.name).collect();
    names.join(", ")
}

/// The exceptions' mnemonics (SDM volume 3, table 6-1); what lies above are interrupts.
pub fn vector(vector: u64) -> String {
    const NAMES: [(u8, &str); 20] = [
        (Exception::DE, "#DE"),
        (Exception::DB, "#DB"),
        (Exception::NMI, "NMI"),
        (Exception::BP, "#BP"),
        (Exception::OF, "#OF"),
        (Exception::BR, "#BR"),
        (Exception::UD, "#UD"),
        (Exception::NM, "#NM"),
        (Exception::DF, "#DF"),
        (Exception::TS, "#TS"),
        (Exception::NP, "#NP"),
        (Exception::SS, "#SS"),
        (Exception::GP, "#GP"),
        (Exception::PF, "#PF"),
        (Exception::MF, "#MF"),
        (Exception::AC, "#AC"),
        (Exception::MC, "#MC"),
        (Exception::XM, "#XM"),
        (Exception::VE, "#VE"),
        (Exception::CP, "#CP"),
    ];
    match NAMES.iter().find(|(number, _)| u64::from(*number) == vector) {
        Some((_, name)) => format!("exception {name}"),
        None if vector < 32 => format!("exception {vector}"),
        None => format!("interrupt {vector:#x}"),
    }
}

/// How the span came out that this event ends.
fn result(record: &Record) -> String {
    match record.event {
        Event::SyscallExit => format!("= {}", system_call_result(record.value)),
        _ => String::new(),
    }
}

/// What a call returned: an error number, or a value.
pub fn system_call_result(value: u64) -> String {
    match value as i64 {
        error @ -4095..=-1 => error.to_string(),
        value => format!("{value:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(events: &[(u32, Event, u64)]) -> Vec<(u32, usize, (u64, u64), String)> {
        let spans = of(&Recording::of(events)).into_iter();
        spans
            .map(|span| (span.task, span.depth, span.time, (span.name + " " + &span.result).trim().to_owned()))
            .collect()
    }

    #[test]
    fn a_system_call_with_an_interrupt_and_exit_work_in_it() {
        use Event::*;
        let work = u64::from(portcullis::work::ExitWork::SIGPENDING.bits());
        assert_eq!(
            shown(&[
                (2, FromUser, 0),
                (2, SyscallEnter, 39),
                (2, FromKernel, 0),
                (2, Vector, 0xec),
                (2, ToKernel, 0),
                (2, SyscallExit, 2),
                (2, ExitWork, work),
                (2, ExitWorkDone, 0),
                (2, ToUser, 0),
            ]),
            [
                (2, 0, (0, 8), "system call getpid".to_owned()),
                (2, 1, (1, 5), "getpid = 0x2".to_owned()),
                (2, 2, (2, 4), "interrupt 0xec in the kernel".to_owned()),
                (2, 1, (6, 7), "exit work: SIGPENDING".to_owned()),
            ]
        );
    }

    #[test]
    fn a_task_is_away_until_something_happens_to_it() {
        use Event::*;
        assert_eq!(
            shown(&[
                // Its beginning was not recorded.
                (2, SyscallExit, 0),
                (2, Switch, 3),
                (3, ToUser, 0),
                (3, FromUser, 0),
                (3, Vector, 14),
                (3, Switch, 2),
                (2, ToUser, 0),
            ]),
            [
                (2, 0, (1, 6), "away; the CPU goes to task 3".to_owned()),
                (3, 0, (3, 6), "exception #PF".to_owned()),
                (3, 1, (5, 6), "away; the CPU goes to task 2".to_owned()),
            ]
        );
    }
}
