//! AF_INET, on the loopback addresses alone: 127.0.0.0/8.
//!
//! TCP is the crate `smoltcp`; [`stack`] is where it is run: by the system calls themselves, until no packet is on its way. Nothing is
//! lost on the way, so no timer has to send anything again. Datagrams go straight from the sender to the receiver's queue ([`udp`]).
//!
//! | you want to … | look in |
//! | --- | --- |
//! | see how addresses look to programs | [`address`] |
//! | know who has which port | [`ports`] |
//! | change options of the levels of TCP and IP | [`options`] |
//! | change how packets move, or who hears of it | [`stack`], [`wire`] |
//! | change streams | [`tcp`], and what is kept of one [`end`] |
//! | change datagrams | [`udp`] |

pub mod address;
pub mod end;
pub mod options;
pub mod ports;
pub mod stack;
pub mod tcp;
pub mod udp;
pub mod wire;

#[cfg(test)]
mod tests;
