//! `/dev/gate`: lets tests cause what hardware does (NMIs, interprocessor interrupts) and look at the gate's counters.
//! `/dev/user-table`: what the page tables that the reader has in user mode map of the kernel.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use portcullis::x86_64::fred;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PageTableFlags as Flags;

use crate::errno::{Errno, Result};
use crate::fs::seq_file::SeqFile;
use crate::gate;
use crate::machine::direct_map::DIRECT_MAP;
use crate::machine::ipi;
use crate::machine::sync::SpinLock;
use crate::machine::{cpu, time};
use crate::memory::isolation::{ON, user_pgd};
use crate::memory::table::Table;
use crate::memory::user_table::{Found, differences, maps};
use crate::sched::rcu;
use crate::sched::timer;
use crate::vfs::buffer::{Destination, Source};
use crate::vfs::file::{File, FileOps};
use crate::vfs::inode::device_number;

/// Their device numbers.
pub const NUMBER: u64 = device_number(10, 240);
pub const USER_TABLE: u64 = device_number(10, 244);

type Status = SeqFile<fn() -> Result<alloc::vec::Vec<u8>>>;

/// The operations of an open gate device.
pub fn ops() -> Arc<dyn FileOps> {
    Arc::new(Gate(SeqFile::new(status)))
}

fn status() -> Result<alloc::vec::Vec<u8>> {
    let mut text = String::new();
    gate::status(&mut text);
    Ok(text.into_bytes())
}

/// The operations of `/dev/user-table`.
pub fn user_table_ops() -> Arc<dyn FileOps> {
    Arc::new(SeqFile::new(|| Ok(user_table().into_bytes())))
}

struct Gate(Status);

impl FileOps for Gate {
    fn seekable(&self) -> bool {
        true
    }

    fn read(&self, file: &File, to: &mut Destination, position: &mut u64) -> Result<usize> {
        self.0.read(file, to, position)
    }

    fn write(&self, _file: &File, from: &mut Source, _position: &mut u64) -> Result<usize> {
        let bytes = from.take_all(4096)?;
        let text = core::str::from_utf8(&bytes).map_err(|_| Errno::EINVAL)?;
        text.lines().try_for_each(command)?;
        Ok(bytes.len())
    }
}

/// Carries out one line.
fn command(line: &str) -> Result<()> {
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else { return Ok(()) };
    let argument = words.next().map(|word| word.parse::<u64>().map_err(|_| Errno::EINVAL)).transpose()?;
    let a_cpu = || match argument {
        Some(number) if number < cpu::count() as u64 => Ok(number as usize),
        _ => Err(Errno::EINVAL),
    };
    match name {
        "nmi" => ipi::send_nmi(a_cpu()?),
        "nmi-all" => (0..cpu::count()).for_each(ipi::send_nmi),
        "nmi-nested" => gate::nest_nmi(cpu::id),
        "nmi-nested-on" => {
            let cpu = a_cpu()?;
            gate::nest_nmi(|| cpu);
        }
        "stack-pointers" => gate::compare_stack_pointers(),
        "cr2" | "paranoid" if fred::is_on() => return Err(Errno::EOPNOTSUPP),
        "cr2" => gate::compare_cr2(),
        "watch" => gate::watch_debug_handler(),
        "paranoid" => gate::enter_paranoid_doors(),
        "ipi" => ipi::send_reschedule(a_cpu()?),
        "nmi-storm" => set_storm(argument.ok_or(Errno::EINVAL)?),
        "synchronize" => rcu::synchronize(),
        "panic" => panic!("asked for through /dev/gate"),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Nanoseconds between the NMIs of the storm; 0 while there is none.
static STORM_PERIOD: AtomicU64 = AtomicU64::new(0);
/// Held while the storm's timer is set or ended, so that there is one at most.
static STORM_RUNNING: SpinLock<bool> = SpinLock::new(false);

fn set_storm(microseconds: u64) {
    STORM_PERIOD.store(microseconds.saturating_mul(1000), Relaxed);
    let start = {
        let mut running = STORM_RUNNING.lock();
        microseconds != 0 && !core::mem::replace(&mut *running, true)
    };
    if start {
        storm(0, 0);
    }
}

/// One blast: an NMI for every CPU, this one included, and the next blast's timer.
fn storm(_: usize, _: usize) {
    let period = {
        let mut running = STORM_RUNNING.lock();
        let period = STORM_PERIOD.load(Relaxed);
        *running = period != 0;
        period
    };
    if period == 0 {
        return;
    }
    timer::add_timer(time::now().saturating_add(period), storm, 0, 0);
    (0..cpu::count()).for_each(ipi::send_nmi);
}

/// What `/dev/user-table` shows of the tables that this task has in user mode: whether they are others than the kernel's, how
/// many pages of the kernel's half they map, how many of these they should not, whether they map this and that, and how
/// many entries of the user half are not the kernel's.
fn user_table() -> String {
    let mut out = String::new();
    let kernel = Cr3::read_raw().0.start_address().as_u64();
    let pgd = user_pgd(kernel);
    let mut found = Found::default();
    let all = Flags::WRITABLE | Flags::USER_ACCESSIBLE;
    found.walk(Table::at(pgd), 3, 0xffff_0000_0000_0000, 256..512, all);
    let on_stack = 0u8;
    let on_heap = Box::new(0u8);
    for (key, value) in [
        ("isolation", u64::from(ON)),
        ("pages", found.pages),
        ("strangers", found.strangers),
        ("differences", differences(kernel, pgd)),
        ("code", u64::from(maps(pgd, user_table as *const () as u64))),
        ("data", u64::from(maps(pgd, &raw const gate::COUNTERS as u64))),
        ("direct_map", u64::from(maps(pgd, DIRECT_MAP + pgd))),
        ("heap", u64::from(maps(pgd, &raw const *on_heap as u64))),
        ("stack", u64::from(maps(pgd, &raw const on_stack as u64))),
        ("cpu", u64::from(maps(pgd, &raw const cpu::get(cpu::id()).current as u64))),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{key} {value}");
    }
    out
}
