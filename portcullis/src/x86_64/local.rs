//! The library's part of the per-CPU area.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::doors::Doors;
use super::tables::{KERNEL_DS, Tables};
use crate::context::ContextWord;
use crate::work::TaskWork;

/// What the doors need of a CPU: two cache lines at GS:0 while the kernel runs.
///
/// The kernel puts it first in its own per-CPU area and finds that area by [`CpuLocal::this`].
#[derive(Debug)]
#[repr(C, align(64))]
pub struct CpuLocal {
    /// The address of this structure, so that GS:0 yields it.
    this: *const CpuLocal,
    /// The user's stack pointer, between SYSCALL and the push; with page-table isolation also while the way out by SYSRET
    /// switches tables.
    pub(super) user_rsp: u64,
    /// The top of the running task's thread stack.
    pub(super) thread_stack: u64,
    /// The running task's work flags.
    work: *const TaskWork,
    /// This CPU's context.
    pub context: ContextWord,
    /// How many interrupt handlers are running; the first switches to the IRQ stack.
    pub(super) irq_depth: AtomicU32,
    /// The top of the IRQ stack.
    pub(super) irq_stack: u64,
    /// This CPU's tables. RSP0 of the TSS follows `thread_stack`, or with page-table isolation stays at the entry stack.
    tables: *mut Tables,
    /// Number of this CPU.
    id: u32,
    /// Whether the NMI handler is running: see [`nmi_handler`](super::nmi_handler).
    pub(super) nmi_state: AtomicU32,
}

// SAFETY: the pointers are to memory of the same CPU that lives as long as the kernel, and are followed by that CPU only;
// what other CPUs read is atomic.
unsafe impl Sync for CpuLocal {}

const _: () = assert!(size_of::<CpuLocal>() <= 128, "two cache lines");

impl CpuLocal {
    pub(super) const USER_RSP: usize = offset_of!(CpuLocal, user_rsp);
    pub(super) const THREAD_STACK: usize = offset_of!(CpuLocal, thread_stack);
    pub(super) const TABLES: usize = offset_of!(CpuLocal, tables);
    pub(super) const CONTEXT: usize = offset_of!(CpuLocal, context);

    /// One that is not in use yet: [`init_cpu`](super::init_cpu) makes it this CPU's.
    pub const fn new() -> Self {
        CpuLocal {
            this: core::ptr::null(),
            user_rsp: 0,
            thread_stack: 0,
            work: core::ptr::null(),
            context: ContextWord::new(),
            irq_depth: AtomicU32::new(0),
            irq_stack: 0,
            tables: core::ptr::null_mut(),
            id: 0,
            nmi_state: AtomicU32::new(0),
        }
    }

    pub(super) fn set_up(&mut self, id: u32, tables: *mut Tables, irq_stack: u64, work: &'static TaskWork) {
        self.this = self;
        self.id = id;
        self.tables = tables;
        self.irq_stack = irq_stack;
        self.work = work;
    }

    /// This CPU's. Kernel mode only, after [`init_cpu`](super::init_cpu).
    ///
    /// The CPU may change where interrupts are on; the reference stays valid.
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

    /// Whether an interrupt handler is running on this CPU.
    pub fn in_irq(&self) -> bool {
        self.irq_depth.load(Relaxed) != 0
    }

    /// Whether an NMI handler is running on this CPU.
    pub fn in_nmi(&self) -> bool {
        self.nmi_state.load(Relaxed) != 0
    }

    /// Makes another task's stack and work flags those of this CPU. Called by the scheduler's switch.
    ///
    /// `stack_top` is the end of the thread stack, 16-byte aligned: the doors save [`UserRegs`](super::UserRegs) right
    /// below it. SS becomes the kernel's data segment, where an interrupt has left the null selector.
    ///
    /// # Safety
    /// Interrupts are off. The stack and the flags live until the next call on this CPU.
    #[inline]
    pub unsafe fn switch_to<K: Doors>(stack_top: u64, work: *const TaskWork) {
        debug_assert!(stack_top.is_multiple_of(16));
        // SAFETY: GS is this CPU's and its fields are this CPU's alone, as interrupts are off.
        unsafe {
            let tables: *mut Tables;
            asm!(
                "mov gs:[{stack}], {top}",
                "mov gs:[{work_at}], {work}",
                "mov {tables}, gs:[{tables_at}]",
                top = in(reg) stack_top,
                work = in(reg) work,
                tables = lateout(reg) tables,
                stack = const offset_of!(CpuLocal, thread_stack),
                work_at = const offset_of!(CpuLocal, work),
                tables_at = const offset_of!(CpuLocal, tables),
                options(nostack, preserves_flags),
            );
            // With page-table isolation it is the entry stack for good.
            if !K::PAGE_TABLE_ISOLATION {
                (*tables).tss.set_rsp0(stack_top);
            }
        }
        mend_ss();
    }

    /// This CPU's tables. Only with interrupts off: the CPU may change otherwise.
    #[inline(always)]
    pub(super) fn tables() -> *mut Tables {
        let tables: *mut Tables;
        // SAFETY: GS is this CPU's.
        unsafe {
            asm!("mov {}, gs:[{}]", out(reg) tables, const offset_of!(CpuLocal, tables), options(nostack, preserves_flags, readonly));
        }
        tables
    }

    /// The running task's work flags.
    #[inline(always)]
    pub fn work() -> &'static TaskWork {
        let work: *const TaskWork;
        // SAFETY: GS is this CPU's; `switch_to`'s caller keeps the flags alive while the task runs.
        unsafe {
            asm!("mov {}, gs:[{}]", out(reg) work, const offset_of!(CpuLocal, work), options(nostack, preserves_flags, readonly));
            &*work
        }
    }
}

/// What comes in from user mode but by SYSCALL and SYSENTER leaves SS null (SDM volume 3, 6.14.3), and its own IRET loads SS anew.
/// Another task may leave by SYSRET, which on AMD's processors changes the selector and keeps what else the register holds
/// (APM volume 3, SYSRET): 32-bit code would have no stack.
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

impl Default for CpuLocal {
    fn default() -> Self {
        Self::new()
    }
}
