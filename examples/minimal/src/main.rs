//! The smallest kernel on Portcullis: one CPU, one task, one page of user mode.
//!
//! Read it from top to bottom. `start` sets the CPU up and enters user mode; from then on the library's doors bring in
//! whatever the program does, and call the traits below: [`Kernel`] for system calls, [`ExitHooks`] for exit work, [`Doors`] for
//! exceptions and interrupts.
#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use portcullis::work::{ExitWork, WorkFlags};
use portcullis::x86_64::tables::Tables;
use portcullis::x86_64::{
    CpuDescription, CpuLocal, Doors, Exception, PerCpuContext, Rflags, SavedRegs, UserRegs, first_way_out, init_cpu,
};
use portcullis::{
    Broken, Diagnostics, ExitHooks, InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Machine, NmiContext,
    SyscallHooks,
};

mod machine;
use machine::{Stack, power_off, println};

// ---- 1. What the CPU needs: memory for the library's tables, two stacks, the task's work flags ----

static mut LOCAL: CpuLocal = CpuLocal::new();
static mut TABLES: Tables = Tables::new();
static mut THREAD_STACK: Stack = Stack::new();
static mut IRQ_STACK: Stack = Stack::new();
/// The exit-work and syscall-work flags. A kernel with more tasks has one in each.
static WORK: WorkFlags = WorkFlags::new();

// ---- 2. From the boot assembly to user mode ----

/// The boot assembly calls this: 64-bit mode, interrupts off, boot stack.
#[unsafe(no_mangle)]
extern "C" fn start() -> ! {
    let thread_stack_top = Stack::end(&raw const THREAD_STACK);
    let (local, tables) = (&raw mut LOCAL, &raw mut TABLES);
    machine::mask_interrupts();
    // SAFETY: one CPU, interrupts off, called once, so nobody else uses the statics. The boot tables map the kernel
    // for the supervisor only.
    unsafe {
        // Segments, IDT, MSRs, protection: after this the doors are open and the context is KERNEL.
        init_cpu::<Minimal>(CpuDescription {
            id: 0,
            local: &mut *local,
            tables: &mut *tables,
            irq_stack_top: Stack::end(&raw const IRQ_STACK),
            thread_stack_top,
            work: &WORK,
            espfix: None,
        });
        machine::map_user_page();
        println!("kernel: the doors are open");

        // What user mode starts with goes to the top of the thread stack, where the doors would have saved it.
        let regs = (thread_stack_top as *mut UserRegs).sub(1);
        regs.write(machine::user_registers());
        // Not called but jumped to. It does any exit work first, as every way out does.
        asm!("mov rsp, {}", "jmp {}", in(reg) regs, sym first_way_out::<Minimal>, options(noreturn));
    }
}

// ---- 3. The kernel: system calls, and work on the way out ----

struct Minimal;

/// How often `schedule` was called.
static RESCHEDULED: AtomicU32 = AtomicU32::new(0);
/// The exception that SIGPENDING is about.
static SIGNAL: AtomicU8 = AtomicU8::new(0);

impl Machine for Minimal {
    // What the library brings along: its registers, STI and CLI, context tracking in `CpuLocal`.
    type Regs = UserRegs;
    type SavedRegs = SavedRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;

    fn invariant_broken(broken: Broken) {
        panic!("invariant broken: {broken}");
    }
}

impl Kernel for Minimal {
    // The flags are in `WorkFlags`; which task's, the library knows from `init_cpu`.
    #[inline]
    fn exit_work() -> usize {
        CpuLocal::exit_word()
    }
    #[inline]
    fn syscall_work() -> usize {
        CpuLocal::syscall_word()
    }
    // Two tests of one instruction each for a call that needs none of it.
    #[inline]
    fn any_syscall_work() -> bool {
        CpuLocal::any_syscall_work()
    }
    #[inline]
    fn any_work() -> bool {
        CpuLocal::any_work()
    }
    // Nothing is ever preempted here.
    #[inline]
    fn preempt_count() -> usize {
        0
    }

    /// A system call: interrupts are on, the arguments are in the registers, -ENOSYS is in RAX. This is part of the door's code: a
    /// call that does next to nothing is made here, the others are called.
    #[inline]
    fn syscall(at: &mut InSyscall<'_, Self>, number: i64) {
        const GETPID: u32 = 39;
        let regs = at.regs();
        match number as u32 {
            GETPID => regs.rax = 1,
            number => other_syscall(regs, number),
        }
    }
}

/// Cold: it does not have to lie in the door's way.
#[cold]
fn other_syscall(regs: &mut UserRegs, number: u32) {
    match number {
        1 => regs.rax = machine::write(regs.rsi, regs.rdx) as u64,
        24 => {
            // Only the flag is raised: the way out sees it and calls `schedule`.
            raise(ExitWork::NEED_RESCHED);
            regs.rax = 0;
        }
        60 => {
            println!("kernel: the program exits with status {}", regs.rdi);
            println!("kernel: schedule was called {} time(s)", RESCHEDULED.load(Relaxed));
            power_off(machine::SUCCESS);
        }
        _ => {}
    }
}

impl ExitHooks for Minimal {
    /// NEED_RESCHED. A hook takes its flag first, otherwise it is called again.
    fn schedule(_: &mut InKernel<'_, Self>, _work: usize) {
        CpuLocal::with_work(|work| work.take(ExitWork::NEED_RESCHED));
        // There is only one task to run.
        RESCHEDULED.fetch_add(1, Relaxed);
    }

    /// SIGPENDING. Changing the registers is all that delivering a signal takes; here it steps over the instruction.
    fn do_signal_or_restart(at: &mut InKernel<'_, Self>) {
        CpuLocal::with_work(|work| work.take(ExitWork::SIGPENDING));
        let (regs, vector) = (at.regs(), SIGNAL.load(Relaxed));
        if vector != Exception::UD {
            panic!("the program was killed by exception {vector} at {:#x}", regs.rip);
        }
        println!("kernel: ud2 in user mode, stepping over it");
        regs.rip += 2;
    }
}

// No tracers, no filters, no trace.
impl SyscallHooks for Minimal {}
impl Diagnostics for Minimal {}

/// Raises exit work for the task. It runs on this CPU, so that no other one is owed an interrupt.
fn raise(work: ExitWork) {
    WORK.raise(work, CpuLocal::raising_cpu).none_owed();
}

// ---- 4. The doors: exceptions and interrupts ----

impl Doors for Minimal {
    /// Interrupts are on. Like a system call it only notes what is to be done; the way out does it.
    fn user_exception(_: &mut InKernel<'_, Self>, exception: Exception) {
        SIGNAL.store(exception.vector, Relaxed);
        raise(ExitWork::SIGPENDING);
    }

    // No kernel code here may fault, and no interrupt is unmasked.
    fn kernel_exception(at: &mut Interrupted<'_, Self>, exception: Exception) {
        panic!("{exception:x?} in the kernel at {:#x}", at.saved().rip);
    }
    fn interrupt(_: &mut InInterrupt<'_, Self>, vector: u8) {
        panic!("interrupt {vector}");
    }
    fn machine_check(_: &mut NmiContext<'_, Self>) {
        panic!("machine check");
    }
    fn double_fault(regs: &SavedRegs, address: u64) -> ! {
        panic!("double fault at {:#x}, address {address:#x}", regs.rip);
    }
}
