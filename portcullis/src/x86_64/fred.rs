//! FRED, flexible return and event delivery: the CPU itself switches GS and the stack, clears the flags, and says what came in. One
//! entry point for what hits user mode and one for what hits the kernel take the place of all other doors.
//!
//! A kernel opts in by [`Doors::FRED`]; [`init_cpu`](super::init_cpu) then turns it on where the CPU has it ([`is_on`]). Registers,
//! states and hooks are those of the other doors. Sources: Intel, "Flexible Return and Event Delivery (FRED) specification" (346446);
//! Linux 7.2, `arch/x86/entry/entry_fred.c`.
//!
//! | what other doors need | with FRED |
//! | --- | --- |
//! | SWAPGS, and a fence | the CPU has done it, on the way out, too. LKGS loads the user's GS |
//! | paranoid doors | none: in ring 0 GS is the kernel's, at each instruction |
//! | CLD, CLAC, SFMASK | RFLAGS is 2 when the CPU arrives |
//! | IST | stack levels: #DB 1, NMI and #MC 2, #DF 3 where they hit the kernel. A higher level is never left for a lower one |
//! | the NMI's nested frames | NMIs stay blocked until an ERETU or ERETS whose frame says so |
//! | CR2 and DR6 | in the frame, as event data |
//! | SYSRET or IRET | ERETU, which restores all registers; RCX and R11 survive SYSCALL |
//! | aliases for 16-bit stacks | none: ERETU loads the whole RSP |
//! | page-table isolation | none: CPUs with FRED do not need it |
//!
//! # What programs can see of it
//!
//! * SYSCALL changes neither RCX nor R11.
//! * After SYSCALL, SYSENTER or INT with TF set, the single step comes right away, before the next instruction: ERETU raises it. It does
//!   not where the call itself has changed RIP or TF (`sigreturn`, a signal handler, a tracer), nor where the call's exit has reported
//!   a tracer's step.
//! * SYSCALL in compatibility mode and SYSENTER in 64-bit mode are #UD.
//! * IRET zeroes a null DS, ES, FS or GS whose RPL is not 0; ERETU keeps it.

use core::arch::naked_asm;
use core::arch::x86_64::__cpuid_count;
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;

use super::asm::{align_next, call, clear_regs, pop_general, push_regs, verw};
use super::cpu::{msr, wrmsr};
use super::delivery::{ON, event_data};
use super::doors::{Doors, Exception};
use super::exception::{FIRST_INTERRUPT, arrived, interrupted};
use super::nmi::nmi_hit_kernel;
use super::paranoid::{self, ist_hit_kernel};
use super::regs::{SavedRegs, UserRegs, flags};
use super::syscall32::{INT80, fast, int80};
use super::syscall64::{ENOSYS, syscall};
use super::tables::Tables;

pub use super::delivery::{is_on, thread_stack_top};

/// FRED's event types.
mod kind {
    pub const INTERRUPT: u8 = 0;
    pub const NMI: u8 = 2;
    pub const EXCEPTION: u8 = 3;
    /// INT n.
    pub const SOFTWARE_INTERRUPT: u8 = 4;
    /// INT1.
    pub const PRIVILEGED: u8 = 5;
    /// INT3 and INTO.
    pub const SOFTWARE_EXCEPTION: u8 = 6;
    /// SYSCALL and SYSENTER.
    pub const OTHER: u8 = 7;
}

/// The vectors of [`kind::OTHER`].
const SYSCALL: u8 = 1;
const SYSENTER: u8 = 2;

/// What the CPU says of an event, above the selectors of CS and SS in its frame: of CS the stack level that was hit.
#[derive(Clone, Copy)]
struct Event {
    cs: u64,
    ss: u64,
}

impl Event {
    const SELECTOR: u64 = 0xffff;
    /// SYSCALL, SYSENTER or INT n came in: with TF in the frame, ERETU raises the single step at once.
    const SOFTWARE: u64 = 1 << 17;

    /// Takes it out of the frame: what is left are selectors, as the other doors save them.
    #[inline(always)]
    fn take(cs: &mut u64, ss: &mut u64) -> Self {
        let event = Event { cs: *cs & !Self::SELECTOR, ss: *ss & !Self::SELECTOR };
        *cs &= Self::SELECTOR;
        *ss &= Self::SELECTOR;
        event
    }

    const fn vector(self) -> u8 {
        (self.ss >> 32) as u8
    }

    const fn kind(self) -> u8 {
        (self.ss >> 48) as u8 & 0xf
    }

    const fn is_of_64_bit_code(self) -> bool {
        self.ss >> 57 & 1 != 0
    }

    /// The length of the instruction that caused it, if it was INT n, INT1, INT3, INTO, SYSCALL or SYSENTER.
    const fn instruction_length(self) -> u64 {
        self.ss >> 60
    }
}

/// The two entry points, and the way out to user mode: the kernel's [`KERNEL`] bytes after the user's, which begins a page
/// ([`entry_points`]), and ERETU at [`ERETU`].
///
/// ```text
///   in:   GS the kernel's, RFLAGS 2, all general registers as they were, NMIs blocked by an NMI
///
///   from user mode: top of the thread stack; from the kernel: the stack that was hit, or that of the event's level
///     –        +56
///     data     +48     CR2 for #PF, DR6 for #DB
///     ss       +40     with the event
///     rsp      +32
///     rflags   +24
///     cs       +16     with the stack level
///     rip      +8
///     error    +0   ← rsp      becomes orig_rax
/// ```
///
/// ERETU faults if CS, SS or RIP name no segment or address of user mode: in ring 0, with nothing changed. It stands alone, so that
/// [`hit_kernel`] recognizes its address. ERETU and ERETS pass over the error code.
///
/// The way out has a name for [`enter_user_mode`](super::enter_user_mode), as naming this function there would put it into kernels
/// without FRED. It is the same code for all kernels.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
unsafe extern "C" fn entries<K: Doors>() {
    naked_asm!(
        ".balign 4096",
        "770:",
        "push rdi",
        push_regs!(),
        clear_regs!(),
        "mov rdi, rsp",
        call!("{user}"),
        "jmp 772f",
        ".skip {kernel_entry} - (. - 770b), 0xcc",
        "push rdi",
        push_regs!(),
        clear_regs!(),
        "mov rdi, rsp",
        call!("{kernel}"),
        pop_general!(),
        "erets",
        ".skip {eretu} - (. - 770b), 0xcc",
        "773: eretu",
        ".weak portcullis_leave_by_eretu",
        ".set portcullis_leave_by_eretu, .",
        "772:",
        pop_general!(),
        verw!(),
        "jmp 773b",
        align_next!(),
        user = sym hit_user::<K>,
        kernel_entry = const KERNEL, eretu = const ERETU,
        kernel = sym hit_kernel::<K>,
    )
}

/// The kernel's entry point, from the user's: the CPU's choice.
pub(super) const KERNEL: u64 = 256;
/// The ERETU that enters user mode, from the user's entry point.
pub(super) const ERETU: u64 = 512;

/// The user's entry point.
fn entry_points<K: Doors>() -> u64 {
    (entries::<K> as *const () as u64).next_multiple_of(4096)
}

/// The Rust half for what hit user mode.
///
/// # Safety
/// Called by [`entries`] only.
unsafe extern "C" fn hit_user<K: Doors>(regs: &mut UserRegs) {
    let event = Event::take(&mut regs.cs, &mut regs.ss);
    // ERETU raises the step of an instruction that is done, if the program goes on behind it.
    let step_at = (event.ss & Event::SOFTWARE != 0 && regs.rflags & flags::TF != 0).then_some(regs.rip);
    let error = core::mem::replace(&mut regs.orig_rax, UserRegs::NO_SYSCALL);
    let opened = Opened::by(event, K::IA32_EMULATION);
    // SAFETY: the door has just come in from user mode, interrupts are off, and `regs` are what it saved, with what each door
    // adds.
    unsafe {
        match opened {
            Opened::Syscall => {
                regs.begin_call(regs.rax);
                let _ = syscall::<K>(regs);
            }
            Opened::Sysenter => {
                regs.begin_call(regs.rax as u32 as u64);
                let _ = fast::<K>(regs);
            }
            Opened::Int80 => {
                regs.begin_call(regs.rax as u32 as u64);
                let _ = int80::<K>(regs);
            }
            Opened::Event(vector) => {
                if vector == Exception::DF {
                    paranoid::report::<K>(regs.as_saved_mut());
                }
                let _ = arrived::<K>(regs, vector.into(), error);
            }
            Opened::Nothing(vector, error) => {
                regs.undo(event);
                let _ = arrived::<K>(regs, vector.into(), error);
            }
        }
    }
    // A tracer's step over a call has been reported at the call's exit (`ptrace_report_syscall_exit`).
    let is_reported = || K::SYSCALL_WORK.armed(K::syscall_work()).exit_trap != 0;
    let goes_on = step_at == Some(regs.rip) && regs.rflags & flags::TF != 0;
    if goes_on && !matches!(opened, Opened::Nothing(..)) && !is_reported() {
        regs.ss |= Event::SOFTWARE;
    }
}

/// What an event from user mode opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Opened {
    Syscall,
    Sysenter,
    Int80,
    /// The door of this vector.
    Event(u8),
    /// An instruction for which there is no door: a fault, with an error code.
    Nothing(u8, u64),
}

impl Opened {
    #[inline(always)]
    fn by(event: Event, ia32: bool) -> Self {
        match (event.kind(), event.vector()) {
            (kind::OTHER, SYSCALL) if event.is_of_64_bit_code() => Opened::Syscall,
            (kind::OTHER, SYSENTER) if ia32 && !event.is_of_64_bit_code() => Opened::Sysenter,
            (kind::OTHER, _) => Opened::Nothing(Exception::UD, 0),
            (kind::SOFTWARE_INTERRUPT, INT80) if ia32 => Opened::Int80,
            // The same instructions as INT3 and INTO, but for their length.
            (kind::SOFTWARE_INTERRUPT, vector @ (Exception::BP | Exception::OF)) => Opened::Event(vector),
            // As where the gate is closed: the error code names it (SDM volume 3, 6.13).
            (kind::SOFTWARE_INTERRUPT, vector) => Opened::Nothing(Exception::GP, u64::from(vector) << 3 | 2),
            (kind::INTERRUPT | kind::NMI | kind::EXCEPTION | kind::PRIVILEGED | kind::SOFTWARE_EXCEPTION, vector) => {
                Opened::Event(vector)
            }
            // A type that the specification does not have.
            _ => Opened::Nothing(Exception::GP, 0),
        }
    }
}

impl UserRegs {
    /// A system call comes in.
    #[inline(always)]
    fn begin_call(&mut self, number: u64) {
        self.orig_rax = number;
        self.rax = (-ENOSYS) as i64 as u64;
    }

    /// Back to the instruction that came in, which is a fault.
    fn undo(&mut self, event: Event) {
        self.rip = self.rip.wrapping_sub(event.instruction_length());
        if !event.is_of_64_bit_code() {
            self.rip &= u64::from(u32::MAX);
        }
        self.rflags |= flags::RF;
    }
}

/// The Rust half for what hit the kernel. ERETS takes back what the event said of stack level and NMIs.
///
/// # Safety
/// Called by [`entries`] only.
unsafe extern "C" fn hit_kernel<K: Doors>(regs: &mut SavedRegs) {
    let event = Event::take(&mut regs.cs, &mut regs.ss);
    if regs.rip == entry_points::<K>() + ERETU {
        // SAFETY: nothing else has this address, and RSP was at the frame that ERETU could not load.
        unsafe { arrive_again(regs, event, entry_points::<K>()) };
    } else {
        let error = core::mem::replace(&mut regs.orig_rax, UserRegs::NO_SYSCALL);
        // SAFETY: the door has just come in from the kernel, interrupts are off, and `regs` are what it saved.
        unsafe {
            match (event.kind(), event.vector()) {
                (kind::NMI, _) => nmi_hit_kernel::<K>(regs),
                (kind::EXCEPTION | kind::PRIVILEGED, vector @ (Exception::DB | Exception::MC)) => {
                    ist_hit_kernel::<K>(regs, vector.into());
                }
                (kind::EXCEPTION, Exception::DF) => paranoid::report::<K>(regs),
                (kind::INTERRUPT, vector @ FIRST_INTERRUPT..) => interrupted::<K>(regs, vector.into(), 0),
                (kind::EXCEPTION | kind::SOFTWARE_EXCEPTION, vector) => interrupted::<K>(regs, vector.into(), error),
                (_, vector) => interrupted::<K>(regs, Exception::GP.into(), u64::from(vector) << 3 | 2),
            }
        }
    }
    regs.cs |= event.cs;
    regs.ss |= event.ss;
}

/// The fault of ERETU becomes an arrival from user mode: the frame that could not be loaded gets the fault's event, error code and
/// data, and ERETS goes to the user's entry point with RSP there and the user's values in all registers.
///
/// # Safety
/// `fault` is what the door saved at the ERETU to user mode. The CPU has pushed it below the other frame.
unsafe fn arrive_again(fault: &mut SavedRegs, event: Event, entry: u64) {
    const FRAME: usize = offset_of!(UserRegs, orig_rax);
    // SAFETY: the caller's. What is written are the frame's words above `orig_rax`.
    unsafe {
        let user = (fault.rsp as *mut UserRegs).byte_sub(FRAME);
        (&raw mut (*user).orig_rax).write(fault.orig_rax);
        let ss = &raw mut (*user).ss;
        // Not that NMIs are to be unblocked, nor that an instruction is done.
        const WHAT: u64 = 0xff << 32 | 0xf << 48;
        ss.write(ss.read() & Event::SELECTOR | event.ss & WHAT);
        user.add(1).cast::<u64>().write(event_data(fault));
    }
    fault.rip = entry;
}

/// Whether the CPU has FRED, and LKGS, which every such CPU has (CPUID 7.1).
pub(super) fn is_available() -> bool {
    const BOTH: u32 = 1 << 17 | 1 << 18;
    __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).eax >= 1 && __cpuid_count(7, 1).eax & BOTH == BOTH
}

/// Sets the MSRs; from the next call of `begin` on ([`CpuLocal::switch_to`](super::CpuLocal::switch_to)) RSP0 is set, too.
///
/// # Safety
/// As [`init_cpu`](super::init_cpu), on a CPU with FRED. SS is [`KERNEL_DS`](super::tables::KERNEL_DS), as ERETS wants to find what it found.
pub(super) unsafe fn prepare<K: Doors>(tables: &Tables) {
    const {
        assert!(
            !(K::FRED && K::PAGE_TABLE_ISOLATION),
            "FRED's doors change no page table: CPUs that have it need no isolation, so do not ask for both"
        );
    }
    const fn level(vector: u8, level: u64) -> u64 {
        level << (2 * vector)
    }
    const LEVELS: u64 =
        level(Exception::DB, 1) | level(Exception::NMI, 2) | level(Exception::MC, 2) | level(Exception::DF, 3);
    let stacks = tables.fred_stacks();
    // SAFETY: the caller's. In FRED_CONFIG the rest is 0: stack level 0, also for interrupts, and no gap below what was hit.
    unsafe {
        wrmsr(msr::FRED_CONFIG, entry_points::<K>());
        wrmsr(msr::FRED_STKLVLS, LEVELS);
        wrmsr(msr::FRED_RSP1, stacks[0]);
        wrmsr(msr::FRED_RSP2, stacks[1]);
        wrmsr(msr::FRED_RSP3, stacks[2]);
    }
    ON.store(true, Relaxed);
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/fred.rs"]
mod tests;
