//! Who keeps account of the crossings in Linux: context tracking and RCU, lockdep, the tracers of the interrupt flag.
//!
//! The order in each transition is Linux's: what must not be traced comes first on the way in and last on the way out.

use portcullis::machine::Tracking;

use crate::current::{self, task};
use crate::{Linux, annotate, lockdep, offsets, version};

/// The states of `enum ctx_state`.
#[cfg(CONFIG_CONTEXT_TRACKING_USER)]
mod context {
    pub const KERNEL: u32 = 0;
    pub const USER: u32 = 2;
}

unsafe extern "C" {
    #[cfg(CONFIG_CONTEXT_TRACKING_USER)]
    static context_tracking_key: crate::static_key::StaticKey;
    #[cfg(CONFIG_CONTEXT_TRACKING_USER)]
    fn __ct_user_enter(state: u32);
    #[cfg(CONFIG_CONTEXT_TRACKING_USER)]
    fn __ct_user_exit(state: u32);
    #[cfg(all(CONFIG_NO_HZ_FULL, CONFIG_CONTEXT_TRACKING_USER))]
    fn __rcu_irq_enter_check_tick();
    #[cfg(CONFIG_CONTEXT_TRACKING_IDLE)]
    fn ct_irq_enter();
    #[cfg(CONFIG_CONTEXT_TRACKING_IDLE)]
    fn ct_irq_exit();
    #[cfg(CONFIG_CONTEXT_TRACKING_IDLE)]
    fn ct_nmi_enter();
    #[cfg(CONFIG_CONTEXT_TRACKING_IDLE)]
    fn ct_nmi_exit();
    #[cfg(any(CONFIG_HWLAT_TRACER, CONFIG_OSNOISE_TRACER))]
    fn portcullis_ftrace_nmi(enter: bool);
    #[cfg(any(CONFIG_TRACE_IRQFLAGS, CONFIG_LOCKDEP))]
    fn portcullis_lockdep_nmi_off();
    #[cfg(any(CONFIG_TRACE_IRQFLAGS, CONFIG_LOCKDEP))]
    fn portcullis_lockdep_nmi_on();
    #[cfg(any(CONFIG_TRACE_IRQFLAGS, CONFIG_LOCKDEP))]
    fn portcullis_lockdep_hardirq_enter();
    #[cfg(any(CONFIG_TRACE_IRQFLAGS, CONFIG_LOCKDEP))]
    fn portcullis_lockdep_hardirq_exit();
    #[cfg(CONFIG_TRACE_IRQFLAGS)]
    fn portcullis_lockdep_hardirqs_enabled() -> bool;
    fn portcullis_bug();
}

/// Whether transitions between user mode and the kernel are tracked at all.
#[cfg(CONFIG_CONTEXT_TRACKING_USER)]
#[inline(always)]
fn enabled() -> bool {
    static_branch_unlikely!(context_tracking_key)
}

/// What an interrupt or NMI puts back: one bit, which Linux's C carries from the entry to the exit (`irqentry_state_t`).
///
/// For an interrupt: the idle task was hit, so that RCU is told on the way back. For an NMI: lockdep believed that
/// interrupts were on.
#[derive(Clone, Copy)]
pub struct IrqState(pub u8);

// SAFETY: these are Linux's own transitions, in its order.
unsafe impl Tracking for Linux {
    type Saved = IrqState;

    #[inline(always)]
    unsafe fn user_to_kernel() -> bool {
        lockdep::hardirqs_off();
        #[allow(unused_mut, reason = "without context tracking")]
        let mut was_user = true;
        #[cfg(CONFIG_CONTEXT_TRACKING_USER)]
        if enabled() {
            was_user = current::context() == context::USER;
            // SAFETY: interrupts are off, and user mode was just left.
            unsafe { __ct_user_exit(context::USER) };
        }
        annotate::begin();
        lockdep::hardirqs_off_finish();
        was_user
    }

    #[inline(always)]
    unsafe fn kernel_to_user() -> bool {
        version::leaving();
        lockdep::hardirqs_on_prepare();
        annotate::end();
        #[cfg(CONFIG_CONTEXT_TRACKING_USER)]
        if enabled() {
            // SAFETY: interrupts are off, and user mode is entered next.
            unsafe { __ct_user_enter(context::USER) };
        }
        version::clear_divider();
        lockdep::hardirqs_on();
        // Linux does not look; `__ct_user_enter` does nothing where the context was USER.
        true
    }

    unsafe fn kernel_to_idle() -> bool {
        true
    }
    unsafe fn idle_to_kernel() -> bool {
        true
    }
    unsafe fn kernel_to_guest() -> bool {
        true
    }
    unsafe fn guest_to_kernel() -> bool {
        true
    }

    #[inline(always)]
    unsafe fn interrupt_enter() -> IrqState {
        // Also where RCU is watching: an interrupt that nests in another one must be known as nested, or its tick would
        // take the first one's end for a quiescent state.
        if cfg!(not(CONFIG_TINY_RCU)) && task().is_idle() {
            lockdep::hardirqs_off();
            #[cfg(CONFIG_CONTEXT_TRACKING_IDLE)]
            // SAFETY: interrupts are off, an interrupt hit the idle task.
            unsafe {
                ct_irq_enter();
            }
            annotate::begin();
            lockdep::hardirqs_off_finish();
            return IrqState(1);
        }
        lockdep::hardirqs_off();
        annotate::begin();
        #[cfg(all(CONFIG_NO_HZ_FULL, CONFIG_CONTEXT_TRACKING_USER))]
        if enabled() {
            // SAFETY: interrupts are off, an interrupt hit the kernel.
            unsafe { __rcu_irq_enter_check_tick() };
        }
        lockdep::hardirqs_off_finish();
        IrqState(0)
    }

    #[inline(always)]
    fn found_kernel(saved: IrqState) -> bool {
        saved.0 == 0
    }

    #[inline(always)]
    unsafe fn interrupt_exit(saved: IrqState, interrupts_on: bool) {
        if interrupts_on {
            version::before_kernel_exit();
        }
        if saved.0 == 0 {
            if interrupts_on {
                lockdep::trace_on();
            }
            annotate::end();
            return;
        }
        if interrupts_on {
            lockdep::hardirqs_on_prepare();
        }
        annotate::end();
        #[cfg(CONFIG_CONTEXT_TRACKING_IDLE)]
        // SAFETY: the other half of `ct_irq_enter`.
        unsafe {
            ct_irq_exit();
        }
        if interrupts_on {
            lockdep::hardirqs_on();
        }
    }

    #[inline(always)]
    unsafe fn nmi_enter() -> IrqState {
        #[cfg(CONFIG_TRACE_IRQFLAGS)]
        // SAFETY: reads this CPU's variable.
        let saved = IrqState(unsafe { portcullis_lockdep_hardirqs_enabled() } as u8);
        #[cfg(not(CONFIG_TRACE_IRQFLAGS))]
        let saved = IrqState(0);

        #[cfg(any(CONFIG_TRACE_IRQFLAGS, CONFIG_LOCKDEP))]
        // SAFETY: lockdep is off until `nmi_exit`: the NMI may have hit it.
        unsafe {
            portcullis_lockdep_nmi_off();
        }
        if current::preempt_count() & offsets::NMI_COUNT_MASK == offsets::NMI_COUNT_MASK {
            // SAFETY: NMIs nest deeper than the count can say.
            unsafe { portcullis_bug() };
        }
        current::add_preempt_count(offsets::NMI_COUNT as i32);
        lockdep::hardirqs_off();
        #[cfg(any(CONFIG_TRACE_IRQFLAGS, CONFIG_LOCKDEP))]
        // SAFETY: an NMI handler begins.
        unsafe {
            portcullis_lockdep_hardirq_enter();
        }
        #[cfg(CONFIG_CONTEXT_TRACKING_IDLE)]
        // SAFETY: an NMI handler begins.
        unsafe {
            ct_nmi_enter();
        }
        annotate::begin();
        lockdep::hardirqs_off_finish();
        #[cfg(any(CONFIG_HWLAT_TRACER, CONFIG_OSNOISE_TRACER))]
        // SAFETY: RCU watches.
        unsafe {
            portcullis_ftrace_nmi(true);
        }
        saved
    }

    #[inline(always)]
    unsafe fn nmi_exit(saved: IrqState) {
        #[cfg(any(CONFIG_HWLAT_TRACER, CONFIG_OSNOISE_TRACER))]
        // SAFETY: RCU watches.
        unsafe {
            portcullis_ftrace_nmi(false);
        }
        if saved.0 != 0 {
            lockdep::hardirqs_on_prepare();
        }
        annotate::end();
        #[cfg(CONFIG_CONTEXT_TRACKING_IDLE)]
        // SAFETY: the other half of `ct_nmi_enter`.
        unsafe {
            ct_nmi_exit();
        }
        #[cfg(any(CONFIG_TRACE_IRQFLAGS, CONFIG_LOCKDEP))]
        // SAFETY: the NMI handler is done.
        unsafe {
            portcullis_lockdep_hardirq_exit();
        }
        if saved.0 != 0 {
            lockdep::hardirqs_on();
        }
        if current::preempt_count() & offsets::NMI_COUNT_MASK == 0 {
            // SAFETY: the count was broken by the handler.
            unsafe { portcullis_bug() };
        }
        current::add_preempt_count(-(offsets::NMI_COUNT as i32));
        #[cfg(any(CONFIG_TRACE_IRQFLAGS, CONFIG_LOCKDEP))]
        // SAFETY: the other half of `portcullis_lockdep_nmi_off`.
        unsafe {
            portcullis_lockdep_nmi_on();
        }
    }

    #[inline(always)]
    fn in_kernel() -> bool {
        #[cfg(CONFIG_CONTEXT_TRACKING_USER)]
        return !enabled() || current::context() == context::KERNEL;
        #[cfg(not(CONFIG_CONTEXT_TRACKING_USER))]
        true
    }
}
