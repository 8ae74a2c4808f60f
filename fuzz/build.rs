//! Builds what the kernel's code includes, as the kernel's own build script does.

use std::path::Path;

#[path = "../kernel/build.rs"]
#[allow(dead_code)]
mod kernel;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    kernel::build(Path::new("../kernel"));
}
