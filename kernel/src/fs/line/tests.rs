use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A line, with these changes of its settings.
fn line(change: impl FnOnce(&mut Termios)) -> Box<Line> {
    let mut line = Box::new(Line::new());
    let mut termios = line.termios;
    change(&mut termios);
    line.set_termios(termios);
    line
}

/// Types bytes; gives the echo.
fn type_in(line: &mut Line, bytes: &[u8]) -> Vec<u8> {
    let mut echo = Vec::new();
    for &byte in bytes {
        line.input(byte, &mut |byte| echo.push(byte));
    }
    echo
}

/// One read of up to `len` bytes.
fn read(line: &mut Line, len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    let (count, _) = line.take(&mut buffer);
    buffer.truncate(count);
    buffer
}

/// What is printed.
fn print(line: &mut Line, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes.iter().for_each(|&byte| line.output(byte, &mut |byte| out.push(byte)));
    out
}

fn raw(termios: &mut Termios) {
    // cfmakeraw(3).
    termios.iflag = 0;
    termios.oflag &= !abi::OPOST;
    termios.lflag &= !(abi::ECHO | abi::ECHONL | abi::ICANON | abi::ISIG | abi::IEXTEN);
}

#[test]
fn a_line_is_readable_when_it_has_ended_and_not_before() {
    let mut line = line(|_| ());
    type_in(&mut line, b"abc");
    assert_eq!((line.readable(), line.has_line()), (0, false));
    type_in(&mut line, b"\r");
    assert_eq!((line.readable(), line.has_line()), (4, true));
    assert_eq!(read(&mut line, 100), b"abc\n", "ICRNL");
    assert_eq!(line.readable(), 0);
}

#[test]
fn a_read_gets_one_line_at_most_and_the_rest_of_it_later() {
    let mut line = line(|_| ());
    type_in(&mut line, b"first\nsecond\n");
    assert_eq!(read(&mut line, 3), b"fir");
    assert_eq!(read(&mut line, 100), b"st\n");
    assert_eq!(read(&mut line, 100), b"second\n");
}

#[test]
fn control_d_ends_a_line_without_a_byte_and_an_empty_one_is_the_end_of_file() {
    let mut line = line(|_| ());
    type_in(&mut line, b"ab\x04\x04");
    let mut buffer = [0; 10];
    assert_eq!(line.take(&mut buffer), (2, true));
    assert_eq!(line.take(&mut buffer), (0, true), "end of file");
    assert_eq!(line.take(&mut buffer), (0, false), "nothing is there");
}

#[test]
fn an_end_of_file_behind_a_full_buffer_belongs_to_that_read() {
    let mut line = line(|_| ());
    type_in(&mut line, b"abcd\x04");
    assert_eq!(read(&mut line, 4), b"abcd");
    line.take_end_of_file();
    assert!(!line.has_line());
    type_in(&mut line, b"\x04");
    assert_eq!(line.take(&mut [0; 4]), (0, true));
}

#[test]
fn a_nul_that_was_typed_is_no_end_of_file() {
    let mut line = line(|_| ());
    type_in(&mut line, b"a\0b\n");
    assert_eq!(read(&mut line, 10), b"a\0b\n");
}

#[test]
fn erasing_takes_characters_back_and_stops_at_the_lines_begin() {
    let mut line = line(|_| ());
    type_in(&mut line, b"kept\n");
    let echo = type_in(&mut line, b"ab\x7f\x7f\x7f");
    assert_eq!(echo, b"ab\x08 \x08\x08 \x08");
    type_in(&mut line, b"\n");
    assert_eq!(read(&mut line, 100), b"kept\n");
    assert_eq!(read(&mut line, 100), b"\n");
}

#[test]
fn a_control_character_takes_two_columns_to_erase() {
    let mut line = line(|_| ());
    let echo = type_in(&mut line, b"\x01\x7f");
    assert_eq!(echo, b"^A\x08 \x08\x08 \x08");
}

#[test]
fn a_tab_is_erased_back_to_where_it_began() {
    let mut line = line(|_| ());
    assert_eq!(print(&mut line, b"> "), b"> ");
    // The cursor is in column 3 before the tab and 8 behind it.
    let echo = type_in(&mut line, b"a\t\x7f");
    assert_eq!(echo, b"a\t\x08\x08\x08\x08\x08");
}

#[test]
fn a_character_of_several_bytes_is_erased_as_one() {
    let mut line = line(|termios| termios.iflag |= abi::IUTF8);
    let echo = type_in(&mut line, "xä\x7f\n".as_bytes());
    assert_eq!(echo, [b"x".as_slice(), "ä".as_bytes(), b"\x08 \x08\r\n"].concat());
    assert_eq!(read(&mut line, 10), b"x\n");
}

#[test]
fn a_word_is_erased_with_what_follows_it() {
    let mut line = line(|_| ());
    type_in(&mut line, b"one two_3  \x17\n");
    assert_eq!(read(&mut line, 100), b"one \n");
}

#[test]
fn kill_erases_the_line_and_no_earlier_one() {
    let mut line = line(|_| ());
    type_in(&mut line, b"kept\nab\x15cd\n");
    assert_eq!((read(&mut line, 100), read(&mut line, 100)), (b"kept\n".to_vec(), b"cd\n".to_vec()));
}

#[test]
fn the_next_character_is_literal_after_control_v() {
    let mut line = line(|_| ());
    let mut echo = Vec::new();
    for &byte in b"\x16\x03\x16\x7f\n" {
        assert_eq!(line.input(byte, &mut |byte| echo.push(byte)), Effect::None);
    }
    assert_eq!(read(&mut line, 10), b"\x03\x7f\n");
    assert_eq!(echo, b"^\x08^C^\x08^?\r\n");
}

#[test]
fn signals_come_from_their_characters_and_drop_what_was_typed() {
    for (byte, signal) in [(3, abi::SIGINT), (0x1c, abi::SIGQUIT), (0x1a, abi::SIGTSTP)] {
        let mut line = line(|_| ());
        type_in(&mut line, b"line\npart");
        assert_eq!(line.input(byte, &mut |_| ()), Effect::Signal(signal));
        assert_eq!(line.readable(), 0);
        type_in(&mut line, b"\n");
        assert_eq!(read(&mut line, 10), b"\n");
    }
    let mut keeps = line(|termios| termios.lflag |= abi::NOFLSH);
    type_in(&mut keeps, b"line\n");
    assert_eq!(keeps.input(3, &mut |_| ()), Effect::Signal(abi::SIGINT));
    assert_eq!(read(&mut keeps, 10), b"line\n");
}

#[test]
fn without_isig_signal_characters_are_bytes() {
    let mut line = line(|termios| termios.lflag &= !abi::ISIG);
    type_in(&mut line, b"\x03\n");
    assert_eq!(read(&mut line, 10), b"\x03\n");
}

#[test]
fn control_s_stops_output_and_control_q_starts_it() {
    let mut line = line(|_| ());
    type_in(&mut line, b"\x13");
    assert!(line.output_stopped);
    type_in(&mut line, b"x");
    assert!(line.output_stopped, "IXANY is off");
    type_in(&mut line, b"\x11");
    assert!(!line.output_stopped);
    type_in(&mut line, b"\x13");
    let mut termios = line.termios;
    termios.iflag &= !abi::IXON;
    line.set_termios(termios);
    assert!(!line.output_stopped, "or it would never start again");
}

#[test]
fn carriage_returns_and_newlines_are_changed_as_set() {
    for (flags, typed, expected) in [
        (0, b"\r".as_slice(), b"\r".as_slice()),
        (abi::ICRNL, b"\r", b"\n"),
        (abi::IGNCR | abi::ICRNL, b"\r", b""),
        (abi::INLCR, b"\n", b"\r"),
        (abi::ISTRIP, b"\xe1", b"\x61"),
        (abi::IUCLC, b"A", b"A"),
    ] {
        let mut line = line(|termios| {
            raw(termios);
            termios.iflag = flags;
        });
        type_in(&mut line, typed);
        assert_eq!(read(&mut line, 10), expected, "{flags:#o}");
    }
}

#[test]
fn output_is_processed_as_set() {
    assert_eq!(print(&mut line(|_| ()), b"a\nb"), b"a\r\nb");
    assert_eq!(print(&mut line(raw), b"a\nb\t"), b"a\nb\t");
    assert_eq!(print(&mut line(|termios| termios.oflag |= abi::TAB3), b"ab\tc"), b"ab      c", "XTABS");
    assert_eq!(print(&mut line(|termios| termios.oflag |= abi::OLCUC), b"ab"), b"AB");
    assert_eq!(print(&mut line(|termios| termios.oflag |= abi::ONOCR), b"\rab\r\r"), b"ab\r");
    assert_eq!(print(&mut line(|termios| termios.oflag |= abi::OCRNL), b"ab\r"), b"ab\n");
}

#[test]
fn without_echo_only_what_echonl_says_is_shown() {
    assert_eq!(type_in(&mut line(|termios| termios.lflag &= !abi::ECHO), b"secret\x7f\n"), b"");
    let mut shown = line(|termios| termios.lflag = termios.lflag & !abi::ECHO | abi::ECHONL);
    assert_eq!(type_in(&mut shown, b"secret\n"), b"\r\n", "as getpass(3) has it");
}

#[test]
fn the_edited_line_is_shown_again_on_control_r() {
    let mut line = line(|_| ());
    assert_eq!(type_in(&mut line, b"ab\x12"), b"ab^R\r\nab");
}

#[test]
fn an_own_end_of_line_ends_lines_and_is_kept() {
    let mut line = line(|termios| termios.cc[abi::VEOL as usize] = b';');
    type_in(&mut line, b"a;b\n");
    assert_eq!((read(&mut line, 10), read(&mut line, 10)), (b"a;".to_vec(), b"b\n".to_vec()));
}

#[test]
fn a_line_that_is_too_long_is_cut_and_can_still_end() {
    let mut line = line(|_| ());
    type_in(&mut line, &[b'x'; CAPACITY + 100]);
    assert!(!line.is_full(), "nobody can read it, so nobody need wait");
    type_in(&mut line, b"\n");
    assert!(line.is_full());
    let got = read(&mut line, 2 * CAPACITY);
    assert_eq!((got.len(), got.last()), (CAPACITY, Some(&b'\n')));
}

#[test]
fn what_was_typed_before_raw_mode_is_readable_in_it() {
    let mut line = line(|_| ());
    type_in(&mut line, b"ab");
    let mut termios = line.termios;
    raw(&mut termios);
    line.set_termios(termios);
    assert_eq!(line.readable(), 2);
    line.set_termios(Termios::new());
    assert!(line.has_line());
    assert_eq!(read(&mut line, 10), b"ab");
    assert!(!line.has_line());
}

#[test]
fn flushed_input_is_gone() {
    let mut line = line(|_| ());
    type_in(&mut line, b"one\ntwo");
    line.flush_input();
    assert!(!line.has_line());
    type_in(&mut line, b"three\n");
    assert_eq!(read(&mut line, 10), b"three\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A raw terminal gives what was typed, all of it, in order, whatever the sizes of the reads.
    #[test]
    fn raw_mode_loses_nothing(typed in vec(vec(any::<u8>(), 0..200), 1..50), sizes in vec(1usize..300, 1..50)) {
        let mut line = line(raw);
        let (mut expected, mut got) = (Vec::new(), Vec::new());
        for (bytes, size) in typed.iter().zip(sizes.iter().cycle()) {
            if line.readable() + bytes.len() < CAPACITY {
                prop_assert_eq!(type_in(&mut line, bytes), b"");
                expected.extend_from_slice(bytes);
            }
            got.extend(read(&mut line, *size));
        }
        got.extend(read(&mut line, CAPACITY));
        prop_assert_eq!(got, expected);
    }

    /// In canonical mode what is read is what a list of lines, edited by the same keys, has.
    #[test]
    fn canonical_mode_is_a_list_of_lines(
        keys in vec(prop_oneof![8 => b'a'..=b'c', 1 => Just(b' '), 2 => Just(b'\n'), 2 => Just(0x7f), 1 => Just(0x15), 1 => Just(4)], 1..300),
        sizes in vec(1usize..20, 1..10),
    ) {
        let mut line = line(|_| ());
        let (mut lines, mut edited): (Vec<Vec<u8>>, Vec<u8>) = Default::default();
        for key in keys {
            type_in(&mut line, &[key]);
            match key {
                0x7f => drop(edited.pop()),
                0x15 => edited.clear(),
                4 => lines.push(std::mem::take(&mut edited)),
                b'\n' => {
                    edited.push(key);
                    lines.push(std::mem::take(&mut edited));
                }
                _ => edited.push(key),
            }
        }
        prop_assert_eq!(line.has_line(), !lines.is_empty());
        let mut sizes = sizes.into_iter().cycle();
        for expected in lines {
            let mut got = Vec::new();
            loop {
                let mut buffer = vec![0; sizes.next().expect("a cycle")];
                let (count, ended) = line.take(&mut buffer);
                got.extend_from_slice(&buffer[..count]);
                if ended {
                    break;
                }
                prop_assert!(count > 0, "the line has not ended");
            }
            prop_assert_eq!(got, expected);
        }
        prop_assert_eq!(line.readable(), 0);
    }

    /// Whatever is typed and set, nothing panics and nothing is counted below zero.
    #[test]
    fn any_input_under_any_settings_is_taken(
        steps in vec((vec(any::<u8>(), 0..40), any::<u32>(), any::<u32>(), any::<u32>(), 0usize..100), 1..30)
    ) {
        let mut line = line(|_| ());
        for (bytes, iflag, oflag, lflag, size) in steps {
            type_in(&mut line, &bytes);
            prop_assert!(read(&mut line, size).len() <= size);
            line.take_end_of_file();
            let termios = Termios { iflag, oflag, lflag, ..line.termios };
            line.set_termios(termios);
            prop_assert!(line.readable() <= CAPACITY);
        }
    }
}
