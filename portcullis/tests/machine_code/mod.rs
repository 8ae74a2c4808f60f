//! The machine code of the doors of a minimal kernel in this test's executable, by `objdump` (from binutils).
#![allow(dead_code, reason = "not every test needs all of it")]

use std::process::Command;
use std::sync::OnceLock;

use portcullis::x86_64::doors::{Door, TABLE};
use portcullis::x86_64::{CpuDescription, first_way_out, init_cpu};

#[path = "../minimal/mod.rs"]
mod minimal;

use minimal::Minimal;

/// Links its doors into the test.
pub fn link<const ISOLATED: bool>() {
    let init: unsafe fn(CpuDescription) -> _ = init_cpu::<Minimal<ISOLATED>>;
    let first: unsafe extern "C" fn() = first_way_out::<Minimal<ISOLATED>>;
    assert_ne!(init as usize, first as usize);
}

/// A function of the library, by the path of its name: `["nmi", "nmi_entry"]`.
pub type Function = &'static [&'static str];

/// A door's functions up to its Rust half. The CPU enters the first one; in front of `exception::stub_entry` it enters a stub.
///
/// A new row of the table needs an arm here. Every test of the doors' machine code then takes its functions from it.
pub fn functions(door: &Door) -> &'static [Function] {
    match door.name {
        "SYSCALL" => &[&["syscall64", "syscall64_entry"]],
        "SYSCALL from compatibility mode" => &[&["syscall32", "syscall32_entry"]],
        "SYSENTER" => &[&["syscall32", "sysenter_entry"]],
        "exceptions" | "INT3, INTO" | "interrupts" => {
            &[&["exception", "stub_entry"], &["exception", "from_user"], &["exception", "from_kernel"]]
        }
        "#DB" | "#MC" => &[&["paranoid", "ist_entry"]],
        "NMI" => &[&["nmi", "nmi_entry"]],
        "#DF" => &[&["paranoid", "double_fault"]],
        "INT 0x80" => &[&["syscall32", "int80_entry"]],
        // These kernels are without it. `./x prove doors` looks at one that has it.
        "FRED, in the place of all others" => &[],
        name => panic!("the door `{name}` has no arm here that names its functions"),
    }
}

/// The functions of all doors, each once.
pub fn doors() -> Vec<Function> {
    let mut all: Vec<Function> = TABLE.iter().flat_map(functions).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether a door may hit the kernel.
pub fn may_hit_the_kernel(door: &&Door) -> bool {
    door.kernel.stack != "–"
}

/// Whether the CPU enters a door on a stack of the door's own.
pub fn has_its_own_stack(door: &&Door) -> bool {
    door.kernel.stack.starts_with("IST")
}

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

/// The instructions of a [`Function`].
pub fn disassemble(path: &[&str]) -> Vec<String> {
    lines(path)
        .into_iter()
        .map(|(_, instruction)| instruction.split('#').next().unwrap_or_default().trim().to_owned())
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
    // A label within it is no function's name, and nothing to demangle.
    let goes_on = |line: &&str| !line.ends_with(">:") || line.contains("<_ZN") || line.contains("<_R");
    text.lines()
        .skip(start + 1)
        .take_while(goes_on)
        .filter_map(|line| line.split_once('\t'))
        .map(|(address, instruction)| {
            let address = address.trim().trim_end_matches(':');
            (u64::from_str_radix(address, 16).expect("an address"), instruction.to_owned())
        })
        .collect()
}
