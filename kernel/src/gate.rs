//! Where the kernel meets the library: `impl portcullis::Kernel`.
