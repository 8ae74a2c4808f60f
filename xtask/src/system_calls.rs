//! Checks that the reference kernel's system calls are in one folder, where a reader looks for them.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::{repository, sources};

/// The kernel's code, and the folder in it that holds the system calls.
const KERNEL: &str = "kernel/src";
const CALLS: &str = "calls";

/// Prints each function named like a system call that is outside the folder.
pub fn check() -> Result<bool> {
    let root = repository(KERNEL);
    let mut outside = Vec::new();
    for path in sources(KERNEL)? {
        outside.extend(misplaced(path.strip_prefix(&root)?, &fs::read_to_string(&path)?));
    }
    outside.iter().for_each(|fault| eprintln!("{fault}"));
    Ok(outside.is_empty())
}

/// What is wrong in a file with this text, whose path begins at [`KERNEL`].
fn misplaced(path: &Path, text: &str) -> Vec<String> {
    if path.starts_with(CALLS) {
        return Vec::new();
    }
    text.lines()
        .enumerate()
        .filter_map(|(line, code)| {
            let name = code.split_once("fn sys_")?.1.split(['(', '<']).next()?;
            let path = path.display();
            Some(format!("{KERNEL}/{path}:{}: sys_{name} belongs in {KERNEL}/{CALLS}", line + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_call_outside_its_folder_is_found_with_its_line() {
        let text = "use x;\n\n    pub fn sys_fork(at: &mut A) {}\nfn syscall() {}\nfn f() { sys_fork(at) }\n";
        let expected = ["kernel/src/life/fork.rs:3: sys_fork belongs in kernel/src/calls"];
        assert_eq!(misplaced(Path::new("life/fork.rs"), text), expected);
        assert_eq!(misplaced(Path::new("calls/process/clone.rs"), text), [""; 0]);
    }
}
