//! Part of suite `linux` with `--all`: Debian's userland on the debian-like configuration, its three ways to preempt, and
//! guests of KVM.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::report::Report;
use super::terminal::Terminal;
use crate::linux::config::Arch;
use crate::linux::source::Version;
use crate::linux::userland;
use crate::{emulator, repository};

/// How long a boot and what runs in it may take.
const LIMIT: Duration = Duration::from_secs(600);

type Test = fn(Version) -> Result<()>;

/// Whether interrupts preempt the kernel in each of its modes, where that is always so or never. Lazy preemption came to x86 in 6.13,
/// and took the place of the first two; it lets an interrupt preempt the kernel if nothing else has done so for a tick.
fn modes(version: Version) -> &'static [(&'static str, Option<bool>)] {
    match version {
        Version::V6_1 | Version::V6_12 => &[("none", Some(false)), ("voluntary", Some(false)), ("full", Some(true))],
        Version::V7_2 => &[("lazy", None), ("full", Some(true))],
    }
}

/// Runs these tests.
pub fn run(version: Version, report: &mut Report) {
    let tests: [(&str, Test); 4] = [
        ("a login shell", login_shell),
        ("apt-get --version", apt_get),
        ("gcc on hello world", hello),
        ("threads", threads),
    ];
    for (name, test) in tests {
        let outcome = test(version).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("linux/{version}: Debian's userland: {name}"), outcome);
    }
    for stock in [true, false] {
        for &(mode, preempts) in modes(version) {
            let outcome = preempt(version, stock, mode, preempts).map_err(|error| format!("{error:#}"));
            report.outcome(&format!("linux/{version}: preempt={mode}, {}", variant(stock)), outcome);
        }
        let outcome = guests(version, stock).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("linux/{version}: a guest of KVM, {}", variant(stock)), outcome);
    }
}

fn variant(stock: bool) -> &'static str {
    if stock { "stock" } else { "ours" }
}

/// `./x linux run` on the debian-like configuration.
fn x_linux_run(version: Version, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    emulator::pass_on(&mut command);
    command
        .args(["linux", "run", "--version", &version.to_string(), "--config", "debian-like", "--timeout"])
        .arg(LIMIT.as_secs().to_string())
        .args(arguments);
    Ok(command)
}

/// What it prints, given this input.
fn output(version: Version, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = x_linux_run(version, arguments)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    let input = input.to_owned();
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    let result = child.wait_with_output()?;
    // Whether it read all of its input is its own affair.
    let _ = writer.join();
    let text = String::from_utf8_lossy(&result.stdout).into_owned();
    ensure!(result.status.success(), "{}; it printed:\n{text}", result.status);
    Ok(text)
}

const DEBIAN: [&str; 2] = ["--userland", "debian"];

fn login_shell(version: Version) -> Result<()> {
    let (mut terminal, mut child, _) = Terminal::start(&mut x_linux_run(version, &DEBIAN)?, (24, 80), LIMIT)?;
    terminal.wait_for("root@portcullis:~#")?;
    terminal.type_in("shopt login_shell; . /etc/os-release; echo $ID $VERSION_ID; exit 3\r")?;
    for shown in ["login_shell", "on", "debian 12"] {
        terminal.wait_for(shown)?;
    }
    let status = child.wait(LIMIT)?;
    ensure!(status.code() == Some(3), "`exit 3` gave {status}");
    Ok(())
}

fn apt_get(version: Version) -> Result<()> {
    let text = output(version, &["--userland", "debian", "--", "apt-get", "--version"], "")?;
    ensure!(text.starts_with("apt 2.") && text.contains("Supported modules:"), "it printed:\n{text}");
    Ok(())
}

/// Compiles C in the guest, and gives what the program prints.
fn compiled(version: Version, source: &str) -> Result<String> {
    let script = format!(
        "cat >program.c <<'END OF PROGRAM'\n{source}\nEND OF PROGRAM\n\
         gcc -O2 -Wall -pthread -o program program.c && ./program\n"
    );
    output(version, &DEBIAN, &script)
}

fn hello(version: Version) -> Result<()> {
    let text = compiled(version, "#include <stdio.h>\nint main(void) { puts(\"hello, world\"); }")?;
    ensure!(text == "hello, world\n", "it printed:\n{text}");
    Ok(())
}

fn threads(version: Version) -> Result<()> {
    let path = repository("tests/programs/threads_and_signals.c");
    let source = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = compiled(version, &source)?;
    ensure!(text.ends_with("end\n") && !text.contains("WRONG"), "it printed:\n{text}");
    Ok(())
}

/// Interrupts preempt the kernel in some modes: what they call then is patched in or out at boot.
fn preempt(version: Version, stock: bool, mode: &str, preempts: Option<bool>) -> Result<()> {
    let script = std::fs::read_to_string(repository("tests/linux/preempt.sh"))?;
    let append = format!("preempt={mode}");
    let mut arguments = vec!["--append", &append];
    if stock {
        arguments.push("--stock");
    }
    let text = output(version, &arguments, &format!("set -- {mode}\n{script}"))?;
    let answers: &[bool] = preempts.as_ref().map_or(&[false, true], std::slice::from_ref);
    let is_right = |answer: &bool| {
        let answer = if *answer { "yes" } else { "no" };
        text == format!("mode {mode}\ninterrupts preempt: {answer}\n")
    };
    ensure!(answers.iter().any(is_right), "it printed:\n{text}");
    Ok(())
}

/// Work before a guest is entered, and the way out to user mode after one. QEMU's translator has AMD's extension only.
fn guests(version: Version, stock: bool) -> Result<()> {
    let program = userland::compile(&repository("tests/linux/kvm.c"), Arch::X86_64)?;
    let program = program.to_string_lossy();
    let mut arguments = vec!["--cpu", "EPYC"];
    if stock {
        arguments.push("--stock");
    }
    arguments.extend(["--", &program]);
    let text = output(version, &arguments, "")?;
    ensure!(
        text == "signals end KVM_RUN\nregisters are the host's again\nother tasks run while the guest spins\n",
        "it printed:\n{text}"
    );
    Ok(())
}
