//! The firmware: assembled from `rom.S` for each boot, which takes a few milliseconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use object::read::elf::ElfFile32;
use object::{Object, ObjectSection};

use crate::progress;

const SOURCE: &str = include_str!("rom.S");

/// The size that Bochs maps below 4 GiB, with the reset vector 16 bytes before its end.
const SIZE: usize = 0x1_0000;

/// The line by which the firmware hands over to the kernel: the log begins after it.
pub const LOG_START: &[u8] = b"rom: the kernel follows\n";

/// Writes the firmware into `directory`, and gives its file.
pub fn write(directory: &Path) -> Result<PathBuf> {
    let (source, object, rom) = (directory.join("rom.S"), directory.join("rom.o"), directory.join("rom.bin"));
    fs::write(&source, SOURCE)?;
    let mut assembler = Command::new("as");
    assembler.arg("--32").arg("-o").arg(&object).arg(&source).stdin(Stdio::null());
    let status = progress::status(&mut assembler, "as to assemble the firmware", progress::SHORT)
        .context("is binutils installed? (apt-get install binutils)")?;
    ensure!(status.success(), "the firmware of Bochs's machine could not be assembled ({status})");
    fs::write(&rom, section(&fs::read(&object)?)?)?;
    Ok(rom)
}

/// The bytes of the object's section `.rom`.
fn section(object: &[u8]) -> Result<Vec<u8>> {
    let file: ElfFile32 = ElfFile32::parse(object).context("as has left no 32-bit ELF file")?;
    let section = file.section_by_name(".rom").context("the firmware has no section .rom")?;
    let rom = section.data()?.to_vec();
    ensure!(rom.len() == SIZE, "the firmware has {} bytes and not {SIZE}", rom.len());
    Ok(rom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_vector_jumps_to_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let rom = fs::read(write(directory.path()).unwrap()).unwrap();
        // jmp rel16, back to offset 0.
        assert_eq!(rom[0xfff0], 0xe9);
        assert_eq!(u16::from_le_bytes([rom[0xfff1], rom[0xfff2]]), 0x1_0000u32.wrapping_sub(0xfff3) as u16);
        assert!(rom.windows(LOG_START.len()).any(|bytes| bytes == LOG_START));
    }
}
