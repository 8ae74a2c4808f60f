//! The signal frame: what a handler finds on its stack, and what `rt_sigreturn` takes from it.
//!
//! ```text
//!   higher addresses
//!     what the program had there
//!     128 bytes of red zone            (not on an alternate stack)
//!     extended state, 64-byte aligned  <- uc_mcontext.fpstate
//!     siginfo                          <- rsi
//!     ucontext                         <- rdx
//!     return address: sa_restorer      <- rsp: 8 below a multiple of 16, as after a call
//! ```
//!
//! The layouts are Linux's (6.1, `struct rt_sigframe`, `struct sigcontext`). Debuggers and unwinders know them.

use core::mem::{offset_of, size_of};

use portcullis::x86_64::UserRegs;
use portcullis::x86_64::regs::flags;
use portcullis::x86_64::tables::{USER_CS, USER_DS};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Result};
use crate::memory::user;
use crate::sched::fpu;
use crate::signal::exception::Fault;
use crate::signal::fpstate;
use crate::task::restart::restart_block;
use crate::task::signals::action::{Action, ActionFlags};
use crate::task::signals::altstack::AltStack;
use crate::task::signals::info::{SIGINFO_SIZE, SigInfo};
use crate::task::signals::set::SigSet;
use crate::task::{Task, current};

/// `struct sigcontext`: the registers in a frame.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    err: u64,
    trapno: u64,
    oldmask: SigSet,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}
const _: () = assert!(size_of::<SigContext>() == 256);

/// `struct ucontext`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UContext {
    flags: u64,
    link: u64,
    stack: AltStack,
    context: SigContext,
    mask: SigSet,
}

/// The part of `struct rt_sigframe` that every handler gets.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    return_address: u64,
    context: UContext,
}

/// Where siginfo lies in the frame.
const INFO: u64 = size_of::<Frame>() as u64;
const _: () = assert!(INFO == 312);
/// Bytes of the whole frame.
const FRAME_SIZE: u64 = INFO + SIGINFO_SIZE as u64;
/// The stack pointer at a function's first instruction is this much below a multiple of [`STACK_ALIGNMENT`].
const RETURN_ADDRESS: u64 = 8;
const STACK_ALIGNMENT: u64 = 16;
/// What a function may use below its stack pointer (System V ABI, 3.2.2).
const RED_ZONE: u64 = 128;

/// `uc_flags`: the extended state has the layout of XSAVE.
pub const UC_FP_XSTATE: u64 = 1;
/// `uc_flags`: SS is saved.
const UC_SIGCONTEXT_SS: u64 = 2;
/// `uc_flags`: SS is to be restored as it is, even if it is no good.
const UC_STRICT_RESTORE_SS: u64 = 4;

/// The flags that a frame may set (Linux's FIX_EFLAGS). The others steer the kernel or I/O.
pub const RESTORED_FLAGS: u64 = flags::AC
    | flags::OF
    | flags::DF
    | flags::TF
    | flags::SF
    | flags::ZF
    | flags::AF
    | flags::PF
    | flags::CF
    | flags::RF;

/// The least stack that a handler's frame needs, for AT_MINSIGSTKSZ.
pub fn min_stack_size() -> u64 {
    let most =
        FRAME_SIZE + STACK_ALIGNMENT - 1 + fpstate::FSAVE_HEADER + fpstate::frame_size() + fpstate::ALIGNMENT - 1;
    most.next_multiple_of(STACK_ALIGNMENT)
}

/// Writes a frame and makes the registers those of the handler's first instruction. On an error the registers are as
/// they were, and the task cannot go on.
pub fn set_up(regs: &mut UserRegs, action: &Action, info: &SigInfo, mask: SigSet) -> Result<()> {
    // The handler returns through it; there is no other way back on x86-64.
    if !action.flags().contains(ActionFlags::RESTORER) {
        return Err(Errno::EFAULT);
    }
    let (altstack, fault) = {
        let signals = current().signals.lock();
        (signals.altstack, signals.fault)
    };
    let (frame, fpstate) = place(regs.rsp, action, &altstack)?;
    if !user::is_user_range(frame, FRAME_SIZE) {
        return Err(Errno::EFAULT);
    }
    fpstate::store(fpstate)?;
    let context = SigContext::new(regs, &fault, mask, fpstate);
    let xstate = if fpu::has_xsave() { UC_FP_XSTATE } else { 0 };
    // From 32-bit code SS may be anything, and a handler that knows nothing of it must still be able to return.
    let strict = if regs.cs() == u64::from(USER_CS) { UC_STRICT_RESTORE_SS } else { 0 };
    let context = UContext { flags: xstate | UC_SIGCONTEXT_SS | strict, link: 0, stack: altstack, context, mask };
    user::write(frame, &Frame { return_address: action.restorer, context })?;
    if action.flags().contains(ActionFlags::SIGINFO) {
        info.write_to_user(frame + INFO)?;
    }
    regs.rdi = info.signo as u64;
    regs.rax = 0;
    regs.rsi = frame + INFO;
    regs.rdx = frame + offset_of!(Frame, context) as u64;
    regs.rip = action.handler;
    regs.rsp = frame;
    regs.set_cs(USER_CS);
    if regs.ss() != u64::from(USER_DS) {
        make_ss_valid(regs);
    }
    regs.set_rflags(flags_of_handler(regs.rflags()));
    fpstate::reset();
    Ok(())
}

/// The flags that a handler starts with. The ABI wants DF clear; TF and RF belong to the code that was interrupted.
pub const fn flags_of_handler(interrupted: u64) -> u64 {
    interrupted & !(flags::RF | flags::TF | flags::DF)
}

/// Where the frame and the extended state go, for a task with the stack pointer `sp`.
fn place(sp: u64, action: &Action, altstack: &AltStack) -> Result<(u64, u64)> {
    let nested = altstack.is_in_use(sp);
    let mut top = sp.wrapping_sub(RED_ZONE);
    let mut entering = false;
    if action.flags().contains(ActionFlags::ONSTACK) && altstack.is_available(top) {
        top = altstack.top();
        entering = true;
    }
    let fpstate = top.wrapping_sub(fpstate::frame_size()) & !(fpstate::ALIGNMENT - 1);
    let frame = (fpstate.wrapping_sub(FRAME_SIZE) & !(STACK_ALIGNMENT - 1)).wrapping_sub(RETURN_ADDRESS);
    // What lies below an alternate stack is not the program's to lose.
    if (nested || entering) && !altstack.contains(frame) {
        return Err(Errno::EFAULT);
    }
    Ok((frame, fpstate))
}

impl SigContext {
    fn new(regs: &UserRegs, fault: &Fault, mask: SigSet, fpstate: u64) -> SigContext {
        SigContext {
            r8: regs.r8,
            r9: regs.r9,
            r10: regs.r10,
            r11: regs.r11,
            r12: regs.r12,
            r13: regs.r13,
            r14: regs.r14,
            r15: regs.r15,
            rdi: regs.rdi,
            rsi: regs.rsi,
            rbp: regs.rbp,
            rbx: regs.rbx,
            rdx: regs.rdx,
            rax: regs.rax,
            rcx: regs.rcx,
            rsp: regs.rsp,
            rip: regs.rip,
            rflags: regs.rflags(),
            cs: regs.cs() as u16,
            gs: 0,
            fs: 0,
            ss: regs.ss() as u16,
            err: fault.error,
            trapno: fault.trapno,
            oldmask: mask,
            cr2: fault.cr2,
            fpstate,
            reserved: [0; 8],
        }
    }

    /// Puts the registers back. All of them are the program's to choose, but it stays in ring 3 and keeps its flags from
    /// the kernel's. A bad RIP, CS or SS faults at the IRET and becomes a signal.
    fn restore(&self, regs: &mut UserRegs) {
        let rflags = regs.rflags() & !RESTORED_FLAGS | self.rflags & RESTORED_FLAGS;
        // No system call is under way any more: what is in RAX is no result.
        *regs = UserRegs::new(self.rip, self.rsp);
        (regs.r15, regs.r14, regs.r13, regs.r12) = (self.r15, self.r14, self.r13, self.r12);
        (regs.r11, regs.r10, regs.r9, regs.r8) = (self.r11, self.r10, self.r9, self.r8);
        (regs.rbp, regs.rbx, regs.rax, regs.rcx) = (self.rbp, self.rbx, self.rax, self.rcx);
        (regs.rdx, regs.rsi, regs.rdi) = (self.rdx, self.rsi, self.rdi);
        regs.set_cs(self.cs);
        regs.set_ss(self.ss);
        regs.set_rflags(rflags);
    }
}

/// Takes back what the frame holds, as rt_sigreturn(2) asks for it. Nothing else in the system depends on whether a handler
/// was running.
pub fn restore_frame(regs: &mut UserRegs) -> Result<()> {
    // The handler's return has taken the return address off the stack.
    let address = regs.rsp.wrapping_sub(RETURN_ADDRESS);
    if !user::is_user_range(address, FRAME_SIZE) {
        return Err(Errno::EFAULT);
    }
    let at = |offset: usize| address + (offset_of!(Frame, context) + offset) as u64;
    let mask = user::read(at(offset_of!(UContext, mask)))?;
    let flags: u64 = user::read(at(offset_of!(UContext, flags)))?;
    // Also where the rest cannot be read.
    crate::signal::mask::set_blocked(mask);
    // A call that was interrupted before the handler ran is not to be continued after it.
    restart_block::reset_restart_fn();
    // Before the registers, as since Linux 6.12: it is the handler's stack pointer that may be on the stack in use.
    restore_altstack(current(), user::read(at(offset_of!(UContext, stack)))?, regs.rsp);
    let context: SigContext = user::read(at(offset_of!(UContext, context)))?;
    context.restore(regs);
    if flags & UC_STRICT_RESTORE_SS == 0 && regs.cs() == u64::from(USER_CS) {
        make_ss_valid(regs);
    }
    fpstate::load(context.fpstate)
}

/// Linux ignores an alternate stack that `sigaltstack` would refuse.
pub fn restore_altstack(task: &Task, stack: AltStack, sp: u64) {
    let mut signals = task.signals.lock();
    if let Ok(altstack) = signals.altstack.replaced_by(stack, sp) {
        signals.altstack = altstack;
    }
}

/// Replaces an SS with which IRET to 64-bit code would fault. Old programs leave one in frames (DOSEMU); others save it
/// and mean it (UC_STRICT_RESTORE_SS).
fn make_ss_valid(regs: &mut UserRegs) {
    /// Type, S, DPL and P in what LAR returns.
    const CHECKED: u32 = 0xfe00;
    /// Present, DPL 3, data, writable; growing up or down.
    const WRITABLE_DATA: u32 = 0xf200;
    const EXPAND_DOWN: u32 = 0xf600;
    let access: u32;
    // SAFETY: LAR has no effect but on its destination, which is zero if the selector is no good.
    unsafe {
        core::arch::asm!(
            "lar {access:e}, {selector:e}",
            "jz 2f",
            "xor {access:e}, {access:e}",
            "2:",
            access = out(reg) access,
            selector = in(reg) regs.ss() as u16 as u32,
            options(nomem, nostack),
        );
    }
    if !matches!(access & CHECKED, WRITABLE_DATA | EXPAND_DOWN) {
        regs.set_ss(USER_DS);
    }
}
