//! What objtool's noinstr validation does, for kernels that have no objtool (32 bits): along every path through
//! `.noinstr.text` nothing outside of noinstr code is called but between the marks of `linux/src/annotate.rs`.
//!
//! Paths that Linux patches in at boot or run time are not followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection};

use super::objdump::objdump;

/// Where the code is that RCU may not watch.
pub const SECTION: &str = ".noinstr.text";

/// An instruction: its text, and the name of what a relocation of it refers to.
struct Instruction {
    text: String,
    refers_to: Option<String>,
}

/// The code of the section, by address.
pub struct Code {
    pub functions: BTreeMap<u64, String>,
    instructions: BTreeMap<u64, Instruction>,
    /// +1 where instrumentation may begin, -1 where it ends.
    marks: BTreeMap<u64, i32>,
}

/// Checks an object file; `is_noinstr` says of the functions of other files which may be called anywhere.
pub fn check(path: &Path, is_noinstr: impl Fn(&str) -> bool) -> Result<()> {
    let code = Code::read(path)?;
    ensure!(!code.marks.is_empty(), "{} has no marks", path.display());
    for (start, name) in &code.functions {
        code.walk(*start, &is_noinstr).with_context(|| format!("in {name}"))?;
    }
    Ok(())
}

impl Instruction {
    fn operation(&self) -> &str {
        self.text.split_whitespace().next().unwrap_or_default()
    }

    fn is_jump(&self) -> bool {
        self.operation().starts_with('j')
    }

    /// The function that it calls or jumps to, by a relocation.
    fn goes_to(&self) -> Option<&str> {
        self.refers_to.as_deref().filter(|_| self.is_jump() || self.operation() == "call")
    }

    /// The address in the section that it calls or jumps to.
    fn target(&self) -> Option<u64> {
        let operand = self.text.split_whitespace().nth(1).filter(|_| self.is_jump() || self.operation() == "call");
        operand.and_then(|operand| u64::from_str_radix(operand, 16).ok())
    }
}

impl Code {
    fn read(path: &Path) -> Result<Code> {
        let mut code = Code::parse(&objdump(path, &["-r", "-j", SECTION])?);

        let data = fs::read(path)?;
        let file = object::File::parse(&*data)?;
        for (section, step) in [(".discard.instr_begin", 1), (".discard.instr_end", -1)] {
            let Some(section) = file.section_by_name(section) else {
                continue;
            };
            let words = section.data()?;
            for (offset, _) in section.relocations() {
                // Relative to the section; the place in it stands where the relocation will be.
                let at = offset as usize;
                let word = words.get(at..at + 4).context("a mark beyond its section")?;
                let place = u32::from_le_bytes(word.try_into()?);
                *code.marks.entry(place.into()).or_default() += step;
            }
        }
        Ok(code)
    }

    /// What objdump prints of it with `-r`.
    pub fn parse(objdump: &str) -> Code {
        let (mut functions, mut instructions) = (BTreeMap::new(), BTreeMap::new());
        let number = |text: &str| u64::from_str_radix(text.trim(), 16).ok();
        let mut last = None;
        for line in objdump.lines() {
            if let Some((start, name)) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
                functions.extend(number(start).map(|start| (start, name.to_owned())));
            } else if let Some((_, relocation)) = line.split_once(": R_") {
                // Without what is added to its address.
                let name = relocation.split_whitespace().nth(1).and_then(|name| name.split(['-', '+']).next());
                let name = name.map(str::to_owned);
                if let Some(instruction) = last.and_then(|last| instructions.get_mut(&last)) {
                    let instruction: &mut Instruction = instruction;
                    instruction.refers_to = name;
                }
            } else if let Some((address, text)) = line.split_once(":\t") {
                last = number(address);
                let text = text.trim().to_owned();
                instructions.extend(last.map(|address| (address, Instruction { text, refers_to: None })));
            }
        }
        Code { functions, instructions, marks: BTreeMap::new() }
    }

    /// The address of the instruction after this one, unless it always goes elsewhere.
    fn next(&self, at: u64, instruction: &Instruction) -> Option<u64> {
        let goes_on = !["ret", "jmp"].contains(&instruction.operation());
        self.instructions.range(at + 1..).next().filter(|_| goes_on).map(|(next, _)| *next)
    }

    /// The functions of other objects that code from `start` on calls or jumps to, also by functions of this one.
    pub fn reached(&self, start: u64) -> BTreeSet<&str> {
        let (mut seen, mut names, mut paths) = (BTreeSet::new(), BTreeSet::new(), vec![start]);
        while let Some(at) = paths.pop() {
            let Some(instruction) = self.instructions.get(&at).filter(|_| seen.insert(at)) else {
                continue;
            };
            match instruction.goes_to() {
                Some(name) => drop(names.insert(name)),
                None => paths.extend(instruction.target()),
            }
            paths.extend(self.next(at, instruction));
        }
        names
    }

    /// Follows every path from `start`, with the number of marks that instrumentation was allowed by.
    fn walk(&self, start: u64, is_noinstr: &impl Fn(&str) -> bool) -> Result<()> {
        let mut seen = BTreeSet::new();
        let mut paths = vec![(start, 0)];
        while let Some((at, mut allowed)) = paths.pop() {
            let Some(instruction) = self.instructions.get(&at).filter(|_| seen.insert((at, allowed))) else {
                continue;
            };
            allowed += self.marks.get(&at).copied().unwrap_or_default();
            if let Some(callee) = instruction.goes_to() {
                ensure!(
                    allowed > 0 || is_noinstr(callee),
                    "{callee} is called at {at:#x}, where nothing may be traced"
                );
            } else if instruction.is_jump() {
                paths.extend(instruction.target().map(|target| (target, allowed)));
            }
            if instruction.operation() == "ret" {
                ensure!(allowed <= 0, "it returns at {at:#x} where tracing is allowed still");
            }
            paths.extend(self.next(at, instruction).map(|next| (next, allowed)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "
00000000 <door>:
   0:\ttest   eax,eax
   2:\tjne    a <door+0xa>
   4:\tcall   5 <door+0x5>
\t\t\t5: R_386_PC32\tschedule
   9:\tnop
   a:\tret
";

    fn verdict(marks: &[(u64, i32)], noinstr: &str) -> bool {
        let mut code = Code::parse(CODE);
        code.marks.extend(marks.iter().copied());
        code.walk(0, &|name: &str| name == noinstr).is_ok()
    }

    #[test]
    fn calls_need_a_mark_before_them_and_one_after() {
        assert!(!verdict(&[], ""));
        assert!(verdict(&[], "schedule"));
        assert!(verdict(&[(4, 1), (9, -1)], ""));
        assert!(!verdict(&[(4, 1)], ""), "it returns with tracing allowed");
        assert!(!verdict(&[(9, 1), (4, -1)], ""), "the marks are the wrong way round");
    }
}
