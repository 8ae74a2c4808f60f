//! What only Linux 7.2 has, or has otherwise than earlier versions: most of it is rseq's part in the way to user mode.

use crate::current::{PerCpu, Task};
use crate::offsets;
use crate::regs::PtRegs;

unsafe extern "C" {
    pub static current_task: PerCpu;
    #[link_name = "__preempt_count"]
    pub static preempt_count: PerCpu;
    #[link_name = "vdso32_image"]
    pub static vdso_image_32: u8;
    fn portcullis_reschedule(work: usize);
    fn portcullis_do_signal_or_restart(regs: *mut PtRegs);
    #[cfg(CONFIG_RSEQ)]
    fn __rseq_debug_syscall_return(regs: *mut PtRegs);
    #[cfg(CONFIG_RSEQ)]
    static rseq_debug_enabled: crate::static_key::StaticKey;
    #[cfg(CONFIG_HRTIMER_REARM_DEFERRED)]
    fn portcullis_rearm_timer();
    #[cfg(CONFIG_UNWIND_USER)]
    fn portcullis_unwind_reset_info();
}

/// Where the current task's address is in what [`current_task`] names.
pub const CURRENT_TASK: usize = 0;
/// Where the count is in what [`preempt_count`] names.
pub const PREEMPT_COUNT: usize = 0;

/// The section of alternatives.
macro_rules! alternatives_section {
    () => {
        ".pushsection .altinstructions, \"aM\", @progbits, 14"
    };
}
/// The directive for an alternative's feature.
macro_rules! feature_directive {
    () => {
        ".4byte"
    };
}
/// objtool's note at an entry of a table of patches (`ANNOTYPE_DATA_SPECIAL`).
#[cfg(CONFIG_OBJTOOL)]
macro_rules! data_special {
    () => {
        "912: .pushsection .discard.annotate_data, \"M\", @progbits, 8; .long 912b - ., 1; .popsection"
    };
}
/// objtool's note at an entry of a table of patches.
#[cfg(not(CONFIG_OBJTOOL))]
macro_rules! data_special {
    () => {
        ""
    };
}
/// objtool's note that instrumentation is allowed from the label on (`ANNOTYPE_INSTR_BEGIN`).
#[cfg(CONFIG_NOINSTR_VALIDATION)]
macro_rules! instrumentation_begins {
    ($label:literal) => {
        concat!(".pushsection .discard.annotate_insn, \"M\", @progbits, 8; .long ", $label, " - ., 3; .popsection")
    };
}
/// objtool's note that instrumentation is allowed up to the label (`ANNOTYPE_INSTR_END`).
#[cfg(CONFIG_NOINSTR_VALIDATION)]
macro_rules! instrumentation_ends {
    ($label:literal) => {
        concat!(".pushsection .discard.annotate_insn, \"M\", @progbits, 8; .long ", $label, " - ., 4; .popsection")
    };
}

pub use crate::since_6_12::*;

/// On the way out, with interrupts off, when no more work can come.
#[inline(always)]
pub fn exit_to_user_mode_prepare() {
    update_fred_rsp0();
}

/// NEED_RESCHED, NEED_RESCHED_LAZY: the scheduler, or an extension of the time slice, which other work denies.
pub fn reschedule(work: usize) {
    // SAFETY: interrupts are on, in ordinary kernel code of a task.
    unsafe { portcullis_reschedule(work) }
}

/// SIGPENDING, NOTIFY_SIGNAL: an unlock of a robust futex that was interrupted half-way is completed before.
pub fn do_signal_or_restart(regs: &mut PtRegs) {
    // SAFETY: the registers of the crossing, on the way to user mode with interrupts on.
    unsafe { portcullis_do_signal_or_restart(regs) }
}

/// After a system call: a restartable sequence must not make one.
#[inline(always)]
pub fn rseq_syscall_check(_regs: &mut PtRegs) {
    #[cfg(CONFIG_RSEQ)]
    {
        #[cfg(CONFIG_RSEQ_DEBUG_DEFAULT_ENABLE)]
        let on = static_branch_likely!(rseq_debug_enabled);
        #[cfg(not(CONFIG_RSEQ_DEBUG_DEFAULT_ENABLE))]
        let on = static_branch_unlikely!(rseq_debug_enabled);
        if on {
            // SAFETY: the registers of the call.
            unsafe { __rseq_debug_syscall_return(_regs) };
        }
    }
}

/// A filter is attached: what it says, -1 to skip the call.
#[inline(always)]
pub fn secure_computing() -> i32 {
    #[cfg(CONFIG_SECCOMP)]
    {
        unsafe extern "C" {
            fn __secure_computing() -> i32;
        }
        // SAFETY: the call under way, whose registers are the task's.
        unsafe { __secure_computing() }
    }
    #[cfg(not(CONFIG_SECCOMP))]
    0
}

/// Before the last look at the work of an exception or interrupt: the timer that this one has put off is set, unless another
/// task is to run first, which sets it.
#[inline(always)]
pub fn before_event_exit(_task: Task) {
    #[cfg(CONFIG_HRTIMER_REARM_DEFERRED)]
    {
        const RESCHED: usize = offsets::TIF_NEED_RESCHED_BIT | offsets::TIF_NEED_RESCHED_LAZY_BIT;
        let word = _task.thread_flags();
        if word & (RESCHED | offsets::TIF_HRTIMER_REARM_BIT) == offsets::TIF_HRTIMER_REARM_BIT {
            // SAFETY: interrupts are off.
            unsafe { portcullis_rearm_timer() };
        }
    }
}

/// After an exception or interrupt came from user mode: rseq looks at critical sections only then.
#[inline(always)]
pub fn note_event_from_user(_task: Task) {
    #[cfg(CONFIG_RSEQ)]
    // SAFETY: a byte of the task's own.
    unsafe {
        *_task.member::<u8>(offsets::TASK_RSEQ_USER_IRQ) = 1;
    }
}

/// When nothing is left of the work of an exception or interrupt: what rseq noted of it is over.
#[inline(always)]
pub fn note_event_done(_task: Task) {
    #[cfg(CONFIG_RSEQ)]
    // SAFETY: a word of the task's own.
    unsafe {
        *_task.member::<u32>(offsets::TASK_RSEQ_EVENTS) = 0;
    }
}

/// Before an interrupt goes back to kernel code with interrupts on: the timer that it has put off is set.
#[inline(always)]
pub fn before_kernel_exit() {
    #[cfg(CONFIG_HRTIMER_REARM_DEFERRED)]
    if crate::current::task().thread_flags() & offsets::TIF_HRTIMER_REARM_BIT != 0 {
        // SAFETY: interrupts are off.
        unsafe { portcullis_rearm_timer() };
    }
}

/// The last of a crossing that may be traced: an unwinding of the user's stack that was asked for belongs to this crossing.
#[inline(always)]
pub fn leaving() {
    #[cfg(CONFIG_UNWIND_USER)]
    // SAFETY: reads a word of the task's own; what is called is Linux's own for this place.
    unsafe {
        let mask: *const usize = crate::current::task().member(offsets::TASK_UNWIND_MASK);
        if core::ptr::read_volatile(mask) != 0 {
            portcullis_unwind_reset_info();
        }
    }
}

/// Whether the kernel can have page tables of five levels.
#[cfg(CONFIG_X86_64)]
pub const FIVE_LEVELS: bool = true;

/// `prctl(PR_SET_SYSCALL_USER_DISPATCH)` has the mode with the range inverted.
pub const INCLUSIVE_USER_DISPATCH: bool = true;

/// Rseq's ids and critical section, with interrupts off, after the loop.
///
/// # Errors
/// The page is not there: NOTIFY_RESUME is raised for another round.
#[inline(always)]
pub fn rseq_restart(_regs: *mut PtRegs) -> Result<(), portcullis::Again> {
    #[cfg(CONFIG_RSEQ)]
    {
        unsafe extern "C" {
            fn portcullis_rseq_restart(regs: *mut PtRegs) -> bool;
        }
        // SAFETY: the registers of the crossing; interrupts are off.
        if unsafe { portcullis_rseq_restart(_regs) } {
            return Err(portcullis::Again);
        }
    }
    Ok(())
}

/// The timer of an extension of the time slice that was granted in the loop.
///
/// # Errors
/// The extension is over: NEED_RESCHED is raised.
#[cfg(CONFIG_RSEQ_SLICE_EXTENSION)]
#[inline(always)]
pub fn arm_slice_extension_timer(task: Task) -> Result<(), portcullis::Again> {
    unsafe extern "C" {
        fn __rseq_arm_slice_extension_timer() -> bool;
        static rseq_slice_extension_key: crate::static_key::StaticKey;
    }
    // SAFETY: a byte of the task's own.
    let granted = unsafe { *task.member::<u8>(offsets::TASK_RSEQ_SLICE_GRANTED) != 0 };
    // SAFETY: interrupts are off, the task goes to user mode.
    if static_branch_likely!(rseq_slice_extension_key) && granted && unsafe { __rseq_arm_slice_extension_timer() } {
        return Err(portcullis::Again);
    }
    Ok(())
}

/// A signal ends the run of a virtual machine's guest: KVM asks for that itself.
///
/// # Safety
/// `vcpu` is KVM's own.
#[cfg(portcullis_guests)]
pub unsafe fn signal_ends_guest_run(_vcpu: *mut core::ffi::c_void) {}

/// A naked function's assembly, with what [`load_stack_offset`] refers to.
#[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET)]
macro_rules! stack_offset_operands {
    ($($assembly:tt)*) => {
        core::arch::naked_asm!($($assembly)* next = sym crate::version::next_stack_offset)
    };
}

/// Puts the random offset of the stack into `eax`, in a function of [`exported`](crate::kstack): the next number of this
/// CPU's generator. The argument, in RDI, is kept.
#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, CONFIG_X86_64))]
macro_rules! load_stack_offset {
    () => {
        concat!("push rdi", "\n", "push rdi", "\n", "call {next}", "\n", "pop rdi", "\n", "pop rdi")
    };
}
/// Puts the random offset of the stack into `ecx`, in a function of [`exported`](crate::kstack). The argument, in EAX, is kept.
#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, not(CONFIG_X86_64)))]
macro_rules! load_stack_offset {
    () => {
        concat!("push eax", "\n", "call {next}", "\n", "mov ecx, eax", "\n", "pop eax")
    };
}

/// The next number of this CPU's generator (L'Ecuyer's LFSR113, of which `kstack_rnd_state` holds the four words).
#[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET)]
#[unsafe(link_section = ".noinstr.text")]
pub unsafe extern "C" fn next_stack_offset() -> u32 {
    unsafe extern "C" {
        static kstack_rnd_state: PerCpu;
    }
    /// One of the four: `(mask, left of the fresh bits, right of them, left of the rest)`.
    const WORDS: [(u32, u32, u32, u32); 4] = [(!1, 6, 13, 18), (!7, 2, 27, 2), (!15, 13, 21, 7), (!127, 3, 12, 13)];
    let mut all = 0;
    // SAFETY: this CPU's variable; interrupts are off at a door.
    let state = unsafe { crate::current::this_cpu_address(&raw const kstack_rnd_state) }.cast::<u32>();
    for (at, (mask, first, back, rest)) in WORDS.into_iter().enumerate() {
        // SAFETY: one of four words.
        let word = unsafe { &mut *state.add(at) };
        *word = ((*word & mask) << rest) ^ (((*word << first) ^ *word) >> back);
        all ^= *word;
    }
    all
}
