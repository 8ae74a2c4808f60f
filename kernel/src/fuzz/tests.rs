use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// The inputs that are kept for a target.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Says which input it was, if it does not come to its end.
struct Told<'a>(&'a Path);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input is {}", self.0.display());
        }
    }
}

fn replay(target: &str) {
    let files = corpus(target);
    assert!(!files.is_empty());
    for file in &files {
        let bytes = fs::read(file).expect("it can be read");
        let _told = Told(file);
        run(target, &bytes);
    }
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn each_target_has_its_test_and_its_binary() {
            let names = TARGETS.map(|(name, _)| name);
            assert_eq!(names, [$(stringify!($target)),*]);
            let manifest = include_str!("../../../fuzz/Cargo.toml");
            for name in names {
                assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
            }
        }
    };
}

replays! { elf signal_frame xsave bpf ldt ptrace cpio }
