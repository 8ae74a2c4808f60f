//! `./x prove`: what is proved and not only tested. docs/proof.md says what that is.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `goal` | what a path has to fulfil |
//! | `arrival` | how the CPU arrives at each door |
//! | `doors` | every path through a door, and the properties |
//! | `step`, `state` | the instructions, and what they change |
//! | `term`, `solver` | unknown values, and Z3 |
//! | `image` | the doors' code, patched for a CPU |
//! | `counterexample` | a failure as a guest test |
//! | `differential` | random programs, compared with Linux |
//! | `nested` | NMIs inside NMIs |
//! | `model` | the same steps in an emulator, compared: part of the suite `instructions` |

mod arrival;
mod counterexample;
pub mod differential;
mod doors;
mod goal;
mod image;
pub mod model;
mod nested;
mod solver;
mod state;
mod step;
mod term;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use iced_x86::{Instruction, Mnemonic};
use portcullis::x86_64::Exception;
use portcullis::x86_64::exception::FIRST_INTERRUPT;

use crate::example;
use crate::kernel::Build;
use crate::repository;
use crate::setup::{self, Need};
use arrival::{Arrival, NmiStack};
use doors::Proved;
pub use doors::{Failure, Property};
use goal::Prover;
pub use image::{Cpu, Image};
use nested::{Event, Explored, Explorer, Loss};
pub use solver::Solver;

/// The solver.
const Z3: Need = Need { what: "z3", packages: &["z3"], found: || setup::in_path("z3") };

/// Proves things
#[derive(clap::Args)]
pub struct ProveArgs {
    #[command(subcommand)]
    command: ProveCommand,
}

#[derive(clap::Subcommand)]
enum ProveCommand {
    /// The machine code of every door, for all register values
    Doors(DoorsArgs),
    Differential(differential::DifferentialArgs),
}

#[derive(clap::Args)]
struct DoorsArgs {
    /// The doors of this image, in place of the reference kernel's
    #[arg(long, value_name = "ELF")]
    image: Option<PathBuf>,
    /// It has page-table isolation
    #[arg(long, requires = "image")]
    isolation: bool,
    /// Take out each instruction of the doors in turn, and look that the proof fails
    #[arg(long)]
    ablate: bool,
}

/// Runs the command.
pub fn prove(args: ProveArgs) -> Result<ExitCode> {
    match args.command {
        ProveCommand::Doors(args) => doors(&args),
        ProveCommand::Differential(args) => differential::differential(&args),
    }
}

/// Doors to be proved: an image, as a kernel patches it for a CPU.
pub struct Subject {
    /// What it is, in words.
    pub name: String,
    image: Image,
    isolation: bool,
}

impl Subject {
    /// An image on the CPUs that it is patched for: with everything that is patched in, and without.
    pub fn of(name: &str, path: &Path, isolation: bool) -> Result<Vec<Subject>> {
        let with = |on| if on { "with" } else { "without" };
        [true, false]
            .map(|patched| {
                let image = Image::read(path, Cpu { smap: patched, verw: patched })?;
                let name = format!("{name} {} isolation, {} SMAP and VERW", with(isolation), with(patched));
                Ok(Subject { name, image, isolation })
            })
            .into_iter()
            .collect()
    }

    /// Proves all doors, one after the other; `line` is called with what came of each.
    pub fn prove(&self, solver: &mut Solver, mut line: impl FnMut(&Line)) -> Result<()> {
        for (door, arrivals) in arrivals() {
            let started = Instant::now();
            let mut all = Proved::default();
            let mut absent = false;
            for arrival in arrivals {
                for espfix in [true, false] {
                    let mut prover =
                        Prover { image: &self.image, solver: &mut *solver, isolation: self.isolation, espfix };
                    if arrival.is_optional() && !prover.exists(arrival) {
                        absent = true;
                        continue;
                    }
                    all.join(prover.prove(arrival)?);
                }
            }
            line(&Line { door, absent, proved: all, time: started.elapsed() });
        }
        Ok(())
    }

    /// Whether it is an image with everything patched in.
    pub fn is_patched(&self) -> bool {
        self.image.cpu.smap
    }

    /// Events inside an NMI, at every pair of places.
    pub fn explore(&self, solver: &mut Solver, events: u32) -> Result<Explored> {
        let prover = Prover { image: &self.image, solver, isolation: self.isolation, espfix: false };
        Explorer::explore(&prover, events)
    }

    /// A failure as a program for `tests/guest`, or why there is none.
    pub fn counterexample(&self, failure: &Failure) -> Result<String, &'static str> {
        counterexample::program(failure, &format!("{}\n{}", self.name, self.describe(failure)))
    }

    /// A failure, with the instruction, and values with which it comes.
    pub fn describe(&self, failure: &Failure) -> String {
        let mut text = format!("{}: {}, at {}", failure.property, failure.what, self.image.describe(failure.at));
        for (name, value) in &failure.example {
            text += &format!("\n      {name} = {value:#x}");
        }
        text
    }
}

impl Subject {
    /// A loss, with the events by which it came.
    pub fn describe_loss(&self, loss: &Loss) -> String {
        let mut text = loss.what.clone();
        for injected in &loss.events {
            let place = match injected.event {
                Event::Fault => "in the handler".to_owned(),
                _ => format!("at {}", self.image.describe(injected.at)),
            };
            text += &format!("\n      {:?} {place}", injected.event);
        }
        text
    }
}

/// What came of a door.
pub struct Line {
    /// Its name.
    pub door: &'static str,
    /// It is not in this image.
    pub absent: bool,
    /// What was proved.
    pub proved: Proved,
    time: Duration,
}

/// Starts the solver, which is installed if it has to be.
pub fn solver() -> Result<Solver> {
    setup::ensure(&[Z3])?;
    Solver::start()
}

fn doors(args: &DoorsArgs) -> Result<ExitCode> {
    let mut solver = solver()?;
    let mut failed = 0;
    for subject in subjects(args)? {
        println!("\n{}", subject.name);
        failed += match args.ablate {
            true => subject.ablate(&mut solver)?,
            false => print(&subject, &mut solver)?,
        };
    }
    println!("\n{} questions to the solver, {} terms", solver.questions, solver.terms());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn subjects(args: &DoorsArgs) -> Result<Vec<Subject>> {
    if let Some(path) = &args.image {
        return Subject::of(&path.display().to_string(), path, args.isolation);
    }
    let mut subjects = Vec::new();
    for isolation in [false, true] {
        let path = Build { isolation, ..Build::default() }.run()?;
        subjects.extend(Subject::of("the reference kernel", &path, isolation)?);
    }
    let path = Build { fred: true, ..Build::default() }.run()?;
    subjects.extend(Subject::of("the reference kernel for FRED", &path, false)?);
    let minimal = example::build(false)?.join("portcullis-minimal");
    subjects.extend(Subject::of("the minimal example", &minimal, false)?);
    Ok(subjects)
}

/// Proves it, and prints a table: what each property has cost in obligations.
fn print(subject: &Subject, solver: &mut Solver) -> Result<usize> {
    print!("{:42}{:>6}{:>8}", "door", "paths", "steps");
    Property::ALL.iter().for_each(|property| print!("{property:>10}"));
    println!("{:>7}{:>7}", "stack", "ms");
    let mut failures = 0;
    subject.prove(solver, |Line { door, absent, proved, time }| {
        if *absent {
            println!("{door:42} – (not in this image)");
            return;
        }
        print!("{door:42}{:>6}{:>8}", proved.paths, proved.instructions);
        for property in Property::ALL {
            match proved.failures.iter().filter(|failure| failure.property == property).count() {
                0 => print!("{:>10}", proved.obligations.get(&property).copied().unwrap_or(0)),
                failures => print!("{:>10}", format!("{failures} FAIL")),
            }
        }
        println!("{:>7}{:>7}", proved.depth, time.as_millis());
        // The others are often the same again.
        for (number, failure) in proved.failures.iter().take(3).enumerate() {
            println!("    {}", subject.describe(failure));
            println!("      {}", keep(subject, failure, &format!("{door} {number}")));
        }
        failures += proved.failures.len();
    })?;
    if !subject.is_patched() {
        // What is patched in changes nothing here.
        return Ok(failures);
    }
    let started = Instant::now();
    let Explored { ways, instructions, losses } = subject.explore(solver, 2)?;
    println!(
        "an NMI with two more events: {ways} ways, {instructions} instructions, {} ms; something is lost on {}",
        started.elapsed().as_millis(),
        losses.len(),
    );
    losses.iter().take(3).for_each(|loss| println!("    {}", subject.describe_loss(loss)));
    Ok(failures + losses.len())
}

/// Writes the guest test of a failure. What there is to say of it.
fn keep(subject: &Subject, failure: &Failure, name: &str) -> String {
    let text = match subject.counterexample(failure) {
        Ok(text) => text,
        Err(why) => return format!("no guest test: {why}"),
    };
    let name = name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let directory = repository("target/counterexamples");
    let path = directory.join(name).with_extension("c");
    match fs::create_dir_all(&directory).and_then(|()| fs::write(&path, text)) {
        Ok(()) => format!("as a guest test: {} (copied to tests/guest, `./x test --program` runs it)", path.display()),
        Err(error) => format!("no guest test: cannot write {}: {error}", path.display()),
    }
}

/// All arrivals, in groups that are one line of the report.
fn arrivals() -> Vec<(&'static str, Vec<Arrival>)> {
    let ist = [Exception::DB, Exception::NMI, Exception::DF, Exception::MC];
    let ordinary = || (0..=u8::MAX).filter(move |vector| !ist.contains(vector));
    // What an IRET may raise (SDM volume 2, IRET).
    let of_iret = [Exception::GP, Exception::SS, Exception::NP, Exception::PF];
    let paranoid = || [Exception::DB, Exception::MC].into_iter();
    let in_nmi = |vector| {
        let places = [NmiStack::Entry, NmiStack::Working, NmiStack::Thread];
        let at_end = [0, 1].map(|at| Arrival::IstAtEndOfNmi(vector, at));
        at_end.into_iter().chain(places.map(|place| Arrival::IstInNmi(vector, place)))
    };
    vec![
        ("SYSCALL", vec![Arrival::Syscall64]),
        ("SYSCALL, 32-bit", vec![Arrival::Syscall32]),
        ("SYSCALL, 32-bit, closed", vec![Arrival::Closed]),
        ("SYSENTER", vec![Arrival::Sysenter]),
        ("INT 0x80", vec![Arrival::Int80]),
        ("exceptions and interrupts from user mode", ordinary().map(Arrival::FromUser).collect()),
        ("the same from the kernel", ordinary().map(Arrival::FromKernel).collect()),
        ("faults of the last IRET", of_iret.map(Arrival::BadIret).to_vec()),
        (
            "#DB, NMI, #MC from user mode",
            [Exception::DB, Exception::NMI, Exception::MC].map(Arrival::IstFromUser).to_vec(),
        ),
        ("#DB, #MC from the kernel", [Exception::DB, Exception::MC].map(Arrival::IstFromKernel).to_vec()),
        ("NMI from the kernel", vec![Arrival::IstFromKernel(Exception::NMI)]),
        ("NMI in an NMI", vec![Arrival::NmiNested, Arrival::NmiAtEnd(0), Arrival::NmiAtEnd(1)]),
        ("#DB, #MC in the NMI's door", paranoid().flat_map(in_nmi).collect()),
        ("NMI in these", paranoid().flat_map(|vector| [0, 1].map(|at| Arrival::NmiBehind(vector, at))).collect()),
        ("#DF", vec![Arrival::IstFromKernel(Exception::DF)]),
        ("#DF of the last IRET", vec![Arrival::DoubleFaultOfIret, Arrival::DoubleFaultOnStack]),
        ("FRED, from user mode", vec![Arrival::FredFromUser, Arrival::FredAgain]),
        ("FRED, from the kernel", vec![Arrival::FredFromKernel]),
        ("a task's first way out", vec![Arrival::FirstWayOut]),
        ("a jump to user mode", vec![Arrival::EnterUserMode]),
    ]
}

/// One of each kind of arrival: what the doors' code tells apart.
fn representatives() -> Vec<Arrival> {
    let same = |arrival: &Arrival| match arrival {
        // With an error code, without, and an interrupt.
        Arrival::FromUser(vector) | Arrival::FromKernel(vector) => {
            ![Exception::PF, Exception::UD, FIRST_INTERRUPT].contains(vector)
        }
        Arrival::BadIret(vector) => *vector != Exception::GP,
        _ => false,
    };
    arrivals().into_iter().flat_map(|(_, arrivals)| arrivals).filter(|arrival| !same(arrival)).collect()
}

impl Subject {
    /// Takes out each instruction: a proof that holds without it proves too little. How many it did not miss, without a reason.
    pub fn ablate(&self, solver: &mut Solver) -> Result<usize> {
        let mut prove = |image: &Image, arrival, espfix| {
            Prover { image, solver: &mut *solver, isolation: self.isolation, espfix }.prove(arrival)
        };
        let mut users = BTreeMap::<u64, Vec<(Arrival, bool)>>::new();
        for arrival in representatives() {
            for espfix in [true, false] {
                let proved = match prove(&self.image, arrival, espfix) {
                    Err(_) if arrival.is_optional() => continue,
                    proved => proved?,
                };
                proved.covered.into_iter().for_each(|at| users.entry(at).or_default().push((arrival, espfix)));
            }
        }
        let (mut taken_out, mut survivors, mut reasons) = (0, 0, BTreeMap::new());
        for (address, users) in &users {
            let instruction = self.image.instruction(*address)?;
            if instruction.mnemonic() == Mnemonic::Nop {
                continue;
            }
            let mut without = self.image.clone();
            without.replace(*address, &vec![0x90; instruction.len()])?;
            taken_out += 1;
            // A door may also go astray where no proof comes any more.
            let missed = |(arrival, espfix): &(Arrival, bool)| {
                prove(&without, *arrival, *espfix).map_or(true, |proved| !proved.failures.is_empty())
            };
            if users.iter().any(missed) {
                continue;
            }
            let function =
                self.image.function(*address).map_or("", |(_, name)| name.rsplit("::").next().unwrap_or(name));
            match dispensable(&instruction, function, self.isolation) {
                Some(why) => *reasons.entry(why).or_insert(0u32) += 1,
                None => {
                    survivors += 1;
                    println!("not missed: {:?} at {}", instruction.code(), self.image.describe(*address));
                }
            }
        }
        println!("{taken_out} instructions taken out one by one; not missed without a reason: {survivors}");
        for (why, count) in reasons {
            println!("{count:>5} not missed: {why}");
        }
        Ok(survivors)
    }
}

/// Why a proof may hold without an instruction.
fn dispensable(instruction: &Instruction, function: &str, isolation: bool) -> Option<&'static str> {
    match instruction.mnemonic() {
        Mnemonic::Xor if instruction.op0_register() == instruction.op1_register() => {
            Some("clears a register that is written once more before the Rust half, against speculation only")
        }
        Mnemonic::Rdgsbase | Mnemonic::Rdmsr | Mnemonic::Mov | Mnemonic::Shl | Mnemonic::Or
            if function == "double_fault" =>
        {
            Some("saves the GS base that a double fault has found: there is no way back")
        }
        Mnemonic::Lfence if isolation => Some("fences where MOV to CR3 does so"),
        Mnemonic::Je if isolation && ["ist_entry", "nmi_entry"].contains(&function) => {
            Some("leaves CR3 alone where it would be loaded with what it has")
        }
        _ => None,
    }
}
