//! Part of suite `linux` with `--all`: Debian's userland on the debian-like configuration, its three ways to preempt, and
//! guests of KVM.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::linux::FULLY_TESTED;
use super::report::Report;
use super::terminal::Terminal;
use crate::linux::config::Arch;
use crate::linux::userland;
use crate::repository;

/// How long a boot and what runs in it may take.
const LIMIT: Duration = Duration::from_secs(600);

type Test = fn() -> Result<()>;

/// Runs these tests.
pub fn run(report: &mut Report) {
    let tests: [(&str, Test); 4] = [
        ("a login shell", login_shell),
        ("apt-get --version", apt_get),
        ("gcc on hello world", hello),
        ("threads", threads),
    ];
    for (name, test) in tests {
        let outcome = test().map_err(|error| format!("{error:#}"));
        report.outcome(&format!("linux/Debian's userland: {name}"), outcome);
    }
    for stock in [true, false] {
        for (mode, preempts) in [("none", false), ("voluntary", false), ("full", true)] {
            let outcome = preempt(stock, mode, preempts).map_err(|error| format!("{error:#}"));
            report.outcome(&format!("linux/preempt={mode}, {}", variant(stock)), outcome);
        }
        let outcome = guests(stock).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("linux/a guest of KVM, {}", variant(stock)), outcome);
    }
}

fn variant(stock: bool) -> &'static str {
    if stock { "stock" } else { "ours" }
}

/// `./x linux run` on the debian-like configuration.
fn x_linux_run(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["linux", "run", "--version", &FULLY_TESTED.to_string(), "--config", "debian-like", "--timeout"])
        .arg(LIMIT.as_secs().to_string())
        .args(arguments);
    Ok(command)
}

/// What it prints, given this input.
fn output(arguments: &[&str], input: &str) -> Result<String> {
    let mut child = x_linux_run(arguments)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
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

fn login_shell() -> Result<()> {
    let (mut terminal, mut child, _) = Terminal::start(&mut x_linux_run(&DEBIAN)?, (24, 80), LIMIT)?;
    terminal.wait_for("root@portcullis:~#")?;
    terminal.type_in("shopt login_shell; . /etc/os-release; echo $ID $VERSION_ID; exit 3\r")?;
    for shown in ["login_shell", "on", "debian 12"] {
        terminal.wait_for(shown)?;
    }
    let status = child.wait(LIMIT)?;
    ensure!(status.code() == Some(3), "`exit 3` gave {status}");
    Ok(())
}

fn apt_get() -> Result<()> {
    let text = output(&["--userland", "debian", "--", "apt-get", "--version"], "")?;
    ensure!(text.starts_with("apt 2.") && text.contains("Supported modules:"), "it printed:\n{text}");
    Ok(())
}

/// Compiles C in the guest, and gives what the program prints.
fn compiled(source: &str) -> Result<String> {
    let script = format!(
        "cat >program.c <<'END OF PROGRAM'\n{source}\nEND OF PROGRAM\n\
         gcc -O2 -Wall -pthread -o program program.c && ./program\n"
    );
    output(&DEBIAN, &script)
}

fn hello() -> Result<()> {
    let text = compiled("#include <stdio.h>\nint main(void) { puts(\"hello, world\"); }")?;
    ensure!(text == "hello, world\n", "it printed:\n{text}");
    Ok(())
}

fn threads() -> Result<()> {
    let path = repository("tests/programs/threads_and_signals.c");
    let source = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = compiled(&source)?;
    ensure!(text.ends_with("end\n") && !text.contains("WRONG"), "it printed:\n{text}");
    Ok(())
}

/// Interrupts preempt the kernel in one mode of the three: what they call then is patched in or out at boot.
fn preempt(stock: bool, mode: &str, preempts: bool) -> Result<()> {
    let script = std::fs::read_to_string(repository("tests/linux/preempt.sh"))?;
    let append = format!("preempt={mode}");
    let mut arguments = vec!["--append", &append];
    if stock {
        arguments.push("--stock");
    }
    let text = output(&arguments, &format!("set -- {mode}\n{script}"))?;
    let answer = if preempts { "yes" } else { "no" };
    ensure!(text == format!("mode {mode}\ninterrupts preempt: {answer}\n"), "it printed:\n{text}");
    Ok(())
}

/// Work before a guest is entered, and the way out to user mode after one. QEMU's translator has AMD's extension only.
fn guests(stock: bool) -> Result<()> {
    let program = userland::compile(&repository("tests/linux/kvm.c"), Arch::X86_64)?;
    let program = program.to_string_lossy();
    let mut arguments = vec!["--cpu", "EPYC"];
    if stock {
        arguments.push("--stock");
    }
    arguments.extend(["--", &program]);
    let text = output(&arguments, "")?;
    ensure!(
        text == "signals end KVM_RUN\nregisters are the host's again\nother tasks run while the guest spins\n",
        "it printed:\n{text}"
    );
    Ok(())
}
