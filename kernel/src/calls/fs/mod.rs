//! The system calls on files, by what they are about. Arguments come as the registers have them.

mod attributes;
pub mod descriptors;
mod directories;
mod epoll;
mod eventfd;
mod extended_attributes;
pub mod locks;
mod lookup;
mod mounts;
mod names;
mod open;
pub mod poll;
mod signalfd;
mod timerfd;
mod transfer;

pub use crate::calls::fs::attributes::*;
pub use crate::calls::fs::descriptors::*;
pub use crate::calls::fs::directories::*;
pub use crate::calls::fs::epoll::*;
pub use crate::calls::fs::eventfd::*;
pub use crate::calls::fs::extended_attributes::*;
pub use crate::calls::fs::mounts::*;
pub use crate::calls::fs::names::*;
pub use crate::calls::fs::open::*;
pub use crate::calls::fs::signalfd::*;
pub use crate::calls::fs::timerfd::*;
pub use crate::calls::fs::transfer::*;
