//! Audit: a record of each system call's beginning and end, shown by `/dev/audit`.
//!
//! `on`, `off`, `on TID`, `off TID` and `clear` are written to the device. What is armed for a task is armed for its
//! children. Reading gives the newest records, the oldest of them first.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use portcullis::work::SyscallWork;
use portcullis::x86_64::UserRegs;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::task::seccomp::data::Data;
use crate::task::{Pid, current, syscall_info};
use crate::work::hooks;

/// How many records are kept.
const CAPACITY: usize = 1024;

/// One line.
#[derive(Clone, Copy)]
struct Record {
    /// The call's: entry and exit have the same.
    serial: u64,
    tid: Pid,
    arch: u32,
    number: i32,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Entry([u64; 6]),
    Exit(i64),
    /// The task ended within the call.
    End,
    /// A filter logged it, with this action.
    Seccomp(u32),
}

static RECORDS: SpinLock<VecDeque<Record>> = SpinLock::new(VecDeque::new());
static SERIAL: AtomicU64 = AtomicU64::new(0);

fn push(record: Record) {
    let mut records = RECORDS.lock();
    if records.len() == CAPACITY {
        records.pop_front();
    }
    records.push_back(record);
}

fn next_serial() -> u64 {
    SERIAL.fetch_add(1, Relaxed) + 1
}

/// The hook at entry, after everybody who may still change or refuse the call.
#[inline(never)]
pub fn syscall_entry(regs: &UserRegs, number: i64) {
    let task = current();
    let (arch, number) = (syscall_info::arch(), number as i32);
    let serial = next_serial();
    task.hooks.audit.serial.store(serial, Relaxed);
    task.hooks.audit.call.store(u64::from(arch) << 32 | u64::from(number as u32), Relaxed);
    push(Record { serial, tid: task.tid(), arch, number, what: What::Entry(syscall_info::args(regs)) });
}

/// The hook at exit. Without a beginning there is no end: the call has armed the audit itself.
#[inline(never)]
pub fn syscall_exit(regs: &UserRegs) {
    finish(What::Exit(regs.rax as i64));
}

/// The current task ends.
pub fn end() {
    finish(What::End);
}

fn finish(what: What) {
    let task = current();
    let serial = task.hooks.audit.serial.swap(0, Relaxed);
    if serial == 0 {
        return;
    }
    let call = task.hooks.audit.call.load(Relaxed);
    push(Record { serial, tid: task.tid(), arch: (call >> 32) as u32, number: call as i32, what });
}

/// A filter logs a call.
pub fn seccomp(data: &Data, action: u32) {
    push(Record {
        serial: next_serial(),
        tid: current().tid(),
        arch: data.arch,
        number: data.number,
        what: What::Seccomp(action),
    });
}

/// What the device shows.
pub fn text() -> String {
    let mut text = String::new();
    let records = RECORDS.lock().clone();
    for record in records {
        let Record { serial, tid, arch, number, .. } = record;
        let kind = match record.what {
            What::Entry(_) => "entry",
            What::Exit(_) => "exit",
            What::End => "end",
            What::Seccomp(_) => "seccomp",
        };
        // Writing to a string does not fail.
        let _ = write!(text, "{serial} {kind} tid={tid} arch={arch:x} syscall={number}");
        let _ = match record.what {
            What::Entry([a, b, c, d, e, f]) => {
                writeln!(text, " a0={a:x} a1={b:x} a2={c:x} a3={d:x} a4={e:x} a5={f:x}")
            }
            What::Exit(value) => {
                let success = if (-4095..0).contains(&value) { "no" } else { "yes" };
                writeln!(text, " success={success} exit={value}")
            }
            What::End => writeln!(text),
            What::Seccomp(action) => writeln!(text, " action={action:x}"),
        };
    }
    text
}

/// Carries out a line that was written to the device.
pub fn command(line: &str) -> Result<()> {
    if line == "clear" {
        RECORDS.lock().clear();
        return Ok(());
    }
    set_armed(line, SyscallWork::AUDIT)
}

/// `on`, `off`, `on TID`, `off TID`.
pub fn set_armed(line: &str, work: SyscallWork) -> Result<()> {
    let mut words = line.split_ascii_whitespace();
    let on = match words.next() {
        Some("on") => true,
        Some("off") => false,
        None => return Ok(()),
        _ => return Err(Errno::EINVAL),
    };
    let tid = words.next().map(|word| word.parse().map_err(|_| Errno::EINVAL));
    hooks::set_armed(tid.transpose()?, work, on)
}
