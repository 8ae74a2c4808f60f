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
