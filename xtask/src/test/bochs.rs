//! Suite `bochs`: the programs of `tests/guest` in the reference kernel on Bochs, which is right about what QEMU is wrong about
//! (docs/emulators.md).
//!
//! What Bochs itself gets wrong is in [`WRONG`]: those checks are skipped, with the reason, and an entry of which nothing fails
//! any more is a failure. A program with an entry gets a boot of its own: what Bochs does wrong there shall not be taken for
//! another program's fault.

use anyhow::Result;

use super::guest::{self, Program, ProgramResult, Target};
use super::report::Report;
use crate::bochs;
use crate::emulator::{self, Emulator};
use crate::qemu::Machine;

/// The machines of the suite: name, CPU model, number of CPUs, whether the kernel has page-table isolation.
const MACHINES: &[(&str, &str, u32, bool)] = &[("intel-1", bochs::DEFAULT_MODEL, 1, false)];

/// Checks that fail because Bochs is wrong.
struct Wrong {
    program: &'static str,
    checks: &'static [&'static str],
    reason: &'static str,
}

const SYSCALL_TF: &str =
    "Bochs 3.1 raises #DB in ring 0 at the first instruction after a SYSCALL with TF, though SFMASK clears it";
const IDIV: &str = "Bochs 3.1 of Debian divides wrongly: IDIV of 64 bits";

const WRONG: &[Wrong] = &[
    Wrong { program: "door_flags", checks: &["invariants"], reason: SYSCALL_TF },
    Wrong { program: "ptrace_step", checks: &["invariants"], reason: SYSCALL_TF },
    Wrong {
        program: "ptrace_storm",
        checks: &["invariants", "the tracees slept while they were looked at"],
        reason: SYSCALL_TF,
    },
    Wrong {
        program: "timerfd",
        checks: &["monotonic: missed intervals", "real time: missed intervals", "boot time: missed intervals"],
        reason: IDIV,
    },
    Wrong {
        program: "usage",
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
    let (wrong, right): (Vec<Program>, Vec<Program>) =
        guest::programs(only)?.into_iter().partition(|program| WRONG.iter().any(|wrong| wrong.program == program.name));
    for &(name, cpu, smp, isolation) in MACHINES.iter().filter(|machine| guest::chosen(machines, machine.0)) {
        let machine = Machine { cpu: cpu.to_owned(), smp, emulator: Emulator::Bochs, ..Machine::default() };
        let target = Target { name, machine, isolation, words: "" };
        let place = format!("bochs/{name}");
        target.run(&right, storm_seconds, |result| result.report(&place, report))?;
        for program in &wrong {
            target.run(std::slice::from_ref(program), storm_seconds, |mut result| {
                for wrong in unfounded(&mut result) {
                    let checks = wrong.checks.join(", ");
                    report.fail(
                        &format!("{place}/{}", result.program),
                        &format!("none of these fails any more, so they leave the list in test/bochs.rs: {checks}"),
                    );
                }
                result.report(&place, report);
            })?;
        }
    }
    Ok(())
}

/// Excuses what is listed of a program's failures, and gives the entries of which nothing has failed.
fn unfounded(result: &mut ProgramResult) -> Vec<&'static Wrong> {
    let entries = WRONG.iter().filter(|wrong| wrong.program == result.program).collect::<Vec<_>>();
    entries.into_iter().filter(|wrong| !result.excuse(wrong.checks, wrong.reason)).collect()
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
        assert_eq!(unfounded(&mut result("ok x\ndone 1")).len(), 1);
        let mut wrong = result("ok x\ndone 1\nnot ok invariants: 48 broken");
        assert!(unfounded(&mut wrong).is_empty());
        assert_eq!(wrong.failure(), None);
    }

    #[test]
    fn the_programs_of_the_list_exist() {
        for wrong in WRONG {
            assert!(
                crate::repository("tests/guest").join(wrong.program).with_extension("c").exists(),
                "{}",
                wrong.program
            );
        }
    }
}
