//! The other CPUs: how many there are, and how they start.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use x86_64::PhysAddr;
use x86_64::instructions::port::Port;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PhysFrame;

use crate::lapic;
use crate::memory::{KERNEL_BASE, Stack};

/// Where the trampoline is copied to: a page below 1 MiB, which a start-up IPI can name.
const TRAMPOLINE: u64 = 0x8000;
/// How often is looked whether the CPUs have come before they are called again; after an INIT they need a while.
const PATIENCE: u32 = 1_000_000;

/// What the boot CPU leaves for the others.
#[repr(C)]
pub(crate) struct Handover {
    /// How many have come: the next one's number, less one.
    pub(crate) ticket: AtomicU32,
    /// How many may come.
    pub(crate) count: AtomicU32,
    /// Where their stacks begin, one after the other.
    pub(crate) stacks: AtomicU64,
    /// Bytes of each.
    pub(crate) stack_size: AtomicU64,
    /// CR3 of who starts them.
    pgd: AtomicU64,
    /// Where they go, a `fn(u32) -> !`.
    entry: AtomicUsize,
    /// How many are in Rust code.
    started: AtomicU32,
}

pub(crate) static HANDOVER: Handover = Handover {
    ticket: AtomicU32::new(0),
    count: AtomicU32::new(0),
    stacks: AtomicU64::new(0),
    stack_size: AtomicU64::new(0),
    pgd: AtomicU64::new(0),
    entry: AtomicUsize::new(0),
    started: AtomicU32::new(0),
};

/// How many CPUs [`send`] knows.
const MAX_CPUS: usize = 64;
/// Their local APICs' numbers.
static APIC_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

unsafe extern "C" {
    static portcullis_boot_trampoline: u8;
    static portcullis_boot_trampoline_end: u8;
}

/// How many CPUs the machine has, as QEMU's firmware configuration device says; 1 on a machine without it.
pub fn present() -> u32 {
    const SIGNATURE: u16 = 0;
    const CPUS: u16 = 5;
    let read = |item: u16| {
        // SAFETY: selecting an item and reading it changes nothing else; where there is no such device, nobody answers.
        unsafe {
            Port::<u16>::new(0x510).write(item);
            [0; 4].map(|_: u8| Port::<u8>::new(0x511).read())
        }
    };
    if read(SIGNATURE) != *b"QEMU" {
        return 1;
    }
    let [low, high, ..] = read(CPUS);
    u32::from(u16::from_le_bytes([low, high])).max(1)
}

/// Starts the other CPUs, as many as the machine has and as there are stacks (63 at most), and returns how many that is. Each calls `entry` on
/// its stack with its number, from 1 on, in the caller's address space, and finds what [`entry!`](crate::entry) promises the boot CPU,
/// which is number 0. Others stay halted.
///
/// Interrupts off or on. The page of physical memory at 0x8000 is overwritten.
///
/// # Panics
/// The second time.
pub fn start<const SIZE: usize>(stacks: &'static [Stack<SIZE>], entry: fn(u32) -> !) -> u32 {
    let others = (present() - 1).min(stacks.len().min(MAX_CPUS - 1) as u32);
    assert_eq!(HANDOVER.entry.swap(entry as usize, Ordering::Relaxed), 0, "the other CPUs are started once");
    if others == 0 {
        return 0;
    }
    HANDOVER.stacks.store(stacks.as_ptr() as u64, Ordering::Relaxed);
    HANDOVER.stack_size.store(size_of::<Stack<SIZE>>() as u64, Ordering::Relaxed);
    HANDOVER.pgd.store(Cr3::read().0.start_address().as_u64(), Ordering::Relaxed);
    HANDOVER.count.store(others, Ordering::Release);
    // SAFETY: the trampoline lies between its symbols and fits the page, which is mapped and nobody's.
    unsafe {
        let start = &raw const portcullis_boot_trampoline;
        let length = (&raw const portcullis_boot_trampoline_end).offset_from(start) as usize;
        start.copy_to_nonoverlapping((KERNEL_BASE + TRAMPOLINE) as *mut u8, length);
    }
    let all_came = || HANDOVER.started.load(Ordering::Acquire) == others;
    lapic::send_init();
    // A CPU that has started does not heed another start-up.
    while !(0..PATIENCE).any(|_| {
        spin_loop();
        all_came()
    }) {
        lapic::send_startup(TRAMPOLINE);
    }
    others
}

/// Sends a CPU an interrupt.
pub fn send(cpu: u32, vector: u8) {
    lapic::send(APIC_IDS[cpu as usize].load(Ordering::Relaxed), vector);
}

/// Switches this CPU's local APIC on.
pub(crate) fn init(cpu: u32) {
    lapic::init();
    APIC_IDS[cpu as usize].store(lapic::id(), Ordering::Relaxed);
}

/// Where the boot assembly leaves another CPU, on its stack, with its number.
pub(crate) extern "C" fn secondary(number: u32) -> ! {
    let pgd = PhysFrame::containing_address(PhysAddr::new(HANDOVER.pgd.load(Ordering::Acquire)));
    // SAFETY: the boot CPU has used it, and the kernel's half is the same in all.
    unsafe { Cr3::write(pgd, Cr3::read().1) };
    init(number);
    let entry = HANDOVER.entry.load(Ordering::Acquire);
    // SAFETY: `start` has stored it before the CPUs were called.
    let entry: fn(u32) -> ! = unsafe { core::mem::transmute(entry) };
    HANDOVER.started.fetch_add(1, Ordering::Release);
    entry(number)
}
