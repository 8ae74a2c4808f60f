//! What a tracer writes into the registers of a stopped tracee: register sets of both widths, words of the user area, and the same
//! through user memory.

use portcullis::x86_64::UserRegs;
use portcullis::x86_64::regs::flags;
use portcullis::x86_64::tables::{USER_DS, USER32_CS};
use std::sync::atomic::Ordering::Relaxed;

use crate::fuzz::input::Input;
use crate::host::{self, process};
use crate::memory::{USER_END, Width, user};
use crate::ptrace::registers::{self, Stopped};
use crate::ptrace::regset::{self, Regset};
use crate::sched::lent::{lend, with_state};
use crate::sched::{fpu, segments};

const SETS: [Regset; 6] = [Regset::General, Regset::Fp, Regset::Xfp, Regset::Xstate, Regset::Tls, Regset::Ioperm];
/// `NT_*` of these, and two that name none.
const NOTES: [u32; 8] = [1, 2, 0x46e6_2b7f, 0x202, 0x200, 0x201, 3, 0];
const PTRACE_GETREGSET: u32 = 0x4204;
const PTRACE_SETREGSET: u32 = 0x4205;
const MAX_STEPS: usize = 32;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let narrow = input.u8() & 1 != 0;
    process::run(if narrow { Width::Bits32 } else { Width::Bits64 }, |task| {
        let mut regs = UserRegs::new(0x40_0000, 0x7000_0000);
        if narrow {
            regs.set_cs(USER32_CS);
        }
        with_state(&mut regs, |at| {
            lend(at, || {
                // SAFETY: the task lends its registers for as long as this runs, and nothing else does.
                let mut stopped = unsafe { Stopped::new(task) }.expect("lent");
                for _ in 0..MAX_STEPS {
                    if input.is_empty() {
                        break;
                    }
                    step(&mut stopped, &mut input);
                    check(&mut stopped);
                }
            });
        });
    });
}

fn step(stopped: &mut Stopped<'_>, input: &mut Input<'_>) {
    let what = input.u8();
    let regset = SETS[usize::from(what >> 3) % SETS.len()];
    let size = input.u16() as usize;
    match what & 7 {
        0 | 1 => {
            let words = input.take(size.min(registers::WORDS * 8));
            if regset::set64(stopped, Regset::General, words).is_ok() {
                shown_as_set(stopped, words);
            }
        }
        2 => {
            let words = input.take(size.min(17 * 4));
            let words = &words[..words.len() & !3];
            let set = regset::set32(stopped, Regset::General, words);
            let shown = regset::get32(stopped, Regset::General).expect("registers");
            if set.is_ok() {
                assert!(words.iter().zip(&shown).take(7 * 4).all(|(set, shown)| set == shown), "ebx to eax");
            }
        }
        3 => {
            let bytes = set(input, what, size, regset::size64(regset).expect("a size"));
            if regset::set64(stopped, regset, &bytes).is_ok() {
                comes_back(stopped, regset, regset::get64, regset::set64);
            }
        }
        4 => {
            let bytes = set(input, what, size, regset::size32(regset).expect("a size"));
            if regset::set32(stopped, regset, &bytes).is_ok() {
                comes_back(stopped, regset, regset::get32, regset::set32);
            }
        }
        5 => {
            let value = input.u64();
            if stopped.poke_user(size as u64, value).is_ok() {
                stopped.peek_user(size as u64).expect("it can be written");
            }
        }
        _ => {
            let request = if what & 1 == 0 { PTRACE_SETREGSET } else { PTRACE_GETREGSET };
            let bytes = input.take(0x1000);
            // SAFETY: the slice's own bytes.
            unsafe { user::copy_to_user(process::MEMORY, bytes.as_ptr(), bytes.len()) }.expect("mapped");
            let len = size as u64;
            let note = NOTES[usize::from(what >> 3) % NOTES.len()];
            if let Ok(moved) = regset::transfer(stopped, request, note, process::MEMORY, len) {
                assert!(moved <= len);
            }
        }
    }
}

/// Up to `most` bytes of a set: its first part, or all of it with zeros behind what the input has.
fn set(input: &mut Input<'_>, what: u8, size: usize, most: usize) -> Vec<u8> {
    let mut bytes = input.take(size.min(most)).to_vec();
    if what & 0x80 == 0 {
        bytes.resize(most, 0);
    }
    bytes
}

/// What holds of a tracee whatever its tracer wrote.
fn check(stopped: &mut Stopped<'_>) {
    let regs = *stopped.regs();
    assert_eq!((regs.cs() & 3, regs.ss() & 3), (3, 3), "ring 3");
    assert!(regs.cs() <= 0xffff && regs.ss() <= 0xffff);
    assert_eq!(regs.rflags() & !UserRegs::FLAGS, flags::FIXED | flags::IF, "no flag that steers the kernel");
    let bases = stopped.segments();
    assert!(bases.fs_base < USER_END && bases.gs_base < USER_END, "canonical, and the user's");
    for selector in [bases.ds, bases.es, bases.fs, bases.gs] {
        assert!(selector == 0 || selector & 3 == 3, "{selector:#x}");
    }
    let task = stopped.task();
    let debug = &task.trace.debug;
    let control = debug.control.load(Relaxed);
    /// DR7: reserved bits, transactions, and the trap on accesses to these registers.
    const FORBIDDEN: u64 = 0xffff_ffff_0000_fc00;
    assert_eq!(control & FORBIDDEN, 0, "DR7 {control:#x}");
    for n in (0..4).filter(|n| control >> (2 * n) & 3 != 0) {
        let (address, kind) = (debug.addresses[n].load(Relaxed), control >> (16 + 4 * n) & 15);
        let len = [1, 2, 8, 4][(kind >> 2) as usize];
        assert!(address < USER_END && address + len <= USER_END, "DR{n} {address:#x}");
        assert!(kind & 3 != 2 && (kind & 3 != 0 || len == 1), "DR7 {control:#x}");
    }
    for (n, entry) in task.tls.entries().into_iter().enumerate() {
        // A 32-bit data segment of ring 3.
        assert!(entry == 0 || entry & (0xf9 << 40 | 3 << 53) == 0xf1 << 40 | 2 << 53, "{n}: {entry:#x}");
    }
    let base = segments::base_of(task, USER_DS);
    assert_eq!(base, 0);
    // The switch to the tracee loads it: a fault there would be the kernel's.
    // SAFETY: the task does not run; the area is this long.
    let area = unsafe { core::slice::from_raw_parts_mut(task.fpu.as_ptr(), fpu::size()) };
    let accepted = host::fpstate::is_accepted(area);
    crate::signal::fpstate::reset();
    assert!(accepted, "the CPU does not take the tracee's extended state");
}

/// The words that were set are those that are there, as far as they are the tracer's to set.
fn shown_as_set(stopped: &mut Stopped<'_>, words: &[u8]) {
    let shown = regset::get64(stopped, Regset::General).expect("registers");
    let pairs = words.as_chunks::<8>().0.iter().zip(shown.as_chunks::<8>().0).enumerate();
    for (n, (set, shown)) in pairs {
        let (set, shown) = (u64::from_le_bytes(*set), u64::from_le_bytes(*shown));
        match n {
            // RFLAGS.
            18 => assert_eq!((set ^ shown) & UserRegs::FLAGS & !flags::ID, 0),
            // CS, SS, DS, ES, FS, GS.
            17 | 20 | 23.. => assert_eq!(set as u16, shown as u16, "{n}"),
            _ => assert_eq!(set, shown, "{n}"),
        }
    }
}

type Get = fn(&mut Stopped<'_>, Regset) -> crate::errno::Result<Vec<u8>>;
type Set = fn(&mut Stopped<'_>, Regset, &[u8]) -> crate::errno::Result<()>;

/// A set that is read and written is the same again.
fn comes_back(stopped: &mut Stopped<'_>, regset: Regset, get: Get, set: Set) {
    let first = get(stopped, regset).expect("it was set");
    // A thread's empty entries of the GDT read as segments that are not present.
    if regset == Regset::Tls {
        return;
    }
    set(stopped, regset, &first).expect("it was read");
    assert!(get(stopped, regset).expect("it was set") == first, "{regset:?}");
}
