//! The interrupt that raising work owes is not forgotten.
#![deny(unused_must_use)]
use portcullis::work::{ExitWork, WorkFlags};

fn signal(task: &WorkFlags) {
    task.raise(ExitWork::SIGPENDING, || Some(0));
}

fn main() {}
