use linux_raw_sys::general::{O_RDONLY, S_IFREG};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fs::Inode;
use crate::fs::ramfs::RamInode;
use crate::host;

/// An open file with these bytes.
fn file(bytes: &[u8]) -> Arc<File> {
    host::memory();
    let inode = RamInode::new_root(crate::fs::ramfs::DEVICE).create(b"program", S_IFREG | 0o755, 0).expect("made");
    inode.downcast::<RamInode>().and_then(RamInode::data).expect("a regular file").fill(bytes).expect("memory");
    inode.open(O_RDONLY).expect("a regular file")
}

/// A program header as elf(5) has it, of 64 bits.
fn segment(kind: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    let mut bytes = [kind.to_le_bytes(), 5u32.to_le_bytes()].concat();
    [offset, address, address, size, size, 4096].iter().for_each(|word: &u64| bytes.extend(word.to_le_bytes()));
    bytes
}

/// A program of 64 bits with these segments, and what follows them.
fn program(kind: u16, segments: &[Vec<u8>], rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend([kind.to_le_bytes(), 62u16.to_le_bytes()].concat());
    bytes.extend(1u32.to_le_bytes());
    [0x40_1000, 64, 0].iter().for_each(|word: &u64| bytes.extend(word.to_le_bytes()));
    bytes.extend(0u32.to_le_bytes());
    [64, 56, segments.len() as u16, 64, 0, 0].iter().for_each(|half: &u16| bytes.extend(half.to_le_bytes()));
    segments.iter().for_each(|segment| bytes.extend(segment));
    bytes.extend(rest);
    bytes
}

fn error(bytes: &[u8]) -> Option<Errno> {
    Program::parse(file(bytes)).err()
}

#[test]
fn a_static_program_is_read() {
    let bytes = program(ET_EXEC, &[segment(PT_LOAD, 0, 0x40_0000, 0x2000), segment(PT_GNU_STACK, 0, 0, 0)], b"");
    let program = Program::parse(file(&bytes)).expect("a program");
    assert_eq!(
        (program.width, program.first_address(), program.interpreter.is_none()),
        (Width::Bits64, 0x40_0000, true)
    );
    assert!(program.wants_executable_stack(), "PF_X and PF_R");
    assert_eq!(program.loads().count(), 1);
}

#[test]
fn a_dynamic_program_names_its_linker() {
    let path = b"/lib64/ld-linux-x86-64.so.2\0";
    let at = 64 + 2 * 56;
    let segments = [segment(PT_INTERP, at, 0, path.len() as u64), segment(PT_LOAD, 0, 0, 0x1000)];
    let parsed = Program::parse(file(&program(ET_DYN, &segments, path))).expect("a program");
    assert_eq!(parsed.interpreter.as_deref(), Some(b"/lib64/ld-linux-x86-64.so.2".as_slice()));
    // binfmt_elf.c: too short or not terminated is ENOEXEC, and what ends before it is EIO.
    let with = |size| error(&program(ET_DYN, &[segment(PT_INTERP, at, 0, size), segment(PT_LOAD, 0, 0, 0x1000)], path));
    assert_eq!(
        (with(1), with(5), with(29), with(5000)),
        tuple([Errno::ENOEXEC, Errno::ENOEXEC, Errno::EIO, Errno::ENOEXEC])
    );
}

fn tuple([a, b, c, d]: [Errno; 4]) -> (Option<Errno>, Option<Errno>, Option<Errno>, Option<Errno>) {
    (Some(a), Some(b), Some(c), Some(d))
}

#[test]
fn what_the_machine_cannot_run_is_refused() {
    let good = program(ET_EXEC, &[segment(PT_LOAD, 0, 0x40_0000, 0x2000)], b"");
    assert_eq!(error(&good), None);
    // Magic, machine, kind, size of a program header, their number, and a table beyond the end.
    for (at, byte) in [(0, b'X'), (18, 40), (16, 1), (54, 32), (56, 0), (57, 1), (33, 8)] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(error(&bad), Some(Errno::ENOEXEC), "byte {at}");
    }
    for len in [0, 4, 63, 64, 64 + 55] {
        assert_eq!(error(&good[..len]), Some(Errno::ENOEXEC), "{len} bytes");
    }
}

#[test]
fn a_linker_has_its_programs_width_and_errors_of_its_own() {
    let good = program(ET_DYN, &[segment(PT_LOAD, 0, 0, 0x1000)], b"");
    let parse = |bytes: &[u8], width| Program::parse_interpreter(file(bytes), width).err();
    assert_eq!(parse(&good, Width::Bits64), None);
    assert_eq!(parse(&good, Width::Bits32), Some(Errno::ELIBBAD));
    assert_eq!(parse(&good[..63], Width::Bits64), Some(Errno::EIO));
    assert_eq!(parse(&[0; 100], Width::Bits64), Some(Errno::ELIBBAD));
}

#[test]
fn programs_of_32_bits_have_headers_of_their_own_size() {
    let mut bytes = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend([2u16.to_le_bytes(), 3u16.to_le_bytes()].concat());
    [1u32, 0x804_8000, 52, 0, 0].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
    [52u16, 32, 1, 40, 0, 0].iter().for_each(|half| bytes.extend(half.to_le_bytes()));
    [1u32, 0, 0x804_8000, 0x804_8000, 0x1000, 0x1000, 5, 0x1000]
        .iter()
        .for_each(|word| bytes.extend(word.to_le_bytes()));
    let program = Program::parse(file(&bytes)).expect("a program");
    assert_eq!(
        (program.width, program.first_address(), program.header.e_entry),
        (Width::Bits32, 0x804_8000, 0x804_8000)
    );
    bytes[18] = 6;
    assert!(Program::parse(file(&bytes)).is_ok(), "i486");
}

proptest! {
    /// No bytes make it panic: neither any, nor a program with some bytes changed.
    #[test]
    fn no_bytes_panic(garbage in vec(any::<u8>(), 0..300), changes in vec((0usize..250, any::<u8>()), 0..12)) {
        let _ = Program::parse(file(&garbage));
        let mut bytes = program(ET_DYN, &[segment(PT_INTERP, 176, 0, 8), segment(PT_LOAD, 0, 0, 0x1000)], b"/lib/ld\0");
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(program) = Program::parse(file(&bytes)) {
            prop_assert!(program.interpreter.as_ref().is_none_or(|path| !path.contains(&0)));
            let _ = (program.first_address(), program.wants_executable_stack());
        }
        let _ = Program::parse_interpreter(file(&bytes), Width::Bits32);
    }
}
