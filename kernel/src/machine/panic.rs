//! What the kernel prints when it cannot go on: registers, a backtrace, the state of the boundary. Port 0xE9 only.
//!
//! Takes no lock and allocates nothing: the CPU may have been anywhere when it got here.

use core::fmt::{Display, Write};
use core::mem::offset_of;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use portcullis::x86_64::tables::KERNEL_CS;
use portcullis::x86_64::{CpuLocal, Exception, SavedRegs};
use spin::Once;
use x86_64::instructions::{hlt, interrupts};
use x86_64::registers::control::{Cr2, Cr3};
use x86_64::registers::model_specific::GsBase;

use super::direct_map::{DIRECT_MAP, phys_to_virt};
use crate::machine::loader::initramfs;
use crate::machine::log::DebugPort;
use crate::machine::{apic, cpu, image, sync, time};

/// Set by the first CPU that panics.
static PANICKING: AtomicBool = AtomicBool::new(false);

/// The APIC identity of that CPU.
static OWNER: AtomicU32 = AtomicU32::new(u32::MAX);
/// How many others have stopped.
static STOPPED: AtomicUsize = AtomicUsize::new(0);

/// How long the others may take, in nanoseconds.
const PATIENCE: u64 = 50_000_000;
const MAX_FRAMES: usize = 48;

/// How the current task is called.
static TASK: Once<fn() -> i32> = Once::new();

/// Says how to find the current task's TID. At boot, once.
pub fn on_panic(tid: fn() -> i32) {
    TASK.call_once(|| tid);
}

// Tests of the host have the standard library's.
#[cfg_attr(not(any(test, fuzzing)), panic_handler)]
fn panic(info: &PanicInfo) -> ! {
    let frame: u64;
    // SAFETY: reads the frame pointer, which this build keeps.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    begin();
    match info.location() {
        Some(at) => print(format_args!("kernel panic at {at}: {}\n", info.message())),
        None => print(format_args!("kernel panic: {}\n", info.message())),
    }
    boundary();
    backtrace(None, frame);
    crate::machine::power::shutdown_after_panic()
}

/// The kernel hit something it cannot handle: `what`, with the registers where it happened. For use by the doors.
pub fn die(regs: &SavedRegs, what: impl Display) -> ! {
    begin();
    print(format_args!("kernel panic: {what}\n"));
    registers(regs);
    boundary();
    backtrace(Some(regs.rip), regs.rbp);
    crate::machine::power::shutdown_after_panic()
}

/// The kernel hit an exception that it cannot handle.
pub fn die_of_exception(regs: &SavedRegs, exception: Exception) -> ! {
    let Exception { vector, error, cause, .. } = exception;
    let name = NAMES.get(vector as usize).copied().filter(|name| !name.is_empty()).unwrap_or("exception");
    match vector {
        Exception::PF => {
            let access = match error {
                e if e & 0x10 != 0 => "execute",
                e if e & 2 != 0 => "write",
                _ => "read",
            };
            let why = if error & 1 != 0 { "the page forbids it" } else { "not mapped" };
            die(regs, format_args!("{name}: {access} at {cause:#x}: {why} (error code {error:#x})"))
        }
        _ => die(regs, format_args!("{name} (vector {vector}, error code {error:#x})")),
    }
}

/// The exceptions by vector (SDM volume 3, table 6-1).
const NAMES: [&str; 22] = [
    "divide error",
    "debug exception",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection fault",
    "page fault",
    "",
    "x87 exception",
    "alignment check",
    "machine check",
    "SIMD exception",
    "virtualization exception",
    "control protection exception",
];

/// A non-maskable interrupt: does not return if another CPU is panicking.
#[inline(always)]
pub fn nmi() {
    if PANICKING.load(Ordering::Acquire) {
        stop()
    }
}

#[cold]
fn stop() -> ! {
    STOPPED.fetch_add(1, Ordering::AcqRel);
    loop {
        interrupts::disable();
        hlt();
    }
}

/// From here on this CPU is the only one that runs, and the only one that prints.
fn begin() {
    interrupts::disable();
    if PANICKING.swap(true, Ordering::AcqRel) {
        // Either this CPU faulted while printing, or another one was faster. Only the first case can be printed by
        // this CPU; in the second it has an NMI coming.
        if OWNER.load(Ordering::Acquire) == crate::machine::cpu::own_apic_id() {
            print(format_args!("\nfault while printing the panic\n"));
            crate::machine::power::shutdown_after_panic()
        }
        stop()
    }
    OWNER.store(crate::machine::cpu::own_apic_id(), Ordering::Release);
    let others = cpu::count().saturating_sub(1);
    if others > 0 {
        apic::send_nmi_to_others();
        // A CPU that hangs with NMIs blocked must not keep this one from printing.
        let deadline = time::now() + PATIENCE;
        while STOPPED.load(Ordering::Acquire) < others && time::now() < deadline {
            core::hint::spin_loop();
        }
    }
    if crate::machine::log::is_busy() {
        print(format_args!("\n"));
    }
}

fn print(text: core::fmt::Arguments<'_>) {
    // The port takes everything.
    let _ = DebugPort.write_fmt(text);
}

fn registers(r: &SavedRegs) {
    print(format_args!("rip {:04x}:{:016x}  rsp {:04x}:{:016x}  rflags {:08x}\n", r.cs, r.rip, r.ss, r.rsp, r.rflags));
    print(format_args!("rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}\n", r.rax, r.rbx, r.rcx, r.rdx));
    print(format_args!("rsi {:016x}  rdi {:016x}  rbp {:016x}  orig_rax {:x}\n", r.rsi, r.rdi, r.rbp, r.orig_rax));
    print(format_args!("r8  {:016x}  r9  {:016x}  r10 {:016x}  r11 {:016x}\n", r.r8, r.r9, r.r10, r.r11));
    print(format_args!("r12 {:016x}  r13 {:016x}  r14 {:016x}  r15 {:016x}\n", r.r12, r.r13, r.r14, r.r15));
    print(format_args!("cr2 {:016x}  cr3 {:016x}\n", Cr2::read_raw(), Cr3::read_raw().0.start_address()));
}

/// Where this CPU stood at the boundary between user mode and the kernel.
fn boundary() {
    if GsBase::read().as_u64() == 0 {
        print(format_args!("CPU not set up yet\n"));
        return;
    }
    let local = CpuLocal::this();
    let tid = if cpu::current().is_null() { 0 } else { TASK.get().map_or(0, |tid| tid()) };
    print(format_args!(
        "cpu {} of {}  task {tid}  preempt count {}  in irq {}  in nmi {}  context {:?}\n",
        local.id(),
        cpu::count(),
        sync::preempt_count(),
        local.in_irq(),
        local.in_nmi(),
        local.context().context(),
    ));
}

/// Follows the frame pointers from `frame`, innermost first.
fn backtrace(rip: Option<u64>, mut frame: u64) {
    let symbols = kernel_symbols();
    let line = |address: u64, call: u64| match symbol(symbols, address - call) {
        Some((name, start)) => print(format_args!("  {address:016x}  {name}+{:#x}\n", address - start)),
        None => print(format_args!("  {address:016x}\n")),
    };
    print(format_args!("backtrace:\n"));
    if let Some(rip) = rip {
        line(rip, 0);
    }
    for _ in 0..MAX_FRAMES {
        let (Some(next), Some(address)) = (read(frame), read(frame.wrapping_add(8))) else {
            return;
        };
        if !image::is_text(address) {
            return;
        }
        // The call is the instruction before the return address.
        line(address, 1);
        frame = match interrupted(frame) {
            Some((rip, rbp)) if next == 0 => {
                print(format_args!("  interrupted:\n"));
                line(rip, 0);
                rbp
            }
            _ => next,
        };
    }
}

/// Where the kernel was hit, if `frame` is that of the Rust half of a door: the door clears RBP, and above the return
/// address and a word that aligns the stack there are the registers it saved. Instruction and frame pointer.
fn interrupted(frame: u64) -> Option<(u64, u64)> {
    let register = |offset: usize| read(frame.wrapping_add(24 + offset as u64));
    let from_kernel = register(offset_of!(SavedRegs, cs))? == u64::from(KERNEL_CS);
    let rip = register(offset_of!(SavedRegs, rip))?;
    (from_kernel && image::is_text(rip)).then_some((rip, register(offset_of!(SavedRegs, rbp))?))
}

/// A word of kernel memory, if it is mapped there.
fn read(address: u64) -> Option<u64> {
    const PRESENT: u64 = 1;
    const LARGE: u64 = 1 << 7;
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    if address < DIRECT_MAP || !address.is_multiple_of(8) {
        return None;
    }
    let mut table = Cr3::read_raw().0.start_address().as_u64();
    for shift in [39, 30, 21, 12] {
        let slot = phys_to_virt(table).cast::<u64>().wrapping_add((address >> shift & 511) as usize);
        // SAFETY: page tables are memory, and so in the direct map.
        let entry = unsafe { slot.read_volatile() };
        if entry & PRESENT == 0 {
            return None;
        }
        if entry & LARGE != 0 && shift < 39 {
            break;
        }
        table = entry & ADDRESS;
    }
    // SAFETY: mapped, as the tables say; aligned, so it does not reach into the next page.
    Some(unsafe { (address as *const u64).read_volatile() })
}

/// The function that holds `address`, from lines `hexaddr name` in ascending order, and where it starts.
fn symbol(symbols: &[u8], address: u64) -> Option<(&str, u64)> {
    let mut found = None;
    for line in symbols.split(|&b| b == b'\n') {
        let (start, name) = core::str::from_utf8(line).ok()?.split_once(' ')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        if start > address {
            break;
        }
        found = Some((name, start));
    }
    found
}

/// The initramfs's `.portcullis/kernel.syms`, straight from the archive (newc cpio): the file system may be what broke.
fn kernel_symbols() -> &'static [u8] {
    const HEADER: usize = 110;
    const NAME: &[u8] = b".portcullis/kernel.syms";
    let mut archive = initramfs();
    loop {
        // Thirteen eight-digit fields follow the magic number; the 7th is the file's size, the 12th the name's.
        let field = |n: usize| {
            let digits = archive.get(6 + 8 * n..14 + 8 * n)?;
            usize::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
        };
        let (Some(size), Some(name_size)) = (field(6), field(11)) else {
            return &[];
        };
        let data = (HEADER + name_size).next_multiple_of(4);
        let (Some(name), Some(content)) =
            (archive.get(HEADER..HEADER + name_size.saturating_sub(1)), archive.get(data..data + size))
        else {
            return &[];
        };
        if name.strip_prefix(b"./").unwrap_or(name) == NAME {
            return content;
        }
        archive = archive.get((data + size).next_multiple_of(4)..).unwrap_or(&[]);
    }
}
