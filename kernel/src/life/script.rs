//! The first line of a script: `#! interpreter [argument]`, as Linux 6.1 reads it.
//!
//! Uses nothing of the kernel.

extern crate alloc;

use self::alloc::vec::Vec;

/// How much of a file counts; the rest of a shorter one is zeros.
pub const LINE: usize = 256;

/// What a file turns out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FirstLine {
    /// Something else.
    NoScript,
    /// A script, but without the whole name of an interpreter.
    Bad,
    /// A script.
    Script {
        /// Path of the interpreter.
        interpreter: Vec<u8>,
        /// All that follows on the line, as one argument.
        argument: Option<Vec<u8>>,
    },
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Reads the beginning of a file.
pub fn parse(start: &[u8; LINE]) -> FirstLine {
    let Some(rest) = start.strip_prefix(b"#!") else {
        return FirstLine::NoScript;
    };
    let line = match rest.iter().position(|&byte| byte == b'\n') {
        Some(end) => &rest[..end],
        None => {
            // Cut off: the interpreter's name must end before. The argument need not, the interpreter can read the file.
            let line = &rest[..rest.len() - 1];
            let name = line.iter().position(|&byte| !is_blank(byte));
            let ends = name.is_some_and(|name| rest[name..].iter().any(|&byte| is_blank(byte) || byte == 0));
            if !ends {
                return FirstLine::Bad;
            }
            line
        }
    };
    let line = &line[..line.iter().rposition(|&byte| !is_blank(byte)).map_or(0, |at| at + 1)];
    let Some(name) = line.iter().position(|&byte| !is_blank(byte)) else {
        return FirstLine::Bad;
    };
    let name = &line[name..];
    let end = name.iter().position(|&byte| is_blank(byte) || byte == 0).unwrap_or(name.len());
    let argument = match name.get(end) {
        Some(&byte) if byte != 0 => {
            let rest = &name[end..];
            let argument = &rest[rest.iter().position(|&byte| !is_blank(byte)).unwrap_or(rest.len())..];
            let end = argument.iter().position(|&byte| byte == 0).unwrap_or(argument.len());
            Some(argument[..end].to_vec())
        }
        _ => None,
    };
    FirstLine::Script { interpreter: name[..end].to_vec(), argument }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> FirstLine {
        let mut start = [0; LINE];
        start[..text.len()].copy_from_slice(text);
        parse(&start)
    }

    fn script(interpreter: &[u8], argument: Option<&[u8]>) -> FirstLine {
        FirstLine::Script { interpreter: interpreter.to_vec(), argument: argument.map(<[u8]>::to_vec) }
    }

    #[test]
    fn names_and_arguments() {
        assert_eq!(of(b"#!/bin/sh\n"), script(b"/bin/sh", None));
        assert_eq!(of(b"#! \t/bin/sh \t\nx"), script(b"/bin/sh", None));
        assert_eq!(of(b"#!/bin/sh -e\n"), script(b"/bin/sh", Some(b"-e")));
        assert_eq!(of(b"#!/bin/sh\t -e  f \n"), script(b"/bin/sh", Some(b"-e  f")));
        assert_eq!(of(b"#!/bin/sh -e\0f\n"), script(b"/bin/sh", Some(b"-e")));
        assert_eq!(of(b"#!/bin/sh\0 -e\n"), script(b"/bin/sh", None));
        assert_eq!(of(b"#!/bin/sh\r\n"), script(b"/bin/sh\r", None));
        assert_eq!(of(b"#!/bin/sh"), script(b"/bin/sh", None));
    }

    #[test]
    fn files_that_are_none() {
        assert_eq!(of(b""), FirstLine::NoScript);
        assert_eq!(of(b"#"), FirstLine::NoScript);
        assert_eq!(of(b" #!/bin/sh\n"), FirstLine::NoScript);
        assert_eq!(of(b"\x7fELF"), FirstLine::NoScript);
        assert_eq!(of(b"#!\n/bin/sh\n"), FirstLine::Bad);
        assert_eq!(of(b"#! \t \n"), FirstLine::Bad);
    }

    #[test]
    fn lines_that_are_cut_off() {
        let mut line = [b'a'; LINE];
        line[..3].copy_from_slice(b"#!/");
        assert_eq!(parse(&line), FirstLine::Bad);
        line[LINE - 1] = b'\n';
        assert_eq!(parse(&line), script(&line[2..LINE - 1], None));
        line[LINE - 1] = b' ';
        assert_eq!(parse(&line), script(&line[2..LINE - 1], None));
        line[LINE - 1] = b'a';
        line[9] = b' ';
        assert_eq!(parse(&line), script(b"/aaaaaa", Some(&line[10..LINE - 1])));
        let mut blank = [b' '; LINE];
        blank[..2].copy_from_slice(b"#!");
        assert_eq!(parse(&blank), FirstLine::Bad);
    }
}
