//! The kernel as the states of the library name it: everything that holds a state names it, so it stands below all. What it is
//! to the library is in [`gate`](crate::gate).

/// The reference kernel.
pub struct Gate;
