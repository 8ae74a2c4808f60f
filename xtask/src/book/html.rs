//! The links of the built book.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::links::normal;

/// What a page has: the names of its places, and the addresses that it links to or loads.
#[derive(Debug, Default)]
struct Page {
    ids: BTreeSet<String>,
    addresses: Vec<String>,
}

/// The links of all pages of a book that lead nowhere in it. What is outside is not asked.
pub fn broken(book: &Path) -> Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    let mut folders = vec![book.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "html") {
                pages.insert(path.strip_prefix(book)?.to_owned(), read(&fs::read_to_string(&path)?));
            }
        }
    }
    let links: usize = pages.values().map(|page| page.addresses.len()).sum();
    ensure!(pages.len() > 10 && links > 100, "{} pages with {links} links are no book", pages.len());
    let mut faults = Vec::new();
    for (path, page) in &pages {
        // The page for addresses that there are not has its links from the root, and this page of all chapters has each link twice.
        if [Path::new("404.html"), Path::new("print.html")].contains(&path.as_path()) {
            continue;
        }
        for address in &page.addresses {
            if address.contains("://") || address.starts_with("mailto:") || address.starts_with("data:") {
                continue;
            }
            let (to, place) = address.split_once('#').map_or((&address[..], None), |(to, place)| (to, Some(place)));
            let target = target(path, to);
            let found = match &target {
                Some(target) => match (pages.get(target), place) {
                    (Some(page), Some(place)) => place.is_empty() || page.ids.contains(place),
                    (Some(_), None) => true,
                    (None, _) => book.join(target).exists(),
                },
                None => false,
            };
            if !found {
                faults.push(format!("{}: {address} leads nowhere", path.display()));
            }
        }
    }
    Ok(faults)
}

/// The file that an address of the page at `from` names.
fn target(from: &Path, to: &str) -> Option<PathBuf> {
    if to.is_empty() {
        return Some(from.to_owned());
    }
    normal(&from.parent()?.join(to)).ok()
}

/// The attributes `id`, `href` and `src` of a page's elements.
fn read(html: &str) -> Page {
    let mut page = Page::default();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        if rest.starts_with("<!--") {
            rest = &rest[rest.find("-->").unwrap_or(rest.len())..];
            continue;
        }
        let Some(end) = rest.find('>') else {
            break;
        };
        let tag = &rest[..end];
        for (name, value) in attributes(tag) {
            match name {
                "id" => drop(page.ids.insert(value.to_owned())),
                "href" | "src" => page.addresses.push(value.replace("&amp;", "&")),
                _ => {}
            }
        }
        rest = &rest[end..];
        // A script's text is no element.
        if tag.starts_with("<script") {
            rest = &rest[rest.find("</script").unwrap_or(rest.len())..];
        }
    }
    page
}

/// The attributes of a tag whose values are quoted.
fn attributes(tag: &str) -> Vec<(&str, &str)> {
    let mut out = Vec::new();
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once("=\"") {
        let Some((value, more)) = after.split_once('"') else {
            break;
        };
        out.push((before.rsplit(char::is_whitespace).next().unwrap_or(before), value));
        rest = more;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_elements_are_found_and_nothing_in_scripts_and_comments() {
        let page = read(
            "<h1 id=\"a\" class=\"b\"><a class=\"header\" href=\"x.html?a=1&amp;b#c\">t</a></h1><!-- <a href=\"no\"> -->\
             <script src=\"s.js\">if (a < b) { \"<a href=\\\"no\\\">\" }</script><img alt=\"href=\" src=\"p.svg\">",
        );
        assert_eq!(page.ids.iter().collect::<Vec<_>>(), ["a"]);
        assert_eq!(page.addresses, ["x.html?a=1&b#c", "s.js", "p.svg"]);
        assert_eq!(target(Path::new("docs/a.html"), "../index.html"), Some("index.html".into()));
        assert_eq!(target(Path::new("docs/a.html"), ""), Some("docs/a.html".into()));
        assert_eq!(target(Path::new("a.html"), "../b.html"), None);
    }

    #[test]
    fn what_leads_nowhere_is_told() {
        let book = tempfile::tempdir().unwrap();
        let links = "<a href=\"p0.html#here\">".repeat(10);
        for page in 0..12 {
            fs::write(book.path().join(format!("p{page}.html")), format!("<p id=\"here\">{links}")).unwrap();
        }
        assert_eq!(broken(book.path()).unwrap(), Vec::<String>::new());
        let faulty =
            "<a href=\"p0.html#no\"><a href=\"no.html\"><a href=\"../p0.html\"><a href=\"https://no.example\">";
        fs::write(book.path().join("q.html"), faulty).unwrap();
        assert_eq!(broken(book.path()).unwrap().len(), 3);
    }
}
