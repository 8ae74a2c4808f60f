//! A preemptive kernel on Portcullis: two CPUs, tasks, exit work of its own, upcalls, a tracer. README.md builds it up.
#![no_std]
#![no_main]

mod calls;
mod tasks;

use core::sync::atomic::Ordering::Relaxed;

use portcullis::idle::idle;
use portcullis::work::{ExitWork, ExitWorkBits};
use portcullis::x86_64::{CpuDescription, CpuLocal, Doors, Exception, PerCpuContext, Rflags, SavedRegs, UserRegs};
use portcullis::x86_64::{halt::wait_for_interrupt, init_cpu, tables::Tables};
use portcullis::{Broken, Diagnostics, ExitHooks, InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Machine};
use portcullis::{NmiContext, Skip, SyscallHooks};
use portcullis_boot::memory::{AddressSpace, PAGE_SIZE, Stack};
use portcullis_boot::{lapic, println, smp};
use tasks::{CPUS, READY, STACKS, TASKS, current, locked, switch};

core::arch::global_asm!(include_str!("programs.s"), options(att_syntax));
portcullis_boot::entry!(boot_cpu);
portcullis_boot::panic_handler!();

static mut LOCALS: [CpuLocal; CPUS] = [const { CpuLocal::new() }; CPUS];
static mut TABLES: [Tables; CPUS] = [const { Tables::new() }; CPUS];
static IRQ_STACKS: [Stack<16384>; CPUS] = [const { Stack::new() }; CPUS];

const TIMER: u8 = 32;
const RESCHEDULE: u8 = 33;
const TICK: u32 = 1_000_000; // nanoseconds, as QEMU's local APICs count

/// Where user mode sees the programs, a page of data, and its stacks, each with a page before it that is not mapped.
const PROGRAMS: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;
fn user_stack_end(task: usize) -> u64 {
    0x60_0000 + 2 * PAGE_SIZE * (task as u64 + 1)
}

/// Opens the doors of this CPU, and starts its timer.
fn init(cpu: usize) {
    let (irq_stack_top, thread_stack_top, work) = (IRQ_STACKS[cpu].end(), STACKS[cpu].end(), &TASKS[cpu].work);
    // SAFETY: once on each CPU, interrupts off; nobody else uses the elements. The boot tables keep user mode out.
    unsafe {
        let (local, tables) = ((&raw mut LOCALS[cpu]).as_mut().unwrap(), (&raw mut TABLES[cpu]).as_mut().unwrap());
        let (id, espfix) = (cpu as u32, None);
        init_cpu::<Preemptive>(CpuDescription { id, local, tables, irq_stack_top, thread_stack_top, work, espfix });
    }
    lapic::start_timer(TIMER, TICK);
}

fn boot_cpu() -> ! {
    init(0);
    let mut space = AddressSpace::new();
    space.map_programs(PROGRAMS).map_zeroed(DATA, 1);
    for task in CPUS..TASKS.len() {
        space.map_zeroed(user_stack_end(task) - PAGE_SIZE, 1);
    }
    space.load();
    let others = smp::start(&STACKS[1..CPUS], |cpu| {
        init(cpu as usize);
        idle_loop()
    });
    println!("kernel: CPUs: {}", 1 + others);
    tasks::spawn(PROGRAMS, 0, 0, false);
    idle_loop()
}

/// The CPU's idle task. Interrupts are off, but while it waits.
fn idle_loop() -> ! {
    loop {
        locked(|| switch(READY));
        // SAFETY: the idle task, interrupts off, nothing held.
        unsafe {
            idle::<Preemptive>(|| core::arch::asm!("call {}; cli", sym wait_for_interrupt, clobber_abi("C")));
        }
    }
}

struct Preemptive;

#[rustfmt::skip]
impl Machine for Preemptive {
    type Regs = UserRegs; type SavedRegs = SavedRegs;
    type Irqs = Rflags; type Context = PerCpuContext;
    fn invariant_broken(broken: Broken) { panic!("invariant broken: {broken}") }
}

/// Exit work of the kernel's own: the task has used up its ticks.
const OVER_QUOTA: ExitWork = ExitWork::from_bits(1 << 16);

#[rustfmt::skip]
impl Kernel for Preemptive {
    const EXIT_WORK: ExitWorkBits = ExitWorkBits { own_loop: OVER_QUOTA.bits() as usize, ..ExitWorkBits::DEFAULT };
    fn exit_work() -> usize { CpuLocal::exit_word() }   fn syscall_work() -> usize { CpuLocal::syscall_word() }
    fn preempt_count() -> usize { 0 } // The kernel's own code is not preempted.
    fn syscall(at: &mut InSyscall<'_, Self>, number: i64) {
        at.regs().rax = calls::call(at.regs(), number).unwrap_or(u64::MAX);
    }
}

/// Raises exit work for a task, wherever it runs. The interrupt's arrival is enough.
fn raise(task: usize, work: ExitWork) {
    TASKS[task].work.raise(work, CpuLocal::raising_cpu).send(|cpu| smp::send(cpu, RESCHEDULE));
}

impl ExitHooks for Preemptive {
    fn schedule(_: &mut InKernel<'_, Self>, _work: usize) {
        CpuLocal::with_work(|work| work.take(ExitWork::NEED_RESCHED));
        tasks::SCHEDULED.fetch_add(1, Relaxed);
        locked(|| switch(READY));
    }
    fn arch_exit_to_user_mode_work(_: &mut InKernel<'_, Self>, _work: usize) {
        CpuLocal::with_work(|work| work.take(OVER_QUOTA));
        tasks::stop(1);
    }
    fn do_signal_or_restart(at: &mut InKernel<'_, Self>) {
        CpuLocal::with_work(|work| work.take(ExitWork::SIGPENDING));
        calls::upcall(at.regs());
    }
}

#[rustfmt::skip]
impl SyscallHooks for Preemptive {
    fn ptrace_report_syscall_entry(at: &mut InKernel<'_, Self>) -> Result<(), Skip> { stop_at_call(at, 2); Ok(()) }
    fn ptrace_report_syscall_exit(at: &mut InKernel<'_, Self>, _step: bool) { stop_at_call(at, 3) }
}

/// Stops the task, and lends its registers to its tracer.
fn stop_at_call(at: &mut InKernel<'_, Preemptive>, why: u32) {
    let lent = at.lend_regs();
    TASKS[current()].regs.store(lent.as_ptr().as_ptr(), Relaxed);
    tasks::stop(why);
}

impl Diagnostics for Preemptive {}

#[rustfmt::skip]
impl Doors for Preemptive {
    fn user_exception(_: &mut InKernel<'_, Self>, it: Exception) { calls::notify(current(), 100 + it.vector as u64) }
    fn kernel_exception(at: &mut Interrupted<'_, Self>, it: Exception) { assert!(at.fix_up(), "{it:x?} in the kernel") }
    fn interrupt(_: &mut InInterrupt<'_, Self>, vector: u8) {
        if vector == TIMER { tick(current()) }
        if vector != lapic::SPURIOUS { lapic::end_of_interrupt() }
    }
    fn machine_check(_: &mut NmiContext<'_, Self>) { panic!("machine check") }
    fn double_fault(regs: &SavedRegs, address: u64) -> ! { panic!("double fault at {:#x}: {address:#x}", regs.rip) }
}

/// On each tick of a CPU's timer, for the task that runs there.
fn tick(task: usize) {
    let quota = &TASKS[task].quota;
    if quota.load(Relaxed) != 0 && quota.fetch_sub(1, Relaxed) == 1 {
        raise(task, OVER_QUOTA);
    }
    raise(task, ExitWork::NEED_RESCHED);
}
