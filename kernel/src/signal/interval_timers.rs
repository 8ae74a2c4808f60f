//! Interval timers, the CPU-time limit; what the tick does for them and for the POSIX timers of CPU clocks.

use linux_raw_sys::general::*;

use crate::machine::time;
use crate::sched::timer;
use crate::signal;
use crate::signal::posix_timers;
use crate::task::clock::SECOND;
use crate::task::pid::Pid;
use crate::task::process::Process;
use crate::task::signals::info::SigInfo;
use crate::task::timers::Interval;
use crate::task::timers::posix::Sample;
use crate::task::{Task, tree, usage};

/// The timers of CPU time, by their places in [`Timers::cpu`](crate::task::timers::Timers::cpu).
#[derive(Clone, Copy)]
pub enum CpuTimer {
    /// ITIMER_VIRTUAL: time in user mode.
    Virtual,
    /// ITIMER_PROF: time in user mode and in the kernel.
    Prof,
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

/// ITIMER_REAL: the time left and the period.
pub fn real(process: &Process) -> (u64, u64) {
    process.timers.real.lock().left(time::now())
}

/// The same of a CPU-time timer.
pub fn cpu(process: &Process, which: CpuTimer) -> (u64, u64) {
    let now = cpu_time(process, which);
    process.timers.cpu.lock()[which as usize].left(now)
}

/// Sets ITIMER_REAL; returns what was left and the old period.
pub fn set_real(process: &Process, value: u64, period: u64) -> (u64, u64) {
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

/// What a CPU-time timer counts.
fn cpu_time(process: &Process, which: CpuTimer) -> u64 {
    let times = usage::of_process(process).times();
    match which {
        CpuTimer::Virtual => times.utime,
        CpuTimer::Prof => times.utime + times.stime,
    }
}

/// Sets a CPU-time timer; returns what was left and the old period.
pub fn set_cpu(process: &Process, which: CpuTimer, value: u64, period: u64) -> (u64, u64) {
    let now = cpu_time(process, which);
    let which = which as usize;
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
    for (which, signo) in [(CpuTimer::Virtual, SIGVTALRM), (CpuTimer::Prof, SIGPROF)] {
        let now = cpu_time(process, which);
        let expired = {
            let interval = &mut timers.cpu.lock()[which as usize];
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
