//! The oldest Rust that builds this repository: `rust-version` in the root's Cargo.toml, which `./x` reads, too.

/// Its version: `1.N`.
pub const MSRV: &str = env!("CARGO_PKG_RUST_VERSION");

/// Whether what `rustc --version` printed is a compiler that is new enough.
pub fn is_recent_enough(printed: &str) -> bool {
    let oldest = numbers(MSRV).expect("Cargo.toml has a version");
    printed.strip_prefix("rustc ").and_then(numbers).is_some_and(|version| version >= oldest)
}

/// The 1 and the 94 of `1.94.0 (…)`.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.trim_end().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::{lint, repository};

    /// The values of the lines `key = "…"` of a Cargo.toml.
    fn values(manifest: &Path, key: &str) -> Vec<String> {
        let text = fs::read_to_string(manifest).unwrap();
        text.lines()
            .filter_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='))
            .map(|value| value.trim().trim_matches('"').to_owned())
            .collect()
    }

    #[test]
    fn reads_the_version_of_rustc() {
        let (major, minor) = numbers(MSRV).unwrap();
        for (printed, new_enough) in [
            (format!("rustc {major}.{minor}.0 (ac68faa20 2026-05-25) (built from a source tarball)"), true),
            (format!("rustc {major}.{}.0-nightly (ac68faa20 2026-05-25)", minor + 1), true),
            (format!("rustc {}.0.0", major + 1), true),
            (format!("rustc {major}.{}.2 (90b35a623 2026-01-01)", minor - 1), false),
            ("rustc 1.9.0".to_owned(), false),
            ("error: no default toolchain".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(is_recent_enough(&printed), new_enough, "{printed}");
        }
    }

    #[test]
    fn every_manifest_names_the_same_version() {
        for folder in lint::WORKSPACES.iter().map(|workspace| workspace.1).chain(["templates/preemptive"]) {
            assert_eq!(values(&repository(folder).join("Cargo.toml"), "rust-version"), [MSRV], "{folder}");
        }
        for manifest in ["portcullis/Cargo.toml", "xtask/Cargo.toml"] {
            assert_eq!(values(&repository(manifest), "rust-version.workspace"), ["true"], "{manifest}");
        }
    }

    /// Nothing else states a number that could be forgotten when it changes.
    #[test]
    fn no_other_text_states_a_version() {
        let names_a_rust = |line: &str| ["Rust 1.", "rustc 1.", "rustc-web 1."].iter().any(|name| line.contains(name));
        for file in ["x", "README.md", "ARCHITECTURE.md", "linux/README.md", "xtask/src/toolchain.rs"] {
            let text = fs::read_to_string(repository(file)).unwrap();
            let stated: Vec<&str> = text.lines().filter(|line| names_a_rust(line)).collect();
            assert!(stated.is_empty(), "{file}: {stated:?}");
        }
    }

    /// `./x` says what is wrong with an old compiler before cargo is asked to build anything.
    #[test]
    fn the_script_refuses_an_older_compiler() {
        let scratch = tempfile::tempdir().unwrap();
        for (name, script) in [
            ("rustc", "echo 'rustc 1.93.1 (01f6ddf75 2026-02-11)'"),
            ("cargo", "echo building; exit 1"),
            ("cc", "exit 0"),
        ] {
            let program = scratch.path().join(name);
            fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:/usr/bin:/bin", scratch.path().display());
        let output = std::process::Command::new(repository("x"))
            .args(["test", "--list"])
            .env("PATH", path)
            .env_remove("RUSTC")
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(errors.contains("1.93.1") && errors.contains(&format!("needs Rust {MSRV}")), "{errors}");
        assert!(!errors.contains("building"), "{errors}");
    }
}
