use proptest::collection::vec;
use proptest::prelude::*;

use super::Mode::*;
use super::*;

fn decode(mode: Mode, code: &[u8]) -> Instruction<'_> {
    Instruction::decode(mode, code).unwrap()
}

/// The value of register n is 0x1000 * (n + 1).
fn memory(mode: Mode, code: &[u8]) -> (SegmentRegister, u64, usize) {
    let modrm = decode(mode, code).modrm().unwrap();
    let Operand::Memory(address) = modrm.operand else { panic!("a register: {code:02x?}") };
    let offset = address.offset(0x40_0000, |register| 0x1000 * (u64::from(register) + 1));
    (address.segment, offset, modrm.end)
}

#[test]
fn rex_is_one_in_64_bit_code_only_and_only_in_front_of_the_opcode() {
    assert_eq!(decode(Bits64, &[0x48, 0x55]).opcode, 0x55);
    assert_eq!(decode(Bits32, &[0x48, 0x55]).opcode, 0x48);
    assert_eq!(decode(Bits16, &[0x4f]).opcode, 0x4f);
    assert_eq!(decode(Bits64, &[0x41, 0x55]).rex, 0x41);
    assert_eq!(decode(Bits64, &[0x41, 0x66, 0x55]).rex, 0);
    assert_eq!(decode(Bits64, &[0x48, 0x66, 0x0f, 0x01]).operand_bytes(), 2);
    assert_eq!(decode(Bits64, &[0x66, 0x48, 0x0f, 0x01]).operand_bytes(), 8);
    assert_eq!(decode(Bits64, &[0x40, 0x48, 0x0f, 0x01]).operand_bytes(), 8);
}

#[test]
fn the_size_of_an_operand_is_the_code_segments_or_the_other() {
    for (mode, code, bytes) in [
        (Bits64, &[0x0f, 0x01][..], 4),
        (Bits64, &[0x66, 0x0f, 0x01], 2),
        (Bits32, &[0x0f, 0x01], 4),
        (Bits32, &[0x66, 0x0f, 0x01], 2),
        (Bits16, &[0x0f, 0x01], 2),
        (Bits16, &[0x66, 0x0f, 0x01], 4),
    ] {
        assert_eq!(decode(mode, code).operand_bytes(), bytes, "{mode:?} {code:02x?}");
    }
}

#[test]
fn prefixes_come_in_any_number_up_to_the_longest_instruction() {
    let code = [0xf3, 0x2e, 0x65, 0x66, 0x67, 0xf0, 0x3e, 0xfa];
    assert_eq!(decode(Bits32, &code).opcode, 0xfa);
    assert_eq!(decode(Bits32, &code).head, 8);
    assert!(decode(Bits32, &code).names_segments);
    assert!(!decode(Bits32, &[0x2e, 0x66, 0x2e, 0xfa]).names_segments);
    let mut long = [0x66; 16];
    long[14] = 0xfa;
    assert_eq!(decode(Bits64, &long).opcode, 0xfa);
    long[14] = 0x66;
    long[15] = 0xfa;
    assert_eq!(Instruction::decode(Bits64, &long), None);
    assert_eq!(Instruction::decode(Bits64, &[]), None);
    assert_eq!(Instruction::decode(Bits64, &[0x66, 0x0f]), None);
}

#[test]
fn addresses_of_64_bit_code() {
    // sgdt [rax], [rip + 0x10], fs:[rax], es:[rax], [rsp + 8], [r12 + r9 * 4 - 1], [0x1234], [eax + 0x10].
    assert_eq!(memory(Bits64, &[0x0f, 0x01, 0x00]), (Ds, 0x1000, 3));
    assert_eq!(memory(Bits64, &[0x0f, 0x01, 0x05, 0x10, 0, 0, 0]), (Ds, 0x40_0010, 7));
    assert_eq!(memory(Bits64, &[0x64, 0x0f, 0x01, 0x00]), (Fs, 0x1000, 4));
    assert_eq!(memory(Bits64, &[0x26, 0x0f, 0x01, 0x00]), (Ds, 0x1000, 4));
    assert_eq!(memory(Bits64, &[0x0f, 0x01, 0x44, 0x24, 8]), (Ss, 0x5008, 5));
    assert_eq!(memory(Bits64, &[0x43, 0x0f, 0x01, 0x44, 0x8c, 0xff]), (Ds, 0xd000 + 4 * 0xa000 - 1, 6));
    assert_eq!(memory(Bits64, &[0x0f, 0x01, 0x04, 0x25, 0x34, 0x12, 0, 0]), (Ds, 0x1234, 8));
    assert_eq!(memory(Bits64, &[0x67, 0x0f, 0x01, 0x40, 0x10]), (Ds, 0x1010, 5));
    // r13 has no form without a displacement; r12 as an index is one.
    assert_eq!(memory(Bits64, &[0x41, 0x0f, 0x01, 0x45, 0]), (Ds, 0xe000, 5));
    assert_eq!(memory(Bits64, &[0x42, 0x0f, 0x01, 0x04, 0x20]), (Ds, 0x1000 + 0xd000, 4 + 1));
    assert_eq!(memory(Bits64, &[0x0f, 0x01, 0x80, 0xff, 0xff, 0xff, 0xff]), (Ds, 0xfff, 7));
}

#[test]
fn addresses_of_32_and_16_bit_code() {
    // There is no relative address, and any segment counts.
    assert_eq!(memory(Bits32, &[0x0f, 0x01, 0x05, 0x10, 0, 0, 0]), (Ds, 0x10, 7));
    assert_eq!(memory(Bits32, &[0x26, 0x0f, 0x01, 0x00]), (Es, 0x1000, 4));
    assert_eq!(memory(Bits32, &[0x0f, 0x01, 0x45, 0xfc]), (Ss, 0x6000 - 4, 4));
    assert_eq!(memory(Bits32, &[0x3e, 0x0f, 0x01, 0x45, 0xfc]), (Ds, 0x6000 - 4, 5));
    assert_eq!(memory(Bits32, &[0x0f, 0x01, 0x04, 0x24]), (Ss, 0x5000, 4));
    assert_eq!(memory(Bits32, &[0x67, 0x0f, 0x01, 0x40, 0x10]), (Ds, 0x4000 + 0x7010, 5));
    for (rm, segment, offset) in [
        (0, Ds, 0xb000),
        (1, Ds, 0xc000),
        (2, Ss, 0xd000),
        (3, Ss, 0xe000),
        (4, Ds, 0x7000),
        (5, Ds, 0x8000),
        (7, Ds, 0x4000),
    ] {
        assert_eq!(memory(Bits16, &[0x0f, 0x01, rm]), (segment, offset, 3), "{rm}");
    }
    assert_eq!(memory(Bits16, &[0x0f, 0x01, 0x06, 0x34, 0x12]), (Ds, 0x1234, 5));
    assert_eq!(memory(Bits16, &[0x0f, 0x01, 0x46, 0xff]), (Ss, 0x5fff, 4));
    assert_eq!(memory(Bits16, &[0x0f, 0x01, 0x80, 0, 0xf0]), (Ds, 0xa000, 5));
    assert_eq!(memory(Bits16, &[0x67, 0x0f, 0x01, 0x00]), (Ds, 0x1000, 4));
}

#[test]
fn registers_are_operands_too() {
    let modrm = decode(Bits64, &[0x41, 0x0f, 0x01, 0xe1]).modrm().unwrap();
    assert_eq!((modrm.extension, modrm.operand, modrm.end), (4, Operand::Register(9), 4));
    let modrm = decode(Bits32, &[0x0f, 0x00, 0xc8]).modrm().unwrap();
    assert_eq!((modrm.extension, modrm.operand, modrm.end), (1, Operand::Register(0), 3));
}

#[test]
fn operands_that_are_cut_off_are_none() {
    for code in [&[0x0f, 0x01][..], &[0x0f, 0x01, 0x04], &[0x0f, 0x01, 0x05, 1, 2, 3], &[0x0f, 0x01, 0x40]] {
        assert_eq!(decode(Bits64, code).modrm(), None, "{code:02x?}");
    }
}

#[test]
fn what_may_be_stepped_depends_on_the_mode() {
    let may = |mode, code| decode(mode, code).may_be_stepped();
    assert!(!may(Bits64, &[0x48, 0x9c]) && may(Bits32, &[0x48, 0x9c]));
    assert!(!may(Bits64, &[0x4f, 0x0f, 0x05]) && may(Bits16, &[0x4f, 0x0f, 0x05]));
    assert!(!may(Bits32, &[0x66, 0x9d]) && !may(Bits32, &[0xcd, 0x80]) && !may(Bits32, &[0x0f, 0x34]));
    assert!(!may(Bits64, &[0xcc]) && !may(Bits64, &[0x2e, 0x8e, 0xd0]));
    assert!(may(Bits64, &[0x55]) && may(Bits64, &[0xc3]) && may(Bits64, &[0x0f, 0x1e, 0xfa]));
}

#[test]
fn flags_and_repetitions_are_seen_behind_prefixes() {
    assert!(decode(Bits64, &[0x48, 0xcf]).loads_flags() && decode(Bits32, &[0x66, 0x9d]).loads_flags());
    assert!(!decode(Bits32, &[0x48, 0xcf]).loads_flags());
    assert!(decode(Bits64, &[0xf3, 0x48, 0xa5]).is_repeated() && !decode(Bits64, &[0x48, 0xa5]).is_repeated());
    assert!(!decode(Bits64, &[0xf3, 0x0f, 0x1e, 0xfa]).is_repeated());
    assert!(!decode(Bits64, &[0x55]).has_prefix() && decode(Bits64, &[0xf3, 0x90]).has_prefix());
    assert!(!decode(Bits64, &[0x0f, 0x0b]).has_prefix() && decode(Bits64, &[0x48, 0x0f, 0x0b]).has_prefix());
}

proptest! {
    /// Any bytes, in any mode: nothing panics, and what is decoded lies within them.
    #[test]
    fn any_bytes_are_an_instruction_or_none(bytes in vec(any::<u8>(), 0..20), next: u64, value: u64) {
        for mode in [Bits16, Bits32, Bits64] {
            let Some(instruction) = Instruction::decode(mode, &bytes) else { continue };
            let registers = if mode == Bits64 { 16 } else { 8 };
            prop_assert!(instruction.head <= bytes.len().min(LONGEST));
            prop_assert!([2, 4, 8].contains(&instruction.operand_bytes()));
            prop_assert!(mode == Bits64 || instruction.rex == 0);
            let _ = (instruction.may_be_stepped(), instruction.loads_flags(), instruction.is_repeated(), instruction.has_prefix());
            let Some(modrm) = instruction.modrm() else { continue };
            prop_assert!(modrm.end > instruction.head && modrm.end <= bytes.len().min(LONGEST));
            prop_assert!(modrm.extension < 8);
            match modrm.operand {
                Operand::Register(number) => prop_assert!(number < registers),
                Operand::Memory(address) => {
                    prop_assert!([2, 4, 8].contains(&address.size));
                    let offset = address.offset(next, |_| value);
                    prop_assert!(address.size == 8 || offset < 1 << (8 * address.size));
                    prop_assert!(address.index.is_none_or(|(register, scale)| register != 4 && [1, 2, 4, 8].contains(&scale)));
                }
            }
        }
    }

    /// What is cut off is none, at each byte of an instruction that was whole.
    #[test]
    fn what_is_cut_off_is_none(bytes in vec(any::<u8>(), 15)) {
        for mode in [Bits16, Bits32, Bits64] {
            if let Some(modrm) = Instruction::decode(mode, &bytes).and_then(|instruction| instruction.modrm()) {
                for len in 0..modrm.end {
                    let cut = Instruction::decode(mode, &bytes[..len]).and_then(|instruction| instruction.modrm());
                    prop_assert_eq!(cut, None, "{} of {} bytes", len, modrm.end);
                }
            }
        }
    }
}
