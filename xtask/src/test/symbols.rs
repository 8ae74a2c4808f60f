//! The library's functions among the symbols of a kernel.

use anyhow::{Context, Result};
use portcullis_testkit::symbols::Symbols;

/// The module whose functions the doors are.
const DOORS: &str = "portcullis::x86_64::";

/// A function of the library's doors, by the end of its path, and by the arguments behind the kernel's type.
pub fn of_the_library(symbols: &Symbols, function: &str) -> Result<u64> {
    let (path, arguments) = function.split_once(',').unwrap_or((function, ""));
    let (path, end) = (format!("{DOORS}{path}::<"), format!("{arguments}>"));
    let found = symbols.find(|name| name.starts_with(&path) && name.ends_with(&end));
    found.with_context(|| format!("the library has no function {function}"))
}

/// Whether the library's code is there.
pub fn is_in_the_library(symbols: &Symbols, address: u64) -> bool {
    symbols.at(address).is_some_and(|name| name.starts_with("portcullis::") || name.starts_with("<portcullis::"))
}
