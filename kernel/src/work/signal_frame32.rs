//! The frames of 32-bit signal handlers: the old one, for handlers that take the signal's number alone, and the one with
//! siginfo; and `sigreturn` and `rt_sigreturn`, which take them back.
//!
//! ```text
//!   higher addresses
//!     what the program had there              (no red zone)
//!     extended state, 64-byte aligned
//!     112 bytes as FSAVE writes them          <- fpstate of the sigcontext
//!     the frame                               <- esp: 4 below a multiple of 16, as after a call
//! ```
//!
//! The layouts are Linux's (6.1, `asm/sigframe.h`): `struct sigframe_ia32`, `struct rt_sigframe_ia32`, `struct sigcontext_32`.

use core::mem::{offset_of, size_of};

use portcullis::x86_64::UserRegs;
use portcullis::x86_64::segments::Segment;
use portcullis::x86_64::tables::{USER_DS, USER32_CS};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Result};
use crate::fs::vdso;
use crate::machine::segments::{self, Segments};
use crate::machine::sync;
use crate::memory::address_space::{AddressSpace, current_mm};
use crate::memory::user;
use crate::sched::fpu;
use crate::signal::exception::Fault;
use crate::signal::fpstate;
use crate::signal::info32::SigInfo32;
use crate::task::current;
use crate::task::restart::restart_block;
use crate::task::signals::action::{Action, ActionFlags};
use crate::task::signals::altstack::AltStack;
use crate::task::signals::info::SigInfo;
use crate::task::signals::set::SigSet;
use crate::work::signal_frame64::{RESTORED_FLAGS, UC_FP_XSTATE, flags_of_handler, restore_altstack};

/// `struct sigcontext_32`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigContext32 {
    gs: [u16; 2],
    fs: [u16; 2],
    es: [u16; 2],
    ds: [u16; 2],
    edi: u32,
    esi: u32,
    ebp: u32,
    esp: u32,
    ebx: u32,
    edx: u32,
    ecx: u32,
    eax: u32,
    trapno: u32,
    err: u32,
    eip: u32,
    cs: [u16; 2],
    eflags: u32,
    esp_at_signal: u32,
    ss: [u16; 2],
    fpstate: u32,
    oldmask: u32,
    cr2: u32,
}
const _: () = assert!(size_of::<SigContext32>() == 88);

/// `struct sigframe_ia32`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    return_address: u32,
    signo: u32,
    context: SigContext32,
    /// Where the extended state once was.
    unused: [u32; 156],
    /// The upper half of the mask.
    extra_mask: u32,
    code: [u8; 8],
}
const _: () = assert!(size_of::<Frame>() == 732);

/// `struct ucontext_ia32`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UContext32 {
    flags: u32,
    link: u32,
    stack: [u32; 3],
    context: SigContext32,
    mask: [u32; 2],
}

/// `struct rt_sigframe_ia32`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct RtFrame {
    return_address: u32,
    signo: u32,
    info_address: u32,
    context_address: u32,
    info: SigInfo32,
    context: UContext32,
    code: [u8; 8],
}
const _: () = assert!(size_of::<RtFrame>() == 268);

/// `pop eax; mov eax, 119; int 0x80`: debuggers know a frame by it, and it is what the handler returns to where nothing
/// else is given.
const SIGRETURN_CODE: [u8; 8] = [0x58, 0xb8, 119, 0, 0, 0, 0xcd, 0x80];
/// `mov eax, 173; int 0x80`.
const RT_SIGRETURN_CODE: [u8; 8] = [0xb8, 173, 0, 0, 0, 0xcd, 0x80, 0];

/// How far below a multiple of 16 the stack pointer is at a function's first instruction.
const RETURN_ADDRESS: u64 = 4;
const STACK_ALIGNMENT: u64 = 16;

fn halves(mask: SigSet) -> [u32; 2] {
    [mask.0 as u32, (mask.0 >> 32) as u32]
}

fn mask_of([low, high]: [u32; 2]) -> SigSet {
    SigSet(u64::from(low) | u64::from(high) << 32)
}

/// Writes a frame and makes the registers those of the handler's first instruction. On an error the registers are as
/// they were, and the task cannot go on.
pub fn set_up(regs: &mut UserRegs, action: &Action, info: &SigInfo, mask: SigSet) -> Result<()> {
    let (altstack, fault) = {
        let signals = current().signals.lock();
        (signals.altstack, signals.fault)
    };
    let fpstate = top(regs, action, &altstack).wrapping_sub(fpstate::frame_size()) & !(fpstate::ALIGNMENT - 1);
    let fpstate = fpstate.wrapping_sub(fpstate::FSAVE_HEADER);
    fpstate::store_32(fpstate, regs.cs() as u32)?;
    let context = SigContext32::new(regs, &fault, mask, fpstate);
    let with_info = action.flags().contains(ActionFlags::SIGINFO);
    let size = if with_info { size_of::<RtFrame>() } else { size_of::<Frame>() };
    // As after a call from aligned code.
    let frame = (fpstate.wrapping_sub(size as u64).wrapping_add(RETURN_ADDRESS) & !(STACK_ALIGNMENT - 1))
        .wrapping_sub(RETURN_ADDRESS);
    if !user::is_user_range(frame, size as u64) {
        return Err(Errno::EFAULT);
    }
    let (rdx, rcx) = if with_info {
        let info_address = frame + offset_of!(RtFrame, info) as u64;
        let context_address = frame + offset_of!(RtFrame, context) as u64;
        let code = frame + offset_of!(RtFrame, code) as u64;
        user::write(
            frame,
            &RtFrame {
                return_address: return_address(action, vdso::rt_sigreturn_32, code),
                signo: info.signo as u32,
                info_address: info_address as u32,
                context_address: context_address as u32,
                info: SigInfo32::from(info),
                context: UContext32 {
                    flags: if fpu::has_xsave() { UC_FP_XSTATE as u32 } else { 0 },
                    link: 0,
                    stack: [altstack.sp as u32, altstack.flags as u32, altstack.size as u32],
                    context,
                    mask: halves(mask),
                },
                code: RT_SIGRETURN_CODE,
            },
        )?;
        (info_address, context_address)
    } else {
        let code = frame + offset_of!(Frame, code) as u64;
        let before = Frame {
            return_address: return_address(action, vdso::sigreturn_32, code),
            signo: info.signo as u32,
            context,
            unused: [0; _],
            extra_mask: halves(mask)[1],
            code: SIGRETURN_CODE,
        };
        user::write(frame, &before)?;
        (0, 0)
    };
    // The arguments are on the stack; some code takes them in registers (-mregparm=3).
    regs.rax = info.signo as u64;
    (regs.rdx, regs.rcx) = (rdx, rcx);
    regs.rip = action.handler;
    regs.rsp = frame;
    regs.set_cs(USER32_CS);
    regs.set_ss(USER_DS);
    regs.set_rflags(flags_of_handler(regs.rflags()));
    load(Segment::Ds, USER_DS);
    load(Segment::Es, USER_DS);
    fpstate::reset();
    Ok(())
}

/// Where the frame ends: on the alternate stack, or where the task's stack is. A program with a stack segment of its own,
/// which does not say where its handlers return to, says with that field where their stack is.
fn top(regs: &UserRegs, action: &Action, altstack: &AltStack) -> u64 {
    let sp = regs.rsp;
    let has_restorer = action.flags().contains(ActionFlags::RESTORER);
    if action.flags().contains(ActionFlags::ONSTACK) {
        if altstack.is_available(sp) { altstack.top() } else { sp }
    } else if regs.ss() != u64::from(USER_DS) && !has_restorer && action.restorer != 0 {
        action.restorer
    } else {
        sp
    }
}

/// Where a handler returns to: what the program says, else the `trampoline` of the vDSO, else, where there is none, the
/// frame's own `code`.
fn return_address(action: &Action, trampoline: fn(&AddressSpace) -> u32, code: u64) -> u32 {
    if action.flags().contains(ActionFlags::RESTORER) {
        return action.restorer as u32;
    }
    match trampoline(current_mm()) {
        0 => code as u32,
        address => address,
    }
}

/// Loads a segment register of the current task; a selector that names nothing becomes null.
fn load(segment: Segment, selector: u16) {
    let _irqs = sync::irqs_off();
    // SAFETY: interrupts are off; the bases are the program's.
    let _ = unsafe { segments::load(segment, selector) };
}

fn segments() -> Segments {
    let _irqs = sync::irqs_off();
    Segments::current()
}

impl SigContext32 {
    fn new(regs: &UserRegs, fault: &Fault, mask: SigSet, fpstate: u64) -> SigContext32 {
        let segments = segments();
        SigContext32 {
            gs: [segments.gs, 0],
            fs: [segments.fs, 0],
            es: [segments.es, 0],
            ds: [segments.ds, 0],
            edi: regs.rdi as u32,
            esi: regs.rsi as u32,
            ebp: regs.rbp as u32,
            esp: regs.rsp as u32,
            ebx: regs.rbx as u32,
            edx: regs.rdx as u32,
            ecx: regs.rcx as u32,
            eax: regs.rax as u32,
            trapno: fault.trapno as u32,
            err: fault.error as u32,
            eip: regs.rip as u32,
            cs: [regs.cs() as u16, 0],
            eflags: regs.rflags() as u32,
            esp_at_signal: regs.rsp as u32,
            ss: [regs.ss() as u16, 0],
            fpstate: fpstate as u32,
            oldmask: halves(mask)[0],
            cr2: fault.cr2 as u32,
        }
    }

    /// Puts the registers back. As with 64-bit frames the program stays in ring 3 and keeps its flags from the kernel's.
    fn restore(&self, regs: &mut UserRegs) -> Result<()> {
        // A call that was interrupted before the handler ran is not to be continued after it.
        restart_block::reset_restart_fn();
        (regs.rbx, regs.rcx) = (self.ebx.into(), self.ecx.into());
        (regs.rdx, regs.rsi) = (self.edx.into(), self.esi.into());
        (regs.rdi, regs.rbp) = (self.edi.into(), self.ebp.into());
        (regs.rax, regs.rsp) = (self.eax.into(), self.esp.into());
        regs.rip = self.eip.into();
        // No system call is under way any more: what is in RAX is no result.
        regs.orig_rax = UserRegs::NO_SYSCALL;
        regs.set_cs(self.cs[0]);
        regs.set_ss(self.ss[0]);
        regs.set_rflags(regs.rflags() & !RESTORED_FLAGS | u64::from(self.eflags) & RESTORED_FLAGS);
        // A register that is loaded takes its base anew, so one that did not change is left alone.
        let now = segments();
        for (segment, saved, held) in [
            (Segment::Gs, self.gs[0], now.gs),
            (Segment::Fs, self.fs[0], now.fs),
            (Segment::Ds, self.ds[0], now.ds),
            (Segment::Es, self.es[0], now.es),
        ] {
            // Null selectors have no ring.
            let wanted = if saved <= 3 { saved } else { saved | 3 };
            if wanted != held {
                load(segment, wanted);
            }
        }
        fpstate::load_32(self.fpstate.into())
    }
}

/// Takes back what the frame holds, as sigreturn(2) asks for it: first the mask, which also holds where the rest cannot be read.
pub fn restore_frame(regs: &mut UserRegs) -> Result<()> {
    // The return address and, by the code that makes the call, the signal's number are off the stack.
    let address = regs.rsp.wrapping_sub(2 * RETURN_ADDRESS);
    in_user_memory::<Frame>(address)?;
    let context = address + offset_of!(Frame, context) as u64;
    let low = user::read(context + offset_of!(SigContext32, oldmask) as u64)?;
    let high = user::read(address + offset_of!(Frame, extra_mask) as u64)?;
    crate::signal::mask::set_blocked(mask_of([low, high]));
    user::read::<SigContext32>(context)?.restore(regs)
}

/// The same for rt_sigreturn(2).
pub fn restore_rt_frame(regs: &mut UserRegs) -> Result<()> {
    let address = regs.rsp.wrapping_sub(RETURN_ADDRESS);
    in_user_memory::<RtFrame>(address)?;
    let context = address + offset_of!(RtFrame, context) as u64;
    crate::signal::mask::set_blocked(mask_of(user::read(context + offset_of!(UContext32, mask) as u64)?));
    user::read::<SigContext32>(context + offset_of!(UContext32, context) as u64)?.restore(regs)?;
    let [sp, flags, size]: [u32; 3] = user::read(context + offset_of!(UContext32, stack) as u64)?;
    restore_altstack(current(), AltStack::of(sp.into(), flags as i32, size.into()), regs.rsp);
    Ok(())
}

fn in_user_memory<T>(address: u64) -> Result<()> {
    if user::is_user_range(address, size_of::<T>() as u64) { Ok(()) } else { Err(Errno::EFAULT) }
}
