//! What the current task may do.

use crate::task::credentials::capabilities::Capability;
use crate::task::credentials::user_namespace::Namespace;
use crate::task::current;

/// Whether the current task has a capability that counts for the whole machine.
pub fn capable(capability: Capability) -> bool {
    capable_in(&None, capability)
}

/// Whether the current task has a capability over what belongs to a user namespace.
pub fn capable_in(namespace: &Namespace, capability: Capability) -> bool {
    current().process.credentials.lock().grants(namespace, capability)
}

/// Whether the current task is the administrator: it has CAP_SYS_ADMIN, and not of a namespace alone.
pub fn is_admin() -> bool {
    capable(Capability::SysAdmin)
}

/// Whether the current task is the administrator of what belongs to a user namespace.
pub fn is_admin_of(namespace: &Namespace) -> bool {
    capable_in(namespace, Capability::SysAdmin)
}

/// Whether the current task is the administrator of its user namespace.
pub fn is_admin_here() -> bool {
    current().process.credentials.lock().is_admin()
}

/// Whether the current task may choose the numbers of processes in PID namespaces that this user namespace owns.
pub fn may_choose_pids(owner: &Namespace) -> bool {
    capable_in(owner, Capability::SysAdmin) || capable_in(owner, Capability::CheckpointRestore)
}
