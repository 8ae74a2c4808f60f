//! The kernel as the states of the library name it: everything that holds a state names it, so it stands below all. What it is
//! to the library is in [`gate`](crate::gate).

use core::fmt::Display;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The reference kernel.
pub struct Gate;

static VIOLATIONS: AtomicU64 = AtomicU64::new(0);

/// An invariant did not hold: the log says which, and the tests look at the count.
#[cold]
pub fn violation(what: impl Display) {
    VIOLATIONS.fetch_add(1, Relaxed);
    log::error!("invariant broken: {what}");
}

/// How often one did not hold.
pub fn violations() -> u64 {
    VIOLATIONS.load(Relaxed)
}
