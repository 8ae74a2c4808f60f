//! What a debugger needs of an ELF file: functions and labels, and where an instruction may be.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};

/// Functions and labels of an ELF file: address, size, name.
pub struct Symbols(Vec<(u64, u64, String)>);

impl Symbols {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no object file.
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
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn named(&self, name: &str) -> Result<u64> {
        self.find(|found| found == name).with_context(|| format!("there is no symbol {name}"))
    }

    /// The address of the first symbol whose name is wanted.
    pub fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<u64> {
        self.0.iter().find(|symbol| wanted(&symbol.2)).map(|symbol| symbol.0)
    }

    /// The function that holds an address.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<&str> {
        self.around(address).map(|symbol| &*symbol.2)
    }

    fn around(&self, address: u64) -> Option<&(u64, u64, String)> {
        /// More labels no function has.
        const LABELS: usize = 16;
        let below = self.0.partition_point(|symbol| symbol.0 <= address);
        // A label has no size.
        self.0[..below].iter().rev().take(LABELS).find(|symbol| address < symbol.0 + symbol.1)
    }

    /// For messages: in hand-written assembly the label before it.
    #[must_use]
    pub fn describe(&self, address: u64) -> String {
        let label = || self.0[..self.0.partition_point(|symbol| symbol.0 <= address)].last();
        match self.around(address).or_else(label) {
            Some((start, _, name)) => format!("{address:#x} ({name} + {})", address - start),
            None => format!("{address:#x}"),
        }
    }
}

/// Where a file's code is.
pub struct Code(Vec<(u64, u64)>);

impl Code {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is no object file.
    pub fn read(file: &Path) -> Result<Code> {
        let data = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let elf = object::File::parse(&*data)?;
        let text = elf.sections().filter(|section| section.kind() == SectionKind::Text);
        Ok(Code(text.map(|section| (section.address(), section.size())).collect()))
    }

    /// Whether an instruction may be there.
    #[must_use]
    pub fn holds(&self, address: u64) -> bool {
        self.0.iter().any(|&(start, size)| address.checked_sub(start).is_some_and(|offset| offset < size))
    }
}

/// Where these bytes are in the file's code: the places where such an instruction may be.
///
/// # Errors
///
/// When the file cannot be read, or is no object file.
pub fn find_code(file: &Path, bytes: &[u8]) -> Result<Vec<u64>> {
    let data = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let elf = object::File::parse(&*data)?;
    let mut found = Vec::new();
    for section in elf.sections().filter(|section| section.kind() == SectionKind::Text) {
        let code = section.data()?;
        let places = code.windows(bytes.len()).enumerate().filter(|(_, window)| *window == bytes);
        found.extend(places.map(|(offset, _)| section.address() + offset as u64));
    }
    Ok(found)
}
