//! Programs of the host that go into the guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::Machine;
use object::read::elf::{FileHeader, ProgramHeader as _};

use crate::progress;

/// A program of the host that the guest can run.
pub struct Program {
    /// Its absolute path, in the host and in the guest.
    pub path: PathBuf,
    /// The other files of the host that it needs: its dynamic linker and libraries; for a script, its interpreter and what
    /// that needs.
    pub needs: Vec<PathBuf>,
}

impl Program {
    /// Finds `name` as a shell does, and what it needs to run in the guest.
    pub fn find(name: &str) -> Result<Program> {
        let Some(found) = which(name) else {
            bail!(
                "there is no program `{name}` on this machine; tried PATH, or the path itself if it has a slash"
            );
        };
        let path = absolute(&found)?;
        let needs = needs(&path)?;
        Ok(Program { path, needs })
    }
}

/// The files that `program` needs beside itself.
pub fn needs(program: &Path) -> Result<Vec<PathBuf>> {
    if let Some(interpreter) = script_interpreter(program)? {
        let mut needs = needs(&interpreter)?;
        needs.push(interpreter);
        return Ok(needs);
    }
    match interpreter(program)? {
        Some(linker) => libraries(Path::new(&linker), program),
        None => Ok(Vec::new()),
    }
}

/// The interpreter that a script names in its first line; none for what is no script.
fn script_interpreter(program: &Path) -> Result<Option<PathBuf>> {
    let data = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let Some(line) = data
        .strip_prefix(b"#!")
        .and_then(|rest| rest.split(|&byte| byte == b'\n').next())
    else {
        return Ok(None);
    };
    let line = String::from_utf8_lossy(line);
    let name = line.split_whitespace().next();
    name.map(PathBuf::from)
        .with_context(|| format!("{} names no interpreter after `#!`", program.display()))
        .map(Some)
}

/// The libraries of an ELF file, as the dynamic linker `linker` finds them, and the linker itself.
///
/// The linker is asked and not the file read: it knows its cache, its directories and the file's own.
pub fn libraries(linker: &Path, file: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new(linker);
    command.arg("--list").arg(file);
    let output = progress::output(&mut command).with_context(|| {
        format!(
            "cannot start {command:?}, the dynamic linker of {}",
            file.display()
        )
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "{} lacks a library: {command:?} says\n{text}{}",
            file.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut found = vec![linker.to_owned()];
    found.extend(listed(&text));
    Ok(found)
}

/// The paths in the lines `NAME => PATH (ADDRESS)` of a dynamic linker's list. The vDSO has none.
fn listed(text: &str) -> impl Iterator<Item = PathBuf> {
    text.lines().filter_map(|line| {
        let (_, path) = line.split_once("=> ")?;
        let path = path.rsplit_once(" (").map_or(path, |(path, _)| path);
        path.starts_with('/').then(|| PathBuf::from(path))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_list_is_read() {
        let text = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found: Vec<PathBuf> = listed(text).collect();
        assert_eq!(found, [PathBuf::from("/lib/libc.so.6")]);
    }
}
