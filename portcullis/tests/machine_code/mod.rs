//! The machine code of the doors in this test's executable, by `objdump` (from binutils).
#![allow(dead_code, reason = "not every test needs all of it")]

use std::process::Command;
use std::sync::OnceLock;

/// All of it.
pub fn disassembly() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let executable = std::env::current_exe().expect("this test's file");
        let output = Command::new("objdump")
            .args(["--disassemble", "--demangle", "--no-show-raw-insn", "-Mintel"])
            .arg(executable)
            .output()
            .expect("objdump (from binutils) runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

/// The instructions of a function of the library, by the path of its name: `["nmi", "entry"]`.
pub fn disassemble(path: &[&str]) -> Vec<String> {
    lines(path)
        .into_iter()
        .map(|(_, instruction)| {
            instruction
                .split('#')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        })
        .collect()
}

/// As [`disassemble`], with the addresses, and objdump's comments left in.
pub fn lines(path: &[&str]) -> Vec<(u64, String)> {
    let text = disassembly();
    let name = format!("<portcullis::x86_64::{}", path.join("::"));
    let start = text
        .lines()
        .position(|line| {
            let rest = line.split_once(&name).map(|(_, rest)| rest);
            line.ends_with(">:") && rest.is_some_and(|rest| rest.starts_with(['>', ':', '<']))
        })
        .unwrap_or_else(|| panic!("no function {name}"));
    text.lines()
        .skip(start + 1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once('\t'))
        .map(|(address, instruction)| {
            let address = address.trim().trim_end_matches(':');
            (
                u64::from_str_radix(address, 16).expect("an address"),
                instruction.to_owned(),
            )
        })
        .collect()
}
