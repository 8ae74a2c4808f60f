//! A failure as a guest test: a C program that comes in by the door with the values with which the proof fails, and looks
//! at what it gets back.

use super::arrival::Arrival;
use super::doors::Failure;
use portcullis::x86_64::Exception;
use portcullis::x86_64::exception::FIRST_INTERRUPT;

/// How a program of user mode makes an arrival.
struct Door {
    /// The code, of which the last instruction is skipped where it is an exception.
    code: &'static str,
    /// The signal that comes of it.
    signal: Option<&'static str>,
    /// The registers that the code needs, and what they have to be.
    sets: &'static [(&'static str, &'static str)],
    /// What may differ afterwards.
    lost: &'static str,
}

/// The call that a door is tried with, where the values do not say one: it has no effect.
const CALL: (&str, &str) = ("rax", "SYS_getppid");

/// `None` where no program can make it come.
fn door(arrival: Arrival) -> Option<Door> {
    let by_call = |code, lost| Door { code, signal: None, sets: &[CALL], lost };
    let fault = |code, signal, sets| Door { code, signal: Some(signal), sets, lost: "0" };
    Some(match arrival {
        Arrival::Syscall64 | Arrival::FredFromUser => by_call("syscall", "NO_RAX | NO_RCX | NO_R11"),
        // With 64 bits only this one of the doors for 32-bit calls can be used.
        Arrival::Int80 => Door { sets: &[("rax", "64 /* getppid */")], ..by_call("int $0x80", "NO_RAX") },
        Arrival::FromUser(vector) | Arrival::IstFromUser(vector) => match vector {
            Exception::DE => fault("divl %ecx", "SIGFPE", &[("rcx", "0")]),
            Exception::BP => fault("int3", "SIGTRAP", &[]),
            Exception::UD => fault("ud2", "SIGILL", &[]),
            Exception::GP => fault("cli", "SIGSEGV", &[]),
            Exception::PF => fault("mov %ebx, (%rdi)", "SIGSEGV", &[("rdi", "8")]),
            Exception::DB => {
                Door { lost: "NO_RFLAGS", ..fault("nop; nop", "SIGTRAP", &[("rflags", "in.rflags | TF")]) }
            }
            FIRST_INTERRUPT.. => {
                // Until the timer has come a few times.
                let sets = &[("rcx", "50000000")];
                Door { code: "1: dec %rcx; jnz 1b", signal: None, sets, lost: "NO_RCX | NO_RFLAGS" }
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// The values of a failure that a program can choose: a name of `struct registers`, or "gs" for its base.
fn chosen(failure: &Failure) -> Vec<(&str, u64)> {
    let mut chosen: Vec<(&str, u64)> = Vec::new();
    for (name, value) in &failure.example {
        // Without the number that makes it unique.
        let name = name.split_once('#').map_or(name.as_str(), |(name, _)| name);
        let register = name
            .strip_prefix("user ")
            .or_else(|| name.strip_suffix(" of the frame after the Rust half"))
            .or_else(|| name.starts_with("the user's gs").then_some("gs"));
        let known = |register: &&str| REGISTERS.contains(register) || *register == "gs";
        if let Some(register) = register.filter(known)
            && chosen.iter().all(|(other, _)| *other != register)
        {
            chosen.push((register, *value));
        }
    }
    chosen
}

/// What `struct registers` of tests/guest/registers.h has, but for the stack pointer: signals need a stack.
const REGISTERS: [&str; 16] =
    ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rflags"];

/// The program, or why there is none. `description` tells the failure in words.
pub(super) fn program(failure: &Failure, description: &str) -> Result<String, &'static str> {
    let arrival = failure.arrival.ok_or("it has no arrival")?;
    let comment: String = description.lines().map(|line| format!(" * {}\n", line.trim())).collect();
    let comment = format!("/* A counterexample of `./x prove doors`:\n{comment} */\n");
    match arrival {
        Arrival::Sysenter => Ok(comment + &by_32_bits("by_sysenter", "has_sysenter()", failure)),
        Arrival::Syscall32 => Ok(comment + &by_32_bits("by_syscall", "has_syscall(1)", failure)),
        _ => {
            let door = door(arrival).ok_or("no program of user mode is known that makes this arrival")?;
            Ok(comment + &by_64_bits(&door, failure))
        }
    }
}

fn by_64_bits(door: &Door, failure: &Failure) -> String {
    let mut before = String::new();
    if let Some(signal) = door.signal {
        before += &format!("    catch_signal({signal}, 0);\n    resume_at = door_end;\n");
    }
    before += "    randomize(&in);\n";
    for (register, value) in chosen(failure) {
        before += &match register {
            "gs" => format!("    gs = {value:#x} & 0x7fffffffffff;\n"),
            "rflags" => format!("    in.rflags |= {value:#x} & (ARITHMETIC | DF | AC | ID);\n"),
            _ => format!("    in.{register} = {value:#x};\n"),
        };
    }
    for (register, value) in door.sets {
        before += &format!("    in.{register} = {value};\n");
    }
    let lost = door.lost;
    let mut after = String::new();
    if let Some(signal) = door.signal {
        after += &format!(
            r#"    check(caught.count == 1 && caught.signal == {signal}, "the signal comes", "%d came, the last one %d", caught.count,
          caught.signal);
    caught.registers.rflags &= ~(uint64_t)RF;
    const char *in_frame = difference(&in, &caught.registers, 0);
    check(!in_frame, "the frame has the registers", "%s", in_frame);
"#
        );
    }
    let code = door.code;
    format!(
        r#"#include "gate.h"
#include "registers.h"
#include <asm/prctl.h>

SNIPPET(door, "{code}");

int main(void)
{{
    uint64_t gs = 0x10000, gs_after = 0;
    long broken = gate_status("violations");
{before}    check(!syscall(SYS_arch_prctl, ARCH_SET_GS, gs), "the GS base can be set", "errno %d", errno);
    run(door);
    syscall(SYS_arch_prctl, ARCH_GET_GS, &gs_after);
{after}    const char *wrong = difference(&in, &out, {lost});
    check(!wrong, "the registers are as before", "%s", wrong);
    check(gs_after == gs, "the GS base is as before", "%#lx, not %#lx", gs_after, gs);
    check(gate_status("violations") == broken, "no invariant was broken", "one was");
    return done();
}}
"#
    )
}

fn by_32_bits(door: &str, exists: &str, failure: &Failure) -> String {
    let mut before = String::new();
    for (register, value) in chosen(failure) {
        // The low halves of those that 32-bit code has.
        let low = value as u32;
        before += &match register {
            "rflags" => format!("    in.eflags |= {low:#x} & (ARITHMETIC | DF | AC | ID);\n"),
            "rbx" | "rcx" | "rdx" | "rsi" | "rdi" | "rbp" => format!("    in.e{} = {low:#x};\n", &register[1..]),
            _ => continue,
        };
    }
    format!(
        r#"// build: -m32
#include "gate.h"
#include "registers32.h"

int main(void)
{{
    if (!{exists}) {{
        skip("the registers are as before", NO_FAST_DOOR);
        return done();
    }}
    vdso_entry = getauxval(AT_SYSINFO);
    long broken = gate_status("violations");
    randomize();
{before}    const char *wrong = call({door}, SYS_getppid, getppid(), 0);
    check(!wrong, "the registers are as before", "%s", wrong);
    check(gate_status("violations") == broken, "no invariant was broken", "one was");
    return done();
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::super::doors::Property;
    use super::*;

    fn failure(arrival: Arrival, example: &[(&str, u64)]) -> Failure {
        Failure {
            property: Property::WayOut,
            what: "r12".to_owned(),
            at: 0,
            example: example.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
            arrival: Some(arrival),
        }
    }

    #[test]
    fn values_of_the_example_are_those_of_the_program() {
        let example = [
            ("user r12", 0x1234),
            ("r12 of the frame after the Rust half#7", 1),
            ("rbx of the frame after the Rust half#8", 2),
            ("the user's gs", 0x8000_0000_0000_5678),
            ("CpuLocal", 3),
        ];
        let text = program(&failure(Arrival::Syscall64, &example), "what\n  where").unwrap();
        for line in ["in.r12 = 0x1234;", "in.rbx = 0x2;", "gs = 0x8000000000005678 & 0x7fffffffffff;", " * where"] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(!text.contains("in.r12 = 0x1;"), "{text}");
        let text = program(&failure(Arrival::Sysenter, &[("user rbx", 0x1_0000_0007)]), "").unwrap();
        assert!(text.contains("in.ebx = 0x7;") && text.contains("-m32"), "{text}");
    }

    #[test]
    fn what_hits_the_kernel_has_no_program() {
        assert!(program(&failure(Arrival::IstFromKernel(Exception::MC), &[]), "").is_err());
    }
}
