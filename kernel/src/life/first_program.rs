//! The first program: PID 2, which the initramfs names.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use linux_raw_sys::general::O_RDONLY;
use portcullis::InKernel;
use portcullis::x86_64::UserRegs;

use crate::errno::Result;
use crate::fs;
use crate::fs::path::Walk;
use crate::fs::{FdTable, FsContext};
use crate::life::exec_strings::Strings;
use crate::life::initial_stack::StackStrings;
use crate::life::{exec, exit};
use crate::machine::gate::Gate;
use crate::memory::address_space::kernel_mm;
use crate::sched::scheduler;
use crate::signal::{SigHand, TaskSignals};
use crate::task::exit_signal::ExitSignal;
use crate::task::pid;
use crate::task::pid::FIRST_PROGRAM;
use crate::task::process::Process;
use crate::task::tree::tree;
use crate::task::wait_status::WaitStatus;
use crate::task::{NewTask, Task, current};

/// Starts PID 2.
pub fn start() {
    let task = new_task().expect("no memory for the first program");
    {
        let mut tree = tree();
        tree.add_process(pid::REAPER, pid::REAPER, ExitSignal::CHILD, &task);
        tree.set_session(&task.process);
    }
    crate::fs::tty::give_console_to(&task.process);
    scheduler::start(task);
}

fn new_task() -> Result<Arc<Task>> {
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
        fs: Some(Arc::new(FsContext::new(fs::root::mounts().clone()))),
        sighand: Arc::new(SigHand::new()),
        signals: TaskSignals::new(),
        regs: UserRegs::new(0, 0),
        start: Some(run),
    })
}

/// Runs in PID 2, in the kernel: turns it into the program that the initramfs names.
fn run(at: &mut InKernel<'_, Gate>) {
    let mut envp = read_strings(b"/.portcullis/env").unwrap_or_default();
    if envp.count == 0 {
        envp.push(b"HOME=/");
        envp.push(b"PATH=/bin:/sbin:/usr/bin:/usr/sbin");
        envp.push(b"TERM=linux");
    }
    if let Ok(path) = read_strings(b"/.portcullis/cwd") {
        let path = path.bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        let fs = &current().fs;
        if let Err(error) = Walk::new(fs, fs.root()).object(path, true).and_then(|place| fs.set_cwd(place)) {
            log::error!("cannot start in {}: {error:?}", path.escape_ascii());
        }
    }
    let mut candidates = Vec::new();
    match read_strings(b"/.portcullis/argv") {
        Ok(argv) if argv.count != 0 => candidates.push(argv),
        _ => {
            for path in [b"/init".as_slice(), b"/bin/sh"] {
                let mut argv = Strings::default();
                argv.push(path);
                candidates.push(argv);
            }
        }
    }
    at.regs().orig_rax = UserRegs::NO_SYSCALL;
    for argv in candidates {
        let path = argv.bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        let strings = StackStrings { name: path.clone(), argv, envp: envp.clone() };
        let result = exec::run_path(at, strings);
        match result {
            Ok(()) => return,
            Err(error) => log::error!("cannot run {}: {error:?}", path.escape_ascii()),
        }
    }
    // As a shell says it: found but not runnable, or not found.
    exit::do_group_exit(at, WaitStatus::exited(127))
}

/// A file of NUL-terminated strings.
fn read_strings(path: &[u8]) -> Result<Strings> {
    let fs = &current().fs;
    let inode = Walk::new(fs, fs.root()).object(path, true)?.inode;
    let mut bytes = vec![0; inode.metadata().size as usize];
    let len = inode.open(O_RDONLY)?.read_kernel(&mut bytes, 0)?;
    bytes.truncate(len);
    if bytes.last().is_some_and(|&last| last != 0) {
        bytes.push(0);
    }
    let count = bytes.iter().filter(|&&byte| byte == 0).count();
    Ok(Strings { bytes, count })
}
