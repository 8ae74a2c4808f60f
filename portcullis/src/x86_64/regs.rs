//! The registers that the doors save.
//!
//! [`UserRegs`] are a user's: who holds them can write any value that user mode may have, and no other. [`SavedRegs`] are
//! what a door found where the kernel may have been hit.

use crate::machine::Registers;

use super::tables::{USER_CS, USER_DS};

macro_rules! registers {
    ($(#[$doc:meta])* $name:ident, $vis:vis) => {
        registers! { @ r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi: $(#[$doc])* $name, $vis }
    };
    (@ $($general:ident)*: $(#[$doc:meta])* $name:ident, $vis:vis) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(C)]
        #[allow(missing_docs, reason = "the registers by their names")]
        pub struct $name {
            $(pub $general: u64,)*
            /// The number of the system call in progress, or [`NO_SYSCALL`](UserRegs::NO_SYSCALL).
            pub orig_rax: u64,
            pub rip: u64,
            $vis cs: u64,
            $vis rflags: u64,
            pub rsp: u64,
            $vis ss: u64,
        }

        impl $name {
            #[allow(dead_code, reason = "for `UserRegs`")]
            const ZERO: Self = $name { $($general: 0,)* orig_rax: 0, rip: 0, cs: 0, rflags: 0, rsp: 0, ss: 0 };
        }

        impl Registers for $name {
            #[inline(always)]
            fn from_user(&self) -> bool {
                self.cs & 3 != 0
            }

            #[inline(always)]
            fn interrupts_on(&self) -> bool {
                self.rflags & flags::IF != 0
            }

            /// The low half of the register, sign-extended, as in Linux 6.1.
            #[inline(always)]
            fn syscall_number(&self) -> i64 {
                self.orig_rax as i32 as i64
            }

            #[inline(always)]
            fn syscall_result(&self) -> i64 {
                self.rax as i64
            }
        }
    };
}

registers! {
    /// A user's registers, at the top of the thread stack.
    ///
    /// The layout is that of Linux's `pt_regs` (`arch/x86/include/asm/ptrace.h`, 6.1). The last five words are what the CPU
    /// pushes (SDM volume 3, 6.14.2).
    ///
    /// CS and SS name ring 3, and RFLAGS has interrupts on and no privilege, so that IRET with these registers enters user
    /// mode or faults. Outside the doors, [`set_cs`](Self::set_cs), [`set_ss`](Self::set_ss) and
    /// [`set_rflags`](Self::set_rflags) are how they are written.
    UserRegs, pub(super)
}

registers! {
    /// The registers that a door saved, the kernel's or a user's. The layout is that of [`UserRegs`].
    SavedRegs, pub
}

const _: () = assert!(size_of::<UserRegs>() == size_of::<SavedRegs>());

impl UserRegs {
    /// `orig_rax` if no system call is in progress: at exceptions and interrupts.
    pub const NO_SYSCALL: u64 = u64::MAX;

    /// Bytes.
    pub const SIZE: usize = size_of::<UserRegs>();

    /// The flags that user mode may set and clear.
    pub const FLAGS: u64 = {
        use flags::*;
        CF | PF | AF | ZF | SF | TF | DF | OF | NT | RF | AC | ID
    };

    /// 64-bit code at `rip` with its stack at `rsp`; all other registers 0, no system call in progress.
    pub const fn new(rip: u64, rsp: u64) -> Self {
        UserRegs {
            orig_rax: Self::NO_SYSCALL,
            rip,
            cs: USER_CS as u64,
            rflags: flags::FIXED | flags::IF,
            rsp,
            ss: USER_DS as u64,
            ..Self::ZERO
        }
    }

    /// The code segment.
    #[inline(always)]
    pub const fn cs(&self) -> u64 {
        self.cs
    }

    /// The stack segment.
    #[inline(always)]
    pub const fn ss(&self) -> u64 {
        self.ss
    }

    /// The flags.
    #[inline(always)]
    pub const fn rflags(&self) -> u64 {
        self.rflags
    }

    /// Sets the code segment to this selector with RPL 3. If it names no code segment of ring 3, the way out faults, which is
    /// reported as an exception in user mode.
    #[inline(always)]
    pub const fn set_cs(&mut self, selector: u16) {
        self.cs = (selector | 3) as u64;
    }

    /// Sets the stack segment, as [`set_cs`](Self::set_cs).
    #[inline(always)]
    pub const fn set_ss(&mut self, selector: u16) {
        self.ss = (selector | 3) as u64;
    }

    /// Sets the flags that user mode may change ([`FLAGS`](Self::FLAGS)).
    #[inline(always)]
    pub const fn set_rflags(&mut self, value: u64) {
        self.rflags = value & Self::FLAGS | flags::FIXED | flags::IF;
    }

    /// As what a door saved, to read.
    #[inline(always)]
    pub const fn as_saved(&self) -> &SavedRegs {
        // SAFETY: the layout is the same, and any `UserRegs` is a valid `SavedRegs`.
        unsafe { &*(core::ptr::from_ref(self).cast()) }
    }

    /// For a handler that also runs when the kernel was hit.
    ///
    /// # Safety
    /// It must change them as [`regs_mut`](crate::NmiContext::regs_mut) allows, and not CS, SS or RFLAGS.
    #[inline(always)]
    pub(super) unsafe fn as_saved_mut(&mut self) -> &mut SavedRegs {
        // SAFETY: the layout is the same; the caller keeps the invariants.
        unsafe { &mut *(core::ptr::from_mut(self).cast()) }
    }
}

/// Bits of RFLAGS (SDM volume 1, 3.4.3).
#[allow(missing_docs, reason = "the flags by their names")]
pub mod flags {
    macro_rules! bits {
        ($($name:ident = $bit:literal)*) => { $(pub const $name: u64 = 1 << $bit;)* };
    }

    bits! {
        CF = 0 PF = 2 AF = 4 ZF = 6 SF = 7 TF = 8 IF = 9 DF = 10 OF = 11 NT = 14 RF = 16 VM = 17 AC = 18 VIF = 19 VIP = 20 ID = 21
    }
    pub const IOPL: u64 = 3 << 12;
    /// Reads as 1.
    pub const FIXED: u64 = 1 << 1;
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/regs.rs"]
mod tests;
