//! FRED's two entry points in Linux go through the library. No machine here has FRED: their code is read.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::noinstr::{Code, SECTION};
use super::objdump::objdump;

/// The object in which they are.
pub const OBJECT: &str = "arch/x86/entry/entry_fred.o";

/// An entry point, and which of the library's functions its code calls.
const ENTRY_POINTS: [(&str, &[&str]); 2] = [
    (
        "fred_entry_from_user",
        &[
            "do_syscall_64",
            "do_fast_syscall_32",
            "fred_int80_emulation",
            "irqentry_enter",
            "irqentry_exit",
            "irqentry_nmi_enter",
            "irqentry_nmi_exit",
        ],
    ),
    ("fred_entry_from_kernel", &["irqentry_enter", "irqentry_exit", "irqentry_nmi_enter", "irqentry_nmi_exit"]),
];

/// What else it may call: handlers, which have doors of the IDT as well; the way to print what must not be; thunks.
const HANDLERS: [&str; 6] = ["exc_", "fred_exc_", "common_interrupt", "spurious_interrupt", "sysvec_", "__x86_"];
const LAST_WORDS: [&str; 6] = ["die", "__die", "oops_begin", "oops_end", "panic", "_printk"];

/// Checks the object; `library` is what the library's own defines.
pub fn check(object: &Path, library: &BTreeSet<String>) -> Result<()> {
    check_code(&Code::parse(&objdump(object, &["-r", "-j", SECTION])?), library)
}

fn check_code(code: &Code, library: &BTreeSet<String>) -> Result<()> {
    for (name, expected) in ENTRY_POINTS {
        let entry = code.functions.iter().find(|(_, function)| *function == name);
        let (start, _) = entry.with_context(|| format!("there is no {name}"))?;
        let mut reached = code.reached(*start);
        for function in expected {
            ensure!(reached.remove(function), "{name} does not call {function}");
            ensure!(library.contains(*function), "{function} is not the library's");
        }
        reached.retain(|function| {
            !HANDLERS.iter().any(|handler| function.starts_with(handler)) && !LAST_WORDS.contains(function)
        });
        ensure!(reached.is_empty(), "{name} calls {reached:?}: what is not the library's, or not its part");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of entry points that call these, in a function of their own.
    fn verdict(user: &[&str], kernel: &[&str]) -> Result<(), String> {
        let mut text = String::new();
        for (start, name, functions) in [(0, ENTRY_POINTS[0].0, user), (0x100, ENTRY_POINTS[1].0, kernel)] {
            text += &format!("{start:x} <{name}>:\n {start:x}:\tjmp    {:x} <it>\n{:x} <it>:\n", start + 1, start + 1);
            for (at, function) in functions.iter().enumerate() {
                text += &format!(" {:x}:\tcall   0 <it>\n\t\t\t0: R_X86_64_PLT32\t{function}-0x4\n", start + 1 + at);
            }
            text += &format!(" {:x}:\tret\n", start + 0xff);
        }
        let library = ENTRY_POINTS[0].1.iter().map(|&name| name.to_owned()).collect();
        check_code(&Code::parse(&text), &library).map_err(|error| error.to_string())
    }

    #[test]
    fn what_goes_past_the_library_is_found() {
        let [(_, user), (_, kernel)] = ENTRY_POINTS;
        assert_eq!(verdict(user, kernel), Ok(()));
        assert_eq!(verdict(&[user, &["exc_page_fault", "die"]].concat(), kernel), Ok(()));
        // As in stock 7.2, whose policy is inlined.
        let inlined = verdict(&[user, &["exit_to_user_mode_loop"]].concat(), kernel).unwrap_err();
        assert!(inlined.contains("exit_to_user_mode_loop"), "{inlined}");
        assert!(verdict(user, user).unwrap_err().contains("do_syscall_64"), "a system call from the kernel");
        assert!(verdict(kernel, kernel).unwrap_err().contains("does not call do_syscall_64"));
    }
}
