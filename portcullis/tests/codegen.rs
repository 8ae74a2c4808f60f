//! The states cost nothing: the optimised code of a system call through them has no more instructions, and takes no more
//! stack, than the same written by hand.
#![cfg(not(loom))]

mod cargo;

/// The instructions of a function's fast path in the compiler's assembly output, and the bytes of stack that it takes.
///
/// The fast path is what runs when nothing is pending: no jump on it is taken, and it ends at the first return.
fn function(assembly: &str, name: &str) -> (Vec<String>, u64) {
    let start = assembly.find(&format!("\n{name}:")).unwrap_or_else(|| panic!("no function `{name}`"));
    let body = &assembly[start + 1..];
    let body = &body[..body.find(".Lfunc_end").expect("the function's end")];
    let instructions: Vec<String> = body
        .lines()
        .skip(1)
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('.') && !line.ends_with(':'))
        .map(|line| line.replace('\t', " "))
        .collect();
    let end = instructions.iter().position(|i| i.starts_with("ret")).expect("a return") + 1;
    let instructions = instructions[..end].to_vec();
    let stack = instructions
        .iter()
        .map(|instruction| match instruction.split_once(' ') {
            Some(("push" | "pushq", _)) => 8,
            Some(("sub" | "subq", operands)) if operands.contains("rsp") => operands
                .split(',')
                .find_map(|operand| operand.trim().trim_start_matches('$').parse().ok())
                .expect("a constant"),
            _ => 0,
        })
        .sum();
    (instructions, stack)
}

#[test]
fn the_states_add_no_instruction_and_no_stack() {
    let target = cargo::cargo(
        &["rustc", "--release", "--example", "codegen_subject"],
        "codegen",
        &["--emit=asm", "-Ccodegen-units=1", "-Cdebuginfo=0"],
    );
    let newest = std::fs::read_dir(target.join("release/examples"))
        .expect("the examples' folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "s"))
        .max_by_key(|path| path.metadata().and_then(|metadata| metadata.modified()).ok())
        .expect("the assembly output");
    let assembly = std::fs::read_to_string(newest).expect("readable assembly");

    let (typed, typed_stack) = function(&assembly, "typed");
    let (by_hand, hand_stack) = function(&assembly, "by_hand");
    println!("typed: {} instructions, {typed_stack} bytes of stack", typed.len());
    println!("by hand: {} instructions, {hand_stack} bytes of stack", by_hand.len());
    assert!(typed.len() > 20, "the function is there");
    assert!(
        typed.len() <= by_hand.len() && typed_stack <= hand_stack,
        "typed:\n{}\n\nby hand:\n{}",
        typed.join("\n"),
        by_hand.join("\n")
    );
}
