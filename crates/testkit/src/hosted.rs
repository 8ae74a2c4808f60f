//! Tiers (b) and (c): programs with a C library, which print a line for each check as it comes.
//!
//! They are the programs of the repository's folder `tests/guest` that ask nothing of a kernel but a Linux-like ABI. The pattern of a check
//! says which of the names that a program prints are of which rows; a name may match several. A check that matches none is in no row.

use crate::tiers::{Check, Kind, Program, Source, Tier};

/// The program that runs others, one after the other: the first of the guest's, or started by it.
pub const RUNNER: &str = "runner";

/// What goes beside the programs' own sources when they are compiled.
pub const FILES: &[(&str, &str)] = &[
    ("check.h", include_str!("../guest/check.h")),
    ("crossing.h", include_str!("../guest/crossing.h")),
    ("extended_state.h", include_str!("../guest/extended_state.h")),
    ("futex.h", include_str!("../guest/futex.h")),
    ("gate.h", include_str!("../guest/gate.h")),
    ("hooks.h", include_str!("../guest/hooks.h")),
    ("registers.h", include_str!("../guest/registers.h")),
    ("registers32.h", include_str!("../guest/registers32.h")),
    ("rseq.h", include_str!("../guest/rseq.h")),
    ("sockets.h", include_str!("../guest/sockets.h")),
    ("tracer.h", include_str!("../guest/tracer.h")),
    ("runner.c", include_str!("../guest/runner.c")),
];

/// The system calls that the programs of tier (b) need, the C library's included, by their names in `<sys/syscall.h>`. Where others
/// give ENOSYS the programs come to the same.
pub const SIGNAL_CALLS: &[&str] = &[
    "arch_prctl",
    "brk",
    "clone",
    "execve",
    "exit",
    "exit_group",
    "fork",
    "getpid",
    "gettid",
    "kill",
    "mmap",
    "mprotect",
    "munmap",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_setaffinity",
    "sched_yield",
    "setitimer",
    "setpgid",
    "sigaltstack",
    "tgkill",
    "wait4",
    "write",
];

const fn hosted(name: &'static str, text: &'static str, checks: &'static [Check]) -> Program {
    Program { name, source: Source::Hosted(text), checks, may_be_refused: false }
}

macro_rules! hosted {
    ($tier:ident, $name:literal, [$(($pattern:literal, $rows:expr)),*]) => {
        (
            Tier::$tier,
            hosted(
                $name,
                include_str!(concat!("../guest/", $name, ".c")),
                &[$(Check { name: $pattern, kind: Kind::Pattern, rows: $rows }),*],
            ),
        )
    };
}

/// The programs, each with its tier.
#[rustfmt::skip]
pub const HOSTED: &[(Tier, Program)] = &[
    hosted!(B, "altstack", [("*", &[27])]),
    hosted!(C, "aslr", []),
    hosted!(C, "aslr_32", []),
    hosted!(C, "call_abi", [("*", &[9])]),
    hosted!(C, "call_poked_32", [("*", &[9])]),
    hosted!(C, "call_stops", [("*", &[10])]),
    hosted!(C, "call_stops_32", [("*", &[10])]),
    hosted!(C, "clone3", []),
    hosted!(C, "console_tty", []),
    hosted!(C, "cow_fork", []),
    hosted!(C, "descriptor_stores", []),
    hosted!(C, "descriptor_stores_32", []),
    hosted!(B, "door_flags", [("*flags TF", &[25, 41]), ("each single step reported once", &[25]), ("*flags DF", &[28, 41]), ("*", &[41])]),
    hosted!(B, "door_stack", [("*", &[42])]),
    hosted!(C, "efault", []),
    hosted!(C, "every_instruction", []),
    hosted!(C, "every_instruction_32", []),
    hosted!(B, "exception_registers", [("#GP int *", &[24])]),
    hosted!(C, "exec_credentials", []),
    hosted!(C, "exec_files", []),
    hosted!(C, "extended_attributes", []),
    hosted!(C, "extended_attributes_32", []),
    hosted!(C, "fast_doors_32", [("*unknown numbers", &[10, 43]), ("*random numbers", &[10, 43]), ("*single steps", &[25, 41]), ("*registers and flags", &[41]), ("*a stack that cannot be read is a SIGSEGV", &[42])]),
    hosted!(B, "fpu_registers", [("*", &[15])]),
    hosted!(B, "fsgsbase", [("*", &[33])]),
    hosted!(C, "futex", []),
    hosted!(C, "futex_32", []),
    hosted!(C, "futex_pi", []),
    hosted!(C, "futex_pi_32", []),
    hosted!(C, "hook_dispatch", []),
    hosted!(C, "hook_rseq", [("*", &[38])]),
    hosted!(C, "hook_seccomp", [("what a tracer makes of a call is judged", &[18]), ("a call is judged by its door", &[9])]),
    hosted!(C, "hostile_arguments", []),
    hosted!(C, "int80", [("an unknown number leaves nothing behind", &[9]), ("nor does a signal", &[9]), ("fork: the child's calls are 64-bit ones", &[9]), ("number *", &[10, 43]), ("random numbers", &[10, 43]), ("read, SA_RESTART", &[34]), ("nanosleep, stopped and continued", &[34])]),
    hosted!(C, "io_ports", [("*", &[20])]),
    hosted!(C, "job_control", [("an alarm kills for (;;);", &[26])]),
    hosted!(C, "ldt", [("IRET to*", &[3]), ("a 16-bit data segment in the GDT", &[4]), ("ESP on a 16-bit stack", &[5])]),
    hosted!(C, "membarrier", []),
    hosted!(C, "memory_files", []),
    hosted!(C, "memory_files_32", []),
    hosted!(C, "memory_map", []),
    hosted!(C, "memory_mappings", []),
    hosted!(C, "memory_races", []),
    hosted!(C, "mounts", []),
    hosted!(C, "mounts_32", []),
    hosted!(C, "mov_ss", [("*", &[8])]),
    hosted!(C, "namespaces", []),
    hosted!(C, "openat2", []),
    hosted!(C, "permissions", []),
    hosted!(C, "pidfd", []),
    hosted!(C, "pidfd_32", []),
    hosted!(C, "pipes_poll", []),
    hosted!(C, "pkeys", []),
    hosted!(C, "posix_timers", []),
    hosted!(C, "posix_timers_32", []),
    hosted!(C, "preempt", [("each of three spinning tasks runs", &[26]), ("a sleeper gets the CPU back from a spinning task", &[26])]),
    hosted!(C, "proc_fd", []),
    hosted!(C, "proc_syscall", []),
    hosted!(C, "processors", []),
    hosted!(C, "ptrace_compat", [("a bad RIP*", &[2]), ("number 20 is of the 32-bit table", &[9])]),
    hosted!(C, "ptrace_debug", [("*refused", &[17]), ("kernel addresses are refused", &[17]), ("what is refused has no effect", &[17]), ("random writes", &[17]), ("the kernel's accesses stop nobody", &[8])]),
    hosted!(C, "ptrace_exec", []),
    hosted!(C, "ptrace_kill", [("*", &[16])]),
    hosted!(C, "ptrace_orphans", []),
    hosted!(C, "ptrace_registers", [("a bad RIP*", &[2]), ("bad RIPs at every stop*", &[2]), ("a component bit*", &[14]), ("a compacted state", &[14]), ("a reserved word", &[14]), ("a bad MXCSR", &[14]), ("IOPL stays the kernel's", &[20]), ("the kernel's CS", &[22]), ("the kernel's DS", &[22]), ("a bad CS*", &[22]), ("then the signal", &[34]), ("cancelled, it does not restart", &[34]), ("the flags arrive", &[36]), ("each flag is taken or not", &[20, 36]), ("the program sees the edit", &[36])]),
    hosted!(C, "ptrace_step", [("a step over a system call*", &[25]), ("a flag that the program sets is seen", &[36]), ("and stays when the tracer steps no more", &[36])]),
    hosted!(C, "ptrace_stops", [("signals do not release a stop", &[40]), ("it is still stopped", &[40]), ("one stop at entry and one at exit", &[10])]),
    hosted!(C, "ptrace_storm", [("*", &[16])]),
    hosted!(C, "pty", []),
    hosted!(C, "restart_again", [("*", &[34])]),
    hosted!(C, "restart_again_32", [("*", &[34])]),
    hosted!(C, "robust_list", []),
    hosted!(C, "robust_list_32", []),
    hosted!(C, "rseq_extended", []),
    hosted!(C, "rseq_slice", []),
    hosted!(C, "signal32", [("*flags forged", &[20]), ("random frames", &[22]), ("*without a frame", &[30]), ("the state anywhere", &[14])]),
    hosted!(B, "signal_actions", []),
    hosted!(C, "signal_queue", [("*", &[29])]),
    hosted!(B, "signal_registers", [("ITIMER*", &[26, 35])]),
    hosted!(B, "sigreturn_flags", [("*", &[20]), ("random flags", &[35])]),
    hosted!(B, "sigreturn_forged", [("cold sigreturn*", &[30]), ("CS *", &[3, 22]), ("SS *", &[3, 22]), ("*", &[22])]),
    hosted!(B, "sigreturn_xstate", [("*", &[14])]),
    hosted!(C, "sleep_pending", [("*", &[37])]),
    hosted!(C, "sockets_inet", []),
    hosted!(C, "sockets_inet_32", []),
    hosted!(C, "sockets_unix", []),
    hosted!(C, "sockets_unix_32", []),
    hosted!(C, "storm", [("*", &[15, 29])]),
    hosted!(C, "structures_32", []),
    hosted!(B, "syscall_numbers", [("*", &[10, 43]), ("unknown numbers while signals come", &[34]), ("RAX *", &[34])]),
    hosted!(C, "syscall_registers", []),
    hosted!(C, "syscall_restart", [("*", &[34])]),
    hosted!(B, "sysret_noncanonical", [("no SYSRET to*", &[1]), ("*", &[32])]),
    hosted!(B, "sysret_ss", [("*", &[21])]),
    hosted!(C, "threads", []),
    hosted!(C, "timerfd", []),
    hosted!(C, "timerfd_32", []),
    hosted!(C, "tls32", [("a 16-bit segment", &[4]), ("code", &[4])]),
    hosted!(C, "usage", []),
    hosted!(C, "usage_32", []),
    hosted!(C, "vdso", []),
    hosted!(C, "vdso_32", []),
    hosted!(C, "waits", []),
    hosted!(C, "wake_up_preemption", []),
];

/// The other programs of `tests/guest`: they are for the reference kernel, and why.
pub const REFERENCE_KERNEL_ONLY: &[(&str, &str)] = &[
    ("grace_period", "it asks /dev/gate for grace periods"),
    ("hook_audit", "/dev/audit is the audit log"),
    ("hook_patch", "/dev/hooks makes a live patch"),
    ("hook_probe", "/dev/hooks puts probes into its text"),
    ("hook_probe_32", "/dev/hooks puts probes into its text"),
    ("hook_trace", "/dev/trace shows trace points"),
    ("hook_user_return", "/dev/hooks changes the register that is put back"),
    ("hook_work", "/dev/hooks queues work"),
    ("isolation", "/dev/user-table walks the page tables of user mode"),
    ("kernel_frame", "/dev/gate reads the frames"),
    ("memory_exhaustion", "it takes all memory, and does so in the reference kernel alone"),
    ("nmi_nested", "/dev/gate sends NMIs"),
    ("paranoid_gs", "/dev/gate puts the user's GS in"),
    ("preempt_lazy", "/dev/gate keeps a task in the kernel"),
    ("protections", "/dev/gate shows the control registers"),
    ("watch_debug", "/dev/gate shows the place of the handler's memory"),
    ("witness", "it compares with Linux itself: results differ between configurations"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guest");

    fn files(extension: &str) -> BTreeSet<String> {
        let names = fs::read_dir(SOURCES).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(extension)).collect()
    }

    #[test]
    fn each_guest_program_has_a_tier_or_a_reason_to_have_none() {
        let names = HOSTED.iter().map(|(_, program)| program.name);
        let names = names.chain(REFERENCE_KERNEL_ONLY.iter().map(|(name, _)| *name)).chain([RUNNER]);
        let ours: BTreeSet<String> = names.map(|name| format!("{name}.c")).collect();
        let there = files(".c");
        let differing: Vec<&String> = ours.symmetric_difference(&there).collect();
        assert!(
            differing.is_empty(),
            "in HOSTED or REFERENCE_KERNEL_ONLY alone, or in tests/guest alone: {differing:?}"
        );
    }

    #[test]
    fn each_header_comes_along() {
        let ours: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert!(files(".h").is_subset(&ours));
    }

    #[test]
    fn what_needs_the_reference_kernel_says_so_itself() {
        for (name, _) in REFERENCE_KERNEL_ONLY {
            let text = fs::read_to_string(format!("{SOURCES}/{name}.c")).unwrap();
            assert!(["/dev/", "gate_", "hooks"].iter().any(|control| text.contains(control)), "{name}");
        }
    }
}
