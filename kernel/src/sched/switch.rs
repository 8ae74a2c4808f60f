//! The context switch.
//!
//! All of a thread's user registers are on its kernel stack since it came in, so a switch saves only what the door does not:
//! the callee-saved registers of the kernel function that called, the extended state, and the segment bases and
//! selectors, which user code may change at any time.

use core::arch::naked_asm;
use core::mem::size_of;
use core::sync::atomic::Ordering::*;

use portcullis::x86_64::tables::USER_DS;
use portcullis::x86_64::{CpuLocal, UserRegs};
use x86_64::registers::control::{Cr4, Cr4Flags};

use crate::machine::cpu;
use crate::machine::gate::Gate;
use crate::machine::segments::Segments;
use crate::memory::width::Width;
use crate::sched::callbacks::callbacks;
use crate::sched::fpu;
use crate::sched::thread::{SwitchWork, Thread, current};

/// Gives the current thread the segment registers of a program that starts.
pub fn reset_segments(width: Width) {
    Segments::reset_current(match width {
        Width::Bits64 => 0,
        Width::Bits32 => USER_DS,
    });
}

/// Copies the current thread's live segment registers into a new thread.
pub fn copy_segments(to: &Thread) {
    let segments = {
        let _guard = crate::machine::sync::irqs_off();
        Segments::current()
    };
    // SAFETY: the new thread has not been started; nobody else looks at it.
    unsafe { *to.segments.get() = segments };
}

/// Switches from `prev` to `next`; returns, when `prev` runs again, the thread that was left for it.
///
/// # Safety
/// Interrupts off, run-queue lock held, `prev` current, `next` on no CPU. `save` is where `prev`'s stack pointer goes;
/// `load` is `next`'s.
#[inline]
pub unsafe fn switch_to(prev: &Thread, next: &Thread, save: *mut u64, load: u64) -> *const Thread {
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

/// What few threads have, and one of these two has.
#[cold]
fn switch_more(work: SwitchWork, prev: &Thread, next: &Thread) {
    if work.intersects(SwitchWork::DEBUG_REGISTERS | SwitchWork::BLOCK_STEP) {
        callbacks().switch(work, prev, next);
    }
    if work.contains(SwitchWork::TLS) {
        next.tls.load();
    }
    if work.contains(SwitchWork::PORTS) {
        next.ports.load();
    }
    if work.contains(SwitchWork::NO_TSC) {
        load_tsc_mode(next);
    }
}

/// Lets user mode read the time-stamp counter, or not, as the thread may. Interrupts off.
fn load_tsc_mode(thread: &Thread) {
    let disable = thread.has_switch_work(SwitchWork::NO_TSC);
    // SAFETY: the kernel reads the counter whatever the bit says, and nothing else depends on it.
    unsafe { Cr4::update(|cr4| cr4.set(Cr4Flags::TIMESTAMP_DISABLE, disable)) };
}

/// prctl(PR_SET_TSC): whether the current thread may read the time-stamp counter. Children inherit it, and exec keeps it.
pub fn set_tsc_mode(enabled: bool) {
    let _guard = crate::machine::sync::irqs_off();
    current().set_switch_work(SwitchWork::NO_TSC, !enabled);
    load_tsc_mode(current());
}

/// Makes `thread` this CPU's current one.
///
/// # Safety
/// The CPU runs on its stack, or is about to with interrupts off.
#[inline]
pub unsafe fn become_current(thread: &Thread) {
    // SAFETY: interrupts are off, and the scheduler keeps the thread alive while it is current.
    unsafe { CpuLocal::switch_to::<Gate>(thread.stack.top(), &thread.work) };
    cpu::this().current.store(thread.owner().cast_mut(), Relaxed);
}

/// Registers that [`switch_stacks`] pushes below the return address.
const PUSHED: u64 = 6;

/// Saves the callee-saved registers on this stack, goes over to the other, restores. Returns `prev` *of the thread that
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
unsafe extern "sysv64" fn switch_stacks(save: *mut u64, load: u64, prev: *const Thread) -> *const Thread {
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

/// What runs on a new thread's stack before it goes to user mode: with the thread that was left, and with the user registers.
pub type FirstRun = unsafe extern "sysv64" fn(*const Thread, &mut UserRegs);

/// Lays out the stack of a new thread so that the first switch to it enters [`new_thread`] with the stack pointer at the user
/// registers, and that `first_run`. Returns the stack pointer for that switch.
///
/// # Safety
/// Nothing has run on the stack.
pub unsafe fn prepare_stack(thread: &Thread, first_run: FirstRun) -> u64 {
    /// The place of RBX among the registers that are popped.
    const RBX: usize = 4;
    let stack_pointer = thread.regs() as u64 - (PUSHED + 1) * size_of::<u64>() as u64;
    let frame = stack_pointer as *mut u64;
    // SAFETY: within the stack, below the registers.
    unsafe {
        frame.write_bytes(0, PUSHED as usize);
        frame.add(RBX).write(first_run as *const () as u64);
        frame.add(PUSHED as usize).write(new_thread as *const () as u64);
    }
    stack_pointer
}

/// Where a new thread begins: RAX is the thread that was left, RBX its [`FirstRun`], RSP is at its user registers, interrupts are
/// off.
#[unsafe(naked)]
unsafe extern "sysv64" fn new_thread() {
    naked_asm!(
        "mov rdi, rax",
        "mov rsi, rsp",
        // The registers are 21 words below an aligned top, so one more word aligns the call.
        "sub rsp, 8",
        "call rbx",
        "add rsp, 8",
        "jmp {first_way_out}",
        first_way_out = sym portcullis::x86_64::first_way_out::<Gate>,
    )
}

/// The size of the registers decides the alignment in [`new_thread`].
const _: () = assert!(size_of::<UserRegs>() == 21 * 8);

/// Clears the current thread's extended state.
pub fn reset_fpu() {
    let _guard = crate::machine::sync::irqs_off();
    // SAFETY: the thread is current, so its area is not in use by a switch while interrupts are off.
    unsafe {
        fpu::reset(&current().fpu);
        current().fpu.restore();
    }
}

/// Copies the current thread's live extended state into a new thread.
pub fn copy_fpu(to: &Thread) {
    let _guard = crate::machine::sync::irqs_off();
    // SAFETY: the registers are the current thread's, and with interrupts off no switch writes its area meanwhile. The new thread has
    // not been started.
    unsafe { fpu::copy(&current().fpu, &to.fpu) };
}
