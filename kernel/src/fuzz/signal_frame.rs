//! Signal frames: the kernel makes one for registers of the input's, the program changes some bytes of it, and `sigreturn` takes it
//! back. Also frames that are nothing but the input.

use portcullis::x86_64::UserRegs;
use portcullis::x86_64::regs::flags;
use portcullis::x86_64::tables::{USER_CS, USER32_CS};
use zerocopy::FromBytes;

use crate::errno::Result;
use crate::fuzz::input::Input;
use crate::host::process;
use crate::memory::{Width, user};
use crate::sched::fpu;
use crate::signal::fpstate;
use crate::task::Task;
use crate::task::signals::action::Action;
use crate::task::signals::altstack::{AltStack, MINSIGSTKSZ};
use crate::task::signals::info::SigInfo;
use crate::task::signals::set::SigSet;
use crate::work::{signal_frame32, signal_frame64};

/// Where the stack ends.
const TOP: u64 = process::MEMORY + process::MEMORY_SIZE;
const SA_SIGINFO: u64 = 4;
const SA_IA32: u64 = 0x0200_0000;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_ONSTACK: u64 = 0x0800_0000;

/// The three kinds of frames.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Rt64,
    Rt32,
    Old32,
}

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let how = input.u8();
    let kind = [Kind::Rt64, Kind::Rt32, Kind::Old32][usize::from(how & 3) % 3];
    let width = if kind == Kind::Rt64 { Width::Bits64 } else { Width::Bits32 };
    process::run(width, |task| {
        fpstate::reset();
        let mut regs = registers(&mut input, kind);
        let mask = SigSet(input.u64());
        if how & 4 != 0 {
            let size = u64::from(input.u16());
            task.signals.lock().altstack = AltStack::of(process::MEMORY + 0x100, 0, size.max(MINSIGSTKSZ));
        }
        if how & 8 == 0 {
            let before = regs;
            let action = action(how, kind);
            let set_up = match kind {
                Kind::Rt64 => signal_frame64::set_up(&mut regs, &action, &SigInfo::kernel(11), mask),
                Kind::Rt32 | Kind::Old32 => signal_frame32::set_up(&mut regs, &action, &SigInfo::kernel(11), mask),
            };
            check(task, &regs);
            if set_up.is_err() {
                assert_eq!(regs, before, "a frame that cannot be written changes nothing");
                return;
            }
            in_handler(&regs, kind, &action);
            // The handler's return takes the return address off the stack, and the old call's code the signal's number, too.
            regs.rsp += match kind {
                Kind::Rt64 => 8,
                Kind::Rt32 => 4,
                Kind::Old32 => 8,
            };
            if input.is_empty() {
                comes_back(task, regs, before, mask, kind);
            }
        } else {
            regs.rsp = process::MEMORY + 0x4000;
            write(regs.rsp - 16, input.rest());
        }
        tamper(&mut input, regs.rsp);
        let before = regs;
        let restored = restore(&mut regs, kind);
        check(task, &regs);
        assert_eq!((regs.rflags() ^ before.rflags()) & !signal_frame64::RESTORED_FLAGS, 0, "the other flags stay");
        if restored.is_ok() {
            assert_eq!(regs.orig_rax, UserRegs::NO_SYSCALL, "what is in RAX is no result");
        }
        fpstate::reset();
    });
}

/// Registers that user mode may have, with the stack pointer in what is mapped.
fn registers(input: &mut Input<'_>, kind: Kind) -> UserRegs {
    let mut regs = UserRegs::new(input.u64(), TOP - u64::from(input.u16()));
    (regs.rax, regs.rbx, regs.rcx, regs.rdx) = (input.u64(), input.u64(), input.u64(), input.u64());
    (regs.rsi, regs.rdi, regs.rbp) = (input.u64(), input.u64(), input.u64());
    if kind == Kind::Rt64 {
        (regs.r8, regs.r9, regs.r10, regs.r11) = (input.u64(), input.u64(), input.u64(), input.u64());
        (regs.r12, regs.r13, regs.r14, regs.r15) = (input.u64(), input.u64(), input.u64(), input.u64());
    } else {
        regs.set_cs(USER32_CS);
        regs.rip &= 0xffff_ffff;
        for register in
            [&mut regs.rax, &mut regs.rbx, &mut regs.rcx, &mut regs.rdx, &mut regs.rsi, &mut regs.rdi, &mut regs.rbp]
        {
            *register &= 0xffff_ffff;
        }
    }
    regs.set_rflags(input.u32().into());
    regs
}

fn action(how: u8, kind: Kind) -> Action {
    let mut flags = SA_RESTORER;
    flags |= if kind == Kind::Old32 { 0 } else { SA_SIGINFO };
    flags |= if kind == Kind::Rt64 { 0 } else { SA_IA32 };
    flags |= if how & 16 != 0 { SA_ONSTACK } else { 0 };
    let bytes: Vec<u8> = [0x40_1000, flags, 0x40_2000, 0].iter().flat_map(|word: &u64| word.to_ne_bytes()).collect();
    Action::read_from_bytes(&bytes).expect("four words")
}

/// What a handler begins with.
fn in_handler(regs: &UserRegs, kind: Kind, action: &Action) {
    let cs = if kind == Kind::Rt64 { USER_CS } else { USER32_CS };
    assert_eq!((regs.cs(), regs.rip), (cs.into(), action.handler));
    assert_eq!(regs.rflags() & (flags::DF | flags::TF | flags::RF), 0);
    assert_eq!(regs.rsp % 16, if kind == Kind::Rt64 { 8 } else { 12 }, "as after a call");
    assert!(regs.rsp >= process::MEMORY && regs.rsp < TOP, "{:#x}", regs.rsp);
}

fn restore(regs: &mut UserRegs, kind: Kind) -> Result<()> {
    match kind {
        Kind::Rt64 => signal_frame64::restore_frame(regs),
        Kind::Rt32 => signal_frame32::restore_rt_frame(regs),
        Kind::Old32 => signal_frame32::restore_frame(regs),
    }
}

/// What the handler left alone is what it was.
fn comes_back(task: &Task, mut regs: UserRegs, before: UserRegs, mask: SigSet, kind: Kind) {
    assert_eq!(restore(&mut regs, kind), Ok(()), "the kernel's own frame");
    // RF and the flags that a frame does not have are the handler's, who began with the program's.
    let mut expected = before;
    expected.orig_rax = UserRegs::NO_SYSCALL;
    assert_eq!(regs, expected);
    assert_eq!(task.signals.lock().blocked, mask.without(SigSet::UNBLOCKABLE));
    check(task, &regs);
}

/// Changes bytes at places near the frame: two bytes say where, one how many, then these.
fn tamper(input: &mut Input<'_>, sp: u64) {
    let reach = 1024 + fpu::size() as u64;
    for _ in 0..16 {
        if input.is_empty() {
            return;
        }
        let at = sp - 16 + u64::from(input.u16()) % reach;
        let len = usize::from(input.u8() % 32) + 1;
        write(at, input.take(len));
    }
}

/// Writes as far as there is memory.
fn write(at: u64, bytes: &[u8]) {
    let len = (bytes.len() as u64).min(TOP.saturating_sub(at)) as usize;
    // SAFETY: the slice's own bytes.
    unsafe { user::copy_to_user(at, bytes.as_ptr(), len) }.expect("mapped");
}

/// What holds of a task whatever a frame said.
fn check(task: &Task, regs: &UserRegs) {
    assert_eq!((regs.cs() & 3, regs.ss() & 3), (3, 3), "ring 3");
    assert!(regs.cs() <= 0xffff && regs.ss() <= 0xffff);
    assert_eq!(regs.rflags() & !UserRegs::FLAGS, flags::FIXED | flags::IF, "no flag that steers the kernel");
    let signals = task.signals.lock();
    assert_eq!(signals.blocked, signals.blocked.without(SigSet::UNBLOCKABLE));
    let stack = signals.altstack;
    assert!(stack.size == 0 || stack.size >= MINSIGSTKSZ, "{stack:?}");
}
