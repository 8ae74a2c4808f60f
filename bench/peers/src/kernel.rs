//! What the two kernels on Portcullis have in common.

use portcullis::work::WorkFlags;
use portcullis::x86_64::tables::Tables;
use portcullis::x86_64::{CpuDescription, CpuLocal, Doors, init_cpu};

use portcullis_boot::memory::Stack;

/// Implements the library's traits for a kernel that has no hooks and no devices.
macro_rules! smallest_kernel {
    ($name:ident, syscall: |$call:ident, $number:ident| $syscall:block, exception: |$at:ident, $exception:ident| $user_exception:block) => {
        impl portcullis::Machine for $name {
            type Regs = portcullis::x86_64::UserRegs;
            type SavedRegs = portcullis::x86_64::SavedRegs;
            type Irqs = portcullis::x86_64::Rflags;
            type Context = portcullis::x86_64::PerCpuContext;

            fn invariant_broken(broken: portcullis::Broken) {
                panic!("invariant broken: {broken}");
            }
        }

        impl portcullis::Kernel for $name {
            #[inline]
            fn exit_work() -> usize {
                portcullis::x86_64::CpuLocal::exit_word()
            }
            #[inline]
            fn syscall_work() -> usize {
                portcullis::x86_64::CpuLocal::syscall_word()
            }
            #[inline]
            fn any_syscall_work() -> bool {
                portcullis::x86_64::CpuLocal::any_syscall_work()
            }
            #[inline]
            fn any_work() -> bool {
                portcullis::x86_64::CpuLocal::any_work()
            }
            #[inline]
            fn preempt_count() -> usize {
                0
            }
            #[inline]
            fn syscall($call: &mut portcullis::InSyscall<'_, Self>, $number: i64) $syscall
        }

        impl portcullis::ExitHooks for $name {}
        impl portcullis::SyscallHooks for $name {}
        impl portcullis::Diagnostics for $name {}

        impl portcullis::x86_64::Doors for $name {
            fn user_exception($at: &mut portcullis::InKernel<'_, Self>, $exception: portcullis::x86_64::Exception) $user_exception
            fn kernel_exception(at: &mut portcullis::Interrupted<'_, Self>, exception: portcullis::x86_64::Exception) {
                panic!("{exception:x?} in the kernel at {:#x}", at.saved().rip);
            }
            fn interrupt(_: &mut portcullis::InInterrupt<'_, Self>, vector: u8) {
                panic!("interrupt {vector}");
            }
            fn machine_check(_: &mut portcullis::NmiContext<'_, Self>) {
                panic!("machine check");
            }
            fn double_fault(regs: &portcullis::x86_64::SavedRegs, address: u64) -> ! {
                panic!("double fault at {:#x}, address {address:#x}", regs.rip);
            }
        }
    };
}
pub(crate) use smallest_kernel;

/// Opens the doors of the boot CPU, for a task with this stack.
///
/// # Safety
/// Once, interrupts off.
pub unsafe fn open_doors<K: Doors>(thread_stack_top: u64) {
    static mut LOCAL: CpuLocal = CpuLocal::new();
    static mut TABLES: Tables = Tables::new();
    static IRQ_STACK: Stack<16384> = Stack::new();
    static WORK: WorkFlags = WorkFlags::new();
    let (local, tables) = (&raw mut LOCAL, &raw mut TABLES);
    // SAFETY: the caller's: nobody else uses the statics.
    unsafe {
        init_cpu::<K>(CpuDescription {
            id: 0,
            local: &mut *local,
            tables: &mut *tables,
            irq_stack_top: IRQ_STACK.end(),
            thread_stack_top,
            work: &WORK,
            espfix: None,
        });
    }
}
