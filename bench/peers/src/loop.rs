//! On Portcullis, as a loop (`portcullis-user-loop`).
#![no_std]
#![no_main]

use core::arch::asm;

use portcullis::x86_64::{Exception, UserRegs};
use portcullis_boot::memory::Stack;
use portcullis_user_loop::{UserContext, UserLoop};

mod calls;
mod kernel;
mod memory;
use calls::GETPID;

portcullis_boot::entry!(start);

fn start() -> ! {
    static THREAD_STACK: Stack<16384> = Stack::new();
    let regs = UserRegs::new(calls::PROGRAM, 0);
    // SAFETY: called once, with interrupts off; the stack is this context's alone.
    let mut user = unsafe {
        let user = UserContext::<Loop>::new(THREAD_STACK.end(), regs);
        kernel::open_doors::<Loop>(user.thread_stack_top());
        memory::map_program();
        asm!("sti");
        user
    };
    loop {
        // SAFETY: the only task there is.
        let event = unsafe { user.run() };
        let regs = user.regs();
        match event {
            Event::Syscall(number) => {
                regs.rax = match number as u64 {
                    GETPID => 1,
                    number => calls::call(number, regs.rdi, regs.rsi),
                };
            }
            Event::Exception(exception) => match exception.vector {
                Exception::PF => calls::page_fault(exception.cause),
                Exception::BP => {}
                vector => panic!("exception {vector} at {:#x}", regs.rip),
            },
        }
    }
}

struct Loop;

enum Event {
    Syscall(i64),
    Exception(Exception),
}

// SAFETY: the only task enters user mode by `run`.
unsafe impl UserLoop for Loop {
    type Event = Event;
}

kernel::smallest_kernel! {
    Loop,
    syscall: |at, number| {
        UserContext::<Loop>::called(at, Event::Syscall(number));
    },
    exception: |at, exception| {
        UserContext::<Loop>::came_in(at, Event::Exception(exception));
    }
}
