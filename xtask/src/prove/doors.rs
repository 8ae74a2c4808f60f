//! The doors: every path through them, and what must be true where the Rust half is called and where user mode, or what was
//! interrupted, goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use iced_x86::{Mnemonic, Register};
use portcullis::x86_64::tables::{KERNEL_CS, USER_CS, USER_DS, USER32_CS};
use portcullis::x86_64::{UserRegs, layout};

use super::arrival::Arrival;
use super::goal::{CS, Frame, GENERAL, Goal, KERNEL_HALF, NAMES, ORIG_RAX, Prover, RFLAGS, RIP, RSP, SS, index};
use super::image::LIBRARY;
use super::state::{Arithmetic, BadAccess, Speculation, State, USER_TABLE, flags};
use super::step::{Leave, Next, Stuck, step};
use super::term::{Condition, Term};

/// More instructions no path has.
const LONGEST_PATH: usize = 2000;

/// What is proved. Each is a column of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// No memory is touched but the kernel's, by the kernel's addresses, and on the user's page table only what that maps.
    Memory,
    /// The Rust half finds the registers of what was hit, exactly.
    SavedFrame,
    /// And the CPU as compiled code expects it: GS, page table, flags, stack; nothing of the user's in other registers.
    Kernel,
    /// Going on, the registers are those of the frame, exactly, and GS and the page table the user's.
    WayOut,
    /// What was interrupted goes on with the GS base, page table and registers that it had.
    Restored,
    /// No speculation past the choice of GS, and VERW is last.
    Fences,
    /// No way leads out of the doors but the listed ones.
    Targets,
}

impl Property {
    pub const ALL: [Property; 7] = [
        Property::Memory,
        Property::SavedFrame,
        Property::Kernel,
        Property::WayOut,
        Property::Restored,
        Property::Fences,
        Property::Targets,
    ];
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Property::Memory => "memory",
            Property::SavedFrame => "frame",
            Property::Kernel => "kernel",
            Property::WayOut => "way out",
            Property::Restored => "restored",
            Property::Fences => "fences",
            Property::Targets => "targets",
        })
    }
}

/// Something that does not hold.
#[derive(Debug)]
pub struct Failure {
    pub property: Property,
    pub what: String,
    /// Where: an instruction's address.
    pub at: u64,
    /// Values of what is unknown with which it fails.
    pub example: Vec<(String, u64)>,
    /// How the CPU had come.
    pub arrival: Option<Arrival>,
}

/// What was proved of one door.
#[derive(Default, Debug)]
pub struct Proved {
    pub paths: u32,
    pub instructions: u64,
    pub obligations: BTreeMap<Property, u32>,
    /// How far the thread stack or the door's own is used, in bytes.
    pub depth: i64,
    pub failures: Vec<Failure>,
    /// Which instructions were executed.
    pub covered: BTreeSet<u64>,
}

/// What a function may change (System V ABI, 3.2.1).
const CALLER_SAVED: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

impl Proved {
    /// Adds what was proved of another arrival.
    pub fn join(&mut self, other: Proved) {
        self.paths += other.paths;
        self.instructions += other.instructions;
        self.depth = self.depth.max(other.depth);
        for (property, count) in other.obligations {
            *self.obligations.entry(property).or_default() += count;
        }
        self.failures.extend(other.failures);
        self.covered.extend(other.covered);
    }
}

/// A path's end.
type Check = Result<(), Failure>;

impl Prover<'_> {
    /// Proves all of one arrival.
    pub fn prove(&mut self, arrival: Arrival) -> Result<Proved> {
        let mut proved = Proved::default();
        let mut open = self.arrive(arrival)?;
        while let Some((state, goal)) = open.pop() {
            self.walk(state, goal, &mut open, &mut proved)?;
        }
        proved.failures.iter_mut().for_each(|failure| failure.arrival = Some(arrival));
        Ok(proved)
    }

    /// Follows one path to its end, or to where it splits.
    fn walk(
        &mut self,
        mut state: State,
        mut goal: Goal,
        open: &mut Vec<(State, Goal)>,
        proved: &mut Proved,
    ) -> Result<()> {
        loop {
            ensure!(state.trail.len() < LONGEST_PATH, "a path of more than {LONGEST_PATH} instructions");
            let at = state.rip;
            let inside = self.image.is_in_a_door(at);
            if let Err(failure) =
                self.hold(&state, proved, Property::Targets, inside, || format!("{at:#x} is executed"))
            {
                proved.failures.push(failure);
                return Ok(());
            }
            let instruction = self.image.instruction(at)?;
            state.trail.push(at);
            proved.covered.insert(at);
            proved.instructions += 1;
            state.rip = instruction.next_ip();
            let next = match step(&mut state, &instruction) {
                Ok(next) => next,
                Err(stuck) => {
                    // A path that does not exist may do anything.
                    if let Some(example) = self.solver.example(&state.path)? {
                        let (property, what) = match stuck {
                            Stuck::Access(what) => (Property::Memory, what),
                            Stuck::Speculation(what) => (Property::Fences, what),
                            Stuck::Unknown(what) => (Property::Targets, format!("not known: {what}")),
                        };
                        proved.failures.push(Failure { property, what, at, example, arrival: None });
                    }
                    return Ok(());
                }
            };
            *proved.obligations.entry(Property::Memory).or_default() += u32::from(instruction.memory_size().size() > 0);
            match next {
                Next::Goes => {}
                Next::Jump(target) => state.rip = target,
                Next::Branch(condition, target) => {
                    state.speculation.jump();
                    match condition.decided() {
                        Some(true) => state.rip = target,
                        Some(false) => {}
                        None => {
                            let mut other = state.clone();
                            other.rip = target;
                            other.path.push(condition.clone());
                            state.path.push(condition.not());
                            if self.solver.possible(&other.path)? {
                                open.push((other, goal.clone()));
                            }
                            if !self.solver.possible(&state.path)? {
                                return Ok(());
                            }
                        }
                    }
                }
                Next::Call(target) => match self.call(state, goal, target, proved) {
                    Ok(Some((next, after, more))) => {
                        open.extend(more);
                        (state, goal) = (next, after);
                    }
                    Ok(None) => {
                        proved.paths += 1;
                        return Ok(());
                    }
                    Err(failure) => {
                        proved.failures.push(failure?);
                        return Ok(());
                    }
                },
                Next::Leave(leave) => {
                    if let Err(failure) = self.leave(&mut state, &goal, leave, at, proved)? {
                        proved.failures.push(failure);
                    }
                    proved.paths += 1;
                    return Ok(());
                }
            }
            let top = goal.at.1 + layout::REGS_SIZE as i64;
            let deepest = state.deepest.get(&goal.at.0).copied().unwrap_or(top);
            proved.depth = proved.depth.max(top - deepest);
        }
    }

    /// Something that must be so.
    fn hold(
        &self,
        state: &State,
        proved: &mut Proved,
        property: Property,
        holds: bool,
        what: impl FnOnce() -> String,
    ) -> Check {
        *proved.obligations.entry(property).or_default() += 1;
        match holds {
            true => Ok(()),
            false => Err(Failure {
                property,
                what: what(),
                at: state.trail.last().copied().unwrap_or(state.rip),
                example: Vec::new(),
                arrival: None,
            }),
        }
    }

    /// A condition that must follow from the path.
    fn follows(
        &mut self,
        state: &State,
        proved: &mut Proved,
        property: Property,
        condition: Condition,
        what: &str,
    ) -> Result<Check> {
        *proved.obligations.entry(property).or_default() += 1;
        if condition.decided() == Some(true) {
            return Ok(Ok(()));
        }
        let mut conditions = state.path.clone();
        conditions.push(condition.clone().not());
        Ok(match self.solver.example(&conditions)? {
            None => Ok(()),
            Some(example) => Err(Failure {
                property,
                what: format!("{what}: not always {condition}"),
                at: state.trail.last().copied().unwrap_or(state.rip),
                example,
                arrival: None,
            }),
        })
    }

    fn equal(
        &mut self,
        state: &State,
        proved: &mut Proved,
        property: Property,
        (a, b): (&Term, &Term),
        what: &str,
    ) -> Result<Check> {
        self.follows(state, proved, property, Condition::Equal(a.clone(), b.clone()), what)
    }
}

/// Whether nothing but the kernel's addresses and constants has a part in it.
fn is_kernels(value: &Term) -> bool {
    value.value().is_some() || value.symbols().iter().all(|symbol| symbol.ones & KERNEL_HALF == KERNEL_HALF)
}

/// The words of a row in memory.
fn words(state: &mut State, start: &Term, numbers: RangeInclusive<usize>) -> Result<Vec<Term>, BadAccess> {
    numbers.map(|number| state.read(&start.plus(8 * number as i64), 8)).collect()
}

macro_rules! check {
    ($result:expr) => {
        match $result {
            Ok(()) => {}
            Err(failure) => return Err(Ok(failure)),
        }
    };
}

impl Prover<'_> {
    /// A call of a Rust half: what it must find, and what it leaves. `None` if it does not come back.
    #[allow(clippy::type_complexity, reason = "a path goes on, and more may begin")]
    fn call(
        &mut self,
        mut state: State,
        mut goal: Goal,
        target: u64,
        proved: &mut Proved,
    ) -> std::result::Result<Option<(State, Goal, Vec<(State, Goal)>)>, Result<Failure>> {
        let name = self.image.function(target).filter(|(start, _)| *start == target).map_or("", |(_, name)| name);
        let name = name.strip_prefix(LIBRARY).unwrap_or(name).to_owned();
        let aligned = state.rsp().masked(15).value() == Some(0);
        check!(
            self.hold(&state, proved, Property::Kernel, aligned, || "RSP is not a multiple of 16 at a call".to_owned())
        );
        check!(self.hold(&state, proved, Property::Kernel, !state.on_user_table(), || {
            "the page table is the user's".to_owned()
        }));
        let (table, loaded) = (goal.table.clone(), state.cr3.masked(!USER_TABLE));
        check!(self.equal(&state, proved, Property::Kernel, (&loaded, &table), "CR3").map_err(Err)?);
        let (gs, kernels) = (state.gs.clone(), goal.kernel_gs.clone());
        check!(self.equal(&state, proved, Property::Kernel, (&gs, &kernels), "GS is the kernel's").map_err(Err)?);
        let fenced = state.speculation.using();
        check!(self.hold(&state, proved, Property::Fences, fenced, || {
            "no fence stands after the choice of GS".to_owned()
        }));
        let mut affecting = flags::DF | flags::TF | flags::NT | flags::IF;
        if self.image.cpu.smap {
            affecting |= flags::AC;
        }
        let left = state.flags.masked(affecting);
        let clear = Condition::Equal(left, Term::constant(0));
        check!(self.follows(&state, proved, Property::Kernel, clear, "flags").map_err(Err)?);

        if ["bad_iret::move_to_bad_iret", "bad_iret::move_from_alias"].contains(&name.as_str()) {
            check!(self.move_frame(&mut state, &goal, proved));
            return Ok(Some((state, goal, Vec::new())));
        }
        let expected = goal.half;
        check!(self.hold(&state, proved, Property::Targets, name == expected && goal.out.is_none(), || {
            format!("{name} is called, not {expected}")
        }));
        // The frame.
        let pointer = state.regions[goal.at.0].base.plus(goal.at.1);
        let given = state.register(Register::RDI);
        check!(
            self.equal(&state, proved, Property::SavedFrame, (&given, &pointer), "RDI points to the frame")
                .map_err(Err)?
        );
        for (word, name) in NAMES.iter().enumerate() {
            let found = state.word((goal.at.0, goal.at.1 + 8 * word as i64));
            let wanted = goal.frame[word].clone();
            check!(self.equal(&state, proved, Property::SavedFrame, (&found, &wanted), name).map_err(Err)?);
        }
        // The arguments, and what must be of no use to anybody.
        let vector = state.register(Register::RSI);
        let vector_given = goal.vector.is_none_or(|expected| vector.masked(0xffff_ffff).value() == Some(expected));
        check!(self.hold(&state, proved, Property::SavedFrame, vector_given, || format!("the vector is {vector}")));
        if let Some(error) = goal.error.clone() {
            let given = state.register(Register::RDX);
            check!(self.equal(&state, proved, Property::SavedFrame, (&given, &error), "the error code").map_err(Err)?);
        }
        for register in GENERAL {
            let value = state.register(register);
            let free = match register {
                Register::RDI => true,
                Register::RDX => goal.error.is_some(),
                // What a paranoid door keeps there.
                Register::RBX | Register::R12 => !goal.from_user,
                _ => false,
            };
            check!(self.hold(&state, proved, Property::Kernel, free || is_kernels(&value), || {
                format!("{register:?} holds {value}").to_lowercase()
            }));
        }
        if name == "nmi::nmi_hit_kernel" {
            let running = state.word((goal.regions.nmi_work, layout::NMI_STATE as i64));
            let marked = Condition::Equal(running, Term::constant(0)).not();
            check!(
                self.follows(&state, proved, Property::Kernel, marked, "an NMI is marked as being handled")
                    .map_err(Err)?
            );
        }
        // What it leaves.
        if name.ends_with("report") {
            return Ok(None);
        }
        let more = self.after_half(&mut state, &mut goal, &name).map_err(Err)?;
        Ok(Some((state, goal, more)))
    }

    /// The Rust half returns: what it may have changed is unknown, but for what its types promise.
    fn after_half(&mut self, state: &mut State, goal: &mut Goal, name: &str) -> Result<Vec<(State, Goal)>> {
        for register in CALLER_SAVED {
            let value = state.fresh(&format!("{register:?} of the Rust half").to_lowercase());
            state.set_register(register, &value);
        }
        state.computed(Arithmetic::Unknown);
        state.speculation = Speculation::SETTLED;
        // Another task has run meanwhile, on this CPU or another: nothing below the frame is left.
        let regions = state.regions.clone();
        for (number, region) in regions.iter().enumerate() {
            if number == goal.at.0 {
                state.forget(number, region.low..goal.at.1);
            } else if number == goal.regions.thread || number == goal.regions.frame || number == goal.regions.entry {
                state.forget(number, region.low..region.high);
            }
        }
        let user_rsp = (goal.regions.cpu, layout::USER_RSP as i64);
        let unknown = state.fresh("cpu.user_rsp");
        state.set_word(user_rsp, unknown);
        let mut out: Frame =
            std::array::from_fn(|word| state.fresh(&format!("{} of the frame after the Rust half", NAMES[word])));
        if goal.from_user {
            // `UserRegs`: the selectors name ring 3, the flags are the user's.
            for selector in [CS, SS] {
                out[selector] =
                    state.fresh_with(&format!("{} of the frame after the Rust half", NAMES[selector]), !0xffff, 3);
            }
            if goal.half == "fred::hit_user" {
                // And that an instruction is done.
                let software = state.fresh_with("bit 17 of ss", !(1 << 17), 0);
                out[SS] = out[SS].or(&software);
            }
            let ones = flags::FIXED | flags::IF;
            out[RFLAGS] = state.fresh_with("rflags of the frame after the Rust half", !(UserRegs::FLAGS | ones), ones);
            goal.user_gs = state.fresh("the user's gs after the Rust half");
            state.kernel_gs = goal.user_gs.clone();
        } else {
            // The handler may change where execution goes on, and the kernel's table.
            for (word, was) in goal.frame.iter().enumerate().filter(|(word, _)| ![RIP, ORIG_RAX].contains(word)) {
                out[word] = was.clone();
            }
            // But not into the NMI's door, nor out of it.
            if name == "paranoid::ist_hit_kernel" {
                let within = self.within_nmi_door(&out[RIP])?;
                state.path.push(if goal.in_nmi_door { within } else { within.not() });
            }
        }
        goal.table = state.fresh_with("cr3 after the Rust half", USER_TABLE, 0);
        state.cr3 = goal.table.clone();
        for (word, value) in out.iter().enumerate() {
            state.set_word((goal.at.0, goal.at.1 + 8 * word as i64), value.clone());
        }
        goal.out = Some(out.clone());
        goal.runs += 1;
        if goal.half == "syscall32::fast" {
            // AL says which way: where it is SYSRET, that is equivalent as far as the landing pad can tell.
            let (mut by_sysret, mut sysret_goal) = (state.clone(), goal.clone());
            by_sysret.set_register(Register::RAX, &Term::constant(2));
            let mut out = out;
            out[RIP] = by_sysret.fresh_with("the landing pad", !0xffff_ffff, 0);
            out[CS] = Term::constant(USER32_CS.into());
            out[SS] = Term::constant(USER_DS.into());
            let known = out[RFLAGS].known();
            out[RFLAGS] = by_sysret.fresh_with("rflags for sysret", known.0 | flags::RF | flags::TF, known.1);
            for (word, value) in out.iter().enumerate() {
                by_sysret.set_word((goal.at.0, goal.at.1 + 8 * word as i64), value.clone());
            }
            sysret_goal.out = Some(out);
            sysret_goal.sysret32 = true;
            state.set_register(Register::RAX, &Term::constant(0));
            return Ok(vec![(by_sysret, sysret_goal)]);
        }
        if name == "nmi::nmi_hit_kernel" {
            // Another one may have come meanwhile, once in this proof: what goes round again is what came.
            let place = (goal.regions.nmi_work, layout::NMI_STATE as i64);
            state.set_word(place, Term::constant(1));
            if goal.runs == 1 {
                let mut again = state.clone();
                again.set_word(place, Term::constant(2));
                let mut goal = goal.clone();
                goal.frame = out;
                goal.frame[ORIG_RAX] = Term::constant(u64::MAX);
                goal.out = None;
                return Ok(vec![(again, goal)]);
            }
        }
        Ok(Vec::new())
    }

    /// `move_to_bad_iret` and `move_from_alias`: the general registers that the fault's door has saved, and IRET's frame, come to
    /// the top of the thread stack.
    fn move_frame(&self, state: &mut State, goal: &Goal, proved: &mut Proved) -> Check {
        let fault = state.register(Register::RDI);
        let moved = (|| {
            let general = words(state, &fault, 0..=ORIG_RAX)?;
            let rsp = state.read(&fault.plus(8 * RSP as i64), 8)?;
            Ok::<_, BadAccess>([general, words(state, &rsp, 0..=SS - RIP)?].concat())
        })();
        let moved = match moved {
            Ok(moved) => moved,
            Err(bad) => return self.hold(state, proved, Property::SavedFrame, false, || bad.0),
        };
        let reported = goal.half == "paranoid::report";
        let low = state.regions[goal.regions.thread].low;
        // They run on the stack that they are called on: what is below may be lost.
        state.forget(goal.regions.thread, low..goal.at.1);
        for (word, value) in moved.into_iter().enumerate() {
            state.set_word((goal.regions.thread, goal.at.1 + 8 * word as i64), value);
        }
        let to = match reported {
            true => Term::constant(0),
            false => state.regions[goal.regions.thread].base.plus(goal.at.1),
        };
        // It has copied the user's registers through others: what is left there the door has nothing to do with.
        for register in CALLER_SAVED {
            state.set_register(register, &Term::constant(0));
        }
        state.set_register(Register::RAX, &to);
        state.computed(Arithmetic::Unknown);
        Ok(())
    }

    /// The end of a door.
    fn leave(&mut self, state: &mut State, goal: &Goal, leave: Leave, at: u64, proved: &mut Proved) -> Result<Check> {
        macro_rules! must {
            ($result:expr) => {
                match $result {
                    Ok(()) => {}
                    Err(failure) => return Ok(Err(failure)),
                }
            };
        }
        if leave == Leave::Never {
            return Ok(self.hold(state, proved, Property::Targets, false, || "UD2 is executed".to_owned()));
        }
        let property = if goal.from_user { Property::WayOut } else { Property::Restored };
        let Some(out) = goal.out.clone() else {
            return Ok(
                self.hold(state, proved, property, false, || "the door is left before its Rust half ran".to_owned())
            );
        };
        // GS and the page table.
        let (gs, other_gs) = match goal.from_user {
            true => (goal.user_gs.clone(), goal.kernel_gs.clone()),
            false => (goal.found_gs.clone(), goal.user_gs.clone()),
        };
        must!(self.equal(state, proved, property, (&state.gs.clone(), &gs), "the GS base")?);
        must!(self.equal(state, proved, property, (&state.kernel_gs.clone(), &other_gs), "the other GS base")?);
        if self.isolation {
            let bit = match goal.from_user {
                true => Term::constant(USER_TABLE),
                false => goal.found_cr3.masked(USER_TABLE),
            };
            must!(self.equal(state, proved, property, (&state.cr3, &goal.table.or(&bit)), "the page table")?);
        }
        // The registers.
        let lost_by_sysret32 = |register| {
            let lost = [Register::RCX, Register::R8, Register::R9, Register::R10, Register::R11];
            goal.sysret32 && lost.contains(&register)
        };
        for register in GENERAL {
            let value = state.register(register);
            let wanted = match lost_by_sysret32(register) {
                // ECX and R11 are what SYSRET takes; the others are cleared.
                true if register == Register::RCX => out[RIP].clone(),
                true if register == Register::R11 => out[RFLAGS].clone(),
                true => Term::constant(0),
                false => out[index(register)].clone(),
            };
            must!(self.equal(state, proved, property, (&value, &wanted), &format!("{register:?}").to_lowercase())?);
        }
        match leave {
            Leave::Iret | Leave::Eretu | Leave::Erets => {
                if goal.from_user {
                    let recognized = match leave {
                        Leave::Iret => self.image.iret_to_user()? == at,
                        Leave::Eretu => self.image.eretu_to_user()? == at,
                        _ => false,
                    };
                    must!(self.hold(state, proved, property, recognized, || {
                        "a fault of this instruction would not be recognized".to_owned()
                    }));
                }
                if goal.from_user && self.espfix && leave == Leave::Iret {
                    // To a 16-bit stack, which only the LDT has, IRET leaves the bits 16 to 31 of RSP as they are.
                    let of_ldt = Condition::Equal(out[SS].masked(4), Term::constant(0)).not();
                    let mut with_ldt = state.clone();
                    with_ldt.path.push(of_ldt);
                    let (here, users) = (state.rsp().masked(0xffff_0000), out[RSP].masked(0xffff_0000));
                    must!(self.equal(
                        &with_ldt,
                        proved,
                        property,
                        (&here, &users),
                        "no half of a kernel address in ESP"
                    )?);
                }
                // ERETU and ERETS pass over an error code.
                let rsp = state.rsp().plus(if leave == Leave::Iret { 0 } else { 8 });
                let frame = match words(state, &rsp, 0..=SS - RIP) {
                    Ok(frame) => frame,
                    Err(bad) => return Ok(self.hold(state, proved, Property::Memory, false, || bad.0)),
                };
                for (word, value) in (RIP..=SS).zip(&frame) {
                    must!(self.equal(state, proved, property, (value, &out[word]), NAMES[word])?);
                }
            }
            Leave::Sysret64 | Leave::Sysret32 => {
                let (rcx, r11) = (state.register(Register::RCX), state.register(Register::R11));
                let (code, rip) = match leave {
                    Leave::Sysret64 => (USER_CS, rcx),
                    _ => (USER32_CS, rcx.masked(0xffff_ffff)),
                };
                must!(self.equal(state, proved, property, (&rip, &out[RIP]), "rip")?);
                // A #GP of SYSRET would be taken in the kernel, on the user's stack (Intel SDM volume 2, SYSRET).
                let highest = Condition::Below(rip, Term::constant(1 << 47));
                must!(self.follows(state, proved, property, highest, "RIP is canonical")?);
                // What each loads into RFLAGS.
                let loaded = r11.masked(0x3c_7fd7).or(&Term::constant(flags::FIXED));
                let by_iret = out[RFLAGS].masked(flags::ALL).or(&Term::constant(flags::FIXED));
                must!(self.equal(state, proved, property, (&loaded, &by_iret), "rflags")?);
                let trap = loaded.masked(flags::TF);
                must!(self.equal(state, proved, property, (&trap, &Term::constant(0)), "no single step is late")?);
                must!(self.equal(state, proved, property, (&Term::constant(code.into()), &out[CS]), "cs")?);
                must!(self.equal(state, proved, property, (&Term::constant(USER_DS.into()), &out[SS]), "ss")?);
                must!(self.equal(state, proved, property, (&state.rsp(), &out[RSP]), "rsp")?);
            }
            Leave::Ret => {
                let rip = match state.pop() {
                    Ok(rip) => rip,
                    Err(bad) => return Ok(self.hold(state, proved, Property::Memory, false, || bad.0)),
                };
                must!(self.equal(state, proved, property, (&rip, &out[RIP]), "rip")?);
                must!(self.equal(state, proved, property, (&state.rsp(), &out[RSP]), "rsp")?);
                let loaded = state.all_flags();
                must!(self.equal(state, proved, property, (&loaded, &out[RFLAGS]), "rflags")?);
                must!(self.equal(state, proved, property, (&Term::constant(KERNEL_CS.into()), &out[CS]), "cs")?);
            }
            Leave::Never => {}
        }
        let without_iret = leave == Leave::Ret;
        must!(self.hold(state, proved, property, without_iret == goal.in_nmi_door, || match without_iret {
            true => "NMIs stay blocked".to_owned(),
            false => "the IRET lets NMIs into an NMI's door".to_owned(),
        }));
        if let Some(wanted) = &goal.state {
            let word = state.word((goal.regions.nmi_work, layout::NMI_STATE as i64));
            must!(self.equal(state, proved, property, (&word, wanted), "the NMI's state")?);
        }
        if let Some((place, wanted)) = &goal.other {
            let word = state.word(*place);
            must!(self.equal(state, proved, property, (&word, wanted), "the other frame's rip")?);
        }
        if goal.from_user && self.image.cpu.verw {
            let mut before = state.trail.iter().rev().skip(1);
            let last = loop {
                let Some(address) = before.next() else { break None };
                let instruction = self.image.instruction(*address)?;
                if instruction.mnemonic() != Mnemonic::Jmp {
                    break Some(instruction.mnemonic());
                }
            };
            must!(self.hold(state, proved, Property::Fences, last == Some(Mnemonic::Verw), || {
                format!("before user mode comes {last:?}, not VERW")
            }));
        }
        Ok(Ok(()))
    }
}
