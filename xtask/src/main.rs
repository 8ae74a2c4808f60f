//! The host tool behind `./x`.
fn main() {}
