//! The timeline as text: a line per span, in the order in which they begin.

use std::io::{Result, Write};

use super::record::Recording;
use super::spans::Span;

/// Writes it.
pub fn write(recording: &Recording, spans: &[Span], out: &mut impl Write) -> Result<()> {
    let start = recording.records.first().map_or(0, |(_, record)| record.time);
    writeln!(out, "{:>12} {:>10}  CPU  {:18} what", "µs", "took µs", "task")?;
    for span in spans {
        let line = format!(
            "{:12.1} {:10.1}  {:3}  {:18} {}{} {}",
            micros(span.time.0 - start),
            micros(span.time.1 - span.time.0),
            span.cpu,
            recording.task(span.task),
            "  ".repeat(span.depth),
            span.name,
            span.result
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}
