use super::*;

/// The guest tests show each flag but DF, which the emulator clears by itself.
#[test]
fn syscall_clears_every_flag_that_steers_the_kernel() {
    for (name, flag) in [
        ("TF", flags::TF),
        ("IF", flags::IF),
        ("DF", flags::DF),
        ("IOPL", flags::IOPL),
        ("NT", flags::NT),
        ("RF", flags::RF),
        ("AC", flags::AC),
    ] {
        assert_eq!(CLEARED_FLAGS & flag, flag, "{name}");
    }
}

/// It enters user mode by itself, after whatever NMI hit it.
#[test]
fn the_closed_door_has_the_place_of_verw_before_sysret() {
    // SAFETY: the function's code is readable.
    let code = unsafe { *(syscall32_entry_closed as *const () as *const [u8; 14]) };
    let seven_byte_nop = [0x0f, 0x1f, 0x80, 0, 0, 0, 0];
    assert_eq!((&code[5..12], &code[12..]), (&seven_byte_nop[..], &[0x0f, 0x07][..]));
}

/// The others are in `tests/doors.rs`.
#[test]
fn the_closed_door_begins_a_cache_line() {
    assert!((syscall32_entry_closed as *const () as usize).is_multiple_of(64));
}
