//! On Portcullis, with hooks.
#![no_std]
#![no_main]

use core::arch::asm;

use portcullis::x86_64::{Exception, UserRegs, first_way_out};
use portcullis_boot::memory::Stack;

mod calls;
mod kernel;
mod memory;
use calls::GETPID;

portcullis_boot::entry!(start);

fn start() -> ! {
    static THREAD_STACK: Stack<16384> = Stack::new();
    let thread_stack_top = THREAD_STACK.end();
    // SAFETY: called once, with interrupts off; nothing else is on the thread stack.
    unsafe {
        kernel::open_doors::<Hooks>(thread_stack_top);
        memory::map_program();
        let regs = (thread_stack_top as *mut UserRegs).sub(1);
        regs.write(UserRegs::new(calls::PROGRAM, 0));
        asm!("mov rsp, {}", "jmp {}", in(reg) regs, sym first_way_out::<Hooks>, options(noreturn));
    }
}

struct Hooks;

kernel::smallest_kernel! {
    Hooks,
    syscall: |at, number| {
        let regs = at.regs();
        regs.rax = match number as u64 {
            GETPID => 1,
            number => calls::call(number, regs.rdi, regs.rsi),
        };
    },
    exception: |at, exception| {
        match exception.vector {
            Exception::PF => calls::page_fault(exception.cause),
            Exception::BP => {}
            vector => panic!("exception {vector} at {:#x}", at.regs().rip),
        }
    }
}
