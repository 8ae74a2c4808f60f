//! The doors' code in a built image, as it is after the kernel has patched it for a CPU.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use portcullis::x86_64::layout;

use crate::progress;

/// The prefix of the library's names.
pub(super) const LIBRARY: &str = "portcullis::x86_64::";

/// What the kernel finds out about the CPU at boot, and patches the doors for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// It has CLAC.
    pub smap: bool,
    /// Its buffers leak: VERW clears them.
    pub verw: bool,
}

/// A place in the list of places to patch (`alternatives.rs`): how many bytes of code, and what for.
const VERW: u32 = 0;
const LOCK: u32 = 1;

/// Code and symbols.
#[derive(Clone)]
pub struct Image {
    path: PathBuf,
    /// Where the text begins, and its bytes.
    start: u64,
    text: Vec<u8>,
    /// Functions by address: the name without its type parameters.
    functions: BTreeMap<u64, String>,
    pub cpu: Cpu,
}

impl Image {
    /// Reads it, and patches it as the kernel would.
    pub fn read(path: &Path, cpu: Cpu) -> Result<Image> {
        let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: ElfFile64 = ElfFile64::parse(&*data)?;
        let text = file.section_by_name(".text").context("the image has no .text")?;
        let mut functions = BTreeMap::new();
        let mut bounds = [None, None];
        for symbol in file.symbols() {
            let name = symbol.name().unwrap_or_default();
            match name {
                "__start_portcullis_alternatives" => bounds[0] = Some(symbol.address()),
                "__stop_portcullis_alternatives" => bounds[1] = Some(symbol.address()),
                _ => {}
            }
            // A label within a function of Rust's is none of its own.
            let is_label = name.starts_with("_R") && symbol.kind() != SymbolKind::Text;
            if symbol.is_definition() && !name.is_empty() && !name.starts_with(".L") && !is_label {
                let name = format!("{:#}", rustc_demangle::demangle(name));
                // Where there are several names, the library's.
                let known = functions.entry(symbol.address()).or_insert_with(|| name.clone());
                if name.starts_with("portcullis::") {
                    *known = name;
                }
            }
        }
        let mut image =
            Image { path: path.to_owned(), start: text.address(), text: text.data()?.to_vec(), functions, cpu };
        let [Some(first), Some(last)] = bounds else { bail!("the image has no list of alternatives") };
        image.patch(&file, first, last)?;
        Ok(image)
    }

    fn patch(&mut self, file: &ElfFile64, first: u64, last: u64) -> Result<()> {
        let section = file
            .sections()
            .find(|section| (section.address()..section.address() + section.size()).contains(&first))
            .context("the list of alternatives is in no section")?;
        let data = section.data()?;
        for at in (first..last).step_by(8) {
            let offset = (at - section.address()) as usize;
            let word = |offset: usize| -> Result<u32> {
                Ok(u32::from_le_bytes(data.get(offset..offset + 4).context("the list is cut off")?.try_into()?))
            };
            let place = at.wrapping_add(i64::from(word(offset)? as i32) as u64);
            let bytes: &[u8] = match word(offset + 4)? {
                VERW if self.cpu.verw => {
                    let operand = self.find("portcullis::x86_64::alternatives::verw_selector")?;
                    let displacement = operand.wrapping_sub(place + 7) as u32;
                    &[&[0x0f, 0x00, 0x2d], &displacement.to_le_bytes()[..]].concat()
                }
                VERW | LOCK => continue,
                last_byte if self.cpu.smap => &[0x0f, 0x01, last_byte as u8],
                _ => continue,
            };
            self.replace(place, bytes)?;
        }
        Ok(())
    }

    /// Puts other bytes there.
    pub fn replace(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let offset = address.wrapping_sub(self.start) as usize;
        let place = self.text.get_mut(offset..offset.saturating_add(bytes.len()));
        place.with_context(|| format!("{address:#x} is not in the text"))?.copy_from_slice(bytes);
        Ok(())
    }

    /// The address of a function, by its name without type parameters.
    pub fn find(&self, name: &str) -> Result<u64> {
        self.find_all(name).next().with_context(|| format!("{} has no {name}", self.path.display()))
    }

    /// The IRET that enters user mode.
    pub fn iret_to_user(&self) -> Result<u64> {
        self.find("portcullis::x86_64::bad_iret::iret_to_user")
    }

    /// FRED's entry points, if it has these: they begin a page.
    pub fn fred_entries(&self) -> Result<u64> {
        Ok(self.find("portcullis::x86_64::fred::entries")?.next_multiple_of(4096))
    }

    /// The ERETU that enters user mode.
    pub fn eretu_to_user(&self) -> Result<u64> {
        Ok(self.fred_entries()? + layout::FRED_ERETU)
    }

    /// Where the doors look whether FRED is on, if they can have it.
    pub fn fred_is_on(&self) -> Option<u64> {
        self.fred_entries().and_then(|_| self.find("portcullis_fred_is_on")).ok()
    }

    /// The addresses of all functions of this name.
    pub fn find_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u64> + 'a {
        let is_it =
            move |found: &str| found.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::<"));
        self.functions.iter().filter(move |(_, found)| is_it(found)).map(|(address, _)| *address)
    }

    /// The function that the address is in, and where that starts.
    pub fn function(&self, address: u64) -> Option<(u64, &str)> {
        let (start, name) = self.functions.range(..=address).next_back()?;
        // Without what comes of its type parameters.
        Some((*start, name.split("::<").next().unwrap_or(name)))
    }

    /// Whether it is an instruction of a door.
    pub fn is_in_a_door(&self, address: u64) -> bool {
        self.function(address).is_some_and(|(_, name)| is_door(name))
    }

    /// The next function's address.
    pub fn end_of(&self, start: u64) -> u64 {
        self.functions.range(start + 1..).next().map_or(start, |(next, _)| *next)
    }

    /// The instruction there.
    pub fn instruction(&self, address: u64) -> Result<Instruction> {
        let offset = address.wrapping_sub(self.start) as usize;
        let bytes = self.text.get(offset..).with_context(|| format!("{address:#x} is not in the text"))?;
        let bytes = &bytes[..bytes.len().min(15)];
        let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
        ensure!(!instruction.is_invalid(), "no instruction at {address:#x}");
        Ok(instruction)
    }

    /// Its text, as the disassembler has it, and its source line.
    pub fn describe(&self, address: u64) -> String {
        let place = self.function(address).map_or(format!("{address:#x}"), |(start, name)| {
            format!("{}+{:#x}", name.rsplit("::").next().unwrap_or(name), address - start)
        });
        let mut addr2line = Command::new("addr2line");
        addr2line.arg("-e").arg(&self.path).arg(format!("{address:#x}"));
        let output = progress::output(&mut addr2line);
        let line = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
        let line = line.rsplit("/portcullis/").next().unwrap_or(&line).to_owned();
        if line.contains('?') { place } else { format!("{place} ({line})") }
    }
}

/// Whether a function of this name is a door, or a piece of one.
fn is_door(name: &str) -> bool {
    const DOORS: [&str; 19] = [
        "fred::entries",
        "nmi::nmi_entry",
        "espfix::leave_to_ldt_stack",
        "way_out::leave_by_iret",
        "way_out::enter_user_mode",
        "way_out::leave_by_iret_popped",
        "way_out::leave_32",
        "paranoid::double_fault",
        "paranoid::ist_entry",
        "exception::stub_entry",
        "exception::from_kernel",
        "exception::from_user",
        "exception::stubs",
        "syscall32::int80_entry",
        "syscall32::sysenter_entry",
        "syscall32::syscall32_entry",
        "syscall64::first_way_out",
        "syscall64::syscall64_entry",
        "syscall64::syscall32_entry_closed",
    ];
    name == "portcullis_leave_by_eretu"
        || name.strip_prefix(LIBRARY).is_some_and(|name| DOORS.contains(&name) || name == "bad_iret::iret_to_user")
}
