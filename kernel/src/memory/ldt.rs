//! modify_ldt: the local descriptor table, one for each address space.
//!
//! A table is never changed while a CPU may have it loaded: a change makes another one, the CPUs that run in the address
//! space are told to load it, and then the old one is freed.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::*};

use portcullis::x86_64::segments::{Segment, load_ldt, load_segment};

use crate::errno::{Errno, Result};
use crate::machine::cpu;
use crate::machine::cpu::MAX_CPUS;
use crate::machine::descriptor::{Contents, LOCAL, UserDesc};
use crate::machine::segments::Segments;
use crate::machine::sync::SpinLock;
use crate::memory::address_space::current_mm;
use crate::memory::{isolation, user};

/// How many entries a table can have.
const MAX_ENTRIES: usize = 8192;
/// Bytes of an entry.
const ENTRY: usize = 8;
/// Bytes of zeros that the default table is said to have.
const DEFAULT_TABLE: usize = 128;

/// The entries of a table, which stays as it is.
pub struct Table(Vec<u64>);

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

/// modify_ldt(2): 0 reads, 1 and 17 write, 2 reads the default table. The result is an `int`: the upper half of an error is
/// zero, so that 64-bit programs that go by the sign of all 64 bits do not notice it.
pub fn sys_modify_ldt(function: u64, address: u64, bytes: u64) -> Result<usize> {
    let bytes = bytes as usize;
    let result = match function as i32 {
        0 => read(address, bytes),
        1 => write(address, bytes, Form::Old),
        2 => read_default(address, bytes),
        0x11 => write(address, bytes, Form::New),
        _ => Err(Errno::ENOSYS),
    };
    Ok(match result {
        Ok(value) => value,
        Err(Errno(number)) => (number as u32).wrapping_neg() as usize,
    })
}

/// Which meaning a segment description has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Without present and useable bits; "no base and no limit" is empty.
    Old,
    New,
}

fn read(address: u64, bytes: usize) -> Result<usize> {
    let Some(table) = current_mm().ldt().table.lock().clone() else {
        return Ok(0);
    };
    let bytes = bytes.min(MAX_ENTRIES * ENTRY);
    let filled = bytes.min(table.0.len() * ENTRY);
    // SAFETY: the table has that many bytes.
    unsafe { user::copy_to_user(address, table.0.as_ptr().cast(), filled) }?;
    user::clear(address + filled as u64, bytes - filled)?;
    Ok(bytes)
}

fn read_default(address: u64, bytes: usize) -> Result<usize> {
    let bytes = bytes.min(DEFAULT_TABLE);
    user::clear(address, bytes)?;
    Ok(bytes)
}

fn write(address: u64, bytes: usize, form: Form) -> Result<usize> {
    if bytes != size_of::<UserDesc>() {
        return Err(Errno::EINVAL);
    }
    let segment: UserDesc = user::read(address)?;
    let number = segment.entry_number as usize;
    let conforming = segment.contents() == Contents::Conforming;
    if number >= MAX_ENTRIES || conforming && (form == Form::Old || segment.is_present()) {
        return Err(Errno::EINVAL);
    }
    let entry = if segment.is_empty() || form == Form::Old && segment.has_no_extent() {
        0
    } else {
        match form {
            Form::Old => UserDesc::without_useable(segment.descriptor()),
            Form::New => segment.descriptor(),
        }
    };
    install(number, entry)?;
    Ok(0)
}

/// Puts an entry into the table of the current address space, for all CPUs that run in it.
fn install(number: usize, entry: u64) -> Result<()> {
    let mm = current_mm();
    let ldt = mm.ldt();
    let mut held = ldt.table.lock();
    let old = held.as_ref().map_or(&[][..], |table| &table.0);
    let count = old.len().max(number + 1);
    let mut entries = Vec::new();
    entries.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    entries.extend_from_slice(old);
    entries.resize(count, 0);
    entries[number] = entry;
    let old = held.replace(Arc::new(Table(entries)));
    // Whoever activates the address space from here on loads the new one; all others are told.
    ldt.shown.store(shown(&held), SeqCst);
    mm.reload_ldt();
    drop(held);
    drop(old);
    Ok(())
}

/// Loads the table of the current task's address space anew, with what DS and ES have from it. (CS and SS are loaded by
/// the way out, and FS and GS keep their bases, as in Linux.)
pub fn reload() {
    load(current_mm().ldt().shown.load(Acquire));
    let loaded = Segments::current();
    for (segment, selector) in [(Segment::Ds, loaded.ds), (Segment::Es, loaded.es)] {
        if selector & LOCAL != 0 {
            // SAFETY: interrupts are off. Where the entry has gone the register becomes null.
            let _ = unsafe { load_segment(segment, selector) };
        }
    }
}
