#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portcullis_kernel::fuzz::run("cpio", bytes));
