//! The devices of the gate's hooks: `/dev/audit` and `/dev/trace` show what they record, `/dev/hooks` lets tests arm the
//! others and look at their counters.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;

use portcullis::work::SyscallWork;

use crate::errno::{Errno, Result};
use crate::fs::seq_file::SeqFile;
use crate::memory::frames;
use crate::task::tree;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};
use crate::vfs::inode::device_number;
use crate::work::task_work::Notify;
use crate::work::{audit, hooks, live_patch, return_notifier, task_work, trace_points, uprobe};

/// Their device numbers.
pub const AUDIT: u64 = device_number(10, 241);
pub const TRACE: u64 = device_number(10, 242);
pub const HOOKS: u64 = device_number(10, 243);

/// `/dev/audit`.
pub fn audit() -> Arc<dyn FileOps> {
    Arc::new(Device::new(|| Ok(audit::text().into_bytes()), audit::command))
}

/// `/dev/trace`.
pub fn trace() -> Arc<dyn FileOps> {
    let command = |line: &str| audit::set_armed(line, SyscallWork::TRACEPOINT);
    Arc::new(Device::new(|| Ok(trace_points::text().into_bytes()), command))
}

/// `/dev/hooks`.
pub fn hooks() -> Arc<dyn FileOps> {
    Arc::new(Device::new(status, command))
}

/// Text to read, lines to write.
struct Device {
    text: SeqFile<fn() -> Result<Vec<u8>>>,
    command: fn(&str) -> Result<()>,
}

impl Device {
    fn new(text: fn() -> Result<Vec<u8>>, command: fn(&str) -> Result<()>) -> Self {
        Device { text: SeqFile::new(text), command }
    }
}

impl FileOps for Device {
    fn seekable(&self) -> bool {
        true
    }

    fn read(&self, file: &File, to: &mut Destination, position: &mut u64) -> Result<usize> {
        self.text.read(file, to, position)
    }

    fn write(&self, _file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let bytes = from.take_all(4096)?;
        let text = core::str::from_utf8(&bytes).map_err(|_| Errno::EINVAL)?;
        text.lines().try_for_each(self.command)?;
        Ok(bytes.len())
    }
}

/// `key value` lines.
fn status() -> Result<Vec<u8>> {
    let mut text = String::new();
    for (key, value) in [
        ("works", WORKS.load(Relaxed)),
        ("patch_remaining", live_patch::remaining() as u64),
        ("patch_switched", live_patch::SWITCHED.load(Relaxed)),
        ("probe_hits", uprobe::hits()),
        ("user_returns", return_notifier::FIRED.load(Relaxed)),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{key} {value}");
    }
    // What was wrong with their calls, in all and one by one.
    let violations = hooks::Hook::ALL.map(hooks::Hook::violations);
    let _ = writeln!(text, "violations {}", violations.iter().sum::<u64>());
    for (hook, violations) in hooks::Hook::ALL.iter().zip(violations) {
        let _ = writeln!(text, "violations.{hook:?} {violations}");
    }
    Ok(text.into_bytes())
}

/// How much task work of `/dev/hooks` was done.
static WORKS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Carries out one line.
fn command(line: &str) -> Result<()> {
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else { return Ok(()) };
    let argument = words.next();
    let number = || argument.and_then(|word| word.parse::<u32>().ok()).ok_or(Errno::EINVAL);
    match name {
        // Work for a thread, on its next way out or at once.
        "work" => queue(number()?, Notify::Resume),
        "work-now" => queue(number()?, Notify::Signal),
        // The live patch: to the new code, back, and hurry.
        "patch" => live_patch::begin(true),
        "unpatch" => live_patch::begin(false),
        "patch-hurry" => {
            live_patch::hurry();
            Ok(())
        }
        // A probe in a file: its path, the offset.
        "probe" => {
            let offset = words.next().and_then(|word| word.parse().ok());
            uprobe::register(argument.ok_or(Errno::EINVAL)?, offset.ok_or(Errno::EINVAL)?)
        }
        "unprobe" => {
            uprobe::unregister_all();
            Ok(())
        }
        // TSC_AUX until the way to user mode.
        "lend-tsc-aux" => return_notifier::lend_tsc_aux(number()?),
        _ => Err(Errno::EINVAL),
    }
}

fn queue(tid: u32, notify: Notify) -> Result<()> {
    let task = tree::find_task(tid as i32).ok_or(Errno::ESRCH)?;
    frames::require_spare()?;
    task_work::add(
        &task,
        alloc::boxed::Box::new(|| {
            WORKS.fetch_add(1, Relaxed);
        }),
        notify,
    );
    Ok(())
}
