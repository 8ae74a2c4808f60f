//! Loading an ELF program into an address space.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use elf::abi::*;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParsingTable;
use elf::segment::ProgramHeader;
use linux_raw_sys::general::{MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE};

use crate::errno::{Errno, Result};
use crate::fs::File;
use crate::memory::address_space::{AddressSpace, Backing};
use crate::memory::{PAGE_SIZE, Width, page_down, page_up, user};

/// Bytes of a file header and of a program header of each class.
const SIZES_64: (usize, u16) = (64, 56);
const SIZES_32: (usize, u16) = (52, 32);

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

impl Program {
    /// Reads and checks the headers. ENOEXEC if this is no program that the machine can run.
    pub fn parse(file: Arc<File>) -> Result<Program> {
        let mut start = [0u8; 64];
        if file.read_kernel(&mut start, 0)? != start.len() {
            return Err(Errno::ENOEXEC);
        }
        let ident = parse_ident::<LittleEndian>(&start[..EI_NIDENT]).map_err(|_| Errno::ENOEXEC)?;
        let class = ident.1;
        let (width, machine, (header_size, program_header_size)) = match class {
            Class::ELF64 => (Width::Bits64, EM_X86_64, SIZES_64),
            Class::ELF32 => (Width::Bits32, EM_386, SIZES_32),
        };
        let header =
            FileHeader::parse_tail(ident, &start[EI_NIDENT..header_size]).map_err(|_| Errno::ENOEXEC)?;
        let known = matches!(header.e_type, ET_EXEC | ET_DYN)
            && header.e_machine == machine
            && header.e_phentsize == program_header_size
            && (1..=u16::MAX / program_header_size).contains(&header.e_phnum);
        if !known {
            return Err(Errno::ENOEXEC);
        }
        let mut table = vec![0u8; usize::from(header.e_phnum * program_header_size)];
        if file.read_kernel(&mut table, header.e_phoff)? != table.len() {
            return Err(Errno::ENOEXEC);
        }
        let segments: Vec<ProgramHeader> = ParsingTable::new(LittleEndian, class, &table).iter().collect();
        for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
            check_segment(segment, width)?;
        }
        let interpreter = match segments.iter().find(|segment| segment.p_type == PT_INTERP) {
            Some(segment) => Some(read_interpreter(&file, segment)?),
            None => None,
        };
        Ok(Program {
            file,
            width,
            header,
            segments,
            interpreter,
        })
    }

    /// Whether it asks for an executable stack.
    pub fn wants_executable_stack(&self) -> bool {
        self.segments
            .iter()
            .any(|segment| segment.p_type == PT_GNU_STACK && segment.p_flags & PF_X != 0)
    }

    fn loads(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.segments.iter().filter(|segment| segment.p_type == PT_LOAD)
    }

    /// Maps its segments into the current address space: as the main program, or (`is_interpreter`) wherever there is
    /// room.
    pub fn load(&self, mm: &AddressSpace, is_interpreter: bool) -> Result<Loaded> {
        let low = page_down(
            self.loads()
                .map(|segment| segment.p_vaddr)
                .min()
                .ok_or(Errno::ENOEXEC)?,
        );
        let high = self
            .loads()
            .map(|segment| segment.p_vaddr + segment.p_memsz)
            .max()
            .ok_or(Errno::ENOEXEC)?;
        let base = if self.header.e_type == ET_EXEC {
            0
        } else if is_interpreter {
            // Reserve the whole range, then map over it.
            let place = mm.map(0, high - low, 0, MAP_PRIVATE, Backing::Anonymous)?;
            mm.unmap(place, high - low)?;
            place.wrapping_sub(low)
        } else {
            // Below zero for a file that is linked above it: all sums wrap.
            self.width.program_base().wrapping_sub(low)
        };
        for segment in self.loads() {
            self.map_segment(mm, base, segment)?;
        }
        let offset = self.header.e_phoff;
        let headers = self
            .loads()
            .find(|segment| (segment.p_offset..segment.p_offset + segment.p_filesz).contains(&offset))
            .map_or(0, |segment| {
                base.wrapping_add(offset - segment.p_offset)
                    .wrapping_add(segment.p_vaddr)
            });
        Ok(Loaded {
            entry: base.wrapping_add(self.header.e_entry),
            base,
            headers,
            header_count: self.header.e_phnum.into(),
            header_size: self.header.e_phentsize.into(),
            end: base.wrapping_add(high),
        })
    }

    /// Maps one segment: the file's pages, then anonymous ones for what the file does not have.
    fn map_segment(&self, mm: &AddressSpace, base: u64, segment: &ProgramHeader) -> Result<()> {
        let prot = [(PF_R, PROT_READ), (PF_W, PROT_WRITE), (PF_X, PROT_EXEC)]
            .iter()
            .filter(|(flag, _)| segment.p_flags & flag != 0)
            .fold(0, |prot, &(_, bit)| prot | bit);
        let address = base.wrapping_add(segment.p_vaddr);
        let start = page_down(address);
        let file_end = address + segment.p_filesz;
        let end = page_up(address + segment.p_memsz).ok_or(Errno::ENOEXEC)?;
        let mut mapped_to = start;
        if segment.p_filesz != 0 {
            mapped_to = page_up(file_end).ok_or(Errno::ENOEXEC)?;
            let backing = Backing::File {
                inode: self.file.inode().clone(),
                offset: page_down(segment.p_offset),
                shared: false,
            };
            mm.map(start, mapped_to - start, prot, MAP_PRIVATE | MAP_FIXED, backing)?;
        }
        if end > mapped_to {
            mm.map(
                mapped_to,
                end - mapped_to,
                prot,
                MAP_PRIVATE | MAP_FIXED,
                Backing::Anonymous,
            )?;
        }
        if segment.p_memsz > segment.p_filesz && !file_end.is_multiple_of(PAGE_SIZE) && prot & PROT_WRITE != 0
        {
            // The rest of the file's last page belongs to the zeros. This also copies it: the mapping is private.
            user::clear(file_end, (mapped_to - file_end) as usize)?;
        }
        Ok(())
    }
}

fn check_segment(segment: &ProgramHeader, width: Width) -> Result<()> {
    let fits = segment
        .p_vaddr
        .checked_add(segment.p_memsz)
        .is_some_and(|end| end < width.end() - width.program_base())
        && segment.p_offset.checked_add(segment.p_filesz).is_some()
        && segment.p_filesz <= segment.p_memsz
        && segment.p_vaddr % PAGE_SIZE == segment.p_offset % PAGE_SIZE;
    if fits { Ok(()) } else { Err(Errno::ENOEXEC) }
}

fn read_interpreter(file: &File, segment: &ProgramHeader) -> Result<Vec<u8>> {
    const PATH_MAX: u64 = 4096;
    if !(2..=PATH_MAX).contains(&segment.p_filesz) {
        return Err(Errno::ENOEXEC);
    }
    let mut path = vec![0; segment.p_filesz as usize];
    if file.read_kernel(&mut path, segment.p_offset)? != path.len() || path.pop() != Some(0) {
        return Err(Errno::ENOEXEC);
    }
    Ok(path)
}
