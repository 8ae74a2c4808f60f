//! What memory asks of the layers above, which register it once, at boot. All of it is about the current task.

use spin::Once;

use crate::memory::address_space::AddressSpace;
use crate::memory::width::Width;

/// What is asked.
pub trait Callbacks: Sync {
    /// A resource limit (`RLIMIT_*`).
    fn limit(&self, which: u32) -> u64;

    /// The width of the system call under way: 32-bit calls get addresses that they can hold, also from a 64-bit program.
    fn width_of_call(&self) -> Width;

    /// Whether it is to end.
    fn is_being_killed(&self) -> bool;

    /// Something has been mapped at `start`.
    fn mapped(&self, space: &AddressSpace, start: u64);

    /// The vDSO has been moved, in which 32-bit calls returned to `old_landing_pad`.
    fn vdso_moved(&self, old_landing_pad: u64);
}

static CALLBACKS: Once<&'static dyn Callbacks> = Once::new();

/// Sets them. At boot, once, before anything is mapped in an address space.
pub fn register(callbacks: &'static dyn Callbacks) {
    CALLBACKS.call_once(|| callbacks);
}

/// Those that are registered.
pub(super) fn callbacks() -> &'static dyn Callbacks {
    *CALLBACKS.get().expect("registered before anything is mapped")
}

impl Width {
    /// Of the system call under way.
    #[inline]
    pub fn of_call() -> Width {
        callbacks().width_of_call()
    }
}
