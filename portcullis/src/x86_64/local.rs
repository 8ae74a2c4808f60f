//! The library's part of the per-CPU area, and the context tracking in it.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU64, Ordering::Relaxed};

use super::asm::lock;
use super::delivery;
use super::doors::Doors;
use super::tables::{KERNEL_DS, Tables};
use crate::context::{Context, ContextWord, STATE_SHIFT, delta};
use crate::machine::Tracking;
use crate::work::WorkFlags;

/// What the doors need of a CPU: one cache line, at GS:0 while the kernel runs.
///
/// The kernel puts it first in its own per-CPU area, and finds that area by [`CpuLocal::this`].
#[derive(Debug)]
#[repr(C, align(64))]
pub struct CpuLocal {
    /// The address of this structure, so that GS:0 yields it.
    pub(super) this: *const CpuLocal,
    /// For the doors: the user's stack pointer between SYSCALL and its push, and with page-table isolation while the way out by
    /// SYSRET switches tables.
    user_rsp: UnsafeCell<u64>,
    /// The top of the running task's thread stack.
    thread_stack: AtomicU64,
    /// The running task's work flags.
    work: AtomicPtr<WorkFlags>,
    /// This CPU's context.
    context: ContextWord,
    /// The top of the IRQ stack.
    pub(super) irq_stack: u64,
    /// This CPU's tables. RSP0 of the TSS is `thread_stack`, or with page-table isolation the entry stack.
    pub(super) tables: *mut Tables,
    /// The number of this CPU.
    pub(super) id: u32,
    /// How many interrupt handlers are running: see [`irq_stack`](super::irq_stack).
    pub(super) irq_depth: AtomicU16,
    /// Whether the NMI handler is running: see [`nmi`](super::nmi).
    pub(super) nmi_state: AtomicU8,
    /// How many handlers of #MC and #DB that hit the kernel are running.
    pub(super) nmi_like: AtomicU8,
}

// SAFETY: what changes after `set_up` is atomic, or is `user_rsp`, which this CPU's doors use; the private pointers are
// followed on this CPU.
unsafe impl Sync for CpuLocal {}

const _: () = assert!(size_of::<CpuLocal>() == 64, "one cache line");

/// Whether a bit is set in this many bytes at this place of the running task's [`WorkFlags`].
macro_rules! bits_of_work {
    ($size:literal, $offset:expr) => {{
        // SAFETY: GS is this CPU's; the flags live as long as the task that runs here. The words are read as by `exit_word`.
        unsafe {
            asm!(
                "mov {work}, gs:[{place}]",
                concat!("cmp ", $size, " ptr [{work} + {offset}], 0"),
                "jne {any}",
                work = out(reg) _,
                place = const offset_of!(CpuLocal, work),
                offset = const $offset,
                any = label { return true },
                options(nostack, readonly),
            );
        }
        false
    }};
}

impl CpuLocal {
    pub(super) const USER_RSP: usize = offset_of!(CpuLocal, user_rsp);
    pub(super) const THREAD_STACK: usize = offset_of!(CpuLocal, thread_stack);
    pub(super) const TABLES: usize = offset_of!(CpuLocal, tables);

    /// Not in use yet: [`init_cpu`](super::init_cpu) makes it a CPU's.
    pub const fn new() -> Self {
        // SAFETY: null pointers, and integers: all zeros is a value. The context is KERNEL.
        unsafe { core::mem::MaybeUninit::zeroed().assume_init() }
    }

    /// This CPU's, in kernel mode after [`init_cpu`](super::init_cpu). With interrupts on, the task may move to another CPU
    /// while it holds the reference, which stays valid.
    #[inline(always)]
    pub fn this() -> &'static CpuLocal {
        let this: *const CpuLocal;
        // SAFETY: in kernel mode GS:0 is this structure's first field, which holds its address.
        unsafe {
            asm!("mov {}, gs:[{}]", out(reg) this, const offset_of!(CpuLocal, this), options(nostack, preserves_flags, readonly, pure));
            &*this
        }
    }

    /// The number of this CPU, as given to [`init_cpu`](super::init_cpu).
    #[inline(always)]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// This CPU's context, for grace periods.
    pub fn context(&self) -> &ContextWord {
        &self.context
    }

    /// Whether an interrupt handler is running on this CPU.
    pub fn in_irq(&self) -> bool {
        self.irq_depth.load(Relaxed) != 0
    }

    /// Whether a handler of an NMI, or of a #MC or #DB that hit the kernel, is running on this CPU.
    #[inline(always)]
    pub fn in_nmi(&self) -> bool {
        self.nmi_state.load(Relaxed) | self.nmi_like.load(Relaxed) != 0
    }

    /// The CPU for [`WorkFlags::raise`]: `None` in a handler that may have hit the kernel past the last read of its way out.
    #[inline(always)]
    pub fn raising_cpu() -> Option<u32> {
        let local = Self::this();
        (!local.in_nmi()).then_some(local.id)
    }

    /// Switches this CPU to another task: its stack and work flags from now on, for the doors and for who raises work. To be
    /// called once per switch, before the other task's code runs.
    ///
    /// `stack_top` is the end of the thread stack, 16-byte aligned: the doors save [`UserRegs`](super::UserRegs) right below
    /// it; with [`Doors::FRED`] it is one of [`thread_stack_top`](super::fred::thread_stack_top)'s. With [`CHECKS`](crate::Machine::CHECKS) a missing call is reported at the next way out
    /// ([`Broken::SwitchNotAnnounced`](crate::Broken::SwitchNotAnnounced)).
    ///
    /// # Safety
    /// Interrupts are off. The flags live as long as the task, the stack until the next call on this CPU.
    #[inline]
    pub unsafe fn switch_to<K: Doors>(stack_top: u64, work: *const WorkFlags) {
        let local = CpuLocal::this();
        // SAFETY: the flags of the last call, whose task still exists.
        unsafe { (*local.work.load(Relaxed)).switch_out() };
        // SAFETY: the caller's.
        unsafe { Self::begin::<K>(stack_top, work) }
    }

    /// [`switch_to`](Self::switch_to), from no task.
    ///
    /// # Safety
    /// That of `switch_to`.
    #[inline(always)]
    pub(super) unsafe fn begin<K: Doors>(stack_top: u64, work: *const WorkFlags) {
        debug_assert!(stack_top.is_multiple_of(16));
        let local = CpuLocal::this();
        // SAFETY: the caller's.
        unsafe { (*work).switch_in(local.id) };
        local.thread_stack.store(stack_top, Relaxed);
        local.work.store(work.cast_mut(), Relaxed);
        // With page-table isolation RSP0 stays at the entry stack.
        if !K::PAGE_TABLE_ISOLATION {
            // SAFETY: this CPU's tables, and interrupts are off.
            unsafe { (*local.tables).tss.set_rsp0(stack_top) };
        }
        if delivery::is_on_for::<K>() {
            // SAFETY: the caller's.
            unsafe { delivery::set_thread_stack(stack_top) };
        }
        mend_ss();
    }

    /// The top of the running task's thread stack.
    #[inline(always)]
    pub(super) fn thread_stack_top() -> u64 {
        CpuLocal::this().thread_stack.load(Relaxed)
    }

    /// This CPU's tables. Interrupts must be off, or the CPU may change.
    #[inline(always)]
    pub(super) fn tables() -> *mut Tables {
        CpuLocal::this().tables
    }

    /// Calls `f` with the running task's work flags.
    #[inline(always)]
    pub fn with_work<T>(f: impl FnOnce(&WorkFlags) -> T) -> T {
        let work: *const WorkFlags;
        // SAFETY: GS is this CPU's; the flags live as long as the task that runs here.
        unsafe {
            asm!("mov {}, gs:[{}]", out(reg) work, const offset_of!(CpuLocal, work), options(nostack, preserves_flags, readonly));
            f(&*work)
        }
    }

    /// The running task's exit-work word: [`Kernel::exit_work`](crate::Kernel::exit_work) for a kernel that uses [`WorkFlags`].
    #[inline(always)]
    pub fn exit_word() -> usize {
        Self::with_work(WorkFlags::exit_word)
    }

    /// Whether any bit of the running task's system-call-work word is set: for
    /// [`Kernel::any_syscall_work`](crate::Kernel::any_syscall_work).
    #[inline(always)]
    pub fn any_syscall_work() -> bool {
        bits_of_work!("dword", WorkFlags::SYSCALL)
    }

    /// Whether any bit of either word of the running task is set: for [`Kernel::any_work`](crate::Kernel::any_work).
    #[inline(always)]
    pub fn any_work() -> bool {
        bits_of_work!("qword", WorkFlags::BOTH)
    }

    /// The running task's system-call-work word, as [`exit_word`](Self::exit_word).
    #[inline(always)]
    pub fn syscall_word() -> usize {
        Self::with_work(WorkFlags::syscall_word)
    }
}

/// Makes SS the kernel's data segment. An entry from user mode other than by SYSCALL or SYSENTER leaves SS null (SDM volume 3,
/// 6.14.3), which its own IRET repairs. But another task may leave by SYSRET, which on AMD CPUs changes the selector and keeps
/// the rest of the register (APM volume 3, SYSRET): 32-bit code would have no stack.
#[inline(always)]
fn mend_ss() {
    let ss: u16;
    // SAFETY: reading a selector has no effect.
    unsafe { asm!("mov {:x}, ss", out(reg) ss, options(nomem, nostack, preserves_flags)) };
    if ss != KERNEL_DS {
        // SAFETY: the GDT's own descriptor, of this ring.
        unsafe { asm!("mov ss, {:x}", in(reg) KERNEL_DS, options(nomem, nostack, preserves_flags)) };
    }
}

/// Context tracking in [`CpuLocal`].
#[derive(Debug)]
pub struct PerCpuContext;

/// The offset of this CPU's word.
const CONTEXT: usize = offset_of!(CpuLocal, context);

/// A transition between user mode and the kernel: one addition, which carries out of the word by the context that it finds (the
/// constant assertion in [`context`](crate::context)). It has a LOCK prefix where user mode counts as quiescent
/// ([`track_user_mode`](super::track_user_mode)).
macro_rules! crossings {
    ($($name:ident: $from:ident => $to:ident, wrong if $carry:literal;)*) => {$(
        #[inline(always)]
        unsafe fn $name() -> bool {
            // SAFETY: GS is this CPU's. Nobody else writes the word, and one instruction is atomic on its CPU.
            unsafe {
                asm!(
                    lock!(),
                    "add qword ptr gs:[{word}], {delta}",
                    concat!($carry, " {wrong}"),
                    word = const CONTEXT,
                    delta = in(reg) delta(Context::$from, Context::$to),
                    wrong = label {
                        // SAFETY: the caller's.
                        unsafe { CpuLocal::this().context.repair(Context::$to) };
                        return false;
                    },
                    options(nostack),
                );
            }
            true
        }
    )*};
}

macro_rules! transitions {
    ($($name:ident: $from:ident => $to:ident;)*) => {$(
        #[inline(always)]
        unsafe fn $name() -> bool {
            // SAFETY: the caller's.
            unsafe { CpuLocal::this().context.move_to(Context::$from, Context::$to) }
        }
    )*};
}

// SAFETY: each transition moves the word of the CPU that it runs on.
unsafe impl Tracking for PerCpuContext {
    type Saved = Context;

    crossings! {
        user_to_kernel: User => Kernel, wrong if "jnc";
        kernel_to_user: Kernel => User, wrong if "jc";
    }

    transitions! {
        kernel_to_idle: Kernel => Idle;
        idle_to_kernel: Idle => Kernel;
        kernel_to_guest: Kernel => Guest;
        guest_to_kernel: Guest => Kernel;
    }

    #[inline(always)]
    unsafe fn interrupt_enter() -> Context {
        // SAFETY: the caller's.
        unsafe { CpuLocal::this().context.interrupt() }
    }
    #[inline(always)]
    fn found_kernel(saved: Context) -> bool {
        !saved.is_quiescent()
    }
    #[inline(always)]
    unsafe fn interrupt_exit(saved: Context, _interrupts_on: bool) {
        // SAFETY: the caller's.
        unsafe { CpuLocal::this().context.restore(saved) }
    }
    #[inline(always)]
    fn in_kernel() -> bool {
        let word: u64;
        // One instruction: with interrupts on the task may move to another CPU between two, and would read the word of the
        // CPU that it left.
        // SAFETY: GS is this CPU's.
        unsafe {
            asm!("mov {}, gs:[{}]", out(reg) word, const CONTEXT, options(nostack, preserves_flags, readonly));
        }
        word >> STATE_SHIFT == Context::Kernel as u64
    }
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/local.rs"]
pub(super) mod tests;
