//! Who is at the other end of a socket.

use crate::task::credentials::uid_gid::{GROUP, USER};
use crate::task::credentials::user_namespace;
use crate::task::pid::{Pid, numbers};
use crate::task::{Process, current};

/// A process and whose rights it had, by the numbers of the first namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerCredentials {
    /// The process.
    pub pid: Pid,
    /// Its user id.
    pub uid: u32,
    /// Its group id.
    pub gid: u32,
}

impl PeerCredentials {
    /// Nobody: what a socket shows that has no peer, or a message that came without.
    pub const NOBODY: PeerCredentials = PeerCredentials { pid: 0, uid: u32::MAX, gid: u32::MAX };

    /// What a process shows its peers when it connects or listens: effective ids.
    pub fn effective(process: &Process) -> PeerCredentials {
        let credentials = process.credentials.lock();
        PeerCredentials { pid: process.pid, uid: credentials.user.effective, gid: credentials.group.effective }
    }

    /// What goes with a process's messages: real ids.
    pub fn real(process: &Process) -> PeerCredentials {
        let credentials = process.credentials.lock();
        PeerCredentials { pid: process.pid, uid: credentials.user.real, gid: credentials.group.real }
    }

    /// `struct ucred` as the current process sees it.
    pub fn seen(self) -> [u32; 3] {
        let namespace = current().process.credentials.lock().namespace.clone();
        let pid = numbers::seen(self.pid);
        [
            pid as u32,
            user_namespace::seen(&namespace, USER, self.uid),
            user_namespace::seen(&namespace, GROUP, self.gid),
        ]
    }
}
