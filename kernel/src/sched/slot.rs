//! A shared thing that only its task replaces.

use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::ops::Deref;

use crate::machine::sync::SpinLock;

/// One of a task's shared parts (open files, address space, …).
///
/// The owning task reads it without a lock (`Deref`) because nobody else replaces it. Others use [`Own::share`], which
/// takes the lock that [`Own::replace`] takes. Dereferencing the slot of *another* task that may be running is a bug:
/// that task may replace the value.
pub struct Own<T> {
    lock: SpinLock<()>,
    value: UnsafeCell<Option<Arc<T>>>,
}

// SAFETY: the value is replaced only under the lock and only by the owning task; see the type's documentation.
unsafe impl<T: Send + Sync> Sync for Own<T> {}

impl<T> Own<T> {
    /// A slot with this value.
    pub fn new(value: Option<Arc<T>>) -> Self {
        Own { lock: SpinLock::new(()), value: UnsafeCell::new(value) }
    }

    /// The value, to keep. From any task.
    #[inline]
    pub fn share(&self) -> Option<Arc<T>> {
        let _guard = self.lock.lock();
        // SAFETY: writers hold the lock.
        unsafe { (*self.value.get()).clone() }
    }

    /// Whether the value is gone (a kernel thread, or a task that is exiting).
    pub fn is_none(&self) -> bool {
        let _guard = self.lock.lock();
        // SAFETY: writers hold the lock.
        unsafe { (*self.value.get()).is_none() }
    }

    /// Puts another value in. Only the owning task may call this; it must not hold a reference to the old one.
    /// The old value is returned so that it is dropped without the lock.
    pub fn replace(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        let _guard = self.lock.lock();
        // SAFETY: readers of other tasks hold the lock, the owning task is the caller.
        unsafe { core::mem::replace(&mut *self.value.get(), value) }
    }
}

impl<T> Deref for Own<T> {
    type Target = Arc<T>;

    /// The owning task's view.
    ///
    /// # Panics
    /// If the value is gone: kernel threads have no files, and nothing runs system calls after exit has begun.
    #[inline]
    fn deref(&self) -> &Arc<T> {
        // SAFETY: called by the owning task, which alone replaces the value.
        unsafe { (*self.value.get()).as_ref().expect("the task no longer has this part") }
    }
}
