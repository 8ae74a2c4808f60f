//! `./x bench --peers`: the smallest kernel on the library, and on other crates that bring user mode (`bench/peers`): the same program,
//! machine and CPU model, one run.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::console::Capture;
use crate::example::{self, STATUS};
use crate::qemu::{Boot, Console, Ending, Machine, MachineType};
use crate::toolchain::TARGET;
use crate::{repository, setup};

/// A kernel of `bench/peers`, and what the crate under it leaves out.
pub struct Peer {
    /// The name of its program.
    pub name: &'static str,
    /// What it stands on, as `Cargo.toml` pins it.
    pub stands_on: &'static str,
    /// The crate's version; ours is the tree's.
    pub version: Option<&'static str>,
    /// What its source leaves to the kernel, or does not do, on these ways.
    pub leaves: &'static str,
}

/// All of them.
pub const PEERS: [Peer; 5] = [
    Peer { name: "hooks", stands_on: "Portcullis", version: None, leaves: "–" },
    Peer { name: "loop", stands_on: "Portcullis, as a loop", version: None, leaves: "–" },
    Peer {
        name: "trapframe",
        stands_on: "trapframe",
        version: Some("0.11.0"),
        leaves: "pending work; SYSRET wherever RIP points; a fault of IRET hits the kernel; no fence behind SWAPGS; interrupts are off in the loop",
    },
    Peer {
        name: "axcpu",
        stands_on: "axcpu",
        version: Some("0.3.1"),
        leaves: "pending work; SYSRET wherever RIP points; a fault of IRET hits the kernel; no fence behind SWAPGS; a program's exceptions but #PF and #BP are a panic, and no handler hears of #BP",
    },
    Peer {
        name: "ostd",
        stands_on: "ostd",
        version: Some("0.18.0"),
        leaves: "work that is raised between the look and user mode; a fault of IRET hits the kernel; no fence behind SWAPGS",
    },
];

/// What the program measures, in the order of its reports (`bench/peers/src/program.s`).
pub const ROWS: [(&str, &str); 3] =
    [("syscall", "null system call"), ("page_fault", "page fault"), ("breakpoint", "breakpoint")];

/// What one kernel says.
#[derive(Debug, PartialEq)]
pub struct Counts {
    /// Instructions of each row.
    pub rows: [u64; 3],
    /// Which of the program's flags the handler of a page fault runs with: `DF`, `AC`.
    pub flags: Vec<String>,
}

impl Counts {
    fn parse(log: &str) -> Option<Counts> {
        let mut lines = log.lines();
        let mut rows = [0; 3];
        for (number, row) in rows.iter_mut().enumerate() {
            let (which, count) = lines.next()?.split_once(' ')?;
            if which.parse() != Ok(number) {
                return None;
            }
            *row = count.parse().ok()?;
        }
        let flags = lines.next()?.strip_prefix("flags")?.split_whitespace().map(str::to_owned).collect();
        lines.next().is_none().then_some(Counts { rows, flags })
    }
}

/// How long a boot may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Builds the kernels: all, or those that build in seconds (without `ostd`).
pub fn build(all: bool) -> Result<()> {
    setup::ensure(&[setup::QEMU, setup::LINKER])?;
    for folder in ["bench/peers", "bench/peers/ostd"].into_iter().take(if all { 2 } else { 1 }) {
        example::build_folder(folder, true)?;
    }
    Ok(())
}

/// Runs one, with the time-stamp counter counting instructions.
pub fn run(peer: &Peer, cpu: &str) -> Result<Counts> {
    let release = |directory: &str| repository(directory).join("target").join(TARGET).join("release");
    let mut machine =
        Machine { cpu: cpu.to_owned(), extra: ["-icount", "shift=0"].map(Into::into).into(), ..Machine::default() };
    let image = if peer.name == "ostd" {
        // It boots by Multiboot, for which QEMU takes 32-bit ELF files, and maps the firmware's tables if there is memory above them.
        machine.machine = MachineType::Q35;
        machine.memory = Some("4G".to_owned());
        as_32_bits(&release("bench/peers/ostd").join("ostd"))?
    } else {
        release("bench/peers").join(peer.name)
    };
    let mut boot = Boot::new(machine, &image);
    boot.timeout = Some(LIMIT);
    let outcome = boot.run(Console::capture(&Capture::default()))?;
    let ended_well = matches!(outcome.ending, Ending::Quit(status) if status.code() == Some(STATUS));
    ensure!(ended_well, "{}: it ended with {:?}:\n{}", peer.name, outcome.ending, outcome.log);
    Counts::parse(&outcome.log).with_context(|| format!("{}: it printed something else:\n{}", peer.name, outcome.log))
}

fn as_32_bits(image: &Path) -> Result<PathBuf> {
    let out = image.with_extension("elf32");
    let status = Command::new("objcopy").args(["-O", "elf32-i386"]).arg(image).arg(&out).status();
    ensure!(status.context("running objcopy")?.success(), "objcopy failed on {}", image.display());
    Ok(out)
}

/// Measures all of them on these CPU models; writes `bench/peers.json` and the tables of the pages.
pub fn bench(cpus: &[String]) -> Result<()> {
    build(true)?;
    let mut results = Vec::new();
    for cpu in cpus {
        for peer in &PEERS {
            let counts = run(peer, cpu)?;
            let mut object = json!({
                "kernel": peer.name, "stands_on": peer.stands_on, "version": peer.version, "cpu": cpu, "flags": counts.flags,
            });
            for ((row, _), count) in ROWS.iter().zip(counts.rows) {
                object[*row] = json!(count);
            }
            results.push(object);
        }
    }
    let results = Value::Array(results);
    let table = table(&results)?;
    print!("{table}");
    let path = repository(RESULTS);
    fs::write(&path, serde_json::to_string_pretty(&results)? + "\n")
        .with_context(|| format!("writing {}", path.display()))?;
    for page in PAGES {
        let path = repository(page);
        let text = fs::read_to_string(&path)?;
        fs::write(&path, with_table(&text, &table).with_context(|| format!("{page} has no place for it"))?)?;
    }
    println!("\nwrote {RESULTS}, and the table of {}", PAGES.join(" and "));
    Ok(())
}

const RESULTS: &str = "bench/peers.json";

/// The pages that have the table, between [`BEGIN`] and [`END`].
const PAGES: [&str; 2] = ["README.md", "bench/README.md"];
const BEGIN: &str = "<!-- ./x bench --peers -->\n";
const END: &str = "<!-- end -->\n";

/// The page's text with this table.
fn with_table(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// The results of the first CPU model as a table of Markdown; where another model's differ, they stand beside it.
fn table(results: &Value) -> Result<String> {
    let results = results.as_array().context("a list of results")?;
    let mut out = String::from("| the smallest kernel on |");
    ROWS.iter().for_each(|(_, title)| out += &format!(" {title} |"));
    out += " of the program's flags in the handler | what is left to the kernel, or undone |\n| --- | --- | --- | --- | --- | --- |\n";
    for peer in &PEERS {
        let of_peer: Vec<&Value> = results.iter().filter(|result| result["kernel"] == peer.name).collect();
        let first = of_peer.first().with_context(|| format!("no result of {}", peer.name))?;
        let version = peer.version.map_or(String::new(), |version| format!(" {version}"));
        let _ = write!(out, "| {}{version} |", peer.stands_on);
        for (row, _) in ROWS {
            let mut counts: Vec<u64> = of_peer.iter().filter_map(|result| result[row].as_u64()).collect();
            counts.sort_unstable();
            counts.dedup();
            let shown: Vec<String> = counts.iter().map(u64::to_string).collect();
            let _ = write!(
                out,
                " {} |",
                if shown.len() > 2 {
                    format!("{} to {}", shown[0], shown[shown.len() - 1])
                } else {
                    shown.join(" or ")
                }
            );
        }
        let flags: Vec<&str> = first["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let flags = if flags.is_empty() { "none".to_owned() } else { flags.join(", ") };
        let _ = writeln!(out, " {flags} | {} |", peer.leaves);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_prints() {
        let counts = Counts { rows: [98, 104, 99], flags: vec!["DF".into(), "AC".into()] };
        assert_eq!(Counts::parse("0 98\n1 104\n2 99\nflags DF AC\n"), Some(counts));
        for bad in ["", "0 98\n1 104\n2 99\n", "0 98\n2 104\n1 99\nflags\n", "0 98\n1 104\n2 99\nflags\nmore\n"] {
            assert_eq!(Counts::parse(bad), None, "{bad}");
        }
    }

    /// The pages show what was measured, by the versions that are built.
    #[test]
    fn the_pages_have_the_results() {
        let results: Value = serde_json::from_str(&fs::read_to_string(repository(RESULTS)).unwrap()).unwrap();
        let table = table(&results).unwrap();
        for page in PAGES {
            let text = fs::read_to_string(repository(page)).unwrap();
            assert_eq!(with_table(&text, &table).as_ref(), Some(&text), "{page}: ./x bench --peers");
        }
        let manifests = ["bench/peers/Cargo.toml", "bench/peers/ostd/Cargo.toml"]
            .map(|path| fs::read_to_string(repository(path)).unwrap())
            .concat();
        for peer in &PEERS {
            let pinned = peer.version.is_none_or(|version| {
                manifests
                    .lines()
                    .any(|line| line.starts_with(peer.stands_on) && line.contains(&format!("\"={version}\"")))
            });
            assert!(pinned, "{} is of another version", peer.stands_on);
        }
    }
}
