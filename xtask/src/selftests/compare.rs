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
        difference.iter().filter(|line| line.starts_with('-')).all(|line| line.contains("SKIP"))
    };
    if ours.passed() && (!stock.passed() || only_skips()) {
        return Verdict::Better;
    }
    EXPECTED
        .iter()
        .find(|expected| expected.test == test && expected.bits.contains(&bits))
        .map_or(Verdict::Different, |expected| Verdict::Known(expected.reason))
}

/// How our kernel fails in a test where stock does not: it, or the test in it, hangs, or it dies. Such a failure is final,
/// however often the test passes.
pub fn fails_alone(ours: &Outcome, stock: &Outcome) -> Option<&'static str> {
    if ours.killed_kernel() && !ours.ran_out_of_time() {
        Some("DIED")
    } else if ours.ran_out_of_time() && (ours.killed_kernel() || !stock.ran_out_of_time()) {
        Some("HUNG")
    } else {
        None
    }
}

/// What is made of one attempt at a test in both kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Both came to the same.
    Equal,
    /// Races decide what some tests come to, in stock too: both are to try again.
    Again,
    /// They came to different things, or ours hung or died.
    Failed(&'static str),
}

/// What a test has come to in both kernels, the last attempt last.
#[derive(Default, Debug)]
pub struct Attempts {
    pub ours: Vec<Outcome>,
    pub stock: Vec<Outcome>,
}

impl Attempts {
    /// Judges the last attempt; `last`: there is no further one. What one of the kernels has come to just now the other may have come
    /// to before.
    pub fn judge(&self, test: &str, bits: u32, last: bool) -> Attempt {
        let (Some(ours), Some(stock)) = (self.ours.last(), self.stock.last()) else { return Attempt::Again };
        if let Some(how) = fails_alone(ours, stock) {
            return Attempt::Failed(how);
        }
        let equal = |ours, stock| compare(test, bits, ours, stock) == Verdict::Equal;
        if self.stock.iter().any(|stock| equal(ours, stock)) || self.ours.iter().any(|ours| equal(ours, stock)) {
            Attempt::Equal
        } else if last {
            Attempt::Failed("DIFFERENT")
        } else {
            Attempt::Again
        }
    }
}

/// Lines of several processes come in any order.
fn sorted(lines: &[String]) -> Vec<&String> {
    let mut lines: Vec<&String> = lines.iter().collect();
    lines.sort();
    lines
}

/// The lines that only one has: `-` stock, `+` ours, and what the test itself says of ours.
pub fn difference(ours: &Outcome, stock: &Outcome) -> Vec<String> {
    let mut only_ours = sorted(&ours.lines);
    let mut out = Vec::new();
    for line in sorted(&stock.lines) {
        match only_ours.iter().position(|ours| *ours == line) {
            Some(at) => drop(only_ours.remove(at)),
            None => out.push(format!("- {line}")),
        }
    }
    for line in only_ours {
        out.push(format!("+ {line}"));
        out.extend(ours.explanation(line).map(|line| format!("  {line}")));
    }
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
        assert_eq!(compare("t", 64, &outcome("exit 0", &["ok 1 a"]), &pass), Verdict::Different);
        assert_eq!(difference(&fail, &pass), ["- ok 2 b", "+ not ok 2 b"]);

        let output = ["#  RUN  a", "ok 1 a", "#  RUN  b", "# b:7:Expected 1 (1) == 2 (2)", "not ok 2 b"];
        let told = Outcome { output: output.map(str::to_owned).to_vec(), ..fail };
        assert_eq!(
            difference(&told, &pass),
            ["- ok 2 b", "+ not ok 2 b", "  #  RUN  b", "  # b:7:Expected 1 (1) == 2 (2)"]
        );
    }

    #[test]
    fn a_hang_of_ours_gets_no_second_chance() {
        let pass = outcome("exit 0", &["ok 1 a"]);
        let fail = outcome("exit 1", &["not ok 1 a"]);
        let late = outcome("timeout", &[]);
        let hung = outcome("hang", &[]);
        let died = outcome("panic", &[]);
        let judge = |ours: &Outcome, stock: &Outcome, last| {
            Attempts { ours: vec![ours.clone()], stock: vec![stock.clone()] }.judge("t", 64, last)
        };
        for last in [false, true] {
            assert_eq!(judge(&late, &pass, last), Attempt::Failed("HUNG"));
            assert_eq!(judge(&late, &fail, last), Attempt::Failed("HUNG"));
            assert_eq!(judge(&hung, &pass, last), Attempt::Failed("HUNG"));
            assert_eq!(judge(&hung, &hung, last), Attempt::Failed("HUNG"));
            assert_eq!(judge(&died, &pass, last), Attempt::Failed("DIED"));
            // A test that waits for ever in stock, too.
            assert_eq!(judge(&late, &late, last), Attempt::Equal);
        }
        // Stock may have been unlucky.
        assert_eq!(judge(&pass, &late, false), Attempt::Again);
        assert_eq!(judge(&fail, &pass, false), Attempt::Again);
        assert_eq!(judge(&fail, &pass, true), Attempt::Failed("DIFFERENT"));
    }

    #[test]
    fn what_races_decide_is_compared_with_all_attempts() {
        let outcomes =
            |numbers: &[u32]| -> Vec<Outcome> { numbers.iter().map(|n| outcome(&format!("exit {n}"), &[])).collect() };
        let judge = |ours, stock| Attempts { ours: outcomes(ours), stock: outcomes(stock) }.judge("t", 64, true);
        assert_eq!(judge(&[1, 0], &[0, 1]), Attempt::Equal);
        assert_eq!(judge(&[1, 2], &[2, 3]), Attempt::Equal);
        assert_eq!(judge(&[3, 1], &[2, 3]), Attempt::Equal);
        // Equal before is not equal now.
        assert_eq!(judge(&[1, 2], &[1, 3]), Attempt::Failed("DIFFERENT"));
    }

    #[test]
    fn the_list_of_known_differences_is_short() {
        assert!(EXPECTED.len() <= 5 && EXPECTED.iter().all(|expected| !expected.reason.is_empty()));
    }
}
