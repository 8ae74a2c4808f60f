//! The registers that every door saves.

use crate::host::Registers;

/// The user's registers, at the top of the thread stack; for what hits the kernel, the kernel's, where it was hit.
///
/// Linux's `pt_regs` order (`arch/x86/include/asm/ptrace.h`, 6.1). The last five words are what the CPU pushes
/// (SDM volume 3, 6.14.2), which in 64-bit mode includes `rsp` and `ss` even when the kernel is hit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
#[allow(missing_docs, reason = "the registers by their names")]
pub struct UserRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The number of the system call under way, or [`NO_SYSCALL`](Self::NO_SYSCALL).
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl UserRegs {
    /// `orig_rax` where no system call is under way: at exceptions and interrupts.
    pub const NO_SYSCALL: u64 = u64::MAX;

    /// Bytes.
    pub const SIZE: usize = size_of::<UserRegs>();
}

impl Registers for UserRegs {
    #[inline(always)]
    fn from_user(&self) -> bool {
        self.cs & 3 != 0
    }

    #[inline(always)]
    fn interrupts_on(&self) -> bool {
        self.rflags & flags::IF != 0
    }

    /// The low half of the register, sign-extended, as Linux 6.1 takes it.
    #[inline(always)]
    fn syscall_number(&self) -> i64 {
        self.orig_rax as i32 as i64
    }
}

/// Bits of RFLAGS (SDM volume 1, 3.4.3).
#[allow(missing_docs, reason = "the flags by their names")]
pub mod flags {
    pub const CF: u64 = 1 << 0;
    /// Always 1.
    pub const FIXED: u64 = 1 << 1;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF: u64 = 1 << 19;
    pub const VIP: u64 = 1 << 20;
    pub const ID: u64 = 1 << 21;
}
