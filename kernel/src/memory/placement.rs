//! Where the areas of a program are, and how far that is from where they always were.

use crate::machine::direct_map::PAGE_SIZE;
use crate::memory::width::{Room, Width};

/// How the areas of a program are placed. The numbers are in bytes, and multiples of the page size.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Placement {
    /// The stack ends so far below its usual place.
    pub stack: u64,
    /// Mappings begin so far below theirs.
    pub mappings: u64,
    /// A position-independent program is so far above its place.
    pub program: u64,
    /// The area of brk begins so far above the end of the program.
    pub brk: u64,
    /// Mappings are placed upwards only.
    pub is_upwards: bool,
}

/// Pages, and as many bits of a random number, for each part (Linux 6.1: `mmap_rnd_bits` and its `compat` one by default, `STACK_RND_MASK`,
/// `arch_randomize_brk`).
const fn bits(width: Width) -> (u32, u32) {
    match width {
        Width::Bits64 => (22, 28),
        Width::Bits32 => (11, 8),
    }
}
const BRK_BITS: u32 = 13;

impl Placement {
    /// A random one, of four random numbers.
    pub fn random(width: Width, [stack, mappings, program, brk]: [u64; 4]) -> Placement {
        let (stack_bits, map_bits) = bits(width);
        let pages = |random: u64, bits: u32| (random & ((1 << bits) - 1)) * PAGE_SIZE;
        // The 128 MiB that 32-bit programs have between the stack's end and mappings are enough for both.
        let below_stack = if width == Width::Bits64 { PAGE_SIZE << stack_bits } else { 0 };
        Placement {
            stack: pages(stack, stack_bits),
            mappings: below_stack + pages(mappings, map_bits),
            program: pages(program, map_bits),
            brk: pages(brk, BRK_BITS),
            is_upwards: false,
        }
    }

    /// Where a call of this width places the mappings of its program, which has the same.
    pub fn room(&self, width: Width) -> Room {
        let Room { end, top, bottom } = width.room();
        match self.is_upwards {
            true => Room { end, top: None, bottom: bottom + self.mappings },
            false => Room { end, top: top.map(|top| top - self.mappings), bottom },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn areas_do_not_meet(random: [u64; 4], is_32_bits: bool) {
            /// What the stack may grow to by default.
            const STACK: u64 = 8 << 20;
            let width = if is_32_bits { Width::Bits32 } else { Width::Bits64 };
            let placement = Placement::random(width, random);
            let top = placement.room(width).top.expect("downwards");
            prop_assert!(width.stack_top() - placement.stack > top + STACK);
            // There is as much room between a program and the mappings as programs are given anywhere.
            prop_assert!(top - (width.program_base() + placement.program) >= 1 << 30);
            for part in [placement.stack, placement.mappings, placement.program, placement.brk] {
                prop_assert!(part.is_multiple_of(PAGE_SIZE));
            }
        }
    }

    #[test]
    fn each_part_has_linuxs_bits() {
        let most = Placement::random(Width::Bits64, [u64::MAX; 4]);
        assert_eq!(
            (most.stack + PAGE_SIZE, most.program + PAGE_SIZE, most.brk + PAGE_SIZE),
            (16 << 30, 1 << 40, 32 << 20)
        );
        let most = Placement::random(Width::Bits32, [u64::MAX; 4]);
        assert_eq!(
            (most.stack + PAGE_SIZE, most.program + PAGE_SIZE, most.brk + PAGE_SIZE),
            (8 << 20, 1 << 20, 32 << 20)
        );
        let upwards = Placement { is_upwards: true, ..most };
        assert_eq!(
            (upwards.room(Width::Bits32).top, upwards.room(Width::Bits32).bottom),
            (None, 0x5555_5000 + most.mappings)
        );
    }
}
