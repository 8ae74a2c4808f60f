use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn strings(of: &[&[u8]]) -> Strings {
    let mut strings = Strings::default();
    of.iter().for_each(|string| strings.push(string));
    strings
}

#[test]
fn a_script_is_started_with_its_interpreter_first() {
    // execve(2), "Interpreter scripts": interpreter [optional-arg] pathname arg...
    let mut argv = strings(&[b"script", b"one", b"two"]);
    argv.replace_first(&[b"/bin/sh", b"-e", b"./script"]);
    assert_eq!((argv.count, &argv.bytes[..]), (5, b"/bin/sh\0-e\0./script\0one\0two\0".as_slice()));
}

#[test]
fn without_arguments_there_is_nothing_to_replace() {
    let mut argv = Strings::default();
    argv.replace_first(&[b"/bin/sh", b"script"]);
    assert_eq!((argv.count, &argv.bytes[..]), (2, b"/bin/sh\0script\0".as_slice()));
}

proptest! {
    #[test]
    fn strings_stay_what_they_are(of in vec(vec(1u8..=255, 0..20), 1..10), first in vec(vec(1u8..=255, 0..20), 0..4)) {
        let slices: Vec<&[u8]> = of.iter().map(Vec::as_slice).collect();
        let new: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
        let mut built = strings(&slices);
        prop_assert_eq!(built.bytes.iter().filter(|&&byte| byte == 0).count(), built.count);
        built.replace_first(&new);
        let expected: Vec<&[u8]> = new.iter().chain(&slices[1..]).copied().collect();
        let got: Vec<&[u8]> = built.bytes.split(|&byte| byte == 0).take(built.count).collect();
        prop_assert_eq!(got, expected);
    }
}
