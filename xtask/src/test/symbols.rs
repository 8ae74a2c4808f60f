//! What a debugger needs of an ELF file: functions and labels.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol};

/// The module whose functions the doors are.
const DOORS: &str = "portcullis::x86_64::";

/// Functions and labels of an ELF file: address, size, name.
pub struct Symbols(Vec<(u64, u64, String)>);

impl Symbols {
    /// Reads them.
    pub fn read(file: &Path) -> Result<Symbols> {
        let data = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let elf = object::File::parse(&*data)?;
        let mut symbols: Vec<_> = elf
            .symbols()
            .filter(|symbol| symbol.is_definition())
            .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?)))
            .map(|(address, size, name)| (address, size, format!("{:#}", rustc_demangle::demangle(name))))
            .collect();
        symbols.sort();
        Ok(Symbols(symbols))
    }

    /// The address of the symbol of this name.
    pub fn named(&self, name: &str) -> Result<u64> {
        let found = self.0.iter().find(|symbol| symbol.2 == name);
        found.map(|symbol| symbol.0).with_context(|| format!("there is no symbol {name}"))
    }

    /// A function of the library's doors, by the end of its path, and by the arguments behind the kernel's type.
    pub fn of_the_library(&self, function: &str) -> Result<u64> {
        let (path, arguments) = function.split_once(',').unwrap_or((function, ""));
        let (path, end) = (format!("{DOORS}{path}::<"), format!("{arguments}>"));
        let found = self.0.iter().find(|symbol| symbol.2.starts_with(&path) && symbol.2.ends_with(&end));
        found.map(|symbol| symbol.0).with_context(|| format!("the library has no function {function}"))
    }

    fn at(&self, address: u64) -> Option<&(u64, u64, String)> {
        /// More labels no function has.
        const LABELS: usize = 16;
        let below = self.0.partition_point(|symbol| symbol.0 <= address);
        // A label has no size.
        self.0[..below].iter().rev().take(LABELS).find(|symbol| address < symbol.0 + symbol.1)
    }

    /// Whether the library's code is there.
    pub fn is_in_the_library(&self, address: u64) -> bool {
        self.at(address)
            .is_some_and(|symbol| symbol.2.starts_with("portcullis::") || symbol.2.starts_with("<portcullis::"))
    }

    /// For messages.
    pub fn describe(&self, address: u64) -> String {
        match self.at(address) {
            Some((start, _, name)) => format!("{address:#x} ({name} + {})", address - start),
            None => format!("{address:#x}"),
        }
    }
}
