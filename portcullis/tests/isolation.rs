//! The doors of a kernel with page-table isolation: their machine code touches nothing that the user's table does not map while
//! that may be in force.
#![cfg(not(loom))]

mod machine_code;

use machine_code::{Function, disassemble, disassembly, doors, functions, has_its_own_stack, link};
use portcullis::x86_64::doors::TABLE;

#[test]
fn every_door_links() {
    link::<true>();
}

/// What runs while the user's table may be in force, beside the doors.
const WAYS_OUT: [Function; 7] = [
    &["exception", "stubs"],
    &["way_out", "enter_user_mode"],
    &["way_out", "leave_32"],
    &["way_out", "leave_by_iret"],
    &["bad_iret", "iret_to_user"],
    &["espfix", "leave_to_ldt_stack"],
    &["alternatives", "verw_selector"],
];

#[test]
fn the_doors_code_has_a_section_of_its_own() {
    let expected: Vec<Function> = doors().into_iter().chain(WAYS_OUT).collect();
    let (mut section, mut found) = ("", Vec::new());
    for line in disassembly().lines() {
        if let Some(name) = line.strip_prefix("Disassembly of section ") {
            section = name.trim_end_matches(':');
        } else if line.ends_with(">:") {
            for &door in &expected {
                let name = format!("<portcullis::x86_64::{}", door.join("::"));
                let rest = line.split_once(&name).map(|(_, rest)| rest);
                if rest.is_some_and(|rest| rest.starts_with(['>', ':', '<'])) {
                    assert_eq!(section, ".portcullis.entry", "{door:?}");
                    found.push(door);
                }
            }
        }
    }
    for door in expected {
        assert!(found.contains(&door), "{door:?}");
    }
}

/// Whether an instruction writes CR3.
fn loads_table(instruction: &str) -> bool {
    instruction.starts_with("mov") && instruction.contains("cr3,")
}

/// Before a door has put in the kernel's table it may touch its own stack, and `CpuLocal::user_rsp`.
#[test]
fn arrivals_touch_nothing_before_the_kernels_table_is_in() {
    const USER_RSP: &str = "gs:0x8";
    for door in TABLE.iter().filter(|door| !has_its_own_stack(door)).flat_map(|row| functions(row).first()) {
        let code = disassemble(door);
        let switch = code.iter().position(|i| loads_table(i)).expect("a switch");
        for instruction in &code[..switch] {
            let reads = instruction.contains('[') || instruction.contains("gs:");
            let touches = reads && !instruction.starts_with("lea") && !instruction.starts_with("nop");
            let allowed = instruction.contains("[rsp+") || instruction.contains(USER_RSP);
            assert!(!touches || allowed, "{door:?}: {instruction}");
            assert!(!instruction.starts_with("call"), "{door:?}: {instruction}");
        }
        // The thread stack comes after, in one of the next two instructions.
        let stack = code[switch + 1..switch + 3]
            .iter()
            .any(|i| i.starts_with("mov") && i.contains("rsp,") && i.contains("gs:"));
        assert!(stack, "{door:?}: {:?}", &code[switch..switch + 3]);
    }
}

/// VERW's place (see `x86_64::alternatives`).
const SEVEN_BYTE_NOP: &str = "nop    DWORD PTR [rax+0x0]";

/// After the user's table is in, each way out has one access left, and it is to what both tables map.
#[test]
fn ways_out_touch_next_to_nothing_once_the_users_table_is_in() {
    for (path, rest) in [
        (&["way_out", "enter_user_mode"], ["mov    rsp,QWORD PTR gs:0x8", "swapgs", SEVEN_BYTE_NOP, "sysretq"]),
        (&["way_out", "leave_32"], ["mov    rsp,QWORD PTR gs:0x8", "swapgs", SEVEN_BYTE_NOP, "sysretd"]),
        (&["way_out", "leave_by_iret"], ["pop    rdi", "swapgs", SEVEN_BYTE_NOP, "jmp"]),
        (&["espfix", "leave_to_ldt_stack"], ["pop    rax", SEVEN_BYTE_NOP, "jmp", ""]),
    ] {
        let code = disassemble(path);
        let switch = code.iter().position(|i| loads_table(i)).expect("a switch");
        for (instruction, expected) in code[switch + 1..].iter().zip(rest) {
            assert!(instruction.starts_with(expected), "{path:?}: {instruction} is not {expected}");
        }
    }
}

/// The doors that may find either table put back what they found: behind the call there is one write of CR3, and it is skipped
/// where the one before the call was.
#[test]
fn doors_on_stacks_of_their_own_put_back_the_table_they_found() {
    let returns = |row: &&_| has_its_own_stack(row) && row.kernel.way_out != "none";
    for row in TABLE.iter().filter(returns) {
        let door = functions(row)[0];
        let code = disassemble(door);
        let call = code.iter().position(|i| i.starts_with("call")).expect("a call");
        let skipped = |code: &[String]| {
            let switch = code.iter().position(|i| loads_table(i)).expect("a switch");
            code[..switch].iter().rev().find(|i| i.starts_with('j')).expect("a condition").starts_with("je")
        };
        assert!(skipped(&code[..call]), "{door:?}: before the call");
        assert!(skipped(&code[call..]), "{door:?}: after the call");
        assert!(code[call..].iter().any(|i| i.starts_with("test   r12d,r12d")), "{door:?}");
    }
}
