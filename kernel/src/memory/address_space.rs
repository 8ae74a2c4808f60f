//! An address space: what it has mapped, and the operations that change it.
//!
//! One lock guards areas and page tables. Whatever may free a file (dropping areas) happens outside it.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use spin::Once;

use crate::errno::Result;
use crate::machine::cpu;
use crate::machine::sync::SpinLock;
use crate::memory::concurrency_ids::ConcurrencyIds;
use crate::memory::ldt::Ldt;
use crate::memory::page_table::PageTables;
use crate::memory::pkeys::Keys;
use crate::memory::placement::Placement;
use crate::memory::vma::{Area, AreaFlags, AreaSet};
use crate::memory::width::Width;
use crate::memory::{frames, tlb};

/// What keeps the file of a program from being written to.
pub type ProgramFile = Option<Arc<dyn Any + Send + Sync>>;

/// The user's half of what a process sees. See the module's comment.
pub struct AddressSpace {
    /// Changed under the lock of `inner`.
    pub(super) tables: PageTables,
    pub(super) inner: SpinLock<Inner>,
    /// The commands of membarrier(2) that it has registered for.
    pub membarrier: AtomicU32,
    /// Of the threads that run in it, for restartable sequences.
    pub concurrency_ids: ConcurrencyIds,
    /// Protection keys.
    pub(super) keys: Keys,
    /// Dropped after `tables`, when no CPU has either loaded.
    ldt: Ldt,
    /// Of the program that it was made for.
    pub(super) width: Width,
    /// Where its areas are. Set before anything is mapped.
    placement: Once<Placement>,
    /// Where the fast 32-bit doors return to: in the 32-bit vDSO; 0 if there is none.
    int80_landing_pad: AtomicU64,
    /// Where the vDSO's image is; 0 if there is none.
    pub(super) vdso: AtomicU64,
    /// Its place in the order of [`rmap`](crate::memory::rmap).
    number: u64,
    /// Kept as long as it or a copy of it lives.
    program_file: ProgramFile,
}

/// The address space of this CPU, without touching its count. Only the current task replaces it (exec, exit).
#[inline(always)]
pub fn current_mm() -> &'static AddressSpace {
    // SAFETY: `activate` stored it, and whoever called that keeps it until another one is activated.
    unsafe { &*cpu::address_space().cast::<AddressSpace>() }
}

static KERNEL_MM: Once<Arc<AddressSpace>> = Once::new();

/// The address space without user mappings that kernel threads run in.
pub fn kernel_mm() -> Arc<AddressSpace> {
    KERNEL_MM
        .call_once(|| AddressSpace::new(Width::Bits64, None).expect("no memory for the kernel's address space"))
        .clone()
}

/// What the lock guards beside the tables.
pub(super) struct Inner {
    pub areas: AreaSet,
    /// Where the area of `brk` begins, and where the program wants it to end.
    pub(super) brk_start: u64,
    pub(super) brk: u64,
    /// Bytes in all areas.
    pub size: u64,
    program: Program,
}

/// Where a program found what it was started with.
#[derive(Clone, Default, Debug)]
pub struct Program {
    /// The argument strings.
    pub args: Range<u64>,
    /// The environment strings.
    pub env: Range<u64>,
    /// The auxiliary vector.
    pub auxiliary: Range<u64>,
    /// The stack pointer that it began with.
    pub stack_start: u64,
}

impl AddressSpace {
    /// An empty address space, of the program in a file: `program_file` keeps that as it is.
    pub fn new(width: Width, program_file: ProgramFile) -> Result<Arc<AddressSpace>> {
        AddressSpace::with_ldt(width, program_file, Ldt::new())
    }

    fn with_ldt(width: Width, program_file: ProgramFile, ldt: Ldt) -> Result<Arc<AddressSpace>> {
        frames::require_spare()?;
        let number = new_number();
        let mm = Arc::new(AddressSpace {
            tables: PageTables::new()?,
            inner: SpinLock::new(Inner {
                areas: AreaSet::new(),
                brk_start: 0,
                brk: 0,
                size: 0,
                program: Program::default(),
            }),
            membarrier: AtomicU32::new(0),
            concurrency_ids: ConcurrencyIds::default(),
            keys: Keys::new(),
            ldt,
            width,
            placement: Once::new(),
            int80_landing_pad: AtomicU64::new(0),
            vdso: AtomicU64::new(0),
            number,
            program_file,
        });
        register(number, &mm);
        Ok(mm)
    }

    /// A copy for a child: private pages are shared until one side writes.
    pub fn fork(&self) -> Result<Arc<AddressSpace>> {
        // Dropped last, that is after the locks, if copying fails.
        let child = AddressSpace::with_ldt(self.width, self.program_file.clone(), self.ldt.fork())?;
        child.place(self.placement());
        child.set_int80_landing_pad(self.int80_landing_pad());
        child.set_vdso(self.vdso());
        child.membarrier.store(self.membarrier.load(Ordering::Relaxed), Ordering::Relaxed);
        child.keys.copy_from(&self.keys);
        let inner = self.inner.lock();
        let mut copy = child.inner.lock();
        (copy.brk_start, copy.brk) = (inner.brk_start, inner.brk);
        copy.program = inner.program.clone();
        for area in inner.areas.iter().filter(|area| !area.flags.contains(AreaFlags::DONT_FORK)) {
            copy.size += area.end - area.start;
            copy.areas.insert(area.clone());
            // The pages of shared areas are found again when they are touched.
            if !area.is_shared() && !area.flags.contains(AreaFlags::WIPE_ON_FORK) {
                self.tables.copy_to(&child.tables, area.range())?;
            }
        }
        drop((inner, copy));
        Ok(child)
    }

    /// Its protection keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The width of the program that it was made for.
    pub fn width(&self) -> Width {
        self.width
    }

    /// One past the highest address that may be mapped.
    pub fn end(&self) -> u64 {
        self.width.end()
    }

    /// Where its areas are.
    pub fn placement(&self) -> Placement {
        self.placement.get().copied().unwrap_or_default()
    }

    /// Says where its areas are to be. To be called once, before anything is mapped.
    pub fn place(&self, placement: Placement) {
        self.placement.call_once(|| placement);
    }

    /// Where the stack of a new program ends.
    pub fn stack_top(&self) -> u64 {
        self.width.stack_top() - self.placement().stack
    }

    /// Where SYSENTER and 32-bit SYSCALL return to: `int80_landing_pad` of the 32-bit vDSO; 0 if there is none.
    #[inline]
    pub fn int80_landing_pad(&self) -> u64 {
        self.int80_landing_pad.load(Ordering::Relaxed)
    }

    /// Sets [`int80_landing_pad`](Self::int80_landing_pad). Whoever maps, or moves, the vDSO calls it.
    pub fn set_int80_landing_pad(&self, address: u64) {
        self.int80_landing_pad.store(address, Ordering::Relaxed);
    }

    /// Where the vDSO's image is; 0 if there is none.
    pub fn vdso(&self) -> u64 {
        self.vdso.load(Ordering::Relaxed)
    }

    /// Says where the vDSO's image has been mapped.
    pub fn set_vdso(&self, address: u64) {
        self.vdso.store(address, Ordering::Relaxed);
    }

    /// Makes it the address space of this CPU. It must stay alive until another one is activated, or nobody refers to
    /// it any more: then this CPU is told to leave it. Interrupts off.
    pub fn activate(&self) {
        tlb::load(self.tables.pgd());
        cpu::this().address_space.store(ptr::from_ref(self).cast_mut().cast(), Ordering::Relaxed);
        self.ldt.activate();
    }

    /// Its local descriptor table.
    pub fn ldt(&self) -> &Ldt {
        &self.ldt
    }

    /// Puts an entry into its local descriptor table, for all CPUs that run in it.
    pub fn set_ldt_entry(&self, number: usize, entry: u64) -> Result<()> {
        self.ldt.set(number, entry, |table| tlb::reload_ldt(self.tables.pgd(), table))
    }

    /// Physical address of the PML4.
    pub fn pgd(&self) -> u64 {
        self.tables.pgd()
    }

    /// Remembers what the program was started with, for `/proc`.
    pub fn set_program(&self, program: Program) {
        self.inner.lock().program = program;
    }

    /// What [`set_program`](Self::set_program) remembered.
    pub fn program(&self) -> Program {
        self.inner.lock().program.clone()
    }

    /// The area that contains `addr`.
    pub fn area(&self, addr: u64) -> Option<Area> {
        self.inner.lock().areas.find(addr).cloned()
    }

    /// All areas, ascending.
    pub fn areas(&self) -> Vec<Area> {
        self.inner.lock().areas.iter().cloned().collect()
    }
}

/// The address spaces in the order in which they were made. A child comes after its parent, so that a search that runs
/// beside a fork finds a copied page in one of the two: the copy is made under the parent's lock, after the child is here.
static SPACES: SpinLock<Vec<(u64, Weak<AddressSpace>)>> = SpinLock::new(Vec::new());

/// A number for a new address space, higher than those given before.
fn new_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Lets searches find `mm`. To be called before anything is mapped in it.
fn register(number: u64, mm: &Arc<AddressSpace>) {
    let mut spaces = SPACES.lock();
    // At the end, but where two are made at once.
    let place = spaces.partition_point(|(other, _)| *other < number);
    spaces.insert(place, (number, Arc::downgrade(mm)));
}

/// Ends what [`register`] began.
fn forget(number: u64) {
    let mut spaces = SPACES.lock();
    if let Ok(place) = spaces.binary_search_by_key(&number, |(other, _)| *other) {
        spaces.remove(place);
    }
}

/// The first living address space with a number above `number`.
fn next_above(number: u64) -> Option<(u64, Arc<AddressSpace>)> {
    let spaces = SPACES.lock();
    let first = spaces.partition_point(|(other, _)| *other <= number);
    spaces[first..].iter().find_map(|(number, mm)| Some((*number, mm.upgrade()?)))
}

/// Calls `visit` with every address space, without the lock: it may sleep, and may be the last to drop one.
pub(super) fn for_each_space(mut visit: impl FnMut(&AddressSpace)) {
    let mut number = 0;
    while let Some((next, mm)) = next_above(number) {
        visit(&mm);
        number = next;
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        forget(self.number);
    }
}
