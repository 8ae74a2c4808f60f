//! The number that `clone` gives as the signal of a child's end.

use crate::task::signals::set::{SIGCHLD, is_valid};

/// What a parent gets when its child ends. Any number is accepted; one that is no signal sends none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExitSignal(u8);

impl ExitSignal {
    /// A child of `fork`, and everybody's after `execve` or with another parent.
    pub const CHILD: ExitSignal = ExitSignal(SIGCHLD as u8);

    /// The low byte of `clone`'s flags.
    pub const fn from_clone(number: u8) -> ExitSignal {
        ExitSignal(number)
    }

    /// The signal to send, 1 to 64.
    pub const fn signal(self) -> Option<i32> {
        let number = self.0 as i32;
        if is_valid(number) { Some(number) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_no_signal_sends_none() {
        let signals = [0, 1, 17, 64, 65, 255].map(|number| ExitSignal::from_clone(number).signal());
        assert_eq!(signals, [None, Some(1), Some(17), Some(64), None, None]);
        assert_eq!((ExitSignal::CHILD.signal(), ExitSignal::default().signal()), (Some(17), None));
    }
}
