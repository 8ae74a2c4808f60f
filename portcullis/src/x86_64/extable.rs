//! Instructions that may fault, and where to go on if they do.
//!
//! An entry is two 32-bit self-relative offsets in the section `portcullis_extable`:
//!
//! ```text
//! .pushsection portcullis_extable, "aR"
//! .balign 4
//! .long (2b - .)      // the instruction that may fault
//! .long (3b - .)      // where to go on
//! .popsection
//! ```
//!
//! The section is retained (`R`); the linker provides `__start_portcullis_extable` and
//! `__stop_portcullis_extable`.

#[repr(C)]
struct Entry {
    instruction: i32,
    fixup: i32,
}

unsafe extern "C" {
    static __start_portcullis_extable: [Entry; 0];
    static __stop_portcullis_extable: [Entry; 0];
}

/// Where to go on after a fault at `rip`, if that is an instruction that may fault.
pub fn fixup(rip: u64) -> Option<u64> {
    let mut entry = (&raw const __start_portcullis_extable).cast::<Entry>();
    let stop = (&raw const __stop_portcullis_extable).cast::<Entry>();
    while entry < stop {
        // SAFETY: the linker's symbols bound an array of `Entry`.
        let (instruction, fixup, next) = unsafe {
            (
                target(&raw const (*entry).instruction),
                target(&raw const (*entry).fixup),
                entry.add(1),
            )
        };
        if instruction == rip {
            return Some(fixup);
        }
        entry = next;
    }
    None
}

/// # Safety
/// `offset` points to a self-relative offset.
unsafe fn target(offset: *const i32) -> u64 {
    // SAFETY: the caller's.
    (offset as u64).wrapping_add_signed(unsafe { *offset } as i64)
}

/// A segment register that user programs choose the contents of.
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
/// The descriptor may have gone: the CPU then faults, the exception table turns the fault into [`BadSelector`] and the
/// register is left null.
///
/// # Safety
/// Kernel mode, interrupts off. The base of FS, or the user's GS base, changes with the selector.
pub unsafe fn load_segment(segment: Segment, selector: u16) -> Result<(), BadSelector> {
    /// One `mov` to a segment register that may fault; `around` brackets it.
    macro_rules! load {
        ($register:literal, $before:literal, $after:literal) => {{
            let mut bad: u32 = 0;
            // SAFETY: the caller's; a fault goes on at 2, where the null selector is loaded, which cannot fault.
            unsafe {
                core::arch::asm!(
                    $before,
                    concat!("4: mov ", $register, ", {selector:x}"),
                    "jmp 3f",
                    "2: mov {bad:e}, 1",
                    "xor {selector:e}, {selector:e}",
                    concat!("mov ", $register, ", {selector:x}"),
                    "3:",
                    $after,
                    ".pushsection portcullis_extable, \"aR\"",
                    ".balign 4",
                    ".long (4b - .)",
                    ".long (2b - .)",
                    ".popsection",
                    selector = inout(reg) selector as u32 => _,
                    bad = inout(reg) bad,
                    options(nostack),
                );
            }
            bad
        }};
    }
    let bad = match segment {
        Segment::Ds => load!("ds", "", ""),
        Segment::Es => load!("es", "", ""),
        Segment::Fs => load!("fs", "", ""),
        // GS is loaded while the user's base is the active one, so that the kernel's survives.
        Segment::Gs => load!("gs", "swapgs", "swapgs"),
    };
    if bad == 0 { Ok(()) } else { Err(BadSelector) }
}
