//! The local descriptor table, one for each address space.
//!
//! A table is never changed while a CPU may have it loaded: a change makes another one, the CPUs that run in the address
//! space are told to load it, and then the old one is freed.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::*};

use portcullis::x86_64::segments::{Segment, load_ldt};

use crate::errno::{Errno, Result};
use crate::machine::cpu;
use crate::machine::cpu::MAX_CPUS;
use crate::machine::descriptor::LOCAL;
use crate::machine::segments::{self, Segments};
use crate::machine::sync::SpinLock;
use crate::memory::isolation;

/// How many entries a table can have.
pub const MAX_ENTRIES: usize = 8192;
/// Bytes of an entry.
pub const ENTRY: usize = 8;

/// The entries of a table, which stays as it is.
pub struct Table(pub Vec<u64>);

/// An address space's table.
pub struct Ldt {
    /// The same as `shown`, counted. Held over a change.
    table: SpinLock<Option<Arc<Table>>>,
    /// What CPUs load when they switch to the address space; null if there is none.
    shown: AtomicPtr<Table>,
}

impl Ldt {
    /// None.
    pub const fn new() -> Ldt {
        Ldt { table: SpinLock::new(None), shown: AtomicPtr::new(ptr::null_mut()) }
    }

    /// A child's: the same entries. (A change of one makes a new table, so they can be shared.)
    pub fn fork(&self) -> Ldt {
        let table = self.table.lock().clone();
        let shown = shown(&table);
        Ldt { table: SpinLock::new(table), shown: AtomicPtr::new(shown) }
    }

    /// Whether there is a table.
    pub fn is_used(&self) -> bool {
        self.table.lock().is_some()
    }

    /// The descriptor with this number; 0 if there is none.
    pub fn descriptor(&self, number: u16) -> u64 {
        let table = self.table.lock();
        let entry = table.as_ref().and_then(|table| table.0.get(usize::from(number)));
        entry.copied().unwrap_or(0)
    }

    /// The entries, as they are now.
    pub fn entries(&self) -> Option<Arc<Table>> {
        self.table.lock().clone()
    }

    /// Puts an entry in. `reload` has all CPUs load the new table that have the old one.
    pub fn set(&self, number: usize, entry: u64, reload: impl FnOnce(*mut Table)) -> Result<()> {
        let mut held = self.table.lock();
        let old = held.as_ref().map_or(&[][..], |table| &table.0);
        let count = old.len().max(number + 1);
        let mut entries = Vec::new();
        entries.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        entries.extend_from_slice(old);
        entries.resize(count, 0);
        entries[number] = entry;
        let old = held.replace(Arc::new(Table(entries)));
        // Whoever activates the address space from here on loads the new one; all others are told.
        let new = shown(&held);
        self.shown.store(new, SeqCst);
        reload(new);
        drop(held);
        drop(old);
        Ok(())
    }

    /// Loads it on this CPU, unless it is loaded already. Interrupts off. The address space is the one that this CPU is known
    /// to run in, so that it hears of changes from here on.
    #[inline]
    pub fn activate(&self) {
        let table = self.shown.load(Acquire);
        if table.cast() != cpu::this().ldt.load(Relaxed) {
            load(table);
        }
    }
}

fn shown(table: &Option<Arc<Table>>) -> *mut Table {
    table.as_ref().map_or(ptr::null_mut(), |table| Arc::as_ptr(table).cast_mut())
}

/// Where a CPU has its table with page-table isolation: user mode's tables map this, and not the heap.
#[repr(C, align(4096))]
struct Area(UnsafeCell<[u64; MAX_ENTRIES]>);

// SAFETY: each is one CPU's, and changed with interrupts off.
unsafe impl Sync for Area {}

static AREAS: [Area; if isolation::ON { MAX_CPUS } else { 0 }] = [const { Area(UnsafeCell::new([0; MAX_ENTRIES])) }; _];

/// The pages of these.
pub fn areas() -> Range<u64> {
    let start = &raw const AREAS as u64;
    start..start + size_of_val(&AREAS) as u64
}

/// Copies a table to where user mode finds it, with interrupts off.
fn copy_to_area(entries: &[u64]) -> &[u64] {
    let area = AREAS[cpu::id()].0.get();
    // SAFETY: the area is this CPU's alone. Nothing looks into the table that is being replaced: none is loaded meanwhile.
    unsafe {
        load_ldt(&[]);
        (&mut *area)[..entries.len()].copy_from_slice(entries);
        &(&*area)[..entries.len()]
    }
}

/// Loads a table, null for none.
#[cold]
fn load(table: *mut Table) {
    let entries = if table.is_null() {
        &[]
    } else {
        // SAFETY: the address space keeps it until no CPU has it loaded any more (`install`, `forget`).
        unsafe { (*table).0.as_slice() }
    };
    let entries = if isolation::ON { copy_to_area(entries) } else { entries };
    // SAFETY: interrupts are off; `UserDesc::descriptor` makes nothing but segments of ring 3, not of long mode and with the
    // accessed bit set; the table lives as above.
    unsafe { load_ldt(entries) };
    cpu::this().ldt.store(table.cast(), Relaxed);
}

/// This CPU leaves the address space for good, or loads the table anew: the one it has may be freed afterwards.
pub fn forget() {
    if !cpu::this().ldt.load(Relaxed).is_null() {
        load(ptr::null_mut());
    }
}

/// Loads the table of this CPU's address space anew, where a change has made it this one, with what DS and ES have from it. (CS and
/// SS are loaded by the way out, and FS and GS keep their bases, as in Linux.)
pub fn reload(table: *mut Table) {
    load(table);
    let loaded = Segments::current();
    for (segment, selector) in [(Segment::Ds, loaded.ds), (Segment::Es, loaded.es)] {
        if selector & LOCAL != 0 {
            // SAFETY: interrupts are off. Where the entry has gone the register becomes null.
            let _ = unsafe { segments::load(segment, selector) };
        }
    }
}
