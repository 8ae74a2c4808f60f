//! `./x fmt`, `./x lint`, `./x doc`: what is checked about the code without running it.

use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;

use crate::msrv::MSRV;
use crate::toolchain::{TARGET, Toolchain, has_target};
use crate::{book, imports, progress, repository, setup, system_calls};

/// Formats all code with rustfmt.
#[derive(clap::Args)]
pub struct FmtArgs {
    /// Only say whether something is not formatted
    #[arg(long)]
    check: bool,
}

/// Builds the documentation of the library, the host tool and the kernel.
#[derive(clap::Args)]
pub struct DocArgs {
    /// Open it in a browser
    #[arg(long)]
    open: bool,
    /// Build the pages instead, as a book: target/book/index.html
    #[arg(long, conflicts_with = "open")]
    book: bool,
    /// Draw the pictures of docs/pictures anew, from the code
    #[arg(long, conflicts_with_all = ["open", "book"])]
    pictures: bool,
}

/// One check: its name and the command that makes it, or why it cannot be made.
pub struct Check {
    /// What is checked.
    pub name: &'static str,
    /// How it is checked.
    pub work: Result<Work, String>,
}

/// How something is checked.
pub enum Work {
    /// By a command.
    Command(Command),
    /// By a function of this tool.
    Here(fn() -> Result<bool>),
}

impl Check {
    /// Makes it. `None` when it cannot be made.
    pub fn passes(self) -> Result<bool, String> {
        match self.work? {
            Work::Command(mut command) => {
                command.stdin(Stdio::null()).stdout(std::io::stderr());
                progress::status(&mut command, self.name, progress::BUILD).map(|status| status.success())
            }
            Work::Here(check) => check(),
        }
        .map_err(|error| format!("{error:#}"))
    }
}

/// The workspaces, but for the template: what the check of each one's formatting is called, and its folder.
pub const WORKSPACES: &[(&str, &str)] = &[
    ("fmt", ""),
    ("fmt-kernel", "kernel"),
    ("fmt-fuzz", "fuzz"),
    ("fmt-example", "examples/minimal"),
    ("fmt-preemptive", "examples/preemptive"),
    ("fmt-blog-os", "examples/blog-os"),
    ("fmt-bootloader", "examples/blog-os/bootloader"),
    ("fmt-peers", "bench/peers"),
    ("fmt-peer-ostd", "bench/peers/ostd"),
];

/// Formatting, of all workspaces.
fn formatting(check: bool) -> Result<Vec<Check>> {
    setup::ensure_component("rustfmt", "fmt")?;
    let fmt = |directory: &str| {
        let mut command = Command::new("cargo");
        // For the manifests with unstable keys.
        command.args(["fmt", "--all"]).env("RUSTC_BOOTSTRAP", "1").current_dir(repository(directory));
        if check {
            command.args(["--", "--check"]);
        }
        Ok(Work::Command(command))
    };
    // Linux's makefiles build this crate: cargo does not know it.
    let mut linux = Command::new("rustfmt");
    linux.args(["--edition", "2024", "src/lib.rs"]).current_dir(repository("linux"));
    if check {
        linux.arg("--check");
    }
    let mut checks = vec![Check { name: "fmt-linux", work: Ok(Work::Command(linux)) }];
    checks.extend(WORKSPACES.iter().map(|&(name, folder)| Check { name, work: fmt(folder) }));
    Ok(checks)
}

/// Formatting, and clippy with warnings as errors: on the host, and for the kernels with the kernel's compiler.
fn lints() -> Result<Vec<Check>> {
    setup::ensure_component("clippy", "clippy")?;
    let mut host = Command::new("cargo");
    host.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]).current_dir(repository(""));
    let toolchain = Toolchain::install()?;
    let kernel = |directory: &str, features: &[&str]| {
        toolchain
            .ensure_clippy()
            .map(|()| {
                let mut command = toolchain.cargo("clippy");
                command
                    .arg("--release")
                    .args(features)
                    .args(["--", "-D", "warnings"])
                    .current_dir(repository(directory));
                Work::Command(command)
            })
            .map_err(|error| format!("the kernel's compiler has no clippy here: {error:#}"))
    };
    let tests = || {
        toolchain
            .ensure_clippy()
            .map(|()| {
                let mut command = toolchain.host_cargo("clippy");
                command.args(["--tests", "--", "-D", "warnings"]).current_dir(repository("kernel"));
                Work::Command(command)
            })
            .map_err(|error| format!("the kernel's compiler has no clippy here: {error:#}"))
    };
    let mut checks = formatting(true)?;
    checks.push(Check { name: "imports", work: Ok(Work::Here(imports::check)) });
    checks.push(Check { name: "system-calls", work: Ok(Work::Here(system_calls::check)) });
    checks.push(Check { name: "clippy", work: Ok(Work::Command(host)) });
    checks.push(Check { name: "clippy-kernel", work: kernel("kernel", &[]) });
    // They build together: one run sees both.
    checks.push(Check { name: "clippy-isolated-fred", work: kernel("kernel", &["--features", "isolation,fred"]) });
    checks.push(Check { name: "clippy-floor", work: kernel("kernel", &["--features", "bench-floor"]) });
    checks.push(Check { name: "clippy-kernel-tests", work: tests() });
    checks.push(Check { name: "clippy-example", work: kernel("examples/minimal", &[]) });
    checks.push(Check { name: "clippy-preemptive", work: kernel("examples/preemptive", &[]) });
    checks.push(Check { name: "clippy-blog-os", work: kernel("examples/blog-os", &[]) });
    checks.push(Check { name: "clippy-peers", work: kernel("bench/peers", &[]) });
    checks.extend(policy(toolchain));
    checks.extend(oldest_compiler());
    Ok(checks)
}

/// Architectures whose kernels could have the policy with doors of their own, and how rustup names a target of each.
const POLICY: [(&str, &str); 3] = [
    ("policy-aarch64", "aarch64-unknown-none"),
    ("policy-riscv64", "riscv64gc-unknown-none-elf"),
    ("policy-i686", "i686-unknown-linux-gnu"),
];

/// That the library without its doors builds, without a warning: on the kernel's target, and on other architectures where rustup has them.
fn policy(toolchain: Toolchain) -> Vec<Check> {
    let check = |mut command: Command, target: &str, flags: &str| {
        command.args(["--package", "portcullis-gate", "--target", target, "--target-dir"]);
        command.arg(repository("target/policy")).env("RUSTFLAGS", flags).current_dir(repository(""));
        Work::Command(command)
    };
    let without_doors = "-D warnings --cfg portcullis_policy_only";
    let mut checks = vec![Check { name: "policy", work: Ok(check(toolchain.cargo("check"), TARGET, without_doors)) }];
    for (name, target) in POLICY {
        let mut cargo = Command::new("cargo");
        cargo.args(["check", "--package", "portcullis-linux-abi"]);
        let work = match has_target(target) {
            true => Ok(check(cargo, target, "-D warnings")),
            false => Err(format!("rustc has no target {target} here (rustup target add {target})")),
        };
        checks.push(Check { name, work });
    }
    checks
}

/// That the oldest compiler which Cargo.toml names builds the host's part and the kernel, where rustup has exactly that one.
/// Everywhere, clippy's `incompatible_msrv` checks that no newer part of the standard library is used.
fn oldest_compiler() -> [Check; 2] {
    let toolchain = format!("{MSRV}.0");
    let check = |directory: &str, arguments: &[&str]| {
        let mut command = Command::new("rustup");
        command
            .args(["run", &toolchain, "cargo", "check", "--target-dir"])
            .arg(repository("target/msrv"))
            .args(arguments)
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(repository(directory));
        Work::Command(command)
    };
    let installed = setup::succeeds(Command::new("rustup").args(["run", &toolchain, "rustc", "--version"]));
    let targets =
        progress::output(Command::new("rustup").args(["target", "list", "--installed", "--toolchain", &toolchain]));
    let with_target =
        installed && targets.is_ok_and(|list| String::from_utf8_lossy(&list.stdout).lines().any(|line| line == TARGET));
    let missing = || format!("rustup has no toolchain {toolchain} here");
    [
        Check { name: "msrv", work: installed.then(|| check("", &["--workspace"])).ok_or_else(missing) },
        Check { name: "msrv-kernel", work: with_target.then(|| check("kernel", &["--release"])).ok_or_else(missing) },
    ]
}

/// The documentation, with warnings as errors.
fn documentation(open: bool) -> Result<Vec<Check>> {
    let mut host = Command::new("cargo");
    host.args(["doc", "--no-deps", "--workspace"]).current_dir(repository(""));
    if open {
        host.arg("--open");
    }
    let mut kernel = Toolchain::install()?.cargo("doc");
    kernel.args(["--no-deps", "--release", "--document-private-items"]).current_dir(repository("kernel"));
    for command in [&mut host, &mut kernel] {
        command.env("RUSTDOCFLAGS", "-D warnings");
    }
    Ok(vec![
        Check { name: "doc", work: Ok(Work::Command(host)) },
        Check { name: "doc-kernel", work: Ok(Work::Command(kernel)) },
        Check { name: "book", work: Ok(Work::Here(book::check)) },
    ])
}

/// All of it, as `./x test` makes it.
pub fn all() -> Result<Vec<Check>> {
    let mut checks = lints()?;
    checks.extend(documentation(false)?);
    Ok(checks)
}

/// `./x fmt`.
pub fn fmt(args: FmtArgs) -> Result<ExitCode> {
    Ok(run(formatting(args.check)?))
}

/// `./x lint`.
pub fn lint() -> Result<ExitCode> {
    Ok(run(lints()?))
}

/// `./x doc`.
pub fn doc(args: DocArgs) -> Result<ExitCode> {
    if args.pictures {
        return book::draw_pictures().map(|()| ExitCode::SUCCESS);
    }
    if args.book {
        let sound = book::check()?;
        println!("{}", book::first_page().display());
        return Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Ok(run(documentation(args.open)?))
}

fn run(checks: Vec<Check>) -> ExitCode {
    let mut failed = 0;
    for check in checks {
        let name = check.name;
        match check.passes() {
            Ok(true) => eprintln!("x: {name}: ok"),
            Ok(false) => {
                eprintln!("x: {name}: failed, see above");
                failed += 1;
            }
            Err(reason) => eprintln!("x: {name}: not checked: {reason}"),
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The folders of the manifests with a `[workspace]` of their own.
    fn workspaces(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                workspaces(&path, found);
            } else if name == "Cargo.toml"
                && fs::read_to_string(&path).unwrap().lines().any(|line| line == "[workspace]")
            {
                found.insert(folder.strip_prefix(repository("")).unwrap().to_owned());
            }
        }
    }

    #[test]
    fn no_workspace_is_left_out() {
        let mut found = BTreeSet::new();
        workspaces(&repository(""), &mut found);
        let listed = WORKSPACES.iter().map(|workspace| workspace.1).chain(["templates/preemptive"]);
        assert_eq!(found, listed.map(PathBuf::from).collect());
        // The licences of what comes with each kernel are checked, too.
        let jobs = fs::read_to_string(repository(".github/workflows/ci.yml")).unwrap();
        for folder in
            ["", "kernel/", "fuzz/", "examples/minimal/", "examples/preemptive/", "examples/blog-os/", "bench/peers/"]
        {
            assert!(jobs.contains(&format!("          - {folder}Cargo.toml\n")), "{folder}");
        }
    }
}
