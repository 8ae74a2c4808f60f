//! #DB, #MC and #DF: exceptions on stacks of their own (IST), because they may hit the kernel where its stack or GS are
//! not its own: in the first instructions of SYSCALL, or between SWAPGS and IRET.
//!
//! From user mode they move to the thread stack and take the ordinary way. From the kernel the GS base may be anything, so
//! nothing is decided from it: it is saved, the CPU's own is put in, and in the end what was there is put back. Entry and
//! exit cannot disagree. With page-table isolation the same goes for the page table, which may be the user's.
//!
//! The IST stack's own top says what the CPU's GS base is (`IstStack` in [`tables`](super::tables)).

use core::arch::naked_asm;
use core::mem::offset_of;

use super::asm::iret_to_user;
use super::asm::{clac, cld, clear_regs, kernel_table, lfence, pop_regs, push_regs};
use super::compat::is_sysenter_step;
use super::cpu::{self, msr};
use super::doors::{Doors, Exception};
use super::espfix::move_from_alias;
use super::exception::{arrived, from_user};
use super::halt::skip_halt;
use super::isolation::user_table;
use super::local::CpuLocal;
use super::regs::UserRegs;
use super::tables::IstStack;
use super::watch::Unwatched;
use super::way_out::leave_by_iret;
use crate::state::Nmi;

/// From user mode, on an IST stack: GS becomes the kernel's, and the frame and RDI move to the thread stack, as the
/// ordinary stubs leave them.
///
/// ```text
///   ss      +40
///   rsp     +32
///   rflags  +24
///   cs      +16
///   rip     +8
///   error   +0   ← rsp
/// ```
macro_rules! move_to_thread_stack {
    () => {
        concat!(
            "swapgs\n",
            $crate::x86_64::asm::lfence!(),
            "
            push rdi
            ",
            $crate::x86_64::asm::kernel_table!("rdi"),
            "
            mov rdi, rsp
            mov rsp, gs:[{thread_stack}]
            push qword ptr [rdi + 6 * 8]
            push qword ptr [rdi + 5 * 8]
            push qword ptr [rdi + 4 * 8]
            push qword ptr [rdi + 3 * 8]
            push qword ptr [rdi + 2 * 8]
            push qword ptr [rdi + 1 * 8]
            push qword ptr [rdi]
            "
        )
    };
}

/// Saves the GS base in RBX and puts in this CPU's. RSP is at a whole `UserRegs` below the top of an IST stack.
macro_rules! switch_gs {
    () => {
        concat!(
            "
            mov rax, [rsp + {cpu_local}]
            cmp byte ptr [rsp + {fsgsbase}], 0
            je 771f
            rdgsbase rbx
            wrgsbase rax
            jmp 772f
            771:
            mov rsi, rax
            mov ecx, {gs_base}
            rdmsr
            mov ebx, eax
            shl rdx, 32
            or rbx, rdx
            mov rax, rsi
            mov rdx, rsi
            shr rdx, 32
            wrmsr
            772:
            ",
            $crate::x86_64::asm::lfence!(),
        )
    };
}

/// Puts back the GS base that `switch_gs` saved in RBX.
macro_rules! restore_gs {
    () => {
        "
        cmp byte ptr [rsp + {fsgsbase}], 0
        je 771f
        wrgsbase rbx
        jmp 772f
        771:
        mov ecx, {gs_base}
        mov eax, ebx
        mov rdx, rbx
        shr rdx, 32
        wrmsr
        772:
        "
    };
}

/// Puts in the kernel's page table, and keeps in R12 the bit that the user's has in CR3 if it was that. The rest of CR3 is the
/// kernel's to change meanwhile.
macro_rules! switch_table {
    () => {
        "
        .if {user_table}
        mov r12, cr3
        mov rax, r12
        and r12d, {user_table}
        jz 773f
        sub rax, r12
        mov cr3, rax
        773:
        .endif
        "
    };
}

/// Puts back the user's page table if `switch_table` found it. From here on the stack and the doors' code are all there is.
macro_rules! restore_table {
    () => {
        "
        .if {user_table}
        test r12d, r12d
        jz 774f
        mov rax, cr3
        or rax, r12
        mov cr3, rax
        774:
        .endif
        "
    };
}

pub(super) use {move_to_thread_stack, restore_gs, restore_table, switch_gs, switch_table};

/// Where the IST stack's own words are, from a `UserRegs` right below them.
pub(super) const CPU_LOCAL: usize = UserRegs::SIZE;
/// See [`CPU_LOCAL`].
pub(super) const FSGSBASE: usize = UserRegs::SIZE + 8;

/// The door of #DB and #MC.
///
/// ```text
///   in:   interrupts off, everything else as it was
///
///   top of the IST stack: CPU_LOCAL, FSGSBASE
///     ss      +32
///     rsp     +24
///     rflags  +16
///     cs      +8
///     rip     +0   ← rsp
/// ```
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn entry<K: Doors, const VECTOR: u8>() {
    naked_asm!(
        cld!(),
        clac!(),
        "push 0",
        "test byte ptr [rsp + 2 * 8], 3",
        "jnz 5f",
        "push rdi",
        push_regs!(),
        clear_regs!(),
        switch_table!(),
        switch_gs!(),
        "mov rdi, rsp",
        "mov esi, {vector}",
        "mov qword ptr [rsp + {orig_rax}], -1",
        "sub rsp, 8",
        "call {kernel}",
        "add rsp, 8",
        restore_table!(),
        restore_gs!(),
        pop_regs!(),
        "iretq",
        "5:",
        move_to_thread_stack!(),
        "mov edi, {vector}",
        "jmp {from_user}",
        user_table = const user_table::<K>(),
        vector = const VECTOR,
        orig_rax = const offset_of!(UserRegs, orig_rax),
        cpu_local = const CPU_LOCAL,
        fsgsbase = const FSGSBASE,
        gs_base = const msr::GS_BASE,
        thread_stack = const CpuLocal::THREAD_STACK,
        kernel = sym hit_kernel::<K>,
        from_user = sym from_user::<K>,
    )
}

/// The Rust half for what hit the kernel.
///
/// # Safety
/// Called by [`entry`] only.
unsafe extern "C" fn hit_kernel<K: Doors>(regs: &mut UserRegs, vector: u32) {
    // Before anything is touched that may be watched.
    let _unwatched = Unwatched::new();
    let handler = |at: &mut Nmi<'_, UserRegs>| {
        if vector == Exception::MC as u32 {
            K::machine_check(at);
        } else {
            debug::<K>(at);
        }
    };
    // SAFETY: the door has just come in from the kernel, interrupts are off, and `regs` are what it saved.
    unsafe { in_kernel::<K>(regs, handler) }
}

/// A debug exception that hit the kernel.
#[inline(always)]
fn debug<K: Doors>(at: &mut Nmi<'_, UserRegs>) {
    /// DR6.BS: a single step.
    const SINGLE_STEP: u64 = 1 << 14;
    let mut why = cpu::take_dr6();
    let step = why & SINGLE_STEP != 0 && is_sysenter_step::<K>(at.saved().rip);
    if step {
        why &= !SINGLE_STEP;
    }
    // A watchpoint may have been hit at the same time.
    if !step || why != 0 {
        K::kernel_debug(at, why);
    }
}

/// What an NMI, a machine check or a debug exception that hit the kernel does, wherever that was: between a page fault and the read
/// of CR2, which the handler may change by a fault of its own, or at the idle loop's HLT.
///
/// # Safety
/// As [`Nmi::enter_from_kernel`].
#[inline(always)]
pub(super) unsafe fn in_kernel<K: Doors>(regs: &mut UserRegs, handler: impl FnOnce(&mut Nmi<'_, UserRegs>)) {
    let cr2 = cpu::cr2();
    // SAFETY: the caller's.
    let (mut at, saved) = unsafe { Nmi::enter_from_kernel::<K>(regs) };
    handler(&mut at);
    skip_halt(at.regs());
    at.exit_to_kernel::<K>(saved);
    if cpu::cr2() != cr2 {
        // SAFETY: puts back what was there.
        unsafe { cpu::set_cr2(cr2) };
    }
}

/// The door of #DF. There is no way back, so it looks at nothing: it saves, makes GS the CPU's, and reports.
///
/// But for one case: the IRET that enters user mode has faulted on a stack where the CPU could not push the fault's frame
/// ([`espfix`](super::espfix)). GS is the user's then. That becomes a general-protection fault in user mode; which fault
/// it was is lost.
///
/// As [`entry`], and the CPU pushed an error code, always 0.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn double_fault<K: Doors>() {
    naked_asm!(
        cld!(),
        clac!(),
        "push rdi",
        push_regs!(),
        clear_regs!(),
        kernel_table!("rax"),
        // Did it hit the IRET that enters user mode?
        "lea rax, [rip + {iret_to_user}]",
        "cmp [rsp + {rip}], rax",
        "je 2f",
        "4:",
        switch_gs!(),
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {report}",
        "ud2",
        // The IRET.
        "2:",
        "xor eax, eax",
        "swapgs",
        lfence!(),
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {move_from_alias}",
        "add rsp, 8",
        "test rax, rax",
        "jz 4b",
        "mov rsp, rax",
        "mov rdi, rax",
        "mov esi, {general_protection}",
        "xor edx, edx",
        "mov qword ptr [rsp + {orig_rax}], -1",
        "sub rsp, 8",
        "call {arrived}",
        "add rsp, 8",
        "jmp {leave}",
        user_table = const user_table::<K>(),
        iret_to_user = sym iret_to_user,
        rip = const offset_of!(UserRegs, rip),
        orig_rax = const offset_of!(UserRegs, orig_rax),
        move_from_alias = sym move_from_alias,
        general_protection = const Exception::GP,
        arrived = sym arrived::<K>,
        leave = sym leave_by_iret::<K>,
        cpu_local = const CPU_LOCAL,
        fsgsbase = const FSGSBASE,
        gs_base = const msr::GS_BASE,
        report = sym report::<K>,
    )
}

/// # Safety
/// Called by [`double_fault`] only.
unsafe extern "C" fn report<K: Doors>(regs: &mut UserRegs) -> ! {
    let address = cpu::cr2();
    // SAFETY: the CPU was in the kernel or could not deliver an exception to it; `regs` are what the door saved. The state
    // is kept: nothing goes back.
    let (mut at, _saved) = unsafe { Nmi::enter_from_kernel::<K>(regs) };
    K::double_fault(at.regs(), address)
}

// The doors find the IST stack's own words from a `UserRegs` right below the top.
const _: () =
    assert!(offset_of!(IstStack, fsgsbase) - offset_of!(IstStack, cpu_local) == FSGSBASE - CPU_LOCAL);
