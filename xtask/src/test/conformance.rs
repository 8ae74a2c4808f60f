//! Suites `conformance` and `bochs-conformance`: Linux's own selftests in the reference kernel, against the record of what stock
//! Linux gives.

use anyhow::Result;

use super::report::Report;
use crate::conformance::Row;
use crate::selftests::compare::Verdict;
use crate::{bochs, conformance, emulator, kernel};

/// Runs the suite `conformance`: all tests but the injections of rseq's param_test, on one machine. More of both:
/// `./x conformance --no-stock`.
pub fn run(report: &mut Report) -> Result<()> {
    for row in conformance::against_record(&kernel::build_checked(false)?)? {
        show("conformance", &row, report);
    }
    Ok(())
}

const INTEL: &str = bochs::DEFAULT_MODEL;
const AMD: &str = "ryzen";

/// The models of Bochs, and the models of QEMU with whose record each is compared.
const MODELS: &[(&str, &str)] = &[(INTEL, "Skylake-Client"), (AMD, "EPYC")];

/// A test whose result lines on Bochs are not those of the record, which stock Linux gave on QEMU, and one of the two emulators is
/// wrong.
struct Excuse {
    test: &'static str,
    bits: u32,
    cpus: &'static [&'static str],
    /// The lines that only the record has (`-`), and that only Bochs has (`+`): these, and no others.
    difference: &'static [&'static str],
    /// Whether they differ in each run.
    each_time: bool,
    reason: &'static str,
}

const SYSCALL_TF: &str = "Bochs raises #DB in ring 0 at each SYSCALL with TF, though SFMASK clears it";
const SYSCALL_32: &str = "QEMU 7.2 executes SYSCALL in 32-bit code of an Intel model; it is #UD";
const SYSENTER: &str =
    "Bochs executes SYSENTER in 64-bit mode of an AMD model; it is #UD. And it raises #DB in ring 0 at SYSCALL with TF";

/// What the runner says of doors that were entered with TF set.
const ONE: &[&str] = &["+ not ok invariants: 1 broken, see the kernel log"];
const FIVE: &[&str] = &["+ not ok invariants: 5 broken, see the kernel log"];
const IRET: &str = "an interrupt came while GS was null and not 0: QEMU keeps such a selector at IRET, Bochs zeroes it as processors do";

/// A test that makes calls with TF set.
const fn syscall_with_tf(
    test: &'static str,
    bits: u32,
    cpus: &'static [&'static str],
    difference: &'static [&'static str],
) -> Excuse {
    Excuse { test, bits, cpus, difference, each_time: true, reason: SYSCALL_TF }
}

const EXCUSES: &[Excuse] = &[
    Excuse {
        test: "x86/fsgsbase",
        bits: 64,
        cpus: &[INTEL, AMD],
        difference: &[
            "- [OK] GS/BASE remained #/#",
            "+ [OK] GS/BASE changed from #/# to #/# because IRET is defective",
        ],
        each_time: false,
        reason: IRET,
    },
    syscall_with_tf("x86/single_step_syscall", 64, &[INTEL, AMD], ONE),
    syscall_with_tf("x86/single_step_syscall", 32, &[AMD], ONE),
    syscall_with_tf("x86/syscall_nt", 64, &[INTEL, AMD], FIVE),
    syscall_with_tf("x86/syscall_nt", 32, &[AMD], FIVE),
    syscall_with_tf("x86/unwind_vdso", 32, &[AMD], ONE),
    syscall_with_tf("x86/syscall_arg_fault", 64, &[INTEL], ONE),
    syscall_with_tf("x86/syscall_arg_fault", 32, &[AMD], ONE),
    Excuse {
        test: "x86/syscall_arg_fault",
        bits: 32,
        cpus: &[INTEL],
        difference: &[
            "- [OK] Seems okay",
            "- [OK] Seems okay",
            "+ [SKIP] Illegal instruction",
            "+ [SKIP] Illegal instruction",
        ],

        each_time: true,
        reason: SYSCALL_32,
    },
    Excuse {
        test: "x86/syscall_arg_fault",
        bits: 64,
        cpus: &[AMD],
        difference: &[
            "- [SKIP] Illegal instruction",
            "- [SKIP] Illegal instruction",
            "- [SKIP] Illegal instruction",
            "+ [OK] Seems okay",
            "+ [OK] Seems okay",
            "+ [OK] Seems okay",
            "+ not ok invariants: 1 broken, see the kernel log",
        ],

        each_time: true,
        reason: SYSENTER,
    },
];

/// Runs the suite `bochs-conformance`: the same tests on Bochs.
pub fn on_bochs(report: &mut Report) -> Result<()> {
    if emulator::bochs().is_none() {
        bochs::install()?;
    }
    let kernel = kernel::build_checked(false)?;
    for (cpu, qemu_cpu) in MODELS {
        let place = format!("bochs-conformance/{cpu}");
        for row in conformance::on_bochs(&kernel, cpu, qemu_cpu)? {
            match excuse(&row, cpu) {
                Some(excuse) if excuse.holds(&row.ours, &row.difference) => {
                    report.skip(&name(&place, &row), excuse.reason);
                }
                Some(excuse) if excuse.each_time && row.verdict.is_accepted() => {
                    report.fail(&name(&place, &row), "it is as in the record; see EXCUSES in test/conformance.rs");
                }
                _ => show(&place, &row, report),
            }
        }
    }
    Ok(())
}

fn excuse(row: &Row, cpu: &str) -> Option<&'static Excuse> {
    EXCUSES.iter().find(|excuse| excuse.test == row.test && excuse.bits == row.bits && excuse.cpus.contains(&cpu))
}

impl Excuse {
    /// Whether the test came to a good end, and differs in these lines alone.
    fn holds(&self, ours: &str, difference: &[String]) -> bool {
        // What the test says of a line is indented.
        ours.starts_with("exit 0") && difference.iter().filter(|line| !line.starts_with(' ')).eq(self.difference)
    }
}

fn name(place: &str, row: &Row) -> String {
    format!("{place}/{}, {} bits", row.test, row.bits)
}

fn show(place: &str, row: &Row, report: &mut Report) {
    let name = name(place, row);
    match &row.verdict {
        Verdict::Different => {
            let mut reason = format!("{} (stock: {})", row.ours, row.stock);
            for line in &row.difference {
                reason.push_str(&format!("\n      {line}"));
            }
            report.fail(&name, &reason);
        }
        Verdict::Known(reason) => {
            report.pass(&name);
            report.note(&format!("{} where stock gives {}: {reason}", row.ours, row.stock));
        }
        _ => report.pass(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excuse_is_for_its_lines_alone() {
        let lines = |lines: &[&str]| -> Vec<String> { lines.iter().map(|line| (*line).to_owned()).collect() };
        let excuse = &EXCUSES[1];
        assert!(excuse.holds("exit 0, 6/7", &lines(excuse.difference)));
        assert!(!excuse.holds("exit 1, 6/7", &lines(excuse.difference)));
        assert!(!excuse.holds("exit 0, 6/6", &[]));
        assert!(!excuse.holds("exit 0, 5/7", &lines(&[excuse.difference[0], "+ [FAIL] No SIGTRAP"])));
    }

    #[test]
    fn excuses_name_tests_that_there_are() {
        let record = std::fs::read_to_string(crate::repository("tests/conformance/stock.txt")).unwrap();
        for excuse in EXCUSES {
            let id = format!("== {}_{}", excuse.test, excuse.bits);
            assert!(record.lines().any(|line| line == id), "{id}");
        }
    }
}
