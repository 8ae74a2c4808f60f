//! The current task, and this CPU's variables.

use core::arch::asm;
use core::ptr::read_volatile;

use crate::{offsets, version};

/// A variable of each CPU. Only its address means anything here.
#[repr(C)]
pub struct PerCpu(u8);

unsafe extern "C" {
    #[cfg(CONFIG_CONTEXT_TRACKING_USER)]
    static context_tracking: PerCpu;
}

/// The segment through which a CPU finds its own variables.
#[cfg(all(CONFIG_SMP, CONFIG_X86_64))]
macro_rules! this_cpu {
    ($operand:literal) => {
        concat!("gs:", $operand)
    };
}
/// The segment through which a CPU finds its own variables.
#[cfg(all(CONFIG_SMP, not(CONFIG_X86_64)))]
macro_rules! this_cpu {
    ($operand:literal) => {
        concat!("fs:", $operand)
    };
}
/// With one CPU there is one of each variable.
#[cfg(not(CONFIG_SMP))]
macro_rules! this_cpu {
    ($operand:literal) => {
        concat!("ds:", $operand)
    };
}

/// The current task's `struct task_struct`.
#[derive(Clone, Copy)]
pub struct Task(*mut u8);

/// The current task. The same for all of a task's code, wherever it runs.
#[inline(always)]
pub fn task() -> Task {
    let task: *mut u8;
    // SAFETY: reads this CPU's variable. Code cannot tell when it moves to another CPU, since the task moves with it.
    unsafe {
        asm!(
            concat!("mov {task}, ", this_cpu!("[{current_task} + {at}]")),
            task = out(reg) task,
            current_task = sym version::current_task,
            at = const version::CURRENT_TASK,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    Task(task)
}

impl Task {
    /// A member, by its offset.
    ///
    /// # Safety
    /// `offset` is that of a member of this type.
    #[inline(always)]
    pub unsafe fn member<T>(self, offset: usize) -> *mut T {
        // SAFETY: the caller's.
        unsafe { self.0.add(offset).cast() }
    }

    /// The task of Linux's pointer.
    ///
    /// # Safety
    /// It is that of a `struct task_struct`, which stays.
    #[allow(dead_code, reason = "Linux 6.1 has no use of it")]
    pub unsafe fn from_raw(task: *mut u8) -> Task {
        Task(task)
    }

    /// Linux's pointer.
    pub fn as_raw(self) -> *mut u8 {
        self.0
    }

    /// The exit-work flags, read once.
    #[inline(always)]
    pub fn thread_flags(self) -> usize {
        // SAFETY: `thread_info.flags`, an unsigned long. Other CPUs write it; the read is volatile.
        unsafe { read_volatile(self.member(offsets::TASK_TI_FLAGS)) }
    }

    /// The syscall-work flags, read once.
    #[inline(always)]
    pub fn syscall_work(self) -> usize {
        // SAFETY: `thread_info.syscall_work`, an unsigned long.
        unsafe { read_volatile(self.member(offsets::TASK_TI_SYSCALL_WORK)) }
    }

    /// Whether it is a CPU's idle task.
    #[inline(always)]
    pub fn is_idle(self) -> bool {
        // SAFETY: `flags`, an unsigned int that only the task itself writes.
        unsafe { *self.member::<u32>(offsets::TASK_FLAGS) & offsets::TASK_PF_IDLE as u32 != 0 }
    }

    /// Sets bits of the status word, which is the task's own.
    #[cfg(CONFIG_COMPAT)]
    #[inline(always)]
    pub fn set_status(self, bits: u32) {
        // SAFETY: `thread_info.status`, a u32 that only the task itself writes.
        unsafe { *self.member::<u32>(offsets::TASK_TI_STATUS) |= bits }
    }

    /// Clears bits of the status word.
    #[cfg(CONFIG_COMPAT)]
    #[inline(always)]
    pub fn clear_status(self, bits: u32) {
        // SAFETY: as in `set_status`.
        unsafe { *self.member::<u32>(offsets::TASK_TI_STATUS) &= !bits }
    }

    /// The address of the vDSO.
    #[cfg(any(CONFIG_IA32_EMULATION, not(CONFIG_X86_64)))]
    #[inline(always)]
    pub fn vdso(self) -> usize {
        // SAFETY: a task that makes a system call has an `mm`, and the vDSO's address is a pointer in it.
        unsafe {
            let mm: *mut u8 = *self.member(offsets::TASK_MM);
            *mm.add(offsets::MM_VDSO).cast()
        }
    }

    /// A member of `syscall_dispatch`.
    pub fn dispatch_word(self, offset: usize) -> usize {
        // SAFETY: a word of the task's own.
        unsafe { *self.member(offset) }
    }

    /// Sets a member of `syscall_dispatch`.
    pub fn set_dispatch_word(self, offset: usize, value: usize) {
        // SAFETY: a word of the task's own.
        unsafe { *self.member(offset) = value }
    }

    /// Whether the system call under way was turned into a SIGSYS.
    pub fn on_dispatch(self) -> bool {
        // SAFETY: a C bool of the task's own.
        unsafe { *self.member::<u8>(offsets::TASK_ON_DISPATCH) != 0 }
    }

    /// Notes whether the system call under way was turned into a SIGSYS.
    pub fn set_on_dispatch(self, on: bool) {
        // SAFETY: a C bool of the task's own.
        unsafe { *self.member::<u8>(offsets::TASK_ON_DISPATCH) = on as u8 }
    }

    /// The registers with which it came in from user mode (Linux: `task_pt_regs(current)`).
    #[cfg(portcullis_guests)]
    pub fn user_regs(self) -> *mut crate::regs::PtRegs {
        // SAFETY: a function of the glue's that only computes an address.
        unsafe { portcullis_user_regs() }
    }
}

#[cfg(portcullis_guests)]
unsafe extern "C" {
    fn portcullis_user_regs() -> *mut crate::regs::PtRegs;
}

/// The whole word: the count, and in its highest bit, inverted, whether the CPU should reschedule.
#[inline(always)]
fn preempt_word() -> u32 {
    let word: u32;
    // SAFETY: reads this CPU's variable.
    unsafe {
        asm!(
            concat!("mov {word:e}, dword ptr ", this_cpu!("[{count} + {at}]")),
            word = out(reg) word,
            count = sym version::preempt_count,
            at = const version::PREEMPT_COUNT,
            options(readonly, nostack, preserves_flags),
        );
    }
    word
}

/// How often preemption is disabled on this CPU.
#[inline(always)]
pub fn preempt_count() -> usize {
    preempt_word() as usize & offsets::PREEMPT_COUNT_MASK
}

/// Adds to the preemption count.
#[inline(always)]
pub fn add_preempt_count(amount: i32) {
    // SAFETY: changes this CPU's variable in one instruction, as Linux does.
    unsafe {
        asm!(
            concat!("add dword ptr ", this_cpu!("[{count} + {at}]"), ", {amount:e}"),
            count = sym version::preempt_count,
            at = const version::PREEMPT_COUNT,
            amount = in(reg) amount,
            options(nostack),
        );
    }
}

/// This CPU's context in Linux's context tracking: 0 kernel, 1 idle, 2 user, 3 guest.
#[cfg(CONFIG_CONTEXT_TRACKING_USER)]
#[inline(always)]
pub fn context() -> u32 {
    let word: u32;
    // SAFETY: reads this CPU's variable.
    unsafe {
        asm!(
            concat!("mov {word:e}, dword ptr ", this_cpu!("[{tracking} + {state}]")),
            word = out(reg) word,
            tracking = sym context_tracking,
            state = const offsets::CT_STATE,
            options(readonly, nostack, preserves_flags),
        );
    }
    word & 3
}

/// This CPU's instance of a variable.
///
/// # Safety
/// `variable` is one of each CPU's, and the caller stays on this CPU as long as it uses the address.
#[allow(dead_code, reason = "not every version has a use of it")]
#[inline(always)]
pub unsafe fn this_cpu_address(variable: *const PerCpu) -> *mut u8 {
    #[cfg(CONFIG_SMP)]
    {
        unsafe extern "C" {
            static this_cpu_off: PerCpu;
        }
        let offset: usize;
        // SAFETY: reads this CPU's variable.
        unsafe {
            asm!(
                concat!("mov {offset}, ", this_cpu!("[{this_cpu_off}]")),
                offset = out(reg) offset,
                this_cpu_off = sym this_cpu_off,
                options(readonly, nostack, preserves_flags),
            );
        }
        variable.addr().wrapping_add(offset) as *mut u8
    }
    #[cfg(not(CONFIG_SMP))]
    variable.cast_mut().cast()
}
