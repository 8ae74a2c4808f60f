//! The doors for a kernel that is written as a loop: `loop { match user.run() { … } }`.
//!
//! The doors and the way out are the same, but for who makes the call: a hook that wants the loop to handle what came in leaves
//! the thread stack for the loop's, and the next [`run`](UserContext::run) does the exit work and enters user mode.
//!
//! ```text
//!   the loop's stack                           the thread stack
//!     user.run()   exit work, Cleared ──────►    user mode
//!                                                    │ a door: the registers are saved, a hook is called
//!     run() returns the event  ◄──── leaves ──   UserContext::came_in(at, event)
//! ```
//!
//! Tasks may be switched on either stack.

#![no_std]

use core::arch::{asm, naked_asm};
use core::marker::PhantomData;
use core::mem::{MaybeUninit, offset_of};

use portcullis::trace::Event as Traced;
use portcullis::x86_64::fred::thread_stack_top;
use portcullis::x86_64::{Doors, UserRegs, enter_user_mode};
use portcullis::{Event, InKernel, InSyscall, Syscall, Syscall32};

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
    /// The loop's stack pointer while the user side runs.
    the_loop: u64,
    /// What the next [`UserContext::run`] ends.
    crossing: Crossing,
    event: MaybeUninit<E>,
}

/// What came in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crossing {
    Syscall,
    Syscall32,
    Event,
}

/// A task's user side, as its loop sees it.
pub struct UserContext<K: UserLoop> {
    /// At the top of the thread stack; the [`Link`] lies above.
    regs: *mut UserRegs,
    of: PhantomData<K>,
}

/// Where the link is, from the registers: above what FRED has there, if the kernel wants that.
const fn link_offset<K: Doors>() -> usize {
    UserRegs::SIZE + if K::FRED { 16 } else { 0 }
}

impl<K: UserLoop> UserContext<K> {
    /// A user side that starts with `regs`, on a thread stack that ends at `stack_end`. It starts as the end of the system call that
    /// made it.
    ///
    /// # Safety
    /// Until the context is dropped the stack is this context's alone, writable, and as large as a thread stack: the doors save
    /// the registers there, and hooks run there.
    pub unsafe fn new(stack_end: u64, regs: UserRegs) -> Self {
        let link = (stack_end - size_of::<Link<K::Event>>() as u64) & !15;
        let top = thread_stack_top::<K>(link);
        let this = UserContext { regs: (top - UserRegs::SIZE as u64) as *mut UserRegs, of: PhantomData };
        // SAFETY: the caller's; link and registers lie below each other at the end of the stack.
        unsafe {
            this.regs.write(regs);
            this.link().write(Link { the_loop: 0, crossing: Crossing::Syscall, event: MaybeUninit::uninit() });
        }
        this
    }

    /// What [`CpuLocal::switch_to`](portcullis::x86_64::CpuLocal::switch_to) and [`init_cpu`](portcullis::x86_64::init_cpu) call the top of the thread stack.
    pub fn thread_stack_top(&self) -> u64 {
        self.regs as u64 + UserRegs::SIZE as u64
    }

    /// The user's registers.
    #[inline]
    pub fn regs(&mut self) -> &mut UserRegs {
        // SAFETY: the loop runs, so no hook does, and the registers are where the doors have saved them.
        unsafe { &mut *self.regs }
    }

    #[inline(always)]
    fn link(&self) -> *mut Link<K::Event> {
        self.regs.wrapping_byte_add(link_offset::<K>()).cast()
    }

    /// Does the exit work, enters user mode, and returns when a hook has called [`came_in`](Self::came_in) or one of its like.
    ///
    /// Interrupts on, context KERNEL, no lock held: exit work may sleep.
    ///
    /// # Safety
    /// The task that runs on this CPU is this context's: its thread stack is the CPU's
    /// ([`CpuLocal::switch_to`](portcullis::x86_64::CpuLocal::switch_to)).
    #[inline]
    pub unsafe fn run(&mut self) -> K::Event {
        // SAFETY: the hook that came in gave its state up: interrupts are on, the context is KERNEL, and the registers are on top of
        // the task's thread stack, on which nothing else is. The user side returns by `came_in`, which has written an event.
        unsafe {
            if (*self.link()).crossing == Crossing::Syscall {
                let regs = self.regs();
                K::trace(Traced::SyscallExit, regs.rax);
                let made = InSyscall::<K, Syscall>::assume(regs);
                let _ = made.exit_to_user_mode_prepare().sysret_or_iret();
            } else {
                self.leave_otherwise();
            }
            asm!(
                "push rbx; push rbp",
                "call {go}",
                "pop rbp; pop rbx",
                go = sym go::<K>,
                // `back_to_the_loop` brings them back.
                inout("rdi") self.regs,
                out("r12") _, out("r13") _, out("r14") _, out("r15") _,
                clobber_abi("C"),
            );
            (*self.link()).event.assume_init_read()
        }
    }

    /// The way out after what was no 64-bit system call.
    ///
    /// # Safety
    /// As [`run`](Self::run).
    #[cold]
    #[inline(never)]
    unsafe fn leave_otherwise(&mut self) {
        // SAFETY: as in `run`.
        unsafe {
            let crossing = core::mem::replace(&mut (*self.link()).crossing, Crossing::Syscall);
            let regs = self.regs();
            if crossing == Crossing::Event {
                let at = InKernel::<K, Event>::assume(regs);
                let _ = at.irqs_off().exit_to_user_mode_prepare().iret();
            } else {
                K::trace(Traced::SyscallExit, regs.rax);
                let made = InSyscall::<K, Syscall32>::assume(regs);
                let _ = made.exit_to_user_mode_prepare().iret();
            }
        }
    }

    /// In the hook of an exception: the loop's [`run`](Self::run) returns `event`. What the hook's callers hold is leaked.
    ///
    /// # Panics
    /// In the hook of a system call.
    pub fn came_in(at: &mut InKernel<'_, K>, event: K::Event) -> ! {
        assert_eq!(at.saved().orig_rax, UserRegs::NO_SYSCALL, "a system call comes in by `called` or `called_32`");
        Self::back_to_the_loop(at.regs(), Some(Crossing::Event), event)
    }

    /// The same in [`Kernel::syscall`](portcullis::Kernel::syscall).
    #[inline(always)]
    pub fn called(at: &mut InSyscall<'_, K>, event: K::Event) -> ! {
        Self::back_to_the_loop(at.regs(), None, event)
    }

    /// The same in [`Kernel::syscall_32`](portcullis::Kernel::syscall_32).
    pub fn called_32(at: &mut InSyscall<'_, K>, event: K::Event) -> ! {
        Self::back_to_the_loop(at.regs(), Some(Crossing::Syscall32), event)
    }

    /// `crossing` if it is not [`Crossing::Syscall`], which `run` leaves in its place.
    #[inline(always)]
    fn back_to_the_loop(regs: *mut UserRegs, crossing: Option<Crossing>, event: K::Event) -> ! {
        // SAFETY: the registers are on top of a thread stack of `new`'s (`UserLoop`), so the link lies right above them, and the
        // loop waits in `run`, which has saved what compiled code expects back.
        unsafe {
            let link = regs.byte_add(link_offset::<K>()).cast::<Link<K::Event>>();
            if let Some(crossing) = crossing {
                (*link).crossing = crossing;
            }
            (*link).event.write(event);
            asm!(
                "mov rsp, [rdi + {the_loop}]",
                "ret",
                in("rdi") regs,
                the_loop = const link_offset::<K>() + offset_of!(Link<K::Event>, the_loop),
                options(noreturn),
            );
        }
    }
}

/// Leaves the loop's stack for the registers, and that for user mode.
///
/// ```text
///   the loop's stack
///     rbx              +16
///     rbp              +8
///     return address   +0    ← Link::the_loop
/// ```
///
/// # Safety
/// Called by [`UserContext::run`], with the registers in RDI and the context USER.
#[unsafe(naked)]
unsafe extern "C" fn go<K: UserLoop>() {
    naked_asm!(
        "mov [rdi + {the_loop}], rsp",
        "mov rsp, rdi",
        "jmp {enter}",
        the_loop = const link_offset::<K>() + offset_of!(Link<K::Event>, the_loop),
        enter = sym enter_user_mode::<K>,
    )
}
