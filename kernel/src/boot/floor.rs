//! What the benchmark's row `floor` measures: a door that only switches GS and the stack and returns. No door can cost less.
//!
//! It is in a kernel with the feature `bench-floor`, on the boot processor. For one system-call number it answers itself, without
//! context tracking, registers or exit work; all other calls go on to the library's door. Not for use: nothing checks that
//! SYSRET is safe here.

use core::arch::naked_asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use x86_64::VirtAddr;
use x86_64::registers::model_specific::LStar;

#[cfg(feature = "isolation")]
compile_error!("the door of `bench-floor` does not switch page tables");

/// The number that it answers; `bench/crossing.c` has it, too.
const NUMBER: u32 = 0x7fff_0000;

/// The library's door.
static LIBRARY: AtomicU64 = AtomicU64::new(0);
/// The user's stack pointer meanwhile. The boot processor's alone, as interrupts are off.
static USER_RSP: AtomicU64 = AtomicU64::new(0);
/// The top of `STACK`.
static STACK_TOP: AtomicU64 = AtomicU64::new(0);
/// Nothing is pushed.
static STACK: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Puts it before the library's door, on this processor. After `cpu::adopt`.
pub fn open() {
    LIBRARY.store(LStar::read().as_u64(), Relaxed);
    STACK_TOP.store(STACK.as_ptr_range().end as u64, Relaxed);
    LStar::write(VirtAddr::new(entry as *const () as u64));
}

/// As the library's door: RAX the number, RCX the user's RIP, R11 its flags, RSP and GS the user's, interrupts off.
#[unsafe(naked)]
unsafe extern "C" fn entry() {
    naked_asm!(
        "cmp eax, {number}",
        "jne 2f",
        "swapgs",
        "mov [rip + {user_rsp}], rsp",
        "mov rsp, [rip + {stack_top}]",
        // And back.
        "mov rsp, [rip + {user_rsp}]",
        "swapgs",
        "sysretq",
        // Every other call.
        "2:",
        "jmp qword ptr [rip + {library}]",
        number = const NUMBER,
        user_rsp = sym USER_RSP,
        stack_top = sym STACK_TOP,
        library = sym LIBRARY,
    )
}
