use super::*;

#[test]
fn whatever_is_written_the_registers_are_a_users() {
    let mut regs = UserRegs::new(0, 0);
    for value in [0, 0x10, 0x18, 0x33, u16::MAX] {
        regs.set_cs(value);
        regs.set_ss(value);
        assert_eq!((regs.cs() & 3, regs.ss() & 3), (3, 3), "{value:#x}");
    }
    for value in [0, u64::MAX, flags::IOPL | flags::VM] {
        regs.set_rflags(value);
        let privileged = flags::IOPL | flags::VM | flags::VIF | flags::VIP;
        assert_eq!(regs.rflags() & privileged, 0, "{value:#x}");
        assert_eq!(regs.rflags() & (flags::IF | flags::FIXED), flags::IF | flags::FIXED);
    }
    regs.set_rflags(UserRegs::FLAGS);
    assert_eq!(regs.rflags() & UserRegs::FLAGS, UserRegs::FLAGS);
    assert!(regs.as_saved().from_user());
}
