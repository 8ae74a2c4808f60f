//! Probes in user code: a breakpoint in the text of a file, in every process that maps it.
//!
//! `/dev/hooks` registers a probe by file and offset. An INT3 is put into each private mapping (a page of its own, so the
//! file stays as it is). When it is hit, the die chain recognises it and raises the exit work UPROBE; the hook counts and
//! reports the hit and steps over the instruction: by doing what it does where that is simple, otherwise by running it in
//! its place, with the trap flag set and the INT3 taken out until it is done. Other threads that come by in that moment
//! are not seen.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use portcullis::notify::{Die, Verdict};
use portcullis::trace::Event;
use portcullis::work::ExitWork;
use portcullis::x86_64::regs::flags;
use portcullis::x86_64::{Exception, UserRegs};

use crate::errno::{Errno, Result};
use crate::fs::Inode;
use crate::fs::path::Walk;
use crate::memory::address_space::AddressSpace;
use crate::memory::vma::{Area, Prot, Source};
use crate::memory::{PAGE_SIZE, user};
use crate::signal::{self, SIGSEGV, SigInfo};
use crate::sync::SpinLock;
use crate::task::process::tree;
use crate::task::{Task, current, current_mm};
use crate::trace;

/// The breakpoint.
const INT3: u8 = 0xcc;
/// The longest instruction.
const LONGEST: usize = 15;
/// BS in DR6.
const STEP: u64 = 1 << 14;
/// How many probes there can be.
const MAX_PROBES: usize = 64;

struct Probe {
    inode: Arc<dyn Inode>,
    /// Where in the file.
    offset: u64,
    /// What is there.
    code: [u8; LONGEST],
    hits: AtomicU64,
}

static PROBES: SpinLock<Vec<Arc<Probe>>> = SpinLock::new(Vec::new());
/// How many there are: for those who must not pay for the lock where there are none.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What a task keeps.
#[derive(Default)]
pub struct TaskProbe {
    /// The probe's address while the instruction is being run in its place.
    stepping: AtomicU64,
    /// The program had set the trap flag itself.
    trap_flag: AtomicU64,
}

/// Registers a probe at `offset` of the file at `path`. EINVAL for an instruction that cannot be stepped over.
pub fn register(path: &str, offset: u64) -> Result<()> {
    let fs = &current().fs;
    let inode = Walk::new(fs, fs.root()).object(path.as_bytes(), true)?;
    let file = inode.clone().open(linux_raw_sys::general::O_RDONLY)?;
    let mut code = [0; LONGEST];
    if file.read_kernel(&mut code, offset)? == 0 || !may_probe(&code) {
        return Err(Errno::EINVAL);
    }
    let probe = Arc::new(Probe {
        inode,
        offset,
        code,
        hits: AtomicU64::new(0),
    });
    {
        let mut probes = PROBES.lock();
        if probes.len() == MAX_PROBES {
            return Err(Errno::ENOSPC);
        }
        if probes.iter().any(|other| other.is_at(&probe.inode, offset)) {
            return Err(Errno::EEXIST);
        }
        probes.push(probe.clone());
        COUNT.store(probes.len(), SeqCst);
    }
    probe.write_everywhere(INT3);
    Ok(())
}

/// Takes all probes out. Whoever has just hit one goes on at its instruction.
pub fn unregister_all() {
    let probes = core::mem::take(&mut *PROBES.lock());
    for probe in &probes {
        probe.write_everywhere(probe.code[0]);
    }
    if PROBES.lock().is_empty() {
        COUNT.store(0, SeqCst);
    }
}

/// How often probes were hit.
pub fn hits() -> u64 {
    PROBES.lock().iter().map(|probe| probe.hits.load(Relaxed)).sum()
}

/// Whether an instruction can be run with the trap flag set without the flag, or the task's registers, being seen by
/// others: not system calls, and nothing that reads or replaces the flags.
fn may_probe(code: &[u8; LONGEST]) -> bool {
    let is_prefix = |byte: &&u8| matches!(**byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let rest = &code[code.iter().take_while(is_prefix).count()..];
    match rest {
        // SYSCALL, SYSENTER; PUSHF, POPF, INT3, INT, INTO, IRET, ICEBP, HLT, MOV SS, POP SS.
        [0x0f, 0x05 | 0x34, ..] | [] => false,
        [0x9c | 0x9d | 0xcc..=0xcf | 0xf1 | 0xf4 | 0x8e | 0x17, ..] => false,
        _ => true,
    }
}

impl Probe {
    fn is_at(&self, inode: &Arc<dyn Inode>, offset: u64) -> bool {
        self.offset == offset && Arc::ptr_eq(&self.inode, inode)
    }

    /// Its address in an area that maps the file.
    fn address_in(&self, area: &Area) -> Option<u64> {
        let Source::File {
            inode,
            first,
            shared: false,
        } = &area.source
        else {
            return None;
        };
        let distance = self.offset.checked_sub(first * PAGE_SIZE)?;
        let address = area.start.checked_add(distance)?;
        (Arc::ptr_eq(inode, &self.inode) && area.prot.contains(Prot::EXEC) && address < area.end)
            .then_some(address)
    }

    /// Writes the first byte in each process that has it mapped.
    fn write_everywhere(&self, byte: u8) {
        let mut spaces: Vec<Arc<AddressSpace>> = tree().tasks().map(|task| task.mm()).collect();
        spaces.sort_unstable_by_key(|space| Arc::as_ptr(space).addr());
        spaces.dedup_by(|a, b| Arc::ptr_eq(a, b));
        for space in spaces {
            for address in space.areas().iter().filter_map(|area| self.address_in(area)) {
                space.poke(address, &[byte]);
            }
        }
    }
}

/// A file was mapped: puts its probes in.
#[inline]
pub fn mapped(space: &AddressSpace, address: u64) {
    if COUNT.load(Relaxed) != 0 {
        put_in(space, address);
    }
}

#[cold]
fn put_in(space: &AddressSpace, address: u64) {
    let Some(area) = space.area(address) else { return };
    let probes = PROBES.lock().clone();
    for address in probes.iter().filter_map(|probe| probe.address_in(&area)) {
        space.poke(address, &[INT3]);
    }
}

/// The probe at an address of the current task.
fn find(address: u64) -> Option<Arc<Probe>> {
    let area = current_mm().area(address)?;
    let probes = PROBES.lock();
    let probe = probes
        .iter()
        .find(|probe| probe.address_in(&area) == Some(address));
    probe.cloned()
}

/// In the die chain: whether a breakpoint is one of ours, or a step was for one.
pub fn notifier(regs: &mut UserRegs, die: Die) -> Verdict {
    let task = current();
    match die.vector {
        Exception::BP if COUNT.load(Relaxed) != 0 => {
            let address = regs.rip.wrapping_sub(1);
            if find(address).is_none() {
                return Verdict::Pass;
            }
            regs.rip = address;
            task.raise(ExitWork::UPROBE);
            Verdict::Handled
        }
        Exception::DB if die.error & STEP != 0 && task.hooks.probe.stepping.load(Relaxed) != 0 => {
            if end_step(task, regs) {
                Verdict::Pass
            } else {
                Verdict::Handled
            }
        }
        _ => Verdict::Pass,
    }
}

/// The hook: the task has hit a probe and stands at its instruction.
pub fn notify_resume(regs: &mut UserRegs) {
    let address = regs.rip;
    let Some(probe) = find(address) else {
        // Taken out meanwhile: the instruction is there again.
        return;
    };
    probe.hits.fetch_add(1, Relaxed);
    trace::record(Event::Probe, address);
    match emulate(&probe.code, regs) {
        Some(Ok(())) => {}
        Some(Err(_)) => signal::force_fault(SigInfo::kernel(SIGSEGV)),
        None => begin_step(current(), &probe, regs),
    }
}

/// Does what the simplest instructions do. None for all others.
fn emulate(code: &[u8; LONGEST], regs: &mut UserRegs) -> Option<Result<()>> {
    let push = |regs: &mut UserRegs, value: u64, len: u64| {
        user::write(regs.rsp.wrapping_sub(8), &value)?;
        regs.rsp = regs.rsp.wrapping_sub(8);
        regs.rip += len;
        Ok(())
    };
    match *code {
        // NOP.
        [0x90, ..] => {
            regs.rip += 1;
            Some(Ok(()))
        }
        // ENDBR64.
        [0xf3, 0x0f, 0x1e, 0xfa, ..] => {
            regs.rip += 4;
            Some(Ok(()))
        }
        // PUSH RBP and RBX: how functions begin.
        [0x55, ..] => Some(push(regs, regs.rbp, 1)),
        [0x53, ..] => Some(push(regs, regs.rbx, 1)),
        // RET.
        [0xc3, ..] => Some(user::read(regs.rsp).map(|address| {
            regs.rip = address;
            regs.rsp = regs.rsp.wrapping_add(8);
        })),
        _ => None,
    }
}

/// Lets the instruction run in its place, and the next one trap.
fn begin_step(task: &Task, probe: &Probe, regs: &mut UserRegs) {
    let state = &task.hooks.probe;
    current_mm().poke(regs.rip, &probe.code[..1]);
    state.stepping.store(regs.rip, Relaxed);
    state.trap_flag.store(regs.rflags & flags::TF, Relaxed);
    regs.rflags |= flags::TF;
}

/// The step is over. Says whether the program wanted to step, too.
fn end_step(task: &Task, regs: &mut UserRegs) -> bool {
    let state = &task.hooks.probe;
    let address = state.stepping.swap(0, Relaxed);
    if find(address).is_some() {
        current_mm().poke(address, &[INT3]);
    }
    let wanted = state.trap_flag.load(Relaxed) != 0;
    if !wanted {
        regs.rflags &= !flags::TF;
    }
    wanted
}

/// A handler is about to be entered: the instruction has not run, and is not to run with a trap flag that the handler's
/// frame would show. When the handler returns, the probe is hit again.
pub fn signal_deliver(regs: &mut UserRegs) {
    let task = current();
    if task.hooks.probe.stepping.load(Relaxed) != 0 {
        end_step(task, regs);
    }
}
