//! Suite `run`: `./x run` as its users see it, by this program's own `run` command.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::report::Report;
use super::sessions::{PYTHON, STRACE};
use super::terminal::Terminal;
use crate::console::Capture;
use crate::emulator;
use crate::kernel;
use crate::qemu::{Boot, Console, Ending, Machine};
use crate::run::{EXIT_HOST_FAILURE, EXIT_KERNEL_FAILURE, EXIT_OUTPUT_CLOSED, EXIT_TIMED_OUT};
use crate::setup;

/// How long one boot of this suite may take.
const LIMIT: Duration = Duration::from_secs(300);

/// The largest that the kernel's image may be.
const IMAGE_LIMIT: u64 = 4 << 20;

/// Runs the suite.
pub fn run(report: &mut Report) -> Result<()> {
    setup::ensure(&[PYTHON])?;
    let kernel = kernel::build()?;
    let tests: &[(&str, Test)] = &[
        ("output and exit code of a program", program),
        ("standard error apart from standard output", streams_apart),
        ("both in one file keep their order", streams_together),
        ("script on standard input", script),
        ("killed by a signal", killed),
        ("bytes pass unchanged both ways", bytes),
        ("endless input", endless_input),
        ("input that nobody writes", silent_input),
        ("no input at all", closed_input),
        ("output that nobody reads", closed_output),
        ("--memory 64M", small_memory),
        ("--initramfs", added_files),
        ("--with a directory of shared objects, links and names of one inode", with_directory),
        ("--dir, and the directory that it is called in", carried_directory),
        ("files that do not fit in the memory", too_large),
        ("--machine q35 --smp 2", other_machine),
        ("a dynamically linked program", dynamic),
        ("Python with its library", python),
        ("Perl with its library", perl),
        ("gcc with its programs and headers", gcc),
        ("a program that there is not", missing),
        ("--timeout", timeout),
        ("a machine that never says anything", silent_machine),
        ("--accel kvm runs or says why not", kvm),
        ("panic", panic),
        ("the session of docs/gdb.md in gdb", super::gdb::replay),
        ("./x trace", trace),
        ("image size", image_size),
    ];
    for (name, test) in tests {
        let outcome = test(&kernel).map_err(|error| format!("{error:#}"));
        report.outcome(&format!("run/{name}"), outcome);
    }
    match BROWSERS.iter().find(|browser| Path::new(browser).exists()) {
        Some(browser) => {
            let outcome = page_in(browser).map_err(|error| format!("{error:#}"));
            report.outcome("run/./x trace in a browser", outcome);
        }
        None => report.skip("run/./x trace in a browser", "there is no Chromium (apt-get install chromium)"),
    }
    match terminal(&kernel) {
        Ok(to_prompt) => {
            report.pass("run/Ctrl-C, Ctrl-A X and the terminal's state");
            report.note(&format!("from QEMU's start to the prompt: {:.2} s", to_prompt.as_secs_f32()));
        }
        Err(error) => report.fail("run/Ctrl-C, Ctrl-A X and the terminal's state", &format!("{error:#}")),
    }
    Ok(())
}

type Outcome = Result<()>;

/// `./x trace`: the program's output and exit code, both timelines, and the page.
fn trace(_: &Path) -> Outcome {
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let [text, json, html] = ["text", "json", "html"].map(|name| scratch.path().join(name));
    let mut x = Command::new(std::env::current_exe()?);
    emulator::pass_on(&mut x);
    let result = x
        .arg("trace")
        .args(["--smp", "2", "--timeout", "60", "--output"])
        .arg(&text)
        .arg("--json")
        .arg(&json)
        .arg("--html")
        .arg(&html)
        .args(["--", "/bin/busybox", "sh", "-c", "sleep 0 & wait; exit 3"])
        .stdin(Stdio::null())
        .output()?;
    anyhow::ensure!(
        result.status.code() == Some(3),
        "{} and not exit status 3; errors:\n{}",
        result.status,
        String::from_utf8_lossy(&result.stderr)
    );
    let text = std::fs::read_to_string(text)?;
    for part in
        ["system call clone", "system call wait4", "system call exit_group", "exception #PF", "away; the CPU goes to "]
    {
        anyhow::ensure!(text.contains(part), "there is no `{part}` in the timeline:\n{text}");
    }
    let file: serde_json::Value = serde_json::from_reader(File::open(json)?)?;
    let events = file["traceEvents"].as_array().context("no list of events")?;
    let named = |name: &str| events.iter().any(|event| event["name"] == name && event["ph"] == "X");
    anyhow::ensure!(named("wait4") && named("system call wait4"), "the file for ui.perfetto.dev lacks spans");
    let html = std::fs::read_to_string(html)?;
    anyhow::ensure!(html.contains(r#""name":"wait4""#), "the page lacks a crossing");
    Ok(())
}

/// Where Chromium may be.
const BROWSERS: &[&str] = &["/usr/bin/chromium", "/usr/bin/google-chrome"];

/// What a reader does on the page, by its own handlers: chooses the first `write`, having zoomed in on it, moves along, and goes back to all.
const READER: &str = r#"<script>
{
    const wanted = data.crossings.find(one => one.name === "write");
    const frame = canvas.getBoundingClientRect(), width = canvas.clientWidth;
    const y = frame.top + canvas.clientTop + (lanes.findIndex(lane => lane.number === wanted.task) + 0.5) * LANE;
    const at = by => ({ clientX: frame.left + canvas.clientLeft + place((wanted.from + wanted.to) / 2, width) + by, clientY: y });
    const pointer = (type, by) => canvas.dispatchEvent(new PointerEvent(type, at(by)));
    const span = () => view[1] - view[0];
    const first = $("chosen").textContent, all = span();
    for (let i = 0; i < 40; i++) canvas.dispatchEvent(new WheelEvent("wheel", { ...at(0), deltaY: -1 }));
    const zoomed = span();
    pointer("pointerdown", 0); pointer("pointerup", 0);
    const clicked = $("chosen").textContent, page = $("facts").textContent, begin = view[0];
    pointer("pointerdown", 0); pointer("pointermove", 50); pointer("pointerup", 50);
    const moved = begin - view[0], still = $("chosen").textContent;
    canvas.dispatchEvent(new WheelEvent("wheel", { ...at(0), deltaY: 1 }));
    const out = span();
    $("all").click();
    const back = span();
    [...$("names").rows].find(row => row.cells[0].textContent.endsWith("exit_group")).click();
    const by_name = $("chosen").textContent;
    const result = { first, all, zoomed, clicked, page, moved, still, out, back, by_name };
    document.body.append(element("pre", JSON.stringify(result), { id: "reader" }));
}
</script>"#;

/// The page of `./x trace`, as a browser shows it: as many system calls as strace counts on the host, and crossings to look at.
fn page_in(browser: &str) -> Outcome {
    setup::ensure(&[STRACE])?;
    let program = ["/bin/busybox", "sh", "-c", "echo one; (exit 2)"];
    let scratch = tempfile::Builder::new().prefix("portcullis-").tempdir()?;
    let (calls, page) = (scratch.path().join("calls"), scratch.path().join("page.html"));
    // A shell looks at what its environment says of directories, and at the signals that are ignored.
    let mut strace = Command::new("env");
    strace.args(["-i", "--default-signal", "strace", "-f", "-qq", "-o"]).arg(&calls).args(program);
    strace.stdin(Stdio::null()).output()?;
    let calls = std::fs::read_to_string(calls)?;
    // The reference kernel starts its first program itself; a call that others come between has two lines.
    let is_call = |line: &&str| line.contains('(') && !line.contains("execve(") && !line.contains(" resumed>");
    let expected = calls.lines().filter(is_call).count();

    let mut x = Command::new(std::env::current_exe()?);
    emulator::pass_on(&mut x);
    x.args(["trace", "--timeout", "60", "--output", "/dev/null", "--html"]).arg(&page).arg("--").args(program);
    let result = x.stdin(Stdio::null()).output()?;
    anyhow::ensure!(page.exists(), "no page: {}", String::from_utf8_lossy(&result.stderr));
    let text = std::fs::read_to_string(&page)?;
    let (before, after) = text.rsplit_once("</body>").context("the page's end")?;
    std::fs::write(&page, format!("{before}{READER}</body>{after}"))?;
    let shown = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()?;
    let errors = String::from_utf8_lossy(&shown.stderr);
    let shown = String::from_utf8_lossy(&shown.stdout);
    let counted = format!(" {expected} × system call,");
    anyhow::ensure!(shown.contains(&counted), "no `{counted}` in the page; strace:\n{calls}\n{errors}");
    let reader = shown.split_once("<pre id=\"reader\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let reader = reader.with_context(|| format!("a handler of the page failed: {errors}\n{shown}"))?.0;
    let saw: serde_json::Value = serde_json::from_str(&reader.replace("&amp;", "&").replace("&gt;", ">"))?;
    let (text, number) =
        (|name: &str| saw[name].as_str().unwrap_or(""), |name: &str| saw[name].as_f64().unwrap_or(0.0));
    // The first crossing is the page fault of the program's first instruction, or an interrupt on the way there.
    let first = ["exception #PF", "interrupt "].iter().any(|start| text("first").starts_with(start));
    let clicked =
        text("clicked").starts_with("system call write = 0x4") && text("page").ends_with("docs/system-call.md");
    let zoomed = number("zoomed") < number("all") / 1000.0 && number("out") > number("zoomed");
    let moved = number("moved") > 0.0 && text("still") == text("clicked");
    let back = number("back") == number("all") && text("by_name").starts_with("system call exit_group");
    anyhow::ensure!(first && clicked && zoomed && moved && back, "on the page: {saw}");
    Ok(())
}

/// A test of this suite: takes the kernel's image.
type Test = fn(&Path) -> Outcome;

/// `./x run` with these arguments; the image that is built already.
fn x_run(kernel: &Path, arguments: &[&str]) -> Result<Command> {
    x_run_for(LIMIT, kernel, arguments)
}

fn x_run_for(limit: Duration, kernel: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    emulator::pass_on(&mut command);
    command.arg("run").arg("--kernel").arg(kernel).arg("--timeout").arg(limit.as_secs().to_string()).args(arguments);
    Ok(command)
}

/// Runs it with this input, and checks output and exit code.
fn expect(kernel: &Path, arguments: &[&str], input: &[u8], output: &[u8], code: i32) -> Outcome {
    let mut child =
        x_run(kernel, arguments)?.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let result = child.wait_with_output()?;
    // Whether it read all of its input is its own affair.
    let _ = writer.join();
    let errors = String::from_utf8_lossy(&result.stderr);
    anyhow::ensure!(
        result.status.code() == Some(code) && result.stdout == output,
        "{} and not exit status {code}; output {:?} and not {:?}; errors:\n{errors}",
        result.status,
        excerpt(&result.stdout),
        excerpt(output),
    );
    Ok(())
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

fn program(kernel: &Path) -> Outcome {
    let script = "seq 1 1000 | sort -rn | head -3; exit 7";
    expect(kernel, &["--", "/bin/busybox", "sh", "-c", script], b"", b"1000\n999\n998\n", 7)
}

/// What two programs write to either, and to the devices' names, comes out where it belongs.
fn streams_apart(kernel: &Path) -> Outcome {
    let script = "echo out; echo error >&2; { seq 1 3000 >&2; seq 1 3000; } & wait; echo named >/dev/stderr; exit 5";
    let result = x_run(kernel, &["--", "/bin/busybox", "sh", "-c", script])?.stdin(Stdio::null()).output()?;
    let numbers: String = (1..=3000).map(|n| format!("{n}\n")).collect();
    let (output, errors) = (format!("out\n{numbers}"), format!("error\n{numbers}named\n"));
    anyhow::ensure!(
        result.status.code() == Some(5) && result.stdout == output.as_bytes() && result.stderr == errors.as_bytes(),
        "{}; output {:?}; errors {:?}",
        result.status,
        excerpt(&result.stdout),
        excerpt(&result.stderr)
    );
    Ok(())
}

fn streams_together(kernel: &Path) -> Outcome {
    let script = "for i in $(seq 100); do echo out $i; echo error $i >&2; done";
    let mut file = tempfile::tempfile()?;
    let status = x_run(kernel, &["--", "/bin/busybox", "sh", "-c", script])?
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file.try_clone()?)
        .status()?;
    let mut text = String::new();
    std::io::Seek::rewind(&mut file)?;
    file.read_to_string(&mut text)?;
    let expected: String = (1..=100).map(|i| format!("out {i}\nerror {i}\n")).collect();
    anyhow::ensure!(status.success() && text == expected, "{status}: {text}");
    Ok(())
}

/// A CPU that is never started: the boot is given up, and says so.
fn silent_machine(kernel: &Path) -> Outcome {
    let machine = Machine { extra: vec!["-S".into()], ..Machine::default() };
    let mut boot = Boot::new(machine, kernel);
    boot.boot_limit = Some(Duration::from_secs(2));
    boot.timeout = Some(LIMIT);
    let outcome = boot.run(Console::capture(&Capture::default()))?;
    anyhow::ensure!(matches!(outcome.ending, Ending::NotBooted(_)), "{:?} after {:?}", outcome.ending, outcome.elapsed);
    Ok(())
}

/// Without KVM, or with one that cannot run the kernel, there is a message, and soon.
fn kvm(kernel: &Path) -> Outcome {
    let result = x_run(kernel, &["--accel", "kvm", "--cpu", "EPYC", "--", "/bin/busybox", "echo", "hi"])?
        .stdin(Stdio::null())
        .output()?;
    let errors = String::from_utf8_lossy(&result.stderr);
    let runs = result.status.success() && result.stdout == b"hi\n";
    let says_why = matches!(result.status.code(), Some(code) if code == i32::from(EXIT_KERNEL_FAILURE) || code == i32::from(EXIT_HOST_FAILURE))
        && errors.contains("KVM does not run it");
    anyhow::ensure!(runs || says_why, "{result:?}");
    Ok(())
}

fn script(kernel: &Path) -> Outcome {
    expect(kernel, &[], b"echo one\nx=two\necho $x; (exit 3)\n", b"one\ntwo\n", 3)
}

fn killed(kernel: &Path) -> Outcome {
    expect(kernel, &["--", "/bin/busybox", "sh", "-c", "kill -9 $$"], b"", b"", 128 + 9)
}

fn bytes(kernel: &Path) -> Outcome {
    let all: Vec<u8> = (0..64).flat_map(|_| 0..=255).collect();
    expect(kernel, &["--", "/bin/busybox", "cat"], &all, &all, 0)
}

fn endless_input(kernel: &Path) -> Outcome {
    let mut yes = Command::new("yes").stdout(Stdio::piped()).spawn()?;
    let mut command = x_run(kernel, &["--", "/bin/busybox", "head", "-n", "3"])?;
    let result = command.stdin(yes.stdout.take().context("a pipe")?).output();
    let _ = yes.kill();
    let _ = yes.wait();
    let result = result?;
    anyhow::ensure!(result.status.success() && result.stdout == b"y\ny\ny\n", "{result:?}");
    Ok(())
}

fn silent_input(kernel: &Path) -> Outcome {
    let mut child =
        x_run(kernel, &["--", "/bin/busybox", "echo", "hi"])?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // Kept open: the run must end although its input does not.
    let stdin = child.stdin.take();
    let result = child.wait_with_output()?;
    drop(stdin);
    anyhow::ensure!(result.status.success() && result.stdout == b"hi\n", "{result:?}");
    Ok(())
}

fn closed_input(kernel: &Path) -> Outcome {
    let run = x_run(kernel, &["--", "/bin/busybox", "wc", "-c"])?;
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$@\" <&-", "sh"]).arg(run.get_program()).args(run.get_args());
    for command in [&mut shell, x_run(kernel, &["--", "/bin/busybox", "wc", "-c"])?.stdin(Stdio::null())] {
        let result = command.output()?;
        anyhow::ensure!(result.status.success() && result.stdout == b"0\n", "{command:?}: {result:?}");
    }
    Ok(())
}

fn closed_output(kernel: &Path) -> Outcome {
    let mut child =
        x_run(kernel, &["--", "/bin/busybox", "yes"])?.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().context("a pipe")?;
    let mut first = [0; 4];
    stdout.read_exact(&mut first)?;
    drop(stdout);
    let start = Instant::now();
    let status = child.wait()?;
    let code = Some(i32::from(EXIT_OUTPUT_CLOSED));
    anyhow::ensure!(&first == b"y\ny\n" && status.code() == code && start.elapsed() < LIMIT / 2, "{status}");
    Ok(())
}

fn small_memory(kernel: &Path) -> Outcome {
    expect(kernel, &["--memory", "64M"], b"echo fits\n", b"fits\n", 0)
}

fn added_files(kernel: &Path) -> Outcome {
    let directory = tempfile::tempdir()?;
    std::fs::create_dir(directory.path().join("data"))?;
    std::fs::write(directory.path().join("data/file"), "from the host\n")?;
    let path = directory.path().to_str().context("a temporary directory has a plain name")?;
    expect(kernel, &["--initramfs", path, "--", "/bin/busybox", "cat", "/data/file"], b"", b"from the host\n", 0)
}

fn other_machine(kernel: &Path) -> Outcome {
    let arguments = ["--machine", "q35", "--smp", "2", "--", "/bin/busybox", "nproc"];
    expect(kernel, &arguments, b"", b"2\n", 0)
}

fn dynamic(kernel: &Path) -> Outcome {
    let script = "echo $((6 * 7)); exit 7";
    expect(kernel, &["--", "/bin/bash", "-c", script], b"", b"42\n", 7)
}

fn python(kernel: &Path) -> Outcome {
    let script = "import json, os; print(json.dumps({'cwd': os.getcwd()}))";
    expect(kernel, &["--", "/usr/bin/python3", "-c", script], b"", b"{\"cwd\": \"/\"}\n", 0)
}

fn perl(kernel: &Path) -> Outcome {
    let script = "use File::Basename; print basename('/a/b'), \"\\n\"; exit 3";
    expect(kernel, &["--", "/usr/bin/perl", "-e", script], b"", b"b\n", 3)
}

/// It compiles, assembles and links in the guest, where the shell's script says so; the program runs.
fn gcc(kernel: &Path) -> Outcome {
    let source = b"#include <stdio.h>\nint main(void) { puts(\"compiled\"); return 0; }\n";
    let script = "gcc -x c - -o /tmp/a && /tmp/a";
    expect(kernel, &["--", "/bin/bash", "-c", script], source, b"compiled\n", 0)
}

/// Files of the host at their own places: what links lead to, the libraries of shared objects, one inode for its names.
fn with_directory(kernel: &Path) -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir(at("files"))?;
    let (object, libc) = shared_object()?;
    std::fs::copy(&object, at("files/object.so"))?;
    std::fs::write(at("files/one"), "one inode\n")?;
    std::fs::hard_link(at("files/one"), at("files/two"))?;
    std::os::unix::fs::symlink("files", at("link"))?;
    let link = at("link");
    let link = link.to_str().context("a temporary directory has a plain name")?;
    let script = format!(
        "cd {link}/ && cat two && stat -c '%h' one && echo more >>one && cat two && \
         ls {} object.so",
        libc.display()
    );
    let output = format!("one inode\n2\none inode\nmore\n{}\nobject.so\n", libc.display());
    expect(kernel, &["--with", link, "--", "/bin/busybox", "sh", "-c", &script], b"", output.as_bytes(), 0)
}

/// A directory as it is, with modes, links and data, but without what is no file; the program starts where the command was called.
fn carried_directory(kernel: &Path) -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().canonicalize()?;
    std::fs::create_dir(path.join("sub"))?;
    std::fs::write(path.join("sub/data"), vec![b'x'; 3 << 20])?;
    std::os::unix::fs::symlink("nowhere", path.join("sub/link"))?;
    rustix::fs::mknodat(rustix::fs::CWD, path.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
    let name = path.to_str().context("a temporary directory has a plain name")?;
    let script = "pwd; readlink link; wc -c <data; ls ..; stat -c %a .";
    let result = x_run(kernel, &["--dir", name, "--", "/bin/busybox", "sh", "-c", script])?
        .current_dir(path.join("sub"))
        .stdin(Stdio::null())
        .output()?;
    let output = format!("{name}/sub\nnowhere\n{}\nsub\n755\n", 3 << 20);
    let errors = String::from_utf8_lossy(&result.stderr);
    anyhow::ensure!(result.stdout == output.as_bytes(), "{:?}; errors:\n{errors}", excerpt(&result.stdout));
    for line in [format!("x: {name}: 1 file, 3.0 MiB"), format!("x: {name}/fifo: left out: ")] {
        anyhow::ensure!(errors.contains(&line), "no line {line:?} in\n{errors}");
    }
    Ok(())
}

/// A shared object of this machine that needs the C library, and where that is: one of dpkg's, whichever it has.
fn shared_object() -> Result<(PathBuf, PathBuf)> {
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
    let is_libc = |path: &PathBuf| path.ends_with("libc.so.6");
    for path in crate::program::libraries(loader, Path::new("/usr/bin/dpkg"))? {
        let needed = crate::program::libraries(loader, &path).unwrap_or_default();
        if let Some(libc) = needed.iter().find(|path| is_libc(path)).filter(|_| !is_libc(&path)) {
            return Ok((path, libc.clone()));
        }
    }
    anyhow::bail!("no library of dpkg's needs the C library")
}

fn too_large(kernel: &Path) -> Outcome {
    let directory = tempfile::tempdir()?;
    let file = std::fs::File::create(directory.path().join("large"))?;
    file.set_len(100 << 20)?;
    let path = directory.path().to_str().context("a plain name")?;
    let result = x_run(kernel, &["--memory", "128M", "--initramfs", path])?.stdin(Stdio::null()).output()?;
    let errors = String::from_utf8_lossy(&result.stderr);
    let advice = errors.split("--memory ").nth(1).unwrap_or_default();
    anyhow::ensure!(
        result.status.code() == Some(i32::from(EXIT_HOST_FAILURE)) && advice.starts_with("320M"),
        "{result:?}"
    );
    expect(kernel, &["--memory", "320M", "--initramfs", path], b"ls /large\n", b"/large\n", 0)
}

fn missing(kernel: &Path) -> Outcome {
    let result = x_run(kernel, &["--", "no-such-program"])?.stdin(Stdio::null()).output()?;
    let code = Some(i32::from(EXIT_HOST_FAILURE));
    let errors = String::from_utf8_lossy(&result.stderr);
    anyhow::ensure!(result.status.code() == code && errors.contains("no-such-program"), "{result:?}");
    Ok(())
}

fn timeout(kernel: &Path) -> Outcome {
    let start = Instant::now();
    let mut command = x_run_for(Duration::from_secs(2), kernel, &["--", "/bin/busybox", "sleep", "1000"])?;
    let result = command.stdin(Stdio::null()).output()?;
    let code = Some(i32::from(EXIT_TIMED_OUT));
    anyhow::ensure!(result.status.code() == code && start.elapsed() < LIMIT / 2, "{result:?}");
    Ok(())
}

fn panic(kernel: &Path) -> Outcome {
    let script = "echo panic >/dev/gate; echo survived";
    let result = x_run(kernel, &["--", "/bin/busybox", "sh", "-c", script])?.stdin(Stdio::null()).output()?;
    let log = String::from_utf8_lossy(&result.stderr);
    anyhow::ensure!(result.status.code() == Some(i32::from(EXIT_KERNEL_FAILURE)), "{}:\n{log}", result.status);
    anyhow::ensure!(result.stdout.is_empty(), "the program went on: {}", excerpt(&result.stdout));
    // The boundary state, and a backtrace with names: of the device's code and of the door that the call came in by.
    for needed in ["panic", "context", "portcullis_kernel::calls", "portcullis::x86_64::syscall"] {
        anyhow::ensure!(log.contains(needed), "the log has no `{needed}`:\n{log}");
    }
    Ok(())
}

/// The image as it is loaded: without the tables for debuggers.
fn image_size(kernel: &Path) -> Outcome {
    let stripped = tempfile::tempdir()?;
    let image: PathBuf = stripped.path().join("kernel");
    let status = Command::new("strip").arg("-o").arg(&image).arg(kernel).status().context("cannot start strip")?;
    anyhow::ensure!(status.success(), "strip: {status}");
    let size = std::fs::metadata(&image)?.len();
    anyhow::ensure!(size <= IMAGE_LIMIT, "{size} bytes, more than {IMAGE_LIMIT}");
    Ok(())
}

/// An interactive session: Ctrl-C, the terminal's size and its changes. Gives the time to the first prompt.
fn terminal(kernel: &Path) -> Result<Duration> {
    let mut command = x_run(kernel, &[])?;
    let (mut terminal, mut child, state) = Terminal::start(&mut command, (30, 100), LIMIT)?;
    let before = rustix::termios::tcgetattr(&state)?;
    let resize = |rows, columns| {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&state, size)
    };
    terminal.wait_for("Ctrl-A X")?;
    let booting = Instant::now();
    terminal.wait_for("portcullis:/")?;
    let to_prompt = booting.elapsed();
    terminal.type_in("yes >/dev/null\r")?;
    terminal.wait_for("yes")?;
    thread::sleep(Duration::from_millis(500));
    terminal.type_in("\x03")?;
    terminal.wait_for("portcullis:/")?;
    // Split, so that the echo of what is typed is not taken for the answer.
    terminal.type_in("echo sta''tus $?\r")?;
    terminal.wait_for("status 130")?;
    terminal.wait_for("portcullis:/")?;
    terminal.type_in("stty size\r")?;
    terminal.wait_for("30 100")?;
    terminal.wait_for("portcullis:/")?;
    terminal.type_in("sh -c 'trap \"stty size; exit\" WINCH; echo wai\"\"ting; while :; do sleep 1; done'\r")?;
    terminal.wait_for("waiting")?;
    resize(43, 321)?;
    terminal.wait_for("43 321")?;
    terminal.wait_for("portcullis:/")?;
    terminal.type_in("\x01x")?;
    let status = child.wait(LIMIT).context("Ctrl-A X did not end it")?;
    anyhow::ensure!(status.success(), "after Ctrl-A X: {status}");
    let after = rustix::termios::tcgetattr(&state)?;
    let same = before.local_modes == after.local_modes
        && before.input_modes == after.input_modes
        && before.output_modes == after.output_modes;
    anyhow::ensure!(same, "the terminal was left in another state: {after:?}");
    Ok(to_prompt)
}
