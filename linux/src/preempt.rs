//! Preemption when an interrupt that hit the kernel is done: always, by a static call or by a static key (PREEMPT_DYNAMIC), or never.

#[cfg(CONFIG_PREEMPTION)]
use portcullis::Kernel;

#[cfg(CONFIG_PREEMPTION)]
use crate::Linux;
#[cfg(all(CONFIG_PREEMPT_DYNAMIC, not(CONFIG_HAVE_PREEMPT_DYNAMIC_CALL)))]
use crate::static_key::StaticKey;

#[cfg(CONFIG_PREEMPTION)]
unsafe extern "C" {
    fn preempt_schedule_irq();
}

/// What a static call reaches that may be patched out at boot or at run time (PREEMPT_DYNAMIC).
#[unsafe(no_mangle)]
extern "C" fn raw_irqentry_exit_cond_resched() {
    #[cfg(CONFIG_PREEMPTION)]
    if Linux::preempt_count() == 0 && Linux::exit_work() & Linux::EXIT_WORK.need_resched != 0 {
        preempt();
    }
}

/// The library found that another task should run: preemption as Linux is configured and was told at boot.
#[inline(always)]
pub fn cond_resched() {
    #[cfg(all(CONFIG_PREEMPT_DYNAMIC, CONFIG_HAVE_PREEMPT_DYNAMIC_CALL))]
    // SAFETY: the trampoline of a static call without arguments; objtool lists the call for patching by the key's name.
    unsafe {
        core::arch::asm!(
            ".pushsection .discard.addressable, \"aw\"",
            concat!(alternative_pointer!(), " __SCK__irqentry_exit_cond_resched"),
            ".popsection",
        );
        __SCT__irqentry_exit_cond_resched();
    }
    #[cfg(all(CONFIG_PREEMPT_DYNAMIC, not(CONFIG_HAVE_PREEMPT_DYNAMIC_CALL)))]
    dynamic_irqentry_exit_cond_resched();
    #[cfg(all(CONFIG_PREEMPTION, not(CONFIG_PREEMPT_DYNAMIC)))]
    preempt();
}

#[cfg(all(CONFIG_PREEMPT_DYNAMIC, CONFIG_HAVE_PREEMPT_DYNAMIC_CALL))]
unsafe extern "C" {
    fn __SCT__irqentry_exit_cond_resched();
}

#[cfg(all(CONFIG_PREEMPT_DYNAMIC, not(CONFIG_HAVE_PREEMPT_DYNAMIC_CALL)))]
unsafe extern "C" {
    static sk_dynamic_irqentry_exit_cond_resched: StaticKey;
}

/// The same where static calls cannot be patched: a static key.
#[cfg(all(CONFIG_PREEMPT_DYNAMIC, not(CONFIG_HAVE_PREEMPT_DYNAMIC_CALL)))]
#[unsafe(no_mangle)]
extern "C" fn dynamic_irqentry_exit_cond_resched() {
    if static_branch_likely!(sk_dynamic_irqentry_exit_cond_resched) {
        raw_irqentry_exit_cond_resched();
    }
}

/// Another task should run, and may: to the scheduler, which comes back with interrupts off.
#[cfg(CONFIG_PREEMPTION)]
fn preempt() {
    // SAFETY: Linux calls it in this state itself: interrupts off, preemption enabled.
    unsafe { preempt_schedule_irq() }
}
