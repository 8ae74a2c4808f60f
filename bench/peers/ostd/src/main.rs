//! On `ostd`. Its own programs are free of `unsafe`; here the page of the faults is mapped behind its back, as in the other kernels, so that
//! the gate is counted and not the page table.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use core::arch::global_asm;

use osdk_frame_allocator::FrameAllocator;
use osdk_heap_allocator::{HeapAllocator, type_from_layout};
use ostd::arch::cpu::context::{CpuException, UserContext};
use ostd::mm::io::VmIo;
use ostd::mm::{CachePolicy, FrameAllocOptions, PageFlags, PageProperty, VmSpace};
use ostd::task::{TaskOptions, disable_preempt};
use ostd::user::{ReturnReason, UserContextApi, UserMode};

#[path = "../../src/calls.rs"]
mod calls;
use calls::{GETPID, PAGE, PROGRAM};

global_asm!(include_str!("../../src/program.s"), options(att_syntax));

unsafe extern "C" {
    static user_program: [u8; 4096];
}

#[ostd::global_frame_allocator]
static FRAMES: FrameAllocator = FrameAllocator;

#[ostd::global_heap_allocator]
static HEAP: HeapAllocator = HeapAllocator;

#[ostd::global_heap_allocator_slot_map]
const fn slots(layout: core::alloc::Layout) -> Option<ostd::mm::heap::SlotInfo> {
    type_from_layout(layout)
}

#[ostd::main]
fn main() {
    let task = TaskOptions::new(program).build().map(Arc::new);
    task.expect("memory for the task").run();
}

fn program() {
    let space = Arc::new(VmSpace::new());
    let frame = |bytes: &[u8]| {
        let frame = FrameAllocOptions::new().alloc_frame().expect("a frame");
        frame.write_bytes(0, bytes).expect("it fits");
        frame
    };
    // SAFETY: the program is in the image, and what is behind it may be read.
    let code = unsafe { &*(&raw const user_program) };
    for (address, bytes, flags) in [(PROGRAM, &code[..2048], PageFlags::RX), (PAGE, &[][..], PageFlags::RW)] {
        let guard = disable_preempt();
        let range = address as usize..address as usize + 4096;
        let mut cursor = space.cursor_mut(&guard, &range).expect("a place for it");
        cursor.map(frame(bytes).into(), PageProperty::new_user(flags, CachePolicy::Writeback));
    }
    space.activate();
    /// Where ostd has all of physical memory.
    const LINEAR_MAPPING: u64 = 0xffff_8000_0000_0000;
    // SAFETY: the page is mapped, and nothing else changes that.
    unsafe { calls::find_page(LINEAR_MAPPING) };

    let mut context = UserContext::default();
    context.set_instruction_pointer(PROGRAM as usize);
    let mut user = UserMode::new(context);
    loop {
        let reason = user.execute(|| false);
        let context = user.context_mut();
        match reason {
            ReturnReason::UserSyscall => {
                let result = match context.rax() as u64 {
                    GETPID => 1,
                    number => calls::call(number, context.rdi() as u64, context.rsi() as u64),
                };
                context.set_rax(result as usize);
            }
            ReturnReason::UserException => match context.take_exception() {
                Some(CpuException::PageFault(fault)) => calls::page_fault(fault.addr as u64),
                Some(CpuException::BreakPoint) => {}
                other => panic!("{other:?} at {:#x}", context.instruction_pointer()),
            },
            ReturnReason::KernelEvent => {}
        }
    }
}
