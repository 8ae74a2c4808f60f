//! The doors for a kernel that is written as a loop: `loop { match user.run() { … } }`.
//!
//! The doors and the way out are the same. A hook that wants the loop to handle what came in switches to the loop, and resumes
//! at the next [`run`](UserContext::run). So the two have a stack each.
//!
//! ```text
//!   the loop's stack                           the thread stack
//!     user.run()  ──── swap ────────────────►    first way out, or the hook returns
//!                                                exit work, Cleared, user mode
//!                                                    │ a door
//!     run() returns the event  ◄──── swap ───    hook: UserContext::came_in(at, event)
//! ```
//!
//! Tasks may be switched on either stack.

#![no_std]

use core::arch::naked_asm;
use core::mem::MaybeUninit;

use portcullis::InKernel;
use portcullis::x86_64::{Doors, UserRegs, first_way_out};

/// A kernel whose tasks are loops.
///
/// # Safety
/// Its tasks enter user mode through [`UserContext::run`]: hooks find the loop by what lies above the registers on the thread
/// stack.
pub unsafe trait UserLoop: Doors {
    /// What the loop learns: which hook was called, with what.
    type Event;
}

/// What lies on top of the thread stack, above the registers that the doors save.
#[repr(C, align(16))]
struct Link<E> {
    /// The stack pointer of the side that waits: the loop while the user side runs, and vice versa.
    other: u64,
    /// The registers, while the hook waits.
    regs: *mut UserRegs,
    event: MaybeUninit<E>,
}

/// A task's user side, as its loop sees it.
pub struct UserContext<K: UserLoop> {
    link: *mut Link<K::Event>,
}

impl<K: UserLoop> UserContext<K> {
    /// A user side that starts with `regs`, on a thread stack that ends at `stack_end`.
    ///
    /// # Safety
    /// Until the context is dropped the stack is this context's alone, writable, and as large as a thread stack: the doors save
    /// the registers there, and hooks and exit work run there.
    pub unsafe fn new(stack_end: u64, regs: UserRegs) -> Self {
        let link = (stack_end - size_of::<Link<K::Event>>() as u64) & !15;
        let saved = link - UserRegs::SIZE as u64;
        /// What [`swap`] pops: six registers and the return address.
        type Frame = [u64; 7];
        let frame = saved - size_of::<Frame>() as u64;
        let begin = begin::<K> as *const () as u64;
        // SAFETY: the caller's; link, registers and frame lie below each other at the end of the stack.
        unsafe {
            (frame as *mut Frame).write([0, 0, 0, 0, 0, 0, begin]);
            (saved as *mut UserRegs).write(regs);
            (link as *mut Link<K::Event>).write(Link {
                other: frame,
                regs: saved as *mut UserRegs,
                event: MaybeUninit::uninit(),
            });
        }
        UserContext { link: link as *mut Link<K::Event> }
    }

    /// What [`CpuLocal::switch_to`](portcullis::x86_64::CpuLocal::switch_to) and [`init_cpu`](portcullis::x86_64::init_cpu) call the top of the thread stack.
    pub fn thread_stack_top(&self) -> u64 {
        self.link as u64
    }

    /// The user's registers.
    pub fn regs(&mut self) -> &mut UserRegs {
        // SAFETY: the loop runs, so the hook that borrowed these waits.
        unsafe { &mut *(*self.link).regs }
    }

    /// Does the exit work, enters user mode, and returns when a hook has called [`came_in`](Self::came_in).
    ///
    /// Interrupts on, context KERNEL, no lock held: exit work may sleep.
    ///
    /// # Safety
    /// The task that runs on this CPU is this context's: its thread stack is the CPU's
    /// ([`CpuLocal::switch_to`](portcullis::x86_64::CpuLocal::switch_to)).
    pub unsafe fn run(&mut self) -> K::Event {
        // SAFETY: the other side waits in `swap`, or has not begun. It returns by `came_in`, which has written an event.
        unsafe {
            swap(&raw mut (*self.link).other);
            (*self.link).event.assume_init_read()
        }
    }

    /// In a hook: the loop's [`run`](Self::run) returns `event`, and the hook resumes when the loop calls that again.
    ///
    /// If the context is dropped instead, the hook does not resume, and what it holds is leaked.
    pub fn came_in(at: &mut InKernel<'_, K>, event: K::Event) {
        let regs: *mut UserRegs = at.regs();
        // SAFETY: the registers are on top of a thread stack of `new`'s (`UserLoop`), so the link lies right above them, and the
        // loop waits in `run`.
        unsafe {
            let link = regs.add(1).cast::<Link<K::Event>>();
            (*link).regs = regs;
            (*link).event.write(event);
            swap(&raw mut (*link).other);
        }
    }
}

/// Switches to the side whose stack pointer is at `other`, and stores this one's there.
///
/// ```text
///   the stack of a side that waits
///     return address   +48
///     rbp              +40
///     rbx              +32
///     r12 … r15        +24 … 0   ← *other
/// ```
///
/// # Safety
/// `*other` is the stack pointer of a side that waits.
#[unsafe(naked)]
unsafe extern "C" fn swap(other: *mut u64) {
    naked_asm!(
        "push rbp; push rbx; push r12; push r13; push r14; push r15",
        "mov rax, [rdi]; mov [rdi], rsp; mov rsp, rax",
        "pop r15; pop r14; pop r13; pop r12; pop rbx; pop rbp",
        "ret",
    )
}

/// Where a new context starts: RSP is at its registers.
#[unsafe(naked)]
unsafe extern "C" fn begin<K: UserLoop>() {
    naked_asm!("cli", "jmp {first}", first = sym first_way_out::<K>)
}
