//! One processor: its per-CPU area (which starts with the library's part), identity and inter-processor interrupts.

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ops::{Deref, Range};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use portcullis::work::WorkFlags;
use portcullis::x86_64::fred::thread_stack_top;
use portcullis::x86_64::tables::Tables;
use portcullis::x86_64::{CpuDescription, CpuLocal, Espfix};

#[cfg(not(any(test, fuzzing)))]
use x86_64::instructions::interrupts;

use crate::machine::direct_map::ESPFIX;
// A process may not touch the interrupt flag.
#[cfg(any(test, fuzzing))]
use crate::host::interrupts;
use crate::machine::gate::Gate;

/// The most processors the kernel uses.
pub const MAX_CPUS: usize = 8;

/// A deadline that never comes.
pub const NEVER: u64 = u64::MAX;

/// A set of processors, bit n for CPU n.
pub type CpuMask = u32;

/// A page that is never mapped.
#[repr(C, align(4096))]
struct Guard([u8; 4096]);

/// Something on pages of its own with page-table isolation, as user mode's tables map it.
#[cfg_attr(feature = "isolation", repr(C, align(4096)))]
#[cfg_attr(not(feature = "isolation"), repr(transparent))]
pub struct Shared<T>(T);

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Where interrupts are handled.
#[repr(C, align(4096))]
struct IrqStack(UnsafeCell<[u8; 16 << 10]>);

/// The per-CPU area. The GS base points at it while the CPU runs kernel code.
///
/// `Cell` fields are this CPU's alone, changed with interrupts off; what other CPUs read is atomic.
#[repr(C, align(64))]
pub struct Cpu {
    /// The library's part.
    pub local: Shared<CpuLocal>,
    /// What this CPU runs, from the scheduler, which alone knows its type.
    pub current: AtomicPtr<()>,
    /// The address space that it is in, from `memory::address_space`.
    pub address_space: AtomicPtr<()>,
    /// Locks and interrupt guards held; see `sync`.
    pub(crate) preempt_count: Cell<u32>,
    /// Whether interrupts were on before the first of them.
    pub(crate) saved_irq: Cell<bool>,
    apic_id: Cell<u32>,
    /// What this CPU's one-shot timer is set to; see `time`.
    pub(crate) armed: AtomicU64,
    /// When the scheduler is to be told that time has passed; see `time`.
    pub(crate) next_tick: Cell<u64>,
    /// Interprocessor interrupts this CPU has taken.
    pub ipis: AtomicU32,
    /// The LDT that is loaded; see `memory::ldt`.
    pub(crate) ldt: AtomicPtr<()>,
    /// Which bitmap of I/O ports is loaded; see `segments::ports`.
    pub(crate) ports: Cell<u64>,
    /// GDT, TSS and the stacks it names.
    tables: UnsafeCell<Tables>,
    irq_guard: Guard,
    irq_stack: IrqStack,
}

// SAFETY: see the type's comment; `apic_id` is written once, before any other CPU knows the area.
unsafe impl Sync for Cpu {}

impl Cpu {
    /// All zeroes, so that the array takes no room in the image; `adopt` sets what is not.
    const fn new() -> Self {
        Cpu {
            local: Shared(CpuLocal::new()),
            current: AtomicPtr::new(ptr::null_mut()),
            address_space: AtomicPtr::new(ptr::null_mut()),
            preempt_count: Cell::new(0),
            saved_irq: Cell::new(false),
            apic_id: Cell::new(0),
            armed: AtomicU64::new(0),
            next_tick: Cell::new(0),
            ipis: AtomicU32::new(0),
            ldt: AtomicPtr::new(ptr::null_mut()),
            ports: Cell::new(0),
            tables: UnsafeCell::new(Tables::new()),
            irq_guard: Guard([0; 4096]),
            irq_stack: IrqStack(UnsafeCell::new([0; 16 << 10])),
        }
    }

    /// 0 is the boot processor.
    pub fn id(&self) -> usize {
        self.local.id() as usize
    }

    /// Where the stacks of an exception are, by its name.
    pub fn exception_stack(&self, name: &str) -> Option<Range<u64>> {
        // SAFETY: the library writes other parts of it only, and only the addresses are looked at.
        let stacks = unsafe { &*self.tables.get() }.stacks();
        stacks.into_iter().find_map(|(of, stack)| (of == name).then_some(stack))
    }

    /// Its local APIC's identity.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.get()
    }
}

/// Shared once `adopt` has run for the CPU; that one writes the library's parts.
struct Areas(UnsafeCell<[Cpu; MAX_CPUS]>);

// SAFETY: `adopt` has each element to itself, and from then on it is only shared.
unsafe impl Sync for Areas {}

static AREAS: Areas = Areas(UnsafeCell::new([const { Cpu::new() }; MAX_CPUS]));
/// Work flags of each CPU until the scheduler gives it its idle task.
static BOOT_WORK: [WorkFlags; MAX_CPUS] = [const { WorkFlags::new() }; MAX_CPUS];

/// A frame of the way out to 16-bit stacks.
#[repr(C, align(64))]
struct EspfixFrame(UnsafeCell<[u64; 8]>);

/// Every CPU's, in a page of their own: `memory::boot_tables` maps it a second time.
#[repr(C, align(4096))]
struct EspfixPage([EspfixFrame; 64]);

// SAFETY: each frame is one CPU's, written by the library with interrupts off.
unsafe impl Sync for EspfixPage {}

const _: () = assert!(size_of::<EspfixPage>() == 4096 && MAX_CPUS <= 64);

static ESPFIX_FRAMES: EspfixPage = EspfixPage([const { EspfixFrame(UnsafeCell::new([0; 8])) }; 64]);

/// The address of the page that holds every CPU's frame for the way out to 16-bit stacks.
pub fn espfix_page() -> u64 {
    &raw const ESPFIX_FRAMES as u64
}

static ONLINE: AtomicU32 = AtomicU32::new(0);

/// This CPU's area, with interrupts off: with them on the caller may be on another CPU by the time it looks. Checked with
/// debug assertions.
#[inline(always)]
pub fn this() -> &'static Cpu {
    debug_assert!(!interrupts::are_enabled(), "a per-CPU area with interrupts on");
    // SAFETY: the library's part is the first field of this CPU's area.
    unsafe { &*ptr::from_ref(CpuLocal::this()).cast() }
}

/// This CPU's number. With interrupts on the caller may be on another CPU by the time it uses it.
#[inline]
pub fn id() -> usize {
    CpuLocal::this().id() as usize
}

/// This CPU's `preempt_count` in one instruction. With interrupts on a task may be moved to another CPU between two, and
/// would read the count of the one that it left. Where the count is not zero, it cannot be moved.
#[inline(always)]
pub(crate) fn preempt_count() -> u32 {
    let count: u32;
    // SAFETY: GS points at this CPU's area.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) count, const offset_of!(Cpu, preempt_count), options(nostack, preserves_flags, readonly));
    }
    count
}

/// What the CPU runs ([`Cpu::current`]), in one instruction, so that it is right even where the caller may be moved to another CPU.
/// For the code of one thread it never changes, so the compiler may use it again.
#[inline(always)]
pub fn current() -> *const () {
    let current: *const ();
    // SAFETY: GS points at this CPU's area.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) current, const offset_of!(Cpu, current), options(pure, nomem, nostack, preserves_flags));
    }
    current
}

/// Where the CPU is ([`Cpu::address_space`]), likewise in one instruction. A thread's changes when it execs.
#[inline(always)]
pub fn address_space() -> *const () {
    let space: *const ();
    // SAFETY: GS points at this CPU's area.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) space, const offset_of!(Cpu, address_space), options(pure, readonly, nostack, preserves_flags));
    }
    space
}

/// How many CPUs run. They are numbered from 0 without gaps.
pub fn count() -> usize {
    ONLINE.load(Ordering::Acquire).count_ones() as usize
}

/// The CPUs that run.
pub fn online() -> CpuMask {
    ONLINE.load(Ordering::Acquire)
}

/// The area of CPU `n`. Panics where `n >= MAX_CPUS`.
pub fn get(n: usize) -> &'static Cpu {
    assert!(n < MAX_CPUS);
    // SAFETY: in bounds; shared from here on, see `Areas`.
    unsafe { &*AREAS.0.get().cast::<Cpu>().add(n) }
}

/// All CPUs that run.
pub fn all() -> impl Iterator<Item = &'static Cpu> {
    (0..MAX_CPUS).filter(|n| online() & 1 << n != 0).map(get)
}

/// Makes the processor that runs this CPU `n`: its GS base points at the area, and the doors are open.
///
/// # Safety
/// Once per processor and per number, before anything that uses locks, with interrupts off.
pub unsafe fn adopt(n: usize) -> &'static Cpu {
    assert!(n < MAX_CPUS);
    // SAFETY: in bounds.
    let cpu = unsafe { AREAS.0.get().cast::<Cpu>().add(n) };
    // SAFETY: the area is this processor's alone, as the caller vouches; `tables` is only ever used by the library.
    let (local, tables) = unsafe { (&mut (*cpu).local.0, &mut *(*cpu).tables.get()) };
    // SAFETY: likewise.
    let irq_stack_top = unsafe { &raw const (*cpu).irq_stack as u64 + size_of::<IrqStack>() as u64 };
    let description = CpuDescription {
        id: n as u32,
        local,
        tables,
        irq_stack_top,
        // Nothing comes from user mode before the scheduler has set the idle task's.
        thread_stack_top: thread_stack_top::<Gate>(irq_stack_top),
        work: &BOOT_WORK[n],
        espfix: Some(Espfix {
            frame: &raw const ESPFIX_FRAMES.0[n] as u64,
            alias: ESPFIX + (n * size_of::<EspfixFrame>()) as u64,
        }),
    };
    // SAFETY: kernel mode, interrupts off, once for this processor.
    unsafe { portcullis::x86_64::init_cpu::<Gate>(description) };
    let cpu = get(n);
    cpu.apic_id.set(own_apic_id());
    cpu.armed.store(NEVER, Ordering::Relaxed);
    cpu.next_tick.set(NEVER);
    cpu
}

/// What user mode's tables map of the CPUs' areas with page-table isolation.
pub fn shared() -> impl Iterator<Item = Range<u64>> {
    fn pages<T>(start: *const T) -> Range<u64> {
        start as u64..start as u64 + size_of::<T>() as u64
    }
    (0..MAX_CPUS).flat_map(|n| {
        let cpu = get(n);
        [pages(&raw const cpu.local), pages(&raw const cpu.tables)]
    })
}

/// The pages that stay unmapped in front of the interrupt stacks.
pub fn guards() -> impl Iterator<Item = u64> {
    (0..MAX_CPUS).map(|n| &raw const get(n).irq_guard as u64)
}

/// Other CPUs may send this one interrupts from now on.
pub fn set_online(cpu: &Cpu) {
    ONLINE.fetch_or(1 << cpu.id(), Ordering::AcqRel);
}

/// This processor's local APIC identity.
pub fn own_apic_id() -> u32 {
    let cpuid = raw_cpuid::CpuId::new();
    cpuid.get_feature_info().map_or(0, |info| u32::from(info.initial_local_apic_id()))
}
