//! Error numbers of Linux's system-call ABI.

/// A positive Linux error number (`EINVAL` is 22).
///
/// As wide as what system calls return, so that a [`Result`] of theirs comes back in two registers and not by way of
/// memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub usize);

/// What a system call or a part of one returns.
pub type Result<T> = core::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident)*) => {
        #[allow(missing_docs)]
        impl Errno { $(pub const $name: Errno = Errno(linux_raw_sys::errno::$name as usize);)* }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST EXDEV
    ENODEV ENOTDIR EISDIR EINVAL EMFILE ENOTTY EFBIG ENOSPC ESPIPE EROFS EPIPE ERANGE ENODATA
    EDEADLK ETXTBSY ELIBBAD ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP EOVERFLOW EOPNOTSUPP ETIMEDOUT EINPROGRESS
}

impl Errno {
    /// Linux has one number for both names.
    pub const ENOTSUP: Errno = Errno::EOPNOTSUPP;

    /// Internal to Linux, which returns it all the same from prctl(PR_RSEQ_SLICE_EXTENSION).
    pub const ENOTSUPP: Errno = Errno(524);
}

/// Restart codes: internal to the kernel, turned into EINTR or a restart before user mode sees them
/// (`portcullis_linux_abi::restart`).
impl Errno {
    /// Restart if the handler has SA_RESTART, else EINTR.
    pub const ERESTARTSYS: Errno = Errno(512);
    /// Always restart.
    pub const ERESTARTNOINTR: Errno = Errno(513);
    /// Restart only if no handler runs.
    pub const ERESTARTNOHAND: Errno = Errno(514);
    /// Restart through `restart_syscall` if no handler runs.
    pub const ERESTART_RESTARTBLOCK: Errno = Errno(516);
}
