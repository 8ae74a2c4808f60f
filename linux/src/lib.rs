//! Linux's user/kernel boundary on the library: how Linux names what the library's trait asks for, and the functions that
//! Linux's assembly and C call.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | see where Linux calls in | [`entry`], [`syscall`], [`compat`], [`kvm`], [`user_dispatch`] |
//! | see what a hook of the library is in Linux | [`hooks`], [`preempt`] |
//! | see what Linux keeps account of at each crossing | [`tracking`] (RCU, lockdep, tracers), [`irq_flag`] |
//! | read Linux's data | [`current`], [`regs`], `offsets` (made from `glue/offsets.c`) |
//! | follow code that Linux patches at run time | [`static_key`], [`alternative`] |
//! | see what differs between versions of Linux | [`version`], which is `../versions/VERSION.rs` |
//!
//! Built by `kbuild/rust.mk` with `cfg(CONFIG_…)` from Linux's configuration.
#![no_std]
#![feature(asm_goto_with_outputs)]
#![allow(unexpected_cfgs, reason = "Linux's configuration")]
#![allow(
    clippy::missing_safety_doc,
    reason = "exported functions are called by Linux, in the state its own are called in"
)]

#[macro_use]
mod alternative;
#[macro_use]
mod static_key;
#[cfg(not(linux_7_2))]
#[macro_use]
#[path = "../versions/before-7.2.rs"]
mod before_7_2;
/// What differs between versions of Linux: the same names in each.
#[macro_use]
#[cfg_attr(linux_6_1, path = "../versions/6.1.rs")]
#[cfg_attr(linux_6_12, path = "../versions/6.12.rs")]
#[cfg_attr(linux_7_2, path = "../versions/7.2.rs")]
mod version;
#[cfg(not(linux_6_1))]
#[path = "../versions/since-6.12.rs"]
mod since_6_12;
#[macro_use]
mod kstack;
mod annotate;
mod compat;
mod current;
mod entry;
mod hooks;
mod irq_flag;
mod kvm;
mod lockdep;
mod preempt;
mod regs;
mod syscall;
mod tracking;
mod user_dispatch;

/// What only the C compiler knows.
#[allow(dead_code, reason = "not every configuration uses each")]
mod offsets {
    include!(env!("PORTCULLIS_OFFSETS"));
}

/// Linux, as the library sees it.
pub struct Linux;
