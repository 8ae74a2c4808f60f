//! Probes in user code: a breakpoint in the text of a file, in every process that maps it.
//!
//! `/dev/hooks` registers a probe by file and offset. An INT3 is put into each private mapping (a page of its own, so the
//! file stays as it is). When it is hit, the die chain recognises it and raises the exit work UPROBE; the hook counts and
//! reports the hit and steps over the instruction: by doing what it does where that is simple, otherwise by running it in
//! its place, with the trap flag set and the INT3 taken out until it is done. Other threads that come by in that moment
//! are not seen. What the instruction is depends on the code segment that runs it: the same bytes may be other instructions
//! in 32-bit code.
//!
//! **The end of a probe.** Its INT3s are found as its own until none is in memory any more: it leaves the list in two steps.
//! Who is about to put one back, or is making a child whose memory nobody can find yet, is waited for in between
//! ([`Busy`]). Who has hit one in that time goes on at its address; there the instruction is, or will be soon.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};

use portcullis::die::{Die, Verdict};
use portcullis::trace::Event;
use portcullis::work::ExitWork;
use portcullis::x86_64::regs::flags;
use portcullis::x86_64::tables::USER_DS;
use portcullis::x86_64::{Exception, UserRegs};

use crate::errno::{Errno, Result};
use crate::fs::Inode;
use crate::fs::path::Walk;
use crate::machine::instruction::{Instruction, LONGEST, Mode};
use crate::machine::sync::SpinLock;
use crate::memory::address_space::AddressSpace;
use crate::memory::address_space::current_mm;
use crate::memory::vma::{Area, Prot, Source};
use crate::memory::{PAGE_SIZE, user};
use crate::sched::scheduler;
use crate::sched::segments::code::{Code, CodeSegment};
use crate::task::tree::tree;
use crate::task::{Task, current};
use crate::vfs::sleep_lock::SleepLock;
use crate::work::trace_points;

/// The breakpoint.
const INT3: u8 = 0xcc;
/// INT with a vector, and the one that programs may call by it.
const INT_3: [u8; 2] = [0xcd, 3];
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

/// All probes.
struct Probes {
    active: Vec<Arc<Probe>>,
    /// Being taken out of memory.
    leaving: Vec<Arc<Probe>>,
}

static PROBES: SpinLock<Probes> = SpinLock::new(Probes { active: Vec::new(), leaving: Vec::new() });
/// Held by who puts probes in or takes them out.
static CHANGING: SleepLock<()> = SleepLock::new(());
/// How many there are: for those who must not pay for the lock where there are none.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Whether there ever was one.
static USED: AtomicBool = AtomicBool::new(false);
/// Counts the times that one was put in.
static CHANGES: AtomicUsize = AtomicUsize::new(0);
/// Who must be waited for before a probe has gone.
static BUSY: AtomicUsize = AtomicUsize::new(0);

/// Held while an INT3 is put back, and from before a child's memory is copied until the child can be found.
pub struct Busy(());

impl Busy {
    /// Until it is dropped.
    pub fn new() -> Busy {
        BUSY.fetch_add(1, SeqCst);
        Busy(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(1, SeqCst);
    }
}

/// Registers a probe at `offset` of the file at `path`. EINVAL for an instruction that cannot be stepped over.
pub fn register(path: &str, offset: u64) -> Result<()> {
    let fs = &current().fs;
    let inode = Walk::new(fs, fs.root()).object(path.as_bytes(), true)?.inode;
    let file = inode.clone().open(linux_raw_sys::general::O_RDONLY)?;
    let mut code = [0; LONGEST];
    let len = file.read_kernel(&mut code, offset)?;
    let mut ident = [0; IDENT];
    file.read_kernel(&mut ident, 0)?;
    if !modes_of(&ident).iter().all(|&mode| may_probe(mode, &code[..len])) {
        return Err(Errno::EINVAL);
    }
    let probe = Arc::new(Probe { inode, offset, code, hits: AtomicU64::new(0) });
    let _changing = CHANGING.lock();
    {
        let active = &mut PROBES.lock().active;
        if active.len() == MAX_PROBES {
            return Err(Errno::ENOSPC);
        }
        if active.iter().any(|other| other.is_at(&probe.inode, offset)) {
            return Err(Errno::EEXIST);
        }
        CHANGES.fetch_add(1, SeqCst);
        active.push(probe.clone());
        COUNT.store(active.len(), SeqCst);
        USED.store(true, SeqCst);
    }
    probe.write_everywhere(INT3);
    wait_for_busy();
    probe.write_everywhere(INT3);
    Ok(())
}

/// Takes all probes out. Whoever has just hit one goes on at its instruction.
pub fn unregister_all() {
    let _changing = CHANGING.lock();
    let leaving = {
        let mut probes = PROBES.lock();
        probes.leaving = core::mem::take(&mut probes.active);
        COUNT.store(0, SeqCst);
        probes.leaving.clone()
    };
    for probe in &leaving {
        probe.write_everywhere(probe.code[0]);
    }
    wait_for_busy();
    for probe in &leaving {
        probe.write_everywhere(probe.code[0]);
    }
    let _gone = core::mem::take(&mut PROBES.lock().leaving);
}

/// Whoever was busy is no more.
fn wait_for_busy() {
    while BUSY.load(SeqCst) != 0 {
        scheduler::yield_now();
        core::hint::spin_loop();
    }
}

/// How often probes were hit.
pub fn hits() -> u64 {
    PROBES.lock().active.iter().map(|probe| probe.hits.load(Relaxed)).sum()
}

/// The beginning of an ELF file, up to its class.
const IDENT: usize = 5;

/// The modes that a file's code may be run in: that of its class, or any where it says none.
fn modes_of(ident: &[u8; IDENT]) -> &'static [Mode] {
    match ident {
        [0x7f, b'E', b'L', b'F', 1] => &[Mode::Bits32],
        [0x7f, b'E', b'L', b'F', 2] => &[Mode::Bits64],
        _ => &[Mode::Bits16, Mode::Bits32, Mode::Bits64],
    }
}

fn may_probe(mode: Mode, code: &[u8]) -> bool {
    Instruction::decode(mode, code).is_some_and(|instruction| instruction.may_be_stepped())
}

impl Probe {
    fn is_at(&self, inode: &Arc<dyn Inode>, offset: u64) -> bool {
        self.offset == offset && Arc::ptr_eq(&self.inode, inode)
    }

    /// Its address in an area that maps the file.
    fn address_in(&self, area: &Area) -> Option<u64> {
        let Source::File { file, first, shared: false } = &area.source else {
            return None;
        };
        let distance = self.offset.checked_sub(first * PAGE_SIZE)?;
        let address = area.start.checked_add(distance)?;
        (ptr::addr_eq(Arc::as_ptr(file), Arc::as_ptr(&self.inode))
            && area.prot.contains(Prot::EXEC)
            && address < area.end)
            .then_some(address)
    }

    /// Writes the first byte in each process that has it mapped.
    fn write_everywhere(&self, byte: u8) {
        let mut spaces: Vec<Arc<AddressSpace>> = Vec::new();
        let all: Vec<Arc<AddressSpace>> = tree().tasks().map(|task| task.mm()).collect();
        for space in all {
            if !spaces.iter().any(|other| Arc::ptr_eq(other, &space)) {
                spaces.push(space);
            }
        }
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
    let probes = PROBES.lock().active.clone();
    for address in probes.iter().filter_map(|probe| probe.address_in(&area)) {
        put_back(space, address);
    }
}

/// Puts the INT3 into one process, if there is a probe.
fn put_back(space: &AddressSpace, address: u64) {
    let _busy = Busy::new();
    if let Some(Found::Active(_)) = find(space, address) {
        space.poke(address, &[INT3]);
    }
}

/// A probe at an address.
enum Found {
    Active(Arc<Probe>),
    /// It is being taken out.
    Leaving,
}

fn find(space: &AddressSpace, address: u64) -> Option<Found> {
    let area = space.area(address)?;
    let probes = PROBES.lock();
    let is_here = |probe: &&Arc<Probe>| probe.address_in(&area) == Some(address);
    if let Some(probe) = probes.active.iter().find(is_here) {
        return Some(Found::Active(probe.clone()));
    }
    probes.leaving.iter().find(is_here).map(|_| Found::Leaving)
}

/// Whether the instruction in front of an address is a breakpoint of the program's own.
fn is_breakpoint(behind: u64) -> bool {
    let mut code = [0; 2];
    let len = current_mm().peek(behind.wrapping_sub(2), &mut code);
    len == 2 && (code[1] == INT3 || code == INT_3) || len == 0 && user::read(behind.wrapping_sub(1)) == Ok(INT3)
}

/// In the die chain: whether a breakpoint is one of ours, or a step was for one.
pub fn notifier(regs: &mut UserRegs, die: Die) -> Verdict {
    let task = current();
    match die.vector {
        Exception::BP if USED.load(Relaxed) => breakpoint(task, regs),
        Exception::DB if die.error & STEP != 0 && task.hooks.probe.stepping.load(Relaxed) != 0 => step(task, regs),
        _ => Verdict::Pass,
    }
}

#[cold]
fn breakpoint(task: &Task, regs: &mut UserRegs) -> Verdict {
    let Some(segment) = CodeSegment::of(task, regs) else {
        return Verdict::Pass;
    };
    let offset = segment.offset(regs.rip.wrapping_sub(1));
    let Some(address) = segment.linear(offset) else {
        return Verdict::Pass;
    };
    let changes = CHANGES.load(SeqCst);
    match find(current_mm(), address) {
        Some(Found::Active(_)) => task.raise(ExitWork::UPROBE),
        Some(Found::Leaving) => {}
        // Not if one was put in meanwhile: what is there may be its INT3.
        None if is_breakpoint(address.wrapping_add(1)) && CHANGES.load(SeqCst) == changes => {
            return Verdict::Pass;
        }
        None => {}
    }
    // A probe's, or one's that was taken out after it was hit: then the instruction is there again.
    regs.rip = offset;
    Verdict::Handled
}

/// A step is over.
#[cold]
fn step(task: &Task, regs: &mut UserRegs) -> Verdict {
    let at = task.hooks.probe.stepping.load(Relaxed);
    if let Some(code) = Code::at(task, regs)
        && code.segment.linear(regs.rip) == Some(at)
        && code.instruction().is_some_and(|instruction| instruction.is_repeated())
        && task.hooks.probe.trap_flag.load(Relaxed) == 0
    {
        // One round of several.
        return Verdict::Handled;
    }
    if end_step(task, regs) { Verdict::Pass } else { Verdict::Handled }
}

/// The hook: the task has hit a probe and stands at its instruction.
pub fn notify_resume(regs: &mut UserRegs) {
    let task = current();
    let Some(segment) = CodeSegment::of(task, regs) else {
        return;
    };
    let Some(address) = segment.linear(regs.rip) else {
        return;
    };
    let Some(Found::Active(probe)) = find(current_mm(), address) else {
        // Taken out meanwhile: the instruction is there again, or will be.
        return;
    };
    if task.hooks.probe.stepping.load(Relaxed) == address {
        // Another thread's step ended first and put the INT3 in our way: on with our step.
        current_mm().poke(address, &probe.code[..1]);
        return;
    }
    probe.hits.fetch_add(1, Relaxed);
    trace_points::record(Event::Probe, address);
    match Instruction::decode(segment.mode, &probe.code) {
        Some(instruction) if emulate(&instruction, segment, regs) => {}
        Some(instruction) if instruction.may_be_stepped() => begin_step(task, &probe, address, regs),
        // Another instruction in this mode than in the file's, which cannot be stepped: the probe gives way.
        _ => {
            current_mm().poke(address, &probe.code[..1]);
        }
    }
}

/// Does what the simplest instructions do. False for all others, and where memory is not there: then they are run.
fn emulate(instruction: &Instruction<'_>, segment: CodeSegment, regs: &mut UserRegs) -> bool {
    // A program that steps itself waits for the trap. A stack may be in a segment with a base, or with other sizes.
    if regs.rflags() & flags::TF != 0 || segment.mode != Mode::Bits64 && regs.ss() != u64::from(USER_DS) {
        return false;
    }
    let (word, next) = match segment.mode {
        Mode::Bits64 => (8, regs.rip.wrapping_add(1)),
        Mode::Bits32 => (4, segment.offset(regs.rip.wrapping_add(1))),
        Mode::Bits16 => return false,
    };
    let stack = |address: u64| {
        if word == 8 { address } else { u64::from(address as u32) }
    };
    let plain = !instruction.has_prefix();
    match instruction.opcode {
        // NOP.
        0x90 if plain => regs.rip = next,
        // PUSH of EBP and EBX, RBP and RBX: how functions begin.
        0x55 | 0x53 if plain => {
            let value = if instruction.opcode == 0x55 { regs.rbp } else { regs.rbx };
            let top = stack(regs.rsp.wrapping_sub(word));
            let written = match word {
                8 => user::write(top, &value),
                _ => user::write(top, &(value as u32)),
            };
            if written.is_err() {
                return false;
            }
            (regs.rsp, regs.rip) = (top, next);
        }
        // RET.
        0xc3 if plain => {
            let target = match word {
                8 => user::read(stack(regs.rsp)),
                _ => user::read::<u32>(stack(regs.rsp)).map(u64::from),
            };
            let Ok(target) = target else { return false };
            (regs.rsp, regs.rip) = (stack(regs.rsp.wrapping_add(word)), target);
        }
        _ => return false,
    }
    true
}

/// Lets the instruction run in its place, and the next one trap.
fn begin_step(task: &Task, probe: &Probe, address: u64, regs: &mut UserRegs) {
    let state = &task.hooks.probe;
    current_mm().poke(address, &probe.code[..1]);
    state.stepping.store(address, Relaxed);
    state.trap_flag.store(regs.rflags() & flags::TF, Relaxed);
    regs.set_rflags(regs.rflags() | flags::TF);
}

/// The step is over. Says whether the program wanted to step, too.
fn end_step(task: &Task, regs: &mut UserRegs) -> bool {
    let state = &task.hooks.probe;
    let address = state.stepping.swap(0, Relaxed);
    put_back(current_mm(), address);
    let wanted = state.trap_flag.load(Relaxed) != 0;
    if !wanted {
        regs.set_rflags(regs.rflags() & !flags::TF);
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
