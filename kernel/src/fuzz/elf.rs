//! Programs and dynamic linkers: the bytes are the file.

use std::sync::Arc;

use linux_raw_sys::general::{O_RDONLY, S_IFREG};

use crate::fs::ramfs::RamInode;
use crate::fs::{File, Inode};
use crate::host::process;
use crate::life::elf_image::{Loaded, Program};
use crate::memory::address_space::{AddressSpace, current_mm};
use crate::memory::{MMAP_MIN_ADDR, PAGE_SIZE, Width, page_down};

/// How much is compared at each end of a segment.
const PART: u64 = 64;

pub fn run(bytes: &[u8]) {
    let file = file(bytes);
    if let Ok(program) = Program::parse(file.clone()) {
        load(program.width, |mm| check(mm, program.load(mm).ok().as_ref(), bytes, program.width));
        let path = program.interpreter.as_deref().unwrap_or(b"");
        assert!(path.len() < 4096 && !path.contains(&0), "{path:?}");
        let _ = program.wants_executable_stack();
    }
    for width in [Width::Bits64, Width::Bits32] {
        if let Ok(linker) = Program::parse_interpreter(file.clone(), width) {
            assert_eq!(linker.width, width);
            load(width, |mm| check(mm, linker.load_interpreter(mm).ok().as_ref(), bytes, width));
        }
    }
}

/// An open file with these bytes.
fn file(bytes: &[u8]) -> Arc<File> {
    let inode = RamInode::new_root(crate::fs::ramfs::DEVICE).create(b"program", S_IFREG | 0o755, 0).expect("made");
    inode.downcast::<RamInode>().and_then(RamInode::data).expect("a regular file").fill(bytes).expect("memory");
    inode.open(O_RDONLY).expect("a regular file")
}

/// Runs `test` in an empty address space.
fn load(width: Width, test: impl FnOnce(&AddressSpace)) {
    process::run(width, |_| {
        let mm = current_mm();
        mm.unmap(process::MEMORY, process::MEMORY_SIZE).expect("mapped");
        test(mm);
    });
}

fn check(mm: &AddressSpace, loaded: Option<&Loaded>, bytes: &[u8], width: Width) {
    // Whether it was loaded or not: what is mapped is the user's.
    let areas = mm.areas();
    for area in &areas {
        assert!(
            area.start < area.end && area.start >= MMAP_MIN_ADDR && area.end <= width.end(),
            "{:#x?}",
            area.range()
        );
        assert!(area.start.is_multiple_of(PAGE_SIZE) && area.end.is_multiple_of(PAGE_SIZE), "{:#x?}", area.range());
    }
    assert!(areas.windows(2).all(|pair| pair[0].end <= pair[1].start), "areas in order, none over another");
    let Some(loaded) = loaded else { return };
    let headers = Headers::of(bytes, width);
    assert_eq!(loaded.entry, loaded.base.wrapping_add(headers.entry));
    assert!(loaded.base.is_multiple_of(PAGE_SIZE));
    if !headers.pages_are_apart() {
        return;
    }
    for segment in &headers.segments {
        let address = loaded.base.wrapping_add(segment.address);
        assert!(areas.iter().any(|area| area.range().contains(&address)), "{address:#x} is not mapped");
        let in_file = segment.in_file.min((bytes.len() as u64).saturating_sub(segment.offset));
        for at in [0, in_file.saturating_sub(PART)].into_iter().filter(|_| in_file > 0) {
            let len = PART.min(in_file - at) as usize;
            let mut found = vec![0; len];
            assert_eq!(mm.peek(address + at, &mut found), len, "{:#x}", address + at);
            let start = (segment.offset + at) as usize;
            assert_eq!(found, bytes[start..start + len], "what the file has");
        }
        // Pages beyond the end of the file are there, but have nothing.
        if segment.is_writable && in_file == segment.in_file {
            let zeros = PART.min(segment.in_memory - in_file) as usize;
            let mut found = vec![0xff; zeros];
            assert_eq!(mm.peek(address + in_file, &mut found), zeros, "{:#x}", address + in_file);
            assert_eq!(found, vec![0; zeros], "what the file does not have");
        }
    }
}

/// What an ELF file says, read by a second parser.
struct Headers {
    entry: u64,
    segments: Vec<Segment>,
}

struct Segment {
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
    is_writable: bool,
}

impl Headers {
    fn of(bytes: &[u8], width: Width) -> Headers {
        let word = |at: usize, len: usize| {
            (0..len).rev().fold(0, |value: u64, n| value << 8 | u64::from(bytes.get(at + n).copied().unwrap_or(0)))
        };
        let wide = width == Width::Bits64;
        let (entry, table) = if wide { (word(24, 8), word(32, 8)) } else { (word(24, 4), word(28, 4)) };
        let (count, size) = if wide { (word(56, 2), 56) } else { (word(44, 2), 32) };
        let segments = (0..count as usize).map(|n| table as usize + n * size).filter(|at| word(*at, 4) == 1);
        let segment = |at: usize| {
            let long = |wide_at: usize, at_32: usize| if wide { word(at + wide_at, 8) } else { word(at + at_32, 4) };
            Segment {
                offset: long(8, 4),
                address: long(16, 8),
                in_file: long(32, 16),
                in_memory: long(40, 20),
                is_writable: word(at + if wide { 4 } else { 24 }, 4) & 2 != 0,
            }
        };
        Headers { entry, segments: segments.map(segment).collect() }
    }

    /// Whether the segments come in order and no two have something on one page, and each is where its file's part is on a page.
    fn pages_are_apart(&self) -> bool {
        let in_order = self.segments.windows(2).all(|pair| {
            let end = pair[0].address.checked_add(pair[0].in_memory.max(1) - 1);
            end.is_some_and(|end| page_down(end) < page_down(pair[1].address))
        });
        in_order
            && self
                .segments
                .iter()
                .all(|segment| segment.in_file > 0 && segment.address % PAGE_SIZE == segment.offset % PAGE_SIZE)
    }
}
