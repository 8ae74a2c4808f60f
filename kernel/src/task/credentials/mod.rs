//! What a process may do, and in whose name.
//!
//! | you want to … | look in |
//! | --- | --- |
//! | know what ids a process has, and what they mean in a namespace | [`uid_gid`], [`user_namespace`] |
//! | see what a capability is | [`capabilities`] |
//! | ask what the current task may do | [`capable`] |
//! | ask whether the current task may trace or look into a process | [`access`] |

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use crate::errno::{Errno, Result};
use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::uid_gid::{GROUP, Ids, Kind, USER};
use crate::task::credentials::user_namespace::{Namespace, UserNamespace};
use crate::vfs::context::FsContext;

/// The ids of a process. They decide whom it may signal, trace and control; access to files is not refused because of them.
#[derive(Clone, Default)]
pub struct Credentials {
    /// User ids.
    pub user: Ids,
    /// Group ids.
    pub group: Ids,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// What it may do beyond others, in its namespace.
    pub capabilities: crate::task::credentials::capabilities::Capabilities,
    /// Where its capabilities count, and which ids it sees.
    pub namespace: Namespace,
}

impl Credentials {
    /// Those of one kind.
    pub fn ids(&mut self, kind: Kind) -> &mut Ids {
        match kind {
            USER => &mut self.user,
            GROUP => &mut self.group,
        }
    }

    /// Whether they are the administrator's of their namespace.
    pub fn is_admin(&self) -> bool {
        self.capabilities.has(Capability::SysAdmin)
    }

    /// Whether credentials give a capability over what belongs to a namespace: it is theirs and the capability is effective, or
    /// it is nested in theirs so. Who has made a namespace has all of them in it.
    pub fn grants(&self, namespace: &Namespace, capability: Capability) -> bool {
        let mut at = namespace;
        loop {
            if user_namespace::is_same(at, &self.namespace) {
                return self.capabilities.has(capability);
            }
            let Some(nested) = at else { return false };
            if user_namespace::is_same(nested.parent(), &self.namespace) && nested.owner() == self.user.effective {
                return true;
            }
            at = nested.parent();
        }
    }

    /// A copy of `context` with mounts of its own, which belong to the user namespace of these credentials. EPERM unless they are the
    /// administrator's of it.
    pub fn own_mounts(&self, context: &FsContext) -> Result<FsContext> {
        if !self.is_admin() {
            return Err(Errno::EPERM);
        }
        context.with_own_mounts(self.namespace.clone().map(|namespace| namespace as Arc<dyn Any + Send + Sync>))
    }

    /// Puts a process, which has a single thread, into a new namespace: that of these credentials, which are its own, becomes
    /// its parent.
    pub fn enter_new_namespace(&mut self) -> Result<()> {
        let namespace = UserNamespace::nested(&self.namespace, self.user.effective, self.group.effective)?;
        self.namespace = Some(namespace);
        self.capabilities = Default::default();
        Ok(())
    }
}

pub mod access;
pub mod capabilities;
pub mod capable;
#[cfg(test)]
mod tests;
pub mod uid_gid;
pub mod user_namespace;
