//! Sockets.
//!
//! A descriptor's open file has a [`Socket`](socket::Socket) behind it: options that all kinds share, and a
//! [`Protocol`](protocol::Protocol), which does the rest. System calls are in [`calls::net`](crate::calls::net).
//!
//! | you want to … | look in |
//! | --- | --- |
//! | know what a kind of socket has to do | [`protocol`] |
//! | change an option of the level SOL_SOCKET | [`options`] |
//! | change how a call waits | [`patience`] |
//! | change local sockets (AF_UNIX) | [`unix`] |
//! | change sockets of the loopback addresses (AF_INET) | [`inet`] |

pub mod credentials;
pub mod inet;
pub mod options;
pub mod patience;
pub mod protocol;
pub mod socket;
pub mod unix;
