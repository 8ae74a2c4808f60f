//! The doors link for a kernel that takes every default, and their machine code has its guards: what no emulator shows
//! (speculation, leftover register values) is read off the disassembly (`objdump`, from binutils).
#![cfg(not(loom))]

mod machine_code;

use machine_code::{Function, disassemble, disassembly, doors, functions, lines, link, may_hit_the_kernel};
use portcullis::x86_64::doors::TABLE;

#[test]
fn every_door_links() {
    link::<false>();
}

/// A kernel that does not want FRED has none of its doors.
#[test]
fn no_door_of_fred_is_linked_unasked() {
    for name in ["fred::entries", "fred::hit_user", "fred::hit_kernel", "portcullis_leave_by_eretu"] {
        assert!(!disassembly().contains(name), "{name}");
    }
}

/// Where a function calls its Rust half, if it does.
fn call(code: &[String]) -> Option<usize> {
    code.iter().position(|i| i.starts_with("call"))
}

/// At the doors with a gate the CPU arrives with the user's flags.
#[test]
fn doors_begin_with_cld_and_the_place_of_clac() {
    for door in TABLE.iter().filter(|door| door.vectors.is_some()) {
        let code = disassemble(functions(door)[0]);
        assert_eq!(code[0], "cld", "{}", door.name);
        assert!(code[1].starts_with("nop") && code[1].ends_with("[rax]"), "{}: {}", door.name, code[1]);
    }
}

/// A door is fetched with as few cache lines as it can be.
#[test]
fn every_door_begins_a_cache_line() {
    const LINE: u64 = 64;
    for door in doors() {
        let (address, _) = lines(door)[0];
        assert!(address.is_multiple_of(LINE), "{door:?} stands at {address:#x}");
    }
}

#[test]
fn doors_clear_every_register_before_they_call() {
    let registers = ["ax", "cx", "dx", "bx", "bp", "si"]
        .map(|r| format!("e{r}"))
        .into_iter()
        .chain((8..16).map(|n| format!("r{n}d")));
    let registers: Vec<String> = registers.collect();
    // `exception::stub_entry` saves nothing: it goes on to the other two.
    for door in doors().into_iter().filter(|door| *door != ["exception", "stub_entry"]) {
        let code = disassemble(door);
        let call = call(&code).expect("a call");
        let last_push = code[..call].iter().rposition(|i| i.starts_with("push")).expect("pushes");
        for register in &registers {
            let xor = format!("xor {register},{register}");
            let cleared =
                code[last_push..call].iter().any(|i| i.split_whitespace().collect::<Vec<_>>().join(" ") == xor);
            assert!(cleared, "{door:?} does not clear {register}");
        }
    }
}

/// VERW's place (see `x86_64::alternatives`).
const SEVEN_BYTE_NOP: &str = "nop    DWORD PTR [rax+0x0]";

/// VERW is the last thing before each instruction that enters user mode.
#[test]
fn every_way_out_ends_with_the_place_of_verw() {
    for (way, last) in [
        (["syscall64", "syscall64_entry"], "sysretq"),
        (["way_out", "enter_user_mode"], "sysretq"),
        (["way_out", "leave_32"], "sysretd"),
        (["way_out", "leave_by_iret"], "jmp"),
        (["way_out", "leave_by_iret_popped"], "jmp"),
    ] {
        let code = disassemble(&way);
        let end = code.iter().position(|i| i.starts_with(last));
        let end = end.unwrap_or_else(|| panic!("{way:?} has no {last}: {code:?}"));
        assert_eq!(code[end - 1], SEVEN_BYTE_NOP, "{way:?}");
    }
    let to_ldt_stack = disassemble(&["espfix", "leave_to_ldt_stack"]);
    for (n, _) in to_ldt_stack.iter().enumerate().filter(|(_, i)| i.starts_with("jmp")) {
        assert_eq!(to_ldt_stack[n - 1], SEVEN_BYTE_NOP, "to an LDT stack");
    }
    assert_eq!(disassemble(&["bad_iret", "iret_to_user"])[0], "iretq");
    // And nothing else in the doors enters user mode: these return to the kernel that they hit.
    let others: [Function; 4] = [
        &["syscall64", "syscall64_entry"],
        &["exception", "from_kernel"],
        &["paranoid", "ist_entry"],
        &["nmi", "nmi_entry"],
    ];
    for door in doors().into_iter().filter(|door| !others.contains(door)) {
        for instruction in disassemble(door) {
            assert!(!instruction.starts_with("sysret") && !instruction.starts_with("iret"), "{door:?}: {instruction}");
        }
    }
}

/// Page-table isolation costs a kernel nothing that does without it.
#[test]
fn no_door_touches_the_page_table() {
    let ways: [Function; 5] = [
        &["way_out", "enter_user_mode"],
        &["way_out", "leave_by_iret_popped"],
        &["way_out", "leave_32"],
        &["way_out", "leave_by_iret"],
        &["espfix", "leave_to_ldt_stack"],
    ];
    for door in doors().into_iter().chain(ways) {
        for instruction in disassemble(door) {
            assert!(!instruction.contains("cr3"), "{door:?}: {instruction}");
        }
    }
}

#[test]
fn an_lfence_stands_on_both_arms_of_a_conditional_swapgs() {
    for door in TABLE.iter().filter(may_hit_the_kernel).flat_map(functions) {
        let code = disassemble(door);
        for (n, _) in code.iter().enumerate().filter(|(_, i)| *i == "swapgs") {
            assert_eq!(code[n + 1], "lfence", "{door:?}: after SWAPGS");
        }
        // The arm without SWAPGS fences before it calls. `from_user` stands behind the arm with SWAPGS.
        if *door != ["exception", "from_user"]
            && let Some(call) = call(&code)
        {
            assert!(code[..call].iter().any(|i| i == "lfence"), "{door:?}: before the call");
        }
    }
    // This one does not switch GS: it fences before anything else.
    assert_eq!(disassemble(&["exception", "from_kernel"])[0], "lfence");
}

#[test]
fn nothing_touches_the_stack_once_it_is_the_users() {
    for (way, sysret) in [
        (["syscall64", "syscall64_entry"], "sysretq"),
        (["way_out", "enter_user_mode"], "sysretq"),
        (["way_out", "leave_32"], "sysretd"),
    ] {
        let code = disassemble(&way);
        let switch = code.iter().rposition(|i| i.starts_with("mov") && i.contains("rsp,")).expect("the stack switch");
        assert_eq!(code[switch + 1..switch + 4], ["swapgs", SEVEN_BYTE_NOP, sysret], "after {}", code[switch]);
    }
}

/// The registers that 64-bit code could look at after SYSRET to 32-bit code hold nothing of the kernel's.
#[test]
fn the_way_to_32_bit_code_leaves_no_register_of_the_kernels() {
    let code = disassemble(&["way_out", "leave_32"]);
    for register in ["r8d", "r9d", "r10d"] {
        let xor = format!("xor {register},{register}");
        assert!(code.iter().any(|i| i.split_whitespace().collect::<Vec<_>>().join(" ") == xor), "{register}");
    }
    for register in ["rax", "rbx", "rdx", "rsi", "rdi", "rbp", "r12", "r13", "r14", "r15"] {
        assert!(code.iter().any(|i| i.starts_with("pop") && i.ends_with(register)), "{register}");
    }
    for register in ["ecx", "r11"] {
        assert!(code.iter().any(|i| i.starts_with("mov") && i.contains(&format!("{register},"))), "{register}");
    }
}

/// The doors that an MSR points to have their stack before anything is pushed, and that of SYSENTER has cleared the user's flags
/// before it calls.
#[test]
fn sysenter_pushes_nothing_on_a_stack_it_does_not_know() {
    for door in TABLE.iter().filter(|door| door.vectors.is_none()).flat_map(|door| functions(door).first()) {
        let code = disassemble(door);
        let stack = code
            .iter()
            .position(|i| i.starts_with("mov") && i.contains("rsp,") && i.contains("gs:"))
            .expect("the stack switch");
        let push = code.iter().position(|i| i.starts_with("push")).expect("a push");
        assert!(code[0] == "swapgs" && stack < push, "{door:?}");
    }
    let code = disassemble(&["syscall32", "sysenter_entry"]);
    let call = code.iter().position(|i| i.starts_with("call")).expect("a call");
    let at = |what: &str| code.iter().position(|i| i.starts_with(what)).expect("there");
    assert!(at("cld") < call && at("test") < call);
}

/// The NMI door looks whether it hit its own last two instructions, or #MC or #DB have. No emulator makes that happen, so the
/// addresses that it compares with are read off.
#[test]
fn the_nmi_door_recognises_its_last_two_instructions() {
    let code = lines(&["nmi", "nmi_entry"]);
    let take_down = code.iter().position(|(_, i)| i.starts_with("sub") && i.ends_with(",0x1")).expect("the word");
    let end: Vec<u64> = code[take_down + 1..take_down + 3].iter().map(|(address, _)| *address).collect();
    assert!(code[take_down + 1].1.starts_with('j') && code[take_down + 2].1 == "iretq", "{:?}", code[take_down]);
    let compared: Vec<u64> = code[..take_down]
        .windows(2)
        .filter(|pair| pair[0].1.starts_with("lea") && pair[1].1.starts_with("cmp"))
        .filter_map(|pair| pair[0].1.split_once("# ")?.1.split_whitespace().next())
        .map(|address| u64::from_str_radix(address, 16).expect("an address"))
        .collect();
    assert_eq!(compared, end.repeat(3));
}
