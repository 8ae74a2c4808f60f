//! Memory protection keys: a page has one of 16 keys, and PKRU says what a task may do with the pages of each (SDM volume 3,
//! 4.6.2). PKRU is part of a task's extended state; the CPU asks it for the kernel's accesses to user memory, too.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::memory::access::Access;
use crate::memory::vma::{Area, Prot};

/// How many keys there are.
const KEYS: u32 = 16;
/// PKRU of a new program: all may be done with key 0, and nothing with any other.
pub const INITIAL_RIGHTS: u32 = 0x5555_5554;
/// The two bits of a key in PKRU: not to be accessed, not to be written.
pub const DISABLE_ACCESS: u32 = 1;
/// See [`DISABLE_ACCESS`].
pub const DISABLE_WRITE: u32 = 2;

static AVAILABLE: AtomicBool = AtomicBool::new(false);

/// This CPU has keys, and they are on.
pub fn enable() {
    AVAILABLE.store(true, Relaxed);
}

/// Whether pages have keys here.
pub fn available() -> bool {
    AVAILABLE.load(Relaxed)
}

/// The current task's PKRU.
fn rights() -> u32 {
    if !available() {
        return 0;
    }
    let rights;
    // SAFETY: the CPU has the instruction, and CR4 allows it.
    unsafe { asm!("rdpkru", in("ecx") 0, out("eax") rights, out("edx") _, options(nomem, nostack, preserves_flags)) };
    rights
}

/// Sets the current task's PKRU, where there is one.
pub fn set_rights(rights: u32) {
    if available() {
        // SAFETY: the CPU has the instruction, and CR4 allows it. The kernel's memory has no keys.
        unsafe { asm!("wrpkru", in("ecx") 0, in("eax") rights, in("edx") 0, options(nostack, preserves_flags)) };
    }
}

/// Says what the current task may do with the pages of a key.
pub fn set_rights_of(key: u32, disabled: u32) {
    let others = rights() & !(3 << (2 * key));
    set_rights(others | disabled << (2 * key));
}

/// Whether the current task may not do this because of the key. Fetches are not asked for.
pub fn denies(prot: Prot, access: Access) -> bool {
    let key = prot.key();
    let disabled = rights() >> (2 * key);
    key != 0
        && match access {
            Access::Read => disabled & DISABLE_ACCESS != 0,
            Access::Write => disabled & (DISABLE_ACCESS | DISABLE_WRITE) != 0,
            Access::Execute => false,
        }
}

/// The keys of an address space.
pub struct Keys(SpinLock<KeySet>);

#[derive(Clone)]
struct KeySet {
    /// A bit for each key that is in use.
    allocated: u16,
    /// The key of memory that may only be executed; 0: none yet.
    execute_only: u32,
}

impl Keys {
    /// Only key 0 is in use.
    pub fn new() -> Keys {
        Keys(SpinLock::new(KeySet { allocated: if available() { 1 } else { 0 }, execute_only: 0 }))
    }

    /// Those of the other, for a child.
    pub fn copy_from(&self, other: &Keys) {
        let copy = other.0.lock().clone();
        *self.0.lock() = copy;
    }

    /// A key that was free.
    pub fn allocate(&self) -> Option<u32> {
        let mut set = self.0.lock();
        let key = set.allocated.trailing_ones();
        if key >= KEYS {
            return None;
        }
        set.allocated |= 1 << key;
        Some(key)
    }

    /// Gives a key back. EINVAL if it is none that was allocated.
    pub fn free(&self, key: u32) -> Result<()> {
        if !self.is_allocated(key) {
            return Err(Errno::EINVAL);
        }
        self.0.lock().allocated &= !(1 << key);
        Ok(())
    }

    /// Whether a program may name this key.
    pub fn is_allocated(&self, key: u32) -> bool {
        let set = self.0.lock();
        key < KEYS && set.allocated & 1 << key != 0 && (key == 0 || key != set.execute_only)
    }

    /// The key for memory that may only be executed, made if there is none; 0 if there is none left. The current task may
    /// not read what has it.
    fn execute_only(&self) -> u32 {
        if !available() {
            return 0;
        }
        let known = self.0.lock().execute_only;
        let key = match known {
            0 => self.allocate().unwrap_or(0),
            key => key,
        };
        if key != 0 {
            self.0.lock().execute_only = key;
            set_rights_of(key, DISABLE_ACCESS);
        }
        key
    }

    /// The protection of a new mapping.
    pub fn of_mapping(&self, prot: Prot) -> Prot {
        if prot == Prot::EXEC { prot.with_key(self.execute_only()) } else { prot }
    }

    /// The protection that an area gets from mprotect(2) without a key: it keeps its own, but for memory that may only be
    /// executed.
    pub fn of_change(&self, area: &Area, prot: Prot) -> Prot {
        if prot == Prot::EXEC {
            let key = self.execute_only();
            if key != 0 {
                return prot.with_key(key);
            }
        }
        let key = area.prot.key();
        let was_execute_only = area.prot.rights() == Prot::EXEC && key == self.0.lock().execute_only;
        prot.with_key(if was_execute_only { 0 } else { key })
    }
}
