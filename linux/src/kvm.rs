//! Work before a virtual machine's guest is entered.

/// Called by KVM with interrupts on, when its last check found work.
///
/// Before Linux 7.2 the argument is KVM's vcpu, and KVM is told here that a signal ends the run; in 7.2 there is none, and KVM
/// asks for that itself.
#[cfg(portcullis_guests)]
#[unsafe(no_mangle)]
unsafe extern "C" fn xfer_to_guest_mode_handle_work(_vcpu: *mut core::ffi::c_void) -> i32 {
    use crate::current::task;
    use portcullis::guest::SignalPending;
    use portcullis::{InKernel, Syscall};

    #[cfg(not(linux_7_2))]
    unsafe extern "C" {
        fn portcullis_kvm_handle_signal_exit(vcpu: *mut core::ffi::c_void);
    }
    const EINTR: i32 = 4;

    // SAFETY: KVM_RUN is a system call: ordinary kernel code, interrupts on. The library hands these registers to no hook
    // that changes them.
    let mut at = unsafe { InKernel::<crate::Linux, Syscall>::assume(&mut *task().user_regs()) };
    let done = at.xfer_to_guest_mode_work();
    at.suspend();
    match done {
        Ok(()) => 0,
        Err(SignalPending) => {
            #[cfg(not(linux_7_2))]
            // SAFETY: KVM's own vcpu.
            unsafe {
                portcullis_kvm_handle_signal_exit(_vcpu);
            }
            -EINTR
        }
    }
}
