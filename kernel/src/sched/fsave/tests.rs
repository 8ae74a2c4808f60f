use proptest::prelude::*;

use super::*;

/// FXSAVE's image with these registers, by their place on the stack (sign and exponent, mantissa), all of them in use.
fn image(registers: &[(u16, u64)], top: u16) -> [u8; fpu::LEGACY_SIZE] {
    let mut fxsave = [0; fpu::LEGACY_SIZE];
    put(&mut fxsave, 2, &(top << 11).to_le_bytes());
    for (n, (exponent, mantissa)) in registers.iter().enumerate() {
        put(&mut fxsave, ST + 16 * n, &mantissa.to_le_bytes());
        put(&mut fxsave, ST + 16 * n + 8, &exponent.to_le_bytes());
        fxsave[4] |= 1 << ((top as usize + n) % 8);
    }
    fxsave
}

fn tags(image: &[u8; SIZE]) -> [u32; 8] {
    let word = u32::from_le_bytes(image[8..12].try_into().expect("four bytes"));
    [0, 1, 2, 3, 4, 5, 6, 7].map(|n| word >> (2 * n) & 3)
}

#[test]
fn tags_say_what_the_registers_hold() {
    // SDM volume 1, 8.1.7: 0 valid, 1 zero, 2 special, 3 empty.
    let one = (0x3fff, 1 << 63);
    let (zero, infinity, denormal, unnormal) = ((0, 0), (0x7fff, 1 << 63), (0, 1), (0x3fff, 1));
    assert_eq!(tags(&of(&image(&[one, zero, infinity, denormal, unnormal], 0), 0, 0)), [0, 1, 2, 2, 2, 3, 3, 3]);
    // The tags are the registers', which the stack begins among.
    assert_eq!(tags(&of(&image(&[one, zero], 7), 0, 0)), [1, 3, 3, 3, 3, 3, 3, 0]);
}

#[test]
fn the_environment_has_seven_words() {
    let mut fxsave = image(&[], 3);
    put(&mut fxsave, 0, &0x37fu16.to_le_bytes());
    put(&mut fxsave, 8, &0x8048_1234u64.to_le_bytes());
    put(&mut fxsave, 16, &0xbfff_0000u64.to_le_bytes());
    let words: Vec<u32> = of(&fxsave, 0x23, 0x2b)[..28]
        .chunks(4)
        .map(|word| u32::from_le_bytes(word.try_into().expect("four")))
        .collect();
    assert_eq!(words, [0xffff_037f, 0xffff_1800, 0xffff_ffff, 0x8048_1234, 0x23, 0xbfff_0000, 0xffff_002b]);
}

proptest! {
    /// What a signal frame of 32 bits shows, comes back from it.
    #[test]
    fn there_and_back(bytes in prop::collection::vec(any::<u8>(), 160), cs: u16, ds: u16) {
        let mut fxsave = [0; fpu::LEGACY_SIZE];
        fxsave[..160].copy_from_slice(&bytes);
        let image = of(&fxsave, cs.into(), ds);
        let mut folded = [0xaa; fpu::LEGACY_SIZE];
        fold(&mut folded, &image);
        prop_assert_eq!(&folded[..5], &fxsave[..5], "control, status and which registers are in use");
        for n in 0..8 {
            let register = ST + 16 * n..ST + 16 * n + 10;
            prop_assert_eq!(&folded[register.clone()], &fxsave[register]);
        }
        prop_assert_eq!(&folded[8..12], &fxsave[8..12]);
        prop_assert!(folded[160..].iter().all(|&byte| byte == 0xaa), "SSE is not FSAVE's");
        prop_assert_eq!(of(&folded, cs.into(), ds), image);
    }
}
