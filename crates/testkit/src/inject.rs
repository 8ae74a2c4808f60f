//! The injection harness: an event at each instruction that a door executes, by QEMU's debugger interface. It asks nothing of the
//! kernel but symbols.
//!
//! A program crosses the door again and again. The machine is stopped before one instruction, the event is injected, and its
//! handler must be entered from that very instruction; where it goes on, every register must be what it was, GS bases and page
//! table included. Then the next instruction.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::gdb::{CS, Debugger, RDI, RIP, RSI, RSP, Snapshot};
use crate::qmp::Qmp;
use crate::report::{MACHINE_ENDED, Report};
use crate::run::{Run, insert, wait};
use crate::symbols::{Code, Symbols};
use crate::tiers::{CROSSINGS, Program};

/// What is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Event {
    /// A non-maskable interrupt
    Nmi,
    /// A machine check that the CPU can go on from; the kernel must have turned machine checks on
    Mc,
    /// A debug exception, by a breakpoint in the debug registers
    Db,
}

/// The monitor's command for a machine check on CPU 0: bank 1; an uncorrected error that is reported, whose context is whole
/// (IA32_MCi_STATUS: VAL, UC, EN); execution can go on (MCG_STATUS: RIPV, MCIP); no address.
const MACHINE_CHECK: &str = "mce 0 1 0xb000000000000000 0x5 0 0";

/// DR7: DR0 is a breakpoint on execution.
const EXECUTION: u64 = 1;

impl Event {
    /// Injects it where the machine is stopped, in the kernel; it comes when the machine goes on.
    ///
    /// # Errors
    ///
    /// When QEMU refuses.
    pub fn inject(self, debugger: &mut Debugger, qmp: &mut Qmp) -> Result<()> {
        match self {
            Event::Db => {
                let at = debugger.register(RIP)?;
                watch(debugger, at, EXECUTION)
            }
            Event::Nmi => qmp.inject_nmi(),
            Event::Mc => {
                let printed = qmp.monitor(MACHINE_CHECK)?;
                ensure!(printed.is_empty(), "QEMU said to `{MACHINE_CHECK}`: {printed}");
                Ok(())
            }
        }
    }

    /// Its name in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Event::Nmi => "nmi",
            Event::Mc => "mc",
            Event::Db => "db",
        }
    }

    /// Its vector.
    #[must_use]
    pub fn vector(self) -> u64 {
        match self {
            Event::Nmi => 2,
            Event::Mc => 18,
            Event::Db => 1,
        }
    }
}

/// Loads DR0 and DR7. QEMU has no command for it, so the CPU does it: the machine is stopped in the kernel, whose next bytes are
/// instructions that do it until they have been executed.
fn watch(debugger: &mut Debugger, address: u64, control: u64) -> Result<()> {
    /// MOV DR0, RDI; MOV DR7, RSI.
    const CODE: [u8; 6] = [0x0f, 0x23, 0xc7, 0x0f, 0x23, 0xfe];
    let at = debugger.register(RIP)?;
    let saved = [debugger.register(RDI)?, debugger.register(RSI)?];
    // A word may cross into a page that is not there, and these bytes may not.
    let bytes = CODE.iter().zip(at..).map(|(_, place)| debugger.byte(place)).collect::<Result<Vec<u8>>>()?;
    let write = |debugger: &mut Debugger, bytes: &[u8]| {
        bytes.iter().zip(at..).try_for_each(|(&byte, place)| debugger.write_byte(place, byte))
    };
    write(debugger, &CODE)?;
    debugger.set_register(RDI, address)?;
    debugger.set_register(RSI, control)?;
    while debugger.register(RIP)? != at + CODE.len() as u64 {
        debugger.step()?;
    }
    write(debugger, &bytes)?;
    let registers = [(RDI, saved[0]), (RSI, saved[1]), (RIP, at)];
    registers.into_iter().try_for_each(|(register, value)| debugger.set_register(register, value))
}

/// What a handler is entered with.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The instruction that it came before.
    pub rip: u64,
    /// The stack pointer there.
    pub rsp: u64,
}

/// Lets an event that was injected come: runs to its handler, which pushes no error code.
///
/// # Errors
///
/// When the handler is not entered.
pub fn arrive(debugger: &mut Debugger, handler: u64) -> Result<Arrival> {
    debugger.run_to(handler)?;
    let frame = debugger.register(RSP)?;
    Ok(Arrival { rip: debugger.word(frame)?, rsp: debugger.word(frame + 3 * 8)? })
}

/// Lets the handler end: runs until the stack is what it was at one of `places`, and gives that. The handler may execute the same
/// instruction on its own stack.
///
/// # Errors
///
/// When it does not end.
pub fn resume(debugger: &mut Debugger, arrival: Arrival, places: &[u64]) -> Result<u64> {
    loop {
        let resumed = debugger.run_to_one_of(places)?;
        if debugger.register(RSP)? == arrival.rsp {
            return Ok(resumed);
        }
    }
}

/// The instructions of a crossing that are followed at most. Delivering a signal takes some thousands.
const LONGEST: usize = 40_000;

/// How long the kernel may run from one stop to the next. A timer's interrupt comes sooner.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Steps along a crossing that begins at `start`, until `ends` holds; what `counts` of its instructions.
///
/// # Errors
///
/// When it does not end.
pub fn follow(
    debugger: &mut Debugger,
    start: u64,
    step: &mut dyn FnMut(&mut Debugger) -> Result<()>,
    counts: impl Fn(u64) -> bool,
    ends: impl Fn(&mut Debugger, u64) -> Result<bool>,
) -> Result<BTreeSet<u64>> {
    let mut seen = BTreeSet::new();
    debugger.run_to(start)?;
    for _ in 0..LONGEST {
        let at = debugger.register(RIP)?;
        if counts(at) {
            seen.insert(at);
        } else if !seen.is_empty() && ends(debugger, at)? {
            return Ok(seen);
        }
        step(debugger)?;
    }
    bail!("the crossing did not end within {LONGEST} instructions")
}

/// One door of a kernel, and what is injected there.
pub struct Injection<'a> {
    /// How the kernel is booted; its ELF file is asked for.
    pub run: Run<'a>,
    /// The symbol at which the door begins.
    pub door: &'a str,
    /// What is injected.
    pub event: Event,
}

impl Injection<'_> {
    /// Injects while each of [`CROSSINGS`] runs, until something fails: how many times with each, and the report.
    ///
    /// # Errors
    ///
    /// Those of [`Injection::log`].
    pub fn report(&self) -> Result<(Vec<usize>, Report)> {
        let programs: Vec<&Program> = CROSSINGS.iter().collect();
        let (mut counts, mut whole) = (Vec::new(), String::new());
        for program in CROSSINGS {
            let (count, log) = self.log(program)?;
            counts.push(count);
            whole = whole + &log + MACHINE_ENDED;
            if !Report::read(&[program], &log, None).failed_rows().is_empty() {
                break;
            }
        }
        Ok((counts, Report::read(&programs, &whole, None)))
    }

    /// Injects while a program of [`CROSSINGS`] runs: how many times, and the console's log with a line for the event.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be read or started, or has no such symbol. What the kernel does wrong is in the log.
    pub fn log(&self, program: &'static Program) -> Result<(usize, String)> {
        let kernel = self.run.kernel.context("the kernel's ELF file is needed")?;
        let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        let (gdb, qmp) = (scratch.path().join("gdb"), scratch.path().join("qmp"));
        let symbols = Symbols::read(kernel)?;
        let program_symbols = Symbols::read(&self.run.file(program)?)?;
        let harness = Harness {
            event: self.event,
            door: symbols.named(self.door)?,
            code: Code::read(kernel)?,
            symbols,
            begin: program_symbols.named("by_syscall")?,
            end: program_symbols.named("after_syscall")?,
            finish: program_symbols.named("finish")?,
            gdb: gdb.clone(),
            qmp: qmp.clone(),
        };
        let mut child = self.run.start_watched(program, &scratch, &[("-gdb", &gdb), ("-qmp", &qmp)])?;
        let worker = thread::spawn(move || harness.run());
        let text = wait(&mut child, self.run.limit)?;
        let name = self.event.name();
        let begin = format!("program {}", program.name);
        Ok(match worker.join().expect("the harness does not panic") {
            Ok(count) => (count, insert(&text, program, &format!("ok {name}"))),
            // The program did not come to its crossings: it says why.
            Err(Failure { injected: None, .. }) => (0, text),
            Err(Failure { injected: Some(count), error }) => {
                // What came behind is the end that the harness made.
                let before: Vec<&str> = text.lines().take_while(|line| line.trim() != begin).collect();
                let reason = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
                let verdict = if error.is::<NotDelivered>() { "skip" } else { "not ok" };
                (count, format!("{}\n{begin}\n{verdict} {name}: {reason}\n", before.join("\n")))
            }
        })
    }
}

/// Why it ended early.
struct Failure {
    /// How many were injected. None if the program's crossings were not reached.
    injected: Option<usize>,
    error: anyhow::Error,
}

/// The event did not come, and the machine runs.
#[derive(Debug)]
struct NotDelivered;

impl std::error::Error for NotDelivered {}

impl std::fmt::Display for NotDelivered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it does not come; QEMU sends an NMI by LINT1 of the local APIC, if the kernel has that set up (0x400 at offset 0x360)")
    }
}

struct Harness {
    event: Event,
    door: u64,
    code: Code,
    symbols: Symbols,
    /// The crossing in the program, the instruction behind it, and the byte that ends the crossings.
    begin: u64,
    end: u64,
    finish: u64,
    gdb: PathBuf,
    qmp: PathBuf,
}

impl Harness {
    fn run(&self) -> Result<usize, Failure> {
        let failure = |injected| move |error| Failure { injected, error };
        let mut debugger = Debugger::connect(&self.gdb, STOP_LIMIT).map_err(failure(None))?;
        let mut qmp = Qmp::connect(&self.qmp).map_err(failure(None))?;
        debugger.run_to(self.begin).map_err(failure(None))?;
        let mut injected = 0;
        let outcome = self.everywhere(&mut debugger, &mut qmp, &mut injected);
        if let Err(error) = outcome {
            // Or it would stand until the time is up. It may have ended by itself.
            let _ = qmp.quit();
            return Err(failure(Some(injected))(error));
        }
        let _ = debugger.detach();
        Ok(injected)
    }

    fn everywhere(&self, debugger: &mut Debugger, qmp: &mut Qmp, injected: &mut usize) -> Result<()> {
        let handler = self.handler(debugger, qmp)?;
        // The first crossing may have more: pages are touched for the first time.
        self.crossing(debugger)?;
        let second = self.crossing(debugger)?;
        let third = self.crossing(debugger)?;
        let name = self.event.name();
        for &at in second.intersection(&third) {
            self.inject(debugger, qmp, handler, at, *injected == 0)
                .with_context(|| format!("{name} at {}", self.symbols.describe(at)))?;
            *injected += 1;
        }
        debugger.run_to(self.end)?;
        debugger.write_byte(self.finish, 1)
    }

    /// The kernel's instructions of the next crossing.
    fn crossing(&self, debugger: &mut Debugger) -> Result<BTreeSet<u64>> {
        let in_user_mode = |debugger: &mut Debugger, _| Ok(debugger.register(CS)? & 3 == 3);
        follow(debugger, self.door, &mut Debugger::step, |at| self.code.holds(at), in_user_mode)
    }

    /// Injects just before the instruction at `at`, and lets the handler end.
    fn inject(&self, debugger: &mut Debugger, qmp: &mut Qmp, handler: u64, at: u64, first: bool) -> Result<()> {
        debugger.run_to(at)?;
        let before = Snapshot::take(debugger)?;
        self.event.inject(debugger, qmp)?;
        let arrival = match arrive(debugger, handler) {
            Ok(arrival) => arrival,
            // QEMU still answers: no kernel died of it.
            Err(_) if first && qmp.monitor("info status").is_ok() => return Err(NotDelivered.into()),
            Err(error) => return Err(error.context("the handler was not entered")),
        };
        if self.event == Event::Db {
            // Where the debugger stops the machine, QEMU raises the exception again, whatever RF says.
            watch(debugger, 0, 0)?;
        }
        ensure!(arrival.rip == at, "it came at {}", self.symbols.describe(arrival.rip));
        let [was, is] = [before.general[RSP as usize], arrival.rsp];
        ensure!(was == is, "the stack pointer in its frame is {is:#x} and not {was:#x}");
        resume(debugger, arrival, &[at]).context("the kernel did not go on behind it")?;
        let after = Snapshot::take(debugger)?;
        for ((name, before), (_, after)) in before.named().into_iter().zip(after.named()) {
            ensure!(before == after, "{name} was {before:#x} and is {after:#x} behind it");
        }
        Ok(())
    }

    /// The event's handler, out of the IDT.
    fn handler(&self, debugger: &mut Debugger, qmp: &mut Qmp) -> Result<u64> {
        let registers = qmp.monitor("info registers")?;
        let idt = registers.split("IDT=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let idt = idt.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let entry = idt.with_context(|| format!("QEMU says no IDT: {registers}"))? + 16 * self.event.vector();
        // It need not be mapped for user mode.
        debugger.run_to(self.door)?;
        let (low, high) = (debugger.word(entry)?, debugger.word(entry + 8)?);
        Ok(low & 0xffff | low >> 32 & 0xffff_0000 | high << 32)
    }
}
