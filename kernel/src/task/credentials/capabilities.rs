//! Capabilities: what a process may do beyond others.
//!
//! They follow the user ids: a process that leaves the ids of root loses them ([`Capabilities::follow`]).

use bitflags::bitflags;

use crate::task::credentials::uid_gid::Ids;

/// All that Linux 6.1 has.
pub const ALL: u64 = (1 << 41) - 1;

/// What is asked for, by the numbers of the ABI (`CAP_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capability {
    /// Signal any process.
    Kill = 5,
    /// Take any group id.
    Setgid = 6,
    /// Take any user id.
    Setuid = 7,
    /// Change sets of capabilities.
    Setpcap = 8,
    /// Bind sockets to ports below 1024.
    NetBindService = 10,
    /// Use I/O ports.
    SysRawio = 17,
    /// Trace any process.
    SysPtrace = 19,
    /// Administer.
    SysAdmin = 21,
    /// Change anybody's priority and affinity, and raise one's own.
    SysNice = 23,
    /// Exceed and raise resource limits.
    SysResource = 24,
    /// Checkpoint and restore processes.
    CheckpointRestore = 40,
}

/// The sets of a process.
#[derive(Clone, Copy)]
pub struct Capabilities {
    /// `CAP_*`, a bit each.
    pub effective: u64,
    /// `CAP_*`, a bit each.
    pub permitted: u64,
    /// `CAP_*`, a bit each.
    pub inheritable: u64,
    /// What exec may give at most.
    pub bounding: u64,
    /// What exec keeps for who is not root.
    pub ambient: u64,
    /// What root's ids mean.
    pub secure_bits: SecureBits,
}

bitflags! {
    /// `SECBIT_*`; each bit is followed by the one that locks it.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct SecureBits: u32 {
        /// exec gives nothing for being root.
        const NO_ROOT = 1 << 0;
        /// See above.
        const NO_ROOT_LOCKED = 1 << 1;
        /// Capabilities do not follow the user ids.
        const NO_SETUID_FIXUP = 1 << 2;
        /// See above.
        const NO_SETUID_FIXUP_LOCKED = 1 << 3;
        /// Leaving the ids of root keeps what is permitted (PR_SET_KEEPCAPS).
        const KEEP_CAPS = 1 << 4;
        /// See above.
        const KEEP_CAPS_LOCKED = 1 << 5;
        /// Nothing becomes ambient.
        const NO_AMBIENT_RAISE = 1 << 6;
        /// See above.
        const NO_AMBIENT_RAISE_LOCKED = 1 << 7;
    }
}

impl SecureBits {
    /// The bits that lock others.
    pub const LOCKS: SecureBits = SecureBits::NO_ROOT_LOCKED
        .union(SecureBits::NO_SETUID_FIXUP_LOCKED)
        .union(SecureBits::KEEP_CAPS_LOCKED)
        .union(SecureBits::NO_AMBIENT_RAISE_LOCKED);
}

/// What exec gives to a program for being root's.
#[derive(Clone, Copy)]
pub struct Given {
    /// What it may use.
    pub permitted: u64,
    /// Whether all of that is effective at once.
    pub is_effective: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            effective: ALL,
            permitted: ALL,
            inheritable: 0,
            bounding: ALL,
            ambient: 0,
            secure_bits: SecureBits::empty(),
        }
    }
}

impl Capabilities {
    /// Whether the capability is effective.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective & 1 << capability as u32 != 0
    }

    /// The sets with their names, for `/proc/PID/status`.
    pub fn sets(&self) -> [(&'static str, u64); 5] {
        [
            ("CapInh", self.inheritable),
            ("CapPrm", self.permitted),
            ("CapEff", self.effective),
            ("CapBnd", self.bounding),
            ("CapAmb", self.ambient),
        ]
    }

    /// Whether all that is permitted to `other` is permitted, too.
    pub fn permit_all_of(&self, other: &Capabilities) -> bool {
        other.permitted & !self.permitted == 0
    }

    /// Whether all that is permitted to `other` is effective.
    pub fn have_all_of(&self, other: &Capabilities) -> bool {
        other.permitted & !self.effective == 0
    }

    /// The user ids have changed; `root` is the id of root where they count.
    pub fn follow(&mut self, old: Ids, new: Ids, root: Option<u32>) {
        let Some(root) = root else { return };
        if self.secure_bits.contains(SecureBits::NO_SETUID_FIXUP) {
            return;
        }
        let is_any = |ids: Ids| [ids.real, ids.effective, ids.saved].contains(&root);
        if is_any(old) && !is_any(new) {
            if !self.secure_bits.contains(SecureBits::KEEP_CAPS) {
                self.permitted = 0;
                self.effective = 0;
            }
            self.ambient = 0;
        }
        match (old.effective == root, new.effective == root) {
            (true, false) => self.effective = 0,
            (false, true) => self.effective = self.permitted,
            _ => {}
        }
    }
}

impl Capabilities {
    /// What a program gets that is started with the ids of root: as the real one, as the effective one.
    pub fn of_root(&self, real: bool, effective: bool) -> Given {
        let counts = !self.secure_bits.contains(SecureBits::NO_ROOT);
        Given {
            permitted: if counts && (real || effective) { self.bounding | self.inheritable } else { 0 },
            is_effective: counts && effective,
        }
    }

    /// Whether `permitted` is more than these have.
    pub fn gain(&self, permitted: u64) -> bool {
        permitted & !self.permitted != 0
    }

    /// What these have of `permitted`.
    pub fn limit(&self, permitted: u64) -> u64 {
        permitted & self.permitted
    }

    /// Makes them a program's that is `given` something. A change of ids cancels what is ambient. Returns whether more is
    /// permitted than that.
    pub fn become_program(&mut self, given: Given, changes_ids: bool) -> bool {
        if changes_ids {
            self.ambient = 0;
        }
        self.permitted = given.permitted | self.ambient;
        self.effective = if given.is_effective { self.permitted } else { self.ambient };
        self.secure_bits.remove(SecureBits::KEEP_CAPS);
        self.permitted & !self.ambient != 0
    }
}

#[cfg(test)]
mod tests;
