//! Tests of `.github/workflows` and `.ci`: what they run exists, and all of it is run.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Parser;
use serde_json::Value;

use crate::{Cli, progress, repository, test};

/// The workflows: name and text.
fn workflows() -> Vec<(String, String)> {
    let folder = repository(".github/workflows");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read(&path))).collect()
}

/// The arguments of each `./x`, and of each `.ci/run`, which is `./x test`.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            let begin: &[&str] = match *word {
                "./x" => &["./x"],
                ".ci/run" => &["./x", "test"],
                _ => continue,
            };
            let arguments = words[at + 1..].iter().take_while(|word| !["&&", "|", "||", ";", ">"].contains(word));
            out.push(begin.iter().chain(arguments).map(|&word| word.to_owned()).collect());
        }
    }
    out
}

#[test]
fn every_command_of_the_workflows_is_one() {
    let mut found = 0;
    for (name, text) in workflows() {
        for command in commands(&text) {
            found += 1;
            if let Err(error) = Cli::try_parse_from(&command) {
                panic!("{name}: {}: {error}", command.join(" "));
            }
        }
    }
    assert!(found > 4, "{found}");
}

/// What `./x test` runs by default, and no suite twice.
#[test]
fn the_jobs_run_each_suite_once() {
    let mut run = Vec::new();
    for (_, text) in workflows() {
        for command in commands(&text) {
            let only = command.iter().skip_while(|word| *word != "--only").nth(1);
            run.extend(only.into_iter().flat_map(|names| names.split(',').map(str::to_owned)));
        }
    }
    run.sort();
    let mut wanted = test::default_suites();
    wanted.sort_unstable();
    assert_eq!(run, wanted, "a job of .github/workflows/ci.yml runs each suite");
}

#[test]
fn what_the_workflows_name_is_there() {
    for (name, text) in workflows() {
        for line in text.lines() {
            let named = line.split_whitespace().filter_map(|word| word.strip_prefix("./").or(Some(word)));
            for word in named.filter(|word| word.starts_with(".ci/") || word.starts_with(".github/")) {
                assert!(repository(word.trim_end_matches([')', '"'])).exists(), "{name}: {word}");
            }
        }
        assert!(text.contains("permissions:\n  contents: read\n"), "{name} says what it may");
    }
}

/// The pinned compiler is one that builds this.
#[test]
fn the_pinned_toolchain_is_recent_enough() {
    let pinned = fs::read_to_string(repository(".ci/toolchain")).unwrap();
    assert!(crate::msrv::is_recent_enough(&format!("rustc {pinned}")), "{pinned}");
}

#[test]
fn the_notes_of_the_next_release_are_written() {
    let notes = |version: &str| progress::output(Command::new(repository(".ci/release-notes")).arg(version)).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let output = notes(version);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.len() > 500 && !text.contains("###"), "{text}");
    assert!(!notes("99.0.0").status.success());
}

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    let output = progress::output(command.args(arguments).current_dir(repository(""))).unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What crates.io demands, and what a reader looks for there.
#[test]
fn every_package_is_fit_to_be_published() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps", "--offline"])).unwrap();
    let mut published = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if package["publish"].as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        published.insert(name);
        for field in ["description", "license", "repository", "readme", "rust_version"] {
            assert!(package[field].as_str().is_some_and(|text| !text.is_empty()), "{name} has no {field}");
        }
        for field in ["keywords", "categories"] {
            let count = package[field].as_array().unwrap().len();
            assert!((1..=5).contains(&count), "{name} has {count} {field}");
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            let has_version = dependency["req"] != "*" || dependency["kind"] == "dev";
            assert!(has_version, "{name} needs a version of {}", dependency["name"]);
        }
        let list = cargo(&["package", "--list", "--offline", "--allow-dirty", "--package", name]);
        for file in ["README.md", "LICENSE-APACHE", "LICENSE-MIT", "src/lib.rs"] {
            assert!(list.lines().any(|line| line == file), "the package {name} has no {file}");
        }
    }
    assert!(published.contains("portcullis-gate") && !published.contains("xtask"), "{published:?}");
}

#[test]
fn commands_are_found_in_a_workflow() {
    let text = "# ./x no\n- run: .ci/run --only a,b\n  cd y && ./x lint | tee z\n";
    assert_eq!(commands(text), [vec!["./x", "test", "--only", "a,b"], vec!["./x", "lint"]]);
}
