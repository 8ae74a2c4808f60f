//! The random offset of the kernel stack (`CONFIG_RANDOMIZE_KSTACK_OFFSET`).
//!
//! A system call runs with the stack moved down by a number that user mode does not know. Rust cannot grow a function's
//! stack by a variable; a few instructions between Linux's assembly and the Rust function do.

#[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET)]
unsafe extern "C" {
    pub(crate) static randomize_kstack_offset: crate::static_key::StaticKey;
}

#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, not(CONFIG_JUMP_LABEL)))]
compile_error!("the random offset of the kernel stack needs CONFIG_JUMP_LABEL here");

/// Defines functions that Linux's assembly calls with the registers. With the random offset each is two: a few instructions
/// that move the stack, and the Rust function that they call.
#[cfg(not(CONFIG_RANDOMIZE_KSTACK_OFFSET))]
macro_rules! exported {
    ($($(#[$attribute:meta])* $name:ident, $moved:ident: $body:ident -> $result:ty;)*) => {$(
        $(#[$attribute])*
        #[allow(non_snake_case, reason = "Linux's name")]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".noinstr.text")]
        unsafe extern "C" fn $name(regs: &mut crate::regs::PtRegs) -> $result {
            // SAFETY: Linux's assembly calls this first, with interrupts off.
            unsafe { $body(regs) }
        }
    )*};
}

/// Defines functions that Linux's assembly calls with the registers. With the random offset each is two: a few instructions
/// that move the stack, and the Rust function that they call.
#[cfg(CONFIG_RANDOMIZE_KSTACK_OFFSET)]
macro_rules! exported {
    ($($(#[$attribute:meta])* $name:ident, $moved:ident: $body:ident -> $result:ty;)*) => {$(
        $(#[$attribute])*
        #[allow(non_snake_case, reason = "Linux's name")]
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".noinstr.text")]
        unsafe extern "C" fn $name() -> $result {
            on_moved_stack!($moved)
        }

        $(#[$attribute])*
        #[allow(non_snake_case, reason = "Linux's name")]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".noinstr.text")]
        unsafe extern "C" fn $moved(regs: &mut crate::regs::PtRegs) -> $result {
            // SAFETY: as above.
            unsafe { $body(regs) }
        }
    )*};
}

/// Where the key is off the instruction is a jump, or becomes one.
#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, CONFIG_RANDOMIZE_KSTACK_OFFSET_DEFAULT))]
macro_rules! jump_if_off {
    () => {
        patchable_nop!()
    };
}
/// Where the key is off the instruction is a jump, or becomes one.
#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, not(CONFIG_RANDOMIZE_KSTACK_OFFSET_DEFAULT)))]
macro_rules! jump_if_off {
    () => {
        ".byte 0xe9; .long 3f - . - 4"
    };
}
/// The function's end.
#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, any(CONFIG_RETHUNK, CONFIG_MITIGATION_RETHUNK)))]
macro_rules! return_instruction {
    () => {
        "jmp __x86_return_thunk"
    };
}
/// The function's end. The trap stops what is executed by mistake after it (straight-line speculation).
#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, not(any(CONFIG_RETHUNK, CONFIG_MITIGATION_RETHUNK))))]
macro_rules! return_instruction {
    () => {
        "ret; int3"
    };
}

/// The body of a function that calls `$moved` with its own arguments, on a stack moved by the random offset.
#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, CONFIG_X86_64))]
macro_rules! on_moved_stack {
    ($moved:ident) => {
        stack_offset_operands!(
            "2:",
            jump_if_off!(),
            ".pushsection __jump_table, \"aw\"",
            ".balign 8",
            data_special!(),
            ".long 2b - .",
            ".long 3f - .",
            ".quad {key} + 1 - .",
            ".popsection",
            // On: RBP keeps the stack pointer, as objtool expects of a function with a variable frame.
            "push rbp",
            "mov rbp, rsp",
            load_stack_offset!(),
            // Ten bits, as a multiple of 16.
            "and eax, 0x3f0",
            "sub rsp, rax",
            "call {moved}",
            "leave",
            return_instruction!(),
            // Off.
            "3: jmp {moved}",
            key = sym crate::kstack::randomize_kstack_offset,
            moved = sym $moved,
        )
    };
}

/// The body of a function that calls `$moved` with its own arguments, on a stack moved by the random offset.
#[cfg(all(CONFIG_RANDOMIZE_KSTACK_OFFSET, not(CONFIG_X86_64)))]
macro_rules! on_moved_stack {
    ($moved:ident) => {
        stack_offset_operands!(
            "2:",
            jump_if_off!(),
            ".pushsection __jump_table, \"aw\"",
            ".balign 4",
            data_special!(),
            ".long 2b - .",
            ".long 3f - .",
            ".long {key} + 1 - .",
            ".popsection",
            "push ebp",
            "mov ebp, esp",
            load_stack_offset!(),
            // Ten bits, as a multiple of 4. The argument is in EAX.
            "and ecx, 0x3fc",
            "sub esp, ecx",
            "call {moved}",
            "leave",
            return_instruction!(),
            // Off.
            "3: jmp {moved}",
            key = sym crate::kstack::randomize_kstack_offset,
            moved = sym $moved,
        )
    };
}
