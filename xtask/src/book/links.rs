//! The links of the repository's Markdown pages: where they are in the text, what they name, and whether that exists.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};

use crate::repository;

/// The repository on its forge.
pub const FORGE: &str = env!("CARGO_PKG_REPOSITORY");

/// One link or picture.
#[derive(Debug)]
pub struct Link {
    /// Where its address is in the page's text.
    pub at: Range<usize>,
    /// The address as the page has it.
    pub address: String,
}

/// A page in Markdown.
pub struct Page {
    /// Its path from the repository's root.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// Its links and pictures.
    pub links: Vec<Link>,
    /// Its headings, as links name them.
    pub anchors: BTreeSet<String>,
}

/// What a link leads to.
#[derive(Debug, PartialEq)]
pub enum Target {
    /// Another place on the net.
    Outside,
    /// An item of the library: rustdoc's way to name one, which rustdoc itself checks.
    Item(String),
    /// A file or folder of the repository, and a heading of it.
    Inside(PathBuf, Option<String>),
}

impl Page {
    /// Reads the page at a path from the repository's root.
    pub fn read(path: &Path) -> Result<Page> {
        let text = fs::read_to_string(repository(path)).with_context(|| format!("cannot read {}", path.display()))?;
        Page::parse(path, text)
    }

    fn parse(path: &Path, text: String) -> Result<Page> {
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        let (mut links, mut anchors) = (Vec::new(), BTreeSet::new());
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(&text, options).into_offset_iter() {
            match event {
                Event::Start(Tag::Link { link_type, dest_url, .. } | Tag::Image { link_type, dest_url, .. }) => {
                    let address = dest_url.into_string();
                    match link_type {
                        LinkType::Inline => {
                            // Behind the text, which may be the same.
                            let offset = text[range.clone()].rfind(&address);
                            let start = range.start
                                + offset.with_context(|| {
                                    format!("{}: the address {address} has characters that are escaped", path.display())
                                })?;
                            links.push(Link { at: start..start + address.len(), address });
                        }
                        LinkType::Autolink | LinkType::Email => {}
                        _ => bail!("{}: {address}: write the address behind the link's text", path.display()),
                    }
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(part) | Event::Code(part) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    let anchor = anchor(&heading.take().unwrap_or_default());
                    let numbered = (1..).map(|number| format!("{anchor}-{number}"));
                    let free = [anchor.clone()].into_iter().chain(numbered).find(|name| !anchors.contains(name));
                    anchors.extend(free);
                }
                _ => {}
            }
        }
        Ok(Page { path: path.to_owned(), text, links, anchors })
    }

    /// What a link of the page leads to.
    pub fn target(&self, address: &str) -> Result<Target> {
        if address.starts_with("crate::") {
            return Ok(Target::Item(address.to_owned()));
        }
        let (address, folder) = match on_the_forge(address) {
            Some(path) => (path, Path::new("")),
            None if address.contains("://") || address.starts_with("mailto:") => return Ok(Target::Outside),
            None => (address, self.path.parent().unwrap_or(Path::new(""))),
        };
        let (path, heading) = match address.split_once('#') {
            Some((path, heading)) => (path, Some(heading.to_owned())),
            None => (address, None),
        };
        let path = if path.is_empty() { self.path.clone() } else { normal(&folder.join(path))? };
        Ok(Target::Inside(path, heading))
    }

    /// The links that lead nowhere.
    pub fn broken(&self) -> Vec<String> {
        let fault = |link: &Link| {
            let reason = self.target(&link.address).and_then(|target| exists(&target)).err()?;
            let line = self.text[..link.at.start].lines().count();
            Some(format!("{}:{line}: {}: {reason:#}", self.path.display(), link.address))
        };
        self.links.iter().filter_map(fault).collect()
    }
}

/// The path of an address of this repository on its forge.
fn on_the_forge(address: &str) -> Option<&str> {
    let rest = address.strip_prefix(FORGE)?;
    ["/blob/main/", "/tree/main/", "/raw/main/"].iter().find_map(|kind| rest.strip_prefix(kind))
}

/// Fails unless what a link leads to is there. Nothing is asked of the net.
fn exists(target: &Target) -> Result<()> {
    let Target::Inside(path, heading) = target else {
        return Ok(());
    };
    ensure!(repository(path).exists(), "there is no {}", path.display());
    if let Some(heading) = heading {
        ensure!(path.extension().is_some_and(|end| end == "md"), "a place in {} that moves", path.display());
        ensure!(Page::read(path)?.anchors.contains(heading), "{} has no heading #{heading}", path.display());
    }
    Ok(())
}

/// How links name a heading: as on GitHub, and in mdBook.
fn anchor(heading: &str) -> String {
    let part = |character: char| match character {
        ' ' => Some('-'),
        _ if character.is_alphanumeric() || "-_".contains(character) => Some(character),
        _ => None,
    };
    heading.to_lowercase().chars().filter_map(part).collect()
}

/// A path without `.` and `..`.
pub fn normal(path: &Path) -> Result<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            _ => ensure!(out.pop(), "{} leaves the repository", path.display()),
        }
    }
    Ok(out)
}

/// The paths of the repository's files that end so, from its root. What is built or fetched is left out.
pub fn files(ending: &str) -> Result<Vec<PathBuf>> {
    let root = repository("");
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type()?.is_dir() {
                if ![".git", ".cache", "target"].iter().any(|left_out| name == *left_out) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|end| end == ending) {
                files.push(path.strip_prefix(&root)?.to_owned());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_headings_are_found_where_they_are() {
        let text = "# A `b` → c!\n\n## Same\n\n## Same\n\n[x.md](x.md#y) ![](p.svg)\n\n| a |\n| - |\n| [q](../r/) |\n\n\
                    ```\n[no](no.md)\n```\n";
        let page = Page::parse(Path::new("pages/page.md"), text.to_owned()).unwrap();
        let addresses: Vec<&str> = page.links.iter().map(|link| &page.text[link.at.clone()]).collect();
        assert_eq!(addresses, ["x.md#y", "p.svg", "../r/"]);
        assert_eq!(page.links[0].at.start, text.find("(x.md").unwrap() + 1);
        assert_eq!(page.anchors.iter().collect::<Vec<_>>(), ["a-b--c", "same", "same-1"]);
        let inside = |path: &str, heading: Option<&str>| Target::Inside(path.into(), heading.map(str::to_owned));
        assert_eq!(page.target("x.md#y").unwrap(), inside("pages/x.md", Some("y")));
        assert_eq!(page.target("#y").unwrap(), inside("pages/page.md", Some("y")));
        assert_eq!(page.target("../r/").unwrap(), inside("r", None));
        assert_eq!(page.target(&format!("{FORGE}/blob/main/pages/x.md")).unwrap(), inside("pages/x.md", None));
        assert_eq!(page.target("https://example.org/x.md").unwrap(), Target::Outside);
        assert!(page.target("../../r").is_err());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_told_with_its_line() {
        let text = "[a](../README.md)\n[b](no.md)\n[c](../README.md#using-it)\n[d](../README.md#no)\n[e](../x#L3)\n";
        let broken = Page::parse(Path::new("pages/page.md"), text.to_owned()).unwrap().broken();
        let lines: Vec<&str> = broken.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        assert_eq!(lines, ["pages/page.md:2", "pages/page.md:4", "pages/page.md:5"], "{broken:#?}");
    }

    #[test]
    fn every_link_of_every_page_leads_somewhere() {
        let pages = files("md").unwrap();
        assert!(pages.contains(&"docs/guards.md".into()) && pages.contains(&".github/pull_request_template.md".into()));
        let broken: Vec<String> = pages.iter().flat_map(|path| Page::read(path).unwrap().broken()).collect();
        assert!(broken.is_empty(), "{broken:#?}");
    }

    /// In comments, help texts and messages.
    #[test]
    fn every_page_that_code_names_is_there() {
        let mut named = 0;
        for path in files("rs").unwrap() {
            let text = fs::read_to_string(repository(&path)).unwrap();
            for (at, _) in text.match_indices("docs/") {
                let rest = &text[at..];
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_./".contains(c)).unwrap_or(rest.len());
                let Some(page) = rest[..end].trim_end_matches('.').strip_suffix(".md") else {
                    continue;
                };
                named += 1;
                assert!(repository(format!("{page}.md")).exists(), "{}: {page}.md", path.display());
            }
        }
        assert!(named > 20, "{named}");
    }
}
