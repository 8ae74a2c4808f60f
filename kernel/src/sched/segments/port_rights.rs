//! iopl and ioperm: what the current thread may do with I/O ports.
//!
//! No thread ever has an I/O privilege level in its flags: with it, CLI and STI would work too. `iopl(3)` is a bitmap that allows
//! every port, and CLI and STI are passed over (as in Linux since 5.5).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use portcullis::x86_64::UserRegs;

use crate::errno::{Errno, Result};
use crate::machine::sync;
use crate::sched::segments::code::Code;
use crate::sched::segments::ports::{Bitmap, Rights, WORDS};
use crate::sched::thread::{SwitchWork, Thread, current};

/// Numbers of bitmaps; 0 stands for none, [`ALL`](super::ports::ALL) for everything.
static NEXT: AtomicU64 = AtomicU64::new(2);

/// A new thread begins with the rights of its parent.
pub fn inherit(parent: &Thread, to: &Thread) {
    let rights = parent.ports.0.lock().clone();
    to.set_switch_work(SwitchWork::PORTS, rights.any());
    *to.ports.0.lock() = rights;
}

/// Changes the current thread's rights, here and at every switch.
fn set(rights: Rights) {
    let thread = current();
    let _irqs = sync::irqs_off();
    thread.set_switch_work(SwitchWork::PORTS, rights.any());
    let old = core::mem::replace(&mut *thread.ports.0.lock(), rights);
    thread.ports.load();
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
