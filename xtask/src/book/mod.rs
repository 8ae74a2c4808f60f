//! `./x doc --book`: the repository's pages as one book. docs/SUMMARY.md lists the chapters, which are where a forge shows them;
//! here they are copied with links that hold in a book, and mdBook makes HTML of that.
//!
//! | what | file |
//! | --- | --- |
//! | links of the pages, whether they lead somewhere | [`links`] |
//! | links of the HTML | [`html`] |
//! | the pictures that are drawn from the code | [`pictures`], [`svg`] |

mod html;
mod links;
mod pictures;
mod svg;

pub use pictures::write as draw_pictures;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::suite::Private;
use crate::{progress, repository};
use links::{FORGE, Page, Target};

/// The list of chapters.
const SUMMARY: &str = "docs/SUMMARY.md";

/// Where the book is left.
const BOOK: &str = "target/book";

/// Where an item of the library is looked up.
const ITEMS: &str = "https://docs.rs/portcullis-gate/latest/portcullis/?search=";

/// mdBook 0.5. What Debian 13 has, 0.4.48, lacks the script of the pages.
const MDBOOK: Private = Private {
    name: "mdbook",
    releases: &["forky", "sid"],
    packages: &["mdbook"],
    download: "20 MB",
    unpacked: "50 MB",
    program: "usr/bin/mdbook",
};

/// The book's first page.
pub fn first_page() -> PathBuf {
    repository(BOOK).join("index.html")
}

/// Builds the book.
fn build() -> Result<()> {
    let mdbook = MDBOOK.unpack().context("mdBook cannot be had. Look at the network and at apt's sources")?;
    // Its icons are files of its packages.
    let (source, book) = (mdbook.root().join("source"), mdbook.root().join("book"));
    for old in [&source, &book] {
        remove(old)?;
    }
    stage(&source)?;
    let mut command = mdbook.inside();
    command.args(["build", "/source", "--dest-dir", "/book"]);
    let output = progress::output(&mut command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mdBook failed ({}):\n{said}", output.status);
    ensure!(!said.contains("WARN") && !said.contains("ERROR"), "mdBook warns:\n{said}");
    let place = repository(BOOK);
    remove(&place)?;
    fs::create_dir_all(repository("target"))?;
    fs::rename(&book, &place).with_context(|| format!("cannot move the book to {}", place.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match folder.exists() {
        true => fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display())),
        false => Ok(()),
    }
}

/// Checks the links of all pages, builds the book, and checks its links.
pub fn check() -> Result<bool> {
    let mut faults = Vec::new();
    for path in links::files("md")? {
        faults.extend(Page::read(&path)?.broken());
    }
    build()?;
    faults.extend(html::broken(&repository(BOOK))?);
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    Ok(faults.is_empty())
}

/// Makes mdBook's input in a folder.
fn stage(source: &Path) -> Result<()> {
    let copy = |from: &Path, to: &Path| -> Result<()> {
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        fs::copy(repository(from), to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    };
    for file in ["book.toml", "book.css"] {
        copy(&Path::new("docs").join(file), &source.join(file))?;
    }
    // The pages of Debian's mdBook load this, and it brings no fonts: the reader's own are used.
    let fonts = source.join("src/fonts");
    fs::create_dir_all(&fonts)?;
    fs::write(fonts.join("fonts.css"), "")?;
    let summary = Page::read(Path::new(SUMMARY))?;
    let mut book = Book { chapters: chapters(&summary)?, pictures: BTreeSet::new() };
    let write = |path: &Path, text: String| -> Result<()> {
        let path = source.join("src").join(path);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        Ok(fs::write(path, text)?)
    };
    write(Path::new("SUMMARY.md"), book.rewrite(&summary, Path::new("SUMMARY.md"))?)?;
    for path in book.chapters.clone() {
        let place = place(&path);
        write(&place, book.rewrite(&Page::read(&path)?, &place)?)?;
    }
    book.pictures.iter().try_for_each(|path| copy(path, &source.join("src").join(path)))
}

/// The pages that the summary names, by their paths from the repository's root.
fn chapters(summary: &Page) -> Result<BTreeSet<PathBuf>> {
    let chapter = |link: &links::Link| match summary.target(&link.address)? {
        Target::Inside(path, None) => Ok(path),
        target => Err(anyhow::anyhow!("{SUMMARY}: {target:?} is no chapter")),
    };
    summary.links.iter().map(chapter).collect()
}

/// A chapter's file in the book: mdBook calls the page of a folder `index`.
fn place(path: &Path) -> PathBuf {
    if path.file_name().is_some_and(|name| name == "README.md") {
        path.with_file_name("index.md")
    } else {
        path.to_owned()
    }
}

/// What is in the book.
struct Book {
    chapters: BTreeSet<PathBuf>,
    /// Pictures that the chapters show.
    pictures: BTreeSet<PathBuf>,
}

impl Book {
    /// A page's text with links that hold when it is at `place` in the book: to chapters and pictures in the book, to the forge for
    /// other files of the repository, to the library's documentation for its items.
    fn rewrite(&mut self, page: &Page, place: &Path) -> Result<String> {
        let mut text = page.text.clone();
        for link in page.links.iter().rev() {
            if let Some(address) = self.address(&page.target(&link.address)?, place)? {
                text.replace_range(link.at.clone(), &address);
            }
        }
        Ok(text)
    }

    /// The address of a target in a page at `place`; `None` if it stays as it is.
    fn address(&mut self, target: &Target, place: &Path) -> Result<Option<String>> {
        let (path, heading) = match target {
            Target::Outside => return Ok(None),
            Target::Item(path) => return Ok(Some(format!("{ITEMS}{}", path.trim_start_matches("crate::")))),
            Target::Inside(path, heading) => (path, heading),
        };
        let is_picture = path.extension().is_some_and(|end| end == "svg");
        let address = if self.chapters.contains(path) {
            relative(place, &self::place(path))
        } else if is_picture {
            self.pictures.insert(path.clone());
            relative(place, path)
        } else {
            let kind = if repository(path).is_dir() { "tree" } else { "blob" };
            format!("{FORGE}/{kind}/main/{}", path.display())
        };
        Ok(Some(heading.iter().fold(address, |address, heading| format!("{address}#{heading}"))))
    }
}

/// The path to `to` from the folder of `from`.
fn relative(from: &Path, to: &Path) -> String {
    let up = from.components().count() - 1;
    format!("{}{}", "../".repeat(up), to.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_of_docs_is_a_chapter_once() {
        let summary = Page::read(Path::new(SUMMARY)).unwrap();
        let chapters = chapters(&summary).unwrap();
        assert_eq!(chapters.len(), summary.links.len(), "a chapter twice");
        let missing: Vec<PathBuf> = links::files("md")
            .unwrap()
            .into_iter()
            .filter(|path| path.starts_with("docs") && path != Path::new(SUMMARY) && !chapters.contains(path))
            .collect();
        assert!(missing.is_empty(), "{SUMMARY} lacks {missing:?}");
    }

    #[test]
    fn links_hold_in_the_book() {
        let mut book = Book { chapters: ["README.md".into(), "pages/a.md".into()].into(), pictures: BTreeSet::new() };
        let mut address = |target: Target, place: &str| book.address(&target, Path::new(place)).unwrap().unwrap();
        let inside = |path: &str, heading: Option<&str>| Target::Inside(path.into(), heading.map(str::to_owned));
        assert_eq!(address(inside("README.md", Some("x")), "pages/a.md"), "../index.md#x");
        assert_eq!(address(inside("pages/a.md", None), "index.md"), "pages/a.md");
        assert_eq!(address(inside("bench/results.svg", None), "pages/a.md"), "../bench/results.svg");
        assert_eq!(address(inside("x", None), "pages/a.md"), format!("{FORGE}/blob/main/x"));
        assert_eq!(address(inside("kernel", None), "pages/a.md"), format!("{FORGE}/tree/main/kernel"));
        assert_eq!(address(Target::Item("crate::work::X".to_owned()), "pages/a.md"), format!("{ITEMS}work::X"));
        assert_eq!(book.pictures.len(), 1);
    }
}
