//! Every crate without `std` names this one. Linux brings what of it is needed (`memcpy` and its like), so it is empty.
#![feature(compiler_builtins, no_core)]
#![compiler_builtins]
#![no_core]
#![allow(internal_features)]
