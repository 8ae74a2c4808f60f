use super::*;
use crate::x86_64::UserRegs;

#[test]
fn what_hits_the_halt_goes_on_behind_it() {
    let start = wait_for_interrupt as *const () as u64;
    // SAFETY: the function's code is readable.
    let code = unsafe { *(start as *const [u8; 3]) };
    assert_eq!(code, [0xfb, 0xf4, 0xc3], "STI, HLT, RET");
    for (hit, goes_on) in [(0, 0), (1, 2), (2, 2)] {
        let mut regs = *UserRegs::new(start + hit, 0).as_saved();
        skip_halt(&mut regs);
        assert_eq!(regs.rip, start + goes_on, "hit at {hit}");
    }
}
