//! What a kernel needs beside its gate, for both examples: user memory, and two of QEMU's devices, a port that shows what is
//! written to it and one that ends QEMU.

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};

use portcullis::x86_64::{UserRegs, clac_asm, stac_asm};

global_asm!(include_str!("boot.s"), options(att_syntax));
global_asm!(include_str!("program.s"), options(att_syntax));

// ---- memory ----

/// Where the image is linked, less where it is loaded (kernel.ld, boot.s).
const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
const PAGE_SIZE: u64 = 4096;
/// Where the user program sees its page.
const USER_PAGE: u64 = 0x40_0000;
const STACK_SIZE: usize = 16384;

/// A stack.
#[repr(C, align(4096))]
pub struct Stack([u8; STACK_SIZE]);

impl Stack {
    pub const fn new() -> Stack {
        Stack([0; STACK_SIZE])
    }

    /// Its end, where the first push goes.
    pub fn end(stack: *const Stack) -> u64 {
        stack as u64 + STACK_SIZE as u64
    }
}

#[repr(C, align(4096))]
struct PageTable([u64; 512]);

static mut USER_TABLES: [PageTable; 3] = [const { PageTable([0; 512]) }; 3];

unsafe extern "C" {
    static mut boot_pml4: PageTable;
    static user_program: u8;
}

/// What the user program starts with.
pub fn user_registers() -> UserRegs {
    UserRegs::new(USER_PAGE, 0)
}

/// Maps the user program's page, for the user to read and execute. It takes the place of the boot assembly's mapping of
/// low addresses, so that there is nothing else below the kernel.
///
/// # Safety
/// Once, after `init_cpu`: until then the CPU uses the boot GDT by its low address.
pub unsafe fn map_user_page() {
    const PRESENT: u64 = 1 << 0;
    const WRITABLE: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    let frame = &raw const user_program as u64 - KERNEL_BASE;
    let index = |level: u32| (USER_PAGE >> (12 + 9 * level)) as usize & 511;
    // SAFETY: the tables are this function's alone, and lie in the image, whose physical address is known.
    unsafe {
        let mut table = &raw mut boot_pml4;
        for level in [3, 2, 1] {
            let next = &raw mut USER_TABLES[level as usize - 1];
            (*table).0[index(level)] = (next as u64 - KERNEL_BASE) | PRESENT | WRITABLE | USER;
            table = next;
        }
        (*table).0[index(0)] = frame | PRESENT | USER;
        // Forget the old mapping.
        asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack));
    }
}

/// Shows the user's bytes: how many, or -EFAULT if they are not all in the user's page.
pub fn write(start: u64, length: u64) -> i64 {
    const EFAULT: i64 = 14;
    let mut buffer = [0u8; PAGE_SIZE as usize];
    if start < USER_PAGE || length > PAGE_SIZE || start - USER_PAGE > PAGE_SIZE - length {
        return -EFAULT;
    }
    // SAFETY: the source is in the user's page, which is mapped, and the buffer is as large. STAC and CLAC allow the
    // access in between, on CPUs that have SMAP.
    unsafe {
        asm!(stac_asm!(), "rep movsb", clac_asm!(),
            inout("rsi") start => _, inout("rdi") buffer.as_mut_ptr() => _, inout("rcx") length => _,
            options(nostack));
    }
    buffer[..length as usize].iter().for_each(|&byte| Debugcon::put(byte));
    length as i64
}

// ---- QEMU's devices ----

/// Written to the exit port; QEMU's exit status is twice that and 1.
pub const SUCCESS: u8 = 0x10;
pub const FAILURE: u8 = 0x11;

/// The port whose bytes QEMU shows.
pub struct Debugcon;

impl Debugcon {
    /// Shows a byte.
    pub fn put(byte: u8) {
        // SAFETY: nothing but QEMU's debug console is at this port.
        unsafe { out(0xe9, byte) }
    }
}

impl Write for Debugcon {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(Debugcon::put);
        Ok(())
    }
}

/// Shows a line.
macro_rules! println {
    // Writing to a port does not fail.
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        let _ = writeln!($crate::machine::Debugcon, $($argument)*);
    }};
}
pub(crate) use println;

/// Writes to a port.
///
/// # Safety
/// The device at the port does nothing that the kernel is not prepared for.
pub unsafe fn out(port: u16, byte: u8) {
    // SAFETY: the caller's.
    unsafe { asm!("out dx, al", in("dx") port, in("al") byte, options(nostack, preserves_flags)) }
}

/// Ends QEMU.
pub fn power_off(how: u8) -> ! {
    loop {
        // SAFETY: ends QEMU; on a machine without the exit port nothing happens.
        unsafe { out(0xf4, how) }
    }
}

/// No driver handles interrupts here: both interrupt controllers are masked.
pub fn mask_interrupts() {
    // SAFETY: nothing waits for an interrupt.
    unsafe {
        out(0x21, 0xff);
        out(0xa1, 0xff);
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    println!("kernel: {info}");
    power_off(FAILURE)
}
