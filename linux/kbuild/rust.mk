# The Rust object: `core` and the library as metadata with all code in it, the crate as one object that holds what it uses
# of them. No cargo, no panic handler: a panic that could be reached is an undefined symbol when the kernel is linked.

PORTCULLIS_RUSTC ?= /usr/bin/rustc
