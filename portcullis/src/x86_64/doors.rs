//! The doors in one table, and what a kernel does with what they bring in.

use crate::broken::Broken;
use crate::kernel::Gate;
use crate::machine::Machine;
use crate::state::{InInterrupt, InKernel, Interrupted, NmiContext};

use super::regs::{SavedRegs, UserRegs, flags};
use super::tables::Ist;
use super::{cpu, extable};

/// An exception, as the CPU reported it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Exception {
    /// The vector, 0 to 31 (SDM volume 3, table 6-1).
    pub vector: u8,
    /// The error code, 0 for exceptions that have none.
    pub error: u64,
    /// For #PF the address that was accessed (CR2); for #DB DR6, with the bits inverted that read as 1 when nothing happened;
    /// otherwise 0.
    pub cause: u64,
}

macro_rules! vectors {
    ($($name:ident = $vector:literal)*; $($with:ident = $with_vector:literal)*) => {
        $(pub const $name: u8 = $vector;)*
        $(pub const $with: u8 = $with_vector;)*
        /// The vectors whose exceptions push an error code, one bit each.
        pub const WITH_ERROR_CODE: u32 = 0 $(| 1 << $with_vector)*;
    };
}

#[allow(missing_docs, reason = "the vectors by their names")]
impl Exception {
    // SDM volume 3, table 6-1; APM volume 2, 8.2 for 29 and 30. The second list push an error code.
    vectors! {
        DE = 0 DB = 1 NMI = 2 BP = 3 OF = 4 BR = 5 UD = 6 NM = 7 MF = 16 MC = 18 XM = 19 VE = 20 HV = 28;
        DF = 8 TS = 10 NP = 11 SS = 12 GP = 13 PF = 14 AC = 17 CP = 21 VC = 29 SX = 30
    }
}

/// How many levels the kernel's page tables have, which gives the width of the user's half of the address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paging {
    /// 4 levels: user addresses have 47 bits.
    FourLevel,
    /// 5 levels (CR4.LA57 is set): user addresses have 56 bits.
    FiveLevel,
}

impl Paging {
    /// The width of the user's half.
    pub const fn user_address_bits(self) -> u32 {
        match self {
            Paging::FourLevel => 47,
            Paging::FiveLevel => 56,
        }
    }
}

/// A kernel behind the x86-64 doors: what it does with what they bring in. [`TABLE`] says which door calls which function.
///
/// With [`CHECKS`](crate::Machine::CHECKS) a handler that returns with the interrupt flag or the context changed is reported
/// ([`Broken::Returned`]).
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no doors",
    label = "needs `impl Doors for {Self}`: what it does with exceptions and interrupts",
    note = "its `Machine` must have `type Regs = UserRegs` and `type SavedRegs = SavedRegs`"
)]
pub trait Doors: Gate + Machine<Regs = UserRegs, SavedRegs = SavedRegs> {
    /// How many levels the page tables have. [`init_cpu`](super::init_cpu) panics if the CPU runs with fewer.
    const PAGING: Paging = Paging::FourLevel;

    /// Whether the 32-bit doors are open ([`syscall32`](super::syscall32)): INT 0x80, SYSENTER, and SYSCALL from compatibility
    /// mode. If not, the first two fault and the third fails with -ENOSYS.
    const IA32_EMULATION: bool = false;

    /// Whether user mode runs on a page table of its own (CVE-2017-5754, "Meltdown"). [`isolation`](super::isolation) lists
    /// what the kernel owes then. If not, the doors hold no code for it.
    const PAGE_TABLE_ISOLATION: bool = false;

    /// Whether events are delivered by FRED where the CPU has it ([`fred`](super::fred)). Thread stacks then end as
    /// [`fred::thread_stack_top`](super::fred::thread_stack_top) says, whether the CPU has it or not; not together with
    /// [`PAGE_TABLE_ISOLATION`](Self::PAGE_TABLE_ISOLATION).
    const FRED: bool = false;

    /// Where the current program continues after SYSENTER and 32-bit SYSCALL: after the INT 0x80 of its vDSO
    /// (`int80_landing_pad`), below 4 GiB; 0 if unset. Interrupts off.
    #[inline(always)]
    fn int80_landing_pad() -> u64 {
        0
    }

    /// Reads the word at `address` in user memory; `None` if it cannot be read. Interrupts on, may sleep.
    fn user_word(_at: &mut InKernel<'_, Self>, _address: u32) -> Option<u32> {
        None
    }

    /// An exception in user mode. Interrupts on, may sleep; a signal that it raises is delivered on the way out.
    ///
    /// A fault of the IRET that was to enter user mode also comes here, with the registers that it was to load.
    fn user_exception(at: &mut InKernel<'_, Self>, exception: Exception);

    /// An exception in the kernel: a page fault on user memory, an instruction in the exception table
    /// ([`Interrupted::fix_up`]), or a bug. On the stack that was hit, interrupts off. For a page fault that hit code with
    /// interrupts on, the handler may turn them on, and must turn them off again before it returns.
    fn kernel_exception(at: &mut Interrupted<'_, Self>, exception: Exception);

    /// A device interrupt or inter-processor interrupt, vectors 32 to 255. Interrupts off, IRQ stack; must not sleep or turn
    /// interrupts on. The handler acknowledges the interrupt.
    fn interrupt(at: &mut InInterrupt<'_, Self>, vector: u8);

    /// A non-maskable interrupt. Not reentered on a CPU: for all NMIs that arrive during a call it is called once more, with
    /// the registers of the first.
    fn nmi(_at: &mut NmiContext<'_, Self>) {}

    /// A debug exception in the kernel, on its own stack; `why` is DR6 as in [`Exception::cause`]. The default clears TF.
    ///
    /// The CPU has cleared DEBUGCTL.BTF: a kernel that lets user mode step from branch to branch sets it again.
    fn kernel_debug(at: &mut NmiContext<'_, Self>, _why: u64) {
        at.end_single_step();
    }

    /// A machine check: on the thread stack if it hit user mode, otherwise on its own. A handler that returns must clear
    /// MCG_STATUS as its last action: until then another machine check shuts the CPU down (SDM volume 3, 16.3.1.2), instead
    /// of entering the handler on the stack in use.
    fn machine_check(at: &mut NmiContext<'_, Self>);

    /// A double fault, on its own stack: an exception could not be delivered, usually because the kernel stack overflowed.
    /// `address` is CR2. There is no way back. (A double fault of the IRET to user mode does not come here.)
    fn double_fault(regs: &SavedRegs, address: u64) -> !;
}

/// Where code continues after a fault ([`Interrupted::fixup`]).
#[derive(Debug)]
pub struct Fixup {
    instruction: u64,
    to: u64,
}

impl<K: Doors> Interrupted<'_, K> {
    /// Where to continue, if the instruction that faulted is in the exception table ([`extable`]).
    pub fn fixup(&self) -> Option<Fixup> {
        let instruction = self.saved().rip;
        extable::fixup(instruction).map(|to| Fixup { instruction, to })
    }

    /// Continues there, for a fault that cannot be resolved.
    ///
    /// # Panics
    /// If the fixup is for another instruction.
    pub fn continue_at(&mut self, fixup: Fixup) {
        assert_eq!(self.saved().rip, fixup.instruction, "the fixup of another fault");
        // SAFETY: by the table the instruction may fault, and its code continues there.
        unsafe { self.regs_mut().rip = fixup.to };
    }

    /// If the instruction that faulted is in the exception table, continues where that says, and returns true.
    pub fn fix_up(&mut self) -> bool {
        self.fixup().map(|fixup| self.continue_at(fixup)).is_some()
    }
}

impl<K: Doors> NmiContext<'_, K> {
    /// Ends a single step: clears TF where the kernel was hit.
    pub fn end_single_step(&mut self) {
        // SAFETY: the library does not single-step the kernel, so it depends on no TF.
        unsafe { self.regs_mut().rflags &= !flags::TF };
    }
}

/// One door: what opens it, and where it leads by what it hit.
#[derive(Debug)]
#[non_exhaustive]
pub struct Door {
    /// What opens it.
    pub name: &'static str,
    /// The vectors, first and last; `None` for a door that an MSR points to.
    pub vectors: Option<(u8, u8)>,
    /// The code where the CPU enters.
    pub(super) entry: Entry,
    /// Its own stack, by the number in the TSS; 0 for none.
    pub(super) ist: u8,
    /// Whether user mode may open it by an instruction.
    pub(super) by_user: bool,
    /// From user mode.
    pub user: Path,
    /// From the kernel, the idle loop included.
    pub kernel: Path,
    /// From inside a door, where GS, the stack or the page table may be the user's.
    pub inside: Path,
}

/// Where a door leads.
#[derive(Debug)]
#[non_exhaustive]
pub struct Path {
    /// The stack of the Rust half.
    pub stack: &'static str,
    /// The state that it starts with.
    pub state: &'static str,
    /// The kernel's function that it calls.
    pub hook: &'static str,
    /// The way out.
    pub way_out: &'static str,
}

/// The code that a door starts with: in [`syscall64`](super::syscall64), three times [`syscall32`](super::syscall32),
/// [`exception`](super::exception), three times [`paranoid`](super::paranoid), [`nmi`](super::nmi), [`fred`](super::fred).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    Syscall,
    Syscall32,
    Sysenter,
    Int80,
    Stub,
    Debug,
    MachineCheck,
    DoubleFault,
    Nmi,
    Fred,
}

/// A row is a door: name, vectors, entry, IST, whether user mode may open it. Its lines say what it hit: the stack, the state,
/// the hook => the way out. A line that is missing stays [`CLOSED`].
macro_rules! doors {
    ($($name:literal, $vectors:expr, $entry:ident, $ist:expr, $by_user:literal {
        $($hit:ident: $stack:literal, $state:literal, $hook:literal => $way_out:literal;)+
    })*) => {
        &[$(Door {
            name: $name,
            vectors: $vectors,
            entry: Entry::$entry,
            ist: $ist as u8,
            by_user: $by_user,
            $($hit: Path { stack: $stack, state: $state, hook: $hook, way_out: $way_out },)+
            ..CLOSED
        }),*]
    };
}

/// A line that is missing.
const NEVER: Path = Path { stack: "–", state: "–", hook: "–", way_out: "–" };
/// The defaults of a row.
const CLOSED: Door = Door {
    name: "",
    vectors: None,
    entry: Entry::Stub,
    ist: 0,
    by_user: false,
    user: NEVER,
    kernel: NEVER,
    inside: NEVER,
};

/// All doors. The interrupt table is filled from this: of two rows for a vector the later one counts.
///
/// An exception elsewhere in a door than its lines say is a bug of the door, and goes the way of one in the kernel.
pub static TABLE: &[Door] = doors! {
    "SYSCALL", None, Syscall, 0, true {
        user: "thread", "Arrived<Syscall>, InSyscall", "syscall" => "exit work, SYSRET or IRET";
    }
    "SYSCALL from compatibility mode", None, Syscall32, 0, true {
        user: "thread", "Arrived<Syscall32>, InSyscall", "user_word, syscall_32" => "exit work, SYSRET or IRET";
    }
    "SYSENTER", None, Sysenter, 0, true {
        user: "thread", "Arrived<Syscall32>, InSyscall", "user_word, syscall_32" => "exit work, SYSRET or IRET";
    }
    "exceptions", Some((0, 31)), Stub, 0, false {
        user: "thread", "Arrived<Event>, InKernel", "user_exception" => "exit work, IRET";
        kernel: "hit", "Interrupted", "kernel_exception" => "preempt_schedule_irq if due, IRET";
        inside: "thread; at the IRET to user mode only", "Arrived<Event>, InKernel", "user_exception" => "exit work, IRET";
    }
    "INT3, INTO", Some((3, 4)), Stub, 0, true {
        user: "thread", "Arrived<Event>, InKernel", "user_exception" => "exit work, IRET";
        kernel: "hit", "Interrupted", "kernel_exception" => "preempt_schedule_irq if due, IRET";
        inside: "hit", "Interrupted", "kernel_exception" => "IRET";
    }
    "#DB", Some((1, 1)), Debug, Ist::Debug, false {
        user: "thread", "Arrived<Event>, InKernel", "user_exception" => "exit work, IRET";
        kernel: "IST", "NmiContext", "kernel_debug" => "IRET";
        inside: "IST", "NmiContext", "kernel_debug; none for a step into SYSENTER" => "IRET";
    }
    "NMI", Some((2, 2)), Nmi, Ist::Nmi, false {
        user: "thread", "Arrived<Event>, NmiContext", "nmi" => "exit work, IRET";
        kernel: "IST, moved to the working stack", "NmiContext", "nmi; once more for one that comes while it runs" => "IRET";
        inside: "IST, moved to the working stack", "NmiContext", "nmi; once more for one that comes while it runs" => "IRET";
    }
    "#DF", Some((8, 8)), DoubleFault, Ist::DoubleFault, false {
        user: "IST", "NmiContext", "double_fault" => "none";
        kernel: "IST", "NmiContext", "double_fault" => "none";
        inside: "thread; at the IRET to a 16-bit stack only", "Arrived<Event>, InKernel", "user_exception (#GP)" => "exit work, IRET";
    }
    "#MC", Some((18, 18)), MachineCheck, Ist::MachineCheck, false {
        user: "thread", "Arrived<Event>, NmiContext", "machine_check" => "exit work, IRET";
        kernel: "IST", "NmiContext", "machine_check" => "IRET";
        inside: "IST", "NmiContext", "machine_check" => "IRET";
    }
    "interrupts", Some((32, 255)), Stub, 0, false {
        user: "IRQ", "Arrived<Event>, InInterrupt", "interrupt" => "exit work, IRET";
        kernel: "IRQ", "Interrupted, InInterrupt", "interrupt" => "preempt_schedule_irq if due, IRET";
    }
    "INT 0x80", Some((0x80, 0x80)), Int80, 0, true {
        user: "thread", "Arrived<Syscall32>, InSyscall", "syscall_32" => "exit work, IRET";
    }
    "FRED, in the place of all others", None, Fred, 0, true {
        user: "thread; IRQ for interrupts", "as above", "as above" => "exit work, ERETU";
        kernel: "hit; that of a level for #DB, NMI, #MC, #DF; IRQ for interrupts", "as above", "as above" => "as above, ERETS";
        inside: "hit, at the ERETU to user mode only", "none", "none" => "ERETS to the entry for user mode";
    }
};

/// With [`CHECKS`](crate::Machine::CHECKS), first in the Rust halves of the doors from user mode: no user flag affects the kernel. AC
/// does so with SMAP; without SMAP exceptions leave it set, harmlessly.
#[inline(always)]
pub(super) fn check_flags<K: Machine>() {
    if K::CHECKS {
        let now = cpu::rflags();
        let steered = now & (flags::TF | flags::DF | flags::NT) != 0;
        if steered || (now & flags::AC != 0 && cpu::smap_is_on()) {
            K::invariant_broken(Broken::UserFlagsInKernel);
        }
    }
}

#[cfg(test)]
#[path = "../../tests/unit/x86_64/doors.rs"]
pub(super) mod tests;
