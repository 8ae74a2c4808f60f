//! The vDSO: a page of code that the kernel maps into every program, and the clock's page before it.
//!
//! ```text
//!   start           the clock's page (`[vvar]`), which the program can only read: clock_page.rs
//!   start + 4096    the image (`[vdso]`), an ELF shared object: vdso64.s or vdso32.s, linked by build.rs
//! ```
//!
//! The older way to the same calls, a page at a fixed address, is in `vsyscall.rs`.

pub mod clock_page;

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::auxvec::AT_SYSINFO_EHDR;
use linux_raw_sys::general::{MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_READ, S_IFREG};
use spin::Once;

use crate::errno::{Errno, Result};
use crate::fs::{File, Inode};
use crate::memory::address_space::AddressSpace;
use crate::memory::frames::Frame;
use crate::memory::map::Object;
use crate::memory::vma::{AreaFlags, Prot};
use crate::memory::{PAGE_SIZE, Width, frames};
use crate::vfs::inode::Metadata;

/// Where a 32-bit program finds `__kernel_vsyscall` (Linux, `arch/x86/include/uapi/asm/auxvec.h`).
const AT_SYSINFO: u32 = 32;

/// Addresses in the 32-bit image.
mod symbols32 {
    include!(concat!(env!("OUT_DIR"), "/vdso32.rs"));
}

static IMAGE_64: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso64.so"));
static IMAGE_32: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso32.so"));

/// A page that mappings find like a file's.
struct Page {
    frame: Frame,
    name: &'static [u8],
}

impl Inode for Page {
    fn metadata(&self) -> Metadata {
        Metadata::new(0, 0, S_IFREG)
    }

    fn open(self: Arc<Self>, _flags: u32) -> Result<Arc<File>> {
        Err(Errno::EACCES)
    }

    fn page(&self, index: u64) -> Result<Frame> {
        if index == 0 { Ok(self.frame.clone()) } else { Err(Errno::ENXIO) }
    }

    fn label(&self) -> Option<Vec<u8>> {
        Some(self.name.to_vec())
    }
}

/// What is mapped.
struct Pages {
    clock: Arc<dyn Inode>,
    image_64: Arc<dyn Inode>,
    image_32: Arc<dyn Inode>,
}

static PAGES: Once<Pages> = Once::new();

/// Makes the pages. Once, at boot, when there are frames and the clock runs.
pub fn init() {
    crate::machine::time::on_set(crate::fs::vdso::clock_page::update);
    PAGES.call_once(|| {
        let image = |bytes: &[u8]| -> Arc<dyn Inode> {
            let frame = zeroed();
            fill(&frame, 0, bytes);
            if bytes.len() == IMAGE_32.len() && core::ptr::eq(bytes, IMAGE_32) {
                fill(&frame, symbols32::FAST_CALL as usize, fast_call());
            }
            Arc::new(Page { frame, name: b"[vdso]" })
        };
        let clock = zeroed();
        crate::fs::vdso::clock_page::init(&clock);
        Pages {
            clock: Arc::new(Page { frame: clock, name: b"[vvar]" }),
            image_64: image(IMAGE_64),
            image_32: image(IMAGE_32),
        }
    });
}

fn zeroed() -> Frame {
    frames::alloc_zeroed().expect("no memory for the vDSO")
}

fn fill(frame: &Frame, at: usize, bytes: &[u8]) {
    assert!(at + bytes.len() <= PAGE_SIZE as usize, "the vDSO is one page");
    // SAFETY: within the frame, which nobody else has yet.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), frame.as_ptr().add(at), bytes.len()) };
}

/// The instructions with which `__kernel_vsyscall` enters the kernel: the fast ones are the vendors', as long as there is
/// a 64-bit kernel; nothing, if the CPU has none, and INT 0x80 follows.
fn fast_call() -> &'static [u8] {
    const SIZE: usize = 4;
    let cpuid = raw_cpuid::CpuId::new();
    let vendor = cpuid.get_vendor_info();
    let has_sysenter = cpuid.get_feature_info().is_some_and(|features| features.has_sysenter_sysexit());
    let at = match vendor.as_ref().map(|vendor| vendor.as_str()) {
        Some("AuthenticAMD" | "HygonGenuine") => symbols32::USE_SYSCALL,
        Some("GenuineIntel" | "CentaurHauls" | "  Shanghai  ") if has_sysenter => symbols32::USE_SYSENTER,
        _ => return &[],
    };
    &IMAGE_32[at as usize..][..SIZE]
}

/// Maps the vDSO of this width at `hint`, or anywhere. Returns where the image is.
pub fn map(mm: &AddressSpace, width: Width, hint: u64) -> Result<u64> {
    let pages = PAGES.get().ok_or(Errno::ENOMEM)?;
    let image = match width {
        Width::Bits64 => &pages.image_64,
        Width::Bits32 => &pages.image_32,
    };
    // Both at once, so that they are neighbours; then each in its place.
    let start = mm.map(hint, 2 * PAGE_SIZE, 0, MAP_PRIVATE, Object::Anonymous)?;
    for (page, inode, prot) in [(start, &pages.clock, PROT_READ), (start + PAGE_SIZE, image, PROT_READ | PROT_EXEC)] {
        let object = Object::File { file: inode.clone(), offset: 0, shared: false };
        mm.map(page, PAGE_SIZE, prot, MAP_PRIVATE | MAP_FIXED, object)?;
    }
    mm.limit(start..start + PAGE_SIZE, Prot::READ, AreaFlags::IO);
    let image = start + PAGE_SIZE;
    mm.limit(image..image + PAGE_SIZE, Prot::all(), AreaFlags::VDSO);
    mm.set_vdso(image);
    if width == Width::Bits32 {
        mm.set_int80_landing_pad(image + symbols32::INT80_LANDING_PAD);
    }
    Ok(image)
}

/// What arch_prctl(ARCH_MAP_VDSO_…) gives: the size of an image.
pub const IMAGE_SIZE: u64 = PAGE_SIZE;

/// The entries of the auxiliary vector for the image at `image`.
pub fn auxiliary(width: Width, image: u64) -> Vec<(u32, u64)> {
    let mut entries = Vec::new();
    if width == Width::Bits32 {
        entries.push((AT_SYSINFO, image + symbols32::KERNEL_VSYSCALL));
    }
    entries.push((AT_SYSINFO_EHDR, image));
    entries
}

/// `__kernel_sigreturn` of a 32-bit program; 0 if it has no vDSO.
pub fn sigreturn_32(mm: &AddressSpace) -> u32 {
    in_image_32(mm, symbols32::KERNEL_SIGRETURN)
}

/// `__kernel_rt_sigreturn` of a 32-bit program; 0 if it has no vDSO.
pub fn rt_sigreturn_32(mm: &AddressSpace) -> u32 {
    in_image_32(mm, symbols32::KERNEL_RT_SIGRETURN)
}

/// Whether `rip` is behind the system call of one of the two.
pub fn is_behind_sigreturn_32(mm: &AddressSpace, rip: u64) -> bool {
    /// `pop eax; mov eax, NUMBER; int 0x80`, and the same without the first.
    const LENGTHS: [u32; 2] = [1 + 5 + 2, 5 + 2];
    mm.int80_landing_pad() != 0
        && [sigreturn_32(mm) + LENGTHS[0], rt_sigreturn_32(mm) + LENGTHS[1]].contains(&(rip as u32))
}

fn in_image_32(mm: &AddressSpace, symbol: u64) -> u32 {
    if mm.int80_landing_pad() == 0 {
        return 0;
    }
    (mm.int80_landing_pad() - symbols32::INT80_LANDING_PAD + symbol) as u32
}
