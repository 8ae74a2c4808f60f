//! The texts about a process: `/proc/PID/stat` and so on.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;

use portcullis::x86_64::UserRegs;

use crate::errno::{Errno, Result};
use crate::fs::proc::entry::{Entry, Kind, Subject, text};
use crate::fs::proc::{mounts, namespaces};
use crate::fs::tty;
use crate::machine::cpu;
use crate::memory::address_space::AddressSpace;
use crate::sched::{lent, scheduler, state};
use crate::task;
use crate::task::credentials::uid_gid::{GROUP, Ids, USER};
use crate::task::credentials::user_namespace::Writer;
use crate::task::credentials::{access, uid_gid, user_namespace};
use crate::task::process::Process;
use crate::task::signals::set::SigSet;
use crate::task::wait_status::WaitStatus;
use crate::task::{current, syscall_info, usage};
use crate::vfs::mount::Location;

/// Nanoseconds per tick of `clock_t`.
const TICK: u64 = 10_000_000;
const PAGE: u64 = 4096;

pub(super) static ENTRIES: &[Entry] = &[
    Entry { name: "auxv", kind: Kind::Private(0o400, |subject| Ok(strings(subject, |mm| mm.program().auxiliary))) },
    Entry { name: "cmdline", kind: Kind::Text(command_line) },
    Entry { name: "comm", kind: Kind::ProcessSetting(comm_line, set_comm) },
    Entry { name: "cwd", kind: Kind::Object(working_directory) },
    Entry { name: "environ", kind: Kind::Private(0o400, environ) },
    Entry { name: "exe", kind: Kind::Object(executable) },
    Entry { name: "fd", kind: Kind::Descriptors { info: false } },
    Entry { name: "fdinfo", kind: Kind::Descriptors { info: true } },
    Entry {
        name: "gid_map",
        kind: Kind::ProcessSetting(
            |subject| Ok(text(show_map(&subject.process, GROUP))),
            |subject, map| write_map(&subject.process, GROUP, map),
        ),
    },
    Entry { name: "limits", kind: Kind::Text(limits) },
    Entry { name: "maps", kind: Kind::Private(0o444, maps) },
    Entry { name: "mem", kind: Kind::Memory },
    Entry { name: "mountinfo", kind: Kind::Text(mounts::information) },
    Entry { name: "mounts", kind: Kind::Text(mounts::table) },
    Entry { name: "ns", kind: Kind::Directory(namespaces::ENTRIES) },
    Entry { name: "root", kind: Kind::Object(root_directory) },
    Entry {
        name: "setgroups",
        kind: Kind::ProcessSetting(
            |subject| Ok(user_namespace::show_setgroups(&namespace_of(&subject.process)).into()),
            |subject, value| user_namespace::write_setgroups(&namespace_of(&subject.process), value),
        ),
    },
    Entry { name: "stat", kind: Kind::Text(stat) },
    Entry { name: "statm", kind: Kind::Text(statm) },
    Entry { name: "status", kind: Kind::Text(status) },
    Entry { name: "syscall", kind: Kind::Private(0o400, system_call) },
    Entry { name: "task", kind: Kind::Threads },
    Entry {
        name: "uid_map",
        kind: Kind::ProcessSetting(
            |subject| Ok(text(show_map(&subject.process, USER))),
            |subject, map| write_map(&subject.process, USER, map),
        ),
    },
    Entry { name: "wchan", kind: Kind::Text(|_| Ok(b"0".to_vec())) },
];

/// The memory of a process that still has some of its own.
fn memory(subject: &Subject) -> Option<Arc<AddressSpace>> {
    subject.task.as_ref().filter(|task| !task.is_kernel_thread()).map(|task| task.mm())
}

fn comm(subject: &Subject) -> Vec<u8> {
    let comm = match &subject.task {
        Some(task) => task.comm(),
        None => subject.process.leader.lock().comm,
    };
    comm.iter().copied().take_while(|&byte| byte != 0).collect()
}

fn comm_line(subject: &Subject) -> Result<Vec<u8>> {
    let mut name = comm(subject);
    name.push(b'\n');
    Ok(name)
}

fn set_comm(subject: &Subject, name: &[u8]) -> Result<()> {
    subject.task()?.set_comm(name);
    Ok(())
}

/// What the process has now in an area that it was started with: arguments, environment, auxiliary vector.
fn strings(subject: &Subject, area: fn(&AddressSpace) -> core::ops::Range<u64>) -> Vec<u8> {
    let Some(mm) = memory(subject) else {
        return Vec::new();
    };
    let range = area(&mm);
    let mut bytes = alloc::vec![0; (range.end - range.start).min(256 * 1024) as usize];
    let count = mm.read(range.start, &mut bytes);
    bytes.truncate(count);
    bytes
}

fn command_line(subject: &Subject) -> Result<Vec<u8>> {
    Ok(strings(subject, |mm| mm.program().args))
}

fn environ(subject: &Subject) -> Result<Vec<u8>> {
    Ok(strings(subject, |mm| mm.program().env))
}

fn working_directory(subject: &Subject) -> Result<Location> {
    Ok(subject.task()?.fs.share().ok_or(Errno::ENOENT)?.cwd())
}

fn root_directory(subject: &Subject) -> Result<Location> {
    Ok(subject.task()?.fs.share().ok_or(Errno::ENOENT)?.root())
}

fn executable(subject: &Subject) -> Result<Location> {
    subject.task()?;
    subject.process.image.lock().executable.clone().ok_or(Errno::ENOENT)
}

fn maps(subject: &Subject) -> Result<Vec<u8>> {
    let mut out = String::new();
    if let Some(mm) = memory(subject) {
        mm.maps(&mut out).map_err(|_| Errno::ENOMEM)?;
    }
    Ok(text(out))
}

/// The letter for a thread's state, and its name.
fn state(subject: &Subject) -> (char, &'static str) {
    let Some(task) = &subject.task else {
        return ('Z', "zombie");
    };
    match scheduler::state(task) {
        state::RUNNING | state::NEW => ('R', "running"),
        state::INTERRUPTIBLE => ('S', "sleeping"),
        state::STOPPED => ('T', "stopped"),
        state::TRACED => ('t', "tracing stop"),
        state::DEAD => ('X', "dead"),
        _ => ('D', "disk sleep"),
    }
}

/// Blocked, pending for the thread, pending for the process, ignored, caught.
fn signal_sets(subject: &Subject) -> [SigSet; 5] {
    let shared = subject.process.signals.lock().pending();
    let Some(task) = &subject.task else {
        return [SigSet::EMPTY, SigSet::EMPTY, shared, SigSet::EMPTY, SigSet::EMPTY];
    };
    let (blocked, pending) = {
        let signals = task.signals.lock();
        (signals.blocked(), signals.pending())
    };
    let (ignored, caught) = task.sighand.share().map_or((SigSet::EMPTY, SigSet::EMPTY), |hand| hand.sets());
    [blocked, pending, shared, ignored, caught]
}

/// How many threads there are; the first counts until it has been waited for, a zombie too.
fn threads(process: &Process) -> usize {
    let threads = process.threads();
    let leads = threads.iter().any(|task| task.tid() == process.pid);
    threads.len() + usize::from(!leads)
}

fn stat(subject: &Subject) -> Result<Vec<u8>> {
    let process = &subject.process;
    let used = usage::of_process(process);
    let (times, children) = (used.times(), process.children_usage.times());
    let space = memory(subject).map(|mm| (mm.usage(), mm.program())).unwrap_or_default();
    let (tty, foreground) = tty::shown(process);
    // -1 for no terminal.
    let foreground = if foreground > 0 { subject.number(foreground) } else { foreground };
    let nice = subject.task.as_ref().map_or_else(|| process.leader.lock().nice, |task| task.policy.nice.load(Relaxed));
    let [blocked, pending, _, ignored, caught] = signal_sets(subject);
    let mut out = String::new();
    let id = subject.task.as_ref().map_or(process.pid, |task| task.tid());
    let name = comm(subject);
    let _ = write!(
        out,
        "{} ({}) {} {} {} {} {tty} {foreground} 0 {} {} 0 0 {} {} {} {} {} {nice} {} 0 {} {} {} {}",
        subject.number(id),
        String::from_utf8_lossy(&name),
        state(subject).0,
        subject.number(process.ppid()),
        subject.number(process.pgrp()),
        subject.number(process.session()),
        used.minor_faults.load(Relaxed),
        process.children_usage.minor_faults.load(Relaxed),
        times.utime / TICK,
        times.stime / TICK,
        children.utime / TICK,
        children.stime / TICK,
        20 + nice,
        threads(process),
        process.started.load(Relaxed) / TICK,
        space.0.size,
        space.0.resident / PAGE,
        process.rlimit(linux_raw_sys::general::RLIMIT_RSS).0,
    );
    // Code addresses, stack start, stack and instruction pointer: 0, as Linux shows them to others.
    let _ = write!(out, " 0 0 {} 0 0", space.1.stack_start);
    let _ = write!(out, " {} {} {} {}", pending.0, blocked.0, ignored.0, caught.0);
    let (exit_signal, status) = match id == process.pid {
        true => task::tree::end(process.pid).unwrap_or_default(),
        // Nobody is told of a thread's end.
        false => (-1, None),
    };
    let exit_code = status.map_or(0, WaitStatus::bits);
    // From wchan to the end.
    let program = &space.1;
    let _ = writeln!(
        out,
        " 0 0 0 {exit_signal} 0 0 0 0 0 0 0 0 0 {} {} {} {} {exit_code}",
        program.args.start, program.args.end, program.env.start, program.env.end,
    );
    Ok(text(out))
}

fn statm(subject: &Subject) -> Result<Vec<u8>> {
    let usage = memory(subject).map(|mm| mm.usage()).unwrap_or_default();
    Ok(text(format!(
        "{} {} {} {} 0 {} 0\n",
        usage.size / PAGE,
        usage.resident / PAGE,
        usage.shared / PAGE,
        usage.text / PAGE,
        usage.data / PAGE
    )))
}

/// The system call that a task sleeps in, or the reader is in: number, arguments, stack and instruction pointer.
fn system_call(subject: &Subject) -> Result<Vec<u8>> {
    let Some(task) = &subject.task else {
        // One that has ended has no stack.
        return Ok(b"-1 0x0 0x0\n".to_vec());
    };
    // It may have become somebody else's since the file was opened.
    access::check(task)?;
    let regs = if task.is_kernel_thread() { Some(UserRegs::new(0, 0)) } else { lent::snapshot(task) };
    let Some(regs) = regs else {
        return Ok(b"running\n".to_vec());
    };
    let number = syscall_info::number(&regs);
    let place = format!("{:#x} {:#x}", regs.rsp, regs.rip);
    if number == -1 {
        return Ok(text(format!("-1 {place}\n")));
    }
    let mut out = format!("{number}");
    for argument in syscall_info::args_of(&regs, task) {
        let _ = write!(out, " {argument:#x}");
    }
    let _ = writeln!(out, " {place}");
    Ok(text(out))
}

/// An id as the reader sees it.
fn shown_id(kind: uid_gid::Kind, id: u32) -> u32 {
    user_namespace::seen(&current().process.credentials.lock().namespace, kind, id)
}

/// The four ids of a kind, each behind a tab.
fn ids_line(kind: uid_gid::Kind, ids: &Ids) -> String {
    [ids.real, ids.effective, ids.saved, ids.file_system]
        .iter()
        .map(|&id| format!("\t{}", shown_id(kind, id)))
        .collect()
}

fn status(subject: &Subject) -> Result<Vec<u8>> {
    let process = &subject.process;
    let (letter, state) = state(subject);
    let id = subject.task.as_ref().map_or(process.pid, |task| task.tid());
    let mut out = String::new();
    let name = comm(subject);
    let umask = subject.task.as_ref().and_then(|task| task.fs.share()).map_or(0, |fs| fs.umask());
    let _ = writeln!(out, "Name:\t{}", String::from_utf8_lossy(&name));
    let _ = writeln!(out, "Umask:\t{umask:04o}");
    let _ = writeln!(out, "State:\t{letter} ({state})");
    let _ = writeln!(out, "Tgid:\t{}\nNgid:\t0\nPid:\t{}", subject.number(process.pid), subject.number(id));
    let tracer = subject.task.as_ref().and_then(|task| task.trace.tracer());
    let tracer = tracer.map_or(0, |tracer| subject.number(tracer.tid()));
    let _ = writeln!(out, "PPid:\t{}\nTracerPid:\t{tracer}", subject.number(process.ppid()));
    let credentials = process.credentials.lock().clone();
    let _ = writeln!(out, "Uid:{}", ids_line(USER, &credentials.user));
    let _ = writeln!(out, "Gid:{}", ids_line(GROUP, &credentials.group));
    let files = subject.task.as_ref().and_then(|task| task.files.share());
    let size = files.map_or(0, |files| files.descriptors().len().next_multiple_of(64));
    let _ = write!(out, "FDSize:\t{size}\nGroups:\t");
    for &group in &credentials.groups {
        let _ = write!(out, "{} ", shown_id(GROUP, group));
    }
    out.push('\n');
    for (name, id) in [("NStgid", process.pid), ("NSpid", id), ("NSpgid", process.pgrp()), ("NSsid", process.session())]
    {
        subject.write_numbers(&mut out, name, id);
    }
    if let Some(mm) = memory(subject) {
        let usage = mm.usage();
        for (name, bytes) in [
            ("VmPeak", usage.size),
            ("VmSize", usage.size),
            ("VmLck", 0),
            ("VmHWM", mm.peak_resident()),
            ("VmRSS", usage.resident),
            ("VmData", usage.data),
            ("VmStk", usage.stack),
            ("VmExe", usage.text),
        ] {
            let _ = writeln!(out, "{name}:\t{:>8} kB", bytes / 1024);
        }
    }
    let _ = writeln!(out, "Threads:\t{}", threads(process));
    let (queued, limit) =
        (process.signals.lock().user.queued(), process.rlimit(linux_raw_sys::general::RLIMIT_SIGPENDING).0);
    let _ = writeln!(out, "SigQ:\t{queued}/{limit}");
    let [blocked, pending, shared, ignored, caught] = signal_sets(subject);
    let sets = [("SigPnd", pending), ("ShdPnd", shared), ("SigBlk", blocked), ("SigIgn", ignored), ("SigCgt", caught)];
    for (name, set) in sets {
        let _ = writeln!(out, "{name}:\t{:016x}", set.0);
    }
    for (name, set) in credentials.capabilities.sets() {
        let _ = writeln!(out, "{name}:\t{set:016x}");
    }
    let (no_new_privs, seccomp) =
        subject.task.as_ref().map_or((false, 0), |task| (task.no_new_privs.load(Relaxed), task.hooks.seccomp.mode()));
    let _ = writeln!(out, "NoNewPrivs:\t{}\nSeccomp:\t{seccomp}", u8::from(no_new_privs));
    let allowed = subject.task.as_ref().map_or(0, |task| task.affinity.load(Relaxed));
    let online = u64::MAX >> (64 - cpu::count());
    let _ = writeln!(out, "Cpus_allowed:\t{:x}", allowed & online);
    if let Some(task) = &subject.task {
        let _ = writeln!(out, "voluntary_ctxt_switches:\t{}", task.usage.voluntary.load(Relaxed));
        let _ = writeln!(out, "nonvoluntary_ctxt_switches:\t{}", task.usage.involuntary.load(Relaxed));
    }
    Ok(text(out))
}

/// Name and unit of each resource limit, in the order of their numbers.
const LIMITS: [(&str, &str); 16] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

fn limits(subject: &Subject) -> Result<Vec<u8>> {
    let shown = |value: u64| {
        if value == u64::MAX { "unlimited".into() } else { format!("{value}") }
    };
    let mut out = format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (which, (name, unit)) in LIMITS.iter().enumerate() {
        let (soft, hard) = subject.process.rlimit(which as u32);
        let _ = writeln!(out, "{name:<25} {:<20} {:<20} {unit:<10}", shown(soft), shown(hard));
    }
    Ok(text(out))
}

/// The text of `/proc/PID/fdinfo/N`.
pub(super) fn descriptor_info(subject: &Subject, fd: u64) -> Result<Vec<u8>> {
    let files = subject.task()?.files.share().ok_or(Errno::ENOENT)?;
    let file = files.get_any(fd).map_err(|_| Errno::ENOENT)?;
    let position = file.seek(0, linux_raw_sys::general::SEEK_CUR).unwrap_or(0);
    let close_on_exec = if files.close_on_exec(fd)? { linux_raw_sys::general::O_CLOEXEC } else { 0 };
    let ino = file.inode().metadata().ino;
    let mount = file.location().mount.map_or(0, |mount| mount.id);
    let flags = file.flags() | close_on_exec;
    let mut out = format!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{ino}\n");
    file.ops().describe(&file, &mut out);
    Ok(text(out))
}

fn namespace_of(process: &Process) -> user_namespace::Namespace {
    process.credentials.lock().namespace.clone()
}

fn show_map(process: &Process, kind: uid_gid::Kind) -> String {
    user_namespace::show_map(&namespace_of(process), kind, namespace_of(&current().process))
}

fn write_map(process: &Process, kind: uid_gid::Kind, map: &[u8]) -> Result<()> {
    let credentials = current().process.credentials.lock().clone();
    let writer = Writer {
        user: credentials.user.effective,
        group: credentials.group.effective,
        is_admin: credentials.is_admin(),
        namespace: credentials.namespace,
    };
    user_namespace::write_map(&namespace_of(process), kind, map, &writer)
}
