//! A copy of the repository, and patches to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What is not copied, and stays in a copy.
const LEFT_OUT: [&str; 3] = ["target", ".cache", ".git"];

/// Makes the folder `to` a copy of `from`. A file that is the same already is not written, so that cargo rebuilds only what
/// depends on one that differs.
pub fn mirror(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (source, name) = (entry.path(), entry.file_name());
        // Editors leave symbolic links to nothing.
        if LEFT_OUT.iter().any(|left_out| name == *left_out) || !source.exists() {
            continue;
        }
        let copy = to.join(&name);
        names.insert(name);
        if source.is_dir() {
            mirror(&source, &copy)?;
        } else if fs::read(&copy).ok() != Some(fs::read(&source)?) {
            fs::copy(&source, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
        }
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if names.contains(&name) || LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Applies a patch to the folder, or with `--check` only says whether it would apply.
pub fn apply(patch: &Path, tree: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new("git")
        .args(["apply", "--whitespace=nowarn"])
        .args(arguments)
        .arg(patch)
        .current_dir(tree)
        // In a folder of another repository git would skip every file.
        .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree))
        // Set where git itself has started this.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .output()
        .context("cannot start git")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_the_original_and_writes_what_differs_only() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        for folder in ["src", "target", "old"] {
            fs::create_dir_all(from.join(folder)).unwrap();
        }
        for file in ["same", "src/changes", "target/built", "old/goes"] {
            fs::write(from.join(file), file).unwrap();
        }
        mirror(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("src/changes")).unwrap(), b"src/changes");
        assert!(!to.join("target").exists());

        let written = || to.join("same").metadata().unwrap().modified().unwrap();
        let before = written();
        fs::create_dir(to.join("target")).unwrap();
        fs::write(to.join("src/changes"), "without a guard").unwrap();
        fs::remove_dir_all(from.join("old")).unwrap();
        mirror(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("src/changes")).unwrap(), b"src/changes");
        assert!(to.join("target").exists() && !to.join("old").exists());
        assert_eq!(written(), before);
    }

    #[test]
    fn a_patch_applies_below_another_repository_or_says_why_not() {
        let scratch = tempfile::tempdir().unwrap();
        let tree = scratch.path().join("target/tree");
        fs::create_dir_all(&tree).unwrap();
        let init = Command::new("git").args(["init", "-q"]).current_dir(scratch.path()).status();
        assert!(init.unwrap().success());
        let patch = scratch.path().join("guard.patch");
        fs::write(&patch, "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-guard\n+\n").unwrap();

        fs::write(tree.join("file"), "guard\n").unwrap();
        apply(&patch, &tree, &["--check"]).unwrap();
        assert_eq!(fs::read(tree.join("file")).unwrap(), b"guard\n");
        apply(&patch, &tree, &[]).unwrap();
        assert_eq!(fs::read(tree.join("file")).unwrap(), b"\n");
        let error = apply(&patch, &tree, &[]).unwrap_err().to_string();
        assert!(error.contains("patch does not apply"), "{error}");
    }
}
