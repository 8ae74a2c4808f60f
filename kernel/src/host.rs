//! What stands in for the machine where the kernel's tests run, which is a process of the host: processors, the interrupt
//! flag and physical memory. Only tests have it.
//!
//! Each thread is a processor: GS leads to an area of its own, so that locks count as they do in the kernel. All of them are
//! CPU 0, and none is online. None has a task, and so `task::current()` nothing to give, but in [`process::run`], which makes one.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::ptr;
use std::sync::Once;

use crate::machine::cpu::Cpu;
use crate::machine::direct_map::{DIRECT_MAP, PAGE_SIZE};
use crate::memory::address_space::AddressSpace;
use crate::memory::width::Width;
use crate::memory::{callbacks, frames, pgd, vmalloc};
use crate::sched::fpu;

pub mod fpstate;
pub mod process;
pub mod segments;
pub mod user;

/// Bytes of physical memory.
const MEMORY: u64 = 256 << 20;
/// Bytes where kernel stacks are.
const STACKS_SIZE: u64 = 16 << 20;

/// The interrupt flag: CLI and STI are not for a process.
pub mod interrupts {
    use super::PROCESSOR;

    /// Whether interrupts are on, as far as this thread has said.
    pub fn are_enabled() -> bool {
        PROCESSOR.with(|cpu| cpu.interrupts.get())
    }

    /// Turns them off.
    pub fn disable() {
        PROCESSOR.with(|cpu| cpu.interrupts.set(false));
    }

    /// Turns them on.
    pub fn enable() {
        PROCESSOR.with(|cpu| cpu.interrupts.set(true));
    }
}

/// The processor's translations: nothing walks the tables of the tests.
pub mod tlb {
    use x86_64::VirtAddr;

    /// Drops one of them.
    pub fn flush(_: VirtAddr) {}

    /// Drops all of them.
    pub fn flush_all() {}
}

/// What a thread does that waits for a lock for long.
pub mod time {
    /// Lets the holder run.
    pub fn rest() {
        std::thread::yield_now();
    }
}

unsafe extern "C" {
    fn mmap(address: *mut c_void, len: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn syscall(number: c_long, ...) -> c_long;
}

thread_local! {
    /// Made when the thread first takes a lock.
    static PROCESSOR: Processor = Processor::new();
}

/// The processor that a thread is.
struct Processor {
    area: *mut Cpu,
    interrupts: Cell<bool>,
}

impl Processor {
    fn new() -> Processor {
        const ARCH_PRCTL: c_long = 158;
        const ARCH_SET_GS: c_long = 0x1001;
        // SAFETY: it has a size.
        let area = unsafe { alloc_zeroed(Layout::new::<Cpu>()) }.cast::<Cpu>();
        if area.is_null() {
            handle_alloc_error(Layout::new::<Cpu>());
        }
        // SAFETY: all zeroes is a value of `Cpu` (its `new`), and the first word of the library's part, which is the first, is
        // its own address (`CpuLocal::this`). GS is nobody else's in a process of 64 bits.
        let failed = unsafe {
            area.cast::<*mut Cpu>().write(area);
            syscall(ARCH_PRCTL, ARCH_SET_GS, area)
        };
        assert_eq!(failed, 0, "arch_prctl");
        Processor { area, interrupts: Cell::new(true) }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it, and the thread that it is for ends.
        unsafe { dealloc(self.area.cast(), Layout::new::<Cpu>()) };
    }
}

/// What memory asks of the layers above, where there is no task: it is unlimited, has 64-bit calls and is not being killed.
struct NoTask;

impl callbacks::Callbacks for NoTask {
    fn limit(&self, _: u32) -> u64 {
        u64::MAX
    }

    fn width_of_call(&self) -> Width {
        Width::Bits64
    }

    fn is_being_killed(&self) -> bool {
        false
    }

    fn mapped(&self, _: &AddressSpace, _: u64) {}

    fn vdso_moved(&self, _: u64) {}
}

/// Makes the process have memory of zeros there.
fn reserve(start: u64, size: u64) {
    const READ_WRITE: c_int = 3;
    // MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MAP_FIXED_NOREPLACE.
    const FLAGS: c_int = 0x02 | 0x20 | 0x4000 | 0x10_0000;
    // SAFETY: nothing is there, or the call fails.
    let base = unsafe { mmap(start as *mut c_void, size as usize, READ_WRITE, FLAGS, -1, 0) };
    assert!(ptr::eq(base, start as *mut c_void), "no room at {start:#x}");
}

/// Finds out what the processor's extended state is: the host has turned it on. Not protection keys, which are the process's own.
fn init_fpu() {
    /// x87, SSE, AVX and AVX-512.
    const FEATURES: u64 = 0xe7;
    if std::arch::is_x86_feature_detected!("xsave") {
        let enabled: u32;
        // SAFETY: the CPU has XSAVE, and the host uses it.
        unsafe { std::arch::asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _, options(nomem, nostack)) };
        let size = raw_cpuid::cpuid!(0xd, 0).ebx as usize;
        fpu::init_host(u64::from(enabled) & FEATURES, size);
    }
}

/// Starts physical memory, once for all tests: each that needs a frame begins with this.
pub fn memory() {
    static START: Once = Once::new();
    START.call_once(|| {
        reserve(DIRECT_MAP, MEMORY);
        reserve(vmalloc::STACKS, STACKS_SIZE);
        // Frame 0 is never used. Frames 2 and 3: the kernel's own top-level tables, of zeros.
        pgd::init(frames::init(std::slice::from_ref(&(4 * PAGE_SIZE..MEMORY)), &[], pgd::share));
        vmalloc::set_root(2 * PAGE_SIZE);
        init_fpu();
        callbacks::register(&NoTask);
    });
}
