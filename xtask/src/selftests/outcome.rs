//! What one test came to, read off the guest's output.

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this exit status.
    Exit(u32),
    /// Killed by this signal.
    Signal(u32),
    /// It took too long, and was killed.
    Timeout,
    /// The kernel died under it.
    Panic,
    /// The kernel stopped saying anything.
    Hang,
}

/// What one test came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Its result lines, without what varies from run to run.
    pub lines: Vec<String>,
    /// All that it printed.
    pub output: Vec<String>,
}

/// How a line that is a result starts: TAP's, and the x86 suite's own.
const RESULTS: &[&str] = &["ok ", "not ok ", "[OK]", "[FAIL]", "[SKIP]", "1..", "Bail out!"];

impl Outcome {
    fn new(ending: Ending, output: Vec<String>) -> Self {
        let lines = output
            .iter()
            .filter(|line| RESULTS.iter().any(|start| line.starts_with(start)))
            // unwind_vdso's line for each single step in the vDSO: how many there are depends on its code.
            .filter(|line| !line.starts_with("[OK]\t  NR = "))
            .map(|line| normalise(line))
            .collect();
        Outcome { ending, lines, output }
    }

    /// How many lines say that something failed.
    pub fn failures(&self) -> usize {
        let failed = |line: &&String| line.starts_with("not ok ") || line.starts_with("[FAIL]");
        self.lines.iter().filter(failed).count()
    }

    /// What the test printed on the way to a result line: TAP's diagnostics right before it.
    pub fn explanation(&self, result: &str) -> impl Iterator<Item = &str> {
        let end = self.output.iter().position(|line| normalise(line) == result);
        let before = &self.output[..end.unwrap_or(0)];
        let start = before.iter().rposition(|line| !line.starts_with('#')).map_or(0, |at| at + 1);
        before[start..].iter().map(String::as_str)
    }

    /// Whether all is well.
    pub fn passed(&self) -> bool {
        self.ending == Ending::Exit(0) && self.failures() == 0
    }

    /// Whether the kernel did not live through it.
    pub fn killed_kernel(&self) -> bool {
        matches!(self.ending, Ending::Panic | Ending::Hang)
    }

    /// Whether a limit of time ended it: the runner's, or ours.
    pub fn ran_out_of_time(&self) -> bool {
        matches!(self.ending, Ending::Timeout | Ending::Hang)
    }

    /// A few words.
    pub fn summary(&self) -> String {
        let ending = match self.ending {
            Ending::Exit(code) => format!("exit {code}"),
            Ending::Signal(signal) => format!("signal {signal}"),
            Ending::Timeout => "timeout".to_owned(),
            Ending::Panic => "panic".to_owned(),
            Ending::Hang => "hang".to_owned(),
        };
        let results = self.lines.iter().filter(|line| !line.starts_with("1.."));
        let good = results.clone().filter(|line| {
            (line.starts_with("ok ") || line.starts_with("[OK]")) && !line.to_uppercase().contains("# SKIP")
        });
        let (all, good) = (results.count(), good.count());
        if all == 0 { ending } else { format!("{ending}, {good}/{all}") }
    }

    /// The ending that [`Outcome::summary`] begins with, read back.
    pub fn from_record(summary: &str, lines: Vec<String>) -> Option<Outcome> {
        let ending = summary.split(',').next()?;
        let number = |rest: &str| rest.parse().ok();
        let ending = match ending {
            "timeout" => Ending::Timeout,
            "panic" => Ending::Panic,
            "hang" => Ending::Hang,
            _ => match ending.split_once(' ')? {
                ("exit", code) => Ending::Exit(number(code)?),
                ("signal", signal) => Ending::Signal(number(signal)?),
                _ => return None,
            },
        };
        Some(Outcome { ending, lines, output: Vec::new() })
    }
}

/// A line without addresses, process numbers and times: hexadecimal numbers and long decimal ones become `#`.
fn normalise(line: &str) -> String {
    const SHORT: usize = 3;
    let mut out = String::new();
    let mut rest = line.trim_end();
    while let Some(first) = rest.chars().next() {
        // One test prints the prefix twice.
        let hex = rest.trim_start_matches("0x");
        let prefix = rest.len() - hex.len();
        let hex_digits = match prefix {
            0 => 0,
            _ => hex.bytes().take_while(u8::is_ascii_hexdigit).count(),
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if hex_digits > 0 {
            out.push('#');
            rest = &rest[prefix + hex_digits..];
        } else if digits > 0 {
            // How many single steps a call takes depends on the vDSO's code.
            let varies = digits > SHORT || rest[digits..].starts_with(" traps");
            out.push_str(if varies { "#" } else { &rest[..digits] });
            rest = &rest[digits..];
        } else {
            out.push(if first == '\t' { ' ' } else { first });
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// The output of one boot, put together.
#[derive(Default)]
pub struct Transcript {
    current: Option<(String, Vec<String>)>,
    /// Whether the runner said anything.
    pub started: bool,
    /// Whether the runner came to its end.
    pub ended: bool,
}

impl Transcript {
    /// Takes one line; gives a test's id and outcome when it ends with this line.
    pub fn line(&mut self, line: &str) -> Option<(String, Outcome)> {
        // A program may leave its last line without an end.
        let (before, frame) = match line.find("=== ") {
            Some(at) => (&line[..at], &line[at + 4..]),
            None => (line, ""),
        };
        if !before.is_empty()
            && let Some((_, output)) = &mut self.current
        {
            output.push(before.to_owned());
        }
        let words: Vec<&str> = frame.split(' ').collect();
        match words[..] {
            ["failed", _] => self.ended = true,
            [id] if !id.is_empty() => {
                self.started = true;
                self.current = Some((id.to_owned(), Vec::new()));
            }
            [id, ref ending @ .., _, "ms"] if self.current.as_ref().is_some_and(|(now, _)| now == id) => {
                let ending = match ending {
                    ["exit", code] => Ending::Exit(code.parse().ok()?),
                    ["signal", signal] => Ending::Signal(signal.parse().ok()?),
                    _ => Ending::Timeout,
                };
                let (id, output) = self.current.take()?;
                return Some((id, Outcome::new(ending, output)));
            }
            _ => {}
        }
        None
    }

    /// The test that ran when the boot ended, if one did, as ended so.
    pub fn interrupted(&mut self, ending: Ending) -> Option<(String, Outcome)> {
        let (id, output) = self.current.take()?;
        Some((id, Outcome::new(ending, output)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_varies_is_taken_out() {
        assert_eq!(normalise("[OK]\tat 0x7fff12 pid 12345 in 17\n"), "[OK] at # pid # in 17");
        assert_eq!(normalise("ok 12 global.test"), "ok 12 global.test");
        assert_eq!(normalise("at 0x0xf7f1e000, 0"), "at #, 0");
    }

    #[test]
    fn a_transcript_gives_outcomes() {
        let mut transcript = Transcript::default();
        let text = "noise\n=== a_64\n[RUN]\tx\n[OK]\tx\nno end=== a_64 exit 0 5 ms\n=== b_32\nnot ok 1 y\n";
        let outcomes: Vec<_> = text.lines().filter_map(|line| transcript.line(line)).collect();
        assert_eq!(outcomes.len(), 1);
        assert_eq!((outcomes[0].0.as_str(), outcomes[0].1.passed()), ("a_64", true));
        assert_eq!(outcomes[0].1.output.len(), 3);
        let (id, outcome) = transcript.interrupted(Ending::Panic).unwrap();
        assert_eq!((id.as_str(), outcome.summary().as_str()), ("b_32", "panic, 0/1"));
        let read = Outcome::from_record(&outcome.summary(), outcome.lines.clone()).unwrap();
        assert_eq!((read.ending, read.lines), (outcome.ending, outcome.lines));
    }
}
