//! A state that is not used is a warning.
#![deny(unused_must_use)]
include!("kernel.rs.in");

fn door(arrived: Arrived<'_, K, Event>) {
    arrived.handled();
}

fn main() {}
