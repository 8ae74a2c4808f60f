use super::*;
use crate::x86_64::doors::tests::Minimal;
use crate::x86_64::tables::Ist;

#[test]
fn every_vector_has_a_gate_and_those_that_may_hit_a_door_a_stack() {
    let idt = Idt::new();
    // SAFETY: nobody else uses it.
    unsafe { idt.fill::<Minimal<false>>() };
    // SAFETY: as above.
    let gates = unsafe { &*idt.0.get() };
    for (vector, [low, _]) in gates.iter().enumerate() {
        let (ist, present, dpl) = (low >> 32 & 7, low >> 47 & 1, low >> 45 & 3);
        let expected = match vector {
            1 => Ist::Debug as u64,
            2 => Ist::Nmi as u64,
            8 => Ist::DoubleFault as u64,
            18 => Ist::MachineCheck as u64,
            _ => 0,
        };
        assert_eq!((ist, present), (expected, 1), "vector {vector}");
        // INT3, INTO, INT 0x80.
        let by_user = [3, 4, 0x80].contains(&vector);
        assert_eq!(dpl, if by_user { 3 } else { 0 }, "vector {vector}");
    }
}
