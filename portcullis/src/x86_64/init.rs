//! Sets a CPU up for the doors, from one description.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::cpu::{self, Features, msr, wrmsr};
use super::doors::{Doors, Paging};
use super::idt::Idt;
use super::isolation;
use super::local::CpuLocal;
use super::segments::{Segment, load_segment};
use super::syscall64::{CLEARED_FLAGS, syscall32_entry_closed, syscall64_entry};
use super::tables::{Espfix, KERNEL_CS, KERNEL_DS, STAR, TSS_SELECTOR, Tables};
use super::{alternatives, extable, syscall32};
use super::{delivery, fred};
use crate::work::WorkFlags;

/// What [`init_cpu`] needs to know of a CPU.
#[derive(Debug)]
pub struct CpuDescription {
    /// The number that [`CpuLocal::id`] gives.
    pub id: u32,
    /// The library's part of the per-CPU area, to which GS will point.
    pub local: &'static mut CpuLocal,
    /// GDT, TSS and IST stacks.
    pub tables: &'static mut Tables,
    /// The top of the IRQ stack, 16-byte aligned.
    pub irq_stack_top: u64,
    /// The top of the thread stack of the task that runs now, 16-byte aligned; with [`Doors::FRED`] one of
    /// [`fred::thread_stack_top`]'s.
    pub thread_stack_top: u64,
    /// The work flags of the task that runs now.
    pub work: &'static WorkFlags,
    /// If programs may have 16-bit stack segments.
    pub espfix: Option<Espfix>,
}

/// The interrupt table of all CPUs.
static IDT: Idt = Idt::new();
/// Whether no CPU has filled the table and patched the doors yet.
static FIRST: AtomicBool = AtomicBool::new(true);

/// The page of the interrupt table, which all CPUs use ([`isolation`]).
pub fn interrupt_table() -> u64 {
    IDT.address()
}

/// Sets this CPU up: segments, task-state segment, interrupt table, the MSRs of SYSCALL and SYSENTER, and what protects the kernel
/// (WP, AM, and NX, SMEP, SMAP, UMIP, FSGSBASE, PGE and MCE if the CPU has them); with [`Doors::FRED`] that, if the CPU has it. Afterwards the context is KERNEL and the doors
/// are open; interrupts stay off.
///
/// To be called for one kernel `K`, with the first call, on the boot CPU, done before that of another CPU. The description's task
/// is then this CPU's until [`CpuLocal::switch_to`].
///
/// # Panics
/// If [`Doors::PAGING`] says 5 levels and the CPU runs with 4. With debug assertions, if CR3 or the address of `local` is not as
/// [`isolation`] demands.
///
/// # Safety
/// 64-bit kernel mode, interrupts off, once per CPU. The kernel's page table is in use, with its text executable and
/// supervisor-only. With [`Doors::PAGE_TABLE_ISOLATION`], what [`isolation`] lists holds from now on. `thread_stack_top` is that
/// of the stack in use, or of one that may be overwritten.
pub unsafe fn init_cpu<K: Doors>(description: CpuDescription) {
    let CpuDescription { local, tables, .. } = description;
    let features = Features::detect();
    debug_assert!(
        !K::PAGE_TABLE_ISOLATION || isolation::is_prepared(&raw const *local as u64),
        "what page-table isolation demands of CR3 and of CpuLocal's address"
    );

    assert!(
        K::PAGING == Paging::FourLevel || features.la57,
        "the kernel is built for 5-level paging and the CPU runs with 4 levels: SYSRET would take addresses that are not canonical"
    );
    if alternatives::tracks_user_mode() {
        // SAFETY: nobody uses the word yet; the prefixes are there.
        unsafe { local.context().track() };
    }
    local.this = local;
    local.id = description.id;
    local.tables = tables;
    local.irq_stack = description.irq_stack_top;
    tables.fill(&raw const *local as u64, features.fsgsbase);
    tables.espfix = description.espfix.unwrap_or(Espfix::NONE);

    // SAFETY: the caller's. GS is not used before it is loaded, and no exception happens before the IDT is.
    unsafe {
        if FIRST.swap(false, SeqCst) {
            IDT.fill::<K>();
            alternatives::apply(features);
            extable::sort();
        }
        load_gdt(tables);
        for segment in [Segment::Ds, Segment::Es, Segment::Fs] {
            // A null selector does not fault.
            let _ = load_segment::<K>(segment, 0);
        }
        asm!("mov gs, {0:x}", in(reg) 0, options(nostack, preserves_flags));
        wrmsr(msr::GS_BASE, &raw const *local as u64);
        wrmsr(msr::KERNEL_GS_BASE, 0);
        wrmsr(msr::FS_BASE, 0);
        asm!("ltr {0:x}", in(reg) TSS_SELECTOR, options(nostack, preserves_flags));
        // After reset the LDT is 64 KiB at address 0, in user memory.
        asm!("lldt {0:x}", in(reg) 0, options(nostack, preserves_flags));
        let idt = TablePointer { limit: 256 * 16 - 1, base: IDT.address() };
        asm!("lidt [{}]", in(reg) &idt, options(nostack, preserves_flags, readonly));
        init_syscall::<K>(features);
        cpu::protect(features);
        if K::FRED && fred::is_available() {
            fred::prepare::<K>(tables);
        }
        CpuLocal::begin::<K>(description.thread_stack_top, description.work);
        if delivery::is_on_for::<K>() {
            cpu::enable_fred();
        }
    }
}

/// # Safety
/// As [`init_cpu`]; the tables are filled.
unsafe fn load_gdt(tables: &Tables) {
    let pointer = TablePointer { limit: 16 * 8 - 1, base: &raw const tables.gdt as u64 };
    // SAFETY: the table has flat kernel segments; the far return continues at the next instruction.
    unsafe {
        asm!(
            "lgdt [{pointer}]",
            "mov ss, {data:x}",
            "push {code}; lea {scratch}, [rip + 2f]; push {scratch}; retfq",
            "2:",
            pointer = in(reg) &pointer,
            data = in(reg) KERNEL_DS as u64,
            code = in(reg) KERNEL_CS as u64,
            scratch = out(reg) _,
        );
    }
}

/// # Safety
/// As [`init_cpu`].
unsafe fn init_syscall<K: Doors>(features: Features) {
    const SYSCALL_ENABLE: u64 = 1 << 0;
    const NO_EXECUTE_ENABLE: u64 = 1 << 11;
    // SAFETY: the doors are ready; 64-bit CPUs have these registers.
    unsafe {
        let mut efer = cpu::rdmsr(msr::EFER) | SYSCALL_ENABLE;
        if features.nx {
            efer |= NO_EXECUTE_ENABLE;
        }
        wrmsr(msr::EFER, efer);
        wrmsr(msr::STAR, STAR);
        wrmsr(msr::LSTAR, syscall64_entry::<K> as *const () as u64);
        wrmsr(msr::SFMASK, CLEARED_FLAGS);
        // CSTAR on all CPUs: with 0 there, a SYSCALL from compatibility mode, if the CPU has that, would continue at address 0 in
        // ring 0.
        let (cstar, sysenter_cs) = if K::IA32_EMULATION {
            (syscall32::syscall32_entry::<K> as *const (), KERNEL_CS)
        } else {
            // With a null selector SYSENTER is a general-protection fault.
            (syscall32_entry_closed as *const (), 0)
        };
        wrmsr(msr::CSTAR, cstar as u64);
        wrmsr(msr::SYSENTER_CS, sysenter_cs.into());
        wrmsr(msr::SYSENTER_EIP, syscall32::sysenter_entry::<K> as *const () as u64);
        // The door loads the thread stack before it pushes, and what may hit it before has its own stack.
        wrmsr(msr::SYSENTER_ESP, 0);
    }
}

/// What LGDT and LIDT take.
#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}
