//! Programs of the host that go into the guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, Result, bail};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// A program of the host that the guest can run.
pub struct Program {
    /// Its absolute path, in the host and in the guest.
    pub path: PathBuf,
}

impl Program {
    /// Finds `name` as a shell does, and makes sure that the guest can run it.
    pub fn find(name: &str) -> Result<Program> {
        let Some(found) = which(name) else {
            bail!(
                "there is no program `{name}` on this machine; tried PATH, or the path itself if it has a slash"
            );
        };
        let path = absolute(&found)?;
        if let Some(interpreter) = interpreter(&path)? {
            bail!(
                "{} needs a dynamic linker ({interpreter}); the guest runs static binaries only. \
                 For C: gcc -static (or musl-gcc -static). For Rust: --target x86_64-unknown-linux-musl. \
                 Applets of busybox are there without any: ./x run -- /bin/busybox {} ...",
                path.display(),
                path.file_name().unwrap_or_default().display(),
            );
        }
        Ok(Program { path })
    }
}

/// Where `program` is, looked up as a shell does.
pub fn which(program: &str) -> Option<PathBuf> {
    let executable = |path: &Path| {
        path.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| executable(path));
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| executable(path))
}

/// The dynamic linker that `program` asks for; none for a static program. An error for what is no 64-bit x86 ELF program.
pub fn interpreter(program: &Path) -> Result<Option<String>> {
    let data = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let not_elf = || format!("{} is no 64-bit ELF program", program.display());
    let header = object::elf::FileHeader64::<object::Endianness>::parse(&*data).with_context(not_elf)?;
    let endian = header.endian().with_context(not_elf)?;
    if header.e_machine(endian) != object::elf::EM_X86_64 {
        bail!(
            "{} is a program for another machine than x86-64",
            program.display()
        );
    }
    for segment in header.program_headers(endian, &*data).with_context(not_elf)? {
        if let Ok(Some(path)) = segment.interpreter(endian, &*data) {
            return Ok(Some(String::from_utf8_lossy(path).into_owned()));
        }
    }
    Ok(None)
}
