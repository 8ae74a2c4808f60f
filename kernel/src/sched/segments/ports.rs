//! Which I/O ports a thread may use, by the bitmap in the task-state segment. Who may ask for them is in
//! [`calls::ports`](crate::calls::ports), and how they are set in [`port_rights`](super::port_rights).

use alloc::sync::Arc;
use alloc::vec::Vec;

use portcullis::x86_64::segments::{IO_PORTS, IoPorts, load_io_ports};
use zerocopy::IntoBytes;

use crate::machine::cpu;
use crate::machine::sync::SpinLock;

/// Words of a bitmap.
pub(super) const WORDS: usize = IO_PORTS / 64;

/// Which ports are forbidden: a bit for each. It stays as it is, so that a child can have the same.
pub(super) struct Bitmap {
    /// Up to the last word that allows something; all further ones forbid.
    pub(super) words: Vec<u64>,
    /// No other bitmap has it.
    pub(super) number: u64,
}

/// The bitmap that allows everything.
pub(super) const ALL: u64 = 1;

/// A thread's rights to ports. Changed by the thread itself alone.
pub struct Ports(pub(super) SpinLock<Rights>);

#[derive(Clone, Default)]
pub(super) struct Rights {
    pub(super) bitmap: Option<Arc<Bitmap>>,
    /// What `iopl` has set, 0 to 3.
    pub(super) level: u8,
}

impl Default for Ports {
    fn default() -> Self {
        Ports(SpinLock::new(Rights::default()))
    }
}

impl Rights {
    pub(super) fn any(&self) -> bool {
        self.level == 3 || self.bitmap.is_some()
    }
}

impl Ports {
    /// Gives them to this CPU. Interrupts off.
    pub fn load(&self) {
        let cpu = cpu::this();
        let rights = self.0.lock();
        let (number, ports) = match &rights.bitmap {
            _ if rights.level == 3 => (ALL, IoPorts::All),
            Some(bitmap) => (bitmap.number, IoPorts::Bitmap(&bitmap.words)),
            None => (0, IoPorts::None),
        };
        if cpu.ports.replace(number) != number {
            // SAFETY: interrupts are off, and the ports are the thread's to use: it had the capability.
            unsafe { load_io_ports(ports) };
        }
    }

    /// The bitmap, if there is one (NT_386_IOPERM): a bit is set for each port that `ioperm` has not allowed.
    pub fn bitmap(&self) -> Option<Vec<u8>> {
        let bitmap = self.0.lock().bitmap.clone()?;
        let mut words = bitmap.words.clone();
        words.resize(WORDS, u64::MAX);
        Some(words.as_bytes().to_vec())
    }
}
