//! Writes the bootloader to the file that is named.
fn main() {
    let file = std::env::args_os().nth(1).expect("a file");
    std::fs::write(&file, include_bytes!(env!("CARGO_BIN_FILE_BOOTLOADER_X86_64_UEFI")))
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}
