#[path = "../../minimal/mod.rs"]
mod minimal;

pub use minimal::{Minimal, REPORTED};
