use proptest::prelude::*;

use crate::task::trace_state::debug_registers::*;

/// DR7 with this type and length for one address, enabled locally (SDM volume 3, 17.2.4).
const fn control(n: usize, kind: u64, len_code: u64) -> u64 {
    1 << (2 * n) | kind << (16 + 4 * n) | len_code << (18 + 4 * n)
}

#[test]
fn lengths_and_types_are_the_manuals() {
    for (code, len) in [(0, 1), (1, 2), (2, 8), (3, 4)] {
        let breakpoint = Breakpoint::decode(control(2, WRITE, code), 2);
        assert_eq!((breakpoint.enabled, breakpoint.kind, breakpoint.len), (true, WRITE, len));
        assert!(!Breakpoint::decode(control(2, WRITE, code), 1).enabled);
    }
}

#[test]
fn what_is_watched_is_aligned_user_memory_and_no_port() {
    let check = |kind, len_code, address| Breakpoint::decode(control(0, kind, len_code), 0).check(address).is_ok();
    assert!(check(WRITE, 3, 0x1000) && !check(WRITE, 3, 0x1002));
    assert!(check(EXECUTE, 0, 0x1001) && !check(EXECUTE, 1, 0x1000), "execution of one byte");
    assert!(!check(PORTS, 0, 0x60));
    assert!(check(WRITE, 0, USER_END - 1) && !check(WRITE, 0, USER_END));
    assert!(!check(WRITE, 0, 0xffff_ffff_8000_0000) && !check(WRITE, 2, u64::MAX - 7));
}

#[test]
fn a_control_that_is_wrong_in_part_changes_nothing() {
    let registers = DebugRegisters::default();
    assert_eq!(registers.set_address(0, 0x1000), Ok(()));
    assert_eq!(registers.set_address(1, 0x2001), Ok(()));
    assert_eq!(registers.set_control(control(0, WRITE, 3)), Ok(()));
    assert_eq!(registers.enabled(0), Some(false));
    let bad = control(0, WRITE, 0) | control(1, WRITE, 3);
    assert_eq!(registers.set_control(bad), Err(Errno::EINVAL), "address 1 is odd");
    assert_eq!((registers.enabled(0), registers.enabled(1)), (Some(false), None));
    assert_eq!(Breakpoint::decode(registers.control.load(Relaxed), 0).len, 4, "as before");
}

#[test]
fn a_new_address_must_fit_what_is_watched_there() {
    let registers = DebugRegisters::default();
    assert_eq!(registers.set_address(0, 0x1000), Ok(()));
    assert_eq!(registers.set_control(control(0, WRITE, 3)), Ok(()));
    assert_eq!(registers.set_address(0, 0x1001), Err(Errno::EINVAL));
    assert_eq!((registers.set_address(0, 0x2004), registers.get(0)), (Ok(()), 0x2004));
}

#[test]
fn what_nobody_wrote_reads_as_the_processor_has_it() {
    let registers = DebugRegisters::default();
    assert_eq!((registers.get(0), registers.get(6), registers.get(7)), (0, 0xffff_0ff0, 0));
    assert!(!registers.is_armed());
    assert_eq!(registers.set_address(0, 0x1000), Ok(()));
    assert_eq!(registers.set_control(control(0, WRITE, 0)), Ok(()));
    assert!(registers.is_armed());
    registers.reset();
    assert!(!registers.is_armed() && registers.get(0) == 0 && !registers.is_known(0));
}

proptest! {
    /// Whatever a tracer writes, the processor never watches kernel memory, ports or the registers themselves.
    #[test]
    fn the_processor_gets_nothing_dangerous(steps in prop::collection::vec((0usize..5, any::<u64>(), any::<bool>()), 1..20)) {
        let registers = DebugRegisters::default();
        for (n, value, small) in steps {
            let value = if small { value >> 16 } else { value };
            let _ = match n {
                0..ADDRESSES => registers.set_address(n, value),
                _ => registers.set_control(value),
            };
            let control = registers.control.load(Relaxed);
            prop_assert_eq!(control & DR7_RESERVED, 0);
            for n in 0..ADDRESSES {
                let breakpoint = Breakpoint::decode(control, n);
                if breakpoint.enabled {
                    let address = registers.get(n);
                    prop_assert!(address < USER_END && address.is_multiple_of(breakpoint.len));
                    prop_assert!(breakpoint.kind != PORTS);
                }
            }
        }
    }
}
