//! User and group ids.

/// One kind of id in its four roles.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Ids {
    /// Who started it.
    pub real: u32,
    /// Whose rights it has.
    pub effective: u32,
    /// What it may go back to.
    pub saved: u32,
    /// Whose rights count for files.
    pub file_system: u32,
}

/// Which of the two kinds of id a call is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of users.
    User,
    /// Of groups.
    Group,
}
pub use Kind::{Group as GROUP, User as USER};
