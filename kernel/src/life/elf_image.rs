//! Loading an ELF program into an address space, as Linux 6.1's `binfmt_elf.c` does.
//!
//! What is wrong with the headers is found before the old program is gone, and is an error of exec. What is wrong with a
//! segment is found when it is mapped, and ends the process.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use elf::abi::*;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader};
use elf::parse::ParsingTable;
use elf::segment::ProgramHeader;
use linux_raw_sys::general::{MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE};

use crate::errno::{Errno, Result};
use crate::fs::File;
use crate::memory::address_space::AddressSpace;
use crate::memory::map::Object;
use crate::memory::{PAGE_SIZE, Width, page_down, page_up, user};

/// Bytes of a file header and of a program header of each class.
const SIZES_64: (usize, u16) = (64, 56);
const SIZES_32: (usize, u16) = (52, 32);
/// Where a file header says which machine the program is for, in both classes.
const MACHINE_AT: usize = 18;
/// i486: for Linux the same as i386.
const EM_486: u16 = 6;

/// A parsed ELF file, not loaded yet.
pub struct Program {
    file: Arc<File>,
    /// What the machine runs it as.
    pub width: Width,
    header: FileHeader<LittleEndian>,
    segments: Vec<ProgramHeader>,
    /// Path of the dynamic linker.
    pub interpreter: Option<Vec<u8>>,
}

/// Where a program has been put.
pub struct Loaded {
    /// First instruction.
    pub entry: u64,
    /// What was added to the file's addresses.
    pub base: u64,
    /// Where its program headers are.
    pub headers: u64,
    /// How many.
    pub header_count: u64,
    /// Bytes of one.
    pub header_size: u64,
    /// End of its last segment: where the heap begins.
    pub end: u64,
}

/// How far the segments reach that were mapped so far, relative to the base.
#[derive(Default)]
struct Reached {
    /// What comes from the file.
    file: u64,
    /// What there is in memory.
    memory: u64,
    /// Whether the zeros between the two are executable.
    executable: bool,
}

impl Program {
    /// Reads and checks the headers of a program. ENOEXEC if the machine cannot run it.
    pub fn parse(file: Arc<File>) -> Result<Program> {
        let mut program = Program::parse_headers(file)?;
        if !matches!(program.header.e_type, ET_EXEC | ET_DYN) {
            return Err(Errno::ENOEXEC);
        }
        if let Some(segment) = program.segments.iter().find(|segment| segment.p_type == PT_INTERP) {
            program.interpreter = Some(read_interpreter(&program.file, segment)?);
        }
        Ok(program)
    }

    /// The same for the dynamic linker of a program of this width. EIO if the file is too short, ELIBBAD if it is none.
    pub fn parse_interpreter(file: Arc<File>, width: Width) -> Result<Program> {
        if file.inode().metadata().size < sizes(width).0 as u64 {
            return Err(Errno::EIO);
        }
        let program = Program::parse_headers(file).map_err(|_| Errno::ELIBBAD)?;
        if program.width == width { Ok(program) } else { Err(Errno::ELIBBAD) }
    }

    fn parse_headers(file: Arc<File>) -> Result<Program> {
        // What the file does not have is zero. As in Linux, the machine alone decides about the class.
        let mut start = [0u8; 64];
        file.read_kernel(&mut start, 0)?;
        let width = match u16::from_le_bytes([start[MACHINE_AT], start[MACHINE_AT + 1]]) {
            EM_X86_64 => Width::Bits64,
            EM_386 | EM_486 => Width::Bits32,
            _ => return Err(Errno::ENOEXEC),
        };
        let class = match width {
            Width::Bits64 => Class::ELF64,
            Width::Bits32 => Class::ELF32,
        };
        let (header_size, program_header_size) = sizes(width);
        let ident = (LittleEndian, class, 0, 0);
        let header = FileHeader::parse_tail(ident, &start[EI_NIDENT..header_size]).map_err(|_| Errno::ENOEXEC)?;
        let count = u64::from(header.e_phnum);
        let known = start.starts_with(&ELFMAGIC)
            && header.e_phentsize == program_header_size
            && (1..=PAGE_SIZE / u64::from(program_header_size)).contains(&count);
        if !known {
            return Err(Errno::ENOEXEC);
        }
        let mut table = vec![0u8; usize::from(header.e_phnum * program_header_size)];
        if file.read_kernel(&mut table, header.e_phoff) != Ok(table.len()) {
            return Err(Errno::ENOEXEC);
        }
        Ok(Program {
            file,
            width,
            header,
            segments: ParsingTable::new(LittleEndian, class, &table).iter().collect(),
            interpreter: None,
        })
    }

    /// Whether it asks for an executable stack.
    pub fn wants_executable_stack(&self) -> bool {
        self.segments.iter().any(|segment| segment.p_type == PT_GNU_STACK && segment.p_flags & PF_X != 0)
    }

    fn loads(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.segments.iter().filter(|segment| segment.p_type == PT_LOAD)
    }

    /// Maps its segments into the current address space, as the main program.
    pub fn load(&self, mm: &AddressSpace) -> Result<Loaded> {
        let mut base = 0;
        if self.header.e_type == ET_DYN {
            let align = self.loads().map(|segment| segment.p_align);
            let align = align.filter(|align| align.is_power_of_two()).max().unwrap_or(0);
            let place = (self.width.program_base() + mm.placement().program) & !(align.max(PAGE_SIZE) - 1);
            base = page_down(place.wrapping_sub(self.first_address()));
            // The whole of it has to fit there.
            if self.loads().next().is_some() {
                let start = page_down(base.wrapping_add(self.first_address()));
                self.reserve(mm, start, MAP_PRIVATE | MAP_FIXED_NOREPLACE)?;
            }
        }
        self.load_at(mm, base, MAP_PRIVATE | MAP_FIXED_NOREPLACE, 0)
    }

    /// Maps its segments wherever there is room, as the dynamic linker of another program.
    pub fn load_interpreter(&self, mm: &AddressSpace) -> Result<Loaded> {
        if self.loads().next().is_none() || !matches!(self.header.e_type, ET_EXEC | ET_DYN) {
            return Err(Errno::EINVAL);
        }
        let mut base = 0;
        if self.header.e_type == ET_DYN {
            let place = self.reserve(mm, 0, MAP_PRIVATE)?;
            base = place.wrapping_sub(page_down(self.first_address()));
        }
        self.load_at(mm, base, MAP_PRIVATE | MAP_FIXED, base)
    }

    fn first_address(&self) -> u64 {
        self.loads().next().map_or(0, |segment| segment.p_vaddr)
    }

    /// Finds out where all segments together have room.
    fn reserve(&self, mm: &AddressSpace, hint: u64, flags: u32) -> Result<u64> {
        let ends = self.loads().map(|segment| segment.p_vaddr.wrapping_add(segment.p_memsz));
        let starts = self.loads().map(|segment| page_down(segment.p_vaddr));
        let len = ends.max().unwrap_or(0).wrapping_sub(starts.min().unwrap_or(0));
        let place = mm.map(hint, len, 0, flags, Object::Anonymous)?;
        mm.unmap(place, len)?;
        Ok(place)
    }

    /// Maps the segments, the first one with `first_flags`. What has to be the user's is an address less `from`.
    fn load_at(&self, mm: &AddressSpace, base: u64, first_flags: u32, from: u64) -> Result<Loaded> {
        let end = mm.end();
        let mut reached = Reached::default();
        let mut flags = first_flags;
        for segment in self.loads() {
            // Zeros in front of the next segment. Odd protections may keep the part of a page from being cleared.
            map_zeros(mm, base, &reached)?;
            let _ = clear_page_end(base, &reached, reached.memory.wrapping_sub(reached.file));
            self.map_segment(mm, base, segment, flags)?;
            flags = MAP_PRIVATE | MAP_FIXED;
            let address = from.wrapping_add(segment.p_vaddr);
            let fits = address < end && segment.p_filesz <= segment.p_memsz && segment.p_memsz <= end - address;
            if !fits {
                return Err(Errno::EINVAL);
            }
            let memory = segment.p_vaddr.wrapping_add(segment.p_memsz);
            reached.file = reached.file.max(segment.p_vaddr.wrapping_add(segment.p_filesz));
            if memory > reached.memory {
                reached.memory = memory;
                reached.executable = segment.p_flags & PF_X != 0;
            }
        }
        map_zeros(mm, base, &reached)?;
        clear_page_end(base, &reached, PAGE_SIZE)?;
        let offset = self.header.e_phoff;
        let headers = self
            .loads()
            .find(|segment| (segment.p_offset..segment.p_offset.saturating_add(segment.p_filesz)).contains(&offset))
            .map_or(0, |segment| (offset - segment.p_offset).wrapping_add(segment.p_vaddr));
        Ok(Loaded {
            entry: base.wrapping_add(self.header.e_entry),
            base,
            headers: base.wrapping_add(headers),
            header_count: self.header.e_phnum.into(),
            header_size: self.header.e_phentsize.into(),
            end: base.wrapping_add(reached.memory),
        })
    }

    /// Maps what the file has of a segment, in whole pages: also the page of a segment that has nothing but zeros.
    fn map_segment(&self, mm: &AddressSpace, base: u64, segment: &ProgramHeader, flags: u32) -> Result<()> {
        let prot = [(PF_R, PROT_READ), (PF_W, PROT_WRITE), (PF_X, PROT_EXEC)]
            .iter()
            .filter(|(flag, _)| segment.p_flags & flag != 0)
            .fold(0, |prot, &(_, bit)| prot | bit);
        let within = segment.p_vaddr % PAGE_SIZE;
        let len = segment.p_filesz.checked_add(within).ok_or(Errno::ENOMEM)?;
        if len == 0 {
            return Ok(());
        }
        let object = Object::File {
            file: self.file.inode().clone(),
            offset: segment.p_offset.wrapping_sub(within),
            shared: false,
        };
        let start = page_down(base.wrapping_add(segment.p_vaddr));
        mm.map(start, len, prot, flags, object).map(|_| ())
    }
}

fn sizes(width: Width) -> (usize, u16) {
    match width {
        Width::Bits64 => SIZES_64,
        Width::Bits32 => SIZES_32,
    }
}

/// Maps anonymous pages for what the file does not have, as far as no page of the file is there.
fn map_zeros(mm: &AddressSpace, base: u64, reached: &Reached) -> Result<()> {
    let page_after = |end: u64| page_up(base.wrapping_add(end)).ok_or(Errno::ENOMEM);
    let (start, end) = (page_after(reached.file)?, page_after(reached.memory)?);
    if reached.memory <= reached.file || end <= start {
        return Ok(());
    }
    let prot = PROT_READ | PROT_WRITE | if reached.executable { PROT_EXEC } else { 0 };
    mm.map(start, end - start, prot, MAP_PRIVATE | MAP_FIXED, Object::Anonymous).map(|_| ())
}

/// Clears up to `most` bytes of the file's last page behind what belongs to the program. This also copies it: the mapping
/// is private.
fn clear_page_end(base: u64, reached: &Reached, most: u64) -> Result<()> {
    let start = base.wrapping_add(reached.file);
    let within = start % PAGE_SIZE;
    if reached.memory <= reached.file || within == 0 {
        return Ok(());
    }
    user::clear(start, most.min(PAGE_SIZE - within) as usize)
}

/// The path in a segment. ENOEXEC for none, EIO if the file ends before.
fn read_interpreter(file: &File, segment: &ProgramHeader) -> Result<Vec<u8>> {
    const PATH_MAX: u64 = 4096;
    if !(2..=PATH_MAX).contains(&segment.p_filesz) {
        return Err(Errno::ENOEXEC);
    }
    let mut path = vec![0; segment.p_filesz as usize];
    if file.read_kernel(&mut path, segment.p_offset)? != path.len() {
        return Err(Errno::EIO);
    }
    if path.last() != Some(&0) {
        return Err(Errno::ENOEXEC);
    }
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(0);
    path.truncate(end);
    Ok(path)
}

#[cfg(test)]
mod tests;
