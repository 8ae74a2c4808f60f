//! Suite `instructions`: an NMI at each instruction of each door.
//!
//! A program crosses one door again and again (tests/guest/every_instruction.c). Through QEMU's debugger interface the machine
//! is stopped before one instruction of the library, an NMI is injected, and the machine goes on: the NMI's door must be
//! entered from that very instruction, and the program must notice nothing. Then the next instruction, until all that
//! the crossing executes have had theirs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSymbol};

use super::guest;
use super::report::Report;
use crate::bench::qmp::Qmp;
use crate::console::Capture;
use crate::gdb::{Debugger, RIP, RSP};
use crate::initramfs::Initramfs;
use crate::kernel;
use crate::qemu::{Boot, Console, Ending, Machine};
use crate::run::{environment, log_tail};

/// A door, and where its crossing begins: a label of the program, or the first of the library's functions of that name.
const DOORS: &[(&str, Start)] = &[
    ("syscall", Start::Program("crossing_syscall")),
    ("nmi_stack", Start::Program("crossing_syscall")),
    ("int80", Start::Program("crossing_int80")),
    ("efault", Start::Program("crossing_efault")),
    ("exception", Start::Program("crossing_exception")),
    ("fault", Start::Program("crossing_fault")),
    ("step", Start::Program("crossing_step")),
    ("bad_iret", Start::Program("signal_restorer")),
    ("fork", Start::Kernel("first::first_way_out")),
    ("nmi", Start::Kernel("nmi::entry")),
    ("interrupt", Start::Kernel("exception::from_kernel")),
];

enum Start {
    Program(&'static str),
    Kernel(&'static str),
}

/// CPU models that enter their NMI handlers with and without FSGSBASE; and whether the kernel has page-table isolation.
const MACHINES: &[(&str, bool)] = &[
    ("Skylake-Client", false),
    ("Skylake-Client,fsgsbase=off", false),
    ("Skylake-Client", true),
];

/// The instructions of a crossing that are followed at most. Delivering a signal takes some thousands.
const LONGEST: usize = 40_000;

/// The bit of CR3 that the user's page tables have, and the kernel's have not (`portcullis::x86_64::isolation`).
const USER_TABLE: u64 = 1 << 12;

/// Where the kernel's half of the address space begins.
const KERNEL_HALF: u64 = 1 << 63;

/// Runs the suite.
pub fn run(report: &mut Report) -> Result<()> {
    let program = guest::compile_one("every_instruction")?;
    let program_symbols = Symbols::read(program.file())?;
    for &(cpu, isolation) in MACHINES {
        let kernel = kernel::build_checked(isolation)?;
        let kernel_symbols = Symbols::read(&kernel)?;
        for (door, start) in DOORS {
            let start = match start {
                Start::Program(label) => program_symbols.named(label)?,
                Start::Kernel(function) => kernel_symbols.of_the_library(function)?,
            };
            let crossing = Crossing {
                kernel: &kernel,
                symbols: &kernel_symbols,
                program: program.file(),
                door,
                cpu,
                isolation,
                main: program_symbols.named("main")?,
                start,
                finish: program_symbols.named("finish")?,
            };
            let isolated = if isolation { ",isolated" } else { "" };
            let name = format!("instructions/{cpu}{isolated}/{door}");
            match crossing.test() {
                Ok(instructions) => report.pass_many(&name, instructions, "an NMI at each instruction"),
                Err(error) => report.fail(&name, &format!("{error:#}")),
            }
        }
    }
    Ok(())
}

/// One door under test.
struct Crossing<'a> {
    kernel: &'a Path,
    symbols: &'a Symbols,
    program: &'a Path,
    door: &'a str,
    cpu: &'a str,
    isolation: bool,
    main: u64,
    start: u64,
    finish: u64,
}

impl Crossing<'_> {
    /// Boots, injects an NMI at each instruction, lets the program end and looks at what it says. Gives the number of
    /// instructions.
    fn test(&self) -> Result<usize> {
        let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
        let (gdb, qmp) = (scratch.path().join("gdb"), scratch.path().join("qmp"));
        let boot = self.boot(scratch.path(), &gdb, &qmp)?;
        let output = Capture::default();
        let console = Console::capture(&output);
        let (sender, outcome) = mpsc::channel();
        // Not joined if the debugger fails: QEMU has a time limit.
        thread::spawn(move || sender.send(boot.run(console)));

        let injected = self.inject_everywhere(&gdb, &qmp);
        let outcome = outcome.recv().context("the boot did not end")??;
        let injected = injected.map_err(|error| error.context(log_tail(&outcome.log)))?;
        let text = output.text();
        if !matches!(outcome.ending, Ending::Exit(0)) {
            bail!(
                "the program ended with {:?}\n{text}\n{}",
                outcome.ending,
                log_tail(&outcome.log)
            );
        }
        let handled = text
            .lines()
            .find_map(|line| line.strip_prefix("nmis ")?.parse::<usize>().ok());
        if handled != Some(injected) {
            bail!("{injected} NMIs were sent and {handled:?} handled");
        }
        Ok(injected)
    }

    fn boot(&self, scratch: &Path, gdb: &Path, qmp: &Path) -> Result<Boot> {
        let mut root = Initramfs::busybox()?;
        root.copy("tests/every_instruction", self.program)?;
        root.argv(&["/tests/every_instruction", self.door])
            .env(&environment())
            .symbols_of(self.kernel)?;
        let initrd = scratch.join("initramfs.cpio");
        root.write(&initrd)?;
        let mut machine = Machine {
            cpu: self.cpu.to_owned(),
            ..Machine::default()
        };
        for (option, socket) in [("-gdb", gdb), ("-qmp", qmp)] {
            machine.extra.extend([
                option.into(),
                format!("unix:{},server=on,wait=off", socket.display()).into(),
            ]);
        }
        machine.extra.push("-S".into());
        let mut boot = Boot::new(machine, self.kernel);
        boot.initrd = Some(initrd);
        boot.append = "stdin=stream".to_owned();
        boot.timeout = Some(Duration::from_secs(120));
        Ok(boot)
    }

    fn inject_everywhere(&self, gdb: &Path, qmp: &Path) -> Result<usize> {
        let mut debugger = Debugger::connect(gdb)?;
        let mut qmp = Qmp::connect(qmp)?;
        let nmi_door = self.symbols.of_the_library("nmi::entry")?;
        let instructions = self.record(&mut debugger)?;
        if instructions.is_empty() {
            bail!("the crossing executed no instruction of the library");
        }
        for &at in &instructions {
            self.inject(&mut debugger, &mut qmp, at, nmi_door)
                .with_context(|| format!("an NMI at {}", self.symbols.describe(at)))?;
        }
        debugger.run_to(self.start)?;
        if self.start >= KERNEL_HALF {
            // The program's memory is mapped where the program is about to be entered.
            while debugger.register(RIP)? >= KERNEL_HALF {
                debugger.step()?;
            }
        }
        if self.isolation {
            let cr3 = cr3(&mut qmp)?;
            if cr3 & USER_TABLE == 0 {
                bail!("user mode runs on the kernel's page tables: CR3 is {cr3:#x}");
            }
        }
        debugger.write_byte(self.finish, 1)?;
        debugger.detach()?;
        Ok(instructions.len())
    }

    /// The library's instructions that every crossing executes. The first one has more: pages are touched for the first
    /// time.
    fn record(&self, debugger: &mut Debugger) -> Result<BTreeSet<u64>> {
        debugger.run_to(self.main)?;
        self.follow(debugger)?;
        let second = self.follow(debugger)?;
        let third = self.follow(debugger)?;
        Ok(second.intersection(&third).copied().collect())
    }

    /// The library's instructions that the next crossing executes.
    fn follow(&self, debugger: &mut Debugger) -> Result<BTreeSet<u64>> {
        let mut seen = BTreeSet::new();
        debugger.run_to(self.start)?;
        for _ in 0..LONGEST {
            let at = debugger.register(RIP)?;
            if self.symbols.is_in_the_library(at) {
                seen.insert(at);
            } else if at < KERNEL_HALF && !seen.is_empty() {
                return Ok(seen);
            }
            debugger.step()?;
        }
        bail!("the crossing did not end within {LONGEST} instructions")
    }

    /// Lets the NMI come just before the instruction at `at`, sees to it that it did, and lets its handler end.
    fn inject(&self, debugger: &mut Debugger, qmp: &mut Qmp, at: u64, nmi_door: u64) -> Result<()> {
        debugger.run_to(at)?;
        qmp.inject_nmi()?;
        debugger.run_to(nmi_door)?;
        let frame = debugger.register(RSP)?;
        let hit = debugger.word(frame)?;
        // Inside the handler of an NMI the CPU holds another one off until the handler's IRET.
        if hit != at && self.door != "nmi" {
            bail!("it came at {}", self.symbols.describe(hit));
        }
        let stack = debugger.word(frame + 3 * 8)?;
        loop {
            // The handler may execute the same instruction, on its own stack.
            debugger.run_to(hit)?;
            if debugger.register(RSP)? == stack {
                return Ok(());
            }
        }
    }
}

/// The machine's CR3.
fn cr3(qmp: &mut Qmp) -> Result<u64> {
    let registers = qmp.monitor("info registers")?;
    let value = registers
        .split("CR3=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let value = value.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    value.with_context(|| format!("QEMU says no CR3: {registers}"))
}

/// Functions and labels of an ELF file: address, size, name.
struct Symbols(Vec<(u64, u64, String)>);

impl Symbols {
    fn read(file: &Path) -> Result<Symbols> {
        let data = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let elf: ElfFile64 = ElfFile64::parse(&*data)?;
        let mut symbols: Vec<_> = elf
            .symbols()
            .filter(|symbol| symbol.is_definition())
            .filter_map(|symbol| Some((symbol.address(), symbol.size(), symbol.name().ok()?)))
            .map(|(address, size, name)| (address, size, format!("{:#}", rustc_demangle::demangle(name))))
            .collect();
        symbols.sort();
        Ok(Symbols(symbols))
    }

    fn named(&self, name: &str) -> Result<u64> {
        let found = self.0.iter().find(|symbol| symbol.2 == name);
        found
            .map(|symbol| symbol.0)
            .with_context(|| format!("there is no symbol {name}"))
    }

    /// A function of the library's doors, by the end of its path.
    fn of_the_library(&self, function: &str) -> Result<u64> {
        let path = format!("{DOORS_PATH}{function}::<");
        let found = self.0.iter().find(|symbol| symbol.2.starts_with(&path));
        found
            .map(|symbol| symbol.0)
            .with_context(|| format!("the library has no function {function}"))
    }

    fn at(&self, address: u64) -> Option<&(u64, u64, String)> {
        let below = self.0.partition_point(|symbol| symbol.0 <= address);
        let last = self.0[..below].last()?;
        // Several symbols may share the address; the one with a size is the function.
        let same = self.0[..below]
            .iter()
            .rev()
            .take_while(|symbol| symbol.0 == last.0);
        same.max_by_key(|symbol| symbol.1)
            .filter(|symbol| address < symbol.0 + symbol.1)
    }

    fn is_in_the_library(&self, address: u64) -> bool {
        self.at(address).is_some_and(|symbol| {
            symbol.2.starts_with("portcullis::") || symbol.2.starts_with("<portcullis::")
        })
    }

    fn describe(&self, address: u64) -> String {
        match self.at(address) {
            Some((start, _, name)) => format!("{address:#x} ({name} + {})", address - start),
            None => format!("{address:#x}"),
        }
    }
}

/// The module whose functions the doors are.
const DOORS_PATH: &str = "portcullis::x86_64::";
