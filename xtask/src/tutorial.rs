//! The pages of `examples/` that build a kernel up: what someone has in each file who types them.
//!
//! A block of code goes to the file that the paragraph before it names: "In `src/main.rs`:" to its end, "In `src/main.rs`, in place of
//! `mod a;`:" there. A block that shows `cargo run --release` has what the kernel prints then.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

/// The end of a section of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// What is typed by then.
    pub files: BTreeMap<String, String>,
    /// What the section shows that the kernel prints.
    pub prints: Option<String>,
}

/// Where a block of code goes.
struct Place<'a> {
    file: &'a str,
    /// What it takes the place of.
    old: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn named_by(line: &'a str) -> Option<Place<'a>> {
        let (file, rest) = line.strip_prefix("In `")?.split_once('`')?;
        match rest {
            ":" => Some(Place { file, old: None }),
            _ => Some(Place { file, old: Some(rest.strip_prefix(", in place of `")?.strip_suffix("`:")?) }),
        }
    }

    fn receives(&self, block: &str, files: &mut BTreeMap<String, String>) -> Result<()> {
        let text = files.entry(self.file.to_owned()).or_default();
        let Some(old) = self.old else {
            text.push_str(block);
            return Ok(());
        };
        let lines: Vec<&str> = text.lines().collect();
        let found = lines.iter().filter(|line| **line == old).count();
        ensure!(found == 1, "{} has the line {old:?} {found} times when the page replaces it", self.file);
        *text = lines.iter().map(|line| if *line == old { block.to_owned() } else { format!("{line}\n") }).collect();
        Ok(())
    }
}

/// Types a page, and gives what there is at the end of each section.
pub fn steps(page: &str) -> Result<Vec<Step>> {
    let (mut steps, mut step) = (Vec::new(), Step::default());
    let mut place = None;
    let mut block: Option<String> = None;
    for line in page.lines() {
        match (&mut block, line.starts_with("```")) {
            (None, true) => block = Some(String::new()),
            (Some(text), true) => {
                match place.take() {
                    Some(place) => Place::receives(&place, text, &mut step.files)?,
                    None => step.prints = printed(text).or(step.prints),
                }
                block = None;
            }
            (Some(text), false) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, false) if line.starts_with("## ") => {
                steps.push(step.clone());
                step.prints = None;
            }
            (None, false) if line.is_empty() => {}
            (None, false) => place = Place::named_by(line),
        }
    }
    ensure!(block.is_none(), "the last block of the page has no end");
    steps.push(step);
    Ok(steps)
}

/// What a block of commands shows behind `cargo run --release`.
fn printed(block: &str) -> Option<String> {
    let (command, text) = block.rsplit_once("cargo run --release")?;
    let (_, text) = text.split_once('\n')?;
    (command.rsplit('\n').next()?.starts_with("$ ") && !text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(page: &str) -> Result<Step> {
        steps(page).map(|steps| steps.last().unwrap().clone())
    }

    fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        files.iter().map(|&(file, text)| (file.to_owned(), text.to_owned())).collect()
    }

    #[test]
    fn the_page_is_read_as_it_is_typed() {
        let page = "In `a`:\n\n```rust\n1\n```\n\nIn b:\n\n```text\nno\n```\n\nIn `a`:\n\n```rust\n\n2\n```\n```text\nno\n```\n";
        assert_eq!(end(page).unwrap().files, files(&[("a", "1\n\n2\n")]));
    }

    #[test]
    fn a_line_is_replaced_in_a_later_section() {
        let page = "In `a`:\n\n```rust\n1\n2\n```\n## B\nIn `a`, in place of `1`:\n\n```rust\n3\n4\n```\n";
        let steps = steps(page).unwrap();
        assert_eq!(steps[0].files, files(&[("a", "1\n2\n")]));
        assert_eq!(steps[1].files, files(&[("a", "3\n4\n2\n")]));
        assert_eq!(steps.len(), 2);
    }

    #[test]
    fn what_is_replaced_must_be_there_once() {
        for text in ["2", "1\n1"] {
            let page = format!("In `a`:\n```\n{text}\n```\nIn `a`, in place of `1`:\n```\n3\n```\n");
            assert!(end(&page).is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_kernel_prints_is_behind_the_command() {
        let prints = |page: &str| end(page).unwrap().prints;
        assert_eq!(
            prints("```console\n$ cd a\n$ X=1 cargo run --release --bin b\nc\nd\n```\n"),
            Some("c\nd\n".to_owned())
        );
        assert_eq!(prints("```console\n$ cargo run --release\n```\n"), None);
        assert_eq!(prints("```console\n$ cargo run --release\nc\n```\n## next\n"), None);
    }
}
