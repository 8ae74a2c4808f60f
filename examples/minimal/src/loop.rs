//! The same kernel, written as a loop: `user.run()` comes back with what the program does, and the loop answers.
//!
//! The hooks of the library only go back to the loop ([`UserContext::called`], [`UserContext::came_in`]). The exit work is done when the loop runs the
//! user again, by the same way out: `main.rs` and this differ in style only.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use portcullis::work::{ExitWork, WorkFlags};
use portcullis::x86_64::tables::Tables;
use portcullis::x86_64::{
    CpuDescription, CpuLocal, Doors, Exception, PerCpuContext, Rflags, SavedRegs, UserRegs, init_cpu,
};
use portcullis::{
    Broken, Diagnostics, ExitHooks, InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Machine, NmiContext,
    SyscallHooks,
};
use portcullis_boot::memory::{self, AddressSpace, Stack};
use portcullis_boot::{SUCCESS, console, exit, println};
use portcullis_user_loop::{UserContext, UserLoop};

core::arch::global_asm!(include_str!("program.s"), options(att_syntax));
/// Where the user program sees its page.
const USER_PAGE: u64 = 0x40_0000;

static mut LOCAL: CpuLocal = CpuLocal::new();
static mut TABLES: Tables = Tables::new();
static THREAD_STACK: Stack<16384> = Stack::new();
static IRQ_STACK: Stack<16384> = Stack::new();
static WORK: WorkFlags = WorkFlags::new();
/// How often `schedule` was called.
static RESCHEDULED: AtomicU32 = AtomicU32::new(0);

portcullis_boot::entry!(start);

/// On the boot stack, which is the loop's.
fn start() -> ! {
    let (local, tables) = (&raw mut LOCAL, &raw mut TABLES);
    // SAFETY: one CPU, interrupts off, called once, so nobody else uses the statics.
    let mut user = unsafe {
        let user = UserContext::<Looping>::new(THREAD_STACK.end(), UserRegs::new(USER_PAGE, 0));
        init_cpu::<Looping>(CpuDescription {
            id: 0,
            local: &mut *local,
            tables: &mut *tables,
            irq_stack_top: IRQ_STACK.end(),
            thread_stack_top: user.thread_stack_top(),
            work: &WORK,
            espfix: None,
        });
        user
    };
    AddressSpace::new().map_programs(USER_PAGE).load();
    // SAFETY: the doors are open.
    unsafe { core::arch::asm!("sti") };
    println!("kernel: the doors are open");
    loop {
        // SAFETY: the only task there is.
        let event = unsafe { user.run() };
        let regs = user.regs();
        match event {
            Event::Syscall(GETPID) => regs.rax = 1,
            Event::Syscall(number) => syscall(regs, number),
            Event::Exception(exception) => user_exception(regs, exception),
        }
    }
}

/// A call that does next to nothing is made in the loop, the others are called.
const GETPID: i64 = 39;

#[cold]
fn syscall(regs: &mut UserRegs, number: i64) {
    match number {
        1 => {
            const EFAULT: i64 = 14;
            regs.rax = user_bytes(regs.rsi, regs.rdx).map_or(-EFAULT as u64, |bytes| {
                console::write(bytes);
                regs.rdx
            });
        }
        24 => {
            // The way out, in `run`, sees the flag and calls `schedule`.
            WORK.raise(ExitWork::NEED_RESCHED, CpuLocal::raising_cpu).none_owed();
            regs.rax = 0;
        }
        60 => {
            println!("kernel: the program exits with status {}", regs.rdi);
            println!("kernel: schedule was called {} time(s)", RESCHEDULED.load(Relaxed));
            exit(SUCCESS);
        }
        // -ENOSYS is in RAX.
        _ => {}
    }
}

/// The user's bytes, in the kernel's own mapping of the page, if that is where they are.
fn user_bytes(start: u64, length: u64) -> Option<&'static [u8]> {
    memory::programs().get(start.checked_sub(USER_PAGE)? as usize..)?.get(..length as usize)
}

#[cold]
fn user_exception(regs: &mut UserRegs, exception: Exception) {
    match exception.vector {
        Exception::UD => {
            println!("kernel: ud2 in user mode, stepping over it");
            regs.rip += 2;
        }
        vector => panic!("the program was killed by exception {vector} at {:#x}", regs.rip),
    }
}

/// What the loop is told.
enum Event {
    Syscall(i64),
    Exception(Exception),
}

struct Looping;

// SAFETY: the only task enters user mode by `run`.
unsafe impl UserLoop for Looping {
    type Event = Event;
}

impl Machine for Looping {
    type Regs = UserRegs;
    type SavedRegs = SavedRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;
    fn invariant_broken(broken: Broken) {
        panic!("invariant broken: {broken}");
    }
}

impl Kernel for Looping {
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
    #[inline]
    fn preempt_count() -> usize {
        0
    }
    #[inline]
    fn syscall(at: &mut InSyscall<'_, Self>, number: i64) {
        UserContext::<Looping>::called(at, Event::Syscall(number))
    }
}

impl ExitHooks for Looping {
    fn schedule(_: &mut InKernel<'_, Self>, _work: usize) {
        CpuLocal::with_work(|work| work.take(ExitWork::NEED_RESCHED));
        RESCHEDULED.fetch_add(1, Relaxed);
    }
}
impl SyscallHooks for Looping {}
impl Diagnostics for Looping {}

impl Doors for Looping {
    fn user_exception(at: &mut InKernel<'_, Self>, exception: Exception) {
        UserContext::<Looping>::came_in(at, Event::Exception(exception))
    }
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

portcullis_boot::panic_handler!();
