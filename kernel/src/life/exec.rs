//! Replacing the current program, as execve(2) asks for it.
//!
//! What the program is started with is in `exec_strings.rs` and `initial_stack.rs`, how a file gets into memory in
//! `elf_image.rs`.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::*;

use linux_raw_sys::general::*;
use portcullis::InKernel;
use portcullis::x86_64::UserRegs;
use portcullis::x86_64::tables::USER32_CS;

use crate::errno::{Errno, Result};
use crate::fs::path::Walk;
use crate::fs::{FdTable, File, vdso};
use crate::life::elf_image::Program;
use crate::life::initial_stack::StackStrings;
use crate::life::script::FirstLine;
use crate::life::{exec_credentials, exit, initial_stack, script};
use crate::machine::gate::Gate;
use crate::memory::Width;
use crate::memory::address_space::{AddressSpace, current_mm};
use crate::memory::placement::Placement;
use crate::ptrace;
use crate::sched::lent::lend;
use crate::sched::{segments, switch};
use crate::signal::SigInfo;
use crate::task::exit_signal::ExitSignal;
use crate::task::personality::{self, Personality};
use crate::task::pid::numbers;
use crate::task::process::Image;
use crate::task::restart::restart_block;
use crate::task::system_info::fill_random;
use crate::task::tree::tree;
use crate::task::{current, syscall_info};
use crate::vfs::deny_write::DenyWrite;
use crate::vfs::mount::{Location, MountFlags};
use crate::work::trace_points;

/// How many interpreters of interpreters.
const MAX_SCRIPTS: usize = 5;

/// Runs the program that the strings name, with as many of them as memory allows.
pub fn run_path(at: &mut InKernel<'_, Gate>, strings: StackStrings) -> Result<()> {
    let file = Executable::open_path(&strings.name)?;
    let request = Request { file, strings, room: usize::MAX, is_lost: false };
    exec(at, request)
}

/// A file that is open to be run: nobody may write to it.
pub struct Executable {
    file: Arc<File>,
    deny_write: DenyWrite,
}

impl Executable {
    /// EACCES for what is no program, ELOOP for a symbolic link, ETXTBSY for what is open for writing.
    pub fn open(location: Location) -> Result<Executable> {
        let inode = &location.inode;
        if inode.is_symlink() {
            return Err(Errno::ELOOP);
        }
        let metadata = inode.metadata();
        if inode.file_type() != S_IFREG || metadata.mode & 0o111 == 0 || location.has(MountFlags::NO_EXEC) {
            return Err(Errno::EACCES);
        }
        let file = inode.clone().open(O_RDONLY)?;
        file.opened_by(location.mount);
        Ok(Executable { file, deny_write: DenyWrite::new(location.inode)? })
    }

    /// The file with this name. As in Linux, no name is the working directory, which is no program.
    fn open_path(path: &[u8]) -> Result<Executable> {
        if path.is_empty() {
            return Err(Errno::EACCES);
        }
        let fs = &current().fs;
        Executable::open(Walk::new(fs, fs.cwd()).object(path, true)?)
    }
}

/// What exec is asked for.
pub struct Request {
    pub file: Executable,
    pub strings: StackStrings,
    /// What the strings may take.
    pub room: usize,
    /// The name is that of a descriptor which exec closes: a script's interpreter would not find the script.
    pub is_lost: bool,
}

/// Follows the first lines of scripts to the program that is to run.
fn resolve_scripts(request: &mut Request) -> Result<()> {
    // The name that AT_EXECFN and comm show is the one asked for; a script's interpreter is what runs.
    let mut name = request.strings.name.clone();
    let mut scripts = 0;
    loop {
        let mut start = [0; script::LINE];
        request.file.file.read_kernel(&mut start, 0)?;
        let (interpreter, argument) = match script::parse(&start) {
            FirstLine::NoScript => return Ok(()),
            FirstLine::Bad => return Err(Errno::ENOEXEC),
            FirstLine::Script { interpreter, argument } => (interpreter, argument),
        };
        if request.is_lost {
            return Err(Errno::ENOENT);
        }
        scripts += 1;
        let first = match &argument {
            Some(argument) => &[&interpreter[..], argument, &name][..],
            None => &[&interpreter[..], &name],
        };
        request.strings.argv.replace_first(first);
        if request.strings.bytes() > request.room {
            return Err(Errno::E2BIG);
        }
        request.file = Executable::open_path(&interpreter)?;
        if scripts > MAX_SCRIPTS {
            return Err(Errno::ELOOP);
        }
        name = interpreter;
    }
}

/// Replaces the current program. When this returns, the registers are the new program's. An error leaves the old one as it
/// is, or, where that is too late, the process to be killed.
pub fn exec(at: &mut InKernel<'_, Gate>, mut request: Request) -> Result<()> {
    resolve_scripts(&mut request)?;
    let Request { file, strings, .. } = request;
    let Executable { file, deny_write } = file;
    let location = file.location();
    let program = Program::parse(file)?;
    let width = program.width;
    // It may be written to again as soon as it is loaded.
    let mut _deny_write_to_interpreter = None;
    let interpreter = match &program.interpreter {
        Some(path) => {
            let Executable { file, deny_write } = Executable::open_path(path)?;
            _deny_write_to_interpreter = Some(deny_write);
            Some(Program::parse_interpreter(file, width)?)
        }
        None => None,
    };
    let mm = AddressSpace::new(width, Some(Arc::new(deny_write)))?;
    let image = Image { executable: Some(location.clone()) };
    let tracer = current().trace.tracer();
    let old_tid = tracer.map_or(0, |tracer| numbers::seen_by(&tracer.process, current().tid()));
    lend(at, become_only_thread)?;
    let files = &current().files;
    let own_files = if Arc::strong_count(files) > 1 { Some(Arc::new(files.duplicate()?)) } else { None };
    let credentials = exec_credentials::of_program(&location);
    let is_secure = credentials.is_secure;
    // From here on the old program is gone: what fails now ends the process.
    leave_old_program(mm, own_files, image, &strings.name);
    credentials.commit();
    let orig_rax = syscall_info::becomes_exec_of(width);
    let (rip, rsp) = load(&program, interpreter.as_ref(), &strings, is_secure).inspect_err(|_| {
        // There is nothing to go back to: the signal is delivered instead.
        crate::signal::send::force_exit(SigInfo::kernel(SIGSEGV as i32));
    })?;
    let regs = at.regs();
    *regs = UserRegs::new(rip, rsp);
    if width == Width::Bits32 {
        regs.set_cs(USER32_CS);
    }
    regs.orig_rax = orig_rax;
    if current().trace.is_traced() {
        crate::ptrace::stop::event(at, ptrace::Event::Exec, old_tid as u64);
    }
    Ok(())
}

/// Ends all other threads and waits until they have ended; takes over the process's PID.
fn become_only_thread() -> Result<()> {
    let task = current();
    let process = &task.process;
    if process.exec_thread.compare_exchange(0, task.tid(), SeqCst, SeqCst).is_err() || process.group_exit().is_some() {
        // Another thread was first; it has sent a SIGKILL.
        return Err(Errno::EAGAIN);
    }
    exit::kill_other_threads();
    // Tracers first see the ends of the threads that they trace; the leader's is not told as its PID lives on.
    let alone =
        || tree().node(process.pid).is_some_and(|node| node.threads.len() == 1 && node.lingering == 0).then_some(());
    let result = process.threads_changed.wait_killable(alone);
    if result.is_ok() {
        let leader = {
            let mut tree = tree();
            let leader =
                (task.tid() != process.pid).then(|| crate::ptrace::attach::forget_leader(&mut tree, process.pid));
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
    restart_block::reset_restart_fn();
    process.timers.posix.delete_all();
    process.has_execed.store(true, Relaxed);
    if let Some(node) = tree().node_mut(process.pid) {
        node.exit_signal = ExitSignal::CHILD;
    }
    task.set_comm(name.rsplit(|&byte| byte == b'/').next().unwrap_or_default());
    trace_points::named(task);
    let old_image = core::mem::replace(&mut *process.image.lock(), Arc::new(image));
    drop(old_image);
    crate::work::lifecycle::reset_for_exec();
    segments::reset_for_exec();
    switch::reset_segments(current_mm().width());
    switch::reset_fpu();
    crate::ptrace::debug::reset_current();
}

/// Where the areas of a program that starts now are, and what else its width makes of the personality.
fn placement(width: Width) -> Placement {
    let process = &current().process;
    if width == Width::Bits64 {
        process.personality.fetch_and(!Personality::READ_IMPLIES_EXEC.bits(), Relaxed);
    }
    let level = personality::randomize_va_space();
    let mut placement = Placement::default();
    if level != 0 && !process.has_personality(Personality::NO_RANDOMIZE) {
        let mut random = [0; 32];
        fill_random(&mut random);
        placement = Placement::random(width, zerocopy::transmute!(random));
    }
    if level < 2 {
        placement.brk = 0;
    }
    placement.is_upwards = process.has_personality(Personality::COMPAT_LAYOUT);
    placement
}

/// Loads the program and its interpreter into the (new, current) address space and builds the stack. Returns the first
/// instruction and the stack pointer.
fn load(
    program: &Program,
    interpreter: Option<&Program>,
    strings: &StackStrings,
    is_secure: bool,
) -> Result<(u64, u64)> {
    let mm = current_mm();
    mm.place(placement(mm.width()));
    mm.map_stack(program.wants_executable_stack(), strings.stack_size())?;
    let main = program.load(mm)?;
    mm.set_brk_start(main.end + mm.placement().brk)?;
    let interpreter = match interpreter {
        Some(program) => Some(program.load_interpreter(mm)?),
        None => None,
    };
    let base = interpreter.as_ref().map_or(0, |loaded| loaded.base);
    let entry = interpreter.map_or(main.entry, |loaded| loaded.entry);
    if entry >= mm.end() {
        return Err(Errno::EINVAL);
    }
    let vdso = vdso::map(mm, mm.width(), 0)?;
    let stack_pointer = initial_stack::build(&main, base, vdso, strings, is_secure)?;
    Ok((entry, stack_pointer))
}
