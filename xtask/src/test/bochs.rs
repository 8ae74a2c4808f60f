//! Suite `bochs`: the programs of `tests/guest` in the reference kernel on Bochs, which is right about what QEMU is wrong about
//! (docs/emulators.md).
//!
//! What Bochs itself gets wrong is in [`WRONG`]: those checks are skipped, with the reason, and an entry of which nothing fails
//! any more is a failure. A program with an entry gets a boot of its own: what Bochs does wrong there shall not be taken for
//! another program's fault.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::guest::{self, Program, ProgramResult, Target};
use super::report::Report;
use crate::bochs;
use crate::emulator::{self, Emulator};
use crate::qemu::Machine;

/// Which kernel a machine boots.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Plain,
    Isolated,
    /// For FRED, which Debian's Bochs is built without: the machine is used if it is named, with `--bochs`.
    Fred,
}

/// The machines of the suite: name, CPU model, number of CPUs, kernel.
const MACHINES: &[(&str, &str, u32, Kernel)] = &[
    ("intel-1", bochs::DEFAULT_MODEL, 1, Kernel::Plain),
    ("intel-2", bochs::DEFAULT_MODEL, 2, Kernel::Plain),
    ("isolated-1", bochs::DEFAULT_MODEL, 1, Kernel::Isolated),
    ("amd-1", "ryzen", 1, Kernel::Plain),
    ("fred-1", bochs::DEFAULT_MODEL, 1, Kernel::Fred),
    ("fred-2", bochs::DEFAULT_MODEL, 2, Kernel::Fred),
];

/// Checks that fail because Bochs is wrong.
struct Wrong {
    program: &'static str,
    /// Where; on all machines of Debian's Bochs, if none is named.
    machines: &'static [&'static str],
    /// The checks, at least one of which fails each time. None: the program does not come to its end.
    checks: &'static [&'static str],
    reason: &'static str,
}

/// How long a program may take that is expected to hang. It takes less than a second where it does not.
const HANG_LIMIT: Duration = Duration::from_secs(60);

const SYSCALL_TF: &str =
    "Bochs 3.1 raises #DB in ring 0 at the first instruction after a SYSCALL with TF, though SFMASK clears it";
const IDIV: &str = "Bochs 3.1 of Debian divides wrongly: IDIV of 64 bits";

const BREAKPOINT: &str =
    "Bochs with two CPUs never leaves an instruction breakpoint: after an exception it looks at the old RIP";

const WRONG: &[Wrong] = &[
    Wrong { program: "door_flags", machines: &[], checks: &["invariants"], reason: SYSCALL_TF },
    Wrong {
        program: "fast_doors_32",
        machines: &["amd-1"],
        checks: &["no invariant of the gate was broken", "invariants"],
        reason: SYSCALL_TF,
    },
    Wrong { program: "ptrace_debug", machines: &["intel-2"], checks: &[], reason: BREAKPOINT },
    Wrong { program: "ptrace_step", machines: &[], checks: &["invariants"], reason: SYSCALL_TF },
    Wrong {
        program: "ptrace_storm",
        machines: &[],
        checks: &["invariants", "the tracees slept while they were looked at"],
        reason: SYSCALL_TF,
    },
    Wrong {
        program: "timerfd",
        machines: &[],
        checks: &["monotonic: missed intervals", "real time: missed intervals", "boot time: missed intervals"],
        reason: IDIV,
    },
    Wrong {
        program: "usage",
        machines: &[],
        checks: &[
            "RUSAGE_CHILDREN has grown by that",
            "a new process has no children that it has waited for",
            "waits are voluntary switches",
            "a stopped child's",
            "waitid tells, too",
            "counted once it is waited for, not before",
        ],
        reason: IDIV,
    },
];

/// Runs the suite: these programs on these machines, all where none is named.
pub fn run(only: &[String], machines: &[String], storm_seconds: u32, report: &mut Report) -> Result<()> {
    if emulator::bochs().is_none() {
        bochs::install()?;
    }
    guest::known("machine", machines, MACHINES.iter().map(|machine| machine.0))?;
    let programs = guest::programs(only)?;
    let chosen = |name: &str, kernel: Kernel| match machines {
        [] => kernel != Kernel::Fred,
        named => guest::chosen(named, name),
    };
    for &(name, cpu, smp, kernel) in MACHINES.iter().filter(|machine| chosen(machine.0, machine.3)) {
        let fred = kernel == Kernel::Fred;
        ensure!(
            !fred || emulator::bochs().is_some(),
            "Debian's Bochs is built without FRED: {name} needs --bochs and one that is built with it"
        );
        let machine = Machine { cpu: cpu.to_owned(), smp, emulator: Emulator::Bochs, fred, ..Machine::default() };
        let target = Target { name, machine, isolation: kernel == Kernel::Isolated, fred, words: "", limit: None };
        let place = format!("bochs/{name}");
        let (wrong, right): (Vec<&Program>, Vec<&Program>) =
            programs.iter().partition(|program| entries(&program.name, name).next().is_some());
        target.run(&right, storm_seconds, |result| result.report(&place, report))?;
        for program in wrong {
            let hangs = entries(&program.name, name).any(|wrong| wrong.checks.is_empty());
            let target = Target { limit: hangs.then_some(HANG_LIMIT), ..target.clone() };
            target.run(&[program], storm_seconds, |mut result| {
                for wrong in unfounded(&mut result, name) {
                    let gone = match wrong.checks {
                        [] => "it ends".to_owned(),
                        checks => format!("none of these fails any more: {}", checks.join(", ")),
                    };
                    report.fail(&format!("{place}/{}", program.name), &format!("{gone}; see WRONG in test/bochs.rs"));
                }
                result.report(&place, report);
            })?;
        }
    }
    Ok(())
}

/// What is listed of a program on a machine.
fn entries(program: &str, machine: &str) -> impl Iterator<Item = &'static Wrong> {
    let own = MACHINES.iter().any(|one| one.0 == machine && one.3 == Kernel::Fred);
    WRONG.iter().filter(move |wrong| {
        let everywhere = wrong.machines.is_empty() && !own;
        wrong.program == program && (everywhere || wrong.machines.contains(&machine))
    })
}

/// Excuses what is listed of a program's failures, and gives the entries of which nothing has failed.
fn unfounded(result: &mut ProgramResult, machine: &str) -> Vec<&'static Wrong> {
    let entries: Vec<&Wrong> = entries(&result.program, machine).collect();
    let mut excused = |wrong: &Wrong| match wrong.checks {
        [] => result.excuse_hang(wrong.reason),
        checks => result.excuse(checks, wrong.reason),
    };
    entries.into_iter().filter(|wrong| !excused(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::guest::Session;

    #[test]
    fn an_entry_without_a_failure_is_told() {
        let result = |body: &str| {
            let mut session = Session::default();
            let text = format!("=== door_flags\n{body}\n=== door_flags exit 0 1 ms\n");
            text.lines().find_map(|line| session.line(line)).unwrap()
        };
        assert_eq!(unfounded(&mut result("ok x\ndone 1"), "intel-1").len(), 1);
        let mut wrong = result("ok x\ndone 1\nnot ok invariants: 48 broken");
        assert!(unfounded(&mut wrong, "intel-1").is_empty());
        assert_eq!(wrong.failure(), None);
    }

    #[test]
    fn the_list_names_programs_and_machines_that_there_are() {
        for wrong in WRONG {
            assert!(
                crate::repository("tests/guest").join(wrong.program).with_extension("c").exists(),
                "{}",
                wrong.program
            );
        }
    }
}
