//! Programs of the host that go into the guest.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::Machine;
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};

use crate::packages::{self, Companions};
use crate::{progress, setup};

/// A program of the host that the guest can run.
pub struct Program {
    /// Its absolute path, in the host and in the guest.
    pub path: PathBuf,
    /// The other files of the host that it needs: its dynamic linker and libraries; for a script, its interpreter and what
    /// that needs.
    pub needs: Vec<PathBuf>,
    /// What it and its interpreter read beside that: files of their packages.
    pub companions: Vec<Companions>,
}

impl Program {
    /// Finds `name` as a shell does, and what it needs to run in the guest.
    pub fn find(name: &str) -> Result<Program> {
        let Some(found) = which(name) else {
            bail!("there is no program `{name}` on this machine; tried PATH, or the path itself if it has a slash");
        };
        let path = absolute(&found)?;
        let needs = needs(&path)?;
        Ok(Program { path, needs, companions: Vec::new() })
    }

    /// Looks for what it reads, too, for the programs that the script after a shell's `-c` calls, and for those that a program is
    /// told to start, as a debugger is. A static program is taken to read nothing.
    pub fn with_companions(mut self, arguments: &[String]) -> Result<Program> {
        let mut paths = vec![self.path.clone()];
        paths.extend(interpreters(&self.path)?);
        let called = called(&self.path, arguments);
        if !called.is_empty() {
            let applets = setup::applets()?;
            let is_busybox = self.path.ends_with("busybox");
            for (name, path) in called.iter().filter_map(|name| Some((name, which(name)?))) {
                let is_applet = applets.contains(name);
                if is_applet && is_busybox {
                    continue;
                }
                self.companions.push(Companions { files: vec![path.clone()], ..Companions::default() });
                // Of what busybox has, too, the other files are seldom needed.
                if !is_applet {
                    paths.push(path);
                }
            }
        }
        for path in &paths {
            let real = fs::canonicalize(path)?;
            if !matches!(interpreter(&real), Ok(None)) {
                self.companions.push(packages::companions(path, &real)?);
            }
        }
        Ok(self)
    }
}

/// Programs whose `-c` takes a script.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "ksh", "zsh", "busybox"];

/// Programs that start the program which their arguments name.
const STARTERS: [&str; 21] = [
    "bwrap", "chroot", "env", "fakeroot", "flock", "gdb", "ltrace", "nice", "nohup", "nsenter", "parallel", "proot",
    "script", "setarch", "setpriv", "setsid", "strace", "taskset", "timeout", "unshare", "valgrind",
];

fn is_one_of(program: &Path, names: &[&str]) -> bool {
    program.file_name().is_some_and(|name| names.iter().any(|one| name == *one))
}

/// The names of the programs that `program` seems to start when it has these arguments: those that a shell's script calls, and
/// the words of a starter of programs that are names of programs, and what these start.
fn called(program: &Path, arguments: &[String]) -> Vec<String> {
    if !is_one_of(program, &STARTERS) {
        return called_by_shell(program, arguments);
    }
    let mut names = Vec::new();
    for (at, word) in arguments.iter().enumerate() {
        if which(word).is_some() {
            names.push(word.clone());
            names.extend(called_by_shell(Path::new(word), &arguments[at + 1..]));
        }
    }
    names.sort();
    names.dedup();
    names
}

/// The names of the programs that the script after a shell's `-c` seems to call: the first words of its commands.
fn called_by_shell(program: &Path, arguments: &[String]) -> Vec<String> {
    /// What may stand before a command.
    const BEFORE: [&str; 12] =
        ["if", "then", "else", "elif", "while", "until", "do", "!", "exec", "time", "env", "command"];
    if !is_one_of(program, &SHELLS) {
        return Vec::new();
    }
    let has_script = |word: &&String| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c');
    let Some(script) = arguments.iter().skip_while(|word| !has_script(word)).nth(1) else {
        return Vec::new();
    };
    let mut names: Vec<String> = script
        .split([';', '|', '&', '\n', '(', '{', '`'])
        .filter_map(|command| command.split_whitespace().find(|word| !BEFORE.contains(word) && !word.contains('=')))
        .filter(|word| word.chars().all(|char| char.is_ascii_alphanumeric() || "/.+-_".contains(char)))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The files that `program`, or a shared object, needs beside itself.
pub fn needs(program: &Path) -> Result<Vec<PathBuf>> {
    let mut needs = Vec::new();
    let interpreters = interpreters(program)?;
    for file in std::iter::once(program).chain(interpreters.iter().map(PathBuf::as_path)) {
        if script_words(file)?.is_some() {
            continue;
        }
        // A program's libraries are looked for beside the file that it is, and not beside a link to it.
        let real = fs::canonicalize(file).with_context(|| format!("cannot read {}", file.display()))?;
        if let Some(linker) = linker(&real)? {
            needs.extend(libraries(Path::new(&linker), &real)?);
        }
    }
    needs.extend(opened_by_libc(&needs));
    needs.extend(interpreters);
    Ok(needs)
}

/// The interpreters that a script needs: the one of its first line, that one's own if it is a script, and the program that
/// env(1) is told to start. None for what is no script.
fn interpreters(program: &Path) -> Result<Vec<PathBuf>> {
    /// As Linux: so deep may scripts be interpreted by scripts.
    const DEPTH: usize = 5;
    let mut found: Vec<PathBuf> = Vec::new();
    let mut waiting = vec![program.to_owned()];
    while let Some(file) = waiting.pop() {
        let Some(words) = script_words(&file)? else {
            continue;
        };
        let mut words = words.into_iter();
        let name = words.next().with_context(|| format!("{} names no interpreter after `#!`", file.display()))?;
        let interpreter = PathBuf::from(&name);
        let mut next = vec![interpreter.clone()];
        if interpreter.ends_with("env") {
            let started = words.find(|word| !word.starts_with('-') && !word.contains('='));
            next.extend(started.and_then(|name| which(&name)));
        }
        for path in next {
            if found.len() < DEPTH && !found.contains(&path) {
                found.push(path.clone());
                waiting.push(path);
            }
        }
    }
    Ok(found)
}

/// The words after `#!` in a script's first line; none for what is no script.
fn script_words(program: &Path) -> Result<Option<Vec<String>>> {
    /// As much as Linux looks at.
    const LOOKED_AT: u64 = 256;
    let mut data = Vec::new();
    fs::File::open(program)
        .and_then(|file| file.take(LOOKED_AT).read_to_end(&mut data))
        .with_context(|| format!("cannot read {}", program.display()))?;
    let line = data.strip_prefix(b"#!").and_then(|rest| rest.split(|&byte| byte == b'\n').next());
    Ok(line.map(|line| String::from_utf8_lossy(line).split_whitespace().map(str::to_owned).collect()))
}

/// The libraries of an ELF file, as the dynamic linker `linker` finds them, and the linker itself.
///
/// The linker is asked and not the file read: it knows its cache, its directories and the file's own.
pub fn libraries(linker: &Path, file: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new(linker);
    command.arg("--list").arg(file);
    let output = progress::output(&mut command)
        .with_context(|| format!("cannot start {command:?}, the dynamic linker of {}", file.display()))?;
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

/// What the C library among `libraries` opens when a thread is canceled: no list of needs has it.
fn opened_by_libc(libraries: &[PathBuf]) -> Option<PathBuf> {
    let libc = libraries.iter().find(|path| path.ends_with("libc.so.6"))?;
    Some(libc.with_file_name("libgcc_s.so.1")).filter(|unwinder| unwinder.exists())
}

/// The paths in the lines `NAME => PATH (ADDRESS)` of a dynamic linker's list. The vDSO has none.
fn listed(text: &str) -> impl Iterator<Item = PathBuf> {
    text.lines().filter_map(|line| {
        let (_, path) = line.split_once("=> ")?;
        let path = path.rsplit_once(" (").map_or(path, |(path, _)| path);
        path.starts_with('/').then(|| PathBuf::from(path))
    })
}

/// Where `program` is, looked up as a shell does, but past the shims of version managers: scripts that look for the program
/// at run time, among files that the guest does not have.
pub fn which(program: &str) -> Option<PathBuf> {
    which_in(program, &std::env::var_os("PATH")?)
}

/// The same in these directories, with colons between them.
pub fn which_in(program: &str, directories: &OsStr) -> Option<PathBuf> {
    let executable = |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|path| executable(path));
    }
    std::env::split_paths(directories)
        .filter(|directory| !directory.ends_with("shims"))
        .map(|directory| directory.join(program))
        .find(|path| executable(path))
}

/// The dynamic linker that `program` asks for; none for a static program. An error for what is no x86 ELF program, of 64 or
/// 32 bits.
pub fn interpreter(program: &Path) -> Result<Option<String>> {
    Ok(read(program)?.interpreter)
}

/// The dynamic linker for `file`: the one that it asks for, or, for a shared object that needs others, the system's.
fn linker(file: &Path) -> Result<Option<String>> {
    let elf = read(file)?;
    let system = elf.needs_libraries.then(|| elf.system_linker.to_owned());
    Ok(elf.interpreter.or(system).filter(|linker| Path::new(linker).exists()))
}

/// What an ELF file says of its dynamic linking.
struct Elf {
    interpreter: Option<String>,
    needs_libraries: bool,
    system_linker: &'static str,
}

fn read(file: &Path) -> Result<Elf> {
    let what = || format!("cannot read {}", file.display());
    let mut magic = [0; object::elf::ELFMAG.len()];
    let opened = fs::File::open(file).with_context(what)?;
    opened.take(magic.len() as u64).read_exact(&mut magic).ok();
    if magic != object::elf::ELFMAG {
        bail!("{} is no ELF program for x86", file.display());
    }
    let data = fs::read(file).with_context(what)?;
    read_as::<object::elf::FileHeader64<Endianness>>(&data, object::elf::EM_X86_64, "/lib64/ld-linux-x86-64.so.2")
        .or_else(|_| read_as::<object::elf::FileHeader32<Endianness>>(&data, object::elf::EM_386, "/lib/ld-linux.so.2"))
        .with_context(|| format!("{} is no ELF program for x86", file.display()))
}

fn read_as<Header>(data: &[u8], machine: Machine, system_linker: &'static str) -> Result<Elf>
where
    Header: FileHeader<Endian = Endianness>,
{
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    if header.e_machine(endian) != machine {
        bail!("it is a program for another machine");
    }
    let mut elf = Elf { interpreter: None, needs_libraries: false, system_linker };
    for segment in header.program_headers(endian, data)? {
        if let Ok(Some(path)) = segment.interpreter(endian, data) {
            elf.interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
        if let Ok(Some(entries)) = segment.dynamic(endian, data) {
            elf.needs_libraries |= entries.iter().any(|entry| entry.tag(endian) == object::elf::DT_NEEDED);
        }
    }
    Ok(elf)
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

    #[test]
    fn a_script_needs_its_interpreter_and_what_env_starts() {
        let scratch = tempfile::tempdir().unwrap();
        let script = scratch.path().join("script");
        let interpreters_of = |line: &str| {
            fs::write(&script, format!("{line}\necho\n")).unwrap();
            interpreters(&script).unwrap()
        };
        assert_eq!(interpreters_of("#! /bin/sh -e"), [PathBuf::from("/bin/sh")]);
        let env = interpreters_of("#!/usr/bin/env -S A=b sh -e");
        assert_eq!(env, [PathBuf::from("/usr/bin/env"), which("sh").unwrap()]);
        // A script that interprets itself has an end.
        assert_eq!(interpreters_of(&format!("#!{}", script.display())), std::slice::from_ref(&script));
        assert!(interpreters_of("echo").is_empty());
    }

    #[test]
    fn a_shared_object_needs_its_libraries() {
        let libc = libraries(Path::new("/lib64/ld-linux-x86-64.so.2"), Path::new("/bin/cat"));
        let object = libc.unwrap().into_iter().find(|path| path.ends_with("libc.so.6")).unwrap();
        // The C library needs the linker.
        let needs = needs(&object).unwrap();
        assert!(needs.iter().any(|path| path.ends_with("ld-linux-x86-64.so.2")), "{needs:?}");
    }

    #[test]
    fn what_the_c_library_opens_comes_along() {
        let scratch = tempfile::tempdir().unwrap();
        let [libc, unwinder] = ["libc.so.6", "libgcc_s.so.1"].map(|name| scratch.path().join(name));
        assert_eq!(opened_by_libc(std::slice::from_ref(&libc)), None);
        fs::write(&unwinder, "").unwrap();
        assert_eq!(opened_by_libc(&[scratch.path().join("libm.so.6"), libc]), Some(unwinder));
        assert_eq!(opened_by_libc(&[]), None);
    }

    #[test]
    fn a_shells_script_names_the_programs_it_calls() {
        let called = |program: &str, words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            called_by_shell(Path::new(program), &words)
        };
        let script = "gcc -x c - -o /tmp/a && /tmp/a; X=1 env python3 x.py | sort `which perl`\nif ! node; then $X; fi";
        let names = ["/tmp/a", "fi", "gcc", "node", "python3", "sort", "which"];
        assert_eq!(called("/bin/bash", &["-c", script]), names);
        assert_eq!(called("/bin/busybox", &["sh", "-ec", "java -version"]), ["java"]);
        assert!(called("/usr/bin/python3", &["-c", "gcc"]).is_empty());
        assert!(called("/bin/sh", &["gcc"]).is_empty());
    }

    #[test]
    fn a_starter_names_the_programs_it_starts() {
        let words = ["-f", "-o", "/dev/null", "sh", "-c", "no-such | cat"].map(str::to_owned);
        assert_eq!(called(Path::new("/usr/bin/strace"), &words), ["cat", "no-such", "sh"]);
        assert!(called(Path::new("/usr/bin/perl"), &words).is_empty());
    }
}
