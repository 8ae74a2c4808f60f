//! Which file imports which, held against the layers that ARCHITECTURE.md draws: imports go down or stay in their layer, and
//! files import each other in no circle that the page does not name.
//!
//! A block of that page whose info string is `layers FOLDER` lists the top-level modules of `FOLDER`, upper layers first; what
//! follows a `#` explains. A path is an import wherever it stands: in a `use`, in an expression, inside a macro. What is
//! there for tests only (`#[cfg(test)]`, `#[cfg(any(test, fuzzing))]`) is looked over: a test may import what it needs.
//!
//! In a block a line `= FILE FILE …` names a circle: files of one folder, eight at most.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::{repository, sources as rust_files};

/// The page with the layers.
const PAGE: &str = "ARCHITECTURE.md";
/// How many files of one folder may import each other in a circle.
const ROOM: usize = 8;

/// A module's path from the root of its crate.
type Module = Vec<String>;

/// One crate's files and what they import.
struct Sources {
    folder: String,
    /// Each module's file, from `folder`.
    files: BTreeMap<Module, PathBuf>,
    /// The file of each macro by example: an exported one is named as if it stood at the root.
    macros: BTreeMap<String, Module>,
    /// From, to: the line of the first such import.
    imports: BTreeMap<(Module, Module), usize>,
}

/// What the page says of a folder.
struct Map {
    folder: String,
    /// The modules of each layer, upper ones first.
    layers: Vec<Vec<String>>,
    /// The files of each circle.
    circles: Vec<BTreeSet<PathBuf>>,
}

/// What is wrong with a folder's imports.
#[derive(Default)]
struct Faults {
    /// Modules without a layer, layers without a module.
    names: Vec<String>,
    up: Vec<String>,
    circles: Vec<String>,
}

/// Checks the layers of all crates that the page draws, and prints what was looked at.
pub fn check() -> Result<bool> {
    let page = fs::read_to_string(repository(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let maps = layers(&page)?;
    ensure!(!maps.is_empty(), "{PAGE} has no block `layers FOLDER`");
    let mut sound = true;
    for map in maps {
        let sources = Sources::read(&map.folder)?;
        let faults = sources.faults(&map);
        let all = [&faults.names, &faults.up, &faults.circles];
        all.into_iter().flatten().for_each(|fault| eprintln!("{fault}"));
        eprintln!(
            "x: {}: {} files, {} imports; {} go up, {} circles",
            map.folder,
            sources.files.len(),
            sources.imports.len(),
            faults.up.len(),
            sources.circles().len()
        );
        sound &= all.into_iter().all(Vec::is_empty);
    }
    Ok(sound)
}

/// What the page says.
fn layers(page: &str) -> Result<Vec<Map>> {
    let mut maps = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```layers ") else {
            continue;
        };
        let folder = info.trim();
        ensure!(!folder.contains(char::is_whitespace), "`layers {folder}` says more than a folder");
        let (mut layers, mut circles) = (Vec::new(), Vec::new());
        loop {
            let line = lines.next().with_context(|| format!("the layers of {folder} have no end"))?;
            if line == "```" {
                break;
            }
            let names = line.split('#').next().unwrap_or_default();
            match names.strip_prefix('=') {
                Some(files) => circles.push(files.split_whitespace().map(PathBuf::from).collect()),
                None => layers.push(names.split_whitespace().map(str::to_owned).collect()),
            }
        }
        maps.push(Map { folder: folder.to_owned(), layers, circles });
    }
    Ok(maps)
}

impl Sources {
    fn read(folder: &str) -> Result<Sources> {
        let root = repository(folder);
        let mut sources = Sources {
            folder: folder.to_owned(),
            files: BTreeMap::new(),
            macros: BTreeMap::new(),
            imports: BTreeMap::new(),
        };
        let mut texts = BTreeMap::new();
        for path in rust_files(folder)? {
            let relative = path.strip_prefix(&root)?.to_owned();
            let module = module_of(&relative);
            texts.insert(module.clone(), fs::read_to_string(&path)?);
            sources.files.insert(module, relative);
        }
        sources.add_all(&texts)?;
        Ok(sources)
    }

    /// Adds what the files, whose texts these are, import, and forgets those that are for tests only.
    fn add_all(&mut self, texts: &BTreeMap<Module, String>) -> Result<()> {
        let mut code = BTreeMap::new();
        let mut tests = Vec::new();
        for (module, text) in texts {
            let tokens =
                TokenStream::from_str(text).map_err(|error| anyhow::anyhow!("{}: {error}", self.show(module)))?;
            code.insert(module, without_tests(tokens, module, &mut tests));
        }
        let is_test = |module: &Module| tests.iter().any(|test| module.starts_with(test));
        self.files.retain(|module, _| !is_test(module));
        for (module, text) in texts {
            let names = text.split("macro_rules! ").skip(1).filter_map(|text| text.split([' ', '{']).next());
            self.macros.extend(names.map(|name| (name.to_owned(), module.clone())));
        }
        for (module, tokens) in code.into_iter().filter(|(module, _)| !is_test(module)) {
            self.add(module, &tokens);
        }
        Ok(())
    }

    /// Adds what `module`, whose code this is, imports.
    fn add(&mut self, module: &Module, tokens: &[TokenTree]) {
        let mut paths =
            Paths { module, files: &self.files, macros: &self.macros, names: BTreeMap::new(), found: Vec::new() };
        // Twice: a name may be used above its import.
        for _ in 0..2 {
            paths.found.clear();
            paths.walk(module, tokens);
        }
        for (to, line) in paths.found {
            self.imports.entry((module.clone(), to)).or_insert(line);
        }
    }

    fn faults(&self, map: &Map) -> Faults {
        let layers = &map.layers;
        let mut faults = Faults::default();
        let layer = |name: &str| layers.iter().position(|layer| layer.iter().any(|other| other == name));
        let tops: BTreeSet<&String> = self.files.keys().filter_map(|module| module.first()).collect();
        for name in &tops {
            if layer(name).is_none() {
                faults.names.push(format!("{}/{name} is in no layer of {PAGE}", self.folder));
            }
        }
        for name in layers.iter().flatten().filter(|name| !tops.contains(name)) {
            faults.names.push(format!("{PAGE} has a layer for {}/{name}, which does not exist", self.folder));
        }
        for ((from, to), line) in &self.imports {
            let Some(from_layer) = from.first().and_then(|name| layer(name)) else {
                continue;
            };
            // The root of the crate stands above all.
            let up = to.first().is_none_or(|name| layer(name).is_some_and(|to_layer| to_layer < from_layer));
            if up {
                faults.up.push(format!("{}:{line} imports {}, which is above it", self.show(from), self.show(to)));
            }
        }
        let circles = self.circles();
        for circle in &circles {
            let files: BTreeSet<_> = circle.iter().map(|module| self.files[*module].clone()).collect();
            let room: BTreeSet<_> = files.iter().map(|file| file.parent()).collect();
            if !map.circles.contains(&files) || files.len() > ROOM || room.len() > 1 {
                let within = |module: &Module| circle.contains(&module);
                let imports: Vec<_> = (self.imports.iter())
                    .filter(|((from, to), _)| within(from) && within(to))
                    .map(|((from, to), line)| format!("\n  {}:{line} imports {}", self.show(from), self.show(to)))
                    .collect();
                let fault = format!("{} files import each other in a circle:{}", circle.len(), imports.concat());
                faults.circles.push(fault);
            }
        }
        for named in &map.circles {
            if !circles.iter().any(|circle| circle.iter().all(|module| named.contains(&self.files[*module]))) {
                faults.names.push(format!("{PAGE} names a circle in {} that is none: {named:?}", self.folder));
            }
        }
        faults
    }

    /// Files that import each other, directly or not.
    fn circles(&self) -> Vec<Vec<&Module>> {
        let graph: DiGraphMap<&Module, ()> = self.imports.keys().map(|(from, to)| (from, to)).collect();
        tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1).collect()
    }

    fn show(&self, module: &Module) -> String {
        format!("{}/{}", self.folder, self.files[module].display())
    }
}

/// The module that a file is.
fn module_of(relative: &Path) -> Module {
    let mut module: Module =
        relative.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// What stands before an item that is there for tests only, or for fuzz targets too.
const FOR_TESTS: [&str; 2] = ["[cfg(test)]", "[cfg(any(test,fuzzing))]"];

/// The code of `module` without its items for tests only. Files among these are added to `tests`, by their modules.
fn without_tests(code: TokenStream, module: &Module, tests: &mut Vec<Module>) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = code.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_for_tests = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#')
            && tokens.peek().is_some_and(|next| FOR_TESTS.contains(&&*next.to_string().replace(' ', "")));
        if !is_for_tests {
            kept.push(token);
            continue;
        }
        tokens.next();
        let mut item = Vec::new();
        for token in tokens.by_ref() {
            let is_import = matches!(item.first(), Some(TokenTree::Ident(word)) if word == "use");
            let ends = match &token {
                TokenTree::Punct(punct) => punct.as_char() == ';',
                TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && !is_import,
                _ => false,
            };
            item.push(token);
            if ends {
                break;
            }
        }
        let words: Vec<String> = item.iter().map(TokenTree::to_string).collect();
        if let [.., word, name, end] = &words[..]
            && word == "mod"
            && end == ";"
        {
            tests.push([module.as_slice(), std::slice::from_ref(name)].concat());
        }
    }
    kept
}

/// Finds the paths in one file.
struct Paths<'a> {
    module: &'a Module,
    files: &'a BTreeMap<Module, PathBuf>,
    macros: &'a BTreeMap<String, Module>,
    /// What `use` has brought into scope.
    names: BTreeMap<String, Module>,
    found: Vec<(Module, usize)>,
}

impl Paths<'_> {
    /// `module`: where the tokens stand, which may be a module inside the file.
    fn walk(&mut self, module: &Module, tokens: &[TokenTree]) {
        let mut n = 0;
        while n < tokens.len() {
            match &tokens[n] {
                TokenTree::Ident(word) if word == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (tokens.get(n + 1), tokens.get(n + 2))
                    {
                        let mut inner = module.clone();
                        inner.push(name.to_string());
                        self.walk(&inner, &body.stream().into_iter().collect::<Vec<_>>());
                        n += 2;
                    } else {
                        n += 1;
                    }
                }
                TokenTree::Ident(word) if !is_tail(tokens, n) => {
                    let line = word.span().start().line;
                    if let Some(start) = self.start(module, &word.to_string(), is_path(tokens, n + 1)) {
                        n = self.path(start, tokens, n + 1, line);
                        continue;
                    }
                }
                TokenTree::Group(group) => self.walk(module, &group.stream().into_iter().collect::<Vec<_>>()),
                _ => {}
            }
            n += 1;
        }
    }

    /// Where a path that begins with this word begins, if that is in this crate.
    fn start(&self, module: &Module, word: &str, goes_on: bool) -> Option<Module> {
        match word {
            _ if !goes_on => None,
            "crate" => Some(Module::new()),
            "self" => Some(module.clone()),
            "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
            _ => {
                let child = [module.as_slice(), &[word.to_owned()]].concat();
                self.files.contains_key(&child).then_some(child).or_else(|| self.names.get(word).cloned())
            }
        }
    }

    /// Follows a path from `at` on, and gives where it ends.
    fn path(&mut self, mut at: Module, tokens: &[TokenTree], mut n: usize, line: usize) -> usize {
        while is_path(tokens, n) {
            match tokens.get(n + 2) {
                Some(TokenTree::Ident(word)) if word == "super" => {
                    at.pop();
                }
                Some(TokenTree::Ident(word)) if word == "self" => {}
                Some(TokenTree::Ident(word)) => at.push(word.to_string()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    for part in inner.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ','))
                    {
                        if let Some(TokenTree::Ident(word)) = part.first() {
                            let mut to = at.clone();
                            if word != "self" {
                                to.push(word.to_string());
                            }
                            self.path(to, part, 1, word.span().start().line);
                        }
                    }
                    return n + 3;
                }
                // A glob, or a type's arguments.
                _ => break,
            }
            n += 3;
        }
        let alias = match (tokens.get(n), tokens.get(n + 1)) {
            (Some(TokenTree::Ident(word)), Some(TokenTree::Ident(alias))) if word == "as" => Some(alias.to_string()),
            _ => at.last().cloned(),
        };
        let mut file = at.clone();
        while !self.files.contains_key(&file) && file.pop().is_some() {}
        if let ([], Some(definer)) = (file.as_slice(), at.first().and_then(|name| self.macros.get(name))) {
            file.clone_from(definer);
        }
        self.names.extend(alias.filter(|_| file == at).map(|alias| (alias, at)));
        if self.files.contains_key(&file) && file != *self.module {
            self.found.push((file, line));
        }
        n
    }
}

/// Whether `::` stands at `n`.
fn is_path(tokens: &[TokenTree], n: usize) -> bool {
    let colon = |n: usize| matches!(tokens.get(n), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(n) && colon(n + 1)
}

/// Whether the word at `n` belongs to a path or expression that has begun before it.
fn is_tail(tokens: &[TokenTree], n: usize) -> bool {
    let before = |back: usize| n.checked_sub(back).and_then(|n| tokens.get(n));
    let is = |token: Option<&TokenTree>, with: char| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == with);
    // Two dots are a range, and what stands behind them begins.
    is(before(1), '.') && !is(before(2), '.') || is(before(1), ':') && is(before(2), ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults of a crate with these files, each a name and its text.
    fn faults(files: &[(&str, &str)], map: &str) -> Vec<String> {
        let mut sources =
            Sources { folder: "c".into(), files: BTreeMap::new(), macros: BTreeMap::new(), imports: BTreeMap::new() };
        for (name, _) in files {
            sources.files.insert(module_of(Path::new(name)), PathBuf::from(name));
        }
        let texts = files.iter().map(|(name, text)| (module_of(Path::new(name)), (*text).to_owned())).collect();
        sources.add_all(&texts).expect("it is Rust");
        let page = format!("```layers c\n{map}\n```\n");
        let maps = layers(&page).expect("a map");
        let faults = sources.faults(&maps[0]);
        faults.names.into_iter().chain(faults.up).chain(faults.circles).collect()
    }

    #[test]
    fn downward_imports_are_no_fault() {
        let files = [("lib.rs", "mod top; mod low;"), ("top.rs", "use crate::low::X;"), ("low.rs", "pub struct X;")];
        assert_eq!(faults(&files, "top  # says it\nlow"), Vec::<String>::new());
    }

    #[test]
    fn an_upward_import_is_found_wherever_it_stands() {
        for text in [
            "use crate::top::X;",
            "use crate::{low::Z, top::{X, Y}};",
            "fn f() { crate::top::x(); }",
            "fn f() { println!(\"{}\", super::top::x()); }",
            "mod inner { use super::super::top; }",
            "use crate::top as t; fn f() { t::x(); }",
            "const ALL: Range<u64> = 0..super::top::END;",
        ] {
            let files = [("lib.rs", ""), ("top.rs", ""), ("low.rs", text)];
            assert_eq!(faults(&files, "top\nlow"), ["c/low.rs:1 imports c/top.rs, which is above it"], "{text}");
        }
    }

    #[test]
    fn comments_and_other_crates_are_no_imports() {
        let text = "/// [`crate::top::X`]\nuse std::top::X; fn f(top: T) { top.x(); x::top::y(); }";
        assert_eq!(faults(&[("top.rs", ""), ("low.rs", text)], "top\nlow"), Vec::<String>::new());
    }

    #[test]
    fn what_is_for_tests_only_is_looked_over() {
        let files = [
            ("lib.rs", "#[cfg(test)] mod bench { use crate::low; }"),
            ("top.rs", "#[cfg(test)] mod inner { use crate::top; } pub struct X;"),
            ("low.rs", "#[cfg(test)] use crate::top::{X, Y}; #[cfg(test)] pub mod tests; fn f() {}"),
            ("low/tests.rs", "use crate::top::X; mod deeper;"),
            ("low/tests/deeper.rs", "use crate::top::X;"),
        ];
        assert_eq!(faults(&files, "top\nlow"), Vec::<String>::new());
        // The item behind it is no test's, and neither is what has another condition.
        for text in
            ["#[cfg(test)] use std::mem; use crate::top::X;", "#[cfg(not(test))] use crate::top::X;", "mod tests;"]
        {
            let files = [("lib.rs", ""), ("top.rs", ""), ("low.rs", text), ("low/tests.rs", "use crate::top::X;")];
            assert_eq!(faults(&files, "top\nlow").len(), if text == "mod tests;" { 1 } else { 2 }, "{text}");
        }
    }

    #[test]
    fn a_name_in_scope_leads_on() {
        let files = [("low.rs", "use crate::top; fn f() { top::part::x(); }"), ("top/mod.rs", ""), ("top/part.rs", "")];
        assert_eq!(faults(&files, "top\nlow").len(), 2);
    }

    #[test]
    fn a_circle_is_found_unless_it_is_named_and_one_small_room() {
        let circle = [("a.rs", "use crate::b::X;"), ("b.rs", "use crate::c::X;"), ("c.rs", "use crate::a::X;")];
        assert_eq!(faults(&circle, "a b c").len(), 1);
        assert_eq!(faults(&circle, "a b c\n= c.rs a.rs b.rs # they belong together"), Vec::<String>::new());
        assert_eq!(faults(&circle, "a b c\n= a.rs b.rs").len(), 2, "another circle is named");
        assert_eq!(faults(&circle[..2], "a b\n= a.rs b.rs").len(), 1, "it is none");
        let rooms =
            [("a/x.rs", "use crate::b::y;"), ("b/y.rs", "use crate::a::x::X;"), ("a/mod.rs", ""), ("b/mod.rs", "")];
        assert_eq!(faults(&rooms, "a b\n= a/x.rs b/y.rs").len(), 1);
        let names: Vec<String> = (0..9).map(|n| format!("r/f{n}.rs")).collect();
        let texts: Vec<String> = (0..9).map(|n| format!("use super::f{};", (n + 1) % 9)).collect();
        let nine: Vec<_> = names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(faults(&nine, &format!("r\n= {}", names.join(" "))).len(), 1);
    }

    #[test]
    fn the_map_must_name_each_module() {
        assert_eq!(faults(&[("a.rs", "")], "b").len(), 2);
        assert!(layers("```layers c\na\n").is_err());
        assert!(layers("```layers c down=1\n```\n").is_err());
    }

    #[test]
    fn nobody_imports_the_root() {
        assert_eq!(faults(&[("lib.rs", ""), ("a.rs", "use crate::X;")], "a").len(), 1);
    }
}
