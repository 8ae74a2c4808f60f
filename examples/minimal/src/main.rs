//! The smallest kernel on Portcullis: one CPU, one task, one page of user mode.
//!
//! Read it from top to bottom. `start` sets the CPU up and enters user mode; from then on the library's doors bring in
//! whatever the program does, and call the two traits below: [`Kernel`] for system calls and exit work, [`Doors`] for
//! exceptions and interrupts.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use portcullis::work::{ExitWork, TaskWork};
use portcullis::x86_64::regs::flags;
use portcullis::x86_64::tables::{Tables, USER_CS, USER_DS};
use portcullis::x86_64::{
    CpuDescription, CpuLocal, Doors, Exception, PerCpuContext, Rflags, UserRegs, clac_asm, first_way_out,
    init_cpu, stac_asm,
};
use portcullis::{Broken, InInterrupt, InKernel, InSyscall, Interrupted, Kernel, Nmi};

mod qemu;
use qemu::{Debugcon, FAILURE, SUCCESS, out, power_off, println};

global_asm!(include_str!("boot.s"), options(att_syntax));
global_asm!(include_str!("program.s"), options(att_syntax));

// ---- 1. What the CPU needs: memory for the library's tables, two stacks, the task's work flags ----

/// Where the image is linked, less where it is loaded (kernel.ld, boot.s).
const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
const PAGE_SIZE: u64 = 4096;
/// Where the user program sees its page.
const USER_PAGE: u64 = 0x40_0000;
const STACK_SIZE: usize = 16384;

#[repr(C, align(4096))]
struct Stack([u8; STACK_SIZE]);
#[repr(C, align(4096))]
struct PageTable([u64; 512]);

static mut LOCAL: CpuLocal = CpuLocal::new();
static mut TABLES: Tables = Tables::new();
static mut THREAD_STACK: Stack = Stack([0; STACK_SIZE]);
static mut USER_TABLES: [PageTable; 3] = [const { PageTable([0; 512]) }; 3];
/// The exit-work and syscall-work flags. A kernel with more tasks has one in each.
static WORK: TaskWork = TaskWork::new();

unsafe extern "C" {
    static mut boot_pml4: PageTable;
    static boot_stack_top: u8;
    static user_program: u8;
}

// ---- 2. From the boot assembly to user mode ----

/// The boot assembly calls this: 64-bit mode, interrupts off, boot stack.
#[unsafe(no_mangle)]
extern "C" fn start() -> ! {
    let thread_stack_top = (&raw const THREAD_STACK) as u64 + STACK_SIZE as u64;
    let (local, tables) = (&raw mut LOCAL, &raw mut TABLES);
    // SAFETY: one CPU, interrupts off, called once, so nobody else uses the statics. The boot tables map the kernel
    // for the supervisor only. Once user mode has been entered the boot stack is free to be the IRQ stack.
    unsafe {
        // No driver handles interrupts here: both interrupt controllers are masked.
        out(0x21, 0xff);
        out(0xa1, 0xff);
        // Segments, IDT, MSRs, protection: after this the doors are open and the context is KERNEL.
        init_cpu::<Minimal>(CpuDescription {
            id: 0,
            local: &mut *local,
            tables: &mut *tables,
            irq_stack_top: &raw const boot_stack_top as u64,
            thread_stack_top,
            work: &WORK,
            espfix: None,
        });
        WORK.switch_in(0);
        map_user_page(&raw const user_program as u64 - KERNEL_BASE);
        println!("kernel: the doors are open");

        // What user mode starts with goes to the top of the thread stack, where the doors would have saved it.
        let regs = (thread_stack_top as *mut UserRegs).sub(1);
        regs.write(UserRegs {
            rip: USER_PAGE,
            cs: USER_CS.into(),
            ss: USER_DS.into(),
            rflags: flags::FIXED | flags::IF,
            orig_rax: UserRegs::NO_SYSCALL,
            ..UserRegs::default()
        });
        // Not called but jumped to. It does any exit work first, as every way out does.
        asm!("mov rsp, {}", "jmp {}", in(reg) regs, sym first_way_out::<Minimal>, options(noreturn));
    }
}

/// Maps the frame at USER_PAGE, for the user to read and execute. It takes the place of the boot assembly's mapping of
/// low addresses, so that there is nothing else below the kernel.
///
/// # Safety
/// Once, after `init_cpu`: until then the CPU uses the boot GDT by its low address.
unsafe fn map_user_page(frame: u64) {
    const PRESENT: u64 = 1 << 0;
    const WRITABLE: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    let index = |level: u32| (USER_PAGE >> (12 + 9 * level)) as usize & 511;
    // SAFETY: the tables are this function's alone, and lie in the image, whose physical address is known.
    unsafe {
        let mut table = &raw mut boot_pml4;
        for level in [3, 2, 1] {
            let next = &raw mut USER_TABLES[level as usize - 1];
            (*table).0[index(level)] = (next as u64 - KERNEL_BASE) | PRESENT | WRITABLE | USER;
            table = next;
        }
        (*table).0[index(0)] = frame | PRESENT | USER;
        // Forget the old mapping.
        asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack));
    }
}

// ---- 3. The kernel: system calls, and work on the way out ----

struct Minimal;

/// How often `schedule` was called.
static RESCHEDULED: AtomicU32 = AtomicU32::new(0);
/// The exception that SIGPENDING is about.
static SIGNAL: AtomicU8 = AtomicU8::new(0);

impl Kernel for Minimal {
    // What the library brings along: its registers, STI and CLI, context tracking in `CpuLocal`.
    type Regs = UserRegs;
    type Irqs = Rflags;
    type Context = PerCpuContext;

    // The flags are in `TaskWork`; which task's, the library knows from `init_cpu`.
    fn exit_work() -> usize {
        CpuLocal::work().exit_word()
    }
    fn syscall_work() -> usize {
        CpuLocal::work().syscall_word()
    }
    // Nothing is ever preempted here.
    fn preempt_count() -> usize {
        0
    }

    /// A system call: interrupts are on, the arguments are in the registers, -ENOSYS is in RAX.
    fn syscall(at: &mut InSyscall<'_, UserRegs>, number: i64) {
        let regs = at.regs();
        match number {
            1 => regs.rax = write(regs.rsi, regs.rdx) as u64,
            24 => {
                // Only the flag is raised: the way out sees it and calls `schedule`.
                raise(ExitWork::NEED_RESCHED);
                regs.rax = 0;
            }
            60 => {
                println!("kernel: the program exits with status {}", regs.rdi);
                println!(
                    "kernel: schedule was called {} time(s)",
                    RESCHEDULED.load(Relaxed)
                );
                power_off(SUCCESS);
            }
            _ => {}
        }
    }

    /// NEED_RESCHED. A hook takes its flag first, otherwise it is called again.
    fn schedule(_: &mut InKernel<'_, UserRegs>) {
        CpuLocal::work().take(ExitWork::NEED_RESCHED);
        // There is only one task to run.
        RESCHEDULED.fetch_add(1, Relaxed);
    }

    /// SIGPENDING. Changing the registers is all that delivering a signal takes; here it steps over the instruction.
    fn do_signal_or_restart(at: &mut InKernel<'_, UserRegs>) {
        CpuLocal::work().take(ExitWork::SIGPENDING);
        let (regs, vector) = (at.regs(), SIGNAL.load(Relaxed));
        if vector != Exception::UD {
            panic!("the program was killed by exception {vector} at {:#x}", regs.rip);
        }
        println!("kernel: ud2 in user mode, stepping over it");
        regs.rip += 2;
    }

    fn invariant_broken(broken: Broken) {
        panic!("invariant broken: {broken:?}");
    }
}

/// Raises exit work for the task. It runs on this CPU, so that no other one is owed an interrupt.
fn raise(work: ExitWork) {
    let owed = WORK.raise(work, CpuLocal::this().id());
    debug_assert!(owed.is_none());
}

/// Shows the user's bytes: how many, or -EFAULT if they are not all in the user's page.
fn write(start: u64, length: u64) -> i64 {
    const EFAULT: i64 = 14;
    let mut buffer = [0u8; PAGE_SIZE as usize];
    if start < USER_PAGE || length > PAGE_SIZE || start - USER_PAGE > PAGE_SIZE - length {
        return -EFAULT;
    }
    // SAFETY: the source is in the user's page, which is mapped, and the buffer is as large. STAC and CLAC allow the
    // access in between, on CPUs that have SMAP.
    unsafe {
        asm!(stac_asm!(), "rep movsb", clac_asm!(),
            inout("rsi") start => _, inout("rdi") buffer.as_mut_ptr() => _, inout("rcx") length => _,
            options(nostack));
    }
    buffer[..length as usize]
        .iter()
        .for_each(|&byte| Debugcon::put(byte));
    length as i64
}

// ---- 4. The doors: exceptions and interrupts ----

impl Doors for Minimal {
    /// Interrupts are on. Like a system call it only notes what is to be done; the way out does it.
    fn user_exception(_: &mut InKernel<'_, UserRegs>, exception: Exception) {
        SIGNAL.store(exception.vector, Relaxed);
        raise(ExitWork::SIGPENDING);
    }

    // No kernel code here may fault, and no interrupt is unmasked.
    fn kernel_exception(at: &mut Interrupted<'_, UserRegs>, exception: Exception) {
        panic!("{exception:x?} in the kernel at {:#x}", at.regs().rip);
    }
    fn interrupt(_: &mut InInterrupt<'_, UserRegs>, vector: u8) {
        panic!("interrupt {vector}");
    }
    fn machine_check(_: &mut Nmi<'_, UserRegs>) {
        panic!("machine check");
    }
    fn double_fault(regs: &UserRegs, address: u64) -> ! {
        panic!("double fault at {:#x}, address {address:#x}", regs.rip);
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    println!("kernel: {info}");
    power_off(FAILURE)
}
