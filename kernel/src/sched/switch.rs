//! The context switch.
//!
//! All of a task's user registers are on its kernel stack since it came in, so a switch saves only what the door does not:
//! the callee-saved registers of the kernel function that called, the extended state, and the segment bases and
//! selectors, which user code may change at any time.

use core::arch::{asm, naked_asm};
use core::mem::size_of;
use core::sync::atomic::{AtomicBool, Ordering::*};

use bitflags::bitflags;
use portcullis::InKernel;
use portcullis::x86_64::cpu::{msr, rdmsr, wrmsr};
use portcullis::x86_64::segments::{Segment, load_segment};
use portcullis::x86_64::tables::USER_DS;
use portcullis::x86_64::{CpuLocal, UserRegs};
use x86_64::registers::control::{Cr4, Cr4Flags};

use crate::machine::cpu;
use crate::machine::gate::Gate;
use crate::memory::width::Width;
use crate::sched::{fpu, scheduler};
use crate::task::{Task, current};

/// What user code may have in its segment registers. Kept while the task is not running.
#[derive(Clone, Copy, Default)]
pub struct Segments {
    pub(crate) fs_base: u64,
    pub(crate) gs_base: u64,
    pub(crate) ds: u16,
    pub(crate) es: u16,
    pub(crate) fs: u16,
    pub(crate) gs: u16,
}

bitflags! {
    /// What a switch has to do beside the usual, if one of the two tasks needs it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct SwitchWork: u32 {
        /// It has debug registers armed.
        const DEBUG_REGISTERS = 1;
        /// Its single steps go from branch to branch.
        const BLOCK_STEP = 2;
        /// It has descriptors for thread-local storage.
        const TLS = 4;
        /// It may use I/O ports.
        const PORTS = 8;
        /// It may not read the time-stamp counter.
        const NO_TSC = 16;
    }
}

impl Task {
    /// Whether switches to and from it have this to do.
    pub fn has_switch_work(&self, work: SwitchWork) -> bool {
        self.switch_work.load(Relaxed) & work.bits() != 0
    }

    /// Says whether switches to and from it have this to do. The task is current, or not running.
    pub fn set_switch_work(&self, work: SwitchWork, on: bool) {
        if on {
            self.switch_work.fetch_or(work.bits(), Relaxed);
        } else {
            self.switch_work.fetch_and(!work.bits(), Relaxed);
        }
    }

    /// Its segment registers, as the switch saved them: to be looked at while the task is off its CPU and stays so.
    pub(crate) fn saved_segments(&self) -> *mut Segments {
        self.segments.get()
    }
}

/// Whether RDFSBASE and its like may be used: CR4.FSGSBASE is on (the library's `init_cpu` sets it where the CPU has it).
static FSGSBASE: AtomicBool = AtomicBool::new(false);

/// Looks at what this CPU can do. Once, on the boot CPU, after the library's `init_cpu`.
pub fn init() {
    FSGSBASE.store(Cr4::read().contains(Cr4Flags::FSGSBASE), Relaxed);
}

/// Whether user code may use RDFSBASE and its like.
pub fn has_fsgsbase() -> bool {
    FSGSBASE.load(Relaxed)
}

/// The live FS base of user mode.
#[inline]
pub fn fs_base() -> u64 {
    if FSGSBASE.load(Relaxed) {
        let base;
        // SAFETY: the CPU has the instruction and CR4 allows it.
        unsafe { asm!("rdfsbase {}", out(reg) base, options(nomem, nostack, preserves_flags)) };
        base
    } else {
        // SAFETY: every 64-bit CPU has the register.
        unsafe { rdmsr(msr::FS_BASE) }
    }
}

/// Sets the live FS base.
#[inline]
pub fn set_fs_base(base: u64) {
    if FSGSBASE.load(Relaxed) {
        // SAFETY: as above. The kernel itself does not use FS; callers pass canonical addresses.
        unsafe { asm!("wrfsbase {}", in(reg) base, options(nomem, nostack, preserves_flags)) };
    } else {
        // SAFETY: as above.
        unsafe { wrmsr(msr::FS_BASE, canonical(base)) };
    }
}

/// The GS base of user mode: while the kernel runs, it waits in KERNEL_GS_BASE.
#[inline]
pub fn gs_base() -> u64 {
    // SAFETY: every 64-bit CPU has the register. Not through a checked address type: an emulator may let user code put
    // any value there.
    unsafe { rdmsr(msr::KERNEL_GS_BASE) }
}

/// Sets the GS base that user mode gets.
#[inline]
pub fn set_gs_base(base: u64) {
    // SAFETY: the register is user mode's while the kernel runs.
    unsafe { wrmsr(msr::KERNEL_GS_BASE, canonical(base)) };
}

/// The address that the CPU takes: bit 47 extended. WRMSR faults on anything else.
const fn canonical(address: u64) -> u64 {
    ((address << 16) as i64 >> 16) as u64
}

/// arch_prctl(ARCH_SET_FS): the base, with a null selector, as Linux leaves it.
pub fn set_fs_base_and_selector(base: u64) {
    let _guard = crate::machine::sync::irqs_off();
    // SAFETY: a null selector may always be loaded; the kernel does not use FS.
    unsafe { asm!("mov fs, {:x}", in(reg) 0, options(nostack, preserves_flags)) };
    set_fs_base(base);
}

/// arch_prctl(ARCH_SET_GS).
pub fn set_gs_base_and_selector(base: u64) {
    let _guard = crate::machine::sync::irqs_off();
    // SAFETY: as above; the load changes the active base, so the user's is made active around it.
    unsafe { asm!("swapgs", "mov gs, {:x}", "swapgs", in(reg) 0, options(nostack, preserves_flags)) };
    set_gs_base(base);
}

/// Whether the base that was saved with the selector is to be put back. With FSGSBASE it always is: base and selector have
/// nothing to do with each other. Without, a selector that names a descriptor stands for its base, which may be another
/// one by now (as in Linux).
#[inline]
fn base_is_kept(selector: u16) -> bool {
    selector <= 3 || has_fsgsbase()
}

impl Segments {
    /// Those of the current task, live. Interrupts off, or they may be another CPU's by the time they are looked at.
    pub fn current() -> Segments {
        let mut segments = Segments::default();
        segments.save();
        segments
    }

    #[inline]
    fn save(&mut self) {
        // SAFETY: reading selectors has no effect.
        unsafe {
            asm!("mov {0:x}, ds", "mov {1:x}, es", "mov {2:x}, fs", "mov {3:x}, gs",
                out(reg) self.ds, out(reg) self.es, out(reg) self.fs, out(reg) self.gs,
                options(nomem, nostack, preserves_flags));
        }
        self.fs_base = fs_base();
        self.gs_base = gs_base();
    }

    /// Loads these in place of `old`, which are what the CPU has now. Interrupts off; the task's descriptors are loaded.
    #[inline]
    fn load(&self, old: &Segments) {
        if (self.selectors() | old.selectors()) != 0 {
            // SAFETY: interrupts are off, and so no table changes.
            return unsafe { self.load_selectors(old) };
        }
        set_fs_base(self.fs_base);
        if self.gs_base != old.gs_base {
            set_gs_base(self.gs_base);
        }
    }

    fn selectors(&self) -> u16 {
        self.ds | self.es | self.fs | self.gs
    }

    /// As `load`, where there are selectors. One whose descriptor has gone since becomes null.
    ///
    /// # Safety
    /// Interrupts off.
    #[cold]
    unsafe fn load_selectors(&self, old: &Segments) {
        for (segment, new, old) in [
            (Segment::Ds, self.ds, old.ds),
            (Segment::Es, self.es, old.es),
            (Segment::Fs, self.fs, old.fs),
            (Segment::Gs, self.gs, old.gs),
        ] {
            if new | old != 0 {
                // SAFETY: the caller's.
                let _ = unsafe { load_segment(segment, new) };
            }
        }
        // Loading a selector may have set the base, so the bases come second.
        if base_is_kept(self.fs) {
            set_fs_base(self.fs_base);
        }
        if base_is_kept(self.gs) {
            set_gs_base(self.gs_base);
        }
    }

    /// As a program starts: all null, all zero; a 32-bit one has its data in DS and ES.
    fn reset_current(width: Width) {
        let _guard = crate::machine::sync::irqs_off();
        let old = Segments::current();
        let data = match width {
            Width::Bits64 => 0,
            Width::Bits32 => USER_DS,
        };
        let fresh = Segments { ds: data, es: data, ..Segments::default() };
        fresh.load(&old);
    }
}

/// Gives the current task the segment registers of a program that starts.
pub fn reset_segments(width: Width) {
    Segments::reset_current(width);
}

/// Copies the current task's live segment registers into a new task.
pub fn copy_segments(to: &Task) {
    let segments = {
        let _guard = crate::machine::sync::irqs_off();
        Segments::current()
    };
    // SAFETY: the new task has not been started; nobody else looks at it.
    unsafe { *to.segments.get() = segments };
}

/// Switches from `prev` to `next`; returns, when `prev` runs again, the task that was left for it.
///
/// # Safety
/// Interrupts off, run-queue lock held, `prev` current, `next` on no CPU. `save` is where `prev`'s stack pointer goes;
/// `load` is `next`'s.
#[inline]
pub unsafe fn switch_to(prev: &Task, next: &Task, save: *mut u64, load: u64) -> *const Task {
    // First what segment selectors name, then the selectors.
    if !core::ptr::eq(&**prev.mm, &**next.mm) {
        next.mm.activate();
    }
    let work = prev.switch_work.load(Relaxed) | next.switch_work.load(Relaxed);
    if work != 0 {
        switch_more(SwitchWork::from_bits_retain(work), prev, next);
    }
    // SAFETY: `prev` is current and `next` is not running, so their saved states are nobody else's.
    unsafe {
        prev.fpu.save();
        let old = &mut *prev.segments.get();
        old.save();
        (*next.segments.get()).load(old);
        next.fpu.restore();
    }
    // SAFETY: `next` is about to be current.
    unsafe {
        become_current(next);
        switch_stacks(save, load, prev)
    }
}

/// What few tasks have, and one of these two has.
#[cold]
fn switch_more(work: SwitchWork, prev: &Task, next: &Task) {
    if work.intersects(SwitchWork::DEBUG_REGISTERS | SwitchWork::BLOCK_STEP) {
        crate::ptrace::debug::switch(prev, next);
    }
    if work.contains(SwitchWork::TLS) {
        crate::sched::segments::tls::load(next);
    }
    if work.contains(SwitchWork::PORTS) {
        crate::sched::segments::ports::load(next);
    }
    if work.contains(SwitchWork::NO_TSC) {
        load_tsc_mode(next);
    }
}

/// Lets user mode read the time-stamp counter, or not, as the task may. Interrupts off.
fn load_tsc_mode(task: &Task) {
    let disable = task.has_switch_work(SwitchWork::NO_TSC);
    // SAFETY: the kernel reads the counter whatever the bit says, and nothing else depends on it.
    unsafe { Cr4::update(|cr4| cr4.set(Cr4Flags::TIMESTAMP_DISABLE, disable)) };
}

/// prctl(PR_SET_TSC): whether the current task may read the time-stamp counter. Children inherit it, and exec keeps it.
pub fn set_tsc_mode(enabled: bool) {
    let _guard = crate::machine::sync::irqs_off();
    current().set_switch_work(SwitchWork::NO_TSC, !enabled);
    load_tsc_mode(current());
}

/// Makes `task` this CPU's current one.
///
/// # Safety
/// The CPU runs on its stack, or is about to with interrupts off.
#[inline]
pub unsafe fn become_current(task: &Task) {
    // SAFETY: interrupts are off, and the scheduler keeps the task alive while it is current.
    unsafe { CpuLocal::switch_to::<Gate>(task.stack.top(), &task.work) };
    cpu::this().current.store(core::ptr::from_ref(task).cast_mut(), Relaxed);
}

/// Registers that [`switch_stacks`] pushes below the return address.
const PUSHED: u64 = 6;

/// Saves the callee-saved registers on this stack, goes over to the other, restores. Returns `prev` *of the task that
/// switched back*, not of the caller.
///
/// ```text
///      +48  return address          <- where the switched-out function continues
///      +40  rbp
///      +32  rbx
///      +24  r12
///      +16  r13
///       +8  r14
///  rsp  +0  r15
/// ```
///
/// # Safety
/// See [`switch_to`].
#[unsafe(naked)]
unsafe extern "sysv64" fn switch_stacks(save: *mut u64, load: u64, prev: *const Task) -> *const Task {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "mov rax, rdx",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Lays out a new stack so that the first switch to it enters [`new_task`] with the stack pointer at the user registers.
/// Returns the stack pointer for that switch.
///
/// # Safety
/// `regs` is the address of the user registers at the top of an unused stack.
pub unsafe fn prepare_stack(regs: u64) -> u64 {
    let stack_pointer = regs - (PUSHED + 1) * size_of::<u64>() as u64;
    let frame = stack_pointer as *mut u64;
    // SAFETY: within the stack, below the registers.
    unsafe {
        frame.write_bytes(0, PUSHED as usize);
        frame.add(PUSHED as usize).write(new_task as *const () as u64);
    }
    stack_pointer
}

/// Where a new task begins: RAX is the task that was left, RSP is at its user registers, interrupts are off.
#[unsafe(naked)]
unsafe extern "sysv64" fn new_task() {
    naked_asm!(
        "mov rdi, rax",
        "mov rsi, rsp",
        // The registers are 21 words below an aligned top, so one more word aligns the call.
        "sub rsp, 8",
        "call {first_run}",
        "add rsp, 8",
        "jmp {first_way_out}",
        first_run = sym first_run,
        first_way_out = sym portcullis::x86_64::first_way_out::<Gate>,
    )
}

/// A new task's first steps. Returns with interrupts off when it is to enter user mode.
unsafe extern "sysv64" fn first_run(last: *const Task, regs: &mut UserRegs) {
    // SAFETY: called once after the switch to a new task, interrupts off.
    unsafe { scheduler::finish_switch(last) };
    let task = current();
    x86_64::instructions::interrupts::enable();
    if let Some(start) = task.start {
        // SAFETY: interrupts are on and this is the task's stack. It has not been in user mode: the context is KERNEL, and this is
        // the first state of its. `regs` are what it enters user mode with.
        let mut at = unsafe { InKernel::assume(regs) };
        start(&mut at);
        at.suspend();
    }
    let address = task.set_child_tid.load(Relaxed);
    if address != 0 {
        // Linux ignores a bad address here.
        let _ = crate::memory::user::write(address, &crate::task::pid_namespace::seen(task.tid()));
    }
    x86_64::instructions::interrupts::disable();
}

/// The size of the registers decides the alignment in [`new_task`].
const _: () = assert!(size_of::<UserRegs>() == 21 * 8);

/// Clears the current task's extended state.
pub fn reset_fpu() {
    let _guard = crate::machine::sync::irqs_off();
    // SAFETY: the task is current, so its area is not in use by a switch while interrupts are off.
    unsafe {
        fpu::reset(&current().fpu);
        current().fpu.restore();
    }
}
