//! Suite `guest`: the programs of `tests/guest` in the reference kernel.
//!
//! Each is a static C program that reports its checks by lines (tests/guest/check.h). One boot per machine runs them all,
//! under tests/guest/runner.c as the first program. When the kernel dies, the program that ran has failed, and the rest
//! get another boot.

use std::collections::VecDeque;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::report::Report;
use crate::emulator::Emulator;
use crate::initramfs::Initramfs;
use crate::qemu::{Boot, Ending, Machine, MachineType, Outcome};
use crate::run::{environment, log_tail};
use crate::{is_current, kernel, repository, setup};

/// The machines of the suite: name, CPU model, machine type, number of CPUs, whether the kernel has page-table isolation, further
/// words of its command line.
const MACHINES: &[(&str, &str, MachineType, u32, bool, &str)] = &[
    ("intel-1", "Skylake-Client", MachineType::Microvm, 1, false, ""),
    ("intel-2", "Skylake-Client", MachineType::Microvm, 2, false, ""),
    ("isolated-2", "Skylake-Client", MachineType::Microvm, 2, true, ""),
    ("amd-1", "EPYC", MachineType::Microvm, 1, false, ""),
    ("amd-2", "EPYC", MachineType::Microvm, 2, false, " user-mode=tracked"),
    ("q35-2", "max", MachineType::Q35, 2, false, ""),
];

/// The machines' memory: the programs themselves are a hundred megabytes, in the initramfs and in the files that it becomes.
const MEMORY: &str = "384M";

/// With one CPU the guest's clock counts executed instructions, four nanoseconds each, and leaps to the next timer when the
/// guest idles: however busy the host is, a program sees the same times. With more, the CPUs would not run at once.
const STEADY_CLOCK: &str = "shift=2,sleep=off";

/// How long one program may take, in seconds of the guest's clock; the storm test takes its own time on top. The longest
/// takes two on a quiet host: this is for programs that hang.
const PROGRAM_LIMIT: u32 = 120;

/// How long a boot may take beside its programs.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// What the kernel logs when the gate's assertions do not hold: the programs only see that their number grew.
const BROKEN: &str = "invariant broken";

/// Whether `name` is among those that are asked for, which are all if none is named.
pub fn chosen(names: &[String], name: &str) -> bool {
    names.is_empty() || names.iter().any(|one| one == name)
}

/// The compiled programs: these, or all. The compiler runs on one thread, so on each of the host's.
pub fn programs(only: &[String]) -> Result<Vec<Program>> {
    let names = program_names()?;
    known("program", only, names.iter().map(String::as_str))?;
    let names: Vec<&String> = names.iter().filter(|name| chosen(only, name)).collect();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let compile = |names: &[&String]| names.iter().map(|name| compile_one(name)).collect::<Result<Vec<Program>>>();
    thread::scope(|scope| {
        let parts = names.chunks(names.len().div_ceil(threads).max(1));
        let parts: Vec<_> = parts.map(|names| scope.spawn(move || compile(names))).collect();
        let mut programs = Vec::new();
        for part in parts {
            programs.extend(part.join().expect("it does not panic")?);
        }
        Ok(programs)
    })
}

/// Fails for the first name that is none of those there are.
pub fn known<'a>(what: &str, chosen: &[String], there: impl Iterator<Item = &'a str>) -> Result<()> {
    let there: Vec<&str> = there.collect();
    match chosen.iter().find(|name| !there.contains(&name.as_str())) {
        Some(unknown) => bail!("there is no {what} `{unknown}`; there are {}", there.join(", ")),
        None => Ok(()),
    }
}

/// Runs the suite: these programs on these machines, all where none is named.
pub fn run(only: &[String], machines: &[String], storm_seconds: u32, report: &mut Report) -> Result<()> {
    known("machine", machines, MACHINES.iter().map(|machine| machine.0))?;
    let programs = programs(only)?;
    let programs: Vec<&Program> = programs.iter().collect();
    let mut targets = Vec::new();
    for &(name, cpu, machine, smp, isolation, words) in MACHINES.iter().filter(|machine| chosen(machines, machine.0)) {
        let machine = Machine {
            cpu: cpu.to_owned(),
            machine,
            smp,
            icount: (smp == 1).then(|| STEADY_CLOCK.to_owned()),
            memory: Some(MEMORY.to_owned()),
            ..Machine::default()
        };
        targets.push(Target { name, machine, isolation, fred: false, words, limit: None });
    }
    // With the steady clock a machine takes one thread of the host, and does not see how fast it is: those run side by side.
    let (steady, others): (Vec<Target>, Vec<Target>) =
        targets.into_iter().partition(|target| target.machine.icount.is_some());
    let (results, received) = mpsc::channel();
    let programs = &programs[..];
    thread::scope(|scope| {
        let mut runs = Vec::new();
        for target in &steady {
            let results = results.clone();
            let each =
                move |result| results.send((target.name, result)).expect("they are received until the last has come");
            runs.push(scope.spawn(move || target.run(programs, storm_seconds, each)));
        }
        drop(results);
        for (name, result) in received {
            result.report(&format!("guest/{name}"), report);
        }
        runs.into_iter().try_for_each(|run| run.join().expect("a run does not panic"))
    })?;
    for target in &others {
        target.run(programs, storm_seconds, |result| result.report(&format!("guest/{}", target.name), report))?;
    }
    Ok(())
}

/// A machine of a suite, and the kernel that runs there.
#[derive(Clone)]
pub struct Target<'a> {
    /// Its name in the results.
    pub name: &'a str,
    /// The machine.
    pub machine: Machine,
    /// Whether the kernel has page-table isolation.
    pub isolation: bool,
    /// Whether it is the kernel for CPUs with FRED.
    pub fred: bool,
    /// Further words of its command line.
    pub words: &'a str,
    /// How long a boot may take, if not as long as its programs may.
    pub limit: Option<Duration>,
}

impl Target<'_> {
    /// Runs the programs there, in as many boots as it takes; each result goes to `each` as it comes.
    pub fn run(&self, programs: &[&Program], storm_seconds: u32, mut each: impl FnMut(ProgramResult)) -> Result<()> {
        let build =
            kernel::Build { checked: true, isolation: self.isolation, fred: self.fred, ..kernel::Build::default() };
        let kernel = build.run()?;
        let mut waiting: VecDeque<&Program> = programs.iter().copied().collect();
        while !waiting.is_empty() {
            let batch: Vec<&Program> = waiting.iter().copied().collect();
            let mut session = Session::default();
            let outcome = boot(&kernel, &self.machine, &batch, storm_seconds, self.words, self.limit, |line| {
                if let Some(result) = session.line(line) {
                    waiting.retain(|program| program.name != result.program);
                    each(result);
                }
            })?;
            for line in outcome.log.lines().filter(|line| line.contains(BROKEN)) {
                println!("      {}: {line}", self.name);
            }
            let Some(died) = session.interrupted(&outcome) else {
                break;
            };
            println!("{}", log_tail(&outcome.log));
            waiting.retain(|program| program.name != died.program);
            each(died);
            if !session.started {
                break;
            }
        }
        Ok(())
    }
}

/// A compiled test program.
pub struct Program {
    /// Its name: the source's without `.c`.
    pub name: String,
    file: PathBuf,
}

impl Program {
    /// The compiled file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How it fails alone in this kernel, if it does.
    pub fn failure(&self, machine: &Machine, kernel: &Path) -> Result<Option<String>> {
        let mut session = Session::default();
        let mut result = None;
        let outcome = boot(kernel, machine, &[self], 5, "", None, |line| {
            result = session.line(line).or(result.take());
        })?;
        let interrupted = session.interrupted(&outcome);
        Ok(interrupted.or(result).map_or_else(|| Some("it did not run".to_owned()), |result| result.failure()))
    }
}

/// The programs of `tests/guest`, in alphabetical order.
fn program_names() -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let sources = repository("tests/guest");
    for entry in fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))? {
        let file = entry?.file_name();
        names.extend(file.to_str().and_then(|file| file.strip_suffix(".c")).map(str::to_owned));
    }
    names.retain(|name| name != "runner");
    names.sort();
    Ok(names)
}

/// Compiles one of them.
pub fn compile_one(name: &str) -> Result<Program> {
    Ok(Program { file: compile(name)?, name: name.to_owned() })
}

/// What a source asks of the compiler: `// build: FLAGS` in its first lines.
fn build_flags(source: &str) -> Vec<&str> {
    const FIRST_LINES: usize = 10;
    source
        .lines()
        .take(FIRST_LINES)
        .find_map(|line| line.strip_prefix("// build: "))
        .map_or(Vec::new(), |flags| flags.split_whitespace().collect())
}

/// Compiles `tests/guest/NAME.c` unless that was done since it, or a header, changed.
pub fn compile(name: &str) -> Result<PathBuf> {
    let source = repository("tests/guest").join(name).with_extension("c");
    compile_source(&source, &repository("target/guest").join(name))
}

/// A program from another place, which may use the headers of tests/guest.
pub fn compile_elsewhere(source: &Path) -> Result<Program> {
    let file = compile_source(source, &source.with_extension(""))?;
    let name = source.file_stem().context("a source has a name")?.to_string_lossy().into_owned();
    Ok(Program { file, name })
}

fn compile_source(source: &Path, program: &Path) -> Result<PathBuf> {
    let sources = repository("tests/guest");
    let program = program.to_owned();
    fs::create_dir_all(program.parent().context("a program is in a directory")?)?;
    let mut read = vec![source.to_owned()];
    for entry in fs::read_dir(&sources)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "h") {
            read.push(path);
        }
    }
    if is_current(&program, &read) {
        return Ok(program);
    }
    let text = fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
    let flags = build_flags(&text);
    if flags.contains(&"-m32") {
        setup::ensure(&[setup::GCC_32])?;
    }
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-static", "-pthread"])
        .args(&flags)
        .arg("-I")
        .arg(&sources)
        .arg("-o")
        .arg(&program)
        .arg(source);
    let status = gcc.stdin(Stdio::null()).status().context("cannot start gcc")?;
    if !status.success() {
        bail!("{} could not be compiled ({status}); tried {gcc:?}", source.display());
    }
    Ok(program)
}

/// Boots `kernel`, with further words of its command line, the runner and these programs; each line they print goes to `each`. It
/// may take as long as its programs may, or as long as `most`.
pub fn boot(
    kernel: &Path,
    machine: &Machine,
    programs: &[&Program],
    storm_seconds: u32,
    words: &str,
    most: Option<Duration>,
    each: impl FnMut(&str),
) -> Result<Outcome> {
    let limit = PROGRAM_LIMIT + storm_seconds;
    let mut root = Initramfs::busybox()?;
    let mut list = String::new();
    for program in programs {
        root.copy(Path::new("tests").join(&program.name), &program.file)?;
        list.push_str(&format!("{} {limit}\n", program.name));
    }
    root.file("tests/list", 0o644, list);
    root.copy("tests/runner", &compile("runner")?)?;
    let mut variables = environment();
    variables.push(format!("STORM_SECONDS={storm_seconds}"));
    variables.push(format!("CPUS={}", machine.smp));
    if machine.icount.is_some() || machine.emulator == Emulator::Bochs {
        variables.push("STEADY_CLOCK=1".to_owned());
    }
    root.argv(&["/tests/runner"]).env(&variables).symbols_of(kernel)?;
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let initrd = scratch.path().join("initramfs.cpio");
    root.write(&initrd)?;

    let mut boot = Boot::new(machine.clone(), kernel);
    boot.initrd = Some(initrd);
    boot.append = format!("stdin=stream{words}");
    // A hang that the runner does not get over is one program's; most take far less than their time.
    let long = BOOT_LIMIT + Duration::from_secs(u64::from(limit) + 5 * programs.len() as u64);
    boot.timeout = Some(most.unwrap_or(long));
    boot.run_lines(each)
}

/// What one program came to.
#[derive(Debug, PartialEq)]
pub struct ProgramResult {
    /// Its name.
    pub program: String,
    /// The checks that passed.
    pub passed: Vec<String>,
    /// The checks that failed, with the reasons.
    pub failures: Vec<(String, String)>,
    /// The checks that could not be made, with the reasons.
    pub skips: Vec<(String, String)>,
    excused: usize,
    hung: bool,
    announced: Option<usize>,
    ending: String,
    milliseconds: String,
}

/// What the runner adds to a program's checks, when invariants were broken meanwhile.
const INVARIANTS: &str = "invariants";

impl ProgramResult {
    fn new(program: &str) -> Self {
        ProgramResult {
            program: program.to_owned(),
            passed: Vec::new(),
            failures: Vec::new(),
            skips: Vec::new(),
            excused: 0,
            hung: false,
            announced: None,
            ending: String::new(),
            milliseconds: String::new(),
        }
    }

    /// What is wrong with it as a whole, beside the checks that failed.
    fn complaint(&self) -> Option<String> {
        let own = |checks: &[(String, String)]| checks.iter().filter(|(check, _)| check != INVARIANTS).count();
        let checks = self.passed.len() + own(&self.failures) + own(&self.skips);
        let failed = self.failures.len() + self.excused;
        match (&self.ending[..], self.announced) {
            _ if self.excused > 0 && self.hung => None,
            ("exit 0", Some(0)) => Some("it checked nothing".to_owned()),
            ("exit 0", Some(count)) if count == checks => None,
            (_, Some(count)) if count == checks && failed > 0 => None,
            (_, Some(count)) if count != checks => Some(format!("{count} checks announced, {checks} seen")),
            (ending, Some(_)) => Some(format!("all checks passed, but: {ending}")),
            (ending, None) => {
                let last =
                    self.passed.last().map_or(String::new(), |check| format!("; the last check that passed: {check}"));
                Some(format!("ended before it was done: {ending}{last}"))
            }
        }
    }

    /// Takes the failures of `checks` for a fault of the emulator: they are skipped for `reason`. False if none has failed.
    pub fn excuse(&mut self, checks: &[&str], reason: &str) -> bool {
        // A check's name may have a colon in it, as what comes after it has.
        let is_meant = |(check, seen): &(String, String)| {
            let line = format!("{check}: {seen}");
            checks.iter().any(|name| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
        };
        let (meant, others): (Vec<_>, Vec<_>) = self.failures.drain(..).partition(is_meant);
        self.failures = others;
        self.excused += meant.len();
        self.skips.extend(meant.iter().map(|(check, seen)| (check.clone(), format!("{reason}: {seen}"))));
        !meant.is_empty()
    }

    /// Takes it for the emulator's fault that the kernel hung: the program is skipped for `reason`. False if it did not hang.
    pub fn excuse_hang(&mut self, reason: &str) -> bool {
        if self.hung {
            self.excused += 1;
            self.skips.push(("the end".to_owned(), reason.to_owned()));
        }
        self.hung
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<String> {
        let check = self.failures.first().map(|(check, reason)| format!("not ok {check}: {reason}"));
        check.or_else(|| self.complaint())
    }

    /// Reports it below `place`.
    pub fn report(&self, place: &str, report: &mut Report) {
        let name = format!("{place}/{}", self.program);
        for (check, reason) in &self.skips {
            report.skip(&format!("{name}/{check}"), reason);
        }
        for (check, reason) in &self.failures {
            report.fail(&format!("{name}/{check}"), reason);
        }
        match self.complaint() {
            Some(complaint) => report.fail(&name, &complaint),
            None if !self.failures.is_empty() => report.pass_some(self.passed.len()),
            None if !self.passed.is_empty() => {
                report.pass_many(&name, self.passed.len(), &format!("{} ms", self.milliseconds))
            }
            None => {}
        }
    }
}

/// The output of one boot, put together.
#[derive(Default)]
pub struct Session {
    current: Option<ProgramResult>,
    ended: bool,
    /// Whether the runner said anything.
    pub started: bool,
}

impl Session {
    /// Takes one line; gives a result when a program ends with it.
    pub fn line(&mut self, line: &str) -> Option<ProgramResult> {
        if let Some(frame) = line.strip_prefix("=== ") {
            self.started = true;
            let mut words = frame.splitn(2, ' ');
            let (name, rest) = (words.next()?, words.next());
            return match rest {
                None => {
                    self.current = Some(ProgramResult::new(name));
                    None
                }
                Some(_) if name == "failed" => {
                    self.ended = true;
                    None
                }
                Some(rest) => {
                    let mut result = self.current.take()?;
                    let words: Vec<&str> = rest.split(' ').collect();
                    let milliseconds = words.len().checked_sub(2).map_or("", |at| words[at]);
                    result.milliseconds = milliseconds.to_owned();
                    result.ending = words[..words.len().saturating_sub(2)].join(" ");
                    Some(result)
                }
            };
        }
        let current = self.current.as_mut()?;
        let with_reason = |rest: &str| {
            let (check, reason) = rest.split_once(": ").unwrap_or((rest, "no reason given"));
            (check.to_owned(), reason.to_owned())
        };
        if let Some(check) = line.strip_prefix("ok ") {
            current.passed.push(check.to_owned());
        } else if let Some(rest) = line.strip_prefix("not ok ") {
            current.failures.push(with_reason(rest));
        } else if let Some(rest) = line.strip_prefix("skip ") {
            current.skips.push(with_reason(rest));
        } else if let Some(count) = line.strip_prefix("done ") {
            current.announced = count.parse().ok();
        }
        None
    }

    /// What was cut short, if the boot did not end as it should.
    pub fn interrupted(&mut self, outcome: &Outcome) -> Option<ProgramResult> {
        if self.ended && matches!(outcome.ending, Ending::Exit(_)) {
            return None;
        }
        let ending = match &outcome.ending {
            Ending::Panic => "the kernel panicked".to_owned(),
            Ending::TimedOut => format!("the kernel hung (no end after {:.0} s)", outcome.elapsed.as_secs_f32()),
            Ending::Exit(code) => format!("the runner ended early with {code}"),
            ending => format!("the emulator ended: {ending:?}"),
        };
        let nobody = if self.started { "runner" } else { "boot" };
        let mut result = self.current.take().unwrap_or_else(|| ProgramResult::new(nobody));
        result.announced = None;
        result.hung = matches!(outcome.ending, Ending::TimedOut);
        result.ending = ending;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_names_its_flags_in_its_first_lines() {
        assert_eq!(build_flags("// build: -m32 -fno-pie\nint main"), ["-m32", "-fno-pie"]);
        assert_eq!(build_flags("/* a\n * b */\n// build: -m32\n"), ["-m32"]);
        assert!(build_flags("int main(void)\n// builds").is_empty());
        assert!(build_flags(&("\n".repeat(10) + "// build: -m32\n")).is_empty());
    }

    fn session(lines: &str) -> (Vec<ProgramResult>, Session) {
        let mut session = Session::default();
        let results = lines.lines().filter_map(|line| session.line(line)).collect();
        (results, session)
    }

    fn outcome(ending: Ending) -> Outcome {
        Outcome { ending, log: String::new(), elapsed: Duration::ZERO }
    }

    #[test]
    fn a_program_is_judged_by_its_lines() {
        let failure = |body: &str, ending: &str| {
            let (results, _) = session(&format!("=== a\n{body}\n=== a {ending} 3 ms\n=== failed 0\n"));
            assert_eq!(results.len(), 1);
            results[0].failure()
        };
        assert_eq!(failure("ok x\nnoise\nskip y: no such CPU\ndone 2", "exit 0"), None);
        assert_eq!(failure("ok x\nnot ok y: 3 is not 4\ndone 2", "exit 1").unwrap(), "not ok y: 3 is not 4");
        assert_eq!(
            failure("ok x", "exit 0").unwrap(),
            "ended before it was done: exit 0; the last check that passed: x"
        );
        assert_eq!(failure("ok x\ndone 2", "exit 0").unwrap(), "2 checks announced, 1 seen");
        assert_eq!(failure("ok x\ndone 1", "signal 11").unwrap(), "all checks passed, but: signal 11");
        assert_eq!(failure("done 0", "exit 0").unwrap(), "it checked nothing");
        assert_eq!(
            failure("ok x\nok y", "timeout").unwrap(),
            "ended before it was done: timeout; the last check that passed: y"
        );
        assert_eq!(failure("", "timeout").unwrap(), "ended before it was done: timeout");
    }

    #[test]
    fn what_the_emulator_does_wrong_is_skipped() {
        let text =
            "=== a\nok x\nnot ok y: 1: 2\ndone 2\nnot ok invariants: 3 broken\n=== a exit 1 3 ms\n=== failed 1\n";
        let mut result = session(text).0.remove(0);
        assert!(!result.excuse(&["x"], "Bochs"));
        assert!(result.excuse(&["y: 1"], "Bochs"));
        assert_eq!(result.failure().unwrap(), "not ok invariants: 3 broken");
        assert!(result.excuse(&[INVARIANTS], "Bochs"));
        assert_eq!((result.failure(), result.skips.len()), (None, 2));
    }

    #[test]
    fn a_dead_kernel_fails_the_program_that_ran() {
        let (results, mut session) = session("=== a\nok x\ndone 1\n=== a exit 0 1 ms\n=== b\nok y\n");
        assert_eq!(results.len(), 1);
        let died = session.interrupted(&outcome(Ending::Panic)).unwrap();
        assert_eq!(
            (died.program.as_str(), died.failure().unwrap().as_str()),
            ("b", "ended before it was done: the kernel panicked; the last check that passed: y")
        );
    }

    #[test]
    fn a_complete_boot_is_no_interruption() {
        let (_, mut session) = session("=== a\nok x\ndone 1\n=== a exit 0 1 ms\n=== failed 0\n");
        assert_eq!(session.interrupted(&outcome(Ending::Exit(0))), None);
    }
}
