//! Cargo, run by a test: the library is built once more, and what the compiler leaves is looked at.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Runs `cargo COMMAND` on this package with a target directory of the test's own, `name`, and with `rustc_arguments` for the
/// compiler or rustdoc. Gives that directory.
///
/// Where things are is asked for when the test runs: a copied checkout must test itself.
pub fn cargo(command: &[&str], name: &str, rustc_arguments: &[&str]) -> PathBuf {
    let variable = |name| PathBuf::from(env::var_os(name).expect("cargo runs the tests"));
    let target = env::current_exe().expect("a test has a path").with_file_name(name);
    let output = Command::new(variable("CARGO"))
        .args(command)
        .args(["--quiet", "--package", "portcullis-gate", "--manifest-path"])
        .arg(variable("CARGO_MANIFEST_DIR").join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .arg("--")
        .args(rustc_arguments)
        // Unstable options of rustdoc's may be among them.
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target
}
