//! On `axcpu`.
#![no_std]
#![no_main]

use axcpu::trap::{PAGE_FAULT, PageFaultFlags, SYSCALL, register_trap_handler};
use axcpu::uspace::UspaceContext;
use axcpu::{TaskContext, TrapFrame};
use memory_addr::VirtAddr;
use portcullis_boot::memory::Stack;

mod calls;
mod heap;
mod memory;
use calls::GETPID;

static STACK: Stack<16384> = Stack::new();

portcullis_boot::entry!(start);

fn start() -> ! {
    axcpu::init::init_percpu(0);
    axcpu::init::init_trap();
    memory::map_program();
    // Only a switch of tasks sets the stack of the doors.
    let mut boot = TaskContext::new();
    let mut task = TaskContext::new();
    task.init(enter as *const () as usize, stack_top(), VirtAddr::from(0));
    boot.switch_to(&task);
    unreachable!("nothing switches back")
}

fn stack_top() -> VirtAddr {
    VirtAddr::from(STACK.end() as usize)
}

extern "C" fn enter() -> ! {
    let user = UspaceContext::new(calls::PROGRAM as usize, VirtAddr::from(0), 0);
    // SAFETY: the registers are a program's, the stack this task's.
    unsafe { user.enter_uspace(stack_top()) }
}

#[register_trap_handler(SYSCALL)]
fn syscall(frame: &TrapFrame, number: usize) -> isize {
    match number as u64 {
        GETPID => 1,
        number => calls::call(number, frame.rdi, frame.rsi) as isize,
    }
}

#[register_trap_handler(PAGE_FAULT)]
fn page_fault(address: VirtAddr, _: PageFaultFlags, _: bool) -> bool {
    calls::page_fault(address.as_usize() as u64);
    true
}
