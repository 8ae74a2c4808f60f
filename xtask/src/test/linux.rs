//! Suite `linux`: the Rust of the Linux overlay, for both widths; with `--all` the whole of Linux, booted and tested.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSymbol};

use super::noinstr;
use super::objdump::objdump;
use super::report::Report;
use super::{debian, fred};
use crate::linux::build::Tree;
use crate::linux::config::{Arch, Config};
use crate::linux::selftests::warnings;
use crate::linux::source::{SourceArgs, Version, archive};
use crate::{emulator, repository};

/// What the overlay makes: the Rust object, and the C that it calls.
const OBJECTS: [&str; 2] = ["kernel/entry/portcullis.o", "kernel/entry/portcullis_glue.o"];

/// For what the objects are built in each run.
const OVERLAYS: [(Version, Arch); 4] = [
    (Version::V6_1, Arch::X86_64),
    (Version::V6_1, Arch::I386),
    (Version::V6_12, Arch::X86_64),
    (Version::V7_2, Arch::X86_64),
];

/// For what they are built with `--all`, too.
const MORE_OVERLAYS: [(Version, Arch); 2] = [(Version::V6_12, Arch::I386), (Version::V7_2, Arch::I386)];

/// Where the rest of Linux declares what these may refer to.
const DECLARATIONS: [&str; 3] = ["arch/x86", "include/linux", "kernel"];

/// Runs the suite.
pub fn run(all: bool, report: &mut Report) -> Result<()> {
    let more: &[(Version, Arch)] = if all { &MORE_OVERLAYS } else { &[] };
    for (version, arch) in OVERLAYS.iter().chain(more) {
        let (version, arch) = (*version, *arch);
        let name = format!("linux/the overlay's objects, {version} {arch}");
        // Debian's newer releases replace their package by that of the next version.
        if let Err(error) = archive(version) {
            report.skip(&name, &format!("{error:#}"));
            continue;
        }
        let outcome = objects(version, arch).map_err(|error| format!("{error:#}"));
        report.outcome(&name, outcome);
    }
    if !all {
        report.skip("linux/build, boot and selftests", "takes half an hour: ./x test --all");
        return Ok(());
    }
    let outcome = noinstr().map_err(|error| format!("{error:#}"));
    report.outcome("linux/nothing leaves noinstr code, i386", outcome);
    let this = std::env::current_exe()?;
    let each = [
        ("a shell in stock", "run --stock --timeout 300 -- /bin/busybox true"),
        ("a shell in ours", "run --timeout 300 -- /bin/busybox true"),
        ("selftests are equal", "selftests"),
        ("selftests are equal, i386", "selftests --arch i386"),
        ("selftests are equal, debug", "selftests --config debug"),
    ];
    for version in Version::ALL {
        for (name, command) in each {
            let outcome = run_command(&this, version, command).map_err(|error| format!("{error:#}"));
            report.outcome(&format!("linux/{version}: {name}"), outcome);
        }
    }
    for version in Version::ALL {
        let outcome = debug_boot(&this, version).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("linux/{version}: a boot with every check, and the NMI selftest"), outcome);
    }
    for version in Version::ALL {
        debian::run(version, report);
    }
    Ok(())
}

/// Linux has nothing to complain of when it boots with every check of its own, and its NMI selftest passes.
fn debug_boot(this: &Path, version: Version) -> Result<()> {
    let result = Command::new(this)
        .args("linux run --config debug --smp 2 --timeout 600 --version".split(' '))
        .arg(version.to_string())
        .args(["--append", "log_buf_len=1M", "--", "/bin/busybox", "dmesg"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(result.status.success(), "it ended with {}", result.status);
    let log = String::from_utf8_lossy(&result.stdout);
    let lines: Vec<String> = log.lines().map(str::to_owned).collect();
    let warnings = warnings(&lines);
    ensure!(warnings.is_empty(), "Linux complains: {warnings:?}");
    ensure!(
        log.contains("NMI testsuite:") && log.contains("testcases passed!"),
        "the NMI selftest has not passed:\n{log}"
    );
    Ok(())
}

/// `./x linux COMMAND`, in a version: options may follow the command's name.
fn run_command(this: &Path, version: Version, command: &str) -> Result<()> {
    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    words.splice(1..1, ["--version".to_owned(), version.to_string()]);
    let mut x = Command::new(this);
    emulator::pass_on(&mut x);
    let status = x.arg("linux").args(&words).stdin(Stdio::null()).status()?;
    ensure!(status.success(), "./x linux {}: {status}", words.join(" "));
    Ok(())
}

/// The 32-bit object with every check of the debug configuration in it, and with the marks that objtool reads.
fn noinstr() -> Result<()> {
    let tree = Tree::new(&SourceArgs::debian(Version::V6_1), Arch::I386, Config::Debug)?;
    tree.objects(&["PORTCULLIS_ANNOTATED=1", OBJECTS[0]])?;
    let mut functions = BTreeSet::new();
    for directory in [tree.source().join("kernel"), tree.source().join("arch/x86"), repository("linux/glue")] {
        find_noinstr(&directory, &mut functions)?;
    }
    noinstr::check(&tree.build.join(OBJECTS[0]), |name| functions.contains(name))
}

/// The functions that C sources below `directory` define as noinstr.
fn find_noinstr(directory: &Path, functions: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            find_noinstr(&path, functions)?;
        } else if path.extension().is_some_and(|end| end == "c") {
            let text = fs::read(&path)?;
            for line in String::from_utf8_lossy(&text).lines() {
                if let Some((before, _)) = line.split_once('(').filter(|_| line.contains("noinstr ")) {
                    functions.extend(before.split_whitespace().next_back().map(str::to_owned));
                }
            }
        }
    }
    Ok(())
}

/// Compiles the overlay against prepared headers. What it refers to must be Linux's: a panic that can be reached would be
/// a Rust symbol that nobody defines.
fn objects(version: Version, arch: Arch) -> Result<()> {
    let tree = Tree::new(&SourceArgs::debian(version), arch, Config::Small)?;
    tree.objects(&OBJECTS)?;
    let configuration = fs::read_to_string(tree.build.join(".config"))?;
    branches_are_guarded(&disassemble(&tree.build.join(OBJECTS[0]))?, &configuration)?;
    let (mut defined, mut wanted) = (BTreeSet::new(), BTreeSet::new());
    for name in OBJECTS {
        let path = tree.build.join(name);
        let data = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = object::File::parse(&*data)?;
        for symbol in file.symbols() {
            let name = symbol.name().unwrap_or_default().to_owned();
            if symbol.is_undefined() && !name.is_empty() {
                wanted.insert(name);
            } else if symbol.is_global() {
                defined.insert(name);
            }
        }
    }
    if configuration.lines().any(|line| line == "CONFIG_X86_FRED=y") {
        tree.objects(&[fred::OBJECT])?;
        fred::check(&tree.build.join(fred::OBJECT), &defined)?;
    }
    wanted.retain(|name| !defined.contains(name));
    let rust: Vec<String> = wanted
        .iter()
        .filter(|name| name.starts_with("_R") || name.starts_with("_ZN"))
        .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
        .collect();
    if !rust.is_empty() {
        bail!("a panic, or another part of `core` that is not there, can be reached: {}", rust.join(", "));
    }
    // One for each register, by a macro of arch/x86/lib/retpoline.S: nowhere in the source is the name whole.
    wanted.retain(|name| !name.starts_with("__x86_indirect_thunk_"));
    // One static call for each of the APIC driver's functions, by DECLARE_APIC_CALL() of arch/x86/include/asm/apic.h.
    wanted.retain(|name| !name.starts_with("__SCT__apic_call_") && !name.starts_with("__SCK__apic_call_"));
    // Linux's macros for static calls and trace points are given the rest of the name.
    let mut wanted: BTreeSet<String> = wanted
        .iter()
        .map(|name| {
            let prefixes = ["__SCT__", "__SCK__", "__tracepoint_"];
            prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_owned()
        })
        .collect();
    for directory in DECLARATIONS {
        strike_out_declared(&tree.source().join(directory), &mut wanted)?;
    }
    if !wanted.is_empty() {
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        bail!("Linux declares nothing of these names: {}", names.join(", "));
    }
    Ok(())
}

/// The instructions of an object file, without addresses.
fn disassemble(path: &Path) -> Result<Vec<String>> {
    let text = objdump(path, &[])?;
    let instructions = text.lines().filter_map(|line| line.split_once(":\t"));
    Ok(instructions.map(|(_, instruction)| instruction.trim().to_owned()).collect())
}

/// What objtool looks for, and a 32-bit kernel has no objtool: branches and returns go through the thunks of the
/// mitigations that are configured, and nothing is executed by mistake after a return.
fn branches_are_guarded(code: &[String], configuration: &str) -> Result<()> {
    // The second name is the one since Linux 6.9.
    let is_set = |option: &str| {
        let names = [format!("CONFIG_{option}=y"), format!("CONFIG_MITIGATION_{option}=y")];
        configuration.lines().any(|line| names.iter().any(|name| line == name))
    };
    ensure!(code.len() > 100, "only {} instructions were found", code.len());
    for (at, instruction) in code.iter().enumerate() {
        let (operation, operand) = instruction.split_once(' ').unwrap_or((instruction, ""));
        let target = operand.split_whitespace().next().unwrap_or_default();
        let indirect = ["call", "jmp"].contains(&operation) && u64::from_str_radix(target, 16).is_err();
        let returns = operation == "ret";
        let stopped = code.get(at + 1).is_some_and(|next| next == "int3");
        if indirect && is_set("RETPOLINE") {
            bail!("an indirect branch without retpoline: {instruction}");
        }
        if returns && is_set("RETHUNK") {
            bail!("a return without thunk");
        }
        if returns && is_set("SLS") && !stopped {
            bail!("a return without int3 after it");
        }
    }
    Ok(())
}

/// Removes the names that occur as a word in a source file below `directory`.
fn strike_out_declared(directory: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            strike_out_declared(&path, names)?;
        } else if path.extension().is_some_and(|end| ["c", "h", "S", "tbl", "lds"].iter().any(|e| end == *e)) {
            let text = fs::read(&path)?;
            for word in String::from_utf8_lossy(&text).split(|c: char| !c.is_alphanumeric() && c != '_') {
                names.remove(word);
            }
        }
        if names.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unguarded_branch_is_found() {
        let with = |instruction: &str, configuration: &str| {
            let mut code = vec!["nop".to_owned(); 200];
            code[100] = instruction.to_owned();
            branches_are_guarded(&code, configuration).is_ok()
        };
        let retpoline = "CONFIG_RETPOLINE=y";
        assert!(!with("call   eax", retpoline));
        assert!(!with("jmp    DWORD PTR [eax*4+0x0]", retpoline));
        assert!(with("call   3b <do_SYSENTER_32+0x3b>", retpoline));
        assert!(with("call   eax", "# CONFIG_RETPOLINE is not set"));
        assert!(!with("ret", "CONFIG_RETHUNK=y"));
        assert!(!with("ret", "CONFIG_SLS=y"));
        assert!(!with("ret", "CONFIG_MITIGATION_SLS=y"));
        assert!(with("ret", retpoline));
    }
}
