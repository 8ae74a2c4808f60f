//! Who may signal whom.

use crate::errno::{Errno, Result};
use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::uid_gid::Ids;
use crate::task::current;
use crate::task::process::Process;
use crate::task::signals::info::{SI_USER, SigInfo};
use crate::task::signals::set::SIGCONT;

/// Whether ids alone let a sender signal a process: the real or effective user id is its real or saved one.
fn ids_match(sender: Ids, target: Ids) -> bool {
    [sender.real, sender.effective].iter().any(|id| [target.real, target.saved].contains(id))
}

/// Whether the current task may send this to a process. The kernel may send anything, and SIGCONT may be sent within a
/// session. EPERM otherwise; signal 0 asks.
pub fn check(target: &Process, info: &SigInfo) -> Result<()> {
    let process = &current().process;
    let from_user = info.code <= SI_USER;
    if !from_user || core::ptr::eq(&**process, target) {
        return Ok(());
    }
    let (ids, namespace) = {
        let credentials = target.credentials.lock();
        (credentials.user, credentials.namespace.clone())
    };
    let permitted = {
        let mine = process.credentials.lock();
        ids_match(mine.user, ids) || mine.grants(&namespace, Capability::Kill)
    };
    if permitted || info.signo == SIGCONT && target.session() == process.session() { Ok(()) } else { Err(Errno::EPERM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_or_effective_id_is_the_targets_real_or_saved_one() {
        // kill(2); kernel/signal.c, kill_ok_by_cred.
        let ids = |real, effective, saved| Ids { real, effective, saved, file_system: effective };
        let target = ids(1, 2, 3);
        for (sender, permitted) in [
            (ids(1, 9, 9), true),
            (ids(9, 1, 9), true),
            (ids(3, 9, 9), true),
            (ids(9, 3, 9), true),
            (ids(2, 2, 2), false),
            (ids(9, 9, 1), false),
        ] {
            assert_eq!(ids_match(sender, target), permitted);
        }
    }
}
