//! #DB, #MC and #DF: the *paranoid* doors (Linux's word), which trust neither GS nor the stack. These exceptions have their own
//! stacks (IST), because they may hit the kernel where its stack or GS is not its own: in the first instructions of SYSCALL, or
//! between SWAPGS and IRET.
//!
//! From user mode they move to the thread stack and take the ordinary way. From the kernel the GS base may be any, so nothing is
//! decided from it: it is saved, the CPU's is loaded from a word at the IST stack's top (`IstStack` in
//! [`tables`](super::tables)), and in the end the saved one is restored. With page-table isolation the page table is saved and
//! restored likewise.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;

use super::asm::{align_next, call, clac, cld, clear_regs, kernel_table, lfence, pop_regs, push_regs};
use super::bad_iret::{iret_to_user, move_from_alias};
use super::cpu::{self, msr};
use super::delivery;
use super::doors::{Doors, Exception};
use super::exception::{arrived, from_user};
use super::halt::skip_halt;
use super::isolation::user_table;
use super::local::CpuLocal;
use super::nmi::nmi_entry;
use super::regs::{SavedRegs, UserRegs};
use super::syscall32::is_sysenter_step;
use super::tables::{IstStack, NmiStack, Tables};
use super::way_out::leave_by_iret;
use crate::state::NmiContext;

/// From user mode, on an IST stack: GS becomes the kernel's, and the frame and RDI move to the thread stack, as the stubs of
/// [`exception`](super::exception) leave them.
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
            push qword ptr [rdi + 6 * 8]; push qword ptr [rdi + 5 * 8]; push qword ptr [rdi + 4 * 8]
            push qword ptr [rdi + 3 * 8]; push qword ptr [rdi + 2 * 8]; push qword ptr [rdi + 1 * 8]
            push qword ptr [rdi]
            "
        )
    };
}

/// Saves the GS base in RBX and loads this CPU's. RSP is at a whole `UserRegs` below the top of an IST stack.
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
            mov ebx, eax; shl rdx, 32; or rbx, rdx
            mov rax, rsi; mov rdx, rsi; shr rdx, 32
            wrmsr
            772:
            ",
            $crate::x86_64::asm::lfence!(),
        )
    };
}

/// Restores the GS base that `switch_gs` saved in RBX.
macro_rules! restore_gs {
    () => {
        "
        cmp byte ptr [rsp + {fsgsbase}], 0
        je 771f
        wrgsbase rbx
        jmp 772f
        771:
        mov ecx, {gs_base}
        mov eax, ebx; mov rdx, rbx; shr rdx, 32
        wrmsr
        772:
        "
    };
}

/// Loads the kernel's page table, and saves in R12 the bit of CR3 that tells the two apart. The kernel may change the rest of CR3
/// meanwhile.
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

/// Restores the user's page table if `switch_table` found that. From here on this stack and the doors' code can be reached.
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

/// Where the words above the top of an IST stack are, from a `UserRegs` right below the top.
pub(super) const CPU_LOCAL: usize = UserRegs::SIZE;
/// See [`CPU_LOCAL`].
pub(super) const FSGSBASE: usize = UserRegs::SIZE + 8;
const _: () = assert!(offset_of!(IstStack, fsgsbase) - offset_of!(IstStack, cpu_local) == FSGSBASE - CPU_LOCAL);

/// The NMI's word, from RDI as [`ist_entry`] pushes it.
const fn nmi_state_from_saved_rdi(vector: u8) -> usize {
    let stack = if vector == Exception::MC { offset_of!(Tables, machine_check) } else { offset_of!(Tables, debug) };
    let rdi = stack + offset_of!(IstStack, cpu_local) - (UserRegs::SIZE - offset_of!(UserRegs, rdi));
    offset_of!(Tables, nmi) + offset_of!(NmiStack, state) - rdi
}

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
///
/// 1. From user mode: on to `from_user`, by way of the thread stack.
/// 2. From the kernel: the registers are saved and cleared, the page table and GS switched. If the last two instructions of
///    [`nmi_entry`] were hit, its word says again that an NMI is being handled.
/// 3. The Rust half runs the handler; then all is restored in reverse order, without IRET if [`nmi_entry`] was hit.
#[unsafe(naked)]
#[unsafe(link_section = ".portcullis.entry")]
pub(super) unsafe extern "C" fn ist_entry<K: Doors, const VECTOR: u8>() {
    naked_asm!(
        cld!(),
        clac!(),
        "push 0",
        "test byte ptr [rsp + 2 * 8], 3",
        "jnz 5f",
        "push rdi",
        // Did it hit the last two instructions of the NMI's door?
        "lea rdi, [rip + {nmi}_again]; cmp [rsp + 2 * 8], rdi; je 3f",
        "lea rdi, [rip + {nmi}_iret]; cmp [rsp + 2 * 8], rdi; je 3f",
        "2:",
        push_regs!(),
        clear_regs!(),
        switch_table!(),
        switch_gs!(),
        "mov rdi, rsp",
        "mov esi, {vector}",
        "mov qword ptr [rsp + {orig_rax}], -1",
        call!("{kernel}"),
        restore_table!(),
        restore_gs!(),
        // Did it hit the NMI's door?
        "mov rcx, [rsp + {rip}]",
        "lea rax, [rip + {nmi}]; cmp rcx, rax; jb 4f",
        "lea rax, [rip + {nmi}_end]; cmp rcx, rax; jb 6f",
        "4:",
        pop_regs!(),
        "iretq",
        // The NMI is still being handled, as its word says from now on, and the last step is done once more.
        "3:",
        "add qword ptr [rsp + {nmi_state}], 1",
        "lea rdi, [rip + {nmi}_decrement]",
        "mov [rsp + 2 * 8], rdi",
        "jmp 2b",
        // Back without IRET, which would let NMIs in: the flags and the address go to the stack in use there.
        "6:",
        "mov rax, [rsp + {rsp}]",
        "mov [rax - 1 * 8], rcx",
        "mov rcx, [rsp + {rflags}]",
        "mov [rax - 2 * 8], rcx",
        pop_regs!(),
        "mov rsp, [rsp + 3 * 8]",
        "lea rsp, [rsp - 2 * 8]",
        "popfq",
        "ret",
        "5:",
        move_to_thread_stack!(),
        "mov edi, {vector}",
        "jmp {from_user}",
        align_next!(),
        nmi = sym nmi_entry::<K>, nmi_state = const nmi_state_from_saved_rdi(VECTOR),
        rip = const offset_of!(UserRegs, rip), rflags = const offset_of!(UserRegs, rflags),
        rsp = const offset_of!(UserRegs, rsp),
        user_table = const user_table::<K>(), thread_stack = const CpuLocal::THREAD_STACK,
        vector = const VECTOR, orig_rax = const offset_of!(UserRegs, orig_rax),
        cpu_local = const CPU_LOCAL, fsgsbase = const FSGSBASE, gs_base = const msr::GS_BASE,
        kernel = sym ist_hit_kernel::<K>,
        from_user = sym from_user::<K>,
    )
}

/// The Rust half for what hit the kernel.
///
/// # Safety
/// Called by [`ist_entry`] and by FRED's entry only.
pub(super) unsafe extern "C" fn ist_hit_kernel<K: Doors>(regs: &mut SavedRegs, vector: u32) {
    // Before touching what may be watched.
    let _unwatched = Unwatched::new();
    let handler = |at: &mut NmiContext<'_, K>| {
        let local = CpuLocal::this();
        local.nmi_like.fetch_add(1, Relaxed);
        if vector == Exception::MC as u32 {
            at.handle("machine_check", K::machine_check);
        } else {
            debug::<K>(at);
        }
        local.nmi_like.fetch_sub(1, Relaxed);
    };
    // SAFETY: the door has just come in from the kernel, interrupts are off, and `regs` are what it saved.
    unsafe { in_kernel::<K>(regs, handler) }
}

/// A debug exception that hit the kernel.
#[inline(always)]
fn debug<K: Doors>(at: &mut NmiContext<'_, K>) {
    /// DR6.BS: a single step.
    const SINGLE_STEP: u64 = 1 << 14;
    let by_fred = delivery::is_on_for::<K>();
    // SAFETY: FRED has delivered it.
    let mut why = if by_fred { unsafe { delivery::event_data(at.saved()) } } else { cpu::take_dr6() };
    let step = !by_fred && why & SINGLE_STEP != 0 && is_sysenter_step::<K>(at.saved().rip);
    if step {
        why &= !SINGLE_STEP;
    }
    // A watchpoint may have been hit at the same time.
    if !step || why != 0 {
        at.handle("kernel_debug", |at| K::kernel_debug(at, why));
    }
}

/// Handles an NMI, machine check or debug exception that hit the kernel. It may have hit between a page fault and the read of
/// CR2, so CR2 is restored if the handler has faulted; and at the idle loop's HLT ([`halt`](super::halt)).
///
/// # Safety
/// As [`NmiContext::enter_from_kernel`].
#[inline(always)]
pub(super) unsafe fn in_kernel<K: Doors>(regs: &mut SavedRegs, handler: impl FnOnce(&mut NmiContext<'_, K>)) {
    let cr2 = cpu::cr2();
    // SAFETY: the caller's.
    let (mut at, saved) = unsafe { NmiContext::<K>::enter_from_kernel(regs) };
    handler(&mut at);
    // SAFETY: after a skipped halt the code continues as after an interrupt.
    skip_halt(unsafe { at.regs_mut() });
    at.exit_to_kernel(saved);
    if cpu::cr2() != cr2 {
        // SAFETY: restores the value.
        unsafe { cpu::set_cr2(cr2) };
    }
}

/// While it lives, this CPU watches nothing. Interrupts stay off meanwhile.
///
/// The debug registers hold what the user's debugger watches. If a handler that runs in [`NmiContext`] touched that, another
/// debug exception would hit it: on the stack in use, or letting NMIs in early by its IRET.
pub(super) struct Unwatched {
    /// DR7, or 0 where nothing was watched.
    control: u64,
}

impl Unwatched {
    /// Clears DR7, if anything is in it.
    #[inline(always)]
    pub(super) fn new() -> Self {
        /// Reads as 1 (SDM volume 3, 17.2.4).
        const FIXED: u64 = 1 << 10;
        let control = cpu::dr7() & !FIXED;
        if control != 0 {
            // SAFETY: nothing is watched.
            unsafe { cpu::set_dr7(0) };
        }
        Unwatched { control }
    }
}

impl Drop for Unwatched {
    #[inline(always)]
    fn drop(&mut self) {
        if self.control != 0 {
            // SAFETY: restores the value.
            unsafe { cpu::set_dr7(self.control) };
        }
    }
}

/// The door of #DF. It saves the registers, makes GS the CPU's, and reports; there is no way back.
///
/// Except if the IRET that enters user mode has faulted on a stack where the CPU could not push the fault's frame
/// ([`bad_iret`](super::bad_iret)). GS is the user's then, and this becomes a general-protection fault in user mode.
///
/// As [`ist_entry`], and the CPU pushed an error code, always 0.
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
        // Was it the IRET that enters user mode?
        "lea rax, [rip + {iret_to_user}]",
        "cmp [rsp + {rip}], rax",
        "je 2f",
        "4:",
        switch_gs!(),
        "mov rdi, rsp",
        "sub rsp, 8",
        "call {report}",
        "ud2",
        // It was.
        "2:",
        "xor eax, eax",
        "swapgs",
        lfence!(),
        "mov rdi, rsp",
        call!("{move_from_alias}"),
        "test rax, rax",
        "jz 4b",
        "mov rsp, rax",
        "mov rdi, rax",
        "mov esi, {general_protection}",
        "xor edx, edx",
        "mov qword ptr [rsp + {orig_rax}], -1",
        call!("{arrived}"),
        "jmp {leave}",
        align_next!(),
        user_table = const user_table::<K>(),
        iret_to_user = sym iret_to_user,
        rip = const offset_of!(UserRegs, rip), orig_rax = const offset_of!(UserRegs, orig_rax),
        move_from_alias = sym move_from_alias,
        general_protection = const Exception::GP,
        arrived = sym arrived::<K>,
        leave = sym leave_by_iret::<K>,
        cpu_local = const CPU_LOCAL, fsgsbase = const FSGSBASE, gs_base = const msr::GS_BASE,
        report = sym report::<K>,
    )
}

/// # Safety
/// Called by [`double_fault`] and by FRED's entries only.
pub(super) unsafe extern "C" fn report<K: Doors>(regs: &mut SavedRegs) -> ! {
    let address = cpu::cr2();
    // SAFETY: interrupts are off and `regs` are what the door saved; nothing continues what was hit.
    let (at, _saved) = unsafe { NmiContext::<K>::enter_from_kernel(regs) };
    K::double_fault(at.saved(), address)
}
