//! The interrupt flag (Linux: `local_irq_enable()`, `local_irq_disable()`).

use core::arch::asm;

use portcullis::machine::InterruptFlag;

use crate::{lockdep, regs};

/// The CPU's interrupt flag, with lockdep and the tracers told.
pub struct LocalIrq;

#[cfg(CONFIG_PARAVIRT_XXL)]
unsafe extern "C" {
    fn portcullis_irq_enable();
    fn portcullis_irq_disable();
}

#[inline(always)]
fn raw_on() {
    // SAFETY: the library turns interrupts on where ordinary kernel code follows.
    #[cfg(CONFIG_PARAVIRT_XXL)]
    unsafe {
        portcullis_irq_enable();
    }
    // SAFETY: as above. No `nomem`: nothing may be moved across.
    #[cfg(not(CONFIG_PARAVIRT_XXL))]
    unsafe {
        asm!("sti", options(nostack, preserves_flags));
    }
}

#[inline(always)]
fn raw_off() {
    // SAFETY: turning interrupts off is always sound.
    #[cfg(CONFIG_PARAVIRT_XXL)]
    unsafe {
        portcullis_irq_disable();
    }
    // SAFETY: as above. No `nomem`: nothing may be moved across.
    #[cfg(not(CONFIG_PARAVIRT_XXL))]
    unsafe {
        asm!("cli", options(nostack, preserves_flags));
    }
}

/// The flag itself.
#[inline(always)]
fn raw_is_on() -> bool {
    let flags: usize;
    // SAFETY: reads the flags register.
    unsafe {
        #[cfg(CONFIG_X86_64)]
        asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags));
        #[cfg(not(CONFIG_X86_64))]
        asm!("pushfd", "pop {}", out(reg) flags, options(preserves_flags));
    }
    flags & regs::flags::IF != 0
}

// SAFETY: the flag itself, with lockdep and the tracers told.
unsafe impl InterruptFlag for LocalIrq {
    #[inline(always)]
    unsafe fn on() {
        lockdep::trace_on();
        raw_on();
    }

    #[inline(always)]
    fn off() {
        // A tracer that counts the time with interrupts off must not be told twice.
        let was_on = cfg!(CONFIG_TRACE_IRQFLAGS) && raw_is_on();
        raw_off();
        if was_on {
            lockdep::trace_off();
        }
    }

    #[inline(always)]
    fn is_on() -> bool {
        // Lockdep's view where there is one, as lockdep_assert_irqs_disabled() has it: both must agree.
        if cfg!(CONFIG_PROVE_LOCKING) { lockdep::believes_on() || raw_is_on() } else { raw_is_on() }
    }
}
