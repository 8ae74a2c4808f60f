//! What a program of the host reads beside its libraries: the files of its Debian packages (its standard library, its data,
//! the programs that it starts), or of the directory that a program outside of packages keeps beside itself.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{progress, setup};

/// How many bytes of such files come along at most.
const LIMIT: u64 = 400 << 20;

/// Directories whose files no program needs to run.
const DOCUMENTATION: [&str; 11] = [
    "/usr/share/doc",
    "/usr/share/doc-base",
    "/usr/share/man",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/lintian",
    "/usr/share/bug",
    "/usr/share/menu",
    "/usr/share/applications",
    "/usr/lib/debug",
    "/var",
];

/// The C library's own package: of it the libraries come along as each program's, and more of it no program needs here.
const LIBC: &str = "libc6";

/// Files that come along with a program.
#[derive(Debug, Default)]
pub struct Companions {
    /// The files, links and directories, each at its place on the host. Directories come without their contents.
    pub files: Vec<PathBuf>,
    /// How large they are.
    pub bytes: u64,
    /// What a user has to add, if something was left out.
    pub advice: Option<String>,
}

/// The companions of the dynamically linked program or script whose path is `program`, a link perhaps, and whose file is
/// `real`.
pub fn companions(program: &Path, real: &Path) -> Result<Companions> {
    let found = if setup::in_path("dpkg-query") { owners(&[program, real])? } else { Vec::new() };
    if found.is_empty() {
        return Ok(beside(real));
    }
    let database = Database::read()?;
    let chosen = database.closure(&found);
    let paths = listed(&chosen)?;
    let bytes = paths
        .iter()
        .filter_map(|path| fs::symlink_metadata(path).ok())
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum();
    if bytes > LIMIT {
        return Ok(Companions {
            advice: Some(format!(
                "only its libraries came along: its packages ({}, …) have {} MB of files, more than {} MB. Add what it \
                 reads with --with; `dpkg -L PACKAGE` lists it",
                found.join(", "),
                bytes >> 20,
                LIMIT >> 20
            )),
            ..Companions::default()
        });
    }
    Ok(Companions { files: paths, bytes, advice: None })
}

/// For PREFIX/bin/NAME of no package: PREFIX/lib/NAME, if it is there, as interpreters have it.
fn beside(real: &Path) -> Companions {
    let directory = || {
        let (name, bin) = (real.file_name()?, real.parent()?);
        let prefix = bin.parent().filter(|_| bin.ends_with("bin"))?;
        Some((prefix.join("lib"), name))
    };
    let Some((library, name)) = directory() else {
        return Companions::default();
    };
    let mut companions = Companions::default();
    let own = library.join(name);
    if own.is_dir() {
        add_tree(&own, &mut companions);
    }
    if companions.bytes > LIMIT {
        companions = Companions::default();
    }
    if companions.files.is_empty() && library.is_dir() {
        companions.advice = Some(format!(
            "it is of no Debian package, so only its libraries came along. If it reads other files, add them with --with: \
             perhaps some of {}",
            library.display()
        ));
    }
    companions
}

fn add_tree(directory: &Path, companions: &mut Companions) {
    companions.files.push(directory.to_owned());
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => add_tree(&entry.path(), companions),
            Ok(kind) => {
                if kind.is_file() {
                    companions.bytes += entry.metadata().map_or(0, |metadata| metadata.len());
                }
                companions.files.push(entry.path());
            }
            Err(_) => {}
        }
    }
}

/// The packages that own any of `paths`.
fn owners(paths: &[&Path]) -> Result<Vec<String>> {
    let mut names: BTreeSet<PathBuf> = BTreeSet::new();
    for path in paths {
        // dpkg knows a file of a merged directory by either name.
        let plain = path.strip_prefix("/usr").map(|rest| Path::new("/").join(rest));
        let merged = path.strip_prefix("/").map(|rest| Path::new("/usr").join(rest));
        names.insert(path.to_path_buf());
        names.extend(plain.into_iter().chain(merged));
    }
    let output = progress::output(Command::new("dpkg-query").arg("-S").args(&names))?;
    Ok(owners_in(&String::from_utf8_lossy(&output.stdout)))
}

/// The packages in the lines `PACKAGE, PACKAGE: PATH` of dpkg.
fn owners_in(text: &str) -> Vec<String> {
    let mut found: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with("diversion by"))
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(packages, _)| packages.split(", "))
        .map(|package| bare(package).to_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The files, links and directories of packages that are there, without documentation.
fn listed(packages: &[String]) -> Result<Vec<PathBuf>> {
    let output = progress::output(Command::new("dpkg-query").arg("-L").args(packages))?;
    if output.stdout.is_empty() {
        bail!(
            "dpkg-query -L {} says nothing: {}",
            packages.join(" "),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    let paths: BTreeSet<PathBuf> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.starts_with('/') && *line != "/.")
        .filter(|line| !is_documentation(line))
        .map(PathBuf::from)
        .filter(|path| path.symlink_metadata().is_ok())
        .collect();
    Ok(paths.into_iter().collect())
}

fn is_documentation(path: &str) -> bool {
    DOCUMENTATION
        .iter()
        .any(|directory| path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// A package's name without its architecture.
fn bare(package: &str) -> &str {
    package.split(':').next().unwrap_or(package)
}

/// What is installed.
struct Database {
    packages: HashMap<String, Package>,
    /// Virtual names, and who provides them.
    providers: HashMap<String, String>,
}

#[derive(Default)]
struct Package {
    /// On each Debian: what the guest's busybox stands for.
    base: bool,
    /// Alternatives each.
    depends: Vec<Vec<String>>,
    recommends: Vec<Vec<String>>,
}

impl Database {
    fn read() -> Result<Database> {
        const FORMAT: &str = "${db:Status-Abbrev}\\t${Package}\\t${Essential}\\t${Priority}\\t${Provides}\\t${Depends}\\t\
                              ${Pre-Depends}\\t${Recommends}\\n";
        let output = progress::output(Command::new("dpkg-query").args(["-W", "-f", FORMAT]))?;
        Ok(Database::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn parse(text: &str) -> Database {
        let mut database = Database { packages: HashMap::new(), providers: HashMap::new() };
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [status, name, essential, priority, provides, depends, before, recommends] = fields[..] else {
                continue;
            };
            if !status.starts_with("ii") {
                continue;
            }
            let mut all = relations(depends);
            all.extend(relations(before));
            for provided in relations(provides).into_iter().flatten() {
                database.providers.insert(provided, name.to_owned());
            }
            database.packages.insert(
                name.to_owned(),
                Package {
                    base: essential == "yes" || priority == "required" || name == LIBC,
                    depends: all,
                    recommends: relations(recommends),
                },
            );
        }
        database
    }

    /// `owners` and what they depend on, directly or not, without what every Debian has. Of what the owners recommend, too:
    /// a compiler recommends the C library's headers. With a package's minimal form comes the whole, if it is installed.
    fn closure(&self, owners: &[String]) -> Vec<String> {
        let mut waiting: Vec<&str> = Vec::new();
        for owner in owners {
            waiting.push(owner);
            let whole = ["-minimal", "-base"].iter().find_map(|form| owner.strip_suffix(form));
            waiting.extend(whole.filter(|whole| self.packages.contains_key(*whole)));
            if let Some(package) = self.packages.get(owner.as_str()) {
                waiting.extend(package.recommends.iter().filter_map(|any| self.installed(any)));
            }
        }
        let mut chosen = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            let Some(package) = self.packages.get(name) else {
                continue;
            };
            let owner = owners.iter().any(|owner| owner == name);
            if (package.base && !owner) || !chosen.insert(name.to_owned()) {
                continue;
            }
            waiting.extend(package.depends.iter().filter_map(|any| self.installed(any)));
        }
        chosen.into_iter().collect()
    }

    /// The first of alternatives that is installed.
    fn installed<'a>(&'a self, alternatives: &'a [String]) -> Option<&'a str> {
        alternatives.iter().find_map(|name| match self.packages.contains_key(name) {
            true => Some(name.as_str()),
            false => self.providers.get(name).map(String::as_str),
        })
    }
}

/// The names in `a (>= 1), b:any | c`: alternatives each, without versions and architectures.
fn relations(field: &str) -> Vec<Vec<String>> {
    field
        .split(',')
        .map(|any| {
            any.split('|')
                .filter_map(|name| name.split_whitespace().next())
                .map(|name| bare(name).to_owned())
                .collect::<Vec<_>>()
        })
        .filter(|any| !any.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTALLED: &str = "\
ii \tlanguage-minimal\tno\toptional\t\tliblanguage (= 1), libc6 (>= 2)\tbase\t
ii \tlanguage\tno\toptional\t\tlanguage-minimal, liblanguage-all:any | other\t\t
ii \tliblanguage\tno\toptional\t\t\t\ttoo-much
ii \tliblanguage-real\tno\toptional\tliblanguage-all (= 3)\tliblanguage\t\t
ii \ttoo-much\tno\toptional\t\t\t\t
ii \tcompiler\tno\toptional\t\tassembler\t\theaders | no-headers
ii \tassembler\tno\toptional\t\tcompiler\t\t
ii \theaders\tno\toptional\t\tlibc6\t\t
rc \tno-headers\tno\toptional\t\t\t\t
ii \tlibc6\tno\toptional\t\t\t\t
ii \tbase\tyes\trequired\t\ttoo-much\t\t
";

    #[test]
    fn what_a_program_depends_on_comes_along() {
        let database = Database::parse(INSTALLED);
        let closure = |owner: &str| database.closure(&[owner.to_owned()]);
        let language = ["language", "language-minimal", "liblanguage", "liblanguage-real"];
        assert_eq!(closure("language-minimal"), language);
        assert_eq!(closure("compiler"), ["assembler", "compiler", "headers"]);
        assert_eq!(closure("base"), ["base", "too-much"]);
        assert!(closure("unknown").is_empty());
    }

    #[test]
    fn dpkgs_lines_are_read() {
        let text = "diversion by a from: /bin/x\nlibx:amd64, libx:i386: /usr/share/x\ngcc-12: /usr/bin/gcc\n";
        assert_eq!(owners_in(text), ["gcc-12", "libx"]);
        assert!(is_documentation("/usr/share/doc/x/README"));
        assert!(!is_documentation("/usr/share/documents"));
    }

    #[test]
    fn an_interpreter_outside_of_packages_has_its_directory_beside_it() {
        let prefix = tempfile::tempdir().unwrap();
        let real = prefix.path().join("bin/lang1");
        assert!(beside(&real).advice.is_none());
        fs::create_dir_all(prefix.path().join("lib")).unwrap();
        assert!(beside(&real).advice.unwrap().contains("--with"));
        fs::create_dir_all(prefix.path().join("lib/lang1/sub")).unwrap();
        fs::write(prefix.path().join("lib/lang1/sub/module"), "12345").unwrap();
        let found = beside(&real);
        assert_eq!((found.files.len(), found.bytes), (3, 5));
    }
}
