//! GDT, TSS and the stacks that the TSS names.

use core::mem::offset_of;
use core::ops::Range;

// Selectors: Linux's (`arch/x86/include/asm/segment.h`), as user programs look at them.

/// Kernel code.
pub const KERNEL_CS: u16 = 0x10;
/// Kernel data and stack.
pub const KERNEL_DS: u16 = 0x18;
/// 32-bit user code.
pub const USER32_CS: u16 = 0x23;
/// User data and stack.
pub const USER_DS: u16 = 0x2b;
/// 64-bit user code.
pub const USER_CS: u16 = 0x33;
/// The task-state segment, two entries.
pub const TSS_SELECTOR: u16 = 0x40;

/// STAR: SYSCALL takes CS from bits 32 to 47 and SS 8 above; SYSRET takes SS 8 above and 64-bit CS 16 above bits 48
/// to 63 (SDM volume 2, SYSCALL, SYSRET).
pub(super) const STAR: u64 = (USER32_CS as u64) << 48 | (KERNEL_CS as u64) << 32;

const _: () = assert!(KERNEL_DS == KERNEL_CS + 8 && USER_DS == USER32_CS + 8 && USER_CS == USER32_CS + 16);

/// The descriptor of the local descriptor table, two entries.
pub(super) const LDT_SELECTOR: u16 = 0x50;
/// The first of the entries for thread-local storage; the others follow it.
pub const TLS_FIRST: usize = 12;
/// How many entries there are for thread-local storage.
pub const TLS_ENTRIES: usize = 3;

/// The global descriptor table: 16 entries as in Linux.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Gdt(pub(super) [u64; 16]);

impl Gdt {
    /// Sets a descriptor of two entries, present, of `size` bytes (SDM volume 3, figure 7-4).
    pub(super) fn set_system(&mut self, selector: u16, kind: u64, base: u64, size: u64) {
        const PRESENT: u64 = 1 << 47;
        let limit = size - 1;
        let low = limit & 0xffff
            | (base & 0xff_ffff) << 16
            | PRESENT
            | kind << 40
            | (limit >> 16 & 0xf) << 48
            | (base >> 24 & 0xff) << 56;
        self.0[(selector >> 3) as usize..][..2].copy_from_slice(&[low, base >> 32]);
    }
}

/// Segment descriptors (SDM volume 3, 3.4.5): present, accessed, flat, 4 KiB granularity.
mod descriptor {
    const FLAT: u64 = 0x00cf_9300_0000_ffff;
    const CODE: u64 = 1 << 43;
    const LONG: u64 = 1 << 53;
    const DEFAULT_32: u64 = 1 << 54;
    const USER: u64 = 3 << 45;

    pub const KERNEL_CODE: u64 = (FLAT | CODE | LONG) & !DEFAULT_32;
    pub const KERNEL_DATA: u64 = FLAT;
    pub const USER_CODE_32: u64 = FLAT | CODE | USER;
    pub const USER_DATA: u64 = FLAT | USER;
    pub const USER_CODE: u64 = KERNEL_CODE | USER;
}

/// The task-state segment (SDM volume 3, figure 7-11).
#[derive(Debug)]
#[repr(C, packed(4))]
pub struct Tss {
    reserved_0: u32,
    rsp: [u64; 3],
    reserved_1: u64,
    ist: [u64; 7],
    reserved_2: u64,
    reserved_3: u16,
    io_map_base: u16,
    /// A bit for each I/O port, 0 if user mode may use it, and a byte of ones, which the CPU may read with the last ports' (SDM
    /// volume 1, 19.5.2). In use while `io_map_base` points to it.
    pub(super) io_map: [u8; IO_PORTS / 8 + 4],
}

/// How many I/O ports there are.
pub const IO_PORTS: usize = 1 << 16;

const _: () = assert!(offset_of!(Tss, io_map) == 104);

impl Tss {
    /// The stack for interrupts from user mode.
    #[inline(always)]
    pub(super) fn set_rsp0(&mut self, top: u64) {
        self.rsp[0] = top;
    }

    /// Whether the I/O permission map is used; otherwise user mode may use no port.
    pub(super) fn use_io_map(&mut self, on: bool) {
        self.io_map_base = if on {
            offset_of!(Tss, io_map) as u16
        } else {
            // Beyond the limit.
            size_of::<Tss>() as u16
        };
    }
}

/// Entries of the interrupt-stack table.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Ist {
    DoubleFault = 1,
    Nmi = 2,
    Debug = 3,
    MachineCheck = 4,
}

/// A stack of the interrupt-stack table. Above its top are two words for the paranoid doors, which cannot trust GS.
#[repr(C, align(16))]
pub(super) struct IstStack {
    stack: [u8; 8192 - 16],
    /// The top.
    pub(super) cpu_local: u64,
    /// 1 if the CPU has RDGSBASE.
    pub(super) fsgsbase: u64,
}

/// The NMI's two stacks. See [`nmi`](super::nmi).
#[repr(C, align(16))]
pub(super) struct NmiStack {
    work: [u8; 8192 - 32 - 512],
    /// The working stack's top.
    pub(super) cpu_local: u64,
    fsgsbase: u64,
    pub(super) state: u64,
    unused: u64,
    entry: [u8; 512],
    /// The entry stack's top.
    pub(super) entry_end: [u8; 0],
}

const _: () = {
    assert!(offset_of!(IstStack, cpu_local) % 16 == 0 && offset_of!(NmiStack, cpu_local) % 16 == 0);
    assert!(offset_of!(NmiStack, entry_end) % 16 == 0 && size_of::<Tables>() == 44 << 10);
};

/// Where a CPU's way out to a 16-bit stack puts IRET's frame. Not needed if programs have no 16-bit segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Espfix {
    /// 64 bytes of this CPU's, 64-byte aligned: writable, not accessible to user mode.
    pub frame: u64,
    /// Where the same 64 bytes are mapped read-only, not accessible to user mode, in each address space. Bits 16 to 31 are zero;
    /// the bytes are mapped at each address that differs from this one in these bits alone.
    pub alias: u64,
}

impl Espfix {
    /// None: RSP on a 16-bit stack shows bits 16 to 31 of a kernel address.
    pub(super) const NONE: Espfix = Espfix { frame: 0, alias: 0 };
}

/// Where the CPU arrives from user mode, and IRET's frame lies, with page-table isolation: both tables map it.
#[repr(C, align(16))]
struct EntryStack([u8; 512]);

/// The entry stack's top, from the start of [`Tables`].
pub(super) const ENTRY_STACK_TOP: usize = offset_of!(Tables, entry_stack) + size_of::<EntryStack>();

/// One CPU's tables, and the stacks of its interrupt-stack table: 44 KiB in whole pages.
#[repr(C, align(4096))]
pub struct Tables {
    pub(super) double_fault: IstStack,
    pub(super) debug: IstStack,
    pub(super) machine_check: IstStack,
    pub(super) nmi: NmiStack,
    pub(super) gdt: Gdt,
    pub(super) tss: Tss,
    pub(super) espfix: Espfix,
    entry_stack: EntryStack,
}

impl Tables {
    /// Not in use yet: all zeros, so that a static takes no room in the kernel's image.
    pub const fn new() -> Self {
        // SAFETY: integers, and arrays of them: all zeros is a value.
        unsafe { core::mem::MaybeUninit::zeroed().assume_init() }
    }

    /// Fills the tables. `gs_base` is the address of the CPU's `CpuLocal`, `fsgsbase` whether the CPU has RDGSBASE.
    pub(super) fn fill(&mut self, gs_base: u64, fsgsbase: bool) {
        let entry_stack_top = &raw const *self as u64 + ENTRY_STACK_TOP as u64;
        self.tss.set_rsp0(entry_stack_top);
        for stack in [&mut self.double_fault, &mut self.debug, &mut self.machine_check] {
            stack.cpu_local = gs_base;
            stack.fsgsbase = fsgsbase as u64;
        }
        self.nmi.cpu_local = gs_base;
        self.nmi.fsgsbase = fsgsbase as u64;
        self.nmi.state = 0;

        let mut ist = [0; 7];
        for (entry, top) in [
            (Ist::DoubleFault, &raw const self.double_fault.cpu_local as u64),
            (Ist::Debug, &raw const self.debug.cpu_local as u64),
            (Ist::MachineCheck, &raw const self.machine_check.cpu_local as u64),
            (Ist::Nmi, &raw const self.nmi.entry_end as u64),
        ] {
            ist[entry as usize - 1] = top;
        }
        self.tss.ist = ist;
        self.tss.io_map = [u8::MAX; _];
        self.tss.use_io_map(false);

        for (selector, descriptor) in [
            (KERNEL_CS, descriptor::KERNEL_CODE),
            (KERNEL_DS, descriptor::KERNEL_DATA),
            (USER32_CS, descriptor::USER_CODE_32),
            (USER_DS, descriptor::USER_DATA),
            (USER_CS, descriptor::USER_CODE),
        ] {
            self.gdt.0[(selector >> 3) as usize] = descriptor;
        }
        self.gdt.set_system(TSS_SELECTOR, AVAILABLE_TSS, &raw const self.tss as u64, size_of::<Tss>() as u64);
    }

    /// The tops of the stacks of FRED's levels 1 to 3: #DB, NMI and #MC, #DF.
    pub(super) fn fred_stacks(&self) -> [u64; 3] {
        // The CPU wants them aligned to 64 bytes.
        [&raw const self.debug.cpu_local, &raw const self.nmi.cpu_local, &raw const self.double_fault.cpu_local]
            .map(|top| top as u64 & !63)
    }

    /// Where the stacks are, by the exceptions that use them.
    pub fn stacks(&self) -> [(&'static str, Range<u64>); 4] {
        [
            ("#DF", &raw const self.double_fault as u64, size_of::<IstStack>()),
            ("#DB", &raw const self.debug as u64, size_of::<IstStack>()),
            ("#MC", &raw const self.machine_check as u64, size_of::<IstStack>()),
            ("NMI", &raw const self.nmi as u64, size_of::<NmiStack>()),
        ]
        .map(|(name, start, size)| (name, start..start + size as u64))
    }
}

impl core::fmt::Debug for Tables {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

/// The type of an available 64-bit TSS (SDM volume 3, table 3-2).
const AVAILABLE_TSS: u64 = 9;
/// The type of a local descriptor table.
pub(super) const LDT: u64 = 2;
