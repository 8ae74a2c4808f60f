//! What is the same in all these kernels: what the program's calls and page faults do, and the ports by which QEMU shows it.

use core::arch::asm;
use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

/// Shows a line.
macro_rules! println {
    ($($argument:tt)*) => {{
        // Writing to a port does not fail.
        let _ = writeln!(Debugcon, $($argument)*);
    }};
}

/// Where the program sees its page (`program.s`).
pub const PROGRAM: u64 = 0x40_0000;
/// The page that is not there until the program touches it, and the one that it touches at last.
pub const PAGE: u64 = PROGRAM + 4096;
const FLAGS_PAGE: u64 = PAGE + 4096;

/// The call that a measured system call is: its answer is 1.
pub const GETPID: u64 = 39;
const REPORT: u64 = 500;
const UNMAP: u64 = 501;

/// The entry of the page table that maps [`PAGE`], and its value.
static ENTRY: AtomicPtr<u64> = AtomicPtr::new(ptr::null_mut());
static VALUE: AtomicU64 = AtomicU64::new(0);

/// Finds out how [`PAGE`] is mapped in the page table that is in use.
///
/// # Safety
/// It is mapped, by a page of 4 KiB. The kernel sees all physical memory at `offset`. Nobody else changes the entry.
pub unsafe fn find_page(offset: u64) {
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    let mut value: u64;
    // SAFETY: it reads CR3, and the tables that it points to, which are mapped.
    unsafe {
        asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags));
        for level in [3, 2, 1, 0] {
            let index = (PAGE >> (12 + 9 * level)) as usize & 511;
            let entry = ((offset + (value & ADDRESS)) as *mut u64).add(index);
            value = entry.read();
            ENTRY.store(entry, Relaxed);
        }
    }
    VALUE.store(value, Relaxed);
}

/// A page fault: the page is mapped.
#[inline]
pub fn page_fault(address: u64) {
    if address & !4095 != PAGE {
        unmeasured_fault(address);
    }
    set_entry(VALUE.load(Relaxed));
}

#[inline]
fn set_entry(value: u64) {
    // SAFETY: `find_page`.
    unsafe { ENTRY.load(Relaxed).write_volatile(value) }
}

/// The program's fault behind the measured ones: which of its flags the kernel runs with.
#[cold]
fn unmeasured_fault(address: u64) {
    const DF: u64 = 1 << 10;
    const AC: u64 = 1 << 18;
    if address & !4095 != FLAGS_PAGE {
        panic!("page fault at {address:#x}");
    }
    let flags: u64;
    // SAFETY: it reads the flags, and clears DF, with which no compiled code may run.
    unsafe { asm!("pushfq", "pop {}", "cld", out(reg) flags) };
    println!("flags{}{}", if flags & DF != 0 { " DF" } else { "" }, if flags & AC != 0 { " AC" } else { "" });
    power_off(SUCCESS)
}

/// A system call that is not measured.
#[cold]
pub fn call(number: u64, first: u64, second: u64) -> u64 {
    match number {
        REPORT => println!("{first} {second}"),
        UNMAP => {
            set_entry(0);
            // SAFETY: it forgets a translation.
            unsafe { asm!("invlpg [{}]", in(reg) PAGE, options(nostack)) };
        }
        _ => panic!("system call {number}"),
    }
    0
}

/// Written to the exit port; QEMU's exit status is twice that and 1.
const SUCCESS: u8 = 0x10;
const FAILURE: u8 = 0x11;

/// The port whose bytes QEMU shows.
struct Debugcon;

impl Write for Debugcon {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: nothing but QEMU's debug console is at this port.
        text.bytes().for_each(|byte| unsafe { out(0xe9, byte) });
        Ok(())
    }
}

/// Writes to a port.
///
/// # Safety
/// The device at the port does nothing that the kernel is not prepared for.
unsafe fn out(port: u16, byte: u8) {
    // SAFETY: the caller's.
    unsafe { asm!("out dx, al", in("dx") port, in("al") byte, options(nostack, preserves_flags)) }
}

/// Ends QEMU.
fn power_off(how: u8) -> ! {
    loop {
        // SAFETY: ends QEMU.
        unsafe { out(0xf4, how) }
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    println!("{info}");
    power_off(FAILURE)
}
