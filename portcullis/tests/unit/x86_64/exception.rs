use super::*;
use crate::x86_64::doors::tests::Minimal;

/// The first bytes of a vector's stub.
fn stub(vector: usize) -> [u8; 3] {
    let start = first_stub::<Minimal<false>>() as usize;
    // SAFETY: the stubs are 256 times `STUB_SIZE` bytes of readable code.
    unsafe { *((start + vector * STUB_SIZE) as *const [u8; 3]) }
}

#[test]
fn stubs_make_room_for_an_error_code_exactly_where_the_cpu_pushes_none() {
    const PUSH_0: [u8; 2] = [0x6a, 0x00];
    const PUSH_RDI: u8 = 0x57;
    for vector in 0..256 {
        let cpu_pushes = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30].contains(&vector);
        let stub = stub(vector);
        if cpu_pushes {
            assert_eq!(stub[0], PUSH_RDI, "vector {vector}");
        } else {
            assert_eq!(stub, [PUSH_0[0], PUSH_0[1], PUSH_RDI], "vector {vector}");
        }
    }
}
