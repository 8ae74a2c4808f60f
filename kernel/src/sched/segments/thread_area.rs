//! A thread's own entries of the GDT ([`tls`](super::tls)).

use core::sync::atomic::Ordering::Relaxed;

use portcullis::x86_64::segments::Segment;
use portcullis::x86_64::tables::{TLS_ENTRIES, TLS_FIRST};

use crate::errno::{Errno, Result};
use crate::machine::descriptor;
use crate::machine::descriptor::{Contents, UserDesc};
use crate::machine::segments::{self, Segments};
use crate::machine::sync;
use crate::memory::user;
use crate::sched::thread::{SwitchWork, Thread, current};

/// A new thread begins with the entries of its parent.
pub fn inherit(parent: &Thread, to: &Thread) {
    let entries = parent.tls.entries();
    for (entry, value) in to.tls.0.iter().zip(entries) {
        entry.store(value, Relaxed);
    }
    to.set_switch_work(SwitchWork::TLS, entries != [0; TLS_ENTRIES]);
}

/// Empties those of the current thread.
pub fn clear() {
    let thread = current();
    if !thread.has_switch_work(SwitchWork::TLS) {
        return;
    }
    let _irqs = sync::irqs_off();
    for entry in &thread.tls.0 {
        entry.store(0, Relaxed);
    }
    thread.tls.load();
    thread.set_switch_work(SwitchWork::TLS, false);
}

/// Whether a segment may stand in the GDT. No 16-bit one: on the way out only those of the LDT are known as stacks that
/// need care (CVE-2014-8133). No code, and nothing that is not present: the CPU's answers to these are meant for the LDT.
pub fn check(segment: &UserDesc) -> Result<()> {
    let nothing = segment.is_empty() || segment.is_zero();
    let data = matches!(segment.contents(), Contents::Data | Contents::ExpandDown);
    if nothing || segment.is_32bit() && data && segment.is_present() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Puts a segment into an entry of a thread that is current or not running.
fn set(thread: &Thread, number: u32, segment: &UserDesc) -> Result<()> {
    let value = if segment.is_empty() || segment.is_zero() { 0 } else { segment.descriptor() };
    thread.tls.entry(number)?.store(value, Relaxed);
    let in_use = thread.tls.entries() != [0; TLS_ENTRIES];
    thread.set_switch_work(SwitchWork::TLS, in_use);
    Ok(())
}

/// The selector of an entry.
const fn selector(number: u32) -> u16 {
    (number << 3 | 3) as u16
}

/// The first free entry of the current thread; ESRCH if there is none.
pub fn free_entry() -> Result<u32> {
    let free = current().tls.entries().iter().position(|&entry| entry == 0);
    Ok((TLS_FIRST + free.ok_or(Errno::ESRCH)?) as u32)
}

/// Puts a segment that has been checked into an entry of the current thread, and loads it.
pub fn set_current(number: u32, segment: &UserDesc) -> Result<()> {
    let thread = current();
    let _irqs = sync::irqs_off();
    set(thread, number, segment)?;
    thread.tls.load();
    // What is loaded from the entry follows it.
    let loaded = Segments::current();
    for (segment, held) in
        [(Segment::Ds, loaded.ds), (Segment::Es, loaded.es), (Segment::Fs, loaded.fs), (Segment::Gs, loaded.gs)]
    {
        if held == selector(number) {
            // SAFETY: interrupts are off. The base is the program's to change.
            let _ = unsafe { segments::load(segment, held) };
        }
    }
    Ok(())
}

/// PTRACE_GET_THREAD_AREA, of a thread that is stopped; get_thread_area(2) of the current one.
pub fn get(thread: &Thread, number: u32, address: u64) -> Result<usize> {
    let entry = thread.tls.entry(number)?.load(Relaxed);
    user::write(address, &UserDesc::of(entry, number))?;
    Ok(0)
}

/// The descriptor in the entry with this number in the GDT, of a thread that is stopped; 0 if it is none of the thread's.
pub fn descriptor_of(thread: &Thread, number: u16) -> u64 {
    let entry = thread.tls.entry(number.into());
    entry.map_or(0, |entry| entry.load(Relaxed))
}

/// All entries of a thread that is stopped.
pub fn all(thread: &Thread) -> [UserDesc; TLS_ENTRIES] {
    [0, 1, 2].map(|n: usize| UserDesc::of(thread.tls.0[n].load(Relaxed), (TLS_FIRST + n) as u32))
}

/// Replaces the first entries of a thread that is stopped. All of them, or none.
pub fn set_first(thread: &Thread, entries: &[UserDesc]) -> Result<()> {
    entries.iter().try_for_each(check)?;
    for (n, entry) in entries.iter().enumerate() {
        set(thread, (TLS_FIRST + n) as u32, entry)?;
    }
    Ok(())
}

/// CLONE_SETTLS of a 32-bit call: `address` is that of the child's `struct user_desc`. The child has not started, and
/// `segments` are its segment registers.
pub fn set_of_child(child: &Thread, segments: &mut Segments, address: u64) -> Result<usize> {
    let number: u32 = user::read(address)?;
    set_of_other(child, segments, number, address)
}

/// PTRACE_SET_THREAD_AREA: the entry's number does not come with the segment. The thread is not running, and `segments` are
/// its segment registers.
pub fn set_of_other(thread: &Thread, segments: &mut Segments, number: u32, address: u64) -> Result<usize> {
    let segment: UserDesc = user::read(address)?;
    check(&segment)?;
    set(thread, number, &segment)?;
    // What is loaded from the entry follows it.
    let base = descriptor::base(thread.tls.entry(number)?.load(Relaxed));
    if segments.fs == selector(number) {
        segments.fs_base = base;
    }
    if segments.gs == selector(number) {
        segments.gs_base = base;
    }
    Ok(0)
}
