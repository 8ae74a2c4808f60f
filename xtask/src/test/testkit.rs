//! Suite `testkit`: the testkit's programs. On the host's Linux, which is the oracle, in the reference kernel and in the example with
//! a timer no row of the catalogue fails. Nor does one on a kernel that uses no library; with a bug planted there exactly the bug's row fails.
//! Bugs that only an event at the wrong instruction shows are found by injecting one at each.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection, ObjectSegment};
use portcullis_testkit::inject::{Event, Injection};
use portcullis_testkit::programs::{self, Abi};
use portcullis_testkit::report::{Report as Rows, Verdict};
use portcullis_testkit::run::Run;
use portcullis_testkit::symbols::Symbols;
use portcullis_testkit::tiers::{CROSSINGS, FREESTANDING, LAST_BYTES, Program, Source};

use super::hosted;
use super::report::Report;
use crate::console::Capture;
use crate::initramfs::Initramfs;
use crate::qemu::{Boot, Console, Machine};
use crate::run::{environment, log_tail};
use crate::{emulator, example, kernel, progress, repository};

/// The bugs that `plant=N` plants and the programs show; N is the row.
const PLANTS: &[u32] = &[1, 10, 15, 20, 21, 24, 25, 28, 33, 34, 35, 41, 42, 43];

/// Those that events show.
const INJECTED: &[(Event, u32)] = &[(Event::Nmi, 23), (Event::Mc, 23), (Event::Nmi, 31), (Event::Db, 31)];

/// The doors of SYSCALL, and of exceptions and interrupts.
const DOORS: [&str; 2] = ["syscall_entry", "event_entry"];

/// How long a boot may take: about a second, and six with plant 35, which hides interrupts.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the suite.
pub fn run(all_programs: bool, report: &mut Report) -> Result<()> {
    let directory = repository("target/testkit");
    let programs = directory.join("programs");
    programs::build(FREESTANDING.iter().chain(CROSSINGS), &Abi::default(), &programs)?;
    report.outcome("testkit/the host's Linux", on_the_host(&programs).map_err(|error| format!("{error:#}")));
    report.outcome(
        "testkit/the reference kernel",
        in_the_reference_kernel(&programs).map_err(|error| format!("{error:#}")),
    );
    let chosen: Vec<&Program> = (FREESTANDING.iter())
        .filter(|program| program.name != LAST_BYTES && (all_programs || matches!(program.source, Source::File(_))))
        .collect();
    let name = "testkit/examples/preemptive";
    report.outcome(name, in_the_example(&directory, &chosen).map_err(|error| format!("{error:#}")));
    if !all_programs {
        report.skip(name, "the programs of one instruction, each of which takes a boot, come with --all");
    }
    let kernel = build_kernel(&directory)?;
    report.outcome("testkit/nothing planted", as_it_is(&kernel, &programs).map_err(|error| format!("{error:#}")));
    for &plant in PLANTS {
        let outcome = planted(&kernel, &programs, plant).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("testkit/row {plant} planted"), outcome);
    }
    for (event, door) in [(Event::Nmi, DOORS[0]), (Event::Nmi, DOORS[1]), (Event::Mc, DOORS[0]), (Event::Db, DOORS[0])]
    {
        let name = format!("testkit/{} at {door}", event.name());
        match injected(&kernel, &programs, event, None, door) {
            Ok(count) => report.pass_many(&name, count, event.name()),
            Err(error) => report.fail(&name, &format!("{error:#}")),
        }
    }
    for (event, plant) in INJECTED {
        let outcome = injected(&kernel, &programs, *event, Some(*plant), DOORS[0]).map(drop);
        let outcome = outcome.map_err(|error| format!("{error:#}"));
        report.outcome(&format!("testkit/row {plant} planted, {}", event.name()), outcome);
    }
    hosted::run(all_programs, report)
}

fn on_the_host(programs: &Path) -> Result<()> {
    const ENDED: &str = "ended by a signal";
    // The shell itself says of each signal, too.
    let script = format!("exec 2>/dev/null; {{program}}; test $? -lt 128 || echo {ENDED}");
    let command = ["sh".into(), "-c".into(), script.into()];
    let run = Run { programs, killed: Some(ENDED), limit: LIMIT, kernel: None, command: &command };
    let (log, rows) = run.report(&all())?;
    ensure!(rows.is_well(), "{}\n{log}", rows.text());
    Ok(())
}

fn in_the_reference_kernel(programs: &Path) -> Result<()> {
    let kernel = kernel::build()?;
    let mut root = Initramfs::busybox()?;
    for program in all() {
        root.copy(Path::new("testkit").join(program.name), &programs.join(program.name))?;
    }
    let names: Vec<&str> = all().iter().map(|program| program.name).collect();
    let script = format!("for program in {}; do /testkit/$program; done", names.join(" "));
    root.argv(&["/bin/sh", "-c", &script]).env(&environment()).symbols_of(&kernel)?;
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let initrd = scratch.path().join("initramfs.cpio");
    root.write(&initrd)?;
    let mut boot = Boot::new(Machine::default(), &kernel);
    boot.initrd = Some(initrd);
    boot.append = "stdin=stream".to_owned();
    boot.timeout = Some(LIMIT);
    let output = Capture::default();
    let outcome = boot.run(Console::capture(&output))?;
    let rows = Rows::read(&all(), &output.text(), None);
    ensure!(rows.is_well(), "{}\n{}\n{}", rows.text(), output.text(), log_tail(&outcome.log));
    Ok(())
}

/// The folder of a copy of examples/preemptive, in the repository.
const COPY: &str = "target/testkit/preemptive";

/// How many bytes of code a program may have there. They are whole pages.
const CODE_SIZE: u64 = 0x12000;

/// What the kernel prints when it ends a program.
const ENDED: &str = "ends by notification";

/// In examples/preemptive no row fails. Its programs are linked into the kernel, and its calls are `say` and `exit`: a copy has room
/// for one of the testkit's in their place, and a page of data becomes a hundred; each program has a boot of its own.
fn in_the_example(directory: &Path, chosen: &[&'static Program]) -> Result<()> {
    let image = build_example()?;
    let shim = directory.join("shim.S");
    fs::write(&shim, SHIM)?;
    let abi = Abi { exit_number: 0, shim: Some(shim), data: Some(0x50_0000), ..Abi::default() };
    let images = directory.join("preemptive-programs");
    programs::build(chosen.iter().copied(), &abi, &images)?;
    for program in chosen {
        put_in(&image, &images.join(program.name)).with_context(|| format!("the program {}", program.name))?;
    }
    /// Behind the emulator's name.
    const MACHINE: &str = "-M microvm -cpu max -m 256M -smp 2 -nodefaults -no-user-config -display none -no-reboot -serial stdio \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -kernel {program}";
    let qemu = emulator::qemu();
    // The kernel says who speaks.
    let script = format!("{} {MACHINE} | sed 's/^task [0-9]*: //'", qemu.to_string_lossy());
    let command = ["sh".into(), "-c".into(), script.into()];
    let run = Run { programs: &images, killed: Some(ENDED), limit: LIMIT, kernel: None, command: &command };
    let (log, rows) = run.report(chosen)?;
    ensure!(rows.is_well(), "{}\n{log}", rows.text());
    Ok(())
}

/// `say(text, length, number)` is call 1, `exit(status)` call 0.
const SHIM: &str = "\
    .globl kit_write, kit_exit
kit_write:
    movq %rsi, %rdi
    movq %rdx, %rsi
    xorl %edx, %edx
    movl $1, %eax
    syscall
    ret
kit_exit:
    xorl %eax, %eax
    syscall
    ud2
    .section .note.GNU-stack, \"\", @progbits
";

/// Builds the copy.
fn build_example() -> Result<PathBuf> {
    let (from, to) = (repository("examples/preemptive"), repository(COPY));
    for folder in ["src", ".cargo"] {
        fs::create_dir_all(to.join(folder))?;
    }
    for file in ["Cargo.lock", "Cargo.toml", ".cargo/config.toml", "src/main.rs", "src/calls.rs", "src/tasks.rs"] {
        let text = fs::read_to_string(from.join(file)).with_context(|| format!("examples/preemptive/{file}"))?;
        let changed = match file {
            "Cargo.toml" => text.replace("\"../../", "\"../../../"),
            "src/main.rs" => text.replace("map_zeroed(DATA, 1)", "map_zeroed(DATA, 100)"),
            _ => text.clone(),
        };
        ensure!(changed != text || !["Cargo.toml", "src/main.rs"].contains(&file), "{file} is not as it was");
        fs::write(to.join(file), changed)?;
    }
    let room = format!(".section .user, \"a\", @progbits\n.skip {CODE_SIZE:#x}\n.text\n");
    fs::write(to.join("src/programs.s"), room)?;
    Ok(example::build_folder(COPY, true)?.join("portcullis-preemptive"))
}

/// Makes of a program's file a kernel with the program's code in the room for it.
fn put_in(kernel: &Path, program: &Path) -> Result<()> {
    let mut image = fs::read(kernel)?;
    let room = Symbols::read(kernel)?.named("portcullis_boot_user")?;
    let place = {
        let elf = object::File::parse(&*image)?;
        let inside =
            |segment: &object::Segment| (segment.address()..segment.address() + segment.size()).contains(&room);
        let segment = elf.segments().find(inside).context("the room is in no segment")?;
        (segment.file_range().0 + (room - segment.address())) as usize
    };
    let data = fs::read(program)?;
    let elf = object::File::parse(&*data)?;
    let code = elf.section_by_name(".text").context("it has no code")?.data()?;
    ensure!(code.len() as u64 <= CODE_SIZE, "its code has {} bytes", code.len());
    image[place..place + code.len()].copy_from_slice(code);
    fs::write(program, image)?;
    Ok(())
}

fn all() -> Vec<&'static Program> {
    FREESTANDING.iter().collect()
}

/// An event at each instruction of a door: without a bug all is well, with one exactly its row fails.
fn injected(kernel: &Path, programs: &Path, event: Event, plant: Option<u32>, door: &str) -> Result<usize> {
    let command = command(kernel, plant.unwrap_or(0));
    let run = Run { programs, killed: None, limit: LIMIT, kernel: Some(kernel), command: &command };
    let (counts, rows) = Injection { run, door, event }.report()?;
    match plant {
        Some(plant) => {
            ensure!(rows.failed_rows() == [plant], "the rows that fail are {:?}\n{}", rows.failed_rows(), rows.text())
        }
        None => {
            ensure!(rows.is_well(), "{}", rows.text());
            for (_, row) in INJECTED.iter().filter(|(one, _)| *one == event) {
                ensure!(rows.row(*row).0 == Verdict::Passed, "row {row} has not passed\n{}", rows.text());
            }
        }
    }
    Ok(counts.iter().sum())
}

/// Builds the kernel that bugs are planted in.
fn build_kernel(directory: &Path) -> Result<PathBuf> {
    const FLAGS: &str = "-O2 -ffreestanding -fno-stack-protector -fno-pic -fno-pie -no-pie -mcmodel=kernel -mno-red-zone \
        -mgeneral-regs-only -fcf-protection=none -fno-asynchronous-unwind-tables -nostdlib -static -Wall -Wextra -Werror \
        -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,--no-warn-rwx-segments -Wl,-T,kernel.ld doors.S kernel.c";
    let kernel = directory.join("kernel");
    let mut gcc = Command::new("gcc");
    gcc.args(FLAGS.split_whitespace()).arg("-o").arg(&kernel).current_dir(repository("crates/testkit/kernel"));
    let status = progress::status(&mut gcc, "gcc to build the testkit's kernel", progress::BUILD)?;
    if !status.success() {
        bail!("it could not be built ({status})");
    }
    Ok(kernel)
}

/// No row fails, each check is made, and what this kernel has is applicable.
fn as_it_is(kernel: &Path, programs: &Path) -> Result<()> {
    let (rows, log) = boot(kernel, programs, 0)?;
    ensure!(rows.is_well(), "{}\n{log}", rows.text());
    for &plant in PLANTS {
        let (verdict, _) = rows.row(plant);
        ensure!(verdict == Verdict::Passed, "row {plant}, which this kernel plants, is {verdict:?} without the plant");
    }
    Ok(())
}

/// The bug's row fails, and no other.
fn planted(kernel: &Path, programs: &Path, plant: u32) -> Result<()> {
    let (rows, log) = boot(kernel, programs, plant)?;
    let failed = rows.failed_rows();
    ensure!(failed == [plant], "the rows that fail are {failed:?}\n{}\n{log}", rows.text());
    let others: Vec<&str> = (rows.0.iter())
        .filter(|finding| finding.rows.is_empty() && matches!(finding.verdict, Verdict::Failed(_)))
        .map(|finding| finding.program)
        .collect();
    ensure!(others.is_empty(), "checks that are in no row fail, too: {others:?}\n{}", rows.text());
    Ok(())
}

fn boot(kernel: &Path, programs: &Path, plant: u32) -> Result<(Rows, String)> {
    let command = command(kernel, plant);
    let run = Run { programs, killed: None, limit: LIMIT, kernel: Some(kernel), command: &command };
    let (log, rows) = run.report(&all())?;
    Ok((rows, log))
}

fn command(kernel: &Path, plant: u32) -> Vec<OsString> {
    const MACHINE: &str = "-M microvm -cpu max -m 64M -nodefaults -no-user-config -display none -no-reboot -serial stdio \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -initrd {programs} -append";
    let mut command = vec![emulator::qemu()];
    command.extend(MACHINE.split_whitespace().map(OsString::from));
    command.extend([format!("plant={plant}").into(), "-kernel".into(), kernel.into()]);
    command
}
