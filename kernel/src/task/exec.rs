//! execve, execveat, and the first program.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::*;

use linux_raw_sys::auxvec::*;
use linux_raw_sys::general::*;
use portcullis::x86_64::UserRegs;
use portcullis::x86_64::tables::{USER_CS, USER_DS, USER32_CS};

use super::exit_signal::ExitSignal;
use super::ids::{GROUP, USER};
use super::image::{Loaded, Program};
use super::process::{self, FIRST_PROGRAM, Image, Process, tree};
use super::{
    NewTask, Task, call, current, exit, kernel_mm, pid_namespace, restart, scheduler, switch, user_namespace,
};
use crate::errno::{Errno, Result};
use crate::fs::path::{Walk, shown_path, start_directory};
use crate::fs::{self, FdTable, File, FsContext};
use crate::memory::address_space::{self, AddressSpace};
use crate::memory::{PAGE_SIZE, Width, frames, user};
use crate::ptrace;
use crate::segments;
use crate::signal::{self, SigHand, TaskSignals};
use crate::trace;
use crate::vdso;

/// The longest argument, with its NUL (MAX_ARG_STRLEN).
const MAX_STRING: usize = 32 * PAGE_SIZE as usize;
/// How many interpreters of interpreters.
const MAX_SCRIPTS: usize = 5;
/// How much of a script's first line counts.
const SCRIPT_LINE: usize = 256;
/// Interrupts on, and the bit that is always one.
const INITIAL_RFLAGS: u64 = 0x202;
/// CLOCKS_PER_SEC of `times`.
const USER_HZ: u64 = 100;
/// AT_HWCAP2: FSGSBASE may be used.
const HWCAP2_FSGSBASE: u64 = 2;

/// Strings, each NUL-terminated, one after the other.
#[derive(Clone, Default)]
struct Strings {
    bytes: Vec<u8>,
    count: usize,
}

impl Strings {
    fn push(&mut self, string: &[u8]) {
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
        self.count += 1;
    }

    /// Reads a NULL-terminated array of pointers to strings; the pointers are as wide as the call. A null array counts as
    /// an empty one, as in Linux.
    fn from_user(array: u64, limit: usize) -> Result<Self> {
        let mut strings = Strings::default();
        if array == 0 {
            return Ok(strings);
        }
        loop {
            let count = strings.count as u64;
            let pointer: u64 = if Width::of_call() == Width::Bits32 {
                user::read::<u32>(array.wrapping_add(4 * count))?.into()
            } else {
                user::read(array.wrapping_add(8 * count))?
            };
            if pointer == 0 {
                return Ok(strings);
            }
            let string = user::read_cstr(pointer, MAX_STRING).map_err(|error| match error {
                Errno::ENAMETOOLONG => Errno::E2BIG,
                error => error,
            })?;
            frames::require_spare()?;
            strings.push(&string);
            if strings.size() > limit {
                return Err(Errno::E2BIG);
            }
        }
    }

    /// What they take on the stack, pointers included.
    fn size(&self) -> usize {
        self.bytes.len() + self.count * size_of::<u64>()
    }

    /// The same without the first.
    fn tail(&self) -> Strings {
        let first = self
            .bytes
            .iter()
            .position(|&byte| byte == 0)
            .map_or(0, |at| at + 1);
        Strings {
            bytes: self.bytes[first..].to_vec(),
            count: self.count.saturating_sub(1),
        }
    }
}

/// execve(2).
pub fn sys_execve(regs: &mut UserRegs) -> Result<usize> {
    let (path, arguments, environment) = (regs.rdi, regs.rsi, regs.rdx);
    execve(regs, path, arguments, environment)
}

/// execve(2), with the arguments of whichever table.
pub fn execve(regs: &mut UserRegs, path: u64, arguments: u64, environment: u64) -> Result<usize> {
    execute(regs, AT_FDCWD as u64, path, arguments, environment, 0)
}

/// execveat(2).
pub fn sys_execveat(regs: &mut UserRegs) -> Result<usize> {
    let (fd, path, arguments, environment, flags) = (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8);
    execveat(regs, fd, path, arguments, environment, flags)
}

/// execveat(2), with the arguments of whichever table.
pub fn execveat(
    regs: &mut UserRegs,
    fd: u64,
    path: u64,
    arguments: u64,
    environment: u64,
    flags: u64,
) -> Result<usize> {
    if flags as u32 & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    execute(regs, fd, path, arguments, environment, flags as u32)
}

fn execute(
    regs: &mut UserRegs,
    fd: u64,
    path: u64,
    arguments: u64,
    environment: u64,
    flags: u32,
) -> Result<usize> {
    let path = user::read_cstr(path, fs::path::PATH_MAX)?;
    let (file, name) = if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        let inode = current().files.get_any(fd)?.inode().clone();
        (open(inode)?, alloc::format!("/dev/fd/{}", fd as i32).into_bytes())
    } else {
        let mut walk = Walk::new(&current().fs, start_directory(fd)?);
        let inode = walk.object(&path, flags & AT_SYMLINK_NOFOLLOW == 0)?;
        if inode.is_symlink() {
            return Err(Errno::ELOOP);
        }
        let relative = fd as i32 != AT_FDCWD && path.first() != Some(&b'/');
        let name = if relative {
            let mut name = alloc::format!("/dev/fd/{}/", fd as i32).into_bytes();
            name.extend_from_slice(&path);
            name
        } else {
            path
        };
        (open(inode)?, name)
    };
    let limit = argument_limit();
    let mut arguments = Strings::from_user(arguments, limit)?;
    let environment = Strings::from_user(environment, limit)?;
    if arguments.count == 0 {
        // A program may rely on having a name.
        arguments.push(b"");
    }
    if arguments.size() + environment.size() > limit {
        return Err(Errno::E2BIG);
    }
    exec(regs, file, name, arguments, environment)?;
    Ok(0)
}

/// A quarter of the stack limit, but at least 128 KiB and at most three quarters of the default stack.
fn argument_limit() -> usize {
    (current().process.rlimit(RLIMIT_STACK).0 / 4).clamp(128 << 10, 6 << 20) as usize
}

/// Opens a file to run it. EACCES for what is no program.
fn open(inode: Arc<dyn fs::Inode>) -> Result<Arc<File>> {
    let metadata = inode.metadata();
    if inode.file_type() != S_IFREG || metadata.mode & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    inode.open(O_RDONLY)
}

fn open_path(path: &[u8]) -> Result<Arc<File>> {
    let fs = &current().fs;
    open(Walk::new(fs, fs.cwd()).object(path, true)?)
}

/// Replaces the current program. When this returns, `regs` are the new program's. An error leaves the old one as it
/// is, or, where that is too late, the process to be killed.
fn exec(
    regs: &mut UserRegs,
    file: Arc<File>,
    name: Vec<u8>,
    mut arguments: Strings,
    environment: Strings,
) -> Result<()> {
    let mut file = file;
    let mut script = name.clone();
    let mut scripts = 0;
    // The name that AT_EXECFN and comm show is the one asked for; a script's interpreter is what runs.
    while let Some(Script {
        interpreter,
        argument,
    }) = script_line(&file)?
    {
        scripts += 1;
        if scripts > MAX_SCRIPTS {
            return Err(Errno::ELOOP);
        }
        let rest = arguments.tail();
        arguments = Strings::default();
        arguments.push(&interpreter);
        if let Some(argument) = argument {
            arguments.push(&argument);
        }
        arguments.push(&script);
        arguments.bytes.extend_from_slice(&rest.bytes);
        arguments.count += rest.count;
        file = open_path(&interpreter)?;
        script = interpreter;
    }
    let path = shown_path(file.inode());
    let program = Program::parse(file)?;
    let interpreter = match &program.interpreter {
        Some(path) => Some(Program::parse(open_path(path)?)?),
        None => None,
    };
    let width = program.width;
    if interpreter
        .as_ref()
        .is_some_and(|interpreter| interpreter.width != width)
    {
        return Err(Errno::ENOEXEC);
    }
    let mm = AddressSpace::new(width)?;
    let image = Image { path };
    let tracer = current().trace.tracer();
    let old_tid = tracer.map_or(0, |tracer| {
        pid_namespace::seen_by(&tracer.process, current().tid())
    });
    become_only_thread()?;
    let files = &current().files;
    let own_files = if Arc::strong_count(files) > 1 {
        Some(Arc::new(files.duplicate()?))
    } else {
        None
    };
    // From here on the old program is gone: what fails now ends the process.
    leave_old_program(mm, own_files, image, &name);
    let orig_rax = call::becomes_exec_of(width);
    let (rip, rsp) =
        load(&program, interpreter.as_ref(), &name, &arguments, &environment).inspect_err(|_| {
            // There is nothing to go back to: the signal is delivered instead.
            signal::send::kill_thread(current());
        })?;
    *regs = UserRegs {
        rip,
        rsp,
        cs: match width {
            Width::Bits64 => USER_CS,
            Width::Bits32 => USER32_CS,
        }
        .into(),
        ss: USER_DS.into(),
        rflags: INITIAL_RFLAGS,
        orig_rax,
        ..UserRegs::default()
    };
    if current().trace.is_traced() {
        ptrace::stop::event(ptrace::Event::Exec, old_tid as u64);
    }
    Ok(())
}

/// The first line of a script.
struct Script {
    interpreter: Vec<u8>,
    argument: Option<Vec<u8>>,
}

/// Reads `#! interpreter [argument]`. None if the file is no script.
fn script_line(file: &File) -> Result<Option<Script>> {
    let mut start = [0u8; SCRIPT_LINE];
    let len = file.read_kernel(&mut start, 0)?;
    let Some(line) = start[..len].strip_prefix(b"#!") else {
        return Ok(None);
    };
    let line = match line.iter().position(|&byte| byte == b'\n') {
        Some(end) => &line[..end],
        // A line that is cut off is fine as long as the interpreter's name is whole.
        None if len == SCRIPT_LINE && !line.trim_ascii_start().iter().any(u8::is_ascii_whitespace) => {
            return Err(Errno::ENOEXEC);
        }
        None => line,
    };
    let line = line
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let (name, argument) = match line.iter().position(|&byte| byte == b' ' || byte == b'\t') {
        Some(end) => (&line[..end], Some(line[end..].trim_ascii().to_vec())),
        None => (line, None),
    };
    if name.is_empty() {
        return Err(Errno::ENOEXEC);
    }
    Ok(Some(Script {
        interpreter: name.to_vec(),
        argument,
    }))
}

/// Ends all other threads and waits until they have ended; takes over the process's PID.
fn become_only_thread() -> Result<()> {
    let task = current();
    let process = &task.process;
    if process
        .exec_thread
        .compare_exchange(0, task.tid(), SeqCst, SeqCst)
        .is_err()
        || process.group_exit().is_some()
    {
        // Another thread was first; it has sent a SIGKILL.
        return Err(Errno::EAGAIN);
    }
    exit::kill_other_threads();
    // Tracers first see the ends of the threads that they trace; the leader's is not told as its PID lives on.
    let alone = || {
        tree()
            .node(process.pid)
            .is_some_and(|node| node.threads.len() == 1 && node.lingering == 0)
            .then_some(())
    };
    let result = process.threads_changed.wait_killable(alone);
    if result.is_ok() {
        let leader = {
            let mut tree = tree();
            let leader =
                (task.tid() != process.pid).then(|| ptrace::relation::forget_leader(&mut tree, process.pid));
            tree.take_over_pid(task);
            leader
        };
        drop(leader);
    }
    process.exec_thread.store(0, SeqCst);
    result.map_err(|_| Errno::EAGAIN)
}

/// Gives up what exec does not keep.
fn leave_old_program(mm: Arc<AddressSpace>, own_files: Option<Arc<FdTable>>, image: Image, name: &[u8]) {
    let task = current();
    let process = &task.process;
    exit::leave_memory(mm);
    if own_files.is_some() {
        drop(task.files.replace(own_files));
    }
    task.files.close_for_exec();
    if Arc::strong_count(&task.sighand) > 1 {
        let copy = Arc::new(task.sighand.fork());
        drop(task.sighand.replace(Some(copy)));
    }
    task.sighand.reset_for_exec();
    task.signals.lock().reset_for_exec();
    restart::forget();
    process.timers.stop_posix();
    process.has_execed.store(true, Relaxed);
    process.dumpable.store(true, Relaxed);
    if let Some(node) = tree().node_mut(process.pid) {
        node.exit_signal = ExitSignal::CHILD;
    }
    process.credentials.lock().capabilities.keep = false;
    task.set_comm(name.rsplit(|&byte| byte == b'/').next().unwrap_or_default());
    trace::named(task);
    let old_image = core::mem::replace(&mut *process.image.lock(), Arc::new(image));
    drop(old_image);
    super::hooks::reset_for_exec();
    segments::reset_for_exec();
    switch::reset_segments(super::current_mm().width());
    switch::reset_fpu();
    ptrace::debug::reset_current();
}

/// Loads the program and its interpreter into the (new, current) address space and builds the stack. Returns the first
/// instruction and the stack pointer.
fn load(
    program: &Program,
    interpreter: Option<&Program>,
    name: &[u8],
    arguments: &Strings,
    environment: &Strings,
) -> Result<(u64, u64)> {
    let mm = super::current_mm();
    mm.map_stack(program.wants_executable_stack())?;
    let main = program.load(mm, false)?;
    mm.set_brk_start(main.end)?;
    let interpreter = match interpreter {
        Some(program) => Some(program.load(mm, true)?),
        None => None,
    };
    let base = interpreter.as_ref().map_or(0, |loaded| loaded.base);
    let vdso = vdso::map(mm, mm.width(), 0)?;
    let stack_pointer = build_stack(&main, base, vdso, name, arguments, environment)?;
    Ok((
        interpreter.map_or(main.entry, |loaded| loaded.entry),
        stack_pointer,
    ))
}

/// Writes arguments, environment and auxiliary vector to the top of the stack, in words of the program's width.
///
/// ```text
///   top            8 bytes of zero
///                  name of the program (AT_EXECFN)
///                  environment strings
///                  argument strings
///                  "x86_64" or "i686" (AT_PLATFORM), 16 random bytes (AT_RANDOM)
///                  auxiliary vector, ending in AT_NULL
///                  pointers to the environment, NULL
///                  pointers to the arguments, NULL
///   stack pointer  number of arguments                            (16-byte aligned)
/// ```
fn build_stack(
    main: &Loaded,
    interpreter_base: u64,
    vdso: u64,
    name: &[u8],
    arguments: &Strings,
    environment: &Strings,
) -> Result<u64> {
    let mm = super::current_mm();
    let top = mm.stack_top();
    let word = mm.width().word();
    let platform: &[u8] = match mm.width() {
        Width::Bits64 => b"x86_64\0",
        Width::Bits32 => b"i686\0",
    };
    let mut random = [0u8; 16];
    super::system::fill_random(&mut random);

    let name_at = top - 8 - (name.len() as u64 + 1);
    let environment_at = name_at - environment.bytes.len() as u64;
    let arguments_at = environment_at - arguments.bytes.len() as u64;
    let platform_at = arguments_at - platform.len() as u64;
    let random_at = (platform_at - random.len() as u64) & !15;

    let credentials = current().process.credentials.lock().clone();
    let seen = |kind, id| u64::from(user_namespace::seen(&credentials.namespace, kind, id));
    let cpuid = raw_cpuid::cpuid!(1);
    let mut auxiliary = vdso::auxiliary(mm.width(), vdso);
    auxiliary.extend([
        (AT_MINSIGSTKSZ, crate::signal::min_stack_size()),
        (AT_HWCAP, cpuid.edx.into()),
        (AT_PAGESZ, PAGE_SIZE),
        (AT_CLKTCK, USER_HZ),
        (AT_PHDR, main.headers),
        (AT_PHENT, main.header_size),
        (AT_PHNUM, main.header_count),
        (AT_BASE, interpreter_base),
        (AT_FLAGS, 0),
        (AT_ENTRY, main.entry),
        (AT_UID, seen(USER, credentials.user.real)),
        (AT_EUID, seen(USER, credentials.user.effective)),
        (AT_GID, seen(GROUP, credentials.group.real)),
        (AT_EGID, seen(GROUP, credentials.group.effective)),
        (AT_SECURE, 0),
        (AT_RANDOM, random_at),
        (
            AT_HWCAP2,
            if switch::has_fsgsbase() {
                HWCAP2_FSGSBASE
            } else {
                0
            },
        ),
        (AT_EXECFN, name_at),
        (AT_PLATFORM, platform_at),
        (AT_NULL, 0),
    ]);
    let words = 1 + arguments.count + 1 + environment.count + 1 + 2 * auxiliary.len();
    let stack_pointer = (random_at - (word * words) as u64) & !15;

    let mut memory = vec![0u8; (top - stack_pointer) as usize];
    let mut put = |address: u64, bytes: &[u8]| {
        let at = (address - stack_pointer) as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(name_at, name);
    put(environment_at, &environment.bytes);
    put(arguments_at, &arguments.bytes);
    put(platform_at, platform);
    put(random_at, &random);
    let mut at = stack_pointer;
    // All words are below the end of the program's memory, so the upper half of a 32-bit program's is zero.
    let mut put_word = |value: u64| {
        put(at, &value.to_le_bytes()[..word]);
        at += word as u64;
    };
    put_word(arguments.count as u64);
    for (strings, first) in [(arguments, arguments_at), (environment, environment_at)] {
        let mut address = first;
        for string in strings.bytes.split_inclusive(|&byte| byte == 0) {
            put_word(address);
            address += string.len() as u64;
        }
        put_word(0);
    }
    let auxiliary_at = stack_pointer + (word * (words - 2 * auxiliary.len())) as u64;
    let auxiliary_end = stack_pointer + (word * words) as u64;
    for (kind, value) in auxiliary {
        put_word(kind.into());
        put_word(value);
    }
    // SAFETY: `memory` has that many bytes.
    unsafe { user::copy_to_user(stack_pointer, memory.as_ptr(), memory.len()) }?;
    mm.set_program(address_space::Program {
        arguments: arguments_at..environment_at,
        environment: environment_at..name_at,
        auxiliary: auxiliary_at..auxiliary_end,
        stack_start: stack_pointer,
    });
    Ok(stack_pointer)
}

/// Starts PID 2.
pub(super) fn start_first_program() {
    let task = first_task().expect("no memory for the first program");
    {
        let mut tree = tree();
        tree.add_process(process::REAPER, process::REAPER, ExitSignal::CHILD, &task);
        tree.set_session(&task.process);
    }
    task.process.has_tty.store(true, Relaxed);
    fs::tty::set_controlling_session(&task.process);
    scheduler::start(task);
}

fn first_task() -> Result<Arc<Task>> {
    let pid = tree().allocate_pid()?;
    assert_eq!(pid, FIRST_PROGRAM);
    let files = FdTable::new();
    for (fd, file) in fs::console_stdio().into_iter().enumerate() {
        files.put(fd as u64, file)?;
    }
    Task::new(NewTask {
        tid: pid,
        process: Process::new(pid, None, None),
        mm: kernel_mm(),
        files: Some(Arc::new(files)),
        fs: Some(Arc::new(FsContext::new(fs::root()))),
        sighand: Arc::new(SigHand::new()),
        signals: TaskSignals::new(),
        start: Some(run_first_program),
    })
}

/// Runs in PID 2, in the kernel: turns it into the program that the initramfs names.
fn run_first_program() {
    let mut environment = read_strings(b"/.portcullis/env").unwrap_or_default();
    if environment.count == 0 {
        environment.push(b"HOME=/");
        environment.push(b"PATH=/bin:/sbin:/usr/bin:/usr/sbin");
        environment.push(b"TERM=linux");
    }
    let mut candidates = Vec::new();
    match read_strings(b"/.portcullis/argv") {
        Ok(arguments) if arguments.count != 0 => candidates.push(arguments),
        _ => {
            for path in [b"/init".as_slice(), b"/bin/sh"] {
                let mut arguments = Strings::default();
                arguments.push(path);
                candidates.push(arguments);
            }
        }
    }
    // SAFETY: the task is current and in the kernel: its user registers are its own.
    let regs = unsafe { &mut *current().user_regs() };
    regs.orig_rax = u64::MAX;
    for arguments in candidates {
        let path = arguments
            .bytes
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default()
            .to_vec();
        let result =
            open_path(&path).and_then(|file| exec(regs, file, path.clone(), arguments, environment.clone()));
        match result {
            Ok(()) => return,
            Err(error) => log::error!("cannot run {}: {error:?}", path.escape_ascii()),
        }
    }
    // As a shell says it: found but not runnable, or not found.
    exit::do_group_exit(127 << 8)
}

/// A file of NUL-terminated strings.
fn read_strings(path: &[u8]) -> Result<Strings> {
    let fs = &current().fs;
    let inode = Walk::new(fs, fs.root()).object(path, true)?;
    let mut bytes = vec![0; inode.metadata().size as usize];
    let len = inode.open(O_RDONLY)?.read_kernel(&mut bytes, 0)?;
    bytes.truncate(len);
    if bytes.last().is_some_and(|&last| last != 0) {
        bytes.push(0);
    }
    let count = bytes.iter().filter(|&&byte| byte == 0).count();
    Ok(Strings { bytes, count })
}
