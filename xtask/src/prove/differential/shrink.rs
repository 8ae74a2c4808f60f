//! From a script that differs to the fewest of its steps that still do.

use anyhow::Result;

use super::Pair;
use super::guest::{Job, Seen};

/// How many steps a script has: `STEPS` in tests/differential/boundary.c.
const STEPS: u32 = 24;

/// A script that was made small, and where the two kernels part.
pub struct Minimal {
    /// The steps that are left out.
    pub mask: u64,
    /// The lines before, in both.
    pub before: Vec<String>,
    /// The first that differ: the reference kernel's, Linux's.
    pub lines: [Vec<String>; 2],
}

/// Leaves out steps, one after the other, as long as the script still differs.
pub fn shrink(pair: &Pair, script: &Job) -> Result<Minimal> {
    let all = (1u64 << STEPS) - 1;
    // What comes behind the first difference does not count.
    let first = parting(pair.run(&[Job { log: true, ..script.clone() }])?);
    let last = first.before.iter().filter_map(|line| line.trim().strip_prefix("step ")).next_back();
    let last = last.and_then(|number| u32::from_str_radix(number, 16).ok()).unwrap_or(STEPS - 1);
    let mut mask = script.mask | (all & !((2u64 << last) - 1));
    if !differs(pair, script, &[mask])?[0] {
        mask = script.mask;
    }
    loop {
        let steps: Vec<u64> = (0..STEPS).map(|step| 1 << step).filter(|step| mask & step == 0).collect();
        // All but one at first, then one less.
        let candidates: Vec<u64> = steps.iter().map(|step| (all & !step) | script.mask).collect();
        let fewer: Vec<u64> = steps.iter().map(|step| mask | step).collect();
        let tried: Vec<u64> =
            candidates.into_iter().chain(fewer).filter(|tried| *tried != mask && *tried != all).collect();
        if tried.is_empty() {
            break;
        }
        let which = differs(pair, script, &tried)?;
        match tried.iter().zip(which).find(|(_, differs)| *differs) {
            Some((smaller, _)) => mask = *smaller,
            None => break,
        }
    }
    let Parting { before, lines } = parting(pair.run(&[Job { mask, log: true, ..script.clone() }])?);
    Ok(Minimal { mask, before, lines })
}

/// Which masks leave a difference.
fn differs(pair: &Pair, script: &Job, masks: &[u64]) -> Result<Vec<bool>> {
    let jobs: Vec<Job> = masks.iter().map(|mask| Job { mask: *mask, log: false, ..script.clone() }).collect();
    pair.differ(&jobs)
}

struct Parting {
    before: Vec<String>,
    lines: [Vec<String>; 2],
}

/// The first observable that differs.
fn parting([ours, stock]: [Seen; 2]) -> Parting {
    const SHOWN: usize = 4;
    // A line of the kernel's own is none of the program's.
    let lines = |seen: Seen| -> Vec<String> {
        let mut lines: Vec<String> =
            seen.lines.into_iter().filter(|line| line.starts_with("| ") || line.starts_with("  ")).collect();
        lines.extend(seen.died);
        lines
    };
    let (ours, stock) = (lines(ours), lines(stock));
    let same = ours.iter().zip(&stock).take_while(|(ours, stock)| ours == stock).count();
    let after = |lines: &[String]| lines.iter().skip(same).take(SHOWN).cloned().collect();
    Parting { before: ours[..same].to_vec(), lines: [after(&ours), after(&stock)] }
}
