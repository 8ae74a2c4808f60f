//! The extended register state (x87, SSE, AVX, AVX-512, PKRU), saved and restored at every switch.
//!
//! The kernel itself is soft-float, so the registers always hold the current thread's user state. Saving is eager: what one
//! thread leaves in them, no other can see.

use alloc::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::*};

use raw_cpuid::CpuId;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

use crate::memory::pkeys;

/// How this machine saves.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Method {
    Fxsave,
    Xsave,
    Xsaveopt,
}

static METHOD: AtomicU8 = AtomicU8::new(Method::Fxsave as u8);
static SIZE: AtomicUsize = AtomicUsize::new(LEGACY_SIZE);
/// Where PKRU is in an area.
static PKRU: AtomicUsize = AtomicUsize::new(0);
static FEATURES: AtomicU64 = AtomicU64::new(3);

/// How [`FpuArea::restore`] loads the registers. The kinds with FNINIT are for CPUs that restore x87's instruction, operand and
/// opcode pointers only where an exception is pending (AMD's before CPUID showed XSAVEERPTR): otherwise the last thread's would
/// be there to be read (CVE-2006-1056).
#[repr(u8)]
enum Restore {
    Xrstor,
    InitXrstor,
    Fxrstor,
    InitFxrstor,
}

static RESTORE: AtomicU8 = AtomicU8::new(Restore::Fxrstor as u8);

/// Bytes of the FXSAVE layout, with which every area begins.
pub const LEGACY_SIZE: usize = 512;
/// Offset of MXCSR in it.
pub const MXCSR: usize = 24;
/// Offset of the XSAVE header's first word, XSTATE_BV.
pub const XSTATE_BV: usize = LEGACY_SIZE;
/// Bytes of the XSAVE header.
pub const HEADER_SIZE: usize = 64;

/// The state components this kernel keeps, where the CPU has them. Not AMX, which a program has to ask for.
const WANTED: XCr0Flags = XCr0Flags::X87
    .union(XCr0Flags::SSE)
    .union(XCr0Flags::AVX)
    .union(XCr0Flags::OPMASK)
    .union(XCr0Flags::ZMM_HI256)
    .union(XCr0Flags::HI16_ZMM)
    .union(XCr0Flags::MPK);

/// Turns the FPU on for this CPU and, the first time, finds out how to save it.
pub fn init_cpu() {
    let cpuid = CpuId::new();
    let features = cpuid.get_feature_info().expect("CPUID leaf 1");
    // SAFETY: every x86-64 CPU has SSE; the flags let user code use it, and the kernel's own code does not.
    unsafe {
        Cr0::update(|cr0| {
            cr0.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
            cr0.insert(Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::NUMERIC_ERROR);
        });
        Cr4::update(|cr4| cr4.insert(Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE));
    }
    if features.has_xsave() {
        let state = cpuid.get_extended_state_info().expect("CPUID leaf 0xd");
        let supported = u64::from(cpuid_d_low()) & WANTED.bits();
        // SAFETY: the CPU has XSAVE; only supported bits are set, and x87 is among them.
        unsafe {
            Cr4::update(|cr4| cr4.insert(Cr4Flags::OSXSAVE));
            XCr0::write(XCr0Flags::from_bits_truncate(supported));
        }
        // Read after XCR0 was written: the size is that of the enabled components.
        let size = CpuId::new()
            .get_extended_state_info()
            .map_or(LEGACY_SIZE + HEADER_SIZE, |info| info.xsave_area_size_enabled_features() as usize);
        if supported & XCr0Flags::MPK.bits() != 0 {
            // SAFETY: a CPU that saves PKRU has protection keys. PKRU is 0: it forbids nothing.
            unsafe { Cr4::update(|cr4| cr4.insert(Cr4Flags::PROTECTION_KEY_USER)) };
            PKRU.store(raw_cpuid::cpuid!(0xd, 9).ebx as usize, Relaxed);
            pkeys::enable();
        }
        FEATURES.store(supported, Relaxed);
        SIZE.store(size, Relaxed);
        let method = if state.has_xsaveopt() { Method::Xsaveopt } else { Method::Xsave };
        METHOD.store(method as u8, Relaxed);
    }
    let restore = match (has_xsave(), keeps_pointers()) {
        (true, false) => Restore::Xrstor,
        (true, true) => Restore::InitXrstor,
        (false, false) => Restore::Fxrstor,
        (false, true) => Restore::InitFxrstor,
    };
    RESTORE.store(restore as u8, Relaxed);
    // SAFETY: the FPU is on; a CPU starts with what the firmware left, threads do not.
    unsafe { asm!("fninit", options(nomem, nostack)) };
    crate::machine::segments::init();
}

/// What [`init_cpu`] finds out, where the host has turned the FPU on: areas are of this size, for these components.
#[cfg(any(test, fuzzing))]
pub fn init_host(features: u64, size: usize) {
    FEATURES.store(features, Relaxed);
    SIZE.store(size, Relaxed);
    METHOD.store(Method::Xsave as u8, Relaxed);
    RESTORE.store(Restore::Xrstor as u8, Relaxed);
}

/// See [`Restore`].
fn keeps_pointers() -> bool {
    /// CPUID 8000_0008, EBX.
    const XSAVEERPTR: u32 = 1 << 2;
    let vendor = CpuId::new().get_vendor_info();
    let amd = vendor.is_some_and(|vendor| matches!(vendor.as_str(), "AuthenticAMD" | "HygonGenuine"));
    let last = raw_cpuid::cpuid!(0x8000_0000).eax;
    amd && (last < 0x8000_0008 || raw_cpuid::cpuid!(0x8000_0008).ebx & XSAVEERPTR == 0)
}

/// CPUID leaf 0xd, EAX: the low half of the supported XCR0 bits.
fn cpuid_d_low() -> u32 {
    raw_cpuid::cpuid!(0xd, 0).eax
}

/// Whether areas have the XSAVE layout (else they are 512 bytes of FXSAVE).
pub fn has_xsave() -> bool {
    METHOD.load(Relaxed) != Method::Fxsave as u8
}

/// Bytes of an area: 512 with FXSAVE, else what XSAVE writes for [`features`].
pub fn size() -> usize {
    SIZE.load(Relaxed)
}

/// The state components kept (XCR0).
pub fn features() -> u64 {
    FEATURES.load(Relaxed)
}

/// Whether the CPU takes the MXCSR of an image: loading other bits faults.
pub fn takes_mxcsr(image: &[u8]) -> bool {
    #[repr(align(16))]
    struct Image([u8; LEGACY_SIZE]);
    /// What may be set where the CPU says 0 (SDM volume 1, 11.6.6).
    const DEFAULT: u32 = 0xffbf;
    let word = |bytes: &[u8], at: usize| bytes[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
    let mut saved = Image([0; _]);
    // SAFETY: the image is big enough and aligned; only the mask is looked at.
    unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut saved, options(nostack, preserves_flags)) };
    let mask = match word(&saved.0, MXCSR + 4) {
        0 => DEFAULT,
        mask => mask,
    };
    word(image, MXCSR) & !mask == 0
}

/// Memory for one thread's extended state.
pub struct FpuArea(NonNull<u8>);

// SAFETY: plain memory; who may touch it when is said at the methods.
unsafe impl Send for FpuArea {}
// SAFETY: as above.
unsafe impl Sync for FpuArea {}

fn layout() -> Layout {
    Layout::from_size_align(size(), 64).expect("a small size")
}

impl FpuArea {
    /// The initial state.
    pub fn new() -> Self {
        // SAFETY: the size is not zero.
        let Some(pointer) = NonNull::new(unsafe { alloc_zeroed(layout()) }) else { handle_alloc_error(layout()) };
        let area = FpuArea(pointer);
        // SAFETY: just made.
        unsafe { reset(&area) };
        area
    }

    /// Its address, 64-byte aligned, [`size`] bytes.
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// Saves the CPU's registers here.
    ///
    /// # Safety
    /// The registers belong to the thread whose area this is: it is current.
    #[inline]
    pub unsafe fn save(&self) {
        let method = METHOD.load(Relaxed);
        // SAFETY: big enough and aligned for what the CPU writes.
        unsafe {
            if method == Method::Xsaveopt as u8 {
                asm!("xsaveopt64 [{}]", in(reg) self.as_ptr(), in("eax") u32::MAX, in("edx") u32::MAX,
                    options(nostack, preserves_flags));
            } else if method == Method::Xsave as u8 {
                asm!("xsave64 [{}]", in(reg) self.as_ptr(), in("eax") u32::MAX, in("edx") u32::MAX,
                    options(nostack, preserves_flags));
            } else {
                asm!("fxsave64 [{}]", in(reg) self.as_ptr(), options(nostack, preserves_flags));
            }
        }
    }

    /// Loads the CPU's registers from here.
    ///
    /// # Safety
    /// The area holds a state that an earlier save made or that has been validated (a bad header or MXCSR faults), and
    /// its thread is current or about to be.
    #[inline]
    pub unsafe fn restore(&self) {
        let restore = RESTORE.load(Relaxed);
        if restore > Restore::InitXrstor as u8 {
            // SAFETY: the caller's promise.
            return unsafe { self.fxrstor() };
        }
        if restore == Restore::InitXrstor as u8 {
            clear_pointers();
        }
        // SAFETY: the caller's promise.
        unsafe { self.xrstor() }
    }

    /// # Safety
    /// As [`restore`](Self::restore); the CPU has XSAVE.
    #[inline(always)]
    unsafe fn xrstor(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            asm!("xrstor64 [{}]", in(reg) self.as_ptr(), in("eax") u32::MAX, in("edx") u32::MAX,
                options(nostack, preserves_flags));
        }
    }

    /// As [`restore`](Self::restore), on a CPU without XSAVE.
    ///
    /// # Safety
    /// As there.
    #[cold]
    #[inline(never)]
    unsafe fn fxrstor(&self) {
        if RESTORE.load(Relaxed) == Restore::InitFxrstor as u8 {
            clear_pointers();
        }
        // SAFETY: the caller's promise.
        unsafe { asm!("fxrstor64 [{}]", in(reg) self.as_ptr(), options(nostack, preserves_flags)) };
    }
}

/// Clears the x87 pointers, before the registers, which hold nothing that is still needed, are loaded.
#[inline(always)]
fn clear_pointers() {
    // SAFETY: FNINIT waits for no exception and clears the pointers (APM volume 5, FINIT).
    unsafe { asm!("fninit", options(nomem, nostack, preserves_flags)) };
}

/// Writes the initial state: all components "init" in the header, with the control words of a fresh program.
///
/// # Safety
/// Nobody else uses the area.
pub unsafe fn reset(area: &FpuArea) {
    // SAFETY: within the area, which is ours by the caller's promise.
    unsafe {
        area.as_ptr().write_bytes(0, size());
        area.as_ptr().cast::<u16>().write(0x37f);
        area.as_ptr().add(MXCSR).cast::<u32>().write(0x1f80);
        if pkeys::available() {
            let pkru = XCr0Flags::MPK.bits();
            area.as_ptr().add(XSTATE_BV).cast::<u64>().write(pkru);
            let place = area.as_ptr().add(PKRU.load(Relaxed));
            place.cast::<u32>().write(pkeys::INITIAL_RIGHTS);
        }
    }
}

/// Saves the CPU's registers in `from`, and copies that to `to`.
///
/// # Safety
/// The registers belong to the thread whose area `from` is, and no switch happens meanwhile. Nobody else uses `to`.
pub unsafe fn copy(from: &FpuArea, to: &FpuArea) {
    // SAFETY: the caller's promise.
    unsafe {
        from.save();
        to.as_ptr().copy_from_nonoverlapping(from.as_ptr(), size());
    }
}

impl Drop for FpuArea {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`; the size does not change after the first area was made.
        unsafe { dealloc(self.as_ptr(), layout()) };
    }
}
