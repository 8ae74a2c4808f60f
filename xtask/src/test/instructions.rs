//! Suite `instructions`: an NMI, a machine check and a debug exception at each instruction of each door.
//!
//! A program crosses one door again and again (tests/guest/every_instruction.c). Through QEMU's debugger interface the machine
//! is stopped before one instruction of the library and each of the three is injected there: its door must be entered from
//! that very instruction, with that stack pointer in its frame, and the program must notice nothing. Then the next
//! instruction, until all that the crossing executes have had theirs.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use portcullis::x86_64::isolation::USER_TABLE;
use portcullis_testkit::gdb::{self, Debugger, RDI, RIP, RSI, RSP};
use portcullis_testkit::inject::{Event, arrive, follow, resume};
use portcullis_testkit::qmp::Qmp;
use portcullis_testkit::symbols::Symbols;

use super::guest::{self, Program};
use super::report::Report;
use super::symbols::{is_in_the_library, of_the_library};
use crate::console::Capture;
use crate::initramfs::Initramfs;
use crate::kernel;
use crate::prove::{Cpu, Image, model::Comparison};
use crate::qemu::{Boot, Console, Ending, Machine};
use crate::run::{environment, log_tail};

/// A door under test.
struct Door {
    /// Its name in the program that crosses it.
    name: &'static str,
    /// The row of the library's table of doors that the crossing is for.
    row: &'static str,
    program: &'static str,
    start: Start,
    machines: &'static [MachineKind],
}

/// A CPU model, and whether the kernel has page-table isolation.
type MachineKind = (&'static str, bool);

/// Where a crossing begins: at a label of the program, or at the first of the library's functions of that name.
enum Start {
    Program(&'static str),
    Kernel(&'static str),
}

const INTEL: &[MachineKind] = &[("Skylake-Client", false), ("Skylake-Client", true)];
/// What hits the kernel saves GS with and without FSGSBASE.
const INTEL_ALL: &[MachineKind] =
    &[("Skylake-Client", false), ("Skylake-Client,fsgsbase=off", false), ("Skylake-Client", true)];
/// SYSCALL is AMD's door for 32-bit code.
const AMD: &[MachineKind] = &[("EPYC", false), ("EPYC", true)];
const EVERY: &[MachineKind] = &[("Skylake-Client", false), ("EPYC", false), ("Skylake-Client", true)];

const fn door(name: &'static str, row: &'static str, start: Start) -> Door {
    Door { name, row, program: "every_instruction", start, machines: INTEL }
}

const fn door_32(name: &'static str, row: &'static str, label: &'static str, machines: &'static [MachineKind]) -> Door {
    Door { name, row, program: "every_instruction_32", start: Start::Program(label), machines }
}

const DOORS: &[Door] = &[
    Door { machines: INTEL_ALL, ..door("syscall", "SYSCALL", Start::Program("crossing_syscall")) },
    door("nmi_stack", "SYSCALL", Start::Program("crossing_syscall")),
    door("int80", "INT 0x80", Start::Program("crossing_int80")),
    door("efault", "exceptions", Start::Program("crossing_efault")),
    Door { machines: INTEL_ALL, ..door("exception", "exceptions", Start::Program("crossing_exception")) },
    door("fault", "exceptions", Start::Program("crossing_fault")),
    door(STEP, "#DB", Start::Program("crossing_step")),
    door("bad_iret", "exceptions", Start::Program("signal_restorer")),
    door("fork", "SYSCALL", Start::Kernel("syscall64::first_way_out")),
    Door { machines: INTEL_ALL, ..door(NMI, "NMI", Start::Kernel("nmi::nmi_entry")) },
    door("interrupt", "interrupts", Start::Kernel("exception::from_kernel")),
    Door { machines: EVERY, ..door(IDLE, "interrupts", Start::Program("crossing_idle")) },
    door_32("sysenter", "SYSENTER", "by_sysenter", INTEL),
    door_32("syscall", "SYSCALL from compatibility mode", "by_syscall", AMD),
];

/// Inside the handler of an NMI the CPU holds another one off until the handler's IRET.
const NMI: &str = "nmi";
/// A debug exception of the user's. Nothing in the kernel can be watched but by the kernel itself, which does not: the door of
/// debug exceptions may take it that no other one hits it.
const STEP: &str = "step";
/// The idle loop's HLT. What hits it must go on behind it: STI's protection is over then, and the interrupt that was waited for may
/// come before the HLT.
const IDLE: &str = "idle";
/// The function that holds it, behind its STI.
const HALT: &str = "portcullis::x86_64::halt::wait_for_interrupt";
/// The size of STI, and of HLT.
const HALT_SIZE: u64 = 1;

/// What is injected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Injection {
    Nmi,
    /// An error that the CPU can go on from.
    MachineCheck,
    /// A breakpoint in the debug registers.
    Debug,
}

impl Injection {
    const ALL: [Injection; 3] = [Injection::Nmi, Injection::MachineCheck, Injection::Debug];

    /// The library's function that is its door.
    fn door(self) -> &'static str {
        match self {
            Injection::Nmi => "nmi::nmi_entry",
            Injection::MachineCheck => "paranoid::ist_entry, 18",
            Injection::Debug => "paranoid::ist_entry, 1",
        }
    }

    /// What the program calls the number of those that were handled.
    fn counter(self) -> &'static str {
        match self {
            Injection::Nmi => "nmis",
            Injection::MachineCheck => "machine_checks",
            Injection::Debug => "debugs",
        }
    }
}

/// DR7: DR0 is a breakpoint on execution.
const EXECUTION: u64 = 1;

/// Where the kernel's half of the address space begins.
const KERNEL_HALF: u64 = 1 << 63;

/// Runs the suite: both kernels side by side, as a machine that stops at each instruction keeps one thread of the host busy.
pub fn run(report: &mut Report) -> Result<()> {
    let kernels = [(false, kernel::build_checked(false)?), (true, kernel::build_checked(true)?)];
    let mut programs = BTreeMap::new();
    for door in DOORS {
        programs.insert(door.program, guest::compile_one(door.program)?);
    }
    let (report, programs) = (&Mutex::new(report), &programs);
    thread::scope(|scope| {
        let runs = kernels
            .each_ref()
            .map(|(isolation, kernel)| scope.spawn(move || run_all(*isolation, kernel, programs, report)));
        runs.into_iter().try_for_each(|run| run.join().expect("a run does not panic"))
    })
}

fn run_all(
    isolation: bool,
    kernel: &Path,
    programs: &BTreeMap<&str, Program>,
    report: &Mutex<&mut Report>,
) -> Result<()> {
    let kernel_symbols = Symbols::read(kernel)?;
    for door in DOORS {
        let program = &programs[door.program];
        let program_symbols = Symbols::read(program.file())?;
        let start = match door.start {
            Start::Program(label) => program_symbols.named(label)?,
            Start::Kernel(function) => of_the_library(&kernel_symbols, function)?,
        };
        for (cpu, _) in door.machines.iter().filter(|kind| kind.1 == isolation) {
            let crossing = Crossing {
                kernel,
                symbols: &kernel_symbols,
                program: program.file(),
                door,
                cpu,
                isolation,
                main: program_symbols.named("main")?,
                start,
                finish: program_symbols.named("finish")?,
                compared: Cell::new(0),
            };
            let isolated = if isolation { ",isolated" } else { "" };
            let name = format!("instructions/{cpu}{isolated}/{}/{}", door.program, door.name);
            let outcome = crossing.test();
            let mut report = report.lock().expect("nothing panics with it");
            match outcome {
                Ok(injected) => {
                    let compared = crossing.compared.get();
                    let note = format!("{}, {compared} steps as in the model", note(injected));
                    report.pass_many(&name, injected.iter().sum::<usize>() + compared, &note);
                }
                Err(error) => report.fail(&name, &format!("the door of {}: {error:#}", door.row)),
            }
        }
    }
    Ok(())
}

fn note(injected: Injected) -> String {
    let kinds = Injection::ALL.iter().zip(injected);
    let kinds: Vec<String> = kinds.map(|(kind, count)| format!("{count} {}", kind.counter())).collect();
    kinds.join(", ")
}

/// How many of each kind.
type Injected = [usize; Injection::ALL.len()];

/// One door on one CPU model.
struct Crossing<'a> {
    kernel: &'a Path,
    symbols: &'a Symbols,
    program: &'a Path,
    door: &'a Door,
    cpu: &'a str,
    isolation: bool,
    main: u64,
    start: u64,
    finish: u64,
    /// How many steps were compared with the proof's model.
    compared: Cell<usize>,
}

impl Crossing<'_> {
    /// Boots, injects at each instruction, lets the program end and looks at what it says.
    fn test(&self) -> Result<Injected> {
        let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        let (gdb, qmp) = (scratch.path().join("gdb"), scratch.path().join("qmp"));
        let boot = self.boot(scratch.path(), &gdb, &qmp)?;
        let output = Capture::default();
        let console = Console::capture(&output);
        let (sender, outcome) = mpsc::channel();
        // Not joined if the debugger fails: QEMU has a time limit.
        thread::spawn(move || sender.send(boot.run(console)));

        let debugger = Debugger::connect(&gdb, gdb::RUN_LIMIT)?;
        let mut qmp = Qmp::connect(&qmp)?;
        let injected = self.inject_everywhere(debugger, &mut qmp);
        if injected.is_err() {
            // Or the program would cross until the time is up.
            let _ = qmp.quit();
        }
        let outcome = outcome.recv().context("the boot did not end")??;
        let injected = injected.map_err(|error| error.context(log_tail(&outcome.log)))?;
        let text = output.text();
        if !matches!(outcome.ending, Ending::Exit(0)) {
            bail!("the program ended with {:?}\n{text}\n{}", outcome.ending, log_tail(&outcome.log));
        }
        for (kind, sent) in Injection::ALL.into_iter().zip(injected) {
            let counted = |line: &str| line.strip_prefix(kind.counter())?.trim().parse::<usize>().ok();
            let handled = text.lines().find_map(counted);
            ensure!(handled == Some(sent), "{sent} {} were injected and {handled:?} handled", kind.counter());
        }
        Ok(injected)
    }

    fn boot(&self, scratch: &Path, gdb: &Path, qmp: &Path) -> Result<Boot> {
        let mut root = Initramfs::busybox()?;
        root.copy("tests/crosses", self.program)?;
        root.argv(&["/tests/crosses", self.door.name]).env(&environment()).symbols_of(self.kernel)?;
        let initrd = scratch.join("initramfs.cpio");
        root.write(&initrd)?;
        let mut machine = Machine { cpu: self.cpu.to_owned(), ..Machine::default() };
        for (option, socket) in [("-gdb", gdb), ("-qmp", qmp)] {
            machine.extra.extend([option.into(), format!("unix:{},server=on,wait=off", socket.display()).into()]);
        }
        machine.extra.push("-S".into());
        let mut boot = Boot::new(machine, self.kernel);
        boot.initrd = Some(initrd);
        boot.append = "stdin=stream".to_owned();
        boot.timeout = Some(Duration::from_secs(300));
        Ok(boot)
    }

    fn inject_everywhere(&self, mut debugger: Debugger, qmp: &mut Qmp) -> Result<Injected> {
        let mut injected = Injected::default();
        let instructions = self.record(&mut debugger)?;
        if instructions.is_empty() {
            bail!("the crossing executed no instruction of the library");
        }
        for &at in &instructions {
            for (kind, count) in Injection::ALL.into_iter().zip(&mut injected) {
                // With isolation the kernel's code that loads the debug registers is not there everywhere. The door of machine
                // checks, which is the same code, stands for that of debug exceptions.
                if kind == Injection::Debug && (self.door.name == STEP || self.isolation) {
                    continue;
                }
                self.inject(&mut debugger, qmp, at, kind)
                    .with_context(|| format!("{} at {}", kind.counter(), self.symbols.describe(at)))?;
                *count += 1;
            }
        }
        debugger.run_to(self.start)?;
        if self.start >= KERNEL_HALF {
            // The program's memory is mapped where the program is about to be entered.
            while debugger.register(RIP)? >= KERNEL_HALF {
                debugger.step()?;
            }
        }
        if self.isolation {
            let cr3 = cr3(qmp)?;
            if cr3 & USER_TABLE == 0 {
                bail!("user mode runs on the kernel's page tables: CR3 is {cr3:#x}");
            }
        }
        debugger.write_byte(self.finish, 1)?;
        debugger.detach()?;
        Ok(injected)
    }

    /// The library's instructions that every crossing executes. The first one has more: pages are touched for the first
    /// time.
    fn record(&self, debugger: &mut Debugger) -> Result<BTreeSet<u64>> {
        debugger.run_to(self.main)?;
        if self.door.name == IDLE {
            // A debugger cannot step through a halt.
            return Ok(BTreeSet::from([self.symbols.named(HALT)? + HALT_SIZE]));
        }
        self.follow(debugger, &mut Debugger::step)?;
        let second = self.follow(debugger, &mut Debugger::step)?;
        // What the proof's model of the CPU makes of each instruction is compared.
        let image = Image::read(self.kernel, Cpu { smap: true, verw: false })?;
        let mut comparison = Comparison::new(&image);
        let third = self.follow(debugger, &mut |debugger| comparison.step(debugger))?;
        ensure!(comparison.compared > 0, "no step was compared with the model");
        self.compared.set(comparison.compared);
        Ok(second.intersection(&third).copied().collect())
    }

    /// The library's instructions that the next crossing executes, step by step.
    fn follow(
        &self,
        debugger: &mut Debugger,
        step: &mut dyn FnMut(&mut Debugger) -> Result<()>,
    ) -> Result<BTreeSet<u64>> {
        let counts = |at| is_in_the_library(self.symbols, at);
        follow(debugger, self.start, step, counts, |_, at| Ok(at < KERNEL_HALF))
    }

    /// Injects just before the instruction at `at`, sees to it that the door is entered from there, and lets the handler end.
    fn inject(&self, debugger: &mut Debugger, qmp: &mut Qmp, at: u64, kind: Injection) -> Result<()> {
        if self.door.name == NMI {
            // Each in an NMI of its own: another NMI is held off until the door's end, and then begins it anew.
            debugger.run_to(self.start)?;
        }
        if debugger.register(RIP)? != at {
            debugger.run_to(at)?;
        }
        let stack_before = debugger.register(RSP)?;
        match kind {
            Injection::Nmi => Event::Nmi.inject(debugger, qmp)?,
            Injection::MachineCheck => Event::Mc.inject(debugger, qmp)?,
            Injection::Debug => self.watch(debugger, at, EXECUTION)?,
        }
        let arrival = arrive(debugger, of_the_library(self.symbols, kind.door())?)?;
        if kind == Injection::Debug {
            // Where the debugger stops the machine, QEMU raises the exception again, whatever RF says.
            self.watch(debugger, 0, 0)?;
        }
        let (hit, stack) = (arrival.rip, arrival.rsp);
        let held_off = kind == Injection::Nmi && self.door.name == NMI;
        if hit != at && !held_off {
            bail!("it came at {}", self.symbols.describe(hit));
        }
        if hit == at && stack != stack_before && !held_off {
            bail!("the stack pointer in its frame is {stack:#x} and not {stack_before:#x}");
        }
        // Where it goes on. The handler may execute the same instruction, on its own stack.
        let (goes_on, resumes) = match self.door.name {
            IDLE => (hit + HALT_SIZE, vec![hit, hit + HALT_SIZE]),
            _ => (hit, vec![hit]),
        };
        let resumed = resume(debugger, arrival, &resumes)?;
        ensure!(resumed == goes_on, "it went on at {}", self.symbols.describe(resumed));
        Ok(())
    }

    /// Loads the debug registers by the kernel's own code, from wherever it is.
    fn watch(&self, debugger: &mut Debugger, address: u64, control: u64) -> Result<()> {
        /// The code's size up to its return.
        const SIZE: u64 = 6;
        let code = self.symbols.named("portcullis_kernel::gate::watch")?;
        let mut saved = [0; 3];
        let arguments = [(RDI, address), (RSI, control), (RIP, code)];
        for ((register, value), saved) in arguments.into_iter().zip(&mut saved) {
            *saved = debugger.register(register)?;
            debugger.set_register(register, value)?;
        }
        while debugger.register(RIP)? != code + SIZE {
            debugger.step()?;
        }
        for ((register, _), saved) in arguments.into_iter().zip(saved) {
            debugger.set_register(register, saved)?;
        }
        Ok(())
    }
}

/// The machine's CR3.
fn cr3(qmp: &mut Qmp) -> Result<u64> {
    let registers = qmp.monitor("info registers")?;
    let value = registers.split("CR3=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let value = value.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    value.with_context(|| format!("QEMU says no CR3: {registers}"))
}

#[cfg(test)]
mod tests {
    use portcullis::x86_64::doors::TABLE;

    use super::*;

    /// The doors without a crossing, and why.
    const NOT_CROSSED: &[(&str, &str)] = &[
        ("INT3, INTO", "the code of `exceptions`, but for the stubs"),
        ("#DF", "crossed where IRET faults on a 16-bit stack: the program `ldt` does that"),
        ("#MC", "the code of #DB, and injected at the instructions of the others"),
        ("FRED, in the place of all others", "QEMU has no FRED"),
    ];

    #[test]
    fn every_door_of_the_table_has_a_crossing_or_a_reason_for_none() {
        let mut named: Vec<&str> = NOT_CROSSED.iter().map(|(row, _)| *row).collect();
        named.extend(DOORS.iter().map(|door| door.row).collect::<BTreeSet<_>>());
        named.sort_unstable();
        let mut table: Vec<&str> = TABLE.iter().map(|row| row.name).collect();
        table.sort_unstable();
        assert_eq!(named, table);
    }
}
