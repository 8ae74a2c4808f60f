//! The system-call table.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use linux_raw_sys::general::*;
use portcullis::x86_64::UserRegs;

use crate::calls::{
    affinity, capabilities, clock, credentials, fs as files, kcmp, limits, membarrier, memory, net, ports, prctl,
    process, rseq, seccomp, signal, system_info, timers, usage,
};
use crate::errno::{Errno, Result};
use crate::machine::nospec;
use crate::sched::lent::with_state;
use crate::task::credentials::uid_gid;
use crate::work::slice_extension::NR_RSEQ_SLICE_YIELD;

/// A system call, with all registers: most take only their arguments from them. Returns RAX: who returns no error pays for none.
type Call = fn(&mut UserRegs) -> u64;

/// One entry of the table per line: the number, and the function with the registers it takes its arguments from. Those of the
/// last part get the state, because they change or copy the registers, or stop for a tracer.
macro_rules! calls {
    (
        $at:ident, $regs:ident,
        arguments { $($number:ident => $($function:ident)::+ ($($register:ident),*);)* }
        other_arguments { $($number_other:ident => $call:expr;)* }
        state { $($number_state:ident => $call_state:expr;)* }
    ) => {{
        let mut calls: [Call; CALLS + 1] = [unknown; CALLS + 1];
        $(calls[$number as usize] = |$regs| answer($($function)::+($($regs.$register),*));)*
        $(calls[$number_other as usize] = |$regs| answer($call);)*
        $(calls[$number_state as usize] = |regs| {
            let $regs = *regs;
            answer(with_state(regs, |$at| $call_state))
        };)*
        calls
    }};
}

/// Makes the system call that `regs` ask for and puts the result into RAX.
///
/// The number is the low half of RAX at entry, as in Linux 6.1: the upper half does not count, so that
/// 0x1_0000_0027 is getpid, too. Arguments are taken as 64 bits; a function that has narrower ones cuts them.
#[inline]
pub fn do_syscall_64(regs: &mut UserRegs) {
    let call = nospec::entry_or_last(&TABLE, regs.orig_rax as u32);
    regs.rax = call(regs);
}

/// The result as user mode gets it in RAX.
#[inline(always)]
fn answer(result: Result<usize>) -> u64 {
    match result {
        Ok(value) => value as u64,
        Err(Errno(number)) => (number as u64).wrapping_neg(),
    }
}

/// Numbers that the table has room for. Too few do not compile. The entry behind them is all others'.
const CALLS: usize = 472;

/// The functions by number. A table and not a `match`, because calls in one large function would all pay for the
/// registers that the most demanding of them saves.
#[allow(unused_variables, reason = "some calls have no arguments")]
static TABLE: [Call; CALLS + 1] = calls! {
        at, regs,
        arguments {
            // Tasks.
            __NR_getpid => credentials::sys_getpid();
            __NR_gettid => credentials::sys_gettid();
            __NR_getppid => credentials::sys_getppid();
            __NR_wait4 => process::sys_wait4(rdi, rsi, rdx, r10);
            __NR_waitid => process::sys_waitid(rdi, rsi, rdx, r10, r8);
            __NR_futex => process::sys_futex(rdi, rsi, rdx, r10, r8, r9);
            __NR_futex_waitv => process::sys_futex_waitv(rdi, rsi, rdx, r10, r8);
            __NR_set_robust_list => process::sys_set_robust_list(rdi, rsi);
            __NR_get_robust_list => process::sys_get_robust_list(rdi, rsi, rdx);
            __NR_set_tid_address => prctl::sys_set_tid_address(rdi);
            __NR_prctl => prctl::sys_prctl(rdi, rsi, rdx, r10, r8);
            __NR_arch_prctl => prctl::sys_arch_prctl(rdi, rsi);
            __NR_modify_ldt => crate::calls::ldt::sys_modify_ldt(rdi, rsi, rdx);
            __NR_iopl => ports::sys_iopl(rdi);
            __NR_ioperm => ports::sys_ioperm(rdi, rsi, rdx);
            __NR_personality => prctl::sys_personality(rdi);
            __NR_restart_syscall => signal::sys_restart_syscall();
            // Other processes.
            __NR_ptrace => crate::calls::ptrace::sys_ptrace(rdi, rsi, rdx, r10);
            __NR_process_vm_readv => process::sys_process_vm_readv(rdi, rsi, rdx, r10, r8, r9);
            __NR_process_vm_writev => process::sys_process_vm_writev(rdi, rsi, rdx, r10, r8, r9);
            // Groups, sessions, users.
            __NR_getpgid => credentials::sys_getpgid(rdi);
            __NR_getsid => credentials::sys_getsid(rdi);
            __NR_setpgid => credentials::sys_setpgid(rdi, rsi);
            __NR_setsid => credentials::sys_setsid();
            __NR_getgroups => credentials::sys_getgroups(rdi, rsi);
            __NR_setgroups => credentials::sys_setgroups(rdi, rsi);
            // Scheduling.
            __NR_sched_yield => affinity::sys_sched_yield();
            __NR_sched_setaffinity => affinity::sys_sched_setaffinity(rdi, rsi, rdx);
            __NR_sched_getaffinity => affinity::sys_sched_getaffinity(rdi, rsi, rdx);
            __NR_sched_setscheduler => affinity::sys_sched_setscheduler(rdi, rsi, rdx);
            __NR_sched_getscheduler => affinity::sys_sched_getscheduler(rdi);
            __NR_sched_setparam => affinity::sys_sched_setparam(rdi, rsi);
            __NR_sched_getparam => affinity::sys_sched_getparam(rdi, rsi);
            __NR_sched_get_priority_max => affinity::sys_sched_get_priority_max(rdi);
            __NR_sched_get_priority_min => affinity::sys_sched_get_priority_min(rdi);
            __NR_sched_rr_get_interval => affinity::sys_sched_rr_get_interval(rdi, rsi);
            __NR_getpriority => affinity::sys_getpriority(rdi, rsi);
            __NR_setpriority => affinity::sys_setpriority(rdi, rsi, rdx);
            __NR_getcpu => affinity::sys_getcpu(rdi, rsi);
            // Time.
            __NR_clock_gettime => clock::sys_clock_gettime(rdi, rsi);
            __NR_clock_settime => clock::sys_clock_settime(rdi, rsi);
            __NR_clock_getres => clock::sys_clock_getres(rdi, rsi);
            __NR_clock_nanosleep => clock::sys_clock_nanosleep(rdi, rsi, rdx, r10);
            __NR_nanosleep => clock::sys_nanosleep(rdi, rsi);
            __NR_gettimeofday => clock::sys_gettimeofday(rdi, rsi);
            __NR_settimeofday => clock::sys_settimeofday(rdi);
            __NR_time => clock::sys_time(rdi);
            __NR_times => usage::sys_times(rdi);
            __NR_getrusage => usage::sys_getrusage(rdi, rsi);
            __NR_alarm => timers::sys_alarm(rdi);
            __NR_getitimer => timers::sys_getitimer(rdi, rsi);
            __NR_setitimer => timers::sys_setitimer(rdi, rsi, rdx);
            __NR_timer_create => timers::sys_timer_create(rdi, rsi, rdx);
            __NR_timer_settime => timers::sys_timer_settime(rdi, rsi, rdx, r10);
            __NR_timer_gettime => timers::sys_timer_gettime(rdi, rsi);
            __NR_timer_getoverrun => timers::sys_timer_getoverrun(rdi);
            __NR_timer_delete => timers::sys_timer_delete(rdi);
            // The system.
            __NR_getrlimit => limits::sys_getrlimit(rdi, rsi);
            __NR_setrlimit => limits::sys_setrlimit(rdi, rsi);
            __NR_prlimit64 => limits::sys_prlimit64(rdi, rsi, rdx, r10);
            __NR_uname => system_info::sys_uname(rdi);
            __NR_sethostname => system_info::sys_sethostname(rdi, rsi);
            __NR_setdomainname => system_info::sys_setdomainname(rdi, rsi);
            __NR_sysinfo => system_info::sys_sysinfo(rdi);
            __NR_getrandom => system_info::sys_getrandom(rdi, rsi, rdx);
            __NR_reboot => system_info::sys_reboot(rdi, rsi, rdx);
            __NR_capget => capabilities::sys_capget(rdi, rsi);
            __NR_capset => capabilities::sys_capset(rdi, rsi);
            __NR_syslog => system_info::sys_syslog(rdi);
            // Memory.
            __NR_mmap => memory::sys_mmap(rdi, rsi, rdx, r10, r8, r9);
            __NR_munmap => memory::sys_munmap(rdi, rsi);
            __NR_mprotect => memory::sys_mprotect(rdi, rsi, rdx);
            __NR_pkey_alloc => memory::sys_pkey_alloc(rdi, rsi);
            __NR_pkey_free => memory::sys_pkey_free(rdi);
            __NR_pkey_mprotect => memory::sys_pkey_mprotect(rdi, rsi, rdx, r10);
            __NR_mremap => memory::sys_mremap(rdi, rsi, rdx, r10, r8);
            __NR_brk => memory::sys_brk(rdi);
            __NR_madvise => memory::sys_madvise(rdi, rsi, rdx);
            __NR_msync => memory::sys_msync(rdi, rsi, rdx);
            __NR_mincore => memory::sys_mincore(rdi, rsi, rdx);
            __NR_mlock => memory::sys_mlock(rdi, rsi);
            __NR_mlock2 => memory::sys_mlock2(rdi, rsi, rdx);
            __NR_munlock => memory::sys_munlock(rdi, rsi);
            __NR_mlockall => memory::sys_mlockall(rdi);
            __NR_munlockall => memory::sys_munlockall();
            __NR_membarrier => membarrier::sys_membarrier(rdi, rsi, rdx);
            __NR_rseq => rseq::sys_rseq(rdi, rsi, rdx, r10);
            NR_RSEQ_SLICE_YIELD => rseq::sys_rseq_slice_yield();
            __NR_seccomp => seccomp::sys_seccomp(rdi, rsi, rdx);
            __NR_kcmp => kcmp::sys_kcmp(rdi, rsi, rdx, r10, r8);
            __NR_unshare => process::sys_unshare(rdi);
            // Files.
            __NR_stat => files::sys_stat(rdi, rsi);
            __NR_lstat => files::sys_lstat(rdi, rsi);
            __NR_fstat => files::sys_fstat(rdi, rsi);
            __NR_newfstatat => files::sys_newfstatat(rdi, rsi, rdx, r10);
            __NR_statx => files::sys_statx(rdi, rsi, rdx, r10, r8);
            __NR_statfs => files::sys_statfs(rdi, rsi);
            __NR_fstatfs => files::sys_fstatfs(rdi, rsi);
            __NR_chmod => files::sys_chmod(rdi, rsi);
            __NR_fchmodat => files::sys_fchmodat(rdi, rsi, rdx);
            __NR_fchmodat2 => files::sys_fchmodat2(rdi, rsi, rdx, r10);
            __NR_fchmod => files::sys_fchmod(rdi, rsi);
            __NR_fchownat => files::sys_fchownat(rdi, rsi, rdx, r10, r8);
            __NR_chown => files::sys_chown(rdi, rsi, rdx);
            __NR_lchown => files::sys_lchown(rdi, rsi, rdx);
            __NR_fchown => files::sys_fchown(rdi, rsi, rdx);
            __NR_utimensat => files::sys_utimensat(rdi, rsi, rdx, r10);
            __NR_futimesat => files::sys_futimesat(rdi, rsi, rdx);
            __NR_utimes => files::sys_utimes(rdi, rsi);
            __NR_utime => files::sys_utime(rdi, rsi);
            __NR_setxattr => files::sys_setxattr(rdi, rsi, rdx, r10, r8);
            __NR_lsetxattr => files::sys_lsetxattr(rdi, rsi, rdx, r10, r8);
            __NR_fsetxattr => files::sys_fsetxattr(rdi, rsi, rdx, r10, r8);
            __NR_getxattr => files::sys_getxattr(rdi, rsi);
            __NR_lgetxattr => files::sys_lgetxattr(rdi, rsi);
            __NR_fgetxattr => files::sys_fgetxattr(rdi, rsi);
            __NR_listxattr => files::sys_listxattr(rdi);
            __NR_llistxattr => files::sys_llistxattr(rdi);
            __NR_flistxattr => files::sys_flistxattr(rdi);
            __NR_removexattr => files::sys_removexattr(rdi, rsi);
            __NR_lremovexattr => files::sys_lremovexattr(rdi, rsi);
            __NR_fremovexattr => files::sys_fremovexattr(rdi, rsi);
            __NR_close => files::sys_close(rdi);
            __NR_close_range => files::sys_close_range(rdi, rsi, rdx);
            __NR_dup => files::sys_dup(rdi);
            __NR_dup2 => files::sys_dup2(rdi, rsi);
            __NR_dup3 => files::sys_dup3(rdi, rsi, rdx);
            __NR_pipe2 => files::sys_pipe2(rdi, rsi);
            __NR_pipe => files::sys_pipe(rdi);
            __NR_fcntl => files::sys_fcntl(rdi, rsi, rdx);
            __NR_ioctl => files::sys_ioctl(rdi, rsi, rdx);
            __NR_getdents64 => files::sys_getdents64(rdi, rsi, rdx);
            __NR_getdents => files::sys_getdents(rdi, rsi, rdx);
            __NR_getcwd => files::sys_getcwd(rdi, rsi);
            __NR_chdir => files::sys_chdir(rdi);
            __NR_fchdir => files::sys_fchdir(rdi);
            __NR_chroot => files::sys_chroot(rdi);
            __NR_umask => files::sys_umask(rdi);
            __NR_mount => files::sys_mount(rdi, rsi, rdx, r10, r8);
            __NR_umount2 => files::sys_umount2(rdi, rsi);
            __NR_pivot_root => files::sys_pivot_root(rdi, rsi);
            __NR_mkdirat => files::sys_mkdirat(rdi, rsi, rdx);
            __NR_mkdir => files::sys_mkdir(rdi, rsi);
            __NR_mknodat => files::sys_mknodat(rdi, rsi, rdx, r10);
            __NR_mknod => files::sys_mknod(rdi, rsi, rdx);
            __NR_symlinkat => files::sys_symlinkat(rdi, rsi, rdx);
            __NR_symlink => files::sys_symlink(rdi, rsi);
            __NR_linkat => files::sys_linkat(rdi, rsi, rdx, r10, r8);
            __NR_link => files::sys_link(rdi, rsi);
            __NR_unlinkat => files::sys_unlinkat(rdi, rsi, rdx);
            __NR_unlink => files::sys_unlink(rdi);
            __NR_rmdir => files::sys_rmdir(rdi);
            __NR_renameat2 => files::sys_renameat2(rdi, rsi, rdx, r10, r8);
            __NR_renameat => files::sys_renameat(rdi, rsi, rdx, r10);
            __NR_rename => files::sys_rename(rdi, rsi);
            __NR_readlinkat => files::sys_readlinkat(rdi, rsi, rdx, r10);
            __NR_readlink => files::sys_readlink(rdi, rsi, rdx);
            __NR_faccessat2 => files::sys_faccessat2(rdi, rsi, rdx, r10);
            __NR_faccessat => files::sys_faccessat(rdi, rsi, rdx);
            __NR_access => files::sys_access(rdi, rsi);
            __NR_openat => files::sys_openat(rdi, rsi, rdx, r10);
            __NR_open => files::sys_open(rdi, rsi, rdx);
            __NR_creat => files::sys_creat(rdi, rsi);
            __NR_openat2 => files::sys_openat2(rdi, rsi, rdx, r10);
            __NR_memfd_create => files::sys_memfd_create(rdi, rsi);
            __NR_read => files::sys_read(rdi, rsi, rdx);
            __NR_write => files::sys_write(rdi, rsi, rdx);
            __NR_readv => files::sys_readv(rdi, rsi, rdx);
            __NR_writev => files::sys_writev(rdi, rsi, rdx);
            __NR_pread64 => files::sys_pread64(rdi, rsi, rdx, r10);
            __NR_pwrite64 => files::sys_pwrite64(rdi, rsi, rdx, r10);
            __NR_preadv => files::sys_preadv(rdi, rsi, rdx, r10);
            __NR_pwritev => files::sys_pwritev(rdi, rsi, rdx, r10);
            __NR_preadv2 => files::sys_preadv2(rdi, rsi, rdx, r10, r8, r9);
            __NR_pwritev2 => files::sys_pwritev2(rdi, rsi, rdx, r10, r8, r9);
            __NR_lseek => files::sys_lseek(rdi, rsi, rdx);
            __NR_sendfile => files::sys_sendfile(rdi, rsi, rdx, r10);
            __NR_copy_file_range => files::sys_copy_file_range(rdi, rsi, rdx, r10, r8, r9);
            __NR_ftruncate => files::sys_ftruncate(rdi, rsi);
            __NR_truncate => files::sys_truncate(rdi, rsi);
            __NR_fallocate => files::sys_fallocate(rdi, rsi, rdx, r10);
            __NR_fadvise64 => files::sys_fadvise64(rdi);
            __NR_fsync => files::sys_fsync(rdi);
            __NR_fdatasync => files::sys_fsync(rdi);
            __NR_syncfs => files::sys_fsync(rdi);
            __NR_readahead => files::sys_fadvise64(rdi);
            __NR_sync => files::sys_sync();
            __NR_epoll_create1 => files::sys_epoll_create1(rdi);
            __NR_epoll_create => files::sys_epoll_create(rdi);
            __NR_epoll_ctl => files::sys_epoll_ctl(rdi, rsi, rdx, r10);
            __NR_epoll_pwait => files::sys_epoll_pwait(rdi, rsi, rdx, r10, r8, r9);
            __NR_epoll_wait => files::sys_epoll_wait(rdi, rsi, rdx, r10);
            __NR_timerfd_create => files::sys_timerfd_create(rdi, rsi);
            __NR_timerfd_settime => files::sys_timerfd_settime(rdi, rsi, rdx, r10);
            __NR_timerfd_gettime => files::sys_timerfd_gettime(rdi, rsi);
            __NR_eventfd2 => files::sys_eventfd2(rdi, rsi);
            __NR_eventfd => files::sys_eventfd(rdi);
            __NR_flock => crate::calls::fs::locks::sys_flock(rdi, rsi);
            __NR_poll => crate::calls::fs::poll::sys_poll(rdi, rsi, rdx);
            __NR_ppoll => crate::calls::fs::poll::sys_ppoll(rdi, rsi, rdx, r10, r8);
            __NR_select => crate::calls::fs::poll::sys_select(rdi, rsi, rdx, r10, r8);
            __NR_pselect6 => crate::calls::fs::poll::sys_pselect6(rdi, rsi, rdx, r10, r8, r9);
            // Sockets.
            __NR_socket => net::sys_socket(rdi, rsi, rdx);
            __NR_socketpair => net::sys_socketpair(rdi, rsi, rdx, r10);
            __NR_bind => net::sys_bind(rdi, rsi, rdx);
            __NR_listen => net::sys_listen(rdi, rsi);
            __NR_connect => net::sys_connect(rdi, rsi, rdx);
            __NR_accept => net::sys_accept(rdi, rsi, rdx);
            __NR_accept4 => net::sys_accept4(rdi, rsi, rdx, r10);
            __NR_shutdown => net::sys_shutdown(rdi, rsi);
            __NR_getsockname => net::sys_getsockname(rdi, rsi, rdx);
            __NR_getpeername => net::sys_getpeername(rdi, rsi, rdx);
            __NR_sendto => net::sys_sendto(rdi, rsi, rdx, r10, r8, r9);
            __NR_recvfrom => net::sys_recvfrom(rdi, rsi, rdx, r10, r8, r9);
            __NR_sendmsg => net::sys_sendmsg(rdi, rsi, rdx);
            __NR_recvmsg => net::sys_recvmsg(rdi, rsi, rdx);
            __NR_sendmmsg => net::sys_sendmmsg(rdi, rsi, rdx, r10);
            __NR_recvmmsg => net::sys_recvmmsg(rdi, rsi, rdx, r10, r8);
            __NR_setsockopt => net::sys_setsockopt(rdi, rsi, rdx, r10, r8);
            __NR_getsockopt => net::sys_getsockopt(rdi, rsi, rdx, r10, r8);
            // Signals.
            __NR_rt_sigaction => signal::sys_rt_sigaction(rdi, rsi, rdx, r10);
            __NR_rt_sigprocmask => signal::sys_rt_sigprocmask(rdi, rsi, rdx, r10);
            __NR_rt_sigpending => signal::sys_rt_sigpending(rdi, rsi);
            __NR_rt_sigtimedwait => signal::sys_rt_sigtimedwait(rdi, rsi, rdx, r10);
            __NR_rt_sigsuspend => signal::sys_rt_sigsuspend(rdi, rsi);
            __NR_rt_sigqueueinfo => signal::sys_rt_sigqueueinfo(rdi, rsi, rdx);
            __NR_rt_tgsigqueueinfo => signal::sys_rt_tgsigqueueinfo(rdi, rsi, rdx, r10);
            __NR_pause => signal::sys_pause();
            __NR_kill => signal::sys_kill(rdi, rsi);
            __NR_tkill => signal::sys_tkill(rdi, rsi);
            __NR_tgkill => signal::sys_tgkill(rdi, rsi, rdx);
            __NR_pidfd_open => process::sys_pidfd_open(rdi, rsi);
            __NR_pidfd_getfd => process::sys_pidfd_getfd(rdi, rsi, rdx);
            __NR_pidfd_send_signal => process::sys_pidfd_send_signal(rdi, rsi, rdx, r10);
            __NR_signalfd4 => files::sys_signalfd4(rdi, rsi, rdx, r10);
            __NR_signalfd => files::sys_signalfd(rdi, rsi, rdx);
        }
        other_arguments {
            __NR_sigaltstack => signal::sys_sigaltstack(regs.rdi, regs.rsi, regs.rsp);
            __NR_getpgrp => credentials::sys_getpgid(0);
            __NR_getuid => credentials::sys_get_real(uid_gid::USER);
            __NR_getgid => credentials::sys_get_real(uid_gid::GROUP);
            __NR_geteuid => credentials::sys_get_effective(uid_gid::USER);
            __NR_getegid => credentials::sys_get_effective(uid_gid::GROUP);
            __NR_setuid => credentials::sys_set(uid_gid::USER, regs.rdi);
            __NR_setgid => credentials::sys_set(uid_gid::GROUP, regs.rdi);
            __NR_setreuid => credentials::sys_set_re(uid_gid::USER, regs.rdi, regs.rsi);
            __NR_setregid => credentials::sys_set_re(uid_gid::GROUP, regs.rdi, regs.rsi);
            __NR_setresuid => credentials::sys_set_res(uid_gid::USER, regs.rdi, regs.rsi, regs.rdx);
            __NR_setresgid => credentials::sys_set_res(uid_gid::GROUP, regs.rdi, regs.rsi, regs.rdx);
            __NR_getresuid => credentials::sys_get_res(uid_gid::USER, regs.rdi, regs.rsi, regs.rdx);
            __NR_getresgid => credentials::sys_get_res(uid_gid::GROUP, regs.rdi, regs.rsi, regs.rdx);
            __NR_setfsuid => credentials::sys_set_file_system(uid_gid::USER, regs.rdi);
            __NR_setfsgid => credentials::sys_set_file_system(uid_gid::GROUP, regs.rdi);
        }
        state {
            __NR_rt_sigreturn => signal::sys_rt_sigreturn(at.regs());
            __NR_fork => process::sys_fork(at);
            __NR_vfork => process::sys_vfork(at);
            __NR_clone => process::sys_clone(at, regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8);
            __NR_clone3 => process::sys_clone3(at, regs.rdi, regs.rsi);
            __NR_execve => process::sys_execve(at, regs.rdi, regs.rsi, regs.rdx);
            __NR_execveat => process::sys_execveat(at, regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8);
            __NR_exit => process::sys_exit(at, regs.rdi);
            __NR_exit_group => process::sys_exit_group(at, regs.rdi);
        }
};

/// A number without a call: ENOSYS, and one line in the log per number.
#[cold]
fn unknown(regs: &mut UserRegs) -> u64 {
    /// Numbers above share the last bit.
    const LAST: usize = 1023;
    static SEEN: [AtomicU64; (LAST + 1) / 64] = [const { AtomicU64::new(0) }; (LAST + 1) / 64];
    let number = regs.orig_rax as u32;
    if number == u32::MAX {
        // None was asked for: by a tracer that has cancelled the call, and whose result stays. It was -ENOSYS before.
        return regs.rax;
    }
    let index = (number as usize).min(LAST);
    let bit = 1 << (index % 64);
    let seen = &SEEN[index / 64];
    if seen.load(Relaxed) & bit == 0 && seen.fetch_or(bit, Relaxed) & bit == 0 {
        warn("", number);
    }
    answer(Err(Errno::ENOSYS))
}

/// Says that there is no call with this number, and who asked for it; `width` tells which table's. `./x run` reads the line.
#[cold]
#[inline(never)]
pub(super) fn warn(width: &str, number: u32) {
    let name = crate::task::current().comm();
    let name = name.escape_ascii().take_while(|&byte| byte != b'\\').map(char::from);
    log::warn!("{width}system call {number} is not implemented ({})", name.collect::<alloc::string::String>());
}
