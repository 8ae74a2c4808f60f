//! Which address space each CPU has loaded, and the shootdown of translations that are no longer true.
//!
//! A CPU keeps the last address space loaded while it runs kernel tasks or idles; shootdowns reach it there. There is
//! one shootdown at a time. Its initiator holds the lock of the address space and waits with interrupts off, so every
//! CPU that spins for a lock with interrupts off answers requests by [`service_pending`].

use core::hint;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use x86_64::VirtAddr;

use crate::machine::ipi;

#[cfg(not(any(test, fuzzing)))]
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

// A process has no translations to drop.
#[cfg(any(test, fuzzing))]
use crate::host::tlb;
use crate::machine::cpu::{CpuMask, MAX_CPUS};
use crate::machine::direct_map::PAGE_SIZE;
use crate::machine::sync::SpinLock;
use crate::machine::{cpu, sync};
use crate::memory::{ldt, vmalloc};

/// Ranges of more pages are flushed by dropping all of the user's translations.
const MAX_SINGLE_PAGES: u64 = 32;
/// Stands for the pgd of a CPU that is between two address spaces.
const SWITCHING: u64 = 1;
/// Range end that asks a CPU to forget the instructions that it has fetched.
const SYNC_CORE: u64 = u64::MAX - 2;
/// Range end that asks a CPU to load an LDT, which the range's start points to.
const RELOAD_LDT: u64 = u64::MAX - 1;
/// Range end that asks a CPU to leave the address space altogether.
const LEAVE: u64 = u64::MAX;

/// The pgd that a CPU has loaded, alone on its cache line.
#[repr(align(64))]
struct Active(AtomicU64);

static ACTIVE: [Active; MAX_CPUS] = [const { Active(AtomicU64::new(0)) }; MAX_CPUS];

/// Held by the initiator of a shootdown until all have answered.
static INITIATOR: SpinLock<()> = SpinLock::new(());
static PGD: AtomicU64 = AtomicU64::new(0);
static START: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);
/// The CPUs that have not answered yet, one bit each.
static PENDING: AtomicU32 = AtomicU32::new(0);

/// Loads the address space with the PML4 at `pgd` on this CPU, if it is not loaded already.
pub(super) fn load(pgd: u64) {
    let _irqs = sync::irqs_off();
    load_here(pgd);
}

fn load_here(pgd: u64) {
    let active = &ACTIVE[cpu::id()].0;
    if active.load(Ordering::Relaxed) == pgd {
        return;
    }
    // Whoever changes either set of tables from here on sees this CPU as a user of them. Whoever looked before made its
    // change visible before this store, and so before CR3 is loaded: a MOV to CR3 waits for all earlier stores.
    active.store(SWITCHING, Ordering::SeqCst);
    let frame = PhysFrame::containing_address(x86_64::PhysAddr::new(pgd));
    // SAFETY: `pgd` is a PML4 whose kernel half is the one in use, and its owner keeps it until `leave` returns.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    active.store(pgd, Ordering::Release);
}

/// Makes sure that no CPU uses a translation for `range` that was taken out of the tables at `pgd` before. The caller
/// holds the lock of the address space.
pub(super) fn flush(pgd: u64, range: Range<u64>) {
    shootdown(pgd, range.start, range.end);
}

/// Drops this CPU's translation of one page: enough where the old one only forbade more than the new one.
#[inline]
pub(super) fn flush_local(addr: u64) {
    tlb::flush(VirtAddr::new_truncate(addr));
}

/// Makes every CPU that still has the address space with this pgd loaded leave it. No task uses it any more.
pub(super) fn leave(pgd: u64) {
    shootdown(pgd, 0, LEAVE);
}

/// A full memory barrier on every CPU that runs in the address space with this pgd.
pub fn barrier(pgd: u64) {
    shootdown(pgd, 0, 0);
}

/// A full memory barrier on every CPU.
pub fn barrier_everywhere() {
    let everybody = |here: usize| cpu::online() & !(1 << here);
    // A pgd that no CPU has loaded: there is nothing to do but to answer.
    request(0, 0, 0, everybody);
}

/// Makes every CPU that runs in the address space with this pgd execute a serializing instruction (SDM volume 3, 9.3), this
/// one too. One that loads the address space later writes CR3, which is one.
///
/// It is executed by whoever answers, and not left to the way out to user mode: SYSRET is none.
pub fn sync_core(pgd: u64) {
    shootdown(pgd, 0, SYNC_CORE);
}

/// Makes every CPU that runs in the address space with this pgd load its LDT anew, which is this one now.
pub(super) fn reload_ldt(pgd: u64, table: *mut ldt::Table) {
    shootdown(pgd, table as u64, RELOAD_LDT);
}

fn shootdown(pgd: u64, start: u64, end: u64) {
    request(pgd, start, end, |here| users(pgd, here));
}

/// Has a request performed here, and by the CPUs that `targets` names when it is given this one.
fn request(pgd: u64, start: u64, end: u64, targets: impl Fn(usize) -> CpuMask) {
    let _irqs = sync::irqs_off();
    let here = cpu::id();
    // The change of the tables comes before the look at who uses them; see `load_here`.
    fence(Ordering::SeqCst);
    perform(pgd, start, end);
    if targets(here) == 0 {
        return;
    }
    let _initiator = INITIATOR.lock();
    let targets = targets(here);
    if targets == 0 {
        return;
    }
    PGD.store(pgd, Ordering::Relaxed);
    START.store(start, Ordering::Relaxed);
    END.store(end, Ordering::Relaxed);
    PENDING.store(targets, Ordering::Release);
    ipi::send_tlb_shootdown(targets);
    while PENDING.load(Ordering::Acquire) != 0 {
        hint::spin_loop();
    }
}

/// The CPUs other than `here` that have `pgd` loaded or may be about to.
fn users(pgd: u64, here: usize) -> CpuMask {
    let mut targets = 0;
    for (id, active) in ACTIVE.iter().enumerate().take(cpu::count()) {
        let active = active.0.load(Ordering::Relaxed);
        if id != here && (active == pgd || active == SWITCHING) {
            targets |= 1 << id;
        }
    }
    targets
}

/// This CPU's part of a shootdown.
fn perform(pgd: u64, start: u64, end: u64) {
    if ACTIVE[cpu::id()].0.load(Ordering::Relaxed) != pgd {
        return;
    }
    if end == LEAVE {
        load_here(vmalloc::kernel_pgd());
        ldt::forget();
    } else if end == SYNC_CORE {
        core::hint::black_box(core::arch::x86_64::__cpuid(0));
    } else if end == RELOAD_LDT {
        ldt::reload(start as *mut ldt::Table);
    } else if end - start > MAX_SINGLE_PAGES * PAGE_SIZE {
        tlb::flush_all();
    } else {
        for addr in (start..end).step_by(PAGE_SIZE as usize) {
            flush_local(addr);
        }
    }
}

/// Answers a shootdown that waits for this CPU, if there is one. Called with interrupts off, by whoever spins.
#[inline]
pub fn service_pending() {
    if PENDING.load(Ordering::Relaxed) != 0 {
        answer();
    }
}

#[cold]
fn answer() {
    let bit = 1 << cpu::id();
    if PENDING.load(Ordering::Acquire) & bit != 0 {
        perform(PGD.load(Ordering::Relaxed), START.load(Ordering::Relaxed), END.load(Ordering::Relaxed));
        PENDING.fetch_and(!bit, Ordering::AcqRel);
    }
}

/// Handler of the shootdown interrupt; the caller acknowledges it.
pub fn handle() {
    service_pending();
}
