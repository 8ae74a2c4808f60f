//! Accesses to memory, and which protections allow them.

use crate::memory::vma::Prot;

/// What an instruction wanted to do with an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read it.
    Read,
    /// Write it.
    Write,
    /// Fetch an instruction there.
    Execute,
}

impl Access {
    /// The access that makes pages ready for all that `prot` allows.
    pub fn for_prot(prot: Prot) -> Access {
        if prot.contains(Prot::WRITE) { Access::Write } else { Access::Read }
    }

    /// True when memory of this protection allows it. On x86 whatever is accessible can be read.
    #[inline]
    pub fn is_allowed(self, prot: Prot) -> bool {
        match self {
            Access::Read => !prot.rights().is_empty(),
            Access::Write => prot.contains(Prot::WRITE),
            Access::Execute => prot.contains(Prot::EXEC),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protections_allow_what_x86_makes_of_them() {
        for (prot, allowed) in [
            (Prot::empty(), [false, false, false]),
            (Prot::READ, [true, false, false]),
            (Prot::WRITE, [true, true, false]),
            (Prot::EXEC, [true, false, true]),
        ] {
            assert_eq!([Access::Read, Access::Write, Access::Execute].map(|access| access.is_allowed(prot)), allowed);
            assert_eq!(Access::Read.is_allowed(prot.with_key(5)), allowed[0], "a key is no right");
        }
    }
}
