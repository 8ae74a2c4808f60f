//! The smallest kernel on Portcullis: one CPU, one task, one page of user mode. Read it from top to bottom.
#![no_std]
#![no_main]
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use portcullis::work::{ExitWork, WorkFlags};
use portcullis::x86_64::{CpuDescription, CpuLocal, Doors, Exception, PerCpuContext, Rflags, SavedRegs, UserRegs};
use portcullis::x86_64::{first_way_out, init_cpu, tables::Tables};
use portcullis::{Broken, Diagnostics, ExitHooks, InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Machine};
use portcullis::{NmiContext, SyscallHooks};
use portcullis_boot::memory::{self, AddressSpace, Stack};
use portcullis_boot::{SUCCESS, console, exit, println};

global_asm!(include_str!("program.s"), options(att_syntax)); // The user program, and where it sees its page.
const USER_PAGE: u64 = 0x40_0000;

// ---- 1. What the CPU needs: memory for the library's tables, two stacks; what the task needs: its work flags ----
static mut LOCAL: CpuLocal = CpuLocal::new();
static mut TABLES: Tables = Tables::new();
static THREAD_STACK: Stack<16384> = Stack::new();
static IRQ_STACK: Stack<16384> = Stack::new();
static WORK: WorkFlags = WorkFlags::new();
static RESCHEDULED: AtomicU32 = AtomicU32::new(0); // How often `schedule` was called.

// ---- 2. From the boot assembly to user mode ----
portcullis_boot::entry!(start);
fn start() -> ! {
    let (irq_stack_top, thread_stack_top) = (IRQ_STACK.end(), THREAD_STACK.end());
    // SAFETY: one CPU, interrupts off, once, so nobody else uses the statics; the boot tables map the kernel for itself only.
    unsafe {
        let (local, tables) = ((&raw mut LOCAL).as_mut().unwrap(), (&raw mut TABLES).as_mut().unwrap());
        let cpu = CpuDescription { id: 0, local, tables, irq_stack_top, thread_stack_top, work: &WORK, espfix: None };
        init_cpu::<Minimal>(cpu); // Afterwards the doors are open.
    }
    AddressSpace::new().map_programs(USER_PAGE).load();
    println!("kernel: the doors are open");
    // To the top of the thread stack, where the doors would have saved them. The way out, which is jumped to, does exit work.
    let regs = (thread_stack_top as *mut UserRegs).wrapping_sub(1);
    // SAFETY: nobody uses the thread stack; interrupts are off.
    unsafe {
        regs.write(UserRegs::new(USER_PAGE, 0));
        asm!("mov rsp, {}", "jmp {}", in(reg) regs, sym first_way_out::<Minimal>, options(noreturn));
    }
}

// ---- 3. The kernel: system calls, and work on the way out ----
struct Minimal;
#[rustfmt::skip]
impl Machine for Minimal {
    type Regs = UserRegs; // What the library brings along: its registers, STI and CLI, context tracking in `CpuLocal`.
    type SavedRegs = SavedRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;
    fn invariant_broken(broken: Broken) { panic!("invariant broken: {broken}") }
}
#[rustfmt::skip]
impl Kernel for Minimal {
    #[inline] fn exit_work() -> usize { CpuLocal::exit_word() } // `WORK`'s. `any_…` are one instruction each.
    #[inline] fn syscall_work() -> usize { CpuLocal::syscall_word() }
    #[inline] fn any_syscall_work() -> bool { CpuLocal::any_syscall_work() }
    #[inline] fn any_work() -> bool { CpuLocal::any_work() }
    #[inline] fn preempt_count() -> usize { 0 } // Nothing is ever preempted.
    /// Interrupts are on, -ENOSYS is in RAX. This is part of the door's code: what does next to nothing is done here.
    #[inline] fn syscall(at: &mut InSyscall<'_, Self>, number: i64) {
        match number as u32 { 39 => at.regs().rax = 1, number => syscall(at.regs(), number) } // 39 is getpid
    }
}
#[cold]
fn syscall(regs: &mut UserRegs, number: u32) {
    regs.rax = match number {
        1 => write(regs.rsi, regs.rdx).unwrap_or(-14_i64 as u64), // -EFAULT
        24 => raise(ExitWork::NEED_RESCHED), // sched_yield: the way out sees the flag, and calls `schedule`.
        60 => {
            println!("kernel: the program exits with status {}", regs.rdi);
            println!("kernel: schedule was called {} time(s)", RESCHEDULED.load(Relaxed));
            exit(SUCCESS)
        }
        _ => return,
    }
}
/// Raises exit work for the task. This CPU runs it, so that no other one is owed an interrupt.
fn raise(work: ExitWork) -> u64 {
    WORK.raise(work, CpuLocal::raising_cpu).none_owed();
    0
}
/// Shows the user's bytes, from the kernel's own mapping of the page, if that is where they are.
fn write(start: u64, length: u64) -> Option<u64> {
    console::write(memory::programs().get(start.checked_sub(USER_PAGE)? as usize..)?.get(..length as usize)?);
    Some(length)
}
impl ExitHooks for Minimal {
    /// NEED_RESCHED. A hook takes its flag first, otherwise it is called again. There is one task to run.
    fn schedule(_: &mut InKernel<'_, Self>, _work: usize) {
        CpuLocal::with_work(|work| work.take(ExitWork::NEED_RESCHED));
        RESCHEDULED.fetch_add(1, Relaxed);
    }
    /// SIGPENDING. Changing the registers is all that delivering a signal takes; here it steps over the instruction.
    fn do_signal_or_restart(at: &mut InKernel<'_, Self>) {
        CpuLocal::with_work(|work| work.take(ExitWork::SIGPENDING));
        println!("kernel: ud2 in user mode, stepping over it");
        at.regs().rip += 2;
    }
}
impl SyscallHooks for Minimal {} // No tracers, no filters.
impl Diagnostics for Minimal {}

// ---- 4. The doors: exceptions and interrupts ----
#[rustfmt::skip]
impl Doors for Minimal {
    /// Interrupts are on. Like a system call it only notes what is to be done; the way out does it.
    fn user_exception(_: &mut InKernel<'_, Self>, exception: Exception) {
        assert_eq!(exception.vector, Exception::UD, "what the program did: {exception:x?}");
        raise(ExitWork::SIGPENDING);
    }
    fn kernel_exception(at: &mut Interrupted<'_, Self>, it: Exception) { panic!("{it:x?} at {:#x}", at.saved().rip) }
    fn interrupt(_: &mut InInterrupt<'_, Self>, vector: u8) { panic!("interrupt {vector}") }
    fn machine_check(_: &mut NmiContext<'_, Self>) { panic!("machine check") }
    fn double_fault(regs: &SavedRegs, address: u64) -> ! { panic!("double fault at {:#x}: {address:#x}", regs.rip) }
}
portcullis_boot::panic_handler!();
