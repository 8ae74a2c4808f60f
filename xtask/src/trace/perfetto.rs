//! The timeline as a file of Chrome's trace event format, which ui.perfetto.dev and chrome://tracing open: a track per task, and
//! a track per CPU that shows which task it ran.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use anyhow::Result;
use portcullis::trace::Event;
use serde_json::{Value, json};

use super::record::Recording;
use super::spans::Span;

/// The two groups of tracks; the format calls them processes.
const TASKS: u32 = 1;
const CPUS: u32 = 2;

/// Writes it.
pub fn write(recording: &Recording, spans: &[Span], out: &mut impl Write) -> Result<()> {
    let start = recording.records.first().map_or(0, |(_, record)| record.time);
    let micros = |time: u64| time.saturating_sub(start) as f64 / 1000.0;
    let slice = |group: u32, track: u64, name: &str, (from, to): (u64, u64), args: Value| {
        json!({ "ph": "X", "pid": group, "tid": track, "name": name, "ts": micros(from), "dur": micros(to) - micros(from),
                "args": args })
    };
    let mut events = vec![label(TASKS, None, "tasks"), label(CPUS, None, "CPUs")];
    let tasks: BTreeSet<u32> = spans.iter().map(|span| span.task).collect();
    events.extend(tasks.into_iter().map(|task| label(TASKS, Some(task.into()), &recording.task(task))));
    for span in spans {
        let args = json!({ "CPU": span.cpu, "result": span.result });
        events.push(slice(TASKS, span.task.into(), &span.name, span.time, args));
    }
    for (cpu, runs) in runs(recording) {
        events.push(label(CPUS, Some(cpu as u64), &format!("CPU {cpu}")));
        for (task, time) in runs {
            events.push(slice(CPUS, cpu as u64, &recording.task(task), time, json!({})));
        }
    }
    serde_json::to_writer(out, &json!({ "traceEvents": events, "displayTimeUnit": "ns" }))?;
    Ok(())
}

/// The name of a group, or of a track in it.
fn label(group: u32, track: Option<u64>, name: &str) -> Value {
    let what = if track.is_some() { "thread_name" } else { "process_name" };
    json!({ "ph": "M", "pid": group, "tid": track.unwrap_or(0), "name": what, "args": { "name": name } })
}

/// When a task ran: from when to when.
pub type Run = (u32, (u64, u64));

/// Which task each CPU ran: from one switch to the next.
pub fn runs(recording: &Recording) -> BTreeMap<usize, Vec<Run>> {
    let mut runs: BTreeMap<usize, Vec<Run>> = BTreeMap::new();
    for (cpu, record) in &recording.records {
        let runs = runs.entry(*cpu).or_default();
        match runs.last_mut() {
            Some((_, time)) => time.1 = record.time,
            None => runs.push((record.task, (record.time, record.time))),
        }
        if record.event == Event::Switch {
            runs.push((record.value as u32, (record.time, record.time)));
        }
    }
    runs
}
