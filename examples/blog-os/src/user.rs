//! User mode: one page with a program, and what it may ask for.

use core::arch::{asm, global_asm};
use core::slice;

use portcullis::x86_64::{UserRegs, first_way_out};
use x86_64::VirtAddr;
use x86_64::structures::paging::{FrameAllocator, Mapper, OffsetPageTable, Page, PageTableFlags, Size4KiB};

use crate::devices::exit;
use crate::doors::{BlogOs, thread_stack_top};
use crate::println;

global_asm!(include_str!("user.s"), options(att_syntax));

unsafe extern "C" {
    static user_program: u8;
    static user_program_end: u8;
}

/// Where user mode sees its page.
const PAGE: u64 = 0x40_0000;

fn program() -> &'static [u8] {
    let (start, end) = (&raw const user_program, &raw const user_program_end);
    // SAFETY: the bytes between the labels.
    unsafe { slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// Maps a page for user mode to read and execute, with the program in it.
pub fn map(tables: &mut OffsetPageTable, frames: &mut impl FrameAllocator<Size4KiB>) {
    let frame = frames.allocate_frame().expect("a frame");
    let page = Page::from_start_address(VirtAddr::new(PAGE)).expect("the start of a page");
    let seen = (tables.phys_offset() + frame.start_address().as_u64()).as_mut_ptr::<u8>();
    let user = PageTableFlags::PRESENT | PageTableFlags::USER_ACCESSIBLE;
    let parents = user | PageTableFlags::WRITABLE;
    // SAFETY: the frame is new, and all of memory is mapped at the offset; nothing is mapped in the user's half.
    unsafe {
        seen.copy_from_nonoverlapping(program().as_ptr(), program().len());
        tables.map_to_with_table_flags(page, frame, user, parents, frames).expect("nothing is there").flush();
    }
}

/// Enters user mode for the first time: the way out takes the registers from where the doors would have saved them.
pub fn enter() -> ! {
    x86_64::instructions::interrupts::disable();
    let regs = (thread_stack_top() as *mut UserRegs).wrapping_sub(1);
    // SAFETY: nobody uses the thread stack; interrupts are off.
    unsafe {
        regs.write(UserRegs::new(PAGE, 0));
        asm!("mov rsp, {}", "jmp {}", in(reg) regs, sym first_way_out::<BlogOs>, options(noreturn));
    }
}

/// A system call. Interrupts are on, and -ENOSYS is in RAX.
pub fn call(regs: &mut UserRegs, number: i64) {
    match number {
        1 => regs.rax = write(regs.rsi, regs.rdx).unwrap_or(-14_i64 as u64), // -EFAULT
        60 => {
            println!("kernel: the program exits with status {}", regs.rdi);
            exit(if regs.rdi == 0 { 0x10 } else { 0x11 })
        }
        _ => {}
    }
}

/// Shows bytes of the program.
fn write(start: u64, length: u64) -> Option<u64> {
    let text = program().get(start.checked_sub(PAGE)? as usize..)?.get(..length as usize)?;
    println!("user: {}", str::from_utf8(text).ok()?);
    Some(length)
}
