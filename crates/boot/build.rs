//! Lets `-Tportcullis-boot.ld` find the linker script: the linker looks for it where it looks for libraries.

fn main() {
    println!("cargo::rerun-if-changed=portcullis-boot.ld");
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo::rustc-link-search=native={folder}");
}
