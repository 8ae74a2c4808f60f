//! The registers that Linux's assembly saves (`struct pt_regs`).

use core::mem::{offset_of, size_of};

use portcullis::machine::Registers;

use crate::offsets;

/// The saved registers. What stands above a segment register's two bytes is not its: FRED tells about the event there.
#[cfg(CONFIG_X86_64)]
#[repr(C)]
pub struct PtRegs {
    r15: usize,
    r14: usize,
    r13: usize,
    r12: usize,
    pub bp: usize,
    pub bx: usize,
    pub r11: usize,
    r10: usize,
    r9: usize,
    r8: usize,
    pub ax: usize,
    pub cx: usize,
    dx: usize,
    si: usize,
    di: usize,
    pub orig_ax: usize,
    pub ip: usize,
    pub cs: u16,
    cs_high: [u16; 3],
    pub flags: usize,
    pub sp: usize,
    pub ss: u16,
    ss_high: [u16; 3],
}

/// The saved registers. Of a segment register's four bytes the upper two are not its.
#[cfg(not(CONFIG_X86_64))]
#[repr(C)]
pub struct PtRegs {
    bx: usize,
    cx: usize,
    dx: usize,
    si: usize,
    di: usize,
    pub bp: usize,
    pub ax: usize,
    ds: usize,
    es: usize,
    fs: usize,
    gs: usize,
    pub orig_ax: usize,
    pub ip: usize,
    pub cs: u16,
    cs_high: u16,
    pub flags: usize,
    pub sp: usize,
    pub ss: u16,
    ss_high: u16,
}

const _: () = assert!(size_of::<PtRegs>() == offsets::SIZEOF_PT_REGS);
const _: () = assert!(offset_of!(PtRegs, ax) == offsets::PT_REGS_AX);
const _: () = assert!(offset_of!(PtRegs, orig_ax) == offsets::PT_REGS_ORIG_AX);
const _: () = assert!(offset_of!(PtRegs, flags) == offsets::PT_REGS_FLAGS);
const _: () = assert!(offset_of!(PtRegs, ss) == offsets::PT_REGS_SS);

/// Bits of the flags register.
pub mod flags {
    /// Trap after the next instruction.
    pub const TF: usize = 1 << 8;
    /// Interrupts on.
    pub const IF: usize = 1 << 9;
    /// No instruction breakpoint at the next instruction.
    pub const RF: usize = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: usize = 1 << 17;
}

impl Registers for PtRegs {
    #[inline(always)]
    fn from_user(&self) -> bool {
        // In virtual-8086 mode the code segment is a number without privilege level.
        self.cs & 3 != 0 || (cfg!(not(CONFIG_X86_64)) && self.flags & flags::VM != 0)
    }

    #[inline(always)]
    fn interrupts_on(&self) -> bool {
        self.flags & flags::IF != 0
    }

    #[inline(always)]
    fn syscall_number(&self) -> i64 {
        // Only the lower half counts (Linux: syscall_get_nr() gives an int).
        // SAFETY: half of a member.
        unsafe { (&raw const self.orig_ax).cast::<i32>().read() as i64 }
    }

    #[inline(always)]
    fn syscall_result(&self) -> i64 {
        self.ax as i64
    }
}
