//! Instructions that not every CPU has or needs: the code holds NOPs, and at boot the first CPU replaces them, by CPUID: CLAC and
//! STAC with SMAP, VERW where it clears buffers that leak. LOCK prefixes are put in by a kernel that asks for them
//! ([`track_user_mode`]). The section `portcullis_alternatives` lists the places; the linker
//! provides its start and end.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::asm::align_next;
use super::cpu::{Features, without_write_protection};
use super::local::CpuLocal;
use super::tables::KERNEL_DS;

/// A place to patch.
#[repr(C)]
struct Site {
    /// The address, relative to this field.
    address: i32,
    /// What goes there: the last byte of CLAC (0F 01 CA) or STAC (0F 01 CB), or [`VERW`] or [`LOCK`].
    what: u32,
}

/// [`Site::what`] for VERW: seven bytes.
pub(super) const VERW: u32 = 0;
/// [`Site::what`] for the prefix LOCK: one byte.
pub(super) const LOCK: u32 = 1;

unsafe extern "C" {
    static __start_portcullis_alternatives: [Site; 0];
    static __stop_portcullis_alternatives: [Site; 0];
}

/// What VERW reads: a writable data segment. The form with a memory operand is the one that clears buffers (SDM volume 3). Among
/// the doors' code, because VERW runs on the user's page table ([`isolation`](super::isolation)).
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
unsafe extern "C" fn verw_selector() {
    naked_asm!(".word {}", align_next!(), const KERNEL_DS)
}

/// `verw word ptr [rip + displacement]` for an instruction at `at`; `None` if the operand is out of reach.
fn verw(at: u64, operand: u64) -> Option<[u8; 7]> {
    let next = at.wrapping_add(7);
    let displacement = i32::try_from(operand.wrapping_sub(next) as i64).ok()?;
    let [a, b, c, d] = displacement.to_le_bytes();
    Some([0x0f, 0x00, 0x2d, a, b, c, d])
}

/// Puts in what this CPU has. The others must have the same.
///
/// # Safety
/// Once, at boot, before another CPU runs and before a door is used; kernel mode, interrupts off; the text is mapped.
pub(super) unsafe fn apply(features: Features) {
    // SAFETY: the caller's.
    unsafe {
        patch(|what, address, write| match what {
            VERW => {
                let operand = verw_selector as *const () as u64;
                if let Some(bytes) = verw(address, operand).filter(|_| features.clear_buffers) {
                    write(&bytes);
                }
            }
            LOCK => {}
            last_byte if features.smap => write(&[0x0f, 0x01, last_byte as u8]),
            _ => {}
        });
    }
}

/// Whether [`track_user_mode`] was called.
static TRACKS_USER_MODE: AtomicBool = AtomicBool::new(false);

/// Whether the words of CPUs that are set up from now on are tracked.
pub(super) fn tracks_user_mode() -> bool {
    TRACKS_USER_MODE.load(Relaxed)
}

/// From now on user mode counts as quiescent for grace periods ([`context`](crate::context)): they do not interrupt a CPU that
/// stays there. For that each crossing between user mode and the kernel has one locked instruction on the way in and one on the
/// way out.
///
/// # Safety
/// At boot, on the first CPU after its [`init_cpu`](super::init_cpu) and before that of another CPU; kernel mode, interrupts off;
/// the text is mapped.
pub unsafe fn track_user_mode() {
    const PREFIX: u8 = 0xf0;
    // SAFETY: the caller's. The prefix in front of an addition to memory is one byte for another; the word is this CPU's, and
    // the words of the others come from `init_cpu`.
    unsafe {
        patch(|what, _, write| {
            if what == LOCK {
                write(&[PREFIX]);
            }
        });
        CpuLocal::this().context().track();
    }
    TRACKS_USER_MODE.store(true, Relaxed);
}

/// Goes through the list: `change` gets what a place is for, its address, and what writes there.
///
/// # Safety
/// That of [`apply`], or, for bytes that may be executed meanwhile, of [`track_user_mode`]. `change` writes no more bytes than the
/// place's NOP has.
unsafe fn patch(change: impl Fn(u32, u64, &dyn Fn(&[u8]))) {
    let mut site = (&raw const __start_portcullis_alternatives).cast::<Site>();
    let stop = (&raw const __stop_portcullis_alternatives).cast::<Site>();
    // SAFETY: the linker's symbols bound an array of `Site`; each names a NOP as long as what replaces it.
    unsafe {
        without_write_protection(|| {
            while site < stop {
                let address = (&raw const (*site).address).cast::<u8>().offset((*site).address as isize).cast_mut();
                change((*site).what, address as u64, &|bytes| {
                    for (n, &byte) in bytes.iter().enumerate() {
                        address.add(n).write_volatile(byte);
                    }
                });
                site = site.add(1);
            }
        });
    }
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/alternatives.rs"]
mod tests;
