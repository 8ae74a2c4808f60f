//! Where the kernel meets the library: what it does with what the doors bring in, and with each kind of exit work.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | see which function a hook of the library calls | here: the traits' implementations, one after the other |
//! | know what becomes of a page fault | [`page_fault`] |
//! | know which interrupt is whose | [`interrupts`] |
//! | go on from a machine check, emulate what UMIP refuses | [`machine_check`], [`umip`] |
//! | let tests cause what hardware does | [`device`] |

pub mod device;
mod interrupts;
pub mod machine_check;
mod page_fault;
pub mod umip;

use alloc::string::String;
use core::arch::{asm, naked_asm};
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use portcullis::die::{Die, Notifier, Verdict, notify_die};
use portcullis::trace::Event;
use portcullis::work::{ExitWork, ExitWorkBits, WorkFlags};
use portcullis::x86_64::{CpuLocal, Doors, Exception, PerCpuContext, Rflags, SavedRegs, UserRegs, fred};
use portcullis::{
    Again, Broken, Diagnostics, ExitHooks, InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Machine, NmiContext,
    Settled, Skip, SyscallHooks,
};
use x86_64::instructions::segmentation::{SS, Segment};
use x86_64::registers::control::{Cr0, Cr4, Efer};

use crate::calls::table64;
use crate::machine::gate::{Gate, violation, violations};
use crate::machine::ipi;
use crate::machine::{cpu, panic, sync};
use crate::memory::address_space::current_mm;
use crate::work::hooks::Hook;
use crate::work::{
    audit, hooks, live_patch, return_notifier, rseq, seccomp, slice_extension, trace_points, uprobe, user_dispatch,
};
use crate::{memory, ptrace, signal, task};

impl Machine for Gate {
    type Regs = UserRegs;
    type SavedRegs = SavedRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;

    fn invariant_broken(broken: Broken) {
        violation(broken);
    }
}

impl Kernel for Gate {
    const EXIT_WORK: ExitWorkBits = ExitWorkBits {
        own_loop: crate::task::syscall_info::VDSO_MOVED.bits() as usize,
        own_once: crate::task::syscall_info::AFTER_CALL.bits() as usize,
        ..ExitWorkBits::DEFAULT
    };

    #[inline(always)]
    fn exit_work() -> usize {
        CpuLocal::exit_word()
    }

    #[inline(always)]
    fn syscall_work() -> usize {
        CpuLocal::syscall_word()
    }

    #[inline(always)]
    fn any_syscall_work() -> bool {
        CpuLocal::any_syscall_work()
    }

    #[inline(always)]
    fn any_work() -> bool {
        CpuLocal::any_work()
    }

    #[inline(always)]
    fn preempt_count() -> usize {
        sync::preempt_count() as usize
    }

    #[inline(always)]
    fn syscall(at: &mut InSyscall<'_, Gate>, _number: i64) {
        table64::do_syscall_64(at.regs());
    }

    #[inline(always)]
    fn syscall_32(at: &mut InSyscall<'_, Gate>, _number: u32) {
        crate::calls::compat::table::do_syscall_32(at.regs());
    }

    #[inline(always)]
    fn compat_call(on: bool) {
        task::current().syscall_info.set_compat(on);
    }
}

impl ExitHooks for Gate {
    fn schedule(at: &mut InKernel<'_, Gate>, work: usize) {
        if !slice_extension::grant(at.saved(), work) {
            crate::sched::scheduler::schedule();
        }
    }

    fn uprobe_notify_resume(at: &mut InKernel<'_, Gate>) {
        hooks::exit_work(Hook::Uprobe, ExitWork::UPROBE, || uprobe::notify_resume(at.regs()));
    }

    fn klp_update_patch_state(_: &mut InKernel<'_, Gate>) {
        hooks::exit_work(Hook::Patch, ExitWork::PATCH_PENDING, live_patch::update_state);
    }

    fn do_signal_or_restart(at: &mut InKernel<'_, Gate>) {
        hooks::as_task(Hook::Signal, || crate::work::signal_delivery::do_signal_or_restart(at));
    }

    fn resume_user_mode_work(at: &mut InKernel<'_, Gate>) {
        hooks::exit_work(Hook::QueuedWork, ExitWork::NOTIFY_RESUME, || {
            rseq::handle_notify_resume(at.regs());
            crate::work::task_work::run();
        });
    }

    fn arch_exit_to_user_mode_work(at: &mut InKernel<'_, Gate>, _work: usize) {
        hooks::exit_work(Hook::Vdso, crate::task::syscall_info::VDSO_MOVED, || {
            crate::task::syscall_info::follow_vdso(at.regs())
        });
    }

    fn rseq_exit_to_user_mode_restart(at: &mut Settled<'_, Gate>) -> Result<(), Again> {
        hooks::settled_work(Hook::Rseq, ExitWork::RSEQ, || rseq::exit_to_user_mode(at.regs()))
    }

    #[inline(always)]
    fn rseq_arm_slice_extension_timer(_: &mut Settled<'_, Gate>) -> Result<(), Again> {
        slice_extension::arm_timer()
    }

    // Not part of the path of calls that need neither.
    #[inline(never)]
    fn fire_user_return_notifiers(_: &mut Settled<'_, Gate>) {
        hooks::settled_work(Hook::UserReturn, ExitWork::USER_RETURN_NOTIFY, return_notifier::fire);
    }

    #[inline(never)]
    fn arch_exit_to_user_mode_once(_: &mut Settled<'_, Gate>, _work: usize) {
        crate::task::syscall_info::leave();
    }

    fn preempt_schedule_irq(_: &mut Interrupted<'_, Gate>) {
        crate::sched::scheduler::preempt_from_interrupt();
    }
}

impl SyscallHooks for Gate {
    fn syscall_user_dispatch(at: &mut InKernel<'_, Gate>) -> bool {
        hooks::syscall_work(Hook::UserDispatch, || user_dispatch::at_entry(at.regs()))
    }

    fn rseq_syscall_enter_work(_: &mut InKernel<'_, Gate>, number: i64) {
        hooks::syscall_work(Hook::SliceExtension, || slice_extension::syscall_enter_work(number));
    }

    fn ptrace_report_syscall_entry(at: &mut InKernel<'_, Gate>) -> Result<(), Skip> {
        hooks::syscall_work(Hook::Ptrace, || ptrace::stop::report_entry(at))
    }

    fn secure_computing(at: &mut InKernel<'_, Gate>) -> Result<(), Skip> {
        hooks::syscall_work(Hook::Seccomp, || seccomp::secure_computing(at.regs()))
    }

    fn trace_sys_enter(_: &mut InKernel<'_, Gate>, number: i64) {
        hooks::syscall_work(Hook::Tracepoint, || trace_points::trace_sys_enter(number));
    }

    fn audit_syscall_entry(at: &mut InKernel<'_, Gate>, number: i64) {
        hooks::syscall_work(Hook::Audit, || audit::syscall_entry(at.saved(), number));
    }

    #[inline(always)]
    fn rseq_syscall(at: &mut InKernel<'_, Gate>) {
        rseq::check_syscall(at.regs());
    }

    fn on_user_dispatch(_: &mut InKernel<'_, Gate>) -> bool {
        hooks::syscall_work(Hook::UserDispatch, user_dispatch::at_exit)
    }

    fn audit_syscall_exit(at: &mut InKernel<'_, Gate>) {
        hooks::syscall_work(Hook::Audit, || audit::syscall_exit(at.saved()));
    }

    fn trace_sys_exit(at: &mut InKernel<'_, Gate>) {
        hooks::syscall_work(Hook::Tracepoint, || trace_points::trace_sys_exit(at.saved()));
    }

    fn ptrace_report_syscall_exit(at: &mut InKernel<'_, Gate>, step: bool) {
        hooks::syscall_work(Hook::Ptrace, || {
            if step {
                ptrace::step::report_syscall(at.saved());
            } else {
                ptrace::stop::report_exit(at);
            }
        });
    }
}

impl Diagnostics for Gate {
    const DIE_CHAIN: &'static [Notifier<UserRegs>] = &[uprobe::notifier];

    #[inline(always)]
    fn trace(event: Event, value: u64) {
        // Two instructions per crossing that only the tests need.
        if cfg!(debug_assertions) && event == Event::ToUser {
            count_way_out(value);
        }
        trace_points::crossing(event, value);
    }

    fn raised_here() -> u32 {
        CpuLocal::with_work(WorkFlags::raised_here)
    }
}

/// Counts the ways out: 0 is IRET, 1 and 2 are SYSRET, 3 is ERETU, which is counted with IRET.
fn count_way_out(way: u64) {
    let is_sysret = matches!(way, 1 | 2);
    let counter = if is_sysret { &COUNTERS.sysrets } else { &COUNTERS.irets };
    counter.fetch_add(1, Relaxed);
    if is_sysret && SS::get_reg().0 == 0 {
        violation("SYSRET with SS null: on AMD's processors the user's would be unusable");
    }
}

impl Doors for Gate {
    const IA32_EMULATION: bool = true;
    const PAGE_TABLE_ISOLATION: bool = memory::isolation::ON;
    const FRED: bool = cfg!(feature = "fred");

    #[inline(always)]
    fn int80_landing_pad() -> u64 {
        current_mm().int80_landing_pad()
    }

    #[inline(always)]
    fn user_word(_: &mut InKernel<'_, Gate>, address: u32) -> Option<u32> {
        memory::user::load_u32_below_4g(address).ok()
    }

    fn user_exception(at: &mut InKernel<'_, Gate>, exception: Exception) {
        let Exception { vector, error, cause, .. } = exception;
        let die = Die {
            vector,
            error: match vector {
                Exception::DB => cause,
                _ => error,
            },
        };
        match vector {
            Exception::BP | Exception::DB if notify_die::<Gate>(at.regs(), die) == Verdict::Handled => {}
            Exception::PF => page_fault::from_user(at, cause, error),
            Exception::DB => ptrace::debug::user_exception(at.regs(), cause),
            Exception::GP
                if umip::emulate(at.regs()) || crate::sched::segments::port_rights::skip_interrupt_flag(at.regs()) => {}
            vector => signal::force_exception(vector, error, at.regs()),
        }
    }

    fn kernel_exception(at: &mut Interrupted<'_, Gate>, exception: Exception) {
        if exception.vector == Exception::PF && page_fault::from_kernel(at, exception.cause, exception.error) {
            return;
        }
        FAULT_RSP.store(at.saved().rsp, Relaxed);
        if !at.fix_up() {
            panic::die_of_exception(at.saved(), exception);
        }
    }

    fn interrupt(at: &mut InInterrupt<'_, Gate>, vector: u8) {
        interrupts::interrupt(vector, at.saved());
    }

    #[inline(always)]
    fn nmi(_: &mut NmiContext<'_, Gate>) {
        COUNTERS.nmis.fetch_add(1, Relaxed);
        enter_nmi_handler();
        panic::nmi();
        leave_nmi_handler();
    }

    fn kernel_debug(at: &mut NmiContext<'_, Gate>, why: u64) {
        /// DR6.BS: a single step.
        const SINGLE_STEP: u64 = 1 << 14;
        COUNTERS.debugs.fetch_add(1, Relaxed);
        fault_if_told();
        if why & SINGLE_STEP != 0 {
            // The library has taken out those that SYSENTER lets in, and the kernel does not step itself.
            Gate::invariant_broken(Broken::UserFlagsInKernel);
            at.end_single_step();
        }
        // Otherwise ignore it: user watchpoints hit by kernel code are not reported.
        ptrace::debug::after_kernel_exception();
    }

    fn machine_check(at: &mut NmiContext<'_, Gate>) {
        machine_check::handle(at.saved());
    }

    fn double_fault(regs: &SavedRegs, address: u64) -> ! {
        let what = if memory::stack::is_guard(address) { "kernel stack overflow" } else { "double fault" };
        panic::die(regs, what)
    }
}

/// What handlers are to do, for the tests.
static IN_HANDLERS: AtomicU32 = AtomicU32::new(0);
/// The next NMI's sends this CPU another one and takes an exception.
const NEST: u32 = 1;
/// Those of NMIs and debug exceptions take a page fault.
const FAULT: u32 = 2;

/// How many of each CPU's NMI handlers are running: more than one never are. With debug assertions.
static NMI_DEPTH: [AtomicU32; cpu::MAX_CPUS] = [const { AtomicU32::new(0) }; cpu::MAX_CPUS];

#[inline(always)]
fn enter_nmi_handler() {
    if cfg!(debug_assertions) && NMI_DEPTH[cpu::id()].fetch_add(1, Relaxed) != 0 {
        COUNTERS.reentered.fetch_add(1, Relaxed);
    }
    if IN_HANDLERS.load(Relaxed) != 0 {
        do_as_told();
    }
}

#[inline(always)]
fn leave_nmi_handler() {
    if cfg!(debug_assertions) {
        NMI_DEPTH[cpu::id()].fetch_sub(1, Relaxed);
    }
}

#[cold]
#[inline(never)]
fn do_as_told() {
    if IN_HANDLERS.fetch_and(!NEST, Relaxed) & NEST != 0 {
        ipi::send_nmi(cpu::id());
        take_an_exception(NON_CANONICAL);
    }
    fault_if_told();
}

fn fault_if_told() {
    if IN_HANDLERS.load(Relaxed) & FAULT != 0 {
        take_an_exception(UNMAPPED);
    }
}

/// Sends a CPU an NMI whose handler sends another one and then takes an exception: its IRET lets the second NMI in
/// while the first is being handled. For `/dev/gate`.
pub fn nest_nmi(cpu: impl FnOnce() -> usize) {
    let _irqs = sync::irqs_off();
    IN_HANDLERS.fetch_or(NEST, Relaxed);
    ipi::send_nmi(cpu());
}

/// Enters the doors of the NMI and of #DB with the kernel's GS and with the user's, as they are entered between SWAPGS and
/// IRET. Not with FRED, which has neither these doors nor SWAPGS. For `/dev/gate`.
pub fn enter_paranoid_doors() {
    let _irqs = sync::irqs_off();
    // SAFETY: INT uses the same gates and stacks as the hardware's NMI and #DB; nothing uses GS in between.
    unsafe { asm!("int 2", "int 1", "swapgs", "int 2", "int 1", "swapgs") }
}

/// Enters the doors of the NMI and of #DB as they are entered between a page fault and the read of CR2, while the handlers take page
/// faults of their own. Not with FRED, where INT is no NMI. For `/dev/gate`.
pub fn compare_cr2() {
    const BEFORE: u64 = 0x1234_5678;
    let after: u64;
    let _irqs = sync::irqs_off();
    IN_HANDLERS.fetch_or(FAULT, Relaxed);
    // SAFETY: as in `enter_paranoid_doors`; CR2 is nobody's: there is no page fault whose address has not been read.
    unsafe {
        asm!("mov cr2, {before}", "int 2", "int 1", "mov {after}, cr2", before = in(reg) BEFORE, after = lateout(reg) after);
    }
    IN_HANDLERS.fetch_and(!FAULT, Relaxed);
    if after != BEFORE {
        violation("another CR2 after an NMI or a debug exception");
    }
}

/// Touches memory that is watched and that the handler of the debug exception touches, too. For `/dev/gate`.
pub fn watch_debug_handler() {
    /// DR7: address 0, writes, eight bytes.
    const WRITES: u64 = 1 | 1 << 16 | 2 << 18;
    let _irqs = sync::irqs_off();
    // SAFETY: what is watched are the counter's eight bytes; in the end nothing is. The current task has nothing watched of
    // its own, or gets it back with the next switch.
    unsafe {
        watch(&raw const COUNTERS.debugs as u64, WRITES);
        COUNTERS.debugs.fetch_add(1, Relaxed);
        watch(0, 0);
    }
}

/// Puts an address in DR0, and what is watched in DR7. The suite `instructions` runs this from a debugger, wherever the kernel
/// is: it uses no stack and changes no other register.
///
/// # Safety
/// Interrupts off; the kernel is ready for what is watched.
#[unsafe(naked)]
unsafe extern "sysv64" fn watch(address: u64, control: u64) {
    naked_asm!("mov dr0, rdi", "mov dr7, rsi", "ret")
}

/// The stack pointer of the last frame of an exception that the kernel took and went on from.
static FAULT_RSP: AtomicU64 = AtomicU64::new(0);

/// Takes an exception, and sees whether the stack pointer in its frame is the one that it had: whatever the CPU's mode, such a
/// frame has one. For `/dev/gate`.
pub fn compare_stack_pointers() {
    let _irqs = sync::irqs_off();
    let actual = take_an_exception(NON_CANONICAL);
    if FAULT_RSP.load(Relaxed) != actual {
        violation("another stack pointer in the frame of an exception");
    }
}

/// An address whose read is a general-protection fault.
const NON_CANONICAL: u64 = 1 << 63;
/// An address whose read is a page fault: interrupts are off, so that nothing is mapped there.
const UNMAPPED: u64 = 8;

/// A fault that goes on at the next instruction. Gives the stack pointer that it had. Interrupts are off.
fn take_an_exception(address: u64) -> u64 {
    let actual;
    // SAFETY: the read faults, and the exception table goes on at 3.
    unsafe {
        asm!(
            "mov {1}, rsp",
            "2: mov {0}, [{0}]",
            "3:",
            ".pushsection portcullis_extable, \"aR\"",
            ".balign 4",
            ".long (2b - .)",
            ".long (3b - .)",
            ".popsection",
            inout(reg) address => _,
            out(reg) actual,
            options(nostack, readonly),
        );
    }
    actual
}

/// What is counted about the gate.
pub struct Counters {
    nmis: AtomicU64,
    /// NMI handlers that were entered while one was running on the same CPU; with debug assertions.
    reentered: AtomicU64,
    /// Debug exceptions that hit the kernel.
    debugs: AtomicU64,
    sysrets: AtomicU64,
    irets: AtomicU64,
}

pub static COUNTERS: Counters = Counters {
    nmis: AtomicU64::new(0),
    reentered: AtomicU64::new(0),
    debugs: AtomicU64::new(0),
    sysrets: AtomicU64::new(0),
    irets: AtomicU64::new(0),
};

/// Writes what `/dev/gate` shows: one `key value` per line. The ways out are counted with debug assertions only.
pub fn status(out: &mut String) {
    for (key, value) in [
        ("violations", violations()),
        ("nmis", COUNTERS.nmis.load(Relaxed)),
        ("debugs", COUNTERS.debugs.load(Relaxed)),
        ("machine_checks", machine_check::survived()),
        ("ipis", cpu::all().map(|cpu| u64::from(cpu.ipis.load(Relaxed))).sum()),
        ("cpus", cpu::count() as u64),
        ("fred", fred::is_on().into()),
        ("percpu_bytes", size_of::<CpuLocal>() as u64),
        ("pertask_bytes", size_of::<WorkFlags>() as u64),
        // Of the CPU that the reader runs on.
        ("cr0", Cr0::read_raw()),
        ("cr4", Cr4::read_raw()),
        ("efer", Efer::read_raw()),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{key} {value}");
    }
    if let Some(stack) = cpu::get(cpu::id()).exception_stack("NMI") {
        // As programs read it.
        let _ = writeln!(out, "nmi_stack {}", stack.start as i64);
        let _ = writeln!(out, "nmi_stack_end {}", stack.end as i64);
    }
    if cfg!(debug_assertions) {
        let _ = writeln!(out, "reentered {}", COUNTERS.reentered.load(Relaxed));
        let _ = writeln!(out, "sysrets {}", COUNTERS.sysrets.load(Relaxed));
        let _ = writeln!(out, "irets {}", COUNTERS.irets.load(Relaxed));
    }
}
