//! Work before a virtual machine's guest is entered.

/// Called by KVM with interrupts on, when its last check found work.
///
/// Before Linux 7.2 the argument is KVM's vcpu, and KVM is told here that a signal ends the run; in 7.2 there is none, and KVM
/// asks for that itself.
#[cfg(portcullis_guests)]
#[unsafe(no_mangle)]
unsafe extern "C" fn xfer_to_guest_mode_handle_work(vcpu: *mut core::ffi::c_void) -> i32 {
    use crate::current::task;
    use crate::version;
    use portcullis::guest::SignalPending;
    use portcullis::{InKernel, Syscall};

    const EINTR: i32 = 4;

    // SAFETY: KVM_RUN is a system call: ordinary kernel code, interrupts on. The library hands these registers to no hook
    // that changes them.
    let mut at = unsafe { InKernel::<crate::Linux, Syscall>::assume(&mut *task().user_regs()) };
    let done = at.xfer_to_guest_mode_work();
    at.suspend();
    match done {
        Ok(()) => 0,
        Err(SignalPending) => {
            // SAFETY: KVM's own vcpu.
            unsafe { version::signal_ends_guest_run(vcpu) };
            -EINTR
        }
    }
}
