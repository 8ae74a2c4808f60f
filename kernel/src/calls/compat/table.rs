//! The i386 system-call table.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use portcullis::x86_64::UserRegs;

use crate::calls::compat::uid16::{narrowed, widen};
use crate::calls::compat::{signals, stat, sys_ia32, thread_area, uid16};
use crate::calls::{
    affinity, capabilities, clock, credentials, fs as files, kcmp, limits, membarrier, memory, net, ports, prctl,
    process, rseq, seccomp, signal, system_info, timers, usage,
};
use crate::errno::{Errno, Result};
use crate::machine::nospec;
use crate::memory::Width::Bits32;
use crate::sched::lent::with_state;
use crate::task::credentials::uid_gid;

/// A system call, with all registers.
type Call = fn(&mut UserRegs) -> Result<usize>;

/// The arguments: 32 bits each, zero-extended.
struct SyscallArgs {
    ebx: u64,
    ecx: u64,
    edx: u64,
    esi: u64,
    edi: u64,
    ebp: u64,
}

impl SyscallArgs {
    #[inline(always)]
    fn of(regs: &UserRegs) -> SyscallArgs {
        let low = |register: u64| u64::from(register as u32);
        SyscallArgs {
            ebx: low(regs.rbx),
            ecx: low(regs.rcx),
            edx: low(regs.rdx),
            esi: low(regs.rsi),
            edi: low(regs.rdi),
            ebp: low(regs.rbp),
        }
    }
}

/// A signed argument.
const fn signed(argument: u64) -> u64 {
    argument as i32 as i64 as u64
}

/// A 64-bit argument in two registers, the low half first.
const fn pair(low: u64, high: u64) -> u64 {
    low | high << 32
}

/// One entry of the table per line: number, name, and the call with the arguments it takes. Those of the last part get the
/// state, because they change or copy the registers, or stop for a tracer.
macro_rules! calls {
    (
        $at:ident, $a:ident;
        $($number:literal $name:ident => $call:expr;)*
        state { $($number_state:literal $name_state:ident => $call_state:expr;)* }
    ) => {{
        let mut calls: [Call; CALLS + 1] = [unknown; CALLS + 1];
        $(calls[$number] = |regs| {
            let $a = SyscallArgs::of(regs);
            $call
        };)*
        $(calls[$number_state] = |regs| {
            let $a = SyscallArgs::of(regs);
            with_state(regs, |$at| $call_state)
        };)*
        calls
    }};
}

/// Makes the 32-bit system call that `regs` ask for and puts the result into RAX, sign-extended: 64-bit code may have made
/// it.
#[inline]
pub fn do_syscall_32(regs: &mut UserRegs) {
    let number = regs.orig_rax as u32;
    if number == SKIPPED {
        return;
    }
    let call = nospec::entry_or_last(&TABLE, number);
    regs.rax = match call(regs) {
        Ok(value) => value as u64,
        Err(Errno(number)) => (number as u64).wrapping_neg(),
    };
}

/// What a tracer or a filter writes over the number of a call that is not to be made; the result is what it wrote there,
/// and before that -ENOSYS.
const SKIPPED: u32 = u32::MAX;

/// Numbers that the table has room for. Too few do not compile. The entry behind them is all others'.
const CALLS: usize = 472;

/// The functions by number (Linux: `arch/x86/entry/syscalls/syscall_32.tbl`).
#[allow(unused_variables, reason = "some calls have no arguments, some do not look at other registers")]
static TABLE: [Call; CALLS + 1] = calls! {
    at, a;
    0 restart_syscall => signal::sys_restart_syscall();
    3 read => files::sys_read(a.ebx, a.ecx, a.edx);
    4 write => files::sys_write(a.ebx, a.ecx, a.edx);
    5 open => files::sys_open(a.ebx, a.ecx, a.edx);
    6 close => files::sys_close(a.ebx);
    7 waitpid => process::sys_wait4(a.ebx, a.ecx, a.edx, 0);
    8 creat => files::sys_creat(a.ebx, a.ecx);
    9 link => files::sys_link(a.ebx, a.ecx);
    10 unlink => files::sys_unlink(a.ebx);
    12 chdir => files::sys_chdir(a.ebx);
    13 time => clock::sys_time(a.ebx);
    14 mknod => files::sys_mknod(a.ebx, a.ecx, a.edx);
    15 chmod => files::sys_chmod(a.ebx, a.ecx);
    16 lchown => files::sys_lchown(a.ebx, widen(a.ecx), widen(a.edx));
    19 lseek => files::sys_lseek(a.ebx, signed(a.ecx), a.edx);
    20 getpid => credentials::sys_getpid();
    21 mount => files::sys_mount(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    22 umount => files::sys_umount2(a.ebx, 0);
    23 setuid => credentials::sys_set(uid_gid::USER, widen(a.ebx));
    24 getuid => narrowed(credentials::sys_get_real(uid_gid::USER));
    25 stime => sys_ia32::sys_stime(a.ebx);
    27 alarm => timers::sys_alarm(a.ebx);
    29 pause => signal::sys_pause();
    30 utime => files::sys_utime(a.ebx, a.ecx);
    33 access => files::sys_access(a.ebx, a.ecx);
    34 nice => sys_ia32::sys_nice(a.ebx);
    36 sync => files::sys_sync();
    37 kill => signal::sys_kill(a.ebx, a.ecx);
    38 rename => files::sys_rename(a.ebx, a.ecx);
    39 mkdir => files::sys_mkdir(a.ebx, a.ecx);
    40 rmdir => files::sys_rmdir(a.ebx);
    41 dup => files::sys_dup(a.ebx);
    42 pipe => files::sys_pipe(a.ebx);
    43 times => usage::sys_times(a.ebx);
    45 brk => memory::sys_brk(a.ebx);
    46 setgid => credentials::sys_set(uid_gid::GROUP, widen(a.ebx));
    47 getgid => narrowed(credentials::sys_get_real(uid_gid::GROUP));
    48 signal => signals::sys_signal(a.ebx, a.ecx);
    49 geteuid => narrowed(credentials::sys_get_effective(uid_gid::USER));
    50 getegid => narrowed(credentials::sys_get_effective(uid_gid::GROUP));
    52 umount2 => files::sys_umount2(a.ebx, a.ecx);
    54 ioctl => files::sys_ioctl(a.ebx, a.ecx, a.edx);
    55 fcntl => sys_ia32::sys_fcntl64(a.ebx, a.ecx, a.edx);
    57 setpgid => credentials::sys_setpgid(a.ebx, a.ecx);
    60 umask => files::sys_umask(a.ebx);
    61 chroot => files::sys_chroot(a.ebx);
    63 dup2 => files::sys_dup2(a.ebx, a.ecx);
    64 getppid => credentials::sys_getppid();
    65 getpgrp => credentials::sys_getpgid(0);
    66 setsid => credentials::sys_setsid();
    67 sigaction => signals::sys_sigaction(a.ebx, a.ecx, a.edx);
    68 sgetmask => signals::sys_sgetmask();
    69 ssetmask => signals::sys_ssetmask(a.ebx);
    70 setreuid => credentials::sys_set_re(uid_gid::USER, widen(a.ebx), widen(a.ecx));
    71 setregid => credentials::sys_set_re(uid_gid::GROUP, widen(a.ebx), widen(a.ecx));
    72 sigsuspend => signals::sys_sigsuspend(a.edx);
    73 sigpending => signal::sys_rt_sigpending(a.ebx, 4);
    74 sethostname => system_info::sys_sethostname(a.ebx, a.ecx);
    75 setrlimit => limits::sys_setrlimit(a.ebx, a.ecx);
    76 getrlimit => limits::sys_old_getrlimit(a.ebx, a.ecx);
    77 getrusage => usage::sys_getrusage(a.ebx, a.ecx);
    78 gettimeofday => clock::sys_gettimeofday(a.ebx, a.ecx);
    79 settimeofday => clock::sys_settimeofday(a.ebx);
    80 getgroups => uid16::sys_getgroups16(a.ebx, a.ecx);
    82 select => sys_ia32::sys_old_select(a.ebx);
    83 symlink => files::sys_symlink(a.ebx, a.ecx);
    85 readlink => files::sys_readlink(a.ebx, a.ecx, a.edx);
    88 reboot => system_info::sys_reboot(a.ebx, a.ecx, a.edx);
    90 mmap => sys_ia32::sys_old_mmap(a.ebx);
    91 munmap => memory::sys_munmap(a.ebx, a.ecx);
    92 truncate => files::sys_truncate(a.ebx, signed(a.ecx));
    93 ftruncate => files::sys_ftruncate(a.ebx, signed(a.ecx));
    94 fchmod => files::sys_fchmod(a.ebx, a.ecx);
    95 fchown => files::sys_fchown(a.ebx, widen(a.ecx), widen(a.edx));
    96 getpriority => affinity::sys_getpriority(a.ebx, a.ecx);
    97 setpriority => affinity::sys_setpriority(a.ebx, a.ecx, signed(a.edx));
    99 statfs => files::statfs(stat::write_statfs, a.ebx, a.ecx);
    100 fstatfs => files::fstatfs(stat::write_statfs, a.ebx, a.ecx);
    101 ioperm => ports::sys_ioperm(a.ebx, a.ecx, a.edx);
    102 socketcall => sys_ia32::sys_socketcall(a.ebx, a.ecx);
    103 syslog => system_info::sys_syslog(a.ebx);
    104 setitimer => timers::sys_setitimer(a.ebx, a.ecx, a.edx);
    105 getitimer => timers::sys_getitimer(a.ebx, a.ecx);
    106 stat => files::stat(stat::write_stat, a.ebx, true, a.ecx);
    107 lstat => files::stat(stat::write_stat, a.ebx, false, a.ecx);
    108 fstat => files::fstat(stat::write_stat, a.ebx, a.ecx);
    110 iopl => ports::sys_iopl(a.ebx);
    114 wait4 => process::sys_wait4(a.ebx, a.ecx, a.edx, a.esi);
    116 sysinfo => system_info::sys_sysinfo(a.ebx);
    118 fsync => files::sys_fsync(a.ebx);
    121 setdomainname => system_info::sys_setdomainname(a.ebx, a.ecx);
    122 uname => system_info::sys_uname(a.ebx);
    123 modify_ldt => crate::calls::ldt::sys_modify_ldt(a.ebx, a.ecx, a.edx);
    125 mprotect => memory::sys_mprotect(a.ebx, a.ecx, a.edx);
    126 sigprocmask => signals::sys_sigprocmask(a.ebx, a.ecx, a.edx);
    132 getpgid => credentials::sys_getpgid(a.ebx);
    133 fchdir => files::sys_fchdir(a.ebx);
    136 personality => prctl::sys_personality(a.ebx);
    138 setfsuid => credentials::sys_set_file_system(uid_gid::USER, widen(a.ebx));
    139 setfsgid => credentials::sys_set_file_system(uid_gid::GROUP, widen(a.ebx));
    140 _llseek => sys_ia32::sys_llseek(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    141 getdents => files::sys_getdents(a.ebx, a.ecx, a.edx);
    142 _newselect => crate::calls::fs::poll::sys_select(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    143 flock => crate::calls::fs::locks::sys_flock(a.ebx, a.ecx);
    144 msync => memory::sys_msync(a.ebx, a.ecx, a.edx);
    145 readv => files::sys_readv(a.ebx, a.ecx, a.edx);
    146 writev => files::sys_writev(a.ebx, a.ecx, a.edx);
    147 getsid => credentials::sys_getsid(a.ebx);
    148 fdatasync => files::sys_fsync(a.ebx);
    150 mlock => memory::sys_mlock(a.ebx, a.ecx);
    151 munlock => memory::sys_munlock(a.ebx, a.ecx);
    152 mlockall => memory::sys_mlockall(a.ebx);
    153 munlockall => memory::sys_munlockall();
    154 sched_setparam => affinity::sys_sched_setparam(a.ebx, a.ecx);
    155 sched_getparam => affinity::sys_sched_getparam(a.ebx, a.ecx);
    156 sched_setscheduler => affinity::sys_sched_setscheduler(a.ebx, a.ecx, a.edx);
    157 sched_getscheduler => affinity::sys_sched_getscheduler(a.ebx);
    158 sched_yield => affinity::sys_sched_yield();
    159 sched_get_priority_max => affinity::sys_sched_get_priority_max(a.ebx);
    160 sched_get_priority_min => affinity::sys_sched_get_priority_min(a.ebx);
    161 sched_rr_get_interval => affinity::sched_rr_get_interval(Bits32, a.ebx, a.ecx);
    162 nanosleep => clock::nanosleep(Bits32, a.ebx, a.ecx);
    163 mremap => memory::sys_mremap(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    164 setresuid => credentials::sys_set_res(uid_gid::USER, widen(a.ebx), widen(a.ecx), widen(a.edx));
    165 getresuid => uid16::sys_get_res16(uid_gid::USER, a.ebx, a.ecx, a.edx);
    168 poll => crate::calls::fs::poll::sys_poll(a.ebx, a.ecx, a.edx);
    170 setresgid => credentials::sys_set_res(uid_gid::GROUP, widen(a.ebx), widen(a.ecx), widen(a.edx));
    171 getresgid => uid16::sys_get_res16(uid_gid::GROUP, a.ebx, a.ecx, a.edx);
    172 prctl => prctl::sys_prctl(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    174 rt_sigaction => signals::sys_rt_sigaction(a.ebx, a.ecx, a.edx, a.esi);
    175 rt_sigprocmask => signal::sys_rt_sigprocmask(a.ebx, a.ecx, a.edx, a.esi);
    176 rt_sigpending => signal::sys_rt_sigpending(a.ebx, a.ecx);
    177 rt_sigtimedwait => signal::rt_sigtimedwait(Bits32, a.ebx, a.ecx, a.edx, a.esi);
    178 rt_sigqueueinfo => signal::sys_rt_sigqueueinfo(a.ebx, a.ecx, a.edx);
    179 rt_sigsuspend => signal::sys_rt_sigsuspend(a.ebx, a.ecx);
    180 pread64 => files::sys_pread64(a.ebx, a.ecx, a.edx, pair(a.esi, a.edi));
    181 pwrite64 => files::sys_pwrite64(a.ebx, a.ecx, a.edx, pair(a.esi, a.edi));
    182 chown => files::sys_chown(a.ebx, widen(a.ecx), widen(a.edx));
    183 getcwd => files::sys_getcwd(a.ebx, a.ecx);
    185 capset => capabilities::sys_capset(a.ebx, a.ecx);
    184 capget => capabilities::sys_capget(a.ebx, a.ecx);
    187 sendfile => files::sendfile(Bits32, a.ebx, a.ecx, a.edx, a.esi);
    191 ugetrlimit => limits::sys_getrlimit(a.ebx, a.ecx);
    192 mmap2 => memory::sys_mmap(a.ebx, a.ecx, a.edx, a.esi, a.edi, a.ebp << 12);
    193 truncate64 => files::sys_truncate(a.ebx, pair(a.ecx, a.edx));
    194 ftruncate64 => files::sys_ftruncate(a.ebx, pair(a.ecx, a.edx));
    195 stat64 => files::stat(stat::write_stat64, a.ebx, true, a.ecx);
    196 lstat64 => files::stat(stat::write_stat64, a.ebx, false, a.ecx);
    197 fstat64 => files::fstat(stat::write_stat64, a.ebx, a.ecx);
    198 lchown32 => files::sys_lchown(a.ebx, a.ecx, a.edx);
    199 getuid32 => credentials::sys_get_real(uid_gid::USER);
    200 getgid32 => credentials::sys_get_real(uid_gid::GROUP);
    201 geteuid32 => credentials::sys_get_effective(uid_gid::USER);
    202 getegid32 => credentials::sys_get_effective(uid_gid::GROUP);
    203 setreuid32 => credentials::sys_set_re(uid_gid::USER, a.ebx, a.ecx);
    204 setregid32 => credentials::sys_set_re(uid_gid::GROUP, a.ebx, a.ecx);
    205 getgroups32 => credentials::sys_getgroups(a.ebx, a.ecx);
    206 setgroups32 => credentials::sys_setgroups(a.ebx, a.ecx);
    207 fchown32 => files::sys_fchown(a.ebx, a.ecx, a.edx);
    208 setresuid32 => credentials::sys_set_res(uid_gid::USER, a.ebx, a.ecx, a.edx);
    209 getresuid32 => credentials::sys_get_res(uid_gid::USER, a.ebx, a.ecx, a.edx);
    210 setresgid32 => credentials::sys_set_res(uid_gid::GROUP, a.ebx, a.ecx, a.edx);
    211 getresgid32 => credentials::sys_get_res(uid_gid::GROUP, a.ebx, a.ecx, a.edx);
    212 chown32 => files::sys_chown(a.ebx, a.ecx, a.edx);
    213 setuid32 => credentials::sys_set(uid_gid::USER, a.ebx);
    214 setgid32 => credentials::sys_set(uid_gid::GROUP, a.ebx);
    215 setfsuid32 => credentials::sys_set_file_system(uid_gid::USER, a.ebx);
    216 setfsgid32 => credentials::sys_set_file_system(uid_gid::GROUP, a.ebx);
    217 pivot_root => files::sys_pivot_root(a.ebx, a.ecx);
    218 mincore => memory::sys_mincore(a.ebx, a.ecx, a.edx);
    219 madvise => memory::sys_madvise(a.ebx, a.ecx, a.edx);
    220 getdents64 => files::sys_getdents64(a.ebx, a.ecx, a.edx);
    221 fcntl64 => sys_ia32::sys_fcntl64(a.ebx, a.ecx, a.edx);
    224 gettid => credentials::sys_gettid();
    225 readahead => files::sys_fadvise64(a.ebx);
    238 tkill => signal::sys_tkill(a.ebx, a.ecx);
    239 sendfile64 => files::sys_sendfile(a.ebx, a.ecx, a.edx, a.esi);
    240 futex => process::futex(Bits32, a.ebx, a.ecx, a.edx, a.esi, a.edi, a.ebp);
    241 sched_setaffinity => affinity::sys_sched_setaffinity(a.ebx, a.ecx, a.edx);
    242 sched_getaffinity => affinity::sys_sched_getaffinity(a.ebx, a.ecx, a.edx);
    243 set_thread_area => thread_area::sys_set_thread_area(a.ebx);
    244 get_thread_area => thread_area::sys_get_thread_area(a.ebx);
    250 fadvise64 => files::sys_fadvise64(a.ebx);
    254 epoll_create => files::sys_epoll_create(a.ebx);
    255 epoll_ctl => files::sys_epoll_ctl(a.ebx, a.ecx, a.edx, a.esi);
    256 epoll_wait => files::sys_epoll_wait(a.ebx, a.ecx, a.edx, a.esi);
    258 set_tid_address => prctl::sys_set_tid_address(a.ebx);
    259 timer_create => timers::sys_timer_create(a.ebx, a.ecx, a.edx);
    260 timer_settime => timers::timer_settime(Bits32, a.ebx, a.ecx, a.edx, a.esi);
    261 timer_gettime => timers::timer_gettime(Bits32, a.ebx, a.ecx);
    262 timer_getoverrun => timers::sys_timer_getoverrun(a.ebx);
    263 timer_delete => timers::sys_timer_delete(a.ebx);
    264 clock_settime => clock::clock_settime(Bits32, a.ebx, a.ecx);
    265 clock_gettime => clock::clock_gettime(Bits32, a.ebx, a.ecx);
    266 clock_getres => clock::clock_getres(Bits32, a.ebx, a.ecx);
    267 clock_nanosleep => clock::clock_nanosleep(Bits32, a.ebx, a.ecx, a.edx, a.esi);
    268 statfs64 => stat::check_statfs64_size(a.ecx).and_then(|()| files::statfs(stat::write_statfs64, a.ebx, a.edx));
    269 fstatfs64 => stat::check_statfs64_size(a.ecx).and_then(|()| files::fstatfs(stat::write_statfs64, a.ebx, a.edx));
    270 tgkill => signal::sys_tgkill(a.ebx, a.ecx, a.edx);
    271 utimes => files::sys_utimes(a.ebx, a.ecx);
    272 fadvise64_64 => files::sys_fadvise64(a.ebx);
    26 ptrace => crate::calls::ptrace::sys_ptrace_32(a.ebx, a.ecx, a.edx, a.esi);
    226 setxattr => files::sys_setxattr(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    227 lsetxattr => files::sys_lsetxattr(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    228 fsetxattr => files::sys_fsetxattr(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    229 getxattr => files::sys_getxattr(a.ebx, a.ecx);
    230 lgetxattr => files::sys_lgetxattr(a.ebx, a.ecx);
    231 fgetxattr => files::sys_fgetxattr(a.ebx, a.ecx);
    232 listxattr => files::sys_listxattr(a.ebx);
    233 llistxattr => files::sys_llistxattr(a.ebx);
    234 flistxattr => files::sys_flistxattr(a.ebx);
    235 removexattr => files::sys_removexattr(a.ebx, a.ecx);
    236 lremovexattr => files::sys_lremovexattr(a.ebx, a.ecx);
    237 fremovexattr => files::sys_fremovexattr(a.ebx, a.ecx);
    347 process_vm_readv => process::sys_process_vm_readv(a.ebx, a.ecx, a.edx, a.esi, a.edi, a.ebp);
    348 process_vm_writev => process::sys_process_vm_writev(a.ebx, a.ecx, a.edx, a.esi, a.edi, a.ebp);
    284 waitid => process::sys_waitid(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    295 openat => files::sys_openat(a.ebx, a.ecx, a.edx, a.esi);
    296 mkdirat => files::sys_mkdirat(a.ebx, a.ecx, a.edx);
    297 mknodat => files::sys_mknodat(a.ebx, a.ecx, a.edx, a.esi);
    298 fchownat => files::sys_fchownat(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    299 futimesat => files::sys_futimesat(a.ebx, a.ecx, a.edx);
    300 fstatat64 => files::fstatat(stat::write_stat64, a.ebx, a.ecx, a.edx, a.esi);
    301 unlinkat => files::sys_unlinkat(a.ebx, a.ecx, a.edx);
    302 renameat => files::sys_renameat(a.ebx, a.ecx, a.edx, a.esi);
    303 linkat => files::sys_linkat(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    304 symlinkat => files::sys_symlinkat(a.ebx, a.ecx, a.edx);
    305 readlinkat => files::sys_readlinkat(a.ebx, a.ecx, a.edx, a.esi);
    306 fchmodat => files::sys_fchmodat(a.ebx, a.ecx, a.edx);
    307 faccessat => files::sys_faccessat(a.ebx, a.ecx, a.edx);
    308 pselect6 => crate::calls::fs::poll::pselect6(Bits32, a.ebx, [a.ecx, a.edx, a.esi], a.edi, a.ebp);
    309 ppoll => crate::calls::fs::poll::ppoll(Bits32, a.ebx, a.ecx, a.edx, a.esi, a.edi);
    311 set_robust_list => process::sys_set_robust_list(a.ebx, a.ecx);
    312 get_robust_list => process::sys_get_robust_list(a.ebx, a.ecx, a.edx);
    318 getcpu => affinity::sys_getcpu(a.ebx, a.ecx);
    319 epoll_pwait => files::sys_epoll_pwait(a.ebx, a.ecx, a.edx, a.esi, a.edi, a.ebp);
    320 utimensat => files::utimensat(Bits32, a.ebx, a.ecx, a.edx, a.esi);
    321 signalfd => files::sys_signalfd(a.ebx, a.ecx, a.edx);
    322 timerfd_create => files::sys_timerfd_create(a.ebx, a.ecx);
    323 eventfd => files::sys_eventfd(a.ebx);
    324 fallocate => files::sys_fallocate(a.ebx, a.ecx, pair(a.edx, a.esi), pair(a.edi, a.ebp));
    325 timerfd_settime => files::timerfd_settime(Bits32, a.ebx, a.ecx, a.edx, a.esi);
    326 timerfd_gettime => files::timerfd_gettime(Bits32, a.ebx, a.ecx);
    327 signalfd4 => files::sys_signalfd4(a.ebx, a.ecx, a.edx, a.esi);
    328 eventfd2 => files::sys_eventfd2(a.ebx, a.ecx);
    329 epoll_create1 => files::sys_epoll_create1(a.ebx);
    330 dup3 => files::sys_dup3(a.ebx, a.ecx, a.edx);
    331 pipe2 => files::sys_pipe2(a.ebx, a.ecx);
    333 preadv => files::sys_preadv(a.ebx, a.ecx, a.edx, pair(a.esi, a.edi));
    334 pwritev => files::sys_pwritev(a.ebx, a.ecx, a.edx, pair(a.esi, a.edi));
    335 rt_tgsigqueueinfo => signal::sys_rt_tgsigqueueinfo(a.ebx, a.ecx, a.edx, a.esi);
    340 prlimit64 => limits::sys_prlimit64(a.ebx, a.ecx, a.edx, a.esi);
    344 syncfs => files::sys_fsync(a.ebx);
    353 renameat2 => files::sys_renameat2(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    355 getrandom => system_info::sys_getrandom(a.ebx, a.ecx, a.edx);
    356 memfd_create => files::sys_memfd_create(a.ebx, a.ecx);
    359 socket => net::sys_socket(a.ebx, a.ecx, a.edx);
    360 socketpair => net::sys_socketpair(a.ebx, a.ecx, a.edx, a.esi);
    361 bind => net::sys_bind(a.ebx, a.ecx, a.edx);
    362 connect => net::sys_connect(a.ebx, a.ecx, a.edx);
    363 listen => net::sys_listen(a.ebx, a.ecx);
    364 accept4 => net::sys_accept4(a.ebx, a.ecx, a.edx, a.esi);
    365 getsockopt => net::sys_getsockopt(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    366 setsockopt => net::sys_setsockopt(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    367 getsockname => net::sys_getsockname(a.ebx, a.ecx, a.edx);
    368 getpeername => net::sys_getpeername(a.ebx, a.ecx, a.edx);
    369 sendto => net::sys_sendto(a.ebx, a.ecx, a.edx, a.esi, a.edi, a.ebp);
    370 sendmsg => net::sys_sendmsg(a.ebx, a.ecx, a.edx);
    371 recvfrom => net::sys_recvfrom(a.ebx, a.ecx, a.edx, a.esi, a.edi, a.ebp);
    372 recvmsg => net::sys_recvmsg(a.ebx, a.ecx, a.edx);
    373 shutdown => net::sys_shutdown(a.ebx, a.ecx);
    337 recvmmsg => sys_ia32::sys_recvmmsg_time32(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    345 sendmmsg => net::sys_sendmmsg(a.ebx, a.ecx, a.edx, a.esi);
    417 recvmmsg_time64 => net::sys_recvmmsg(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    310 unshare => process::sys_unshare(a.ebx);
    349 kcmp => kcmp::sys_kcmp(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    354 seccomp => seccomp::sys_seccomp(a.ebx, a.ecx, a.edx);
    386 rseq => rseq::sys_rseq(a.ebx, a.ecx, a.edx, a.esi);
    375 membarrier => membarrier::sys_membarrier(a.ebx, a.ecx, a.edx);
    376 mlock2 => memory::sys_mlock2(a.ebx, a.ecx, a.edx);
    377 copy_file_range => files::sys_copy_file_range(a.ebx, a.ecx, a.edx, a.esi, a.edi, a.ebp);
    378 preadv2 => files::sys_preadv2(a.ebx, a.ecx, a.edx, pair(a.esi, a.edi), 0, a.ebp);
    379 pwritev2 => files::sys_pwritev2(a.ebx, a.ecx, a.edx, pair(a.esi, a.edi), 0, a.ebp);
    380 pkey_mprotect => memory::sys_pkey_mprotect(a.ebx, a.ecx, a.edx, a.esi);
    381 pkey_alloc => memory::sys_pkey_alloc(a.ebx, a.ecx);
    382 pkey_free => memory::sys_pkey_free(a.ebx);
    383 statx => files::sys_statx(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    384 arch_prctl => sys_ia32::sys_arch_prctl(a.ebx);
    403 clock_gettime64 => clock::sys_clock_gettime(a.ebx, a.ecx);
    404 clock_settime64 => clock::sys_clock_settime(a.ebx, a.ecx);
    406 clock_getres_time64 => clock::sys_clock_getres(a.ebx, a.ecx);
    407 clock_nanosleep_time64 => clock::sys_clock_nanosleep(a.ebx, a.ecx, a.edx, a.esi);
    408 timer_gettime64 => timers::sys_timer_gettime(a.ebx, a.ecx);
    409 timer_settime64 => timers::sys_timer_settime(a.ebx, a.ecx, a.edx, a.esi);
    410 timerfd_gettime64 => files::sys_timerfd_gettime(a.ebx, a.ecx);
    411 timerfd_settime64 => files::sys_timerfd_settime(a.ebx, a.ecx, a.edx, a.esi);
    412 utimensat_time64 => files::sys_utimensat(a.ebx, a.ecx, a.edx, a.esi);
    413 pselect6_time64 => crate::calls::fs::poll::sys_pselect6(a.ebx, a.ecx, a.edx, a.esi, a.edi, a.ebp);
    414 ppoll_time64 => crate::calls::fs::poll::sys_ppoll(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    421 rt_sigtimedwait_time64 => signal::sys_rt_sigtimedwait(a.ebx, a.ecx, a.edx, a.esi);
    422 futex_time64 => process::sys_futex(a.ebx, a.ecx, a.edx, a.esi, a.edi, a.ebp);
    423 sched_rr_get_interval_time64 => affinity::sys_sched_rr_get_interval(a.ebx, a.ecx);
    424 pidfd_send_signal => process::sys_pidfd_send_signal(a.ebx, a.ecx, a.edx, a.esi);
    434 pidfd_open => process::sys_pidfd_open(a.ebx, a.ecx);
    436 close_range => files::sys_close_range(a.ebx, a.ecx, a.edx);
    437 openat2 => files::sys_openat2(a.ebx, a.ecx, a.edx, a.esi);
    438 pidfd_getfd => process::sys_pidfd_getfd(a.ebx, a.ecx, a.edx);
    439 faccessat2 => files::sys_faccessat2(a.ebx, a.ecx, a.edx, a.esi);
    449 futex_waitv => process::sys_futex_waitv(a.ebx, a.ecx, a.edx, a.esi, a.edi);
    471 rseq_slice_yield => rseq::sys_rseq_slice_yield();
    state {
        1 exit => process::sys_exit(at, a.ebx);
        2 fork => process::sys_fork(at);
        11 execve => process::sys_execve(at, a.ebx, a.ecx, a.edx);
        119 sigreturn => signals::sys_sigreturn(at.regs());
        120 clone => process::sys_clone(at, a.ebx, a.ecx, a.edx, a.edi, a.esi);
        173 rt_sigreturn => signals::sys_rt_sigreturn(at.regs());
        186 sigaltstack => signal::sys_sigaltstack(a.ebx, a.ecx, at.saved().rsp);
        190 vfork => process::sys_vfork(at);
        252 exit_group => process::sys_exit_group(at, a.ebx);
        358 execveat => process::sys_execveat(at, a.ebx, a.ecx, a.edx, a.esi, a.edi);
        435 clone3 => process::sys_clone3(at, a.ebx, a.ecx);
    }
};

/// A number without a call: ENOSYS, and one line in the log per number.
#[cold]
fn unknown(regs: &mut UserRegs) -> Result<usize> {
    /// Numbers above share the last bit.
    const LAST: usize = 1023;
    static SEEN: [AtomicU64; (LAST + 1) / 64] = [const { AtomicU64::new(0) }; (LAST + 1) / 64];
    let number = regs.orig_rax as u32;
    let index = (number as usize).min(LAST);
    let bit = 1 << (index % 64);
    if SEEN[index / 64].fetch_or(bit, Relaxed) & bit == 0 {
        crate::calls::table64::warn("32-bit ", number);
    }
    Err(Errno::ENOSYS)
}
