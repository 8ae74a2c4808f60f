//! Builds the two vDSO images with the assembler and linker of GNU binutils, whose linker links the kernel, too.
//!
//! The result, in `OUT_DIR`: `vdso64.so`, `vdso32.so`, and `vdso32.rs` with the addresses of symbols in the latter.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=kernel.ld");
    build(Path::new("."));
}

/// Builds them from the sources in the kernel's folder.
pub fn build(kernel: &Path) {
    let sources = kernel.join("src/fs/vdso");
    println!("cargo::rerun-if-changed={}", sources.display());
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);
    for (name, width, machine, soname) in
        [("vdso64", "--64", "elf_x86_64", "linux-vdso.so.1"), ("vdso32", "--32", "elf_i386", "linux-gate.so.1")]
    {
        let object = out.join(format!("{name}.o"));
        let image = out.join(format!("{name}.so"));
        run(Command::new("as").args([width, "-o"]).arg(&object).arg(sources.join(format!("{name}.s"))));
        run(Command::new("ld")
            .args(["-m", machine, "-shared", "-L"])
            .arg(&sources)
            .arg("-T")
            .arg(sources.join(format!("{name}.ld")))
            .args(["-soname", soname, "--hash-style=both", "--eh-frame-hdr", "-Bsymbolic"])
            .args(["-z", "max-page-size=4096", "--no-undefined", "--build-id=none", "-o"])
            .arg(&image)
            .arg(&object));
        if name == "vdso32" {
            let symbols = run(Command::new("nm").arg(&image));
            std::fs::write(out.join("vdso32.rs"), constants(&symbols)).expect("OUT_DIR can be written");
        }
        run(Command::new("objcopy").arg("--strip-all").arg(&image));
    }
}

/// The symbols that the kernel uses, as Rust constants.
fn constants(symbols: &str) -> String {
    let address = |name: &str| {
        symbols
            .lines()
            .find_map(|line| {
                let (address, rest) = line.split_once(' ')?;
                let symbol = rest.split_once(' ')?.1;
                (symbol.split('@').next() == Some(name)).then_some(address)
            })
            .unwrap_or_else(|| panic!("the 32-bit vDSO has no symbol {name}"))
    };
    [
        "__kernel_vsyscall",
        "__kernel_sigreturn",
        "__kernel_rt_sigreturn",
        "int80_landing_pad",
        "fast_call",
        "use_sysenter",
        "use_syscall",
    ]
    .iter()
    .map(|name| {
        let constant = name.trim_start_matches("__").to_uppercase();
        format!("pub const {constant}: u64 = 0x{};\n", address(name))
    })
    .collect()
}

/// Runs a program that must succeed, and gives its output.
fn run(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("cannot start {command:?} ({error}); GNU binutils have it"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
