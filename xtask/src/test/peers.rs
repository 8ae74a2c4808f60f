//! Suite `peers`: the kernels of `bench/peers` run, and the library's take no more instructions than their record says, by a fifth.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::report::Report;
use crate::bench::peers::{self, PEERS, Peer, ROWS};
use crate::repository;

/// Runs the suite; `ostd`, which takes a minute to build, with `--all`.
pub fn run(all: bool, report: &mut Report) -> Result<()> {
    peers::build(all)?;
    let results: Value = serde_json::from_str(&std::fs::read_to_string(repository("bench/peers.json"))?)?;
    for peer in &PEERS {
        let name = format!("peers/{}", peer.name);
        if peer.name == "ostd" && !all {
            report.skip(&name, "takes a minute to build: ./x test --all");
            continue;
        }
        report.outcome(&name, check(peer, &results).map_err(|error| format!("{error:#}")));
    }
    Ok(())
}

/// Another compiler gives other counts, but not by much; the flags are the same.
fn check(peer: &Peer, results: &Value) -> Result<()> {
    const CPU: &str = "max";
    let counts = peers::run(peer, CPU)?;
    let results = results.as_array().context("a list")?;
    let recorded = results.iter().find(|result| result["kernel"] == peer.name && result["cpu"] == CPU);
    let recorded = recorded.context("it is not in bench/peers.json")?;
    ensure!(recorded["flags"] == serde_json::json!(counts.flags), "{counts:?} and not {recorded}");
    for ((row, _), count) in ROWS.iter().zip(counts.rows) {
        let expected = recorded[*row].as_u64().context("a number")?;
        ensure!(count.abs_diff(expected) * 5 <= expected, "{row}: {count} instructions and not {expected}");
    }
    Ok(())
}
