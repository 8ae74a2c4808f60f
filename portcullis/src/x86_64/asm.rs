//! The pieces of assembly that several doors share.

/// CLAC if the CPU has SMAP, otherwise a NOP: the user may have set AC, with which kernel code could touch user memory
/// unnoticed. See [`alternatives`](super::alternatives).
#[doc(hidden)]
#[macro_export]
macro_rules! portcullis_clac {
    () => {
        $crate::portcullis_alternative!("0x0f, 0x1f, 0x00", "0xca")
    };
}

/// STAC if the CPU has SMAP, otherwise a NOP: the next instructions touch user memory.
#[doc(hidden)]
#[macro_export]
macro_rules! portcullis_stac {
    () => {
        $crate::portcullis_alternative!("0x0f, 0x1f, 0x00", "0xcb")
    };
}

/// A NOP and its entry in the list of places to patch, as [`alternatives`](super::alternatives) reads it.
#[doc(hidden)]
#[macro_export]
macro_rules! portcullis_alternative {
    ($nop:literal, $what:literal) => {
        concat!(
            "771: .byte ",
            $nop,
            "\n",
            ".pushsection portcullis_alternatives, \"aR\"\n.balign 4\n",
            ".long (771b - .)\n.long ",
            $what,
            "\n",
            ".popsection\n",
        )
    };
}

pub use crate::{portcullis_clac as clac_asm, portcullis_stac as stac_asm};

/// Ends a function of the section `.portcullis.entry`: the next one begins a cache line.
macro_rules! align_next {
    () => {
        ".balign 64"
    };
}

/// Clears DF, which the user may have set: compiled code expects it clear (System V ABI, 3.2.1).
macro_rules! cld {
    () => {
        "cld\n"
    };
}

/// Ends speculation past a branch around SWAPGS: what follows must not run with the other GS, not even speculatively.
macro_rules! lfence {
    () => {
        "lfence\n"
    };
}

/// VERW if the CPU's buffers leak to user mode, otherwise a seven-byte NOP. It stands right before the instruction that enters
/// user mode: whatever the kernel reads later may stay in a buffer. See [`alternatives`](super::alternatives).
macro_rules! verw {
    () => {
        $crate::portcullis_alternative!("0x0f, 0x1f, 0x80, 0, 0, 0, 0", "0")
    };
}

/// The LOCK prefix of the next instruction if user mode counts as quiescent, otherwise a DS prefix, which 64-bit code ignores (SDM
/// volume 1, 3.3.7.1). See [`alternatives`](super::alternatives).
macro_rules! lock {
    () => {
        $crate::portcullis_alternative!("0x3e", "1")
    };
}

/// Calls a Rust half. RSP is at a whole `UserRegs`, an odd number of words below a multiple of 16; at a CALL it must be a
/// multiple of 16 (System V ABI, 3.2.2).
macro_rules! call {
    ($function:literal) => {
        concat!("sub rsp, 8\ncall ", $function, "\nadd rsp, 8\n")
    };
}

/// Pushes all registers below `rdi`, which is on the stack already, with `$rax` for RAX: RSP points to a whole `UserRegs`
/// afterwards.
macro_rules! push_regs {
    () => {
        $crate::x86_64::asm::push_regs!("rax")
    };
    ($rax:literal) => {
        concat!(
            "push rsi; push rdx; push rcx; push ",
            $rax,
            "
            push r8; push r9; push r10; push r11
            push rbx; push rbp; push r12; push r13; push r14; push r15
            "
        )
    };
}

/// Pops what `push_regs` and the push of `rdi` pushed: RSP points to `orig_rax` afterwards.
macro_rules! pop_general {
    () => {
        "
        pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx
        pop r11; pop r10; pop r9; pop r8
        pop rax; pop rcx; pop rdx; pop rsi; pop rdi
        "
    };
}

/// The same, and drops `orig_rax`: RSP points to the CPU's frame afterwards.
macro_rules! pop_regs {
    () => {
        concat!($crate::x86_64::asm::pop_general!(), "add rsp, 8\n")
    };
}

/// Clears all registers but `rdi`, which the door uses, so that no value of the user's can be used by mistake or by
/// speculation. RBP = 0 ends the kernel's backtraces.
macro_rules! clear_regs {
    () => {
        "
        xor eax, eax; xor ecx, ecx; xor edx, edx; xor ebx, ebx
        xor ebp, ebp
        xor esi, esi; xor r8d, r8d; xor r9d, r9d; xor r10d, r10d; xor r11d, r11d
        xor r12d, r12d; xor r13d, r13d; xor r14d, r14d; xor r15d, r15d
        "
    };
}

// Page-table isolation (see `isolation`): these are empty if `{user_table}` is 0.

macro_rules! change_cr3 {
    ($scratch:literal, $operation:expr) => {
        concat!(".if {user_table}\nmov ", $scratch, ", cr3\n", $operation, "\nmov cr3, ", $scratch, "\n.endif\n")
    };
}

/// Loads the kernel's page table. Changes the flags.
macro_rules! kernel_table {
    ($scratch:literal) => {
        $crate::x86_64::asm::change_cr3!($scratch, concat!("and ", $scratch, ", -1 - {user_table}"))
    };
}

/// Loads the user's page table: from here on only what both tables map can be reached. Changes the flags.
macro_rules! user_table {
    ($scratch:literal) => {
        $crate::x86_64::asm::change_cr3!($scratch, concat!("or ", $scratch, ", {user_table}"))
    };
}

/// `user_table` where RSP is the user's already and no other register is free.
macro_rules! user_table_by_rsp {
    () => {
        concat!(
            ".if {user_table}\nmov gs:[{user_rsp}], rsp\n",
            $crate::x86_64::asm::user_table!("rsp"),
            "mov rsp, gs:[{user_rsp}]\n.endif\n"
        )
    };
}

/// From user mode, on the entry stack with the kernel's GS: loads the kernel's page table, and moves the CPU's frame to the
/// thread stack, with the error code and RDI below it if a stub has pushed these.
macro_rules! leave_entry_stack {
    (frame) => {
        $crate::x86_64::asm::leave_entry_stack!("")
    };
    (frame and stub) => {
        $crate::x86_64::asm::leave_entry_stack!("push qword ptr [rsi + 7 * 8]\npush qword ptr [rsi + 6 * 8]\n")
    };
    ($first_pushes:literal) => {
        concat!(
            ".if {user_table}\npush rsi\n",
            $crate::x86_64::asm::kernel_table!("rsi"),
            "mov rsi, rsp\nmov rsp, gs:[{thread_stack}]\n",
            $first_pushes,
            "
            push qword ptr [rsi + 5 * 8]; push qword ptr [rsi + 4 * 8]; push qword ptr [rsi + 3 * 8]
            push qword ptr [rsi + 2 * 8]; push qword ptr [rsi + 1 * 8]
            mov rsi, [rsi]
            .endif
            "
        )
    };
}

/// With IRET's frame on top of the thread stack and the user's values in all registers: copies the frame to the entry stack,
/// which both tables map, and loads the user's table.
macro_rules! iret_on_entry_stack {
    () => {
        concat!(
            "
            .if {user_table}
            push rdi
            mov rdi, rsp
            mov rsp, gs:[{tables}]
            lea rsp, [rsp + {entry_stack}]
            push qword ptr [rdi + 5 * 8]; push qword ptr [rdi + 4 * 8]; push qword ptr [rdi + 3 * 8]
            push qword ptr [rdi + 2 * 8]; push qword ptr [rdi + 1 * 8]; push qword ptr [rdi]
            ",
            $crate::x86_64::asm::user_table!("rdi"),
            "pop rdi\n.endif\n"
        )
    };
}

pub(super) use crate::portcullis_clac as clac;
pub(super) use {align_next, call, change_cr3, cld, clear_regs, lfence, lock, pop_general, pop_regs, push_regs, verw};
pub(super) use {iret_on_entry_stack, kernel_table, leave_entry_stack, user_table, user_table_by_rsp};
