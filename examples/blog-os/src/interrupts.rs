//! GDT, TSS, IDT and the handlers of the kernel before.

use spin::LazyLock;
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::control::Cr2;
use x86_64::registers::segmentation::{CS, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::{InterruptDescriptorTable, InterruptStackFrame, PageFaultErrorCode};
use x86_64::structures::tss::TaskStateSegment;

use crate::devices::{KEYBOARD, TIMER, interrupted};
use crate::println;

const DOUBLE_FAULT_IST: u16 = 0;

static TSS: LazyLock<TaskStateSegment> = LazyLock::new(|| {
    static mut STACK: [u128; 1280] = [0; 1280];
    let mut tss = TaskStateSegment::new();
    tss.interrupt_stack_table[DOUBLE_FAULT_IST as usize] = VirtAddr::from_ptr((&raw const STACK).wrapping_add(1));
    tss
});

static GDT: LazyLock<(GlobalDescriptorTable, SegmentSelector, SegmentSelector)> = LazyLock::new(|| {
    let mut gdt = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let tss = gdt.append(Descriptor::tss_segment(&TSS));
    (gdt, code, tss)
});

static IDT: LazyLock<InterruptDescriptorTable> = LazyLock::new(|| {
    let mut idt = InterruptDescriptorTable::new();
    idt.breakpoint.set_handler_fn(breakpoint);
    idt.page_fault.set_handler_fn(page_fault);
    // SAFETY: the stack is there.
    unsafe { idt.double_fault.set_handler_fn(double_fault).set_stack_index(DOUBLE_FAULT_IST) };
    idt[TIMER].set_handler_fn(timer);
    idt[KEYBOARD].set_handler_fn(keyboard);
    idt
});

pub fn init() {
    let (gdt, code, tss) = &*GDT;
    gdt.load();
    // SAFETY: they are segments of this table.
    unsafe {
        CS::set_reg(*code);
        SS::set_reg(SegmentSelector::NULL);
        load_tss(*tss);
    }
    IDT.load();
}

extern "x86-interrupt" fn breakpoint(_: InterruptStackFrame) {
    println!("kernel: a breakpoint");
}

extern "x86-interrupt" fn page_fault(frame: InterruptStackFrame, code: PageFaultErrorCode) {
    panic!("page fault at {:?}, address {:?}, {code:?}", frame.instruction_pointer, Cr2::read());
}

extern "x86-interrupt" fn double_fault(frame: InterruptStackFrame, _: u64) -> ! {
    panic!("double fault at {:?}", frame.instruction_pointer);
}

extern "x86-interrupt" fn timer(_: InterruptStackFrame) {
    interrupted(TIMER);
}

extern "x86-interrupt" fn keyboard(_: InterruptStackFrame) {
    interrupted(KEYBOARD);
}
