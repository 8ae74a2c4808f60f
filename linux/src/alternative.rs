//! Code that Linux replaces at boot by what fits the CPU (`.altinstructions`).

/// The assembler's directive for a value as wide as a pointer.
#[allow(unused_macros, reason = "only static keys and static calls use it")]
#[cfg(CONFIG_X86_64)]
macro_rules! alternative_pointer {
    () => {
        ".quad"
    };
}
/// The assembler's directive for a value as wide as a pointer.
#[allow(unused_macros, reason = "only static keys and static calls use it")]
#[cfg(not(CONFIG_X86_64))]
macro_rules! alternative_pointer {
    () => {
        ".long"
    };
}
/// A directive with the width of a pointer as its argument.
#[allow(unused_macros, reason = "only static keys and static calls use it")]
#[cfg(CONFIG_X86_64)]
macro_rules! alternative_word {
    ($directive:literal) => {
        concat!($directive, " 8")
    };
}
/// A directive with the width of a pointer as its argument.
#[allow(unused_macros, reason = "only static keys and static calls use it")]
#[cfg(not(CONFIG_X86_64))]
macro_rules! alternative_word {
    ($directive:literal) => {
        concat!($directive, " 4")
    };
}

/// The NOP that Linux expects where it patches a jump in, and that every such CPU knows.
#[cfg(CONFIG_X86_64)]
macro_rules! patchable_nop {
    () => {
        ".byte 0x0f, 0x1f, 0x44, 0x00, 0x00"
    };
}
/// The NOP that Linux expects where it patches a jump in, and that every such CPU knows.
#[cfg(not(CONFIG_X86_64))]
macro_rules! patchable_nop {
    () => {
        ".byte 0x3e, 0x8d, 0x74, 0x26, 0x00"
    };
}

/// The entry of an alternative: from label 661 to 662 stands what is replaced by what stands from label 663 to 664 where the CPU
/// has `{feature}`.
macro_rules! alternative_entry {
    () => {
        concat!(
            alternatives_section!(),
            "; .long 661b - .; .long 663f - .; ",
            feature_directive!(),
            " {feature}; .byte 662b - 661b; .byte 664f - 663f; .popsection"
        )
    };
}

/// Whether the CPU has a feature (or a bug): a jump that is patched out where it has not.
///
/// Until it is patched the answer is no.
macro_rules! cpu_has {
    ($feature:expr) => {{
        let mut has = false;
        // SAFETY: NOPs, or, once patched, a jump to the label.
        unsafe {
            core::arch::asm!(
                "661:",
                patchable_nop!(),
                "662:",
                alternative_entry!(),
                ".pushsection .altinstr_replacement, \"ax\"",
                // Five bytes, whatever the distance.
                "663: .byte 0xe9",
                ".long {target} - 664f",
                "664:",
                ".popsection",
                feature = const $feature,
                target = label { has = true; },
                options(nomem, nostack, preserves_flags),
            );
        }
        has
    }};
}
