//! On `trapframe`.
#![no_std]
#![no_main]

use trapframe::{GeneralRegs, TrapFrame, UserContext};

mod calls;
mod heap;
mod memory;
use calls::GETPID;

portcullis_boot::entry!(start);

fn start() -> ! {
    // SAFETY: once, on the boot CPU.
    unsafe { trapframe::init() };
    memory::map_program();
    let general = GeneralRegs { rip: calls::PROGRAM as usize, rflags: 0x202, ..GeneralRegs::default() };
    let mut user = UserContext { general, ..UserContext::default() };
    loop {
        user.run();
        match user.trap_num {
            0x100 => {
                let regs = &mut user.general;
                regs.rax = match regs.rax as u64 {
                    GETPID => 1,
                    number => calls::call(number, regs.rdi as u64, regs.rsi as u64) as usize,
                };
            }
            14 => calls::page_fault(x86_64::registers::control::Cr2::read_raw()),
            3 => {}
            number => panic!("trap {number} at {:#x}", user.general.rip),
        }
    }
}

/// What hits the kernel.
#[unsafe(no_mangle)]
extern "sysv64" fn trap_handler(frame: &mut TrapFrame) {
    panic!("trap {} in the kernel at {:#x}", frame.trap_num, frame.rip);
}
