//! Sets a CPU up for the doors, from one description.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::compat;
use super::cpu::{self, Features, msr, wrmsr};
use super::doors::Doors;
use super::idt::Idt;
use super::isolation;
use super::local::CpuLocal;
use super::segments::{Segment, load_segment};
use super::syscall::{CLEARED_FLAGS, syscall_entry, syscall_entry_closed};
use super::tables::Espfix;
use super::tables::{KERNEL_CS, KERNEL_DS, STAR, TSS_SELECTOR, Tables};
use super::{alternatives, extable};
use crate::work::TaskWork;

/// What [`init_cpu`] needs to know of a CPU. All of it is used as long as the CPU runs.
#[derive(Debug)]
pub struct CpuDescription {
    /// The number that [`CpuLocal::id`] gives and [`TaskWork::switch_in`] takes.
    pub id: u32,
    /// The library's part of the per-CPU area; GS will point to it.
    pub local: &'static mut CpuLocal,
    /// GDT, TSS and IST stacks.
    pub tables: &'static mut Tables,
    /// The top of the stack on which interrupts are handled, 16-byte aligned.
    pub irq_stack_top: u64,
    /// The top of the thread stack of the task that runs now (the idle task), 16-byte aligned.
    pub thread_stack_top: u64,
    /// The work flags of the task that runs now.
    pub work: &'static TaskWork,
    /// For a kernel whose programs may have 16-bit stack segments.
    pub espfix: Option<Espfix>,
}

/// All CPUs' doors.
static IDT: Idt = Idt::new();
/// Whether the first CPU has filled the table and patched the doors.
static FIRST: AtomicBool = AtomicBool::new(true);

/// The page that the interrupt table fills, one for all CPUs. See [`isolation`].
pub fn interrupt_table() -> u64 {
    IDT.address()
}

/// Sets this CPU up: segments, task-state segment, interrupt table, the registers of SYSCALL, and what protects the kernel
/// (WP, AM, NX, and SMEP, SMAP, UMIP, FSGSBASE where the CPU has them). The context is KERNEL afterwards and the doors
/// are open; interrupts stay off.
///
/// One kernel `K` per machine. The first call, on the boot CPU, must have returned before another CPU calls.
///
/// # Safety
/// 64-bit kernel mode, interrupts off, once per CPU. The kernel's mappings are those it runs with: its text is mapped
/// executable and supervisor-only. `thread_stack_top` is the stack in use or one that may be overwritten.
pub unsafe fn init_cpu<K: Doors>(description: CpuDescription) -> Features {
    let CpuDescription {
        id,
        local,
        tables,
        irq_stack_top,
        thread_stack_top,
        work,
        espfix,
    } = description;
    let features = Features::detect();
    debug_assert!(
        !K::PAGE_TABLE_ISOLATION || isolation::is_prepared(&raw const *local as u64),
        "what page-table isolation demands of CR3 and of CpuLocal's address"
    );

    local.set_up(id, tables, irq_stack_top, work);
    tables.fill(&raw const *local as u64, features.fsgsbase);
    tables.espfix = espfix.unwrap_or(Espfix::NONE);

    // SAFETY: the caller's. In this order: nothing uses GS before it is loaded, and no exception may happen before the
    // IDT is.
    unsafe {
        if FIRST.swap(false, SeqCst) {
            IDT.fill::<K>();
            alternatives::apply(features);
            extable::sort();
        }
        load_gdt(tables);
        for segment in [Segment::Ds, Segment::Es, Segment::Fs] {
            // A null selector never faults.
            let _ = load_segment(segment, 0);
        }
        asm!("mov gs, {0:x}", in(reg) 0, options(nostack, preserves_flags));
        wrmsr(msr::GS_BASE, &raw const *local as u64);
        wrmsr(msr::KERNEL_GS_BASE, 0);
        wrmsr(msr::FS_BASE, 0);
        asm!("ltr {0:x}", in(reg) TSS_SELECTOR, options(nostack, preserves_flags));
        // Out of reset the LDT is 64 KiB at address 0, which is user memory: selectors of it would be looked up there.
        asm!("lldt {0:x}", in(reg) 0, options(nostack, preserves_flags));
        load_idt(&IDT);
        init_syscall::<K>(features);
        cpu::protect(features);
        CpuLocal::switch_to::<K>(thread_stack_top, work);
    }
    features
}

/// # Safety
/// As [`init_cpu`]; the tables are filled.
unsafe fn load_gdt(tables: &Tables) {
    let pointer = TablePointer {
        limit: 16 * 8 - 1,
        base: tables.gdt() as *const _ as u64,
    };
    // SAFETY: the table has flat kernel segments; the far return goes to the next instruction.
    unsafe {
        asm!(
            "lgdt [{pointer}]",
            "mov ss, {data:x}",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            pointer = in(reg) &pointer,
            data = in(reg) KERNEL_DS as u64,
            code = in(reg) KERNEL_CS as u64,
            scratch = out(reg) _,
        );
    }
}

/// # Safety
/// As [`init_cpu`]; the table is filled.
unsafe fn load_idt(idt: &'static Idt) {
    let pointer = TablePointer {
        limit: 256 * 16 - 1,
        base: idt.address(),
    };
    // SAFETY: the caller's.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(nostack, preserves_flags, readonly)) }
}

/// # Safety
/// As [`init_cpu`].
unsafe fn init_syscall<K: Doors>(features: Features) {
    const SYSCALL_ENABLE: u64 = 1 << 0;
    const NO_EXECUTE_ENABLE: u64 = 1 << 11;
    // SAFETY: the doors are ready; every 64-bit CPU has these registers.
    unsafe {
        let mut efer = cpu::rdmsr(msr::EFER) | SYSCALL_ENABLE;
        if features.nx {
            efer |= NO_EXECUTE_ENABLE;
        }
        wrmsr(msr::EFER, efer);
        wrmsr(msr::STAR, STAR);
        wrmsr(msr::LSTAR, syscall_entry::<K> as *const () as u64);
        wrmsr(msr::SFMASK, CLEARED_FLAGS);
        // On every CPU model: where CSTAR has no address, a SYSCALL from compatibility mode that the CPU lets through
        // goes to address 0 in ring 0.
        let (cstar, sysenter_cs) = if K::IA32_EMULATION {
            (compat::syscall_entry::<K> as *const (), KERNEL_CS)
        } else {
            // SYSENTER with a null selector is a general-protection fault.
            (syscall_entry_closed as *const (), 0)
        };
        wrmsr(msr::CSTAR, cstar as u64);
        wrmsr(msr::SYSENTER_CS, sysenter_cs.into());
        wrmsr(msr::SYSENTER_EIP, compat::sysenter_entry::<K> as *const () as u64);
        // No stack: the door uses none before it has loaded the thread's, and whatever may hit it before has its own.
        wrmsr(msr::SYSENTER_ESP, 0);
    }
}

/// What LGDT and LIDT take.
#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}
