//! Interval timers, alarm, the CPU-time limit; what the tick does for them and for the POSIX timers of CPU clocks.

use linux_raw_sys::general::*;

use crate::errno::{Errno, Result};
use crate::machine::time;
use crate::memory::c_long;
use crate::sched::timer;
use crate::signal;
use crate::signal::posix_timers;
use crate::task::clock::{SECOND, Timeval};
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::signals::info::SigInfo;
use crate::task::timers::Interval;
use crate::task::timers::posix::Sample;
use crate::task::{Task, current, tree, usage};

/// `struct itimerval`.
#[derive(Clone, Copy, Default)]
struct Itimerval {
    period: Timeval,
    value: Timeval,
}

impl Itimerval {
    /// As wide as the call's.
    fn read(address: u64) -> Result<Itimerval> {
        let [seconds, microseconds, value_seconds, value_microseconds] = c_long::read(address)?;
        Ok(Itimerval {
            period: Timeval { seconds, microseconds },
            value: Timeval { seconds: value_seconds, microseconds: value_microseconds },
        })
    }

    fn write(self, address: u64) -> Result<()> {
        let (period, value) = (self.period, self.value);
        c_long::write(address, [period.seconds, period.microseconds, value.seconds, value.microseconds])
    }
}

/// ITIMER_REAL has run out. By PID and not by address: the process may be gone.
fn real_expired(pid: usize, _: usize) {
    let Some(process) = tree::find(pid as Pid) else {
        return;
    };
    {
        let mut real = process.timers.real.lock();
        real.timer = None;
        if real.deadline == 0 || real.deadline > time::now() {
            // Set anew while this was on its way.
            return;
        }
        real.advance(time::now());
        if real.deadline != 0 {
            real.timer = Some(timer::add_timer(real.deadline, real_expired, pid, 0));
        }
    }
    // A standard signal is never refused.
    let _ = signal::send::to_process(&process, SigInfo::kernel(SIGALRM as i32));
}

/// Sets ITIMER_REAL; returns what was left and the old period.
fn set_real(process: &Process, value: u64, period: u64) -> (u64, u64) {
    let mut real = process.timers.real.lock();
    let old = real.left(time::now());
    real.stop();
    if value != 0 {
        real.deadline = time::now().saturating_add(value);
        real.period = period;
        real.timer = Some(timer::add_timer(real.deadline, real_expired, process.pid as usize, 0));
    }
    old
}

/// What ITIMER_VIRTUAL (0) and ITIMER_PROF (1) count.
fn cpu_time(process: &Process, which: usize) -> u64 {
    let times = usage::of_process(process).times();
    if which == 0 { times.user } else { times.user + times.system }
}

fn set_cpu(process: &Process, which: usize, value: u64, period: u64) -> (u64, u64) {
    let now = cpu_time(process, which);
    let mut cpu = process.timers.cpu.lock();
    let old = cpu[which].left(now);
    cpu[which] = Interval::default();
    if value != 0 {
        cpu[which] = Interval { deadline: now + value, period, timer: None };
    }
    if value != 0 {
        // The tick takes it back when there is nothing left.
        process.timers.arm_cpu();
    }
    old
}

/// The scheduler's tick: CPU-time timers and RLIMIT_CPU. Interrupt context.
pub fn tick(task: &Task) {
    if task.process.timers.is_cpu_armed() {
        cpu_tick(&task.process);
    }
}

/// Somebody waits for the process's CPU time, or it is limited.
#[cold]
fn cpu_tick(process: &Process) {
    let timers = &process.timers;
    for (which, signo) in [(0, SIGVTALRM), (1, SIGPROF)] {
        let now = cpu_time(process, which);
        let expired = {
            let interval = &mut timers.cpu.lock()[which];
            let expired = interval.deadline != 0 && interval.deadline <= now;
            if expired {
                interval.advance(now);
            }
            expired
        };
        if expired {
            let _ = signal::send::to_process(process, SigInfo::kernel(signo as i32));
        }
    }
    let total = usage::of_process(process).total();
    let mut index = 0;
    while let Some(watched) = {
        let list = timers.watched.lock();
        list.get(index).copied()
    } {
        let (owner, id) = watched;
        if posix_timers::check(owner, id, Some(Sample { process: core::ptr::from_ref(process).cast(), total })) {
            index += 1;
        } else {
            // Unless it was set anew meanwhile.
            let stays = |other: &(Pid, i32)| *other != watched || posix_timers::is_set(owner, id);
            timers.watched.lock().retain(stays);
        }
    }
    let exceeded = process.limits.lock().cpu_exceeded(total / SECOND);
    if let Some(signo) = exceeded {
        let _ = signal::send::to_process(process, SigInfo::kernel(signo as i32));
    }
    let cpu = timers.cpu.lock();
    let watched = timers.watched.lock();
    let limits = process.limits.lock();
    let nothing = watched.is_empty() && cpu.iter().all(|interval| interval.deadline == 0) && !limits.bound_cpu();
    if nothing {
        timers.disarm_cpu();
    }
}

/// getitimer(2).
pub fn sys_getitimer(which: u64, address: u64) -> Result<usize> {
    let process = &current().process;
    let (left, period) = match which as u32 {
        ITIMER_REAL => process.timers.real.lock().left(time::now()),
        which @ (ITIMER_VIRTUAL | ITIMER_PROF) => {
            let which = which as usize - 1;
            let now = cpu_time(process, which);
            process.timers.cpu.lock()[which].left(now)
        }
        _ => return Err(Errno::EINVAL),
    };
    Itimerval { period: Timeval::from_ns(period), value: Timeval::from_ns(left) }.write(address)?;
    Ok(0)
}

/// setitimer(2).
pub fn sys_setitimer(which: u64, new: u64, old: u64) -> Result<usize> {
    let process = &current().process;
    let new = if new == 0 { Itimerval::default() } else { Itimerval::read(new)? };
    let (value, period) = (new.value.to_ns()?, new.period.to_ns()?);
    let (left, old_period) = match which as u32 {
        ITIMER_REAL => set_real(process, value, period),
        which @ (ITIMER_VIRTUAL | ITIMER_PROF) => set_cpu(process, which as usize - 1, value, period),
        _ => return Err(Errno::EINVAL),
    };
    if old != 0 {
        Itimerval { period: Timeval::from_ns(old_period), value: Timeval::from_ns(left) }.write(old)?;
    }
    Ok(0)
}

/// alarm(2).
pub fn sys_alarm(seconds: u64) -> Result<usize> {
    let (left, _) = set_real(&current().process, u64::from(seconds as u32) * SECOND, 0);
    // Rounded, but an armed timer never counts as none.
    Ok((if left == 0 { 0 } else { ((left + SECOND / 2) / SECOND).max(1) }) as usize)
}
