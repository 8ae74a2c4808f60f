//! The timeline as one page of HTML that needs nothing else: `page.html`, with the crossings in it.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use serde_json::{Value, json};

use super::crossings::{Crossing, Kind};
use super::perfetto::runs;
use super::record::Recording;

/// What `page.html` has in the place of its data.
const PLACE: &str = "DATA";
const PAGE: &str = include_str!("page.html");

/// Where the pages are that it points to.
const DOCS: &str = "https://github.com/portcullis-rs/portcullis/blob/main/docs/";

/// Writes it, for this program.
pub fn write(program: &str, recording: &Recording, crossings: &[Crossing], out: &mut impl Write) -> Result<()> {
    let (before, after) = PAGE.split_once(PLACE).expect("a place for the data");
    // No text of the data ends the element that it is in.
    let data = data(program, recording, crossings).to_string().replace("</", "<\\/");
    write!(out, "{before}{data}{after}")?;
    Ok(())
}

fn data(program: &str, recording: &Recording, crossings: &[Crossing]) -> Value {
    let start = recording.records.first().map_or(0, |(_, record)| record.time);
    let micros = |time: u64| time.saturating_sub(start) as f64 / 1000.0;
    let tasks: BTreeMap<u32, String> =
        crossings.iter().map(|crossing| (crossing.task, recording.task(crossing.task))).collect();
    let kinds: Vec<Value> = Kind::ALL
        .iter()
        .map(|kind| {
            let (name, page) = kind.names();
            json!({ "name": name, "page": page })
        })
        .collect();
    let crossings: Vec<Value> = crossings
        .iter()
        .map(|crossing| {
            let moments: Vec<Value> =
                crossing.moments.iter().map(|(time, state, what)| json!([micros(*time), state, what])).collect();
            json!({
                "task": crossing.task, "cpu": crossing.cpu, "kind": crossing.kind as usize, "name": crossing.name,
                "from": micros(crossing.time.0), "to": micros(crossing.time.1), "result": crossing.result,
                "way_out": crossing.way_out, "moments": moments,
            })
        })
        .collect();
    let runs = runs(recording);
    let cpus: Vec<Value> = (0..runs.keys().last().map_or(0, |cpu| cpu + 1))
        .map(|cpu| {
            let of_cpu = runs.get(&cpu).into_iter().flatten();
            of_cpu.map(|(task, time)| json!([task, micros(time.0), micros(time.1)])).collect()
        })
        .collect();
    json!({
        "program": program, "docs": DOCS, "tasks": tasks, "kinds": kinds, "crossings": crossings, "cpus": cpus,
        "end": recording.records.last().map_or(0.0, |(_, record)| micros(record.time)),
        "lost": recording.lost.values().sum::<u64>(),
    })
}

#[cfg(test)]
mod tests {
    use portcullis::trace::Event;
    use portcullis_trace::Record;

    use super::*;
    use crate::trace::crossings;

    #[test]
    fn the_page_has_its_data_and_needs_nothing_else() {
        let events = [(Event::FromUser, 0), (Event::SyscallEnter, 39), (Event::SyscallExit, 2), (Event::ToUser, 1)];
        let records = events.iter().enumerate().map(|(time, &(event, value))| {
            let record = Record { time: 1000 * time as u64, event, task: 2, value };
            (1, record)
        });
        let recording = Recording {
            records: records.collect(),
            names: [(2, "</script><b>".to_owned())].into(),
            ..Recording::default()
        };
        let mut page = Vec::new();
        write("sh -c '</script>'", &recording, &crossings::of(&recording), &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        let begin = "<script id=\"data\" type=\"application/json\">";
        let data = page.split_once(begin).unwrap().1.split_once("</script>").unwrap().0;
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["program"], "sh -c '</script>'");
        assert_eq!(data["tasks"]["2"], "</script><b> 2");
        let crossing = &data["crossings"][0];
        assert_eq!(
            (&crossing["name"], &crossing["result"], &crossing["way_out"]),
            (&json!("getpid"), &json!("0x2"), &json!("SYSRET"))
        );
        assert_eq!((&crossing["from"], &crossing["to"], &data["end"]), (&json!(0.0), &json!(3.0), &json!(3.0)));
        assert_eq!(data["cpus"].as_array().unwrap().len(), 2);
        for outside in ["src=", "@import", "url(", "<link"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
