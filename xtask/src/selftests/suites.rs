//! Which of Linux's selftests are run.

use std::path::PathBuf;

/// One run of one program.
#[derive(Clone, Debug)]
pub struct Test {
    /// Suite, program and arguments: `x86/iopl`, `rseq/param_test -T b -M`.
    pub name: String,
    /// Width of the program.
    pub bits: u32,
    /// The program on the host.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables of its environment: `NAME=VALUE`.
    pub environment: Vec<&'static str>,
    /// How many seconds it may take.
    pub limit: u32,
    /// Whether a quick run leaves it out: one of hundreds of modes of the same program.
    pub extended: bool,
}

impl Test {
    /// One word that names it.
    pub fn id(&self) -> String {
        let (program, arguments) = self.name.split_once(' ').unwrap_or((&self.name, ""));
        let mut id = format!("{program}_{}", self.bits);
        for argument in arguments.split_whitespace() {
            id.push(',');
            id.push_str(argument);
        }
        id
    }

    /// The id of the plain mode of which this is an extended one: what that gives in stock Linux is recorded, and is what
    /// this one is to give.
    pub fn plain_id(&self) -> Option<String> {
        let plain = |id: &str| {
            let (modes, rest) = id.split_once(",-t,")?;
            let threads = rest.split(',').next()?;
            Some(format!("{modes},-t,{threads}"))
        };
        self.extended.then(|| plain(&self.id())).flatten()
    }

    /// Where the program is in the guest.
    pub fn guest_path(&self) -> String {
        let program = self.name.split(' ').next().unwrap_or_default();
        format!("/tests/{program}_{}", self.bits)
    }
}

/// The two widths.
pub const WIDTHS: [u32; 2] = [64, 32];

/// A suite that its own makefile builds, for one width at a time: directory, programs. Not every version of Linux has each.
pub const BY_MAKEFILE: &[(&str, &[&str])] = &[
    ("seccomp", &["seccomp_bpf"]),
    ("ptrace", &["get_syscall_info", "set_syscall_info", "get_set_sud", "peeksiginfo", "vmaccess"]),
    ("syscall_user_dispatch", &["sud_test"]),
    ("sigaltstack", &["sas"]),
    ("signal", &["sas", "mangle_uc_sigmask"]),
    (
        "futex/functional",
        &[
            "futex_wait",
            "futex_wait_timeout",
            "futex_wait_wouldblock",
            "futex_wait_uninitialized_heap",
            "futex_wait_private_mapped_file",
            "futex_waitv",
            "futex_requeue",
            "futex_requeue_pi",
            "futex_requeue_pi_signal_restart",
            "futex_requeue_pi_mismatched_ops",
            "futex_priv_hash",
            "robust_list",
        ],
    ),
    ("breakpoints", &["breakpoint_test"]),
];

/// The programs of the suite `rseq`: name, source, flag. Not every version of Linux has each.
pub const RSEQ: &[(&str, &str, Option<&str>)] = &[
    ("basic_test", "basic_test.c", None),
    ("syscall_errors_test", "syscall_errors_test.c", None),
    ("check_optimized", "check_optimized.c", None),
    ("legacy_check", "legacy_check.c", None),
    ("slice_test", "slice_test.c", None),
    ("param_test", "param_test.c", None),
    ("param_test_compare_twice", "param_test.c", Some("-DRSEQ_COMPARE_TWICE")),
];

/// The static C library registers rseq itself and tells nobody, so that the tests could not.
pub const RSEQ_ENVIRONMENT: &str = "GLIBC_TUNABLES=glibc.pthread.rseq=0";

/// The data structures of rseq's param_test.
const PARAM_TESTS: &[&str] = &["-T s", "-T l", "-T b", "-T b -M", "-T m", "-T m -M", "-T i", "-T r"];

/// How often each thread repeats its operation: a tenth of what run_param_test.sh asks for, as an emulator is slow.
const REPETITIONS: u32 = 100;
const THREADS: u32 = 6;

/// The modes of run_param_test.sh: arguments, and whether a quick run leaves them out.
pub fn param_test_modes() -> Vec<(String, bool)> {
    let mut injections = vec![(String::new(), false)];
    injections.extend((1..=9).map(|at| (format!(" -{at} 10000"), true)));
    for kind in ["-y", "-k", "-s 1"] {
        for every in [4, 2, 1] {
            injections.extend((7..=9).map(|at| (format!(" -{at} -1 -m {every} {kind}"), true)));
        }
    }
    let mut modes = Vec::new();
    for (injection, extended) in injections {
        for test in PARAM_TESTS {
            modes.push((format!("{test} -r {REPETITIONS} -t {THREADS}{injection}"), extended));
        }
    }
    modes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_of_param_test_is_there_once() {
        let mut modes = param_test_modes();
        assert_eq!(modes.len(), 8 * (1 + 9 + 3 * 3 * 3));
        assert_eq!(modes.iter().filter(|(_, extended)| !extended).count(), 8);
        modes.sort();
        modes.dedup();
        assert_eq!(modes.len(), 8 * 37);
    }

    #[test]
    fn an_id_is_one_word() {
        let test = Test {
            name: "rseq/param_test -T b -M".into(),
            bits: 32,
            program: PathBuf::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            limit: 1,
            extended: false,
        };
        assert_eq!(test.id(), "rseq/param_test_32,-T,b,-M");
        assert_eq!(test.guest_path(), "/tests/rseq/param_test_32");
        assert_eq!(test.plain_id(), None);
    }

    #[test]
    fn an_injection_has_its_plain_mode() {
        let test = |(mode, extended): &(String, bool)| Test {
            name: format!("rseq/param_test {mode}"),
            bits: 64,
            program: PathBuf::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            limit: 1,
            extended: *extended,
        };
        let tests: Vec<Test> = param_test_modes().iter().map(test).collect();
        let (extended, plain): (Vec<&Test>, Vec<&Test>) = tests.iter().partition(|test| test.extended);
        assert!(extended.iter().all(|test| plain.iter().any(|plain| Some(plain.id()) == test.plain_id())));
    }
}
