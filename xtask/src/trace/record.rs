//! What the kernel recorded, read off its log: lines that begin with `trace: `.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use portcullis::trace::Event;
use portcullis_trace::Record;

/// How such a line begins. After that: `name TID NAME`, `lost CPU COUNT`, or `TIME CPU TID EVENT VALUE`.
const MARK: &str = "trace: ";

/// All of it.
#[derive(Default)]
pub struct Recording {
    /// The records in the order of their times, each with its CPU.
    pub records: Vec<(usize, Record)>,
    /// The last name of each task.
    pub names: BTreeMap<u32, String>,
    /// How many records each CPU has written over.
    pub lost: BTreeMap<usize, u64>,
}

impl Recording {
    /// Reads a log. Lines that are none of a recording do not count.
    pub fn read(log: &str) -> Result<Recording> {
        let mut recording = Recording::default();
        for line in log.lines().filter_map(|line| line.strip_prefix(MARK)) {
            recording.line(line).with_context(|| format!("the kernel recorded a line that is none: `{line}`"))?;
        }
        recording.records.sort_by_key(|(_, record)| record.time);
        Ok(recording)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().context("too short");
        match word()? {
            "name" => {
                self.names.insert(word()?.parse()?, word()?.to_owned());
            }
            "lost" => {
                self.lost.insert(word()?.parse()?, word()?.parse()?);
            }
            time => {
                let (cpu, rest) = (word()?, word()?);
                let mut rest = rest.split(' ');
                let mut word = || rest.next().context("too short");
                let (task, name, value) = (word()?, word()?, word()?);
                let event = Event::ALL.into_iter().find(|event| event.name() == name);
                let record = Record {
                    time: time.parse()?,
                    event: event.with_context(|| format!("there is no event {name}"))?,
                    task: task.parse()?,
                    value: value.parse::<i64>()? as u64,
                };
                self.records.push((cpu.parse()?, record));
            }
        }
        Ok(())
    }

    /// A recording of these events, a nanosecond each: task, event and value.
    #[cfg(test)]
    pub fn of(events: &[(u32, Event, u64)]) -> Recording {
        let records = events.iter().enumerate().map(|(time, &(task, event, value))| {
            let record = Record { time: time as u64, event, task, value };
            (0, record)
        });
        Recording { records: records.collect(), ..Recording::default() }
    }

    /// A task's name and number.
    pub fn task(&self, task: u32) -> String {
        match self.names.get(&task) {
            Some(name) => format!("{name} {task}"),
            None if task == 0 => "idle".to_owned(),
            None => format!("task {task}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gives_its_records_in_order() {
        let log = "[  0.1] WARN  something\n\
                   trace: name 2 a b\n\
                   trace: lost 0 7\n\
                   trace: 20 1 2 sys_exit -2\n\
                   trace: 10 0 2 sys_enter 39\n\
                   exit: 0\n";
        let recording = Recording::read(log).unwrap();
        let found: Vec<_> = recording
            .records
            .iter()
            .map(|(cpu, record)| (*cpu, record.time, record.event, record.value as i64))
            .collect();
        assert_eq!(found, [(0, 10, Event::SyscallEnter, 39), (1, 20, Event::SyscallExit, -2)]);
        assert_eq!((recording.task(2), recording.task(0)), ("a b 2".to_owned(), "idle".to_owned()));
        assert_eq!(recording.lost[&0], 7);
        assert!(Recording::read("trace: 20 1 2 no_such_event 0\n").is_err());
        assert!(Recording::read("trace: 20 1\n").is_err());
    }
}
