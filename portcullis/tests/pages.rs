//! The tables of `docs/` that follow from the library's lists are those of the library.
#![cfg(not(loom))]

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use portcullis::work::{Ends, ExitWork, Phase, SyscallWork};
use portcullis::x86_64::doors::{Path, TABLE};

/// Demands that a page has these lines, one below the other.
fn demand(page: &str, table: &str) {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let path = PathBuf::from(package).join("../docs").join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.contains(table), "docs/{page} must have this table:\n\n{table}");
}

#[test]
fn the_page_of_doors_has_the_table_of_doors() {
    let mut table = String::from(
        "| door | vectors | it hit | stack | state | hook | way out |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for door in TABLE {
        let vectors = match door.vectors {
            None => "–".to_owned(),
            Some((first, last)) if first == last => format!("{first}"),
            Some((first, last)) => format!("{first}–{last}"),
        };
        for (hit, path) in [("user mode", &door.user), ("the kernel", &door.kernel), ("a door", &door.inside)] {
            let Path { stack, state, hook, way_out, .. } = path;
            if *stack != "–" {
                let name = door.name;
                writeln!(table, "| {name} | {vectors} | {hit} | {stack} | `{state}` | {hook} | {way_out} |").unwrap();
            }
        }
    }
    demand("doors.md", &table);
}

#[test]
fn the_page_of_hooks_has_the_lists_of_work() {
    let mut table = String::from(
        "| exit work | hook | when | after | before a guest | what it is |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for kind in ExitWork::KINDS {
        let when = match kind.phase {
            Phase::Loop => "in the loop",
            Phase::Repeat => "after the loop, may repeat it",
            Phase::Once => "after the loop, once",
        };
        let ends = match kind.ends {
            Ends::Both => "both",
            Ends::Syscalls => "system calls",
            Ends::Events => "events",
        };
        let guest = if kind.guest { "yes" } else { "–" };
        writeln!(table, "| {} | `{}` | {when} | {ends} | {guest} | {} |", kind.name, kind.hook, kind.what).unwrap();
    }
    demand("hooks.md", &table);

    let mut table =
        String::from("| system-call work | before the call | after it | what it is |\n| --- | --- | --- | --- |\n");
    let hook = |name: Option<&str>| name.map_or("–".to_owned(), |name| format!("`{name}`"));
    for kind in SyscallWork::KINDS {
        writeln!(table, "| {} | {} | {} | {} |", kind.name, hook(kind.entry), hook(kind.exit), kind.what).unwrap();
    }
    demand("hooks.md", &table);
}
