//! Branches that Linux patches in or out at run time (`jump_label`).
//!
//! The branch is a five-byte NOP, or a jump, and an entry in `__jump_table`: the place, the target, and the key with the
//! branch's sense in its lowest bit. Without `CONFIG_JUMP_LABEL` it is a load and a test.

/// Linux's `struct static_key`, as far as it is read here.
#[repr(C)]
#[allow(dead_code, reason = "not every configuration has one")]
pub struct StaticKey {
    enabled: core::sync::atomic::AtomicI32,
}

impl StaticKey {
    /// Whether the key is on, from memory.
    #[cfg(not(CONFIG_JUMP_LABEL))]
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.enabled.load(core::sync::atomic::Ordering::Relaxed) > 0
    }
}

/// Whether a key is on, which `$at_first` it is: a NOP that becomes a jump when that changes. `$sense` is the key's lowest bit.
#[allow(unused_macros, reason = "not every configuration has one")]
macro_rules! static_branch {
    ($key:path, $at_first:literal, $sense:literal) => {{
        #[cfg(CONFIG_JUMP_LABEL)]
        {
            let mut on = $at_first;
            // SAFETY: a NOP, or, once patched, a jump to the label.
            unsafe {
                core::arch::asm!(
                    "2:",
                    patchable_nop!(),
                    ".pushsection __jump_table, \"aw\"",
                    alternative_word!(".balign"),
                    data_special!(),
                    ".long 2b - .",
                    ".long {target} - .",
                    concat!(alternative_pointer!(), " {key} + ", $sense, " - ."),
                    ".popsection",
                    key = sym $key,
                    target = label { on = !$at_first; },
                    options(nomem, nostack, preserves_flags),
                );
            }
            on
        }
        #[cfg(not(CONFIG_JUMP_LABEL))]
        {
            // SAFETY: Linux's key; its counter is only read.
            unsafe { $key.is_on() }
        }
    }};
}

/// Whether a key is on that is off from the start.
#[allow(unused_macros, reason = "not every configuration has one")]
macro_rules! static_branch_unlikely {
    ($key:path) => {
        static_branch!($key, false, "0")
    };
}

/// Whether a key is on that is on from the start.
#[allow(unused_macros, reason = "not every configuration has one")]
macro_rules! static_branch_likely {
    ($key:path) => {
        static_branch!($key, true, "1")
    };
}
