use super::*;
use crate::x86_64::doors::tests::Nothing;
use crate::x86_64::tables::Ist;

#[test]
fn every_vector_has_a_gate_and_those_that_may_hit_a_door_a_stack() {
    let idt = Idt::new();
    // SAFETY: nobody else uses it.
    unsafe { idt.fill::<Nothing>() };
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
        // `Nothing` has no INT 0x80.
        assert_eq!(
            dpl,
            if [3, 4].contains(&vector) { 3 } else { 0 },
            "vector {vector}"
        );
    }
}
