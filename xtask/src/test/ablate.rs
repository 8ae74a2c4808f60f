//! `./x test --ablate`: each guard is taken out, and its tests must fail then. A test that still passes proves nothing.
//!
//! A guard is taken out of a copy of the repository by its patch in `docs/guards`, and what the test needs is built there.

pub mod tree;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::guards::{self, Guard, Kind};
use super::guest;
use super::library;
use super::report::Report;
use crate::qemu::Machine;
use crate::{kernel, repository};

/// Ablates the guards of these names, or all.
pub fn run(only: &[String], report: &mut Report) -> Result<()> {
    let mut guards = guards::read()?;
    if let Some(unknown) = only.iter().find(|name| guards.iter().all(|guard| guard.name != **name)) {
        bail!("docs/guards.md has no guard `{unknown}`");
    }
    guards.retain(|guard| only.is_empty() || only.contains(&guard.name));
    let mut ablated = Ablated::new();
    let mut table = Vec::new();
    for guard in &guards {
        for test in &guard.tests {
            let outcome = ablate(guard, test, &mut ablated).unwrap_or_else(|error| Err(format!("{error:#}")));
            let verdict = outcome.clone().unwrap_or_else(|reason| format!("NOT CAUGHT: {reason}"));
            let verdict = verdict.lines().next().unwrap_or_default();
            table.push(format!("{:24} {test:28} {:16} {verdict}", guard.name, guard.cpu));
            report.outcome(&format!("ablate/{}/{test}", guard.name), outcome.map(|_| ()));
        }
    }
    println!("\n{:24} {:28} {:16} without the guard", "guard", "test", "CPU");
    table.iter().for_each(|row| println!("{row}"));
    Ok(())
}

/// The kernel without all of these guards.
pub fn kernel_without(names: &[&str]) -> Result<PathBuf> {
    let guards = guards::read()?;
    let copy = repository("target/ablate/tree");
    tree::mirror(&repository(""), &copy)?;
    for name in names {
        let guard = guards.iter().find(|guard| guard.name == *name);
        let guard = guard.with_context(|| format!("there is no guard `{name}`"))?;
        tree::apply(&guard.patch(), &copy, &[])
            .with_context(|| format!("the patch of the guard {name} does not apply"))?;
    }
    kernel::Build { copy: Some(copy), checked: true, ..kernel::Build::default() }.run()
}

/// The copy of the repository: one guard at a time is out of it.
struct Ablated {
    copy: PathBuf,
    /// The guard that is out.
    guard: Option<String>,
    /// The kernel without it, if it has been built.
    kernel: Option<PathBuf>,
    /// How the tests end in the kernel as it is, by test and machine.
    intact_failures: HashMap<(String, String, u32, bool), Option<String>>,
}

impl Ablated {
    fn new() -> Self {
        Ablated { copy: repository("target/ablate/tree"), guard: None, kernel: None, intact_failures: HashMap::new() }
    }

    /// The copy without the guard.
    fn without(&mut self, guard: &Guard) -> Result<&Path> {
        if self.guard.as_ref() != Some(&guard.name) {
            (self.guard, self.kernel) = (None, None);
            tree::mirror(&repository(""), &self.copy)?;
            tree::apply(&guard.patch(), &self.copy, &[])
                .with_context(|| format!("the patch of the guard {} does not apply", guard.name))?;
            self.guard = Some(guard.name.clone());
        }
        Ok(&self.copy)
    }

    /// The kernel without the guard.
    fn kernel_without(&mut self, guard: &Guard) -> Result<PathBuf> {
        let copy = Some(self.without(guard)?.to_owned());
        if let Some(kernel) = &self.kernel {
            return Ok(kernel.clone());
        }
        let build = kernel::Build { copy, checked: true, isolation: guard.isolation, ..kernel::Build::default() };
        Ok(self.kernel.insert(build.run()?).clone())
    }

    /// How the test fails in the kernel as it is.
    fn intact_failure(&mut self, guard: &Guard, test: &str) -> Result<Option<String>> {
        let key = (test.to_owned(), guard.cpu.clone(), guard.smp, guard.isolation);
        if let Some(known) = self.intact_failures.get(&key) {
            return Ok(known.clone());
        }
        let failure = guest_failure(guard, test, &kernel::build_checked(guard.isolation)?)?;
        self.intact_failures.insert(key, failure.clone());
        Ok(failure)
    }
}

/// How the test fails without the guard, or why it does not.
fn ablate(guard: &Guard, test: &str, ablated: &mut Ablated) -> Result<Result<String, String>> {
    let passes = || format!("{test} passes without the guard");
    match guards::find_test(test)? {
        Kind::Guest => {
            if let Some(reason) = ablated.intact_failure(guard, test)? {
                return Ok(Err(format!("{test} fails with the guard, too: {reason}")));
            }
            Ok(guest_failure(guard, test, &ablated.kernel_without(guard)?)?.ok_or_else(passes))
        }
        kind => {
            let copy = ablated.without(guard)?;
            let mut command = Command::new("cargo");
            command.args(["test", "-p", "portcullis-gate", "--target-dir"]).current_dir(copy);
            match kind {
                Kind::Loom => command
                    .arg(copy.join("target/loom"))
                    .args(["--release", "--test", "loom"])
                    .env("RUSTFLAGS", "--cfg loom"),
                _ => command.arg(copy.join("target")).arg("--no-fail-fast"),
            };
            command.arg(test);
            Ok(if library::fails(&mut command, test)? { Ok("the test fails".to_owned()) } else { Err(passes()) })
        }
    }
}

/// How the guest test fails in this kernel, if it does.
fn guest_failure(guard: &Guard, test: &str, kernel: &Path) -> Result<Option<String>> {
    let machine = Machine { cpu: guard.cpu.clone(), smp: guard.smp, ..Machine::default() };
    guest::compile_one(test)?.failure(&machine, kernel)
}
