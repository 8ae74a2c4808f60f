//! What the kernel and the library take in memory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSegment};

/// Sizes of a kernel image.
pub struct Image {
    /// Bytes of the file that are loaded: code, constants, initialized data.
    pub loaded: u64,
    /// Bytes it occupies once loaded, with what starts as zeros.
    pub occupied: u64,
}

/// Reads the sizes from an ELF file's loadable segments.
pub fn image(kernel: &Path) -> Result<Image> {
    let data = fs::read(kernel).with_context(|| format!("reading {}", kernel.display()))?;
    let elf: ElfFile64 = ElfFile64::parse(&*data).with_context(|| format!("{} is no ELF file", kernel.display()))?;
    Ok(Image {
        loaded: elf.segments().map(|segment| segment.file_range().1).sum(),
        occupied: elf.segments().map(|segment| segment.size()).sum(),
    })
}
