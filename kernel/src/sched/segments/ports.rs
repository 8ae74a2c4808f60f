//! iopl and ioperm: which I/O ports a thread may use, by the bitmap in the task-state segment.
//!
//! No thread ever has an I/O privilege level in its flags: with it, CLI and STI would work too. `iopl(3)` is a bitmap that allows
//! every port, and CLI and STI are passed over (as in Linux since 5.5).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use portcullis::x86_64::UserRegs;
use portcullis::x86_64::segments::{IO_PORTS, IoPorts, load_io_ports};
use zerocopy::IntoBytes;

use crate::errno::{Errno, Result};
use crate::machine::sync::SpinLock;
use crate::machine::{cpu, sync};
use crate::sched::segments::code::Code;
use crate::sched::switch::SwitchWork;
use crate::sched::thread::{Thread, current};

/// Words of a bitmap.
const WORDS: usize = IO_PORTS / 64;

/// Which ports are forbidden: a bit for each. It stays as it is, so that a child can have the same.
struct Bitmap {
    /// Up to the last word that allows something; all further ones forbid.
    words: Vec<u64>,
    /// No other bitmap has it.
    number: u64,
}

/// The bitmap that allows everything.
const ALL: u64 = 1;
/// Numbers of bitmaps; 0 stands for none, [`ALL`] for everything.
static NEXT: AtomicU64 = AtomicU64::new(2);

/// A thread's rights to ports. Changed by the thread itself alone.
pub struct Ports(SpinLock<Rights>);

#[derive(Clone, Default)]
struct Rights {
    bitmap: Option<Arc<Bitmap>>,
    /// What `iopl` has set, 0 to 3.
    level: u8,
}

impl Default for Ports {
    fn default() -> Self {
        Ports(SpinLock::new(Rights::default()))
    }
}

impl Rights {
    fn any(&self) -> bool {
        self.level == 3 || self.bitmap.is_some()
    }
}

impl Ports {
    /// A new thread (`to`, which has these rights) begins with those of its parent.
    pub fn copy_from(&self, parent: &Thread, to: &Thread) {
        let rights = parent.ports.0.lock().clone();
        to.set_switch_work(SwitchWork::PORTS, rights.any());
        *self.0.lock() = rights;
    }
}

/// Gives this CPU the rights of a thread. Interrupts off.
pub fn load(thread: &Thread) {
    let cpu = cpu::this();
    let rights = thread.ports.0.lock();
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

/// The bitmap of a thread that has one (NT_386_IOPERM): a bit is set for each port that `ioperm` has not allowed.
pub fn bitmap(thread: &Thread) -> Option<Vec<u8>> {
    let bitmap = thread.ports.0.lock().bitmap.clone()?;
    let mut words = bitmap.words.clone();
    words.resize(WORDS, u64::MAX);
    Some(words.as_bytes().to_vec())
}

/// Changes the current thread's rights, here and at every switch.
fn set(rights: Rights) {
    let thread = current();
    let _irqs = sync::irqs_off();
    thread.set_switch_work(SwitchWork::PORTS, rights.any());
    let old = core::mem::replace(&mut *thread.ports.0.lock(), rights);
    load(thread);
    drop(old);
}

/// What `iopl` has set for the current thread, 0 to 3.
pub fn level() -> u8 {
    current().ports.0.lock().level
}

/// Sets that.
pub fn set_level(level: u8) {
    let rights = current().ports.0.lock().clone();
    set(Rights { level, ..rights });
}

/// Allows the current thread ports of a range, or forbids them.
pub fn change(ports: Range<u64>, allow: bool) -> Result<()> {
    let rights = current().ports.0.lock().clone();
    if rights.bitmap.is_none() && !allow {
        return Ok(());
    }
    let mut words = Vec::new();
    words.try_reserve_exact(WORDS).map_err(|_| Errno::ENOMEM)?;
    if let Some(bitmap) = &rights.bitmap {
        words.extend_from_slice(&bitmap.words);
    }
    words.resize(WORDS, u64::MAX);
    for port in ports {
        let (word, bit) = ((port / 64) as usize, 1 << (port % 64));
        if allow {
            words[word] &= !bit;
        } else {
            words[word] |= bit;
        }
    }
    let used = words.iter().rposition(|&word| word != u64::MAX);
    let bitmap = used.map(|last| {
        words.truncate(last + 1);
        let number = NEXT.fetch_add(1, Relaxed);
        Arc::new(Bitmap { words, number })
    });
    set(Rights { bitmap, ..rights });
    Ok(())
}

/// Passes over a CLI or STI that was refused, if `iopl(3)` is in force: it has no effect, but is no fault either.
pub fn skip_interrupt_flag(regs: &mut UserRegs) -> bool {
    const CLI: u8 = 0xfa;
    const STI: u8 = 0xfb;
    let thread = current();
    if !thread.has_switch_work(SwitchWork::PORTS) || thread.ports.0.lock().level != 3 {
        return false;
    }
    match Code::at(thread, regs) {
        // Without prefixes, as in Linux.
        Some(code) if matches!(code.bytes(), [CLI | STI, ..]) => {
            regs.rip = code.segment.offset(regs.rip.wrapping_add(1));
            true
        }
        _ => false,
    }
}
