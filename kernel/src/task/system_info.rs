//! What the system is called, and random numbers.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::*};

use crate::machine::sync::SpinLock;

/// The Linux release whose behaviour this kernel follows; the C libraries look at it.
pub const RELEASE: &str = "6.1.0-portcullis";
/// What `uname -v` prints.
pub const VERSION: &str = concat!("#1 SMP PREEMPT Portcullis ", env!("CARGO_PKG_VERSION"));
/// Bytes of a name, with its NUL.
pub const FIELD: usize = 65;

/// The names that can be set.
pub struct Names {
    /// The host's.
    pub host: [u8; FIELD],
    /// The NIS domain's.
    pub domain: [u8; FIELD],
}

/// A name in its field.
pub const fn field(text: &str) -> [u8; FIELD] {
    let mut field = [0; FIELD];
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        field[i] = bytes[i];
        i += 1;
    }
    field
}

/// These.
pub static NAMES: SpinLock<Names> = SpinLock::new(Names { host: field("portcullis"), domain: field("(none)") });

/// The host's name.
pub fn host_name() -> Vec<u8> {
    let name = NAMES.lock().host;
    name.iter().take_while(|&&byte| byte != 0).copied().collect()
}

/// Sets the host's name; what is longer than 64 bytes is cut.
pub fn set_host_name(name: &[u8]) {
    let mut field = [0; FIELD];
    let len = name.len().min(FIELD - 1);
    field[..len].copy_from_slice(&name[..len]);
    NAMES.lock().host = field;
}

/// Fills with random bytes: RDRAND where the CPU has it, mixed with the time-stamp counter through splitmix64.
///
/// Good enough for hash seeds and stack protectors; not for keys.
pub fn fill_random(bytes: &mut [u8]) {
    static STATE: AtomicU64 = AtomicU64::new(0);
    for chunk in bytes.chunks_mut(8) {
        // SAFETY: RDTSC is on every x86-64 CPU.
        let entropy = hardware_random().unwrap_or(0) ^ unsafe { core::arch::x86_64::_rdtsc() };
        let state = STATE.fetch_add(entropy ^ 0x9e37_79b9_7f4a_7c15, Relaxed);
        let mut mixed = state ^ entropy.rotate_left(32);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
    }
}

fn hardware_random() -> Option<u64> {
    use x86_64::instructions::random::RdRand;
    // It may be out of numbers for a moment.
    RdRand::new().and_then(|source| (0..10).find_map(|_| source.get_u64()))
}
