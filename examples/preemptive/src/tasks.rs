//! The tasks, and which of them run. One lock, which is held with interrupts off and across a switch.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

use portcullis::machine::InterruptFlag;
use portcullis::work::{ExitWork, SyscallWork, WorkFlags};
use portcullis::x86_64::{CpuLocal, Rflags, UserRegs, first_way_out};
use portcullis_boot::memory::Stack;

use crate::Preemptive;

pub const CPUS: usize = 2;
/// What a task is doing.
pub const FREE: u32 = 0;
pub const READY: u32 = 1;
pub const RUNNING: u32 = 2;
pub const WAITING: u32 = 3;
pub const DEAD: u32 = 4;

/// A task. Its words are written with the lock, but for those that interrupts write, too.
#[rustfmt::skip]
pub struct Task {
    pub work: WorkFlags,
    pub state: AtomicU32,
    rsp: AtomicU64,                 // its stack pointer while it does not run
    pub status: AtomicU64,          // when it is DEAD
    pub handler: AtomicU64,         // where its upcalls go, 0 for nowhere
    pub notification: AtomicU64,    // the upcall that is pending, 0 for none
    pub quota: AtomicU32,           // how many ticks it may run, 0 for any number
    pub stopped: AtomicU32,         // why it has stopped, 0 if it has not
    pub regs: AtomicPtr<UserRegs>,  // while it has stopped at a call
}

/// The first are the CPUs' idle tasks.
#[rustfmt::skip]
pub static TASKS: [Task; 8] = [const { Task {
    work: WorkFlags::new(), state: AtomicU32::new(FREE), rsp: AtomicU64::new(0), status: AtomicU64::new(0),
    handler: AtomicU64::new(0), notification: AtomicU64::new(0), quota: AtomicU32::new(0), stopped: AtomicU32::new(0),
    regs: AtomicPtr::new(core::ptr::null_mut()),
} }; 8];
pub static STACKS: [Stack<16384>; 8] = [const { Stack::new() }; 8];
static CURRENT: [AtomicUsize; CPUS] = [AtomicUsize::new(0), AtomicUsize::new(1)];
/// How often the hook `schedule` ran.
pub static SCHEDULED: AtomicU64 = AtomicU64::new(0);
static LOCK: AtomicBool = AtomicBool::new(false);

/// The number of the task that runs here. Nothing takes it off this CPU while it runs kernel code.
pub fn current() -> usize {
    CURRENT[CpuLocal::this().id() as usize].load(Relaxed)
}

extern "C" fn unlock() {
    LOCK.store(false, Release);
}

/// With the lock, and interrupts off.
pub fn locked<T>(f: impl FnOnce() -> T) -> T {
    let on = Rflags::is_on();
    Rflags::off();
    while LOCK.swap(true, Acquire) {}
    let value = f();
    unlock();
    if on {
        // SAFETY: they were on.
        unsafe { Rflags::on() };
    }
    value
}

/// Makes a change that tasks may wait for: each that waits looks again.
pub fn change(f: impl FnOnce()) {
    locked(|| (f(), wake()));
}
fn wake() {
    TASKS.iter().for_each(|task| _ = task.state.compare_exchange(WAITING, READY, Relaxed, Relaxed));
}

/// Waits for a change after which `condition` returns something.
pub fn wait_until<T>(condition: impl Fn() -> Option<T>) -> T {
    locked(|| {
        loop {
            match condition() {
                Some(value) => break value,
                None => switch(WAITING),
            }
        }
    })
}

/// The current task ends.
pub fn exit(status: u64) -> ! {
    locked(|| {
        TASKS[current()].status.store(status, Relaxed);
        wake();
        switch(DEAD);
    });
    unreachable!()
}

/// The current task stops until another one resumes it.
pub fn stop(why: u32) {
    let stopped = &TASKS[current()].stopped;
    change(|| stopped.store(why, Relaxed));
    wait_until(|| (stopped.load(Relaxed) == 0).then_some(()));
}

/// With the lock: runs the next task that is READY, or this CPU's idle task. The current one is `state` until it runs again.
pub fn switch(state: u32) {
    let (cpu, from) = (CpuLocal::this().id() as usize, current());
    TASKS[from].state.store(state, Relaxed);
    let mut in_turn = ((from + 1).max(CPUS)..TASKS.len()).chain(CPUS..from + 1);
    let next = in_turn.find(|&task| TASKS[task].state.load(Relaxed) == READY).unwrap_or(cpu);
    TASKS[next].state.store(RUNNING, Relaxed);
    CURRENT[cpu].store(next, Relaxed);
    if next != from {
        // SAFETY: interrupts are off; tasks and stacks are statics, and `next` runs nowhere.
        unsafe {
            CpuLocal::switch_to::<Preemptive>(STACKS[next].end(), &TASKS[next].work);
            switch_stacks(TASKS[from].rsp.as_ptr(), TASKS[next].rsp.load(Relaxed));
        }
    }
}

#[unsafe(naked)]
unsafe extern "C" fn switch_stacks(save: *mut u64, load: u64) {
    naked_asm!(
        "push rbx; push rbp; push r12; push r13; push r14; push r15",
        "mov [rdi], rsp; mov rsp, rsi",
        "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
        "ret",
    )
}

/// Where a new task begins, with the lock: RSP is at its first user registers.
#[unsafe(naked)]
unsafe extern "C" fn begin() {
    naked_asm!("sub rsp, 8; call {}; add rsp, 8", "jmp {}", sym unlock, sym first_way_out::<Preemptive>)
}

/// Makes a task that begins with these registers, on a stack of its own.
pub fn spawn(entry: u64, argument: u64, quota: u32, traced: bool) -> Option<u64> {
    locked(|| {
        let number = (CPUS..TASKS.len()).find(|&number| TASKS[number].state.load(Relaxed) == FREE)?;
        let task = &TASKS[number];
        task.work.take(ExitWork::from_bits(!0));
        task.work.disarm(SyscallWork::TRACE);
        task.work.arm(if traced { SyscallWork::TRACE } else { SyscallWork::empty() });
        let _ = [&task.handler, &task.notification].map(|word| word.store(0, Relaxed));
        task.quota.store(quota, Relaxed);
        let regs = (STACKS[number].end() as *mut UserRegs).wrapping_sub(1);
        let saved = regs.cast::<u64>().wrapping_sub(7); // six registers, and where to return to
        // SAFETY: nobody is on the stack.
        unsafe {
            regs.write(UserRegs::new(entry, crate::user_stack_end(number)));
            (*regs).rdi = argument;
            saved.add(6).write(begin as *const () as u64);
        }
        task.rsp.store(saved as u64, Relaxed);
        task.state.store(READY, Relaxed);
        Some(number as u64)
    })
}
