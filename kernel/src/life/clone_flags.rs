//! `CLONE_*`: what clone, clone3 and unshare share or separate.

use bitflags::bitflags;
use linux_raw_sys::general as abi;

bitflags! {
    /// The flags of clone(2), clone3(2) and unshare(2). One below 0x100 is clone3's and unshare's alone: clone(2) has the exit
    /// signal there.
    #[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
    pub struct CloneFlags: u64 {
        /// A new time namespace.
        const NEWTIME = abi::CLONE_NEWTIME as u64;
        /// The address space is shared.
        const VM = abi::CLONE_VM as u64;
        /// Working directory, root and umask are shared.
        const FS = abi::CLONE_FS as u64;
        /// File descriptors are shared.
        const FILES = abi::CLONE_FILES as u64;
        /// Signal actions are shared.
        const SIGHAND = abi::CLONE_SIGHAND as u64;
        /// The parent gets a pidfd.
        const PIDFD = abi::CLONE_PIDFD as u64;
        /// The parent's tracer traces the child, too.
        const PTRACE = abi::CLONE_PTRACE as u64;
        /// The parent waits until the child execs or exits.
        const VFORK = abi::CLONE_VFORK as u64;
        /// The child's parent is the caller's parent.
        const PARENT = abi::CLONE_PARENT as u64;
        /// The child is a thread of the caller's process.
        const THREAD = abi::CLONE_THREAD as u64;
        /// A new mount namespace.
        const NEWNS = abi::CLONE_NEWNS as u64;
        /// System V semaphore adjustments are shared.
        const SYSVSEM = abi::CLONE_SYSVSEM as u64;
        /// The child has its own thread-local storage.
        const SETTLS = abi::CLONE_SETTLS as u64;
        /// The TID is stored in the parent's memory.
        const PARENT_SETTID = abi::CLONE_PARENT_SETTID as u64;
        /// The TID in the child's memory is cleared when the child exits.
        const CHILD_CLEARTID = abi::CLONE_CHILD_CLEARTID as u64;
        /// Has no effect.
        const DETACHED = abi::CLONE_DETACHED as u64;
        /// A tracer cannot force [`CloneFlags::PTRACE`] on the child.
        const UNTRACED = abi::CLONE_UNTRACED as u64;
        /// The TID is stored in the child's memory.
        const CHILD_SETTID = abi::CLONE_CHILD_SETTID as u64;
        /// A new cgroup namespace.
        const NEWCGROUP = abi::CLONE_NEWCGROUP as u64;
        /// A new UTS namespace.
        const NEWUTS = abi::CLONE_NEWUTS as u64;
        /// A new IPC namespace.
        const NEWIPC = abi::CLONE_NEWIPC as u64;
        /// A new user namespace.
        const NEWUSER = abi::CLONE_NEWUSER as u64;
        /// A new PID namespace.
        const NEWPID = abi::CLONE_NEWPID as u64;
        /// A new network namespace.
        const NEWNET = abi::CLONE_NEWNET as u64;
        /// The I/O context is shared. Has no effect.
        const IO = abi::CLONE_IO as u64;
        /// Signal actions become the default ones (clone3 only).
        const CLEAR_SIGHAND = abi::CLONE_CLEAR_SIGHAND;
        /// The child starts in a given control group (clone3 only).
        const INTO_CGROUP = abi::CLONE_INTO_CGROUP;
    }
}

impl CloneFlags {
    /// What this kernel can share or separate for a child. The other flags are refused.
    pub const SUPPORTED: CloneFlags = CloneFlags::all()
        .difference(CloneFlags::NEWTIME)
        .difference(CloneFlags::NEWCGROUP)
        .difference(CloneFlags::NEWUTS)
        .difference(CloneFlags::NEWIPC)
        .difference(CloneFlags::NEWNET)
        .difference(CloneFlags::INTO_CGROUP);

    /// The flags and the exit signal in the low byte of the first argument of clone(2), of which the upper half is ignored.
    pub const fn from_clone(flags: u64) -> (CloneFlags, u8) {
        (CloneFlags::from_bits_retain(flags & 0xffff_ff00), flags as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clone_has_the_exit_signal_in_its_low_byte() {
        let flags = CloneFlags::VM | CloneFlags::VFORK;
        assert_eq!(CloneFlags::from_clone(flags.bits() | 17), (flags, 17));
        // clone(2) has neither CLONE_NEWTIME nor what clone3 has above 32 bits.
        assert_eq!(CloneFlags::from_clone(0x3_0000_0080), (CloneFlags::empty(), 0x80));
    }

    #[test]
    fn flags_without_a_name_are_kept_and_not_supported() {
        let flags = CloneFlags::from_bits_retain(1 << 40 | CloneFlags::VM.bits());
        assert_eq!(flags.bits(), 1 << 40 | 0x100);
        assert!(!CloneFlags::SUPPORTED.contains(flags) && !CloneFlags::all().contains(flags));
        assert_eq!(CloneFlags::SUPPORTED.bits(), 0x1_b1ff_ff00);
    }
}
