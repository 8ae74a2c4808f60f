//! How much signal information each user has queued, for RLIMIT_SIGPENDING.
//!
//! What is queued holds a [`Charge`] on the user whose process it is for, and so does each POSIX timer, whose signal has a
//! place in the queue from the beginning.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::machine::sync::SpinLock;

/// A user, by real id. All processes of the user share it.
pub struct User {
    /// Shared with each charge, and counted so.
    charges: Arc<()>,
}

/// One piece of information that is queued, or may be.
pub struct Charge(#[expect(dead_code, reason = "held, to be counted")] Arc<()>);

/// There are few.
static USERS: SpinLock<Vec<(u32, Weak<User>)>> = SpinLock::new(Vec::new());

impl User {
    /// The user with this id. Allocates.
    pub fn find(uid: u32) -> Arc<User> {
        let mut users = USERS.lock();
        let known = users.iter().find(|(other, _)| *other == uid);
        if let Some(user) = known.and_then(|(_, user)| user.upgrade()) {
            return user;
        }
        // Users without processes.
        users.retain(|(_, user)| user.strong_count() != 0);
        let user = Arc::new(User { charges: Arc::new(()) });
        users.push((uid, Arc::downgrade(&user)));
        user
    }

    /// How much is queued.
    pub fn queued(&self) -> u64 {
        Arc::strong_count(&self.charges) as u64 - 1
    }

    /// Charges for one more, whatever the limit.
    pub fn charge(&self) -> Charge {
        Charge(self.charges.clone())
    }

    /// Charges for one more, unless that is more than `limit`.
    pub fn charge_within(&self, limit: u64) -> Option<Charge> {
        (self.queued() < limit).then(|| self.charge())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_one_user_share_what_is_charged() {
        let (user, again, other) = (User::find(6_000_000), User::find(6_000_000), User::find(6_000_001));
        let charge = user.charge();
        assert_eq!((again.queued(), other.queued()), (1, 0));
        assert!(again.charge_within(1).is_none());
        let second = again.charge_within(2).expect("there is room for one");
        assert_eq!(user.queued(), 2);
        drop((charge, second));
        assert_eq!(user.queued(), 0);
        assert!(user.charge_within(0).is_none());
    }
}
