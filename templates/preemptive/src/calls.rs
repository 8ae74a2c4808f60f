//! The system calls; and upcalls, which a handler in user mode takes.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use portcullis::work::ExitWork;
use portcullis::x86_64::{UserRegs, clac_asm, stac_asm};
use portcullis_boot::{SUCCESS, println};

use crate::tasks::{self, CPUS, DEAD, FREE, SCHEDULED, TASKS, Task, current, locked, wait_until};

/// A call's result, if it does not fail.
pub fn call(regs: &mut UserRegs, number: i64) -> Option<u64> {
    let (first, second, third) = (regs.rdi, regs.rsi, regs.rdx);
    let (own, task) = (&TASKS[current()], || TASKS.get(first as usize).filter(|_| first >= CPUS as u64));
    match number {
        0 => exit(first),
        1 => return say(first, second, third),
        2 => return tasks::spawn(first, second, third as u32, regs.r10 != 0),
        3 => return task().map(wait),
        4 => crate::raise(current(), ExitWork::NEED_RESCHED), // yield
        5 => own.handler.store(first, Relaxed),
        6 => task().map(|_| notify(first as usize, second))?,
        7 => return end_upcall(regs),
        8 => return task().map(wait_stop),
        9 => task().map(|task| resume(task, second as u32))?,
        10 => return with_register(task()?, second, |register| *register),
        11 => with_register(task()?, second, |register| *register = third)?,
        _ => return None,
    }
    Some(0)
}

fn exit(status: u64) -> ! {
    if current() == CPUS {
        println!("kernel: the first task exits; schedule ran {} times", SCHEDULED.load(Relaxed));
        portcullis_boot::exit(SUCCESS);
    }
    tasks::exit(status)
}

/// Prints a text and a number.
fn say(text: u64, length: u64, number: u64) -> Option<u64> {
    let mut buffer = [0; 64];
    let text_here = buffer.get_mut(..length as usize)?;
    copy(text_here.as_mut_ptr(), text as *const u8, length, text)?;
    println!("task {}: {} {number}", current(), core::str::from_utf8(text_here).ok()?);
    Some(0)
}

/// Waits until a task has ended, and gives its status.
fn wait(task: &Task) -> u64 {
    wait_until(|| task.state.compare_exchange(DEAD, FREE, Relaxed, Relaxed).ok().map(|_| task.status.load(Relaxed)))
}

/// Waits until a task has stopped, and gives the reason, or has ended, and gives 0.
fn wait_stop(task: &Task) -> u64 {
    wait_until(|| match (task.stopped.load(Relaxed), task.state.load(Relaxed)) {
        (0, DEAD | FREE) => Some(0),
        (why, _) => (why != 0).then_some(why.into()),
    })
}

fn resume(task: &Task, quota: u32) {
    tasks::change(|| {
        task.regs.store(core::ptr::null_mut(), Relaxed);
        task.quota.store(quota, Relaxed);
        task.stopped.store(0, Relaxed);
    });
}

/// A register of a task that has stopped at a call, by its place in `UserRegs`.
fn with_register<T>(task: &Task, index: u64, f: impl FnOnce(&mut u64) -> T) -> Option<T> {
    // SAFETY: the task has lent them, and takes the lock before it takes them back.
    locked(|| unsafe { task.regs.load(Relaxed).as_mut() }.and_then(|regs| general(regs).get_mut(index as usize).map(f)))
}

/// The registers before CS, which may have any value.
fn general(regs: &mut UserRegs) -> &mut [u64; 17] {
    // SAFETY: 17 words, R15 to RIP.
    unsafe { &mut *(&raw mut *regs).cast() }
}

/// Raises an upcall for a task, wherever it runs.
pub fn notify(task: usize, number: u64) {
    TASKS[task].notification.store(number, Relaxed);
    crate::raise(task, ExitWork::SIGPENDING);
}

/// On the way out: makes the upcall that is pending. Its frame, the registers, goes to the user's stack.
pub fn upcall(regs: &mut UserRegs) {
    let number = TASKS[current()].notification.swap(0, Relaxed);
    let (size, handler) = (UserRegs::SIZE as u64, TASKS[current()].handler.load(Relaxed));
    let frame = regs.rsp.wrapping_sub(128 + size) & !15; // 128: the red zone
    if number != 0 && (handler == 0 || copy(frame as *mut u8, (&raw const *regs).cast(), size, frame).is_none()) {
        println!("kernel: task {} ends by notification {number}", current());
        exit(u64::MAX);
    }
    if number != 0 {
        (regs.rip, regs.rsp, regs.rdi) = (handler, frame, number);
    }
}

/// The call by which a handler returns, RSP at the frame. The flags are those that user mode may have.
fn end_upcall(regs: &mut UserRegs) -> Option<u64> {
    let mut frame = [0_u64; UserRegs::SIZE / 8];
    copy(frame.as_mut_ptr().cast(), regs.rsp as *const u8, UserRegs::SIZE as u64, regs.rsp)?;
    general(regs).copy_from_slice(&frame[..17]);
    regs.set_rflags(frame[18]);
    regs.rsp = frame[19];
    Some(regs.rax)
}

/// Copies between the kernel and the user's memory, which begins at `user`. `None` if it cannot be accessed.
fn copy(to: *mut u8, from: *const u8, length: u64, user: u64) -> Option<()> {
    let mut left = length;
    user.checked_add(length).filter(|&end| end <= 1 << 47)?;
    // SAFETY: the callers' buffers are as long; a fault in the user's memory continues at 3, with what is left in RCX.
    unsafe {
        asm!(stac_asm!(), "2: rep movsb", "3:", clac_asm!(),
            ".pushsection portcullis_extable, \"aR\"; .balign 4; .long 2b - .; .long 3b - .; .popsection",
            inout("rcx") left, inout("rdi") to => _, inout("rsi") from => _, options(nostack));
    }
    (left == 0).then_some(())
}
