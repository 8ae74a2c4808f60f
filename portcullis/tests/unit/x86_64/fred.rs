//! The Rust halves of FRED's entries, on a thread that plays a CPU: it makes the frame that the CPU would make. What is asked is what
//! the kernel's hooks see, and what ERETU and ERETS would load. (`./x prove doors` has the machine code.)

use std::cell::{Cell, RefCell};

use super::*;
use crate::machine::{InterruptFlag, Machine, Tracking};
use crate::state::{InInterrupt, InKernel, InSyscall, Interrupted, NmiContext};
use crate::x86_64::local::tests::pretend_to_be_a_cpu;
use crate::x86_64::tables::{KERNEL_CS, KERNEL_DS, USER_CS, USER_DS, USER32_CS};
use crate::x86_64::{CpuLocal, PerCpuContext};
use crate::{Broken, Diagnostics, ExitHooks, Kernel, SyscallHooks};

/// What a hook saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Syscall(i64, UserRegs),
    Syscall32(u32, UserRegs),
    User(Exception, UserRegs),
    Kernel(Exception, SavedRegs),
    Interrupt(u8, SavedRegs),
    MachineCheck(SavedRegs),
}

thread_local! {
    static SEEN: RefCell<Vec<Seen>> = const { RefCell::new(Vec::new()) };
    /// What the hooks of the user's do with the registers.
    static CHANGE: Cell<fn(&mut UserRegs)> = const { Cell::new(|_| {}) };
    /// The word of system-call work.
    static WORK: Cell<usize> = const { Cell::new(0) };
    static IRQS: Cell<bool> = const { Cell::new(false) };
}

fn see(seen: Seen) {
    SEEN.with_borrow_mut(|all| all.push(seen));
}

struct Flag;
// SAFETY: there is no GS base to protect.
unsafe impl InterruptFlag for Flag {
    unsafe fn on() {
        IRQS.set(true);
    }
    fn off() {
        IRQS.set(false);
    }
    fn is_on() -> bool {
        IRQS.get()
    }
}

/// A kernel that wants FRED and writes down what it sees.
struct Witness;

impl Machine for Witness {
    type Regs = UserRegs;
    type SavedRegs = SavedRegs;
    type Irqs = Flag;
    type Context = PerCpuContext;
    fn invariant_broken(broken: Broken) {
        panic!("{broken}");
    }
}

impl Kernel for Witness {
    fn exit_work() -> usize {
        0
    }
    fn syscall_work() -> usize {
        WORK.get()
    }
    fn preempt_count() -> usize {
        0
    }
    fn syscall(at: &mut InSyscall<'_, Self>, number: i64) {
        see(Seen::Syscall(number, *at.saved()));
        CHANGE.get()(at.regs());
    }
    fn syscall_32(at: &mut InSyscall<'_, Self>, number: u32) {
        see(Seen::Syscall32(number, *at.saved()));
        CHANGE.get()(at.regs());
    }
}

impl ExitHooks for Witness {}
impl SyscallHooks for Witness {}
impl Diagnostics for Witness {}

const LANDING_PAD: u64 = 0x1111_0000;

impl Doors for Witness {
    const IA32_EMULATION: bool = true;
    const FRED: bool = true;
    fn int80_landing_pad() -> u64 {
        LANDING_PAD
    }
    fn user_word(_: &mut InKernel<'_, Self>, address: u32) -> Option<u32> {
        Some(address + 1)
    }
    fn user_exception(at: &mut InKernel<'_, Self>, exception: Exception) {
        see(Seen::User(exception, *at.saved()));
        CHANGE.get()(at.regs());
    }
    fn kernel_exception(at: &mut Interrupted<'_, Self>, exception: Exception) {
        see(Seen::Kernel(exception, *at.saved()));
    }
    fn interrupt(at: &mut InInterrupt<'_, Self>, vector: u8) {
        see(Seen::Interrupt(vector, *at.saved()));
    }
    fn machine_check(at: &mut NmiContext<'_, Self>) {
        see(Seen::MachineCheck(*at.saved()));
    }
    fn double_fault(_: &SavedRegs, _: u64) -> ! {
        unreachable!()
    }
}

/// The end of a thread stack.
#[repr(C, align(64))]
struct Stack([u64; 64]);

const ERROR: u64 = 0x1234;
const DATA: u64 = 0xabcd_ef01_2345;
const RIP: u64 = 0x40_0102;
/// In CS: where the kernel was hit on stack level 2.
const LEVEL_2: u64 = 2 << 16;
/// In SS, from the lowest bit on: STI was the last instruction; an instruction is done; an NMI.
const STI: u64 = 1 << 16;
const NMI: u64 = 1 << 18;

fn about(kind: u8, vector: u8) -> u64 {
    u64::from(vector) << 32 | u64::from(kind) << 48
}

/// An instruction of two bytes, in 64-bit code.
const BY_INSTRUCTION: u64 = Event::SOFTWARE | 1 << 57 | 2 << 60;
const NOT_64_BIT: u64 = !(1 << 57);

/// The user's registers, each another value.
fn user() -> UserRegs {
    let mut regs = UserRegs::new(RIP, 0x7fff_0000);
    (regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi) = (39, 2, 3, 4, 5, 6);
    (regs.rbp, regs.r8, regs.r9, regs.r10, regs.r11) = (7, 8, 9, 10, 11);
    regs
}

/// The CPU arrives from user mode with `regs` and `about` the event: what the hooks saw, and what ERETU finds.
fn arrive(mut regs: UserRegs, about: u64) -> (Vec<Seen>, UserRegs) {
    let mut stack = Stack([0; 64]);
    let end = core::ptr::from_mut(&mut stack).wrapping_add(1) as u64;
    let top = thread_stack_top::<Witness>(end);
    pretend_to_be_a_cpu(top);
    // Interrupts run on the stack in use.
    CpuLocal::this().irq_depth.store(1, Relaxed);
    ON.store(true, Relaxed);
    // SAFETY: the thread's CPU is in user mode.
    assert!(unsafe { PerCpuContext::kernel_to_user() });
    regs.orig_rax = ERROR;
    regs.ss |= about;
    let place = (top as *mut UserRegs).wrapping_sub(1);
    // SAFETY: the stack's end, where the CPU writes.
    unsafe {
        place.write(regs);
        place.add(1).cast::<u64>().write(DATA);
        hit_user::<Witness>(&mut *place);
        (SEEN.take(), place.read())
    }
}

/// `user()` as a hook sees it, in a system call.
fn in_call(number: u64) -> UserRegs {
    UserRegs { orig_rax: number, rax: -38i64 as u64, ..user() }
}

#[test]
fn the_cpu_finds_its_frame_aligned_and_the_registers_below_two_words() {
    for end in [0x1000u64, 0x1010, 0x1030] {
        let top = thread_stack_top::<Witness>(end);
        assert!((top + 16).is_multiple_of(64) && top + 16 <= end && end - top < 80, "{end:#x}");
    }
}

#[test]
fn syscall_is_a_call_that_keeps_rcx_and_r11() {
    let (seen, out) = arrive(user(), about(kind::OTHER, SYSCALL) | BY_INSTRUCTION);
    assert_eq!(seen, [Seen::Syscall(39, in_call(39))]);
    assert_eq!(out, in_call(39), "no bit of the event is left");
}

#[test]
fn sysenter_and_int80_are_32_bit_calls() {
    let mut regs = user();
    regs.set_cs(USER32_CS);
    regs.rax |= 0xdead << 32;
    let (seen, out) = arrive(regs, (about(kind::OTHER, SYSENTER) | BY_INSTRUCTION) & NOT_64_BIT);
    let mut expected = in_call(39);
    expected.set_cs(USER32_CS);
    expected.rip = LANDING_PAD;
    expected.rbp = regs.rsp + 1;
    assert_eq!(seen, [Seen::Syscall32(39, expected)]);
    assert_eq!(out, expected);

    for mode in [BY_INSTRUCTION, BY_INSTRUCTION & NOT_64_BIT] {
        let (seen, out) = arrive(UserRegs { rax: regs.rax, ..user() }, about(kind::SOFTWARE_INTERRUPT, INT80) | mode);
        assert_eq!(seen, [Seen::Syscall32(39, in_call(39))]);
        assert_eq!(out, in_call(39));
    }
}

/// Each is a fault: RIP is that of the instruction, and RF is set.
#[test]
fn instructions_without_a_door_fault() {
    let done = BY_INSTRUCTION;
    for (about, vector, error) in [
        (about(kind::OTHER, SYSCALL) | done & NOT_64_BIT, Exception::UD, 0),
        (about(kind::OTHER, SYSENTER) | done, Exception::UD, 0),
        (about(kind::SOFTWARE_INTERRUPT, 0x20) | done, Exception::GP, 0x102),
        (about(kind::SOFTWARE_INTERRUPT, Exception::PF) | done, Exception::GP, 14 << 3 | 2),
        (about(kind::SOFTWARE_INTERRUPT, Exception::NMI) | done, Exception::GP, 2 << 3 | 2),
        // Types that there are not.
        (about(1, 0) | 1 << 57, Exception::GP, 0),
        (about(9, SYSCALL) | 1 << 57, Exception::GP, 0),
    ] {
        let mut regs = user();
        regs.set_rflags(flags::TF);
        let (seen, out) = arrive(regs, about);
        let length = about >> 60;
        let expected = UserRegs { rip: RIP - length, rflags: regs.rflags | flags::RF, ..regs };
        let exception = Exception { vector, error, cause: 0 };
        assert_eq!(seen, [Seen::User(exception, expected)], "{about:#x}");
        assert_eq!(out, expected, "no step is due: the instruction is not done");
    }
    // EIP wraps.
    let (seen, _) = arrive(UserRegs { rip: 1, ..user() }, about(kind::SOFTWARE_INTERRUPT, 0x20) | done & NOT_64_BIT);
    assert!(matches!(seen[..], [Seen::User(_, UserRegs { rip: 0xffff_ffff, .. })]), "{seen:x?}");
}

#[test]
fn exceptions_have_their_error_code_and_the_data_of_the_event() {
    for (about, vector, error, cause) in [
        (about(kind::EXCEPTION, Exception::PF), Exception::PF, ERROR, DATA),
        (about(kind::EXCEPTION, Exception::DB), Exception::DB, ERROR, DATA),
        (about(kind::PRIVILEGED, Exception::DB), Exception::DB, ERROR, DATA),
        (about(kind::EXCEPTION, Exception::GP), Exception::GP, ERROR, 0),
        (about(kind::SOFTWARE_EXCEPTION, Exception::BP), Exception::BP, ERROR, 0),
        (about(kind::SOFTWARE_INTERRUPT, Exception::OF) | BY_INSTRUCTION, Exception::OF, ERROR, 0),
    ] {
        let (seen, out) = arrive(user(), about | 1 << 57);
        assert_eq!(seen, [Seen::User(Exception { vector, error, cause }, user())]);
        assert_eq!(out, user());
    }
    let (seen, out) = arrive(user(), about(kind::INTERRUPT, 0xec) | 1 << 57);
    assert_eq!((seen, out), (vec![Seen::Interrupt(0xec, *user().as_saved())], user()));
    let (seen, _) = arrive(user(), about(kind::EXCEPTION, Exception::MC) | 1 << 57);
    assert_eq!(seen, [Seen::MachineCheck(*user().as_saved())]);
}

/// ERETU raises the step of an instruction that is done, unless the program goes on elsewhere, or is not stepped any more.
#[test]
fn a_step_over_a_call_comes_at_once() {
    let call = about(kind::OTHER, SYSCALL) | BY_INSTRUCTION;
    let mut stepped = user();
    stepped.set_rflags(flags::TF);
    let step = |regs, change: fn(&mut UserRegs)| {
        CHANGE.set(change);
        let (_, out) = arrive(regs, call);
        CHANGE.set(|_| {});
        out.ss & !Event::SELECTOR
    };
    assert_eq!(step(stepped, |_| {}), Event::SOFTWARE);
    assert_eq!(step(stepped, |regs| regs.rip += 1), 0, "a signal's handler");
    assert_eq!(step(stepped, |regs| regs.set_rflags(0)), 0, "a tracer");
    assert_eq!(step(user(), |regs| regs.set_rflags(flags::TF)), 0, "sigreturn: the call was not stepped");
    assert_eq!(step(user(), |_| {}), 0);
    WORK.set(Witness::SYSCALL_WORK.exit_trap);
    assert_eq!(step(stepped, |_| {}), 0, "a tracer's, which the call's exit has reported");
    WORK.set(0);
    let (_, out) = arrive(stepped, about(kind::EXCEPTION, Exception::UD) | 1 << 57);
    assert_eq!(out, stepped, "a fault: nothing is done");
}

/// The kernel, hit with interrupts on.
fn kernel(rip: u64, rsp: u64) -> SavedRegs {
    let mut regs = *user().as_saved();
    (regs.rip, regs.rsp, regs.cs, regs.ss) = (rip, rsp, KERNEL_CS.into(), KERNEL_DS.into());
    regs.orig_rax = ERROR;
    regs
}

/// The CPU arrives from the kernel: what the hooks saw, and what ERETS finds.
fn hit(regs: SavedRegs, cs: u64, ss: u64) -> (Vec<Seen>, SavedRegs) {
    let mut frame = [0u64; 23];
    pretend_to_be_a_cpu(0);
    CpuLocal::this().irq_depth.store(1, Relaxed);
    ON.store(true, Relaxed);
    let place = frame.as_mut_ptr().cast::<SavedRegs>();
    // SAFETY: the frame's memory, where the CPU writes.
    unsafe {
        place.write(SavedRegs { cs: regs.cs | cs, ss: regs.ss | ss, ..regs });
        place.add(1).cast::<u64>().write(DATA);
        hit_kernel::<Witness>(&mut *place);
        (SEEN.take(), place.read())
    }
}

#[test]
fn the_kernel_goes_on_with_the_stack_level_and_the_nmi_that_were_found() {
    let found = kernel(0xffff_ffff_8000_0000, 0xffff_c000_0000_0000);
    let clean = SavedRegs { orig_rax: UserRegs::NO_SYSCALL, ..found };
    for (kind, vector, seen) in [
        (
            kind::EXCEPTION,
            Exception::PF,
            Seen::Kernel(Exception { vector: Exception::PF, error: ERROR, cause: DATA }, clean),
        ),
        (
            kind::SOFTWARE_EXCEPTION,
            Exception::BP,
            Seen::Kernel(Exception { vector: Exception::BP, error: ERROR, cause: 0 }, clean),
        ),
        (kind::INTERRUPT, 0xec, Seen::Interrupt(0xec, clean)),
        // INT in the kernel is a bug, whatever it names.
        (
            kind::SOFTWARE_INTERRUPT,
            INT80,
            Seen::Kernel(Exception { vector: Exception::GP, error: 0x402, cause: 0 }, clean),
        ),
    ] {
        let ss = about(kind, vector) | STI | NMI;
        let (all, out) = hit(found, LEVEL_2, ss);
        assert_eq!(all, [seen]);
        assert_eq!(out, SavedRegs { cs: clean.cs | LEVEL_2, ss: clean.ss | ss, ..clean });
    }
}

/// ERETU has faulted: ERETS goes to the entry for user mode, with RSP at the frame that could not be loaded and the user's values in
/// all registers; the frame has the fault's event.
#[test]
fn a_fault_of_eretu_becomes_an_arrival_from_user_mode() {
    let mut bad = user();
    bad.set_cs(0x8888);
    bad.ss = u64::from(USER_DS) | Event::SOFTWARE;
    let mut frame = [0u64; 23];
    let place = frame.as_mut_ptr().cast::<UserRegs>();
    // SAFETY: within the array.
    let at = unsafe {
        place.write(bad);
        &raw const (*place).orig_rax as u64
    };
    let entry = entry_points::<Witness>();
    let fault = kernel(entry + ERETU, at);
    let (seen, out) = hit(fault, 0, about(kind::EXCEPTION, Exception::GP));
    assert_eq!(seen, []);
    let expected = SavedRegs { rip: entry, ss: fault.ss | about(kind::EXCEPTION, Exception::GP), ..fault };
    assert_eq!(out, expected);
    assert_eq!(frame[21], DATA);
    // And so it arrives.
    // SAFETY: as above.
    let again = unsafe { place.read() };
    assert_eq!((again.orig_rax, again.rip, again.cs), (ERROR, RIP, 0x888b));
    let (seen, out) = arrive(UserRegs { ss: USER_DS.into(), ..again }, again.ss & !Event::SELECTOR);
    let exception = Exception { vector: Exception::GP, error: ERROR, cause: 0 };
    let expected = UserRegs { ss: USER_DS.into(), orig_rax: UserRegs::NO_SYSCALL, ..bad };
    assert_eq!((seen, out), (vec![Seen::User(exception, expected)], expected));
    assert_eq!(expected.cs & 3, u64::from(USER_CS) & 3);
}
