//! What a task keeps about the system call under way.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

/// `AUDIT_ARCH_X86_64`: EM_X86_64, 64-bit, little-endian.
pub const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_I386`: EM_386, little-endian.
pub const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// How the task came into the kernel is what its registers say.
pub const AS_REGISTERS: u8 = 0;
/// By an interrupt or an exception.
pub const EVENT: u8 = 1;
/// By a system call.
pub const CALL: u8 = 2;

/// What a task keeps about the call under way.
#[derive(Default)]
pub struct SyscallInfo {
    /// It is of the 32-bit table (Linux: TS_COMPAT).
    pub compat: AtomicBool,
    /// A 32-bit tracer has written the number: the result is 32 bits wide (Linux: TS_I386_REGS_POKED).
    pub poked: AtomicBool,
    /// How the task came into the kernel, if a tracer has written the number that says so: [`AS_REGISTERS`], [`EVENT`] or [`CALL`].
    pub origin: AtomicU8,
    /// Where the call would have returned before the vDSO was moved.
    pub old_landing_pad: AtomicU64,
}

impl SyscallInfo {
    /// Whether the call is of the 32-bit table: from its arrival until all its exit work is done. The program may be of
    /// either width.
    #[inline(always)]
    pub fn is_compat(&self) -> bool {
        self.compat.load(Relaxed)
    }

    /// A 32-bit call begins or is over. For the doors, on the current task.
    #[inline(always)]
    pub fn set_compat(&self, on: bool) {
        self.compat.store(on, Relaxed);
    }
}
