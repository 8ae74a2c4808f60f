//! The pictures of docs/pictures, from what the code says of itself: the table of doors, the record of the public API (whose test
//! keeps it equal to the code), the structures of the stacks. `./x doc --pictures` writes them, a test compares.

use std::fs;

use anyhow::{Context, Result, ensure};
use portcullis::x86_64::SavedRegs;
use portcullis::x86_64::doors::{Door, Path, TABLE};

use super::svg::{Svg, wrapped};
use crate::repository;

/// Where they are.
const FOLDER: &str = "docs/pictures";

/// The record of the library's public API.
const API: &str = "portcullis/public-api.txt";

/// The states' source, and that of the stacks.
const STATES: &str = "portcullis/src/state.rs";
const TABLES: &str = "portcullis/src/x86_64/tables.rs";

/// Draws all of them: name and contents.
fn all() -> Result<Vec<(&'static str, String)>> {
    let read = |path: &str| fs::read_to_string(repository(path)).with_context(|| format!("cannot read {path}"));
    Ok(vec![
        ("doors.svg", doors()),
        ("states.svg", states(&read(API)?, &read(STATES)?)?),
        ("stacks.svg", stacks(&read(TABLES)?)?),
    ])
}

/// Writes all of them.
pub fn write() -> Result<()> {
    fs::create_dir_all(repository(FOLDER))?;
    for (name, picture) in all()? {
        fs::write(repository(FOLDER).join(name), picture)?;
    }
    Ok(())
}

/// What a door may hit.
fn hits(door: &Door) -> [(&'static str, &Path); 3] {
    [("user mode", &door.user), ("the kernel", &door.kernel), ("a door", &door.inside)]
}

/// Whether the table has the path.
fn is_open(path: &Path) -> bool {
    path.stack != "–"
}

/// The kind of stack that a path runs on: a class of the pictures' style.
fn kind(path: &Path) -> &'static str {
    match path.stack.split([' ', ';', ',']).next() {
        Some("thread") => "thread",
        Some("IRQ") => "irq",
        Some("IST") => "ist",
        _ => "hit",
    }
}

/// Doors × what they hit.
fn doors() -> String {
    const NAME: f64 = 150.0;
    const CELL: f64 = 290.0;
    const LINE: f64 = 15.0;
    const LETTERS: usize = 38;
    let mut svg = Svg::new(NAME + 3.0 * CELL + 16.0);
    svg.title(26.0, "Every door, by what it hit: the stack, the state, the kernel's function, the way out");
    let mut x = 16.0;
    for (class, what) in [
        ("thread", "thread stack"),
        ("irq", "IRQ stack"),
        ("ist", "stack of the vector's own"),
        ("hit", "stack that was hit"),
    ] {
        svg.rectangle(x, 40.0, 14.0, 14.0, class);
        svg.text(x + 20.0, 52.0, "", what);
        x += 200.0;
    }
    let mut y = 70.0;
    for (column, (hit, _)) in hits(&TABLE[0]).iter().enumerate() {
        svg.text(NAME + column as f64 * CELL + 14.0, y + 14.0, "bold", &format!("it hit {hit}"));
    }
    y += 24.0;
    for door in TABLE {
        let cells = hits(door).map(|(_, path)| {
            let lines = if is_open(path) {
                let way_out = format!("→ {}", path.way_out);
                [("bold", path.stack), ("code", path.state), ("code", path.hook), ("", &way_out)]
                    .into_iter()
                    .flat_map(|(class, text)| wrapped(text, LETTERS).into_iter().map(move |line| (class, line)))
                    .collect()
            } else {
                Vec::new()
            };
            (path, lines)
        });
        let height = cells.iter().map(|(_, lines)| lines.len()).max().unwrap_or(0) as f64 * LINE + 12.0;
        svg.line(8.0, y, NAME + 3.0 * CELL + 8.0, y, "rule");
        for (index, line) in wrapped(door.name, 20).iter().enumerate() {
            svg.text(14.0, y + 18.0 + index as f64 * LINE, "bold", line);
        }
        if let Some((first, last)) = door.vectors {
            let vectors = if first == last { format!("vector {first}") } else { format!("vectors {first}–{last}") };
            svg.text(14.0, y + 18.0 + wrapped(door.name, 20).len() as f64 * LINE, "small", &vectors);
        }
        for (column, (path, lines)) in cells.iter().enumerate() {
            let x = NAME + column as f64 * CELL;
            if !lines.is_empty() {
                svg.rectangle(x + 2.0, y + 4.0, 6.0, height - 8.0, kind(path));
            }
            for (index, (class, line)) in lines.iter().enumerate() {
                svg.text(x + 14.0, y + 18.0 + index as f64 * LINE, class, line);
            }
        }
        y += height;
    }
    svg.finish(y + 12.0)
}

/// A function that consumes a state, or makes the first one.
#[derive(Debug, PartialEq)]
struct Transition {
    from: String,
    /// `None`: it ends there.
    to: Option<String>,
    name: String,
    /// The crossings that have it; empty for all.
    of: String,
}

/// The states in the order of a crossing, then those of the kernel's side: a column each. `Vec::position` of another is an error,
/// so a state that is added asks for its place.
const COLUMNS: [&str; 10] = [
    "Arrived",
    "InKernel",
    "InSyscall",
    "Leaving",
    "Settled",
    "Cleared",
    "WayOut",
    "Interrupted",
    "NmiContext",
    "EnteringGuest",
];

/// The transitions of the public API.
fn transitions(api: &str) -> Vec<Transition> {
    let mut out = Vec::new();
    for line in api.lines() {
        let declared = line.strip_prefix("pub fn ").or_else(|| line.strip_prefix("pub unsafe fn "));
        let Some(rest) = declared.and_then(|rest| rest.strip_prefix("portcullis::state::")) else {
            continue;
        };
        let Some((item, signature)) = rest.split_once('(') else {
            continue;
        };
        let Some((owner, name)) = item.rsplit_once(">::") else {
            continue;
        };
        let state = owner.split('<').next().unwrap_or(owner);
        let of = owner.rsplit("state::").next().filter(|of| *of != owner).unwrap_or_default();
        let name = name.split('<').next().unwrap_or(name);
        let result = line.split_once(") -> ").map_or("", |_| line.rsplit(") -> ").next().unwrap_or_default());
        let consumes = signature.starts_with("self") || name.starts_with("xfer_to_guest_mode");
        let begins = name.starts_with("enter_from_");
        // What a host with doors of its own does between two of its functions is no transition.
        if name == "suspend" || !(consumes && !result.is_empty() || begins || signature.starts_with("self")) {
            continue;
        }
        let named = |text: &str| {
            let place =
                |column: &&&str| text.find(&format!("::{column}<")).or_else(|| text.find(&format!("::{column}")));
            COLUMNS.iter().filter(|column| place(column).is_some()).min_by_key(place).map(|column| (*column).to_owned())
        };
        let (from, to) = match begins {
            true => (String::new(), Some(state.to_owned())),
            false => (state.to_owned(), named(result)),
        };
        if to.is_none() && result.contains("Result<(),") {
            continue;
        }
        let transition = Transition { from, to, name: name.to_owned(), of: of.to_owned() };
        if !out.contains(&transition) {
            out.push(transition);
        }
    }
    out
}

/// The interrupt flag and the context of a state, out of its documentation.
fn holds(source: &str, state: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let Some(at) = lines.iter().position(|line| line.starts_with(&format!("{state}<"))) else {
        // One that is another one, and something is known of it.
        let inner =
            source.split_once(&format!(" Deref for {state}<")).and_then(|(_, rest)| rest.split_once("type Target = "));
        let inner = inner.and_then(|(_, rest)| rest.split('<').next());
        return inner.map(|inner| holds(source, inner)).unwrap_or_default();
    };
    let documented = lines[..at].iter().rev().take_while(|line| line.starts_with("///"));
    let mut text: Vec<&str> = documented.map(|line| line.trim_start_matches("///").trim()).collect();
    text.reverse();
    let text = text.join(" ").to_lowercase();
    let mut out = Vec::new();
    for flag in ["interrupts on", "interrupts off"] {
        if text.contains(flag) {
            out.push(flag.to_owned());
        }
    }
    for context in ["user", "kernel"] {
        if text.contains(&format!("context {context}")) {
            out.push(format!("context {}", context.to_uppercase()));
        }
    }
    out
}

/// The states, and what leads from one to the next: a line of time for each.
fn states(api: &str, source: &str) -> Result<String> {
    const COLUMN: f64 = 118.0;
    const ROW: f64 = 34.0;
    const TOP: f64 = 118.0;
    let mut transitions = transitions(api);
    ensure!(transitions.len() > 15, "{API}: {transitions:?}");
    let place = |state: &str| {
        let index = COLUMNS.iter().position(|column| *column == state);
        index.with_context(|| format!("the picture of the states has no place for {state}"))
    };
    for transition in &transitions {
        for state in
            [Some(&transition.from), transition.to.as_ref()].into_iter().flatten().filter(|name| !name.is_empty())
        {
            place(state)?;
        }
    }
    // By where they begin, what begins a crossing first.
    transitions.sort_by_key(|transition| {
        let of = |state: &str| place(state).unwrap_or(0);
        let to = transition.to.as_deref().map_or(usize::MAX, of);
        if transition.from.is_empty() { (to, 0, 0) } else { (of(&transition.from), 1, to) }
    });
    let width = COLUMNS.len() as f64 * COLUMN + 16.0;
    let bottom = TOP + transitions.len() as f64 * ROW;
    let x = |column: usize| 8.0 + (column as f64 + 0.5) * COLUMN;
    let mut svg = Svg::new(width);
    svg.title(26.0, "The states of a crossing, and the functions that consume one and give the next");
    for (column, state) in COLUMNS.iter().enumerate() {
        let class = if column < 7 { "thread" } else { "ist" };
        svg.rectangle(x(column) - COLUMN / 2.0 + 5.0, 44.0, COLUMN - 10.0, 56.0, class);
        svg.middle(x(column), 62.0, "on bold", state);
        for (index, line) in holds(source, state).iter().enumerate() {
            svg.middle(x(column), 77.0 + index as f64 * 14.0, "on small", line);
        }
        svg.line(x(column), 100.0, x(column), bottom, "rule");
    }
    for (row, transition) in transitions.iter().enumerate() {
        let y = TOP + (row as f64 + 0.7) * ROW;
        let label = match transition.of.is_empty() {
            true => transition.name.clone(),
            false => format!("{} ({})", transition.name, transition.of),
        };
        let to = transition.to.as_deref().map(place).transpose()?;
        let (start, end) = match (transition.from.is_empty(), to) {
            (true, Some(to)) => (x(to) - COLUMN / 2.0, x(to)),
            (false, Some(to)) => (x(place(&transition.from)?), x(to)),
            (_, None) => (x(place(&transition.from)?), x(place(&transition.from)?) + COLUMN / 2.0),
        };
        svg.arrow(start, y, end);
        // Above the arrow, from where it begins: the label may be longer than the arrow.
        if end + 6.2 * label.len() as f64 > width + 60.0 {
            svg.end(end.max(start) - 4.0, y - 6.0, "code", &label);
        } else {
            svg.text(start + 4.0, y - 6.0, "code", &label);
        }
    }
    Ok(svg.finish(bottom + 16.0))
}

/// A field of a structure: name, and size in bytes.
type Field = (String, u64);

/// The fields of a structure of words and arrays of bytes, from its source.
fn fields(source: &str, structure: &str) -> Result<Vec<Field>> {
    let start =
        source.find(&format!("struct {structure} {{")).with_context(|| format!("{TABLES} has no {structure}"))?;
    let body = source[start..].split_once('{').and_then(|(_, rest)| rest.split_once('}')).context("it has fields")?.0;
    let mut out = Vec::new();
    for line in body.lines().map(str::trim).filter(|line| !line.starts_with("//") && line.ends_with(',')) {
        let (name, of) = line.trim_end_matches(',').split_once(": ").with_context(|| format!("{structure}: {line}"))?;
        let name = name.rsplit(' ').next().unwrap_or(name);
        out.push((name.to_owned(), size(source, of).with_context(|| format!("{structure}: {line}"))?));
    }
    Ok(out)
}

/// The size of a type: a word, bytes, or a structure.
fn size(source: &str, of: &str) -> Result<u64> {
    if of == "u64" {
        return Ok(8);
    }
    if let Some(length) = of.strip_prefix("[u8; ").and_then(|of| of.strip_suffix(']')) {
        let mut terms = length.split(" - ").map(|term| term.parse::<u64>().context("a number"));
        let first = terms.next().context("a length")??;
        return terms.try_fold(first, |left, term| Ok(left - term?));
    }
    if let Some(of) = source.split_once(&format!("struct {of}(")).and_then(|(_, rest)| rest.split_once(')')) {
        return size(source, of.0);
    }
    fields(source, of)?.iter().try_fold(0, |sum, (_, size)| Ok(sum + size))
}

/// What is pushed at the top of a stack, from the top down: what the CPU pushes, then what the door does.
fn saved() -> [(&'static str, usize); 3] {
    use std::mem::offset_of;
    [
        ("SS RSP RFLAGS CS RIP", size_of::<SavedRegs>() - offset_of!(SavedRegs, rip)),
        ("orig_rax or error code", offset_of!(SavedRegs, rip) - offset_of!(SavedRegs, orig_rax)),
        ("RDI … R15", offset_of!(SavedRegs, orig_rax) - offset_of!(SavedRegs, r15)),
    ]
}

/// The stacks, what is at their tops, and who runs on them.
fn stacks(source: &str) -> Result<String> {
    const COLUMN: f64 = 232.0;
    const LINE: f64 = 15.0;
    const LETTERS: usize = 36;
    // Name, class, the words above what is pushed, from the top down, the bytes below, how the table of doors names it.
    type Stack = (String, &'static str, Vec<Field>, Option<u64>, fn(&Door, &Path) -> bool);
    let mut columns: Vec<Stack> = vec![
        ("Thread stack, of each task".to_owned(), "thread", Vec::new(), None, |_, path| kind(path) == "thread"),
        ("IRQ stack, of each CPU".to_owned(), "irq", Vec::new(), None, |_, path| path.stack.contains("IRQ")),
    ];
    for (structure, name, wanted) in [
        (
            "IstStack",
            "#DF, #DB, #MC: a stack each",
            (|door, path| kind(path) == "ist" && door.name != "NMI") as fn(&Door, &Path) -> bool,
        ),
        ("NmiStack", "NMI", |door, path| kind(path) == "ist" && door.name == "NMI"),
    ] {
        let fields = fields(source, structure)?;
        let all: u64 = fields.iter().map(|(_, size)| size).sum();
        let top: Vec<Field> = fields.iter().skip(1).rev().filter(|(_, size)| *size > 0).cloned().collect();
        let above: u64 = top.iter().map(|(_, size)| size).sum();
        columns.push((format!("{name} ({all} bytes)"), "ist", top, Some(all - above), wanted));
    }
    let entry = size(source, "EntryStack")?;
    columns
        .push((format!("Entry stack, with isolation ({entry} bytes)"), "hit", Vec::new(), Some(entry), |_, _| false));
    let mut svg = Svg::new(16.0 + columns.len() as f64 * COLUMN);
    svg.title(26.0, "The stacks of a CPU, from the top down, and who runs on them");
    let mut bottom: f64 = 0.0;
    for (column, (name, class, above, below, runs)) in columns.iter().enumerate() {
        let x = 8.0 + column as f64 * COLUMN;
        let mut y = 44.0;
        for line in wrapped(name, 30) {
            svg.text(x + 6.0, y + 12.0, "bold", &line);
            y += LINE;
        }
        y = 44.0 + 2.0 * LINE + 8.0;
        let cell = |svg: &mut Svg, y: &mut f64, class: &str, height: f64, text: &str| {
            svg.rectangle(x + 4.0, *y, COLUMN - 14.0, height, class);
            svg.text(x + 12.0, *y + 15.0, if class == "empty" { "small" } else { "on small" }, text);
            *y += height;
        };
        for (name, size) in above {
            cell(&mut svg, &mut y, "word", 22.0, &format!("{name}: {size} bytes"));
        }
        match (*class, *name == columns[1].0) {
            (_, true) => cell(&mut svg, &mut y, class, 22.0, "the handler's call"),
            ("hit", _) => cell(&mut svg, &mut y, class, 22.0, "the CPU's frame, until it is moved"),
            _ => {
                for (what, size) in saved() {
                    cell(&mut svg, &mut y, class, 22.0, &format!("{what}: {size} bytes"));
                }
            }
        }
        let rest = below.map_or("the kernel's size".to_owned(), |bytes| format!("{bytes} bytes, these included"));
        cell(&mut svg, &mut y, "empty", 40.0, &rest);
        y += 22.0;
        for door in TABLE {
            for (hit, path) in hits(door) {
                if is_open(path) && runs(door, path) {
                    for (index, line) in wrapped(&format!("{}, from {hit}", door.name), LETTERS).iter().enumerate() {
                        svg.text(x + 6.0 + if index > 0 { 10.0 } else { 0.0 }, y, "small", line);
                        y += LINE;
                    }
                }
            }
        }
        bottom = bottom.max(y);
    }
    Ok(svg.finish(bottom + 8.0))
}

#[cfg(test)]
mod tests {
    use portcullis::x86_64::tables::Tables;

    use super::*;

    #[test]
    fn the_pictures_are_those_of_the_code() {
        for (name, picture) in all().unwrap() {
            let path = repository(FOLDER).join(name);
            let drawn = fs::read_to_string(&path).unwrap_or_default();
            assert!(drawn == picture, "{FOLDER}/{name} is not what the code says: ./x doc --pictures draws it anew");
        }
    }

    #[test]
    fn the_transitions_are_read_from_the_record() {
        let found = transitions(&fs::read_to_string(repository(API)).unwrap());
        let transition = |from: &str, to: Option<&str>, name: &str, of: &str| Transition {
            from: from.to_owned(),
            to: to.map(str::to_owned),
            name: name.to_owned(),
            of: of.to_owned(),
        };
        for wanted in [
            transition("", Some("Arrived"), "enter_from_user_mode", ""),
            transition("Arrived", Some("InKernel"), "irqs_on", "Event"),
            transition("Leaving", Some("Settled"), "exit_to_user_mode_prepare", ""),
            transition("Settled", Some("WayOut"), "sysret_or_iret", "Syscall"),
            transition("InKernel", Some("EnteringGuest"), "xfer_to_guest_mode", ""),
            transition("NmiContext", None, "exit_to_kernel", ""),
        ] {
            assert!(found.contains(&wanted), "{wanted:?} is not in {found:#?}");
        }
        assert!(
            found.iter().all(|transition| transition.name != "suspend" && transition.name != "saved"),
            "{found:#?}"
        );
    }

    #[test]
    fn what_a_state_holds_is_read_from_its_documentation() {
        let source = fs::read_to_string(repository(STATES)).unwrap();
        assert_eq!(holds(&source, "Arrived"), ["interrupts off", "context KERNEL"]);
        assert_eq!(holds(&source, "InKernel"), ["interrupts on", "context KERNEL"]);
        assert_eq!(holds(&source, "InSyscall"), holds(&source, "InKernel"));
        assert_eq!(holds(&source, "Cleared"), ["interrupts off", "context USER"]);
    }

    /// The source's sizes are the compiler's.
    #[test]
    fn the_stacks_have_the_size_that_their_source_gives() {
        let source = fs::read_to_string(repository(TABLES)).unwrap();
        let tables = Box::new(Tables::new());
        for (name, range) in tables.stacks() {
            let structure = if name == "NMI" { "NmiStack" } else { "IstStack" };
            assert_eq!(size(&source, structure).unwrap(), range.end - range.start, "{name}");
        }
    }
}
