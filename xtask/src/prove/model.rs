//! The model of the CPU beside an emulator: the same instruction in the same state must do the same.

use anyhow::{Context, Result, bail, ensure};
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register};
use portcullis::x86_64::syscall64::CLEARED_FLAGS;
use portcullis::x86_64::tables::{USER_CS, USER_DS, USER32_CS};
use portcullis_testkit::gdb::{Debugger, RIP, Snapshot};

use super::goal::KERNEL_HALF;
use super::image::Image;
use super::state::{Arithmetic, Region, State, flags};
use super::step::{Leave, Next, step};
use super::term::Term;

/// The general registers in the order of the debugger's protocol.
const PROTOCOL: [Register; 16] = [
    Register::RAX,
    Register::RBX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::RBP,
    Register::RSP,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];
/// The flags that are compared: what arithmetic leaves is not in the model, and a debugger plays with RF.
const COMPARED: u64 = flags::ALL & !(flags::ARITHMETIC | flags::RF);

/// So often a step may end where it began.
const RETRIES: u32 = 10;

/// What the model asks of a snapshot.
trait Read {
    fn get(&self, register: Register) -> u64;
    fn state(&self) -> State;
}

impl Read for Snapshot {
    fn get(&self, register: Register) -> u64 {
        let whole = PROTOCOL.iter().position(|one| *one == register.full_register());
        match register {
            Register::GS => self.gs,
            Register::None => 0,
            _ => whole.map_or(0, |number| self.general[number]),
        }
    }

    /// As a state of which everything is known.
    fn state(&self) -> State {
        let mut state = State::new(self.rip, false);
        for (register, value) in PROTOCOL.iter().zip(self.general) {
            state.set_register(*register, &Term::constant(value));
        }
        state.flags = Term::constant(self.flags);
        state.gs = Term::constant(self.gs);
        state.kernel_gs = Term::constant(self.kernel_gs);
        state.cr3 = Term::constant(self.cr3);
        // All memory, from address 0 on.
        let (low, high) = (i64::MIN, i64::MAX);
        let base = Term::constant(0);
        state.add_region(Region { name: "memory", base, low, high, writable: true, for_user_table: true });
        state
    }
}

/// A comparison along a crossing.
pub struct Comparison<'a> {
    image: &'a Image,
    /// What the last instruction compared, for the jump after it.
    arithmetic: Arithmetic,
    /// How many instructions and arrivals were compared.
    pub compared: usize,
}

impl<'a> Comparison<'a> {
    /// Of crossings by the doors of an image.
    pub fn new(image: &'a Image) -> Self {
        Comparison { image, arithmetic: Arithmetic::Unknown, compared: 0 }
    }

    /// Lets the machine make one step, and compares it if it is one of a door's, or an arrival there.
    pub fn step(&mut self, debugger: &mut Debugger) -> Result<()> {
        let at = debugger.register(RIP)?;
        let here = self.image.is_in_a_door(at);
        if !here && at >= KERNEL_HALF {
            self.arithmetic = Arithmetic::Unknown;
            return debugger.step();
        }
        let before = Snapshot::take(debugger)?;
        let memory = if here { self.memory(&before, debugger)? } else { Vec::new() };
        // Gone when a system call is made from there.
        let code = if here { 0 } else { debugger.word(at)? & 0xffff };
        debugger.step()?;
        let mut after = Snapshot::take(debugger)?;
        // Now and then QEMU stops before the instruction, to look at its timers.
        for _ in 0..RETRIES {
            if !here || after.rip != at {
                break;
            }
            debugger.step()?;
            after = Snapshot::take(debugger)?;
        }
        let same = match here {
            true => self.same_step(&before, &memory, &after, debugger),
            false if self.image.is_in_a_door(after.rip) => same_arrival(&before, code, &after, debugger),
            false => Ok(false),
        };
        self.compared += usize::from(same.with_context(|| format!("the step from {}", self.image.describe(at)))?);
        Ok(())
    }

    /// False if the model cannot know what it does.
    fn same_step(
        &mut self,
        before: &Snapshot,
        memory: &[(u64, u64)],
        after: &Snapshot,
        debugger: &mut Debugger,
    ) -> Result<bool> {
        let instruction = self.image.instruction(before.rip)?;
        let mut state = before.state();
        state.arithmetic = std::mem::replace(&mut self.arithmetic, Arithmetic::Unknown);
        for (address, word) in memory {
            state.set_word((0, *address as i64), Term::constant(*word));
        }
        state.rip = instruction.next_ip();
        let next = match step(&mut state, &instruction) {
            Ok(next) => next,
            // What was compared before is not known.
            Err(_) if instruction.is_jcc_short_or_near() => return Ok(false),
            Err(stuck) => bail!("the model does not know it: {stuck:?}"),
        };
        match next {
            Next::Goes => self.arithmetic = state.arithmetic.clone(),
            Next::Jump(target) => state.rip = target,
            Next::Branch(condition, target) => match condition.decided() {
                Some(taken) => state.rip = if taken { target } else { state.rip },
                None => bail!("it depends on {condition}"),
            },
            Next::Call(target) => return equal("rip", target, after.rip).map(|()| true),
            Next::Leave(leave) => return left(&mut state, leave, after),
        }
        equal("rip", state.rip, after.rip)?;
        for register in PROTOCOL {
            known(&name(register), &state.register(register), after.get(register))?;
        }
        known("gs base", &state.gs, after.gs)?;
        known("the other gs base", &state.kernel_gs, after.kernel_gs)?;
        known("cr3", &state.cr3, after.cr3)?;
        known("rflags", &state.flags.masked(COMPARED), after.flags & COMPARED)?;
        for (address, access) in accesses(&instruction, before) {
            if writes(access) {
                let word = state.word((0, address as i64));
                known(&format!("memory at {address:#x}"), &word, debugger.word(address)?)?;
            }
        }
        Ok(true)
    }

    /// The words that the instruction may read, aligned, with what they hold.
    fn memory(&self, before: &Snapshot, debugger: &mut Debugger) -> Result<Vec<(u64, u64)>> {
        let instruction = self.image.instruction(before.rip)?;
        let rsp = before.get(Register::RSP);
        let addresses: Vec<u64> = match instruction.mnemonic() {
            Mnemonic::Iretq => (0..5).map(|word| rsp + 8 * word).collect(),
            Mnemonic::Verw => Vec::new(),
            _ => accesses(&instruction, before).into_iter().map(|(address, _)| address).collect(),
        };
        addresses.into_iter().map(|address| Ok((address, debugger.word(address)?))).collect()
    }
}

/// SYSRET and IRET (SDM volume 2). False if IRET faulted, as some programs have it: the model has that as an arrival.
fn left(state: &mut State, leave: Leave, after: &Snapshot) -> Result<bool> {
    let value = |state: &State, register| state.register(register).value().context("a known register");
    let (rip, flags, rsp, cs, ss) = match leave {
        Leave::Sysret64 | Leave::Sysret32 => {
            let rip = value(state, Register::RCX)?;
            let (rip, cs) = if leave == Leave::Sysret64 { (rip, USER_CS) } else { (rip & 0xffff_ffff, USER32_CS) };
            let flags = value(state, Register::R11)? & 0x3c_7fd7 | flags::FIXED;
            (rip, flags, value(state, Register::RSP)?, cs.into(), USER_DS.into())
        }
        Leave::Iret => {
            let mut words = [0; 5];
            for (offset, word) in (0..).step_by(8).zip(&mut words) {
                let read = state.read(&state.rsp().plus(offset), 8).map_err(|bad| anyhow::anyhow!(bad.0))?;
                *word = read.value().context("a known word of IRET's frame")?;
            }
            let [rip, cs, flags, rsp, ss] = words;
            if cs & 3 == 3 && after.cs & 3 == 0 {
                return Ok(false);
            }
            (rip, flags, rsp, cs, ss)
        }
        Leave::Ret => {
            let rip = state.pop().map_err(|bad| anyhow::anyhow!(bad.0))?.value().context("a known return address")?;
            equal("rip", rip, after.rip)?;
            return equal("rsp", value(state, Register::RSP)?, after.get(Register::RSP)).map(|()| true);
        }
        Leave::Eretu | Leave::Erets => bail!("the emulators have no FRED"),
        Leave::Never => bail!("UD2 is executed"),
    };
    equal("rip", rip, after.rip)?;
    equal("rflags", flags & COMPARED, after.flags & COMPARED)?;
    equal("rsp", rsp, after.get(Register::RSP))?;
    equal("cs", cs & 0xffff, after.cs)?;
    equal("ss", ss & 0xffff, after.ss)?;
    known("gs base", &state.gs, after.gs)?;
    Ok(true)
}

/// Compares the arrival at a door from user mode, by an instruction that begins with these two bytes. False if it leaves a frame
/// that is not known.
fn same_arrival(before: &Snapshot, code: u64, after: &Snapshot, debugger: &mut Debugger) -> Result<bool> {
    const SYSCALL: u64 = 0x050f;
    const SYSENTER: u64 = 0x340f;
    // Of 32-bit code QEMU shows eight registers.
    let shown = if before.cs == u64::from(USER_CS) { 16 } else { 8 };
    let all_but = |lost: &[Register]| -> Result<()> {
        let mut kept = PROTOCOL[..shown].iter().filter(|register| !lost.contains(register));
        kept.try_for_each(|&register| equal(&name(register), before.get(register), after.get(register)))
    };
    let flags_without = |cleared: u64| equal("rflags", before.flags & !cleared & COMPARED, after.flags & COMPARED);
    match code {
        SYSCALL => {
            let next = before.rip + 2;
            // From compatibility mode it is EIP.
            let next = if before.cs == u64::from(USER_CS) { next } else { next & 0xffff_ffff };
            equal("rcx", next, after.get(Register::RCX))?;
            equal("r11", before.flags & COMPARED, after.get(Register::R11) & COMPARED)?;
            flags_without(CLEARED_FLAGS)?;
            all_but(&[Register::RCX, Register::R11])?;
        }
        SYSENTER => {
            flags_without(flags::VM | flags::IF | flags::RF)?;
            // It is in an MSR.
            all_but(&[Register::RSP])?;
        }
        _ => {
            // A frame, with an error code below it or without.
            let rsp = after.get(Register::RSP);
            let with_error = debugger.word(rsp + 16)? == before.cs;
            let frame = rsp + if with_error { 8 } else { 0 };
            if debugger.word(frame + 8).ok() != Some(before.cs)
                || debugger.word(frame + 24).ok() != Some(before.get(Register::RSP))
            {
                return Ok(false);
            }
            equal("ss on the stack", before.ss, debugger.word(frame + 32)?)?;
            equal("rflags on the stack", before.flags & COMPARED, debugger.word(frame + 16)? & COMPARED)?;
            flags_without(flags::IF | flags::TF | flags::NT | flags::RF | flags::VM)?;
            all_but(&[Register::RSP])?;
        }
    }
    equal("gs base", before.gs, after.gs)?;
    equal("cr3", before.cr3, after.cr3)?;
    Ok(true)
}

/// A register's name, as the messages have it.
fn name(register: Register) -> String {
    format!("{register:?}").to_lowercase()
}

/// Which words it touches, by the decoder's own tables.
fn accesses(instruction: &Instruction, before: &Snapshot) -> Vec<(u64, OpAccess)> {
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(instruction).used_memory();
    used.iter()
        .filter(|used| used.access() != OpAccess::NoMemAccess && used.access() != OpAccess::None)
        .filter_map(|used| {
            let address = used.virtual_address(0, |register, _, _| {
                // Only GS has a base.
                Some(if [Register::SS, Register::DS, Register::ES, Register::CS].contains(&register) {
                    0
                } else {
                    before.get(register)
                })
            })?;
            Some((address & !7, used.access()))
        })
        .collect()
}

fn writes(access: OpAccess) -> bool {
    !matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess)
}

fn known(what: &str, model: &Term, machine: u64) -> Result<()> {
    match model.value() {
        Some(value) => equal(what, value, machine),
        // VERW, arithmetic: the model says nothing.
        None => Ok(()),
    }
}

fn equal(what: &str, model: u64, machine: u64) -> Result<()> {
    ensure!(model == machine, "{what} is {model:#x} in the model and {machine:#x} in the emulator");
    Ok(())
}
