//! Segment registers with selectors of the user's choice, and the descriptors that these may name: the GDT's entries for
//! thread-local storage, and the LDT. Also the I/O permission map.
//!
//! The kernel decides which program has which descriptors, within what [`load_tls`] and [`load_ldt`] demand.

use core::arch::asm;

use super::delivery;
use super::doors::Doors;
use super::local::CpuLocal;
use super::tables::{LDT, LDT_SELECTOR, TLS_ENTRIES, TLS_FIRST, USER_DS};

pub use super::tables::IO_PORTS;

/// A segment register that user programs may load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the registers by their names")]
pub enum Segment {
    Ds,
    Es,
    Fs,
    /// The user's GS; the kernel's GS base is kept.
    Gs,
}

/// The selector names no descriptor that may be loaded. The register holds the null selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadSelector;

/// Loads a segment register with a selector of the user's choice.
///
/// The descriptor may be gone. DS, ES and FS are loaded anyway: the CPU faults, and the exception table turns the fault into
/// [`BadSelector`]. GS is loaded with the user's GS base active, so that the kernel's survives; a fault would run the kernel
/// with the user's, so the descriptor is checked before. After an error the register is null. Some AMD CPUs keep the base when
/// FS or GS becomes null, which may be another program's, so a descriptor with base 0 is loaded first. With FRED, LKGS loads the
/// user's GS, and a fault of it is one as of the others.
///
/// # Safety
/// Kernel mode, interrupts off; no other CPU changes the tables that this one has loaded. The base of FS, or the user's GS
/// base, changes with the selector.
#[inline]
pub unsafe fn load_segment<K: Doors>(segment: Segment, selector: u16) -> Result<(), BadSelector> {
    /// One load of a segment register that may fault.
    macro_rules! load {
        ($instruction:literal) => {{
            let mut bad: u32 = 0;
            // SAFETY: the caller's; a fault continues at 2, where the null selector is loaded, which cannot fault.
            unsafe {
                asm!(
                    concat!("4: ", $instruction, "{selector:x}"),
                    "jmp 3f",
                    "2: mov {bad:e}, {flat}",
                    concat!($instruction, "{bad:x}"),
                    "xor {selector:e}, {selector:e}",
                    concat!($instruction, "{selector:x}"),
                    "3:",
                    ".pushsection portcullis_extable, \"aR\"",
                    ".balign 4",
                    ".long (4b - .)",
                    ".long (2b - .)",
                    ".popsection",
                    selector = inout(reg) selector as u32 => _,
                    bad = inout(reg) bad,
                    flat = const USER_DS,
                    options(nostack),
                );
            }
            if bad == 0 { Ok(()) } else { Err(BadSelector) }
        }};
    }
    match segment {
        Segment::Ds => load!("mov ds, "),
        Segment::Es => load!("mov es, "),
        Segment::Fs => {
            if is_null(selector) {
                // SAFETY: the GDT's flat data segment.
                unsafe { asm!("mov fs, {:x}", in(reg) USER_DS, options(nostack, preserves_flags)) };
            }
            load!("mov fs, ")
        }
        Segment::Gs if delivery::is_on_for::<K>() => load!("lkgs "),
        Segment::Gs => {
            let good = may_load(selector);
            let selector = if good { selector } else { 0 };
            let first = if is_null(selector) { USER_DS } else { selector };
            // SAFETY: the loads do not fault; what may hit between the two SWAPGS (NMI, #MC, #DB) does not rely on GS.
            unsafe {
                asm!("swapgs", "mov gs, {:x}", "mov gs, {:x}", "swapgs", in(reg) first, in(reg) selector,
                    options(nostack, preserves_flags));
            }
            if good { Ok(()) } else { Err(BadSelector) }
        }
    }
}

/// Whether a selector, of any ring, is null.
const fn is_null(selector: u16) -> bool {
    const RPL: u16 = 3;
    selector & !RPL == 0
}

/// Whether ring 0 may load a data segment register with this selector without a fault (SDM volume 2, MOV): it is null, or names
/// a present segment that may be read from the selector's ring. In kernel mode; valid while interrupts are off and the tables
/// do not change.
fn may_load(selector: u16) -> bool {
    /// The present bit in the result of LAR.
    const PRESENT: u32 = 1 << 15;
    let (readable, found, rights): (u8, u8, u32);
    // SAFETY: VERR changes the zero flag, and LAR its destination, too.
    unsafe {
        asm!(
            "verr {selector:x}", "setz {readable}", "lar {rights:e}, {selector:e}", "setz {found}",
            selector = in(reg) u32::from(selector), readable = out(reg_byte) readable,
            rights = out(reg) rights, found = out(reg_byte) found, options(nomem, nostack),
        );
    }
    is_null(selector) || readable & found != 0 && rights & PRESENT != 0
}

/// Sets the GDT's entries for thread-local storage on this CPU, selectors 0x63, 0x6b and 0x73. Segment registers that hold one of
/// them keep what they have loaded.
///
/// # Safety
/// Kernel mode, interrupts off. Each entry is zero or a 32-bit data segment of ring 3: the way out looks for 16-bit stack
/// segments in the LDT only (CVE-2014-8133), and a gate or kernel segment would let user mode into the kernel.
#[inline]
pub unsafe fn load_tls(entries: &[u64; TLS_ENTRIES]) {
    // SAFETY: interrupts are off, so the tables are this CPU's; these entries are for this.
    let gdt = unsafe { &mut (*CpuLocal::tables()).gdt.0 };
    gdt[TLS_FIRST..TLS_FIRST + TLS_ENTRIES].copy_from_slice(entries);
}

/// Makes this table the LDT of this CPU; an empty one means none. Segment registers that hold one of its selectors keep what they
/// have loaded.
///
/// # Safety
/// Kernel mode, interrupts off. The table does not change until this CPU has loaded another one. It has at most 8192 entries;
/// each is zero or a code or data segment of ring 3, with the accessed bit (which the CPU would set, in memory that may be
/// read-only) and without the long-mode bit.
pub unsafe fn load_ldt(table: &[u64]) {
    let selector = if table.is_empty() {
        0
    } else {
        // SAFETY: interrupts are off, so the tables are this CPU's; the entries are for this.
        let gdt = unsafe { &mut (*CpuLocal::tables()).gdt };
        gdt.set_system(LDT_SELECTOR, LDT, table.as_ptr() as u64, size_of_val(table) as u64);
        LDT_SELECTOR
    };
    // SAFETY: null, or the descriptor that was just written.
    unsafe { asm!("lldt {:x}", in(reg) selector, options(nostack, preserves_flags)) }
}

/// The I/O ports that user mode may use.
#[derive(Clone, Copy, Debug)]
pub enum IoPorts<'a> {
    /// None.
    None,
    /// All.
    All,
    /// Those whose bit is 0. Ports beyond the end are forbidden.
    Bitmap(&'a [u64]),
}

/// Lets user mode use these I/O ports, on this CPU, until the next call.
///
/// # Safety
/// Kernel mode, interrupts off. The task that runs until then may use them.
pub unsafe fn load_io_ports(ports: IoPorts<'_>) {
    // SAFETY: interrupts are off, so the tables are this CPU's; elsewhere the library accesses RSP0 of the TSS.
    let tss = unsafe { &mut (*CpuLocal::tables()).tss };
    let map = tss.io_map[..IO_PORTS / 8].as_chunks_mut().0;
    match ports {
        IoPorts::None => {}
        IoPorts::All => map.fill([0; 8]),
        IoPorts::Bitmap(words) => {
            for (n, bytes) in map.iter_mut().enumerate() {
                *bytes = words.get(n).copied().unwrap_or(u64::MAX).to_le_bytes();
            }
        }
    }
    tss.use_io_map(!matches!(ports, IoPorts::None));
}
