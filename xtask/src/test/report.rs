//! The results, printed as they come and summed up at the end.

use std::process::ExitCode;
use std::time::Duration;

/// What was found so far.
#[derive(Default)]
pub struct Report {
    passed: usize,
    failures: Vec<String>,
    skipped: usize,
    timings: Vec<(String, Duration)>,
}

impl Report {
    /// A test that passed.
    pub fn pass(&mut self, name: &str) {
        println!("ok    {name}");
        self.passed += 1;
    }

    /// Several tests that passed, in one line.
    pub fn pass_many(&mut self, name: &str, count: usize, note: &str) {
        println!("ok    {name} ({count} checks, {note})");
        self.passed += count;
    }

    /// Checks that passed in a test that failed: counted, but no line says that it is well.
    pub fn pass_some(&mut self, count: usize) {
        self.passed += count;
    }

    /// A test that failed.
    pub fn fail(&mut self, name: &str, reason: &str) {
        println!("FAIL  {name}: {reason}");
        // The reason's first line is enough the second time.
        self.failures.push(format!("{name}: {}", reason.lines().next().unwrap_or_default()));
    }

    /// A test that could not be run here.
    pub fn skip(&mut self, name: &str, reason: &str) {
        println!("skip  {name}: {reason}");
        self.skipped += 1;
    }

    /// A test with its outcome.
    pub fn outcome(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.pass(name),
            Err(reason) => self.fail(name, &reason),
        }
    }

    /// A figure that is worth seeing but decides nothing.
    pub fn note(&self, text: &str) {
        println!("      {text}");
    }

    /// How long a suite took.
    pub fn timing(&mut self, suite: &str, time: Duration) {
        self.timings.push((suite.to_owned(), time));
    }

    /// How many tests have failed.
    pub fn failed(&self) -> usize {
        self.failures.len()
    }

    /// How many results there are.
    pub fn results(&self) -> usize {
        self.passed + self.failures.len() + self.skipped
    }

    /// Prints timings, failures and the summary line.
    pub fn finish(self) -> ExitCode {
        println!();
        for (suite, time) in &self.timings {
            println!("{suite:12} {:6.1} s", time.as_secs_f32());
        }
        for failure in &self.failures {
            println!("FAIL  {failure}");
        }
        println!("{}", summary(self.passed, self.failures.len(), self.skipped));
        // Nothing tested is no success.
        if self.failures.is_empty() && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn summary(passed: usize, failed: usize, skipped: usize) -> String {
    let skips = if skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
    format!("{passed} passed, {failed} failed{skips}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_names_skips_only_when_there_are_some() {
        assert_eq!(summary(12, 0, 0), "12 passed, 0 failed");
        assert_eq!(summary(0, 3, 1), "0 passed, 3 failed, 1 skipped");
    }
}
