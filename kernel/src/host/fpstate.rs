//! The extended register state: the processor's instructions, on a copy of user memory, and with their faults caught.
//!
//! In place of `signal::fpstate`'s `instructions`. Where the test itself keeps something in these registers it is told to the
//! compiler, which the kernel, compiled to use none of them, need not be.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::arch::asm;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Once;

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::sched::fpu;

/// `xmm0` to `xmm15`, which state instructions change, and the x87 registers.
macro_rules! state_asm {
    ($($arguments:tt)*) => {
        asm!($($arguments)*
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _, out("xmm6") _,
            out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _, out("xmm12") _, out("xmm13") _,
            out("xmm14") _, out("xmm15") _, out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _)
    };
}

/// Memory for an area, aligned for XSAVE.
struct Area {
    start: NonNull<u8>,
    layout: Layout,
}

impl Area {
    fn new(len: usize) -> Area {
        let layout = Layout::from_size_align(len, 64).expect("a small size");
        // SAFETY: it has a size.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        Area { start, layout }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this size, and zeroed.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// Runs an instruction on a copy of the user's area, and copies back what it wrote, if it did.
fn on_copy(address: u64, writes: bool, instruction: impl FnOnce(*mut u8) -> Result<()>) -> Result<()> {
    // The instructions want this of the address.
    let alignment = if fpu::has_xsave() { 64 } else { 16 };
    if !address.is_multiple_of(alignment) {
        return Err(Errno::EFAULT);
    }
    let mut area = Area::new(fpu::size());
    let bytes = area.bytes();
    // SAFETY: the buffer's own size.
    unsafe { user::copy_from_user(bytes.as_mut_ptr(), address, bytes.len()) }?;
    instruction(bytes.as_mut_ptr())?;
    if writes {
        // SAFETY: the buffer's own size.
        unsafe { user::copy_to_user(address, bytes.as_ptr(), bytes.len()) }?;
    }
    Ok(())
}

/// Saves as FXSAVE does.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn fxsave(address: u64) -> Result<()> {
    on_copy(address, true, |area| {
        // SAFETY: big enough and aligned.
        unsafe { asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags)) };
        Ok(())
    })
}

/// Saves these components as XSAVE does.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn xsave(address: u64, features: u64) -> Result<()> {
    on_copy(address, true, |area| {
        // SAFETY: big enough and aligned.
        unsafe {
            asm!("xsave64 [{}]", in(reg) area, in("eax") features as u32, in("edx") (features >> 32) as u32,
                options(nostack, preserves_flags));
        }
        Ok(())
    })
}

/// Loads as FXRSTOR does.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn fxrstor(address: u64) -> Result<()> {
    on_copy(address, false, |area| catch(Load::Fxrstor, area, 0))
}

/// Loads these components as XRSTOR does.
///
/// # Safety
/// None: as the instruction's.
pub unsafe fn xrstor(address: u64, features: u64) -> Result<()> {
    on_copy(address, false, |area| catch(Load::Xrstor, area, features))
}

/// Loads what a program made as FXRSTOR does.
///
/// # Safety
/// The image is aligned to 16 bytes.
pub unsafe fn fxrstor_copy(image: *const u8) -> Result<()> {
    catch(Load::Fxrstor, image.cast_mut(), 0)
}

/// Loads what a program made as XRSTOR does.
///
/// # Safety
/// The area is aligned to 64 bytes, and as long as the components.
pub unsafe fn xrstor_copy(area: *const u8, features: u64) -> Result<()> {
    catch(Load::Xrstor, area.cast_mut(), features)
}

/// Saves to the kernel's memory as FXSAVE does.
///
/// # Safety
/// The image is aligned to 16 bytes.
pub unsafe fn fxsave_here(image: &mut [u8; fpu::LEGACY_SIZE]) {
    // SAFETY: big enough; aligned by the caller's promise.
    unsafe { asm!("fxsave64 [{}]", in(reg) image, options(nostack, preserves_flags)) };
}

/// Loads from the kernel's memory as FXRSTOR does.
///
/// # Safety
/// The image is aligned to 16 bytes.
pub unsafe fn fxrstor_here(image: *const u8) {
    catch(Load::Fxrstor, image.cast_mut(), 0).expect("an image that the CPU takes");
}

/// Loads these components from the kernel's memory as XRSTOR does.
///
/// # Safety
/// The area is aligned to 64 bytes, and as long as the components.
pub unsafe fn xrstor_here(area: *const u8, features: u64) {
    catch(Load::Xrstor, area.cast_mut(), features).expect("an area that the CPU takes");
}

/// Whether the CPU takes the state of an area; then it has it.
pub fn is_accepted(area: &mut [u8]) -> bool {
    assert!(area.as_ptr().addr().is_multiple_of(64) && area.len() >= fpu::size());
    let load = if fpu::has_xsave() { Load::Xrstor } else { Load::Fxrstor };
    catch(load, area.as_mut_ptr(), fpu::features()).is_ok()
}

enum Load {
    Fxrstor,
    Xrstor,
}

thread_local! {
    /// Where a fault of the instruction under way goes on; 0: there is none.
    static RESUME: Cell<u64> = const { Cell::new(0) };
}

/// Runs one of the loads. EFAULT where it faults.
#[inline(never)]
fn catch(load: Load, area: *mut u8, features: u64) -> Result<()> {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(install);
    let resume = RESUME.with(Cell::as_ptr);
    let mut failed: u32 = 1;
    // SAFETY: a fault goes on at 3, where the handler goes, with `failed` still set. The registers that are loaded are told to the
    // compiler, but for the control words: what calls this puts back the initial ones before it computes with them.
    unsafe {
        match load {
            Load::Fxrstor => state_asm!(
                "lea {scratch}, [rip + 3f]", "mov [{resume}], {scratch}",
                "fxrstor64 [{area}]",
                "xor {failed:e}, {failed:e}",
                "3: mov qword ptr [{resume}], 0",
                scratch = out(reg) _, resume = in(reg) resume, area = in(reg) area, failed = inout(reg) failed,
            ),
            Load::Xrstor => state_asm!(
                "lea {scratch}, [rip + 3f]", "mov [{resume}], {scratch}",
                "xrstor64 [{area}]",
                "xor {failed:e}, {failed:e}",
                "3: mov qword ptr [{resume}], 0",
                scratch = out(reg) _, resume = in(reg) resume, area = in(reg) area, failed = inout(reg) failed,
                in("eax") features as u32, in("edx") (features >> 32) as u32,
            ),
        }
    }
    if failed == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

unsafe extern "C" {
    fn sigaction(signal: c_int, action: *const HostAction, old: *mut HostAction) -> c_int;
}

/// The C library's `struct sigaction`.
#[repr(C)]
#[derive(Clone, Copy)]
struct HostAction {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

const SIGSEGV: c_int = 11;
const SA_SIGINFO: c_int = 4;
/// Where RIP is in the C library's `ucontext_t`: `uc_mcontext.gregs[REG_RIP]`.
const RIP: usize = 40 + 16 * 8;

/// What was there before: the fuzzer's.
static PREVIOUS: spin::Once<HostAction> = spin::Once::new();

fn install() {
    let action = HostAction { handler: on_fault as *const () as usize, mask: [0; 16], flags: SA_SIGINFO, restorer: 0 };
    let mut old = HostAction { handler: 0, ..action };
    // SAFETY: both have the C library's layout; the handler takes what SA_SIGINFO gives.
    let failed = unsafe { sigaction(SIGSEGV, &raw const action, &raw mut old) };
    assert_eq!(failed, 0, "sigaction");
    PREVIOUS.call_once(|| old);
}

extern "C" fn on_fault(_: c_int, _: *mut c_void, context: *mut u8) {
    let resume = RESUME.with(Cell::take);
    if resume == 0 {
        // Not ours: it comes again, to whom it went before.
        let previous = PREVIOUS.get().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: what `sigaction` gave.
        unsafe { sigaction(SIGSEGV, previous, ptr::null_mut()) };
        return;
    }
    // SAFETY: the context that the kernel of the host made.
    unsafe { context.add(RIP).cast::<u64>().write(resume) };
}
