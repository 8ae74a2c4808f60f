//! `/sys`: the few files of it that programs look at: which CPUs there are, and that there are no huge pages.

use alloc::format;
use alloc::vec::Vec;

use crate::fs::proc::entry::{Entry, Kind, text};
use crate::machine::cpu;

pub(super) static ENTRIES: &[Entry] = &[
    Entry { name: "devices", kind: Kind::Directory(DEVICES) },
    Entry { name: "fs", kind: Kind::Directory(FILE_SYSTEMS) },
    Entry { name: "kernel", kind: Kind::Directory(KERNEL) },
];

static DEVICES: &[Entry] = &[Entry { name: "system", kind: Kind::Directory(SYSTEM) }];

static SYSTEM: &[Entry] = &[Entry { name: "cpu", kind: Kind::Directory(CPU) }];

static CPU: &[Entry] = &[
    Entry { name: "online", kind: Kind::Machine(all_cpus) },
    Entry { name: "possible", kind: Kind::Machine(all_cpus) },
    Entry { name: "present", kind: Kind::Machine(all_cpus) },
];

/// Where control groups would be mounted.
static FILE_SYSTEMS: &[Entry] = &[Entry { name: "cgroup", kind: Kind::Directory(&[]) }];

static KERNEL: &[Entry] = &[Entry { name: "mm", kind: Kind::Directory(MM) }];

static MM: &[Entry] = &[Entry { name: "transparent_hugepage", kind: Kind::Directory(HUGE_PAGES) }];

static HUGE_PAGES: &[Entry] =
    &[Entry { name: "enabled", kind: Kind::Machine(|| b"always madvise [never]\n".to_vec()) }];

/// The list of CPUs as Linux writes lists: `0`, or `0-3`.
fn all_cpus() -> Vec<u8> {
    text(match cpu::count() {
        1 => "0\n".into(),
        count => format!("0-{}\n", count - 1),
    })
}
