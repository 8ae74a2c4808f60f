//! Building the programs with gcc: static ELF files; of tier (a) also flat images for kernels that load no ELF.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::hosted::{self, HOSTED, RUNNER};
use crate::tiers::{Kind, LAST_BYTES, Program, Source};

/// What goes into each program, and into one of them.
const FILES: &[(&str, &str)] = &[
    ("kit.h", include_str!("../programs/kit.h")),
    ("kit.c", include_str!("../programs/kit.c")),
    ("crossing.S", include_str!("../programs/crossing.S")),
    ("program.ld", include_str!("../programs/program.ld")),
    ("fatal.c", include_str!("../programs/fatal.c")),
    ("registers.c", include_str!("../programs/registers.c")),
    ("numbers.c", include_str!("../programs/numbers.c")),
    ("pointers.c", include_str!("../programs/pointers.c")),
    ("stack.c", include_str!("../programs/stack.c")),
    ("direction.c", include_str!("../programs/direction.c")),
    ("interrupts.c", include_str!("../programs/interrupts.c")),
    ("faults.c", include_str!("../programs/faults.c")),
    ("int80.c", include_str!("../programs/int80.c")),
    ("fpu.c", include_str!("../programs/fpu.c")),
    ("bases.c", include_str!("../programs/bases.c")),
    ("selectors.c", include_str!("../programs/selectors.c")),
    ("last_bytes.c", include_str!("../programs/last_bytes.c")),
    ("alive.c", include_str!("../programs/alive.c")),
    ("crossings.c", include_str!("../programs/crossings.c")),
    ("crossings_bases.c", include_str!("../programs/crossings_bases.c")),
];

/// The flags of every program: nothing but general registers, no libraries, no relocations.
const FLAGS: &[&str] = &[
    "-Os",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-pic",
    "-fno-pie",
    "-no-pie",
    "-mcmodel=small",
    "-mno-red-zone",
    "-mgeneral-regs-only",
    "-fcf-protection=none",
    "-fno-asynchronous-unwind-tables",
    "-nostdlib",
    "-static",
    "-Wall",
    "-Wextra",
    "-Werror",
];

/// How a kernel wants its programs.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Abi {
    /// The number of the system call `write(fd, buffer, length)`
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub write_number: u32,
    /// The number of the system call `exit(code)`
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub exit_number: u32,
    /// The instruction by which the programs make these two
    #[arg(long, value_name = "INSTRUCTION", default_value = "syscall")]
    pub door: String,
    /// Assembly that defines `kit_write` and `kit_exit`, for a kernel whose calls are others
    #[arg(long, value_name = "FILE.S")]
    pub shim: Option<PathBuf>,
    /// Where the programs are linked
    #[arg(long, value_name = "ADDRESS", default_value = "0x400000", value_parser = hexadecimal)]
    pub base: u64,
    /// Where their data is linked; behind the code if not given
    #[arg(long, value_name = "ADDRESS", value_parser = hexadecimal)]
    pub data: Option<u64>,
    /// An address that holds the kernel's code or data, which programs may not touch
    #[arg(long, value_name = "ADDRESS", default_value = "0xffffffff80200000", value_parser = hexadecimal)]
    pub kernel_address: u64,
}

impl Default for Abi {
    fn default() -> Self {
        Abi {
            write_number: 1,
            exit_number: 60,
            door: "syscall".into(),
            shim: None,
            base: 0x40_0000,
            data: None,
            kernel_address: 0xffff_ffff_8020_0000,
        }
    }
}

fn hexadecimal(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").ok_or_else(|| format!("`{text}` does not begin with 0x"))?;
    u64::from_str_radix(digits, 16).map_err(|error| format!("`{text}`: {error}"))
}

/// What all programs have in common, and the object files that it becomes.
const COMMON: &[(&str, &str)] = &[("crossing.S", "crossing.o"), ("kit.c", "kit.o")];

/// Builds programs into a folder, as `NAME`.
///
/// # Errors
///
/// When gcc is missing, or refuses.
pub fn build<'a>(programs: impl IntoIterator<Item = &'a Program>, abi: &Abi, out: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let sources = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    for (name, text) in FILES {
        fs::write(sources.path().join(name), text)?;
    }
    for (source, object) in COMMON {
        let mut gcc = gcc(abi, sources.path());
        if abi.shim.is_some() {
            gcc.arg("-DSHIM");
        }
        finish(gcc.args(["-c", "-o", object, source]), source)?;
    }
    programs.into_iter().map(|program| build_one(program, abi, sources.path(), out)).collect()
}

fn gcc(abi: &Abi, sources: &Path) -> Command {
    let mut gcc = Command::new("gcc");
    gcc.args(FLAGS).current_dir(sources);
    gcc.arg(format!("-DDOOR={}", abi.door));
    gcc.arg(format!("-DWRITE_NUMBER={}", abi.write_number));
    gcc.arg(format!("-DEXIT_NUMBER={}", abi.exit_number));
    gcc.arg(format!("-DKERNEL_ADDRESS={:#x}", abi.kernel_address));
    gcc
}

fn build_one(program: &Program, abi: &Abi, sources: &Path, out: &Path) -> Result<PathBuf> {
    let file = out.join(program.name);
    let mut gcc = gcc(abi, sources);
    gcc.arg("-o").arg(std::path::absolute(&file)?);
    gcc.arg(format!("-DPROGRAM=\"{}\"", program.name));
    gcc.args(["-Wl,--build-id=none", "-Wl,-z,max-page-size=4096"]);
    if let Some(data) = abi.data {
        // Before the script, which asks whether it is defined.
        gcc.arg(format!("-Wl,--defsym=DATA={data:#x}"));
    }
    gcc.arg(format!("-Wl,-T,program.ld,--defsym=BASE={:#x}", abi.base));
    gcc.args(COMMON.iter().map(|(_, object)| object));
    match program.source {
        Source::File(name) => drop(gcc.arg(name)),
        Source::Hosted(_) => bail!("{} is no program of tier (a)", program.name),
        Source::Instruction(code) => {
            let code = code
                .replace("KERNEL_ADDRESS", &format!("{:#x}", abi.kernel_address))
                .replace("WRITE_NUMBER", &abi.write_number.to_string());
            gcc.arg(format!("-DCASE=\"{code}\"")).arg("fatal.c");
            if program.checks.iter().any(|check| check.kind == Kind::MayDie) {
                gcc.arg("-DSURVIVES");
            }
        }
    }
    if let Some(shim) = &abi.shim {
        gcc.arg(std::path::absolute(shim)?);
    }
    finish(&mut gcc, program.name)?;
    Ok(file)
}

/// Builds programs of tier (b) or (c) into a folder, as `NAME`, and the runner; which were left out, because this gcc makes no static
/// 32-bit programs.
///
/// # Errors
///
/// When gcc or the static C library is missing, or gcc refuses.
pub fn build_hosted(programs: &[&'static Program], out: &Path) -> Result<(Vec<PathBuf>, Vec<&'static Program>)> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let sources = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    for (name, text) in hosted::FILES {
        fs::write(sources.path().join(name), text)?;
    }
    // The source of one may include another's.
    for (_, program) in HOSTED {
        if let Source::Hosted(text) = program.source {
            fs::write(sources.path().join(program.name).with_extension("c"), text)?;
        }
    }
    let narrow = makes_32_bit(sources.path())?;
    let (buildable, left_out): (Vec<_>, Vec<_>) =
        programs.iter().copied().partition(|program| narrow || !program.is_32_bit());
    let each = buildable.iter().map(|program| (program.name, program.build_flags()));
    let files = each.chain([(RUNNER, Vec::new())]).map(|(name, flags)| {
        let file = out.join(name);
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-static", "-pthread"]).args(flags).current_dir(sources.path());
        finish(gcc.arg("-o").arg(std::path::absolute(&file)?).arg(format!("{name}.c")), name)?;
        Ok(file)
    });
    Ok((files.collect::<Result<_>>()?, left_out))
}

/// Whether gcc makes static 32-bit programs, which takes a C library of that width.
fn makes_32_bit(scratch: &Path) -> Result<bool> {
    fs::write(scratch.join("width.c"), "#include <stdio.h>\nint main(void) { return puts(\"\"); }\n")?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-m32", "-static", "-pthread", "-o", "width", "width.c"]).current_dir(scratch);
    Ok(gcc.output().context("gcc could not be started; it is needed, with GNU as and ld")?.status.success())
}

fn finish(gcc: &mut Command, what: &str) -> Result<()> {
    let output = gcc.output().context("gcc could not be started; it is needed, with GNU as and ld")?;
    ensure!(output.status.success(), "{what}: gcc says:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Makes a flat image of each: what is to lie at the base, zeroed memory included, entered at its first byte. Of a program that
/// has memory elsewhere there is none.
///
/// # Errors
///
/// When objcopy is missing, or refuses.
pub fn flatten(programs: &[PathBuf]) -> Result<()> {
    for program in programs.iter().filter(|program| !program.ends_with(LAST_BYTES)) {
        let mut objcopy = Command::new("objcopy");
        objcopy.args(["-O", "binary", "--set-section-flags", ".bss=alloc,load,contents"]);
        let status = objcopy.arg(program).arg(program.with_extension("bin")).status();
        let status = status.context("objcopy could not be started; it is part of GNU binutils")?;
        ensure!(status.success(), "objcopy failed on {}", program.display());
    }
    Ok(())
}

/// Packs programs of tier (b) or (c) into a cpio archive that a kernel takes for its first file system: the runner is `init`, and
/// `tests/list` names the programs.
///
/// # Errors
///
/// When one cannot be read, or the archive not be written.
pub fn pack_root(runner: &Path, programs: &[PathBuf], seconds: u64, archive: &Path) -> Result<()> {
    let mut out = fs::File::create(archive).with_context(|| format!("cannot make {}", archive.display()))?;
    let read = |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let folders = ["dev", "proc", "tmp", "tests"].map(|name| (name.to_owned(), 0o040_755, Vec::new()));
    let mut list = String::new();
    let mut nodes: Vec<(String, u32, Vec<u8>)> = folders.into();
    nodes.push(("init".into(), 0o100_755, read(runner)?));
    for file in programs {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        list.push_str(&format!("{name} {seconds}\n"));
        nodes.push((format!("tests/{name}"), 0o100_755, read(file)?));
    }
    nodes.push(("tests/list".into(), 0o100_644, list.into_bytes()));
    let inputs = nodes.into_iter().zip(1..).map(|((name, mode, content), inode)| {
        (cpio::NewcBuilder::new(&name).ino(inode).mode(mode), std::io::Cursor::new(content))
    });
    cpio::write_cpio(inputs, &mut out)?;
    Ok(())
}

/// Packs files into a cpio archive (newc), in their order.
///
/// # Errors
///
/// When one cannot be read, or the archive not be written.
pub fn pack(files: &[PathBuf], archive: &Path) -> Result<()> {
    let mut out = fs::File::create(archive).with_context(|| format!("cannot make {}", archive.display()))?;
    let inputs = files.iter().zip(1..).map(|(file, inode)| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok((cpio::NewcBuilder::new(&name).ino(inode).mode(0o100_755), std::io::Cursor::new(content)))
    });
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    cpio::write_cpio(inputs.into_iter(), &mut out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::tiers::{CROSSINGS, FREESTANDING};

    use super::*;

    #[test]
    fn every_file_of_a_program_comes_along() {
        for program in FREESTANDING.iter().chain(CROSSINGS) {
            if let Source::File(file) = program.source {
                let text = FILES.iter().find(|(name, _)| *name == file).unwrap().1;
                for check in program.checks.iter().filter(|check| check.kind != Kind::Watched) {
                    let named = [format!("try(\"{}\")", check.name), format!("check(\"{}\"", check.name)];
                    assert!(named.iter().any(|call| text.contains(call)), "{file} has no check {}", check.name);
                }
                assert_eq!(
                    text.matches("    try(\"").count() + text.matches("    check(\"").count(),
                    program.checks.iter().filter(|check| check.kind != Kind::Watched).count(),
                    "{file} has other checks"
                );
            }
        }
    }
}
