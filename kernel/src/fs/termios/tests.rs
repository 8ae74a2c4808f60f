use zerocopy::IntoBytes;

use super::*;

#[test]
fn a_new_terminal_is_set_as_linux_sets_it() {
    // include/linux/tty.h, tty_std_termios, and INIT_C_CC.
    let termios = Termios::new();
    assert_eq!((termios.iflag, termios.oflag, termios.lflag), (0o2400, 0o5, 0o105073));
    let keys =
        [abi::VINTR, abi::VQUIT, abi::VERASE, abi::VKILL, abi::VEOF, abi::VSUSP].map(|at| termios.cc[at as usize]);
    assert_eq!(keys, [3, 0x1c, 0x7f, 0x15, 4, 0x1a]);
}

#[test]
fn a_disabled_character_is_none() {
    let mut termios = Termios::new();
    assert!(termios.is(3, abi::VINTR) && !termios.is(4, abi::VINTR));
    termios.cc[abi::VINTR as usize] = 0;
    assert!(!termios.is(0, abi::VINTR), "_POSIX_VDISABLE");
}

#[test]
fn the_layout_is_that_of_termios2() {
    let mut termios = Termios::new();
    (termios.line, termios.cc[0], termios.ispeed, termios.ospeed) = (0x11, 0x22, 0x3333, 0x4444);
    let bytes = termios.as_bytes();
    assert_eq!((bytes[16], bytes[17]), (0x11, 0x22));
    assert_eq!((bytes[36..40].to_vec(), bytes[40..44].to_vec()), (vec![0x33, 0x33, 0, 0], vec![0x44, 0x44, 0, 0]));
}
