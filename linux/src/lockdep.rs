//! Lockdep's and the tracers' view of the interrupt flag. Nothing of it is left without `CONFIG_TRACE_IRQFLAGS`.

unsafe extern "C" {
    #[cfg(CONFIG_TRACE_IRQFLAGS)]
    fn trace_hardirqs_on_prepare();
    #[cfg(CONFIG_TRACE_IRQFLAGS)]
    fn trace_hardirqs_off_finish();
    #[cfg(CONFIG_TRACE_IRQFLAGS)]
    fn trace_hardirqs_on();
    #[cfg(CONFIG_TRACE_IRQFLAGS)]
    fn trace_hardirqs_off();
    #[cfg(CONFIG_PROVE_LOCKING)]
    fn lockdep_hardirqs_on_prepare();
    #[cfg(CONFIG_PROVE_LOCKING)]
    fn lockdep_hardirqs_on(ip: usize);
    #[cfg(CONFIG_PROVE_LOCKING)]
    fn lockdep_hardirqs_off(ip: usize);
    #[cfg(CONFIG_PROVE_LOCKING)]
    fn portcullis_lockdep_irqs_on() -> bool;
}

/// Where we are, for lockdep's reports.
#[cfg(CONFIG_PROVE_LOCKING)]
#[inline(always)]
fn here() -> usize {
    let ip: usize;
    // SAFETY: takes an address.
    unsafe {
        #[cfg(CONFIG_X86_64)]
        core::arch::asm!("lea {}, [rip]", out(reg) ip, options(nomem, nostack, preserves_flags));
        #[cfg(not(CONFIG_X86_64))]
        core::arch::asm!("2: movl $2b, {}", out(reg) ip, options(att_syntax, nomem, nostack, preserves_flags));
    }
    ip
}

/// Interrupts are off, and RCU may not be watching.
#[inline(always)]
pub fn hardirqs_off() {
    #[cfg(CONFIG_PROVE_LOCKING)]
    // SAFETY: interrupts are off; the function is noinstr.
    unsafe {
        lockdep_hardirqs_off(here());
    }
}

/// Interrupts are off, RCU is watching: the rest of [`hardirqs_off`].
#[inline(always)]
pub fn hardirqs_off_finish() {
    #[cfg(CONFIG_TRACE_IRQFLAGS)]
    // SAFETY: interrupts are off, RCU watches.
    unsafe {
        trace_hardirqs_off_finish();
    }
}

/// Interrupts will be on after the coming IRET: what has to be done while RCU is watching.
#[inline(always)]
pub fn hardirqs_on_prepare() {
    #[cfg(CONFIG_TRACE_IRQFLAGS)]
    // SAFETY: interrupts are off, RCU watches.
    unsafe {
        trace_hardirqs_on_prepare();
    }
    #[cfg(CONFIG_PROVE_LOCKING)]
    // SAFETY: as above.
    unsafe {
        lockdep_hardirqs_on_prepare();
    }
}

/// The rest of [`hardirqs_on_prepare`]: RCU may have stopped watching.
#[inline(always)]
pub fn hardirqs_on() {
    #[cfg(CONFIG_PROVE_LOCKING)]
    // SAFETY: `hardirqs_on_prepare` was called; the function is noinstr.
    unsafe {
        lockdep_hardirqs_on(here());
    }
}

/// Interrupts go on, RCU is watching.
#[inline(always)]
pub fn trace_on() {
    #[cfg(CONFIG_TRACE_IRQFLAGS)]
    // SAFETY: interrupts are off, RCU watches.
    unsafe {
        trace_hardirqs_on();
    }
}

/// Interrupts went off, RCU is watching.
#[inline(always)]
#[allow(dead_code, reason = "without tracing nobody asks whether they were on")]
pub fn trace_off() {
    #[cfg(CONFIG_TRACE_IRQFLAGS)]
    // SAFETY: interrupts are off, RCU watches.
    unsafe {
        trace_hardirqs_off();
    }
}

/// Whether lockdep believes that interrupts are on. False where it does not know.
#[inline(always)]
pub fn believes_on() -> bool {
    #[cfg(CONFIG_PROVE_LOCKING)]
    // SAFETY: reads this CPU's variables; the function is noinstr.
    return unsafe { portcullis_lockdep_irqs_on() };
    #[cfg(not(CONFIG_PROVE_LOCKING))]
    false
}
