//! The configurations: tinyconfig and fragments of `linux/config/`, merged by Linux's own kconfig, and checked.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::source::{Source, Version};
use crate::{progress, repository};

/// The CPU architecture that Linux is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// 64-bit, with 32-bit programs beside
    #[value(name = "x86_64")]
    X86_64,
    /// Native 32-bit
    #[value(name = "i386")]
    I386,
}

/// Which options are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Config {
    /// Boots in a minute; mitigations and every door to user mode
    Small,
    /// Debian's own options for entry, and what Debian's userland needs
    DebianLike,
    /// Small, with every check that Linux can make of its entry code
    Debug,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Arch::X86_64 => "x86_64",
            Arch::I386 => "i386",
        })
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Config::Small => "small",
            Config::DebianLike => "debian-like",
            Config::Debug => "debug",
        })
    }
}

/// The fragments of a configuration; a later one has the last word.
fn fragments(version: Version, arch: Arch, config: Config) -> Vec<PathBuf> {
    let mut names = vec!["small".to_owned(), arch.to_string()];
    if config != Config::Small {
        names.push(config.to_string());
        names.push(format!("{config}-{arch}"));
    }
    let of_version: Vec<String> = names.iter().map(|name| format!("{name}-{version}")).collect();
    let ordered = names.into_iter().zip(of_version).flat_map(|(name, of_version)| [name, of_version]);
    ordered.map(|name| repository("linux/config").join(format!("{name}.config"))).filter(|path| path.exists()).collect()
}

/// Makes the `.config` in `build`, unless it is there and made from the same fragments.
pub fn configure(source: &Source, build: &Path, arch: Arch, config: Config) -> Result<()> {
    fs::create_dir_all(build)?;
    let mut wanted = String::new();
    for fragment in fragments(source.version, arch, config) {
        wanted += &fs::read_to_string(&fragment).with_context(|| format!("cannot read {}", fragment.display()))?;
    }
    let stamp = build.join("config.stamp");
    let made_from = format!("{}\n{wanted}", source.stamp);
    if build.join(".config").exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == made_from) {
        return Ok(());
    }
    let make = |target: &str| {
        let mut make = Command::new("make");
        make.arg("-s").arg("-C").arg(&source.tree);
        make.arg(format!("O={}", build.display())).arg(format!("ARCH={arch}")).arg(target);
        make
    };
    progress::step(
        &format!("configuring Linux {}: {arch} {config}", source.version),
        &mut make("tinyconfig"),
        progress::LONG,
    )?;
    // Of an option that is set twice kconfig takes the last line.
    let file = build.join(".config");
    fs::write(&file, fs::read_to_string(&file)? + &wanted)?;
    progress::step("  and what follows from the options", &mut make("olddefconfig"), progress::LONG)?;
    let wrong = unheeded(&wanted, &fs::read_to_string(&file)?);
    if !wrong.is_empty() {
        bail!(
            "kconfig did not take these options of linux/config/ (Linux {}, {arch} {config}); what they depend on is not set:\n  {}",
            source.version,
            wrong.join("\n  ")
        );
    }
    fs::write(&stamp, made_from)?;
    Ok(())
}

/// The option that a line of a configuration file sets, and its value; `n` for `is not set`.
fn setting(line: &str) -> Option<(&str, &str)> {
    if let Some(rest) = line.strip_prefix("# CONFIG_") {
        return Some((rest.strip_suffix(" is not set")?, "n"));
    }
    line.strip_prefix("CONFIG_")?.split_once('=')
}

/// What `wanted` asks for and `made` does not have, in words.
fn unheeded(wanted: &str, made: &str) -> Vec<String> {
    let last = |text: &'_ str, option: &str| -> Option<String> {
        let mut values = text.lines().filter_map(setting).filter(|(name, _)| *name == option);
        values.next_back().map(|(_, value)| value.to_owned())
    };
    let mut wrong = Vec::new();
    for (option, _) in wanted.lines().filter_map(setting) {
        let want = last(wanted, option).unwrap_or_default();
        let have = last(made, option).unwrap_or_else(|| "n".to_owned());
        let line = format!("CONFIG_{option}: asked for {want}, is {have}");
        if want != have && !wrong.contains(&line) {
            wrong.push(line);
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_was_not_taken_is_named() {
        let made = "CONFIG_SMP=y\n# CONFIG_NET is not set\nCONFIG_HZ=250\n";
        assert!(unheeded("CONFIG_SMP=y\n# CONFIG_AUDIT is not set\nCONFIG_HZ=250\n", made).is_empty());
        assert_eq!(
            unheeded("CONFIG_NET=y\n# CONFIG_SMP is not set\n", made),
            ["CONFIG_NET: asked for y, is n", "CONFIG_SMP: asked for n, is y"]
        );
        assert_eq!(unheeded("CONFIG_HZ=100\n", made), ["CONFIG_HZ: asked for 100, is 250"]);
    }

    #[test]
    fn a_later_fragment_has_the_last_word() {
        let made = "CONFIG_PREEMPT=y\n";
        assert!(unheeded("# CONFIG_PREEMPT is not set\nCONFIG_PREEMPT=y\n", made).is_empty());
    }
}
