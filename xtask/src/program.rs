//! Programs of the host that go into the guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::Machine;
use object::read::elf::{FileHeader, ProgramHeader as _};

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

/// The dynamic linker that `program` asks for; none for a static program. An error for what is no x86 ELF program, of 64 or
/// 32 bits.
pub fn interpreter(program: &Path) -> Result<Option<String>> {
    let data = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    interpreter_of::<object::elf::FileHeader64<Endianness>>(&data, object::elf::EM_X86_64)
        .or_else(|_| interpreter_of::<object::elf::FileHeader32<Endianness>>(&data, object::elf::EM_386))
        .with_context(|| format!("{} is no ELF program for x86", program.display()))
}

fn interpreter_of<Header>(data: &[u8], machine: Machine) -> Result<Option<String>>
where
    Header: FileHeader<Endian = Endianness>,
{
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    if header.e_machine(endian) != machine {
        bail!("it is a program for another machine");
    }
    for segment in header.program_headers(endian, data)? {
        if let Ok(Some(path)) = segment.interpreter(endian, data) {
            return Ok(Some(String::from_utf8_lossy(path).into_owned()));
        }
    }
    Ok(None)
}
