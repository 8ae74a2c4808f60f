//! What interrupts.rs was: the library has the tables and the handlers' entries, and calls what is here.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use portcullis::work::{ExitWork, WorkFlags};
use portcullis::x86_64::{CpuDescription, CpuLocal, Doors, Exception, PerCpuContext, Rflags, SavedRegs, UserRegs};
use portcullis::x86_64::{init_cpu, tables::Tables};
use portcullis::{Broken, Diagnostics, ExitHooks, InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Machine};
use portcullis::{NmiContext, SyscallHooks};

use crate::devices::{TIMER, exit, interrupted};
use crate::{println, user};

#[repr(align(16))]
struct Stack(#[expect(dead_code, reason = "used by its address")] [u8; 16384]);

static mut LOCAL: CpuLocal = CpuLocal::new();
static mut TABLES: Tables = Tables::new();
static mut IRQ_STACK: Stack = Stack([0; 16384]);
static mut THREAD_STACK: Stack = Stack([0; 16384]);
static WORK: WorkFlags = WorkFlags::new();

/// Where the doors save the user's registers.
pub fn thread_stack_top() -> u64 {
    (&raw const THREAD_STACK).wrapping_add(1) as u64
}

pub fn init() {
    let irq_stack_top = (&raw const IRQ_STACK).wrapping_add(1) as u64;
    let thread_stack_top = thread_stack_top();
    // SAFETY: one CPU, interrupts off, once, so that nobody else uses the statics. The bootloader maps the kernel for itself only.
    unsafe {
        let (local, tables) = ((&raw mut LOCAL).as_mut().unwrap(), (&raw mut TABLES).as_mut().unwrap());
        let cpu = CpuDescription { id: 0, local, tables, irq_stack_top, thread_stack_top, work: &WORK, espfix: None };
        init_cpu::<BlogOs>(cpu);
    }
}

pub struct BlogOs;

impl Machine for BlogOs {
    type Regs = UserRegs;
    type SavedRegs = SavedRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;
    fn invariant_broken(broken: Broken) {
        panic!("invariant broken: {broken}")
    }
}

impl Doors for BlogOs {
    fn kernel_exception(at: &mut Interrupted<'_, Self>, it: Exception) {
        match it.vector {
            Exception::BP => println!("kernel: a breakpoint"),
            _ => panic!("{it:x?} at {:#x}", at.saved().rip),
        }
    }
    fn double_fault(regs: &SavedRegs, _: u64) -> ! {
        panic!("double fault at {:#x}", regs.rip)
    }
    fn interrupt(_: &mut InInterrupt<'_, Self>, vector: u8) {
        interrupted(vector);
        if vector == TIMER {
            raise(ExitWork::NEED_RESCHED);
        }
    }
    fn user_exception(_: &mut InKernel<'_, Self>, it: Exception) {
        FAULT.store(it.vector.into(), Relaxed);
        raise(ExitWork::SIGPENDING);
    }
    fn machine_check(_: &mut NmiContext<'_, Self>) {
        panic!("machine check")
    }
}

impl Kernel for BlogOs {
    fn exit_work() -> usize {
        CpuLocal::exit_word()
    }
    fn syscall_work() -> usize {
        CpuLocal::syscall_word()
    }
    fn preempt_count() -> usize {
        0
    }
    fn syscall(at: &mut InSyscall<'_, Self>, number: i64) {
        user::call(at.regs(), number);
    }
}
impl SyscallHooks for BlogOs {}
impl Diagnostics for BlogOs {}

/// The exception that the program owes its end.
static FAULT: AtomicU32 = AtomicU32::new(0);

/// Asks for work on the way to user mode. This CPU runs the task, so that no other one is owed an interrupt.
fn raise(work: ExitWork) {
    WORK.raise(work, CpuLocal::raising_cpu).none_owed();
}

impl ExitHooks for BlogOs {
    /// NEED_RESCHED.
    fn schedule(at: &mut InKernel<'_, Self>, _work: usize) {
        CpuLocal::with_work(|work| work.take(ExitWork::NEED_RESCHED));
        at.regs().r12 += 1;
    }
    /// SIGPENDING.
    fn do_signal_or_restart(_: &mut InKernel<'_, Self>) {
        CpuLocal::with_work(|work| work.take(ExitWork::SIGPENDING));
        println!("kernel: exception {} ends the program", FAULT.load(Relaxed));
        exit(0x10)
    }
}
