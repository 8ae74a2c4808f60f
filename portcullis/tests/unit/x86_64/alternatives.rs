use super::*;

#[test]
fn verw_reaches_its_operand_from_the_next_instruction() {
    assert_eq!(verw(0x1000, 0x1007), Some([0x0f, 0x00, 0x2d, 0, 0, 0, 0]));
    assert_eq!(verw(0x1000, 0x1006), Some([0x0f, 0x00, 0x2d, 0xff, 0xff, 0xff, 0xff]));
    assert_eq!(verw(0, 1 << 40), None);
}
