//! NMIs, debug exceptions and machine checks inside an NMI that hit the kernel, and inside each other: at every pair of places, one
//! event each. Nothing may be lost: a handler runs after each NMI. Nothing may be overwritten: each handler finds the registers of
//! what was hit, and in the end all goes on as before.
//!
//! The states are explored one by one; terms stand for the registers of what was hit, so all values are covered.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use iced_x86::{Instruction, Mnemonic, Register};
use portcullis::x86_64::doors::Exception;
use portcullis::x86_64::layout;
use portcullis::x86_64::tables::{KERNEL_CS, KERNEL_DS};

use super::arrival::EndOfNmi;
use super::goal::{CS, Frame, GENERAL, KERNEL_HALF, NAMES, ORIG_RAX, Prover, RFLAGS, RIP, RSP, SS, index};
use super::image::LIBRARY;
use super::state::{Arithmetic, Region, State, USER_TABLE, flags};
use super::step::{Leave, Next, step};
use super::term::Term;

/// Where the kernel was hit, and where a handler is: no door.
const INTERRUPTED: u64 = 0xffff_ffff_0000_0000;
const IN_HANDLER: u64 = 0xffff_ffff_0000_0001;

/// More instructions no way has.
const LONGEST_WAY: u32 = 5000;

/// What comes meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Nmi,
    Debug,
    MachineCheck,
    /// In the handler: its IRET lets NMIs in.
    Fault,
}

/// Where an event came.
#[derive(Clone, Copy, Debug)]
pub struct Injected {
    pub event: Event,
    pub at: u64,
}

/// A way on which something was lost or overwritten.
#[derive(Debug)]
pub struct Loss {
    pub what: String,
    pub events: Vec<Injected>,
}

/// What was explored.
#[derive(Default, Debug)]
pub struct Explored {
    pub ways: u64,
    pub instructions: u64,
    pub losses: Vec<Loss>,
}

/// A function that runs, or an event that is being handled.
#[derive(Clone)]
struct Handler {
    /// Where it goes on.
    to: u64,
    of_nmi: bool,
    /// It has had its fault.
    faulted: bool,
}

/// An event by a stack of its own.
#[derive(Clone)]
struct Hit {
    event: Event,
    frame: Frame,
    gs: Term,
    cr3: Term,
}

/// How things stand.
#[derive(Clone)]
struct Way {
    state: State,
    /// NMIs are, until the next IRET.
    blocked: bool,
    /// No handler has begun since the last NMI came.
    unserved: bool,
    handlers: Vec<Handler>,
    hits: Vec<Hit>,
    events: Vec<Injected>,
    /// What flags that were pushed say of the last comparison.
    saved: Vec<(Term, Arithmetic)>,
    instructions: u32,
}

impl Way {
    /// What these flags say of the last comparison, if they were pushed.
    fn compared(&self, flags: &Term) -> Arithmetic {
        let saved = self.saved.iter().rev().find(|(pushed, _)| pushed == flags);
        saved.map_or(Arithmetic::Unknown, |(_, arithmetic)| arithmetic.clone())
    }
}

/// The exploration of an image.
pub struct Explorer<'a> {
    prover: &'a Prover<'a>,
    code: HashMap<u64, Instruction>,
    /// What was hit, and its GS base and CR3.
    hit: Frame,
    found: (Term, Term),
    nmi_door: u64,
    end: EndOfNmi,
    debug_door: u64,
    machine_check_door: u64,
    explored: Explored,
}

impl<'a> Explorer<'a> {
    /// Explores it with up to so many events besides the first NMI, the handler's faults not counted.
    pub fn explore(prover: &'a Prover<'a>, events: u32) -> Result<Explored> {
        let mut explored = Explored::default();
        let table = Term::partly_known("hit cr3", USER_TABLE, 0);
        // With isolation either table may be in use.
        let tables = [Some(table.clone()), prover.isolation.then(|| table.or(&Term::constant(USER_TABLE)))];
        for cr3 in tables.into_iter().flatten() {
            let one = Explorer::explore_on(prover, cr3, events)?;
            explored.ways += one.ways;
            explored.instructions += one.instructions;
            explored.losses.extend(one.losses);
        }
        Ok(explored)
    }

    fn explore_on(prover: &'a Prover<'a>, cr3: Term, events: u32) -> Result<Explored> {
        let hit: Frame = std::array::from_fn(|word| match word {
            RIP => Term::constant(INTERRUPTED),
            CS => Term::constant(KERNEL_CS.into()),
            SS => Term::constant(KERNEL_DS.into()),
            RFLAGS => Term::partly_known("hit rflags", !flags::ALL, flags::FIXED),
            _ => Term::symbol(format!("hit {}", NAMES[word])),
        });
        let mut explorer = Explorer {
            prover,
            code: HashMap::new(),
            hit,
            found: (Term::symbol("hit gs"), cr3),
            nmi_door: prover.image.find(&format!("{LIBRARY}nmi::nmi_entry"))?,
            end: prover.end_of_nmi()?,
            debug_door: prover.ist_door(Exception::DB)?,
            machine_check_door: prover.ist_door(Exception::MC)?,
            explored: Explored::default(),
        };
        let mut way = explorer.start();
        explorer.deliver(&mut way, Event::Nmi)?;
        explorer.follow(way, events)?;
        Ok(explorer.explored)
    }

    fn start(&self) -> Way {
        let mut state = State::new(INTERRUPTED, self.prover.isolation);
        let kernel = |name: &str, zeros: u64| Term::partly_known(name, zeros, KERNEL_HALF);
        let (cpu, tables) = (kernel("CpuLocal", 63), kernel("Tables", 0xfff));
        let at = |offset: usize| offset as i64;
        let mut add = |name, base: &Term, low, high| {
            state.add_region(Region { name, base: base.clone(), low, high, writable: true, for_user_table: true })
        };
        add("CpuLocal", &cpu, 0, 64);
        add("NMI entry stack", &tables, at(layout::NMI_ENTRY_TOP) - 512, at(layout::NMI_ENTRY_TOP));
        let work = add("NMI stack", &tables, at(layout::NMI_WORK_TOP) - 7648, at(layout::NMI_STATE) + 8);
        let mut words = vec![((work, at(layout::NMI_STATE)), Term::constant(0))];
        for (name, top, region) in
            [("#DB stack", layout::DEBUG_TOP, None), ("#MC stack", layout::MACHINE_CHECK_TOP, None)]
                .into_iter()
                .chain([("", layout::NMI_WORK_TOP, Some(work))])
        {
            let region = region.unwrap_or_else(|| add(name, &tables, at(top) - (8192 - 16), at(top) + 16));
            words.push(((region, at(top)), cpu.clone()));
            // Where the NMI's door looks for a hit at its own end, there was none.
            words.push(((region, at(top) - 5 * 8), Term::constant(0)));
            words.push(((region, at(top) - 4 * 8), Term::constant(0)));
            words.push(((region, at(top + layout::FSGSBASE)), Term::constant(1)));
        }
        words.into_iter().for_each(|(place, word)| state.set_word(place, word));
        for register in GENERAL {
            state.set_register(register, &self.hit[index(register)]);
        }
        state.set_register(Register::RSP, &self.hit[RSP]);
        state.flags = self.hit[RFLAGS].clone();
        (state.gs, state.cr3) = self.found.clone();
        Way {
            state,
            blocked: false,
            unserved: false,
            handlers: Vec::new(),
            hits: Vec::new(),
            events: Vec::new(),
            saved: Vec::new(),
            instructions: 0,
        }
    }

    /// Follows it to the end, and from each place with each event that may come there.
    fn follow(&mut self, mut way: Way, events: u32) -> Result<()> {
        loop {
            if way.state.rip == INTERRUPTED {
                let lost = self.end(&mut way);
                return self.note(way, lost);
            }
            for event in [Event::Nmi, Event::Debug, Event::MachineCheck, Event::Fault] {
                // A fault of the handler is one of the kernel's own: only the others are counted.
                let left = if event == Event::Fault { Some(events) } else { events.checked_sub(1) };
                if let Some(left) = left.filter(|left| *left > 0 || event != Event::Fault)
                    && self.may_come(&way, event)
                {
                    let mut other = way.clone();
                    self.deliver(&mut other, event)?;
                    self.follow(other, left)?;
                }
            }
            if let Some(what) = self.execute(&mut way)? {
                return self.note(way, Some(what));
            }
        }
    }

    /// A way has ended.
    fn note(&mut self, way: Way, lost: Option<String>) -> Result<()> {
        self.explored.ways += 1;
        self.explored.instructions += u64::from(way.instructions);
        self.explored.losses.extend(lost.map(|what| Loss { what, events: way.events }));
        Ok(())
    }

    fn may_come(&self, way: &Way, event: Event) -> bool {
        let in_handler = way.state.rip == IN_HANDLER;
        match event {
            Event::Nmi => !way.blocked,
            // Their handlers watch nothing, and a machine check inside a machine check stops the CPU.
            Event::Debug | Event::MachineCheck => way.hits.iter().all(|hit| hit.event != event),
            Event::Fault => in_handler && way.handlers.last().is_some_and(|handler| handler.of_nmi && !handler.faulted),
        }
    }

    fn deliver(&self, way: &mut Way, event: Event) -> Result<()> {
        if way.state.rip != INTERRUPTED {
            way.events.push(Injected { event, at: way.state.rip });
        }
        let (door, top) = match event {
            Event::Fault => {
                way.blocked = false;
                way.handlers.last_mut().context("a fault is one of a handler")?.faulted = true;
                return Ok(());
            }
            Event::Nmi => (self.nmi_door, layout::NMI_ENTRY_TOP),
            Event::Debug => (self.debug_door, layout::DEBUG_TOP),
            Event::MachineCheck => (self.machine_check_door, layout::MACHINE_CHECK_TOP),
        };
        let state = &mut way.state;
        let arithmetic = state.arithmetic.clone();
        let pushed = state.all_flags();
        way.saved.push((pushed.clone(), arithmetic));
        let mut frame: Frame = std::array::from_fn(|_| Term::constant(u64::MAX));
        GENERAL.iter().for_each(|register| frame[index(*register)] = state.register(*register));
        frame[RIP] = Term::constant(state.rip);
        frame[CS] = Term::constant(KERNEL_CS.into());
        frame[SS] = Term::constant(KERNEL_DS.into());
        (frame[RFLAGS], frame[RSP]) = (pushed, state.rsp());
        let top = state
            .regions
            .iter()
            .find(|region| region.name == "NMI stack")
            .context("there is one")?
            .base
            .plus(top as i64);
        state.set_register(Register::RSP, &top);
        for word in [SS, RSP, RFLAGS, CS, RIP] {
            state.push(frame[word].clone()).map_err(|bad| anyhow::anyhow!(bad.0))?;
        }
        state.flags = state.flags.masked(!(flags::IF | flags::TF | flags::NT | flags::RF | flags::VM));
        state.rip = door;
        if event == Event::Nmi {
            (way.blocked, way.unserved) = (true, true);
        } else {
            let (gs, cr3) = (state.gs.clone(), state.cr3.clone());
            way.hits.push(Hit { event, frame, gs, cr3 });
        }
        Ok(())
    }

    /// Executes an instruction, or the rest of a handler. What went wrong, if anything.
    fn execute(&mut self, way: &mut Way) -> Result<Option<String>> {
        way.instructions += 1;
        if way.instructions > LONGEST_WAY {
            return Ok(Some(format!("no end after {LONGEST_WAY} instructions")));
        }
        if way.state.rip == IN_HANDLER {
            let handler = way.handlers.pop().context("a handler is running")?;
            for register in [Register::RAX, Register::RCX, Register::RDX, Register::RSI, Register::RDI, Register::R8] {
                let value = way.state.fresh("of a handler");
                way.state.set_register(register, &value);
            }
            way.state.computed(Arithmetic::Unknown);
            way.state.rip = handler.to;
            return Ok(None);
        }
        let at = way.state.rip;
        let instruction = match self.code.get(&at) {
            Some(instruction) => *instruction,
            None => *self.code.entry(at).or_insert(self.prover.image.instruction(at)?),
        };
        way.state.rip = instruction.next_ip();
        let next = match step(&mut way.state, &instruction) {
            Ok(next) => next,
            Err(stuck) => return Ok(Some(format!("{stuck:?}"))),
        };
        if instruction.mnemonic() == Mnemonic::Popfq {
            way.state.arithmetic = way.compared(&way.state.flags);
        }
        way.state.speculation.fence();
        match next {
            Next::Goes => {}
            Next::Jump(target) => way.state.rip = target,
            Next::Branch(condition, target) => match condition.decided() {
                Some(true) => way.state.rip = target,
                Some(false) => {}
                None => return Ok(Some(format!("it depends on {condition} at {}", self.prover.image.describe(at)))),
            },
            Next::Call(target) => return self.call(way, target),
            Next::Leave(leave @ (Leave::Iret | Leave::Ret)) => return self.leave(way, leave, at),
            Next::Leave(leave) => bail!("{leave:?} at {at:#x}"),
        }
        Ok(None)
    }

    /// A Rust half is called: what it finds.
    fn call(&self, way: &mut Way, target: u64) -> Result<Option<String>> {
        let name = self.prover.image.function(target).map_or("", |(_, name)| name);
        let of_nmi = name.ends_with("nmi::nmi_hit_kernel");
        let wanted = match way.hits.last() {
            _ if of_nmi => &self.hit,
            Some(hit) if name.ends_with("paranoid::ist_hit_kernel") => &hit.frame,
            _ => return Ok(Some(format!("{name} is called"))),
        };
        let pointer = way.state.register(Register::RDI);
        for (word, name) in NAMES.iter().enumerate().filter(|(word, _)| *word != ORIG_RAX) {
            let found = way.state.read(&pointer.plus(8 * word as i64), 8).map_err(|bad| anyhow::anyhow!(bad.0))?;
            // The arithmetic flags of what was hit have a name of their own.
            let same = found == wanted[word]
                || word == RIP && self.goes_on(&found, &wanted[word])
                || word == RFLAGS
                    && of_nmi
                    && found.masked(!flags::ARITHMETIC) == wanted[word].masked(!flags::ARITHMETIC);
            if !same {
                return Ok(Some(format!("a handler finds {found} as {name}, not {}", wanted[word])));
            }
        }
        if of_nmi {
            way.unserved = false;
        }
        way.handlers.push(Handler { to: way.state.rip, of_nmi, faulted: false });
        way.state.rip = IN_HANDLER;
        Ok(None)
    }

    /// Whether what was hit may go on there: at the end of the NMI's door the last step may be done once more, and the handler called
    /// once more.
    fn goes_on(&self, found: &Term, hit: &Term) -> bool {
        let at_end = self.end.last_two().map(Term::constant).contains(hit);
        found == hit || at_end && [self.end.decrement, self.end.once_more].map(Term::constant).contains(found)
    }

    /// IRET, and RET after POPF. After IRET, whatever it returns to, NMIs may come again.
    fn leave(&self, way: &mut Way, leave: Leave, at: u64) -> Result<Option<String>> {
        let state = &mut way.state;
        let mut words = Vec::new();
        for offset in 0..if leave == Leave::Iret { 5 } else { 1 } {
            match state.read(&state.rsp().plus(8 * offset), 8) {
                Ok(word) => words.push(word),
                Err(bad) => return Ok(Some(bad.0)),
            }
        }
        if leave == Leave::Ret {
            words.extend([Term::constant(KERNEL_CS.into()), state.flags.clone(), state.rsp().plus(8)]);
        } else {
            way.blocked = false;
        }
        let Some(rip) = words[0].value() else { return Ok(Some(format!("{leave:?} to {}", words[0]))) };
        state.rip = rip;
        state.flags = words[2].clone();
        state.clean = true;
        state.set_register(Register::RSP, &words[3]);
        way.state.arithmetic = way.compared(&words[2]);
        if self.prover.image.function(at).is_some_and(|(_, name)| name.ends_with("paranoid::ist_entry")) {
            let hit = way.hits.pop().context("an event is being handled")?;
            let registers = GENERAL.iter().all(|register| way.state.register(*register) == hit.frame[index(*register)]);
            let place =
                self.goes_on(&words[0], &hit.frame[RIP]) && words[3] == hit.frame[RSP] && words[2] == hit.frame[RFLAGS];
            if !registers || !place || way.state.gs != hit.gs || way.state.cr3 != hit.cr3 {
                return Ok(Some(format!("after {:?} it does not go on as before", hit.event)));
            }
        }
        Ok(None)
    }

    /// The kernel goes on where it was hit.
    fn end(&self, way: &mut Way) -> Option<String> {
        let (gs, cr3) = &self.found;
        let word = |name: &str| format!("{name} is not what it was");
        for register in GENERAL {
            if way.state.register(register) != self.hit[index(register)] {
                return Some(word(&format!("{register:?}")));
            }
        }
        if way.state.rsp() != self.hit[RSP] {
            return Some(word("RSP"));
        }
        if way.state.gs != *gs || way.state.cr3 != *cr3 {
            return Some(word("GS or CR3"));
        }
        let of_state = way.state.regions.iter().position(|region| region.name == "NMI stack")?;
        if way.state.word((of_state, layout::NMI_STATE as i64)).value() != Some(0) {
            return Some("the NMI's state says that one is being handled".to_owned());
        }
        if way.unserved {
            return Some("an NMI is lost".to_owned());
        }
        (!way.hits.is_empty() || !way.handlers.is_empty()).then(|| "a handler has not come to its end".to_owned())
    }
}
