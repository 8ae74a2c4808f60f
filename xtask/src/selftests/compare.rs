//! When two outcomes are equal, and which differences are known.

use super::Outcome;

/// What a comparison says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Same ending, same result lines.
    Equal,
    /// Ours passes where stock does not, or skips a part.
    Better,
    /// Stock dies of it on this machine; ours does as stock on others, or gives the signal.
    Survives,
    /// Different, for this reason.
    Known(&'static str),
    /// Different.
    Different,
}

impl Verdict {
    /// Whether this may be.
    pub fn is_accepted(&self) -> bool {
        *self != Verdict::Different
    }
}

/// A difference that is known.
struct Expected {
    /// The test's name.
    test: &'static str,
    bits: &'static [u32],
    reason: &'static str,
}

/// At most five.
const EXPECTED: &[Expected] = &[Expected {
    test: "x86/sigaltstack",
    bits: &[64, 32],
    reason: "with x87, SSE and AVX state alone a frame fits the smallest alternate stack: none is too small",
}];

/// Compares the outcomes of one test.
pub fn compare(test: &str, bits: u32, ours: &Outcome, stock: &Outcome) -> Verdict {
    if ours.ending == stock.ending && sorted(&ours.lines) == sorted(&stock.lines) {
        return Verdict::Equal;
    }
    let only_skips = || {
        let difference = difference(ours, stock);
        difference
            .iter()
            .filter(|line| line.starts_with('-'))
            .all(|line| line.contains("SKIP"))
    };
    if ours.passed() && (!stock.passed() || only_skips()) {
        return Verdict::Better;
    }
    EXPECTED
        .iter()
        .find(|expected| expected.test == test && expected.bits.contains(&bits))
        .map_or(Verdict::Different, |expected| Verdict::Known(expected.reason))
}

/// Lines of several processes come in any order.
fn sorted(lines: &[String]) -> Vec<&String> {
    let mut lines: Vec<&String> = lines.iter().collect();
    lines.sort();
    lines
}

/// The lines that only one has: `-` stock, `+` ours.
pub fn difference(ours: &Outcome, stock: &Outcome) -> Vec<String> {
    let mut only_ours = sorted(&ours.lines);
    let mut out = Vec::new();
    for line in sorted(&stock.lines) {
        match only_ours.iter().position(|ours| *ours == line) {
            Some(at) => drop(only_ours.remove(at)),
            None => out.push(format!("- {line}")),
        }
    }
    out.extend(only_ours.iter().map(|line| format!("+ {line}")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(record: &str, lines: &[&str]) -> Outcome {
        Outcome::from_record(record, lines.iter().map(|line| (*line).to_owned()).collect()).unwrap()
    }

    #[test]
    fn lines_decide_and_better_is_accepted() {
        let pass = outcome("exit 0", &["ok 1 a", "ok 2 b"]);
        let moved = outcome("exit 0", &["ok 2 b", "ok 1 a"]);
        let fail = outcome("exit 0", &["ok 1 a", "not ok 2 b"]);
        assert_eq!(compare("t", 64, &pass, &moved), Verdict::Equal);
        assert_eq!(compare("t", 64, &pass, &fail), Verdict::Better);
        assert_eq!(compare("t", 64, &fail, &pass), Verdict::Different);
        assert_eq!(compare("t", 64, &fail, &fail), Verdict::Equal);
        let skip = outcome("exit 0", &["ok 1 a", "ok 2 b # SKIP no such CPU"]);
        assert_eq!(compare("t", 64, &pass, &skip), Verdict::Better);
        assert_eq!(
            compare("t", 64, &outcome("exit 0", &["ok 1 a"]), &pass),
            Verdict::Different
        );
        assert_eq!(difference(&fail, &pass), ["- ok 2 b", "+ not ok 2 b"]);
    }

    #[test]
    fn the_list_of_known_differences_is_short() {
        assert!(EXPECTED.len() <= 5 && EXPECTED.iter().all(|expected| !expected.reason.is_empty()));
    }
}
